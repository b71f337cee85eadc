"""The log: its two forms, and that no secret stands in it."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from relay.cli.logs import JSONFormatter, TextFormatter, configure

SECRETS = frozenset({"sk-canary-one", "sk-canary-one-longer", 'quo"ted\\key', "abc"})


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    made = logging.getLogger("relay.test").makeRecord(
        "relay.test", logging.INFO, "file.py", 1, message, arguments, None, extra=extra or None
    )
    made.created, made.msecs = 1_795_000_000.25, 250.0
    return made


def test_text() -> None:
    line = TextFormatter(SECRETS).format(record("served %d", 3, status=200))
    assert line == "2026-11-18T11:06:40.250Z info relay.test: served 3 status=200"


def test_json() -> None:
    line = JSONFormatter(SECRETS).format(record("served %d", 3, status=200, owner=None))
    assert json.loads(line) == {
        "time": "2026-11-18T11:06:40.250Z",
        "level": "info",
        "logger": "relay.test",
        "message": "served 3",
        "status": 200,
        "owner": None,
    }


@pytest.mark.parametrize("form", [TextFormatter, JSONFormatter])
def test_secrets_are_blanked_wherever_they_come_from(form: type[TextFormatter] | type[JSONFormatter]) -> None:
    try:
        raise ValueError("key sk-canary-one-longer")
    except ValueError:
        made = record('message sk-canary-one, quo"ted\\key; Authorization: Bearer eyJ.client', header="x sk-canary-one")
        made.exc_info = sys.exc_info()
    line = form(SECRETS).format(made)
    assert "canary" not in line
    assert "longer" not in line
    assert "ted" not in line.replace("ValueError", "").replace("formatted", "")
    assert "eyJ" not in line
    assert line.count("[secret]") >= 5
    assert "ValueError" in line
    if form is JSONFormatter:
        assert json.loads(line)["header"] == "x [secret]"


def test_a_very_short_secret_does_not_blank_words() -> None:
    assert TextFormatter(SECRETS).format(record("abcdef")).endswith("abcdef")


def test_no_configured_secret_at_all() -> None:
    assert TextFormatter(()).format(record("plain, Bearer x")).endswith("plain, Bearer [secret]")


def test_a_clients_words_begin_no_line() -> None:
    assert "\n" not in TextFormatter(()).format(record("path %s", "/a\r\n2026 info relay: forged"))


def test_levels(capsys: pytest.CaptureFixture[str]) -> None:
    root, ours = logging.getLogger(), logging.getLogger("relay")
    before = root.handlers[:], root.level, ours.level
    try:
        configure("debug", "json", ["sk-canary"])
        logging.getLogger("relay.x").debug("mine %s", "sk-canary")
        logging.getLogger("other").info("chatter")
        logging.getLogger("other").warning("trouble")
    finally:
        root.handlers[:], root.level, ours.level = before[0], before[1], before[2]
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["logger"], line["message"]) for line in lines] == [
        ("relay.x", "mine [secret]"),
        ("other", "trouble"),
    ]
