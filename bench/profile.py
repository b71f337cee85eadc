"""``python -m bench profile LOAD``: one load again and again, while py-spy, perf and strace watch the relay."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bench.loads import Cell, Load
from bench.processes import Stack
from bench.suite import job_of

TOP: Final = 40
_WAITS: Final = ("PyThread_acquire_lock", "epoll_pwait")  # py-spy takes threads that wait in C for busy ones


def profile(load: Load, cell: Cell, seconds: float, folder: Path | None) -> int:
    """Print the top of each tool that is installed; ``folder`` keeps what they wrote."""
    with Stack((cell.upstream,), ()) as stack:
        kept = folder or stack.folder
        kept.mkdir(parents=True, exist_ok=True)
        job = job_of(stack, load, cell, quick=False)
        if job["kind"] not in ("streams", "turns"):
            print(f"{load.name} cannot be profiled")
            return 2
        pid = stack.pids["relay"][0]
        for name, watch in _TOOLS.items():
            command = shutil.which(name) or shutil.which(name, path=os.path.dirname(sys.executable))
            if command is None:
                print(f"\n== {name} is not installed")
                continue
            print(f"\n== {name}: {load.name}, {cell.title}", flush=True)
            failed = _under_load(stack, job, lambda command=command, watch=watch: watch(command, pid, seconds, kept))
            if failed:
                print(f"the load failed: {failed}")
                return 1
    return 0


def _under_load(stack: Stack, job: dict[str, Any], watch: Callable[[], None]) -> str | None:
    """Repeat the job until ``watch`` is done."""
    watcher = threading.Thread(target=watch)
    watcher.start()
    failed = None
    while watcher.is_alive() and failed is None:
        result = stack.run({**job, "deadline_s": 300.0})
        failed = result.get("failed")
        cpu = result.get("cpu_ns", {}).get("relay", 0)
        if cpu and result.get("tokens"):
            each = [f"{cpu / 1000 / result[name]:.2f} µs of {name}" for name in ("tokens", "answers") if result[name]]
            print("  ", ", ".join(each), flush=True)
    watcher.join()
    return failed


def _py_spy(command: str, pid: int, seconds: float, folder: Path) -> None:
    path = folder / "py-spy.txt"
    options = ["--rate", "500", "--format", "raw", "--native", "--output", str(path), "--duration", str(int(seconds))]
    if not _run([command, "record", "--pid", str(pid), *options]):
        return
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in path.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        if any(wait in stack for wait in _WAITS):
            continue
        frames = [_short(frame) for frame in stack.split(";")]
        own[frames[-1]] += int(count)
        total.update(dict.fromkeys(frames, int(count)))
    samples = sum(own.values()) or 1
    for words, counter in (("itself", own), ("with what it calls", total)):
        print(f"-- {words}")
        for name, count in counter.most_common(TOP):
            print(f"{count / samples * 100:6.1f} %  {name}")


def _short(frame: str) -> str:
    """``function (path:line)`` without the line, the path from the package on."""
    name, found, place = frame.partition(" (")
    return f"{name} ({place.rpartition(':')[0] or place.rstrip(')')})" if found else name


def _perf(command: str, pid: int, seconds: float, folder: Path) -> None:
    path = folder / "perf.data"
    record = [command, "record", "-q", "-F", "1999", "-p", str(pid), "-o", str(path), "--", "sleep", str(seconds)]
    if _run(record):
        _run(
            [command, "report", "-i", str(path), "--stdio", "--sort", "dso,symbol", "--percent-limit", "0.4"], TOP + 12
        )


def _strace(command: str, pid: int, seconds: float, folder: Path) -> None:
    path = folder / "strace.txt"
    if _run(["timeout", "--signal=INT", str(seconds), command, "-c", "-f", "-p", str(pid), "-o", str(path)], fine=124):
        print(path.read_text())


def _run(command: list[str], lines: int = 0, fine: int = 0) -> bool:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, fine):
        print(f"it did not work: {(done.stderr or done.stdout).strip()[-600:]}")
        return False
    if lines:
        shown = [line for line in done.stdout.splitlines() if line.strip() and not line.startswith("#")]
        print("\n".join(shown[:lines]))
    return True


_TOOLS: Final[dict[str, Callable[[str, int, float, Path], None]]] = {
    "py-spy": _py_spy,
    "perf": _perf,
    "strace": _strace,
}
