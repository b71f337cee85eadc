"""Rows of an earlier run keep what was noted of them, and say at which commit they were measured."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from bench import __main__ as command
from bench import report
from bench.loads import LOADS, Cell
from bench.suite import Outcome, Row

LIMIT = "9,750 streams: the limit of open files allows no more"
FAILED = "short, chat → SSE: 3 tokens of 4"
MACHINE = {"processor": "one of them", "commit": "0000001"}
DELAYS = {f"{name}_ms": [1.5] for name in ("p50", "p99", "p999")}


def outcome() -> Outcome:
    """A void row, one under a limit, and a failed one."""
    made = Outcome(failures=[FAILED])
    for name, figures, note in (
        ("paced", {"value": [57.0, 58.0], "ratio": [1.6, 1.7], **DELAYS}, "void"),
        ("many", {"value": [33.4]}, LIMIT),
        ("short", {}, "3 tokens of 4"),
    ):
        made.rows[name, Cell("relay")] = Row(LOADS[name], Cell("relay"), figures, {note: None})
    return made


def written(made: Outcome, commit: str = "0000001") -> dict[str, Any]:
    """As it is read back from its file."""
    document: dict[str, Any] = orjson.loads(orjson.dumps(report.document(made, {}, {**MACHINE, "commit": commit})))
    return document


def added(earlier: dict[str, Any], commit: str = "0000002") -> Outcome:
    """An outcome of nothing else."""
    empty = Outcome()
    report.add_earlier(empty, earlier, commit)
    return empty


def test_verdicts_and_notes_stand_apart() -> None:
    rows = {row["load"]: row for row in written(outcome())["rows"]}
    assert rows["many"]["verdict"] == ["target met (40, aim 16)"]
    assert rows["many"]["notes"] == [LIMIT]


def test_rows_keep_notes_and_void_marks_and_the_run_its_failures() -> None:
    again = added(written(outcome()), "0000001")
    assert report.table(again) == report.table(outcome())
    lines = {line[0]: line for line in report.table(again)}
    assert lines["paced"][5] == ""
    assert lines["paced"][-1] == "target met (1.8, aim 1.5); void"
    assert again.failures == [f"earlier, at 0000001: {FAILED}"]


def test_rows_say_at_which_other_commit_they_were_measured() -> None:
    once = added(written(outcome()))
    twice = added(written(once, "0000002"), "0000003")
    for again in (once, twice):
        lines = {line[0]: line for line in report.table(again)}
        assert lines["many"][-1] == f"target met (40, aim 16); {LIMIT}; measured at 0000001"
        assert again.failures == [f"earlier, at 0000001: {FAILED}"]
    page = report.readme(twice, {"runs": 5}, [], {**MACHINE, "commit": "0000003"})
    assert f"{LIMIT}; measured at 0000001 |" in page
    assert "| commit | 0000003 |" in page
    assert f"**Failed:** earlier, at 0000001: {FAILED}" in page


def test_rows_of_several_runs_stand_as_in_one() -> None:
    both = Outcome()
    for name in ("soak", "short"):
        both.rows[name, Cell("relay", "sse", "chat", True)] = Row(LOADS[name], Cell("relay", "sse", "chat", True))
    report.add_earlier(both, written(outcome()), "0000001")
    for server in ("litellm", "nginx"):
        both.rows["short", Cell(server)] = Row(LOADS["short"], Cell(server))
    assert [line[:2] for line in report.table(both)[1:]] == [
        ("paced", "chat → SSE"),
        ("short", "nginx, bytes (SSE)"),
        ("short", "LiteLLM (SSE)"),
        ("short", "chat → SSE"),
        ("short", "chat → SSE, stored"),
        ("many", "chat → SSE"),
        ("soak", "chat → SSE, stored"),
    ]


def test_what_was_measured_anew_replaces_its_earlier_row_and_failure() -> None:
    now = Outcome()
    row = now.rows["short", Cell("relay")] = Row(LOADS["short"], Cell("relay"), {"value": [600.0]})
    report.add_earlier(now, written(outcome()), "0000002")
    assert now.rows["short", Cell("relay")] is row
    assert not row.commit
    assert now.failures == []
    assert len(now.rows) == 3


def test_a_file_that_mixed_verdicts_and_notes_is_read() -> None:
    earlier = written(outcome())
    for row in earlier["rows"]:
        row["notes"] = [*row.pop("verdict"), *row["notes"]]
        del row["commit"]
    # a target that has changed since
    earlier["rows"][0]["notes"][0] = "aim met (target 9)"
    again = added(earlier, "0000001")
    assert report.table(again) == report.table(outcome())
    assert added(earlier).rows["many", Cell("relay")].commit == "0000001"


def test_add_shows_the_earlier_rows_beside_the_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier, path = tmp_path / "earlier.json", tmp_path / "out.json"
    earlier.write_bytes(orjson.dumps(written(outcome())))
    now = Outcome()
    now.rows["start", Cell("relay")] = Row(LOADS["start"], Cell("relay"), {"value": [0.3]})
    monkeypatch.setattr(command, "run_suite", lambda loads, dialects, **options: now)
    monkeypatch.setattr(command, "most_streams", lambda wanted: wanted)  # the limit is the whole test process's
    monkeypatch.setattr(sys, "argv", ["bench", "start", "--add", str(earlier), "--json", str(path)])
    assert command.main() == 1
    out = capsys.readouterr().out
    assert f"{LIMIT}; measured at 0000001" in out
    assert f"FAILED: earlier, at 0000001: {FAILED}" in out
    rows = {row["load"]: row for row in orjson.loads(path.read_bytes())["rows"]}
    assert list(rows) == ["start", "paced", "many", "short"]
    assert rows["many"]["commit"] == "0000001"
    assert rows["start"]["commit"] == report.machine().get("commit", report.UNKNOWN)
