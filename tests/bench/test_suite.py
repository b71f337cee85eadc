"""What is run how often, and what is reported when it ends early."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from bench import suite
from bench.__main__ import main
from bench.loads import LOADS
from bench.processes import ROOT, Stack


@pytest.mark.parametrize(
    ("names", "times", "stacks", "lines"),
    [
        (("idle",), 3, 1, ["[1/1] idle"]),
        (("batch-1", "idle"), 2, 2, ["[1/2] batch-1", "[1/1] idle", "[2/2] batch-1"]),
    ],
)
def test_a_load_that_runs_once_starts_nothing_for_further_runs(
    names: tuple[str, ...], times: int, stacks: int, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    class Counted(Stack):
        def __enter__(self) -> Stack:
            started.append(self)
            return super().__enter__()

    monkeypatch.setattr(suite, "Stack", Counted)
    said: list[str] = []
    loads = [LOADS[name] for name in names]
    outcome = suite.run_suite(loads, ("chat",), runs=times, quick=True, say=said.append)
    assert not outcome.failures
    assert len(started) == stacks
    rows = [line for line in said if line.startswith("[")]  # nginx may be missing, which is said first
    assert list(dict.fromkeys(" ".join(line.split()[:2]) for line in rows)) == lines


def test_the_help_says_what_runs_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--help"])
    with pytest.raises(SystemExit):
        main()
    text = " ".join(capsys.readouterr().out.split())
    assert "(default 5; those that run only when asked for run once)" in text
    assert "10,000 tokens/s in all (when asked for)" in text


# a shell's background jobs, and what they start, ignore SIGINT
WITH_CTRL_C = """\
import signal
from bench.__main__ import main
signal.signal(signal.SIGINT, signal.default_int_handler)
raise SystemExit(main())
"""


def test_ctrl_c_reports_what_there_is(tmp_path: Path) -> None:
    path, out = tmp_path / "out.json", tmp_path / "out.txt"
    options = ["--quick", "--json", str(path), "batch", "short"]
    with (
        out.open("w") as stdout,
        subprocess.Popen(
            [sys.executable, "-c", WITH_CTRL_C, *options], cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True
        ) as bench,
    ):
        assert bench.stderr is not None
        said = []
        for line in bench.stderr:
            said.append(line)
            if line.startswith("[1/1] "):
                break
        bench.send_signal(signal.SIGINT)
        said += bench.stderr
        assert bench.wait() == 1, "".join(said)
    measured = [line.removeprefix("[1/1] ").split("  ")[0] for line in said if line.startswith("[1/1] ")]
    rows = orjson.loads(path.read_bytes())["rows"]
    assert all(row["figures"] for row in rows)
    assert [row["load"] for row in rows] == measured
    shown = out.read_text()
    assert [line.split("  ")[0] for line in shown.splitlines()[1:-1]] == measured
    assert shown.endswith("FAILED: it was interrupted\n")
