"""LiteLLM is found where ``LITELLM`` says, started as it has to be, and missed without harm."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import report
from bench.loads import LOADS, Cell
from bench.processes import Stack
from bench.suite import run_suite

# it refuses to start without a key, unless it is told not to; the demo then answers in its place, at its --port
STAND_IN = f"""\
#!/bin/sh
[ "$LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY" = true ] || {{ echo no master key >&2; exit 1; }}
exec {sys.executable} -m relay demo --port "$6"
"""


def named(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command = folder / "litellm"
    command.write_text(script)
    command.chmod(0o755)
    monkeypatch.setenv("LITELLM", str(command))


def test_rows_of_a_litellm_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named(tmp_path, STAND_IN, monkeypatch)
    outcome = run_suite([LOADS["short"], LOADS["paced"]], (), runs=1, quick=True, say=lambda line: None)
    assert not outcome.failures
    assert "litellm" not in outcome.absent
    for load in ("short", "paced"):
        row = outcome.rows[load, Cell("litellm")]
        assert row.figures["rate"][0] > 0
        assert row.notes == {"streams: 1, so that it keeps up": None}


def test_one_that_does_not_start_is_absent_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named(tmp_path, "#!/bin/sh\necho that is why >&2; exit 1\n", monkeypatch)
    with Stack((), ("litellm",)) as stack:
        assert "that is why" in stack.absent["litellm"]
        assert "litellm" not in stack.pids


def test_one_that_is_not_there_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM", "/nowhere/litellm")
    with Stack((), ("litellm",)) as stack:
        assert list(stack.absent) == ["litellm"]


def test_its_version_is_that_of_its_own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named(tmp_path, STAND_IN, monkeypatch)
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 1.2.3\n")
    python.chmod(0o755)
    assert report.machine()["litellm"] == "1.2.3"


def test_what_no_load_asks_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM", "/nowhere/litellm")
    outcome = run_suite([LOADS["batch-1"]], ("chat",), runs=1, quick=True, say=lambda line: None)
    assert outcome.rows
    assert "litellm" not in outcome.absent
