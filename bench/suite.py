"""Runs cells, turns the generator's numbers into figures, compares them with the baselines of the same run."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.loads import Cell, Load, most_streams
from bench.processes import RELAY, Child, Stack, configuration, free_port
from bench.requests import body, wire

MOST_SHARE: Final = 0.8  # of a core, for the demo and the generator in a latency run
_WARM: Final = {"kind": "streams", "streams": 4, "tokens": 1, "rounds": 10}
_WARM_MODEL: Final = "demo-tokens-1-pace-0"

Figures = dict[str, float]
Say = Callable[[str], None]


@dataclass(slots=True)
class Row:
    """One cell of a load over all runs; ``figures`` holds a value a run."""

    load: Load
    cell: Cell
    figures: dict[str, list[float]] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    delays_ns: dict[str, int] = field(default_factory=dict)
    memory: list[list[float]] = field(default_factory=list)
    commit: str = ""
    """Where an earlier run measured it, if not where this one does."""

    def median(self, figure: str) -> float | None:
        """The middle of the runs."""
        values = self.figures.get(figure)
        return statistics.median(values) if values else None

    def add(self, figures: Figures) -> None:
        """The figures of one run."""
        for name, value in figures.items():
            self.figures.setdefault(name, []).append(value)


@dataclass(slots=True)
class Outcome:
    """All rows by (load, cell), and what went wrong."""

    rows: dict[tuple[str, Cell], Row] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)


def run_suite(loads: Iterable[Load], dialects: tuple[str, ...], *, runs: int, quick: bool, say: Say) -> Outcome:
    """Each run has processes of its own, and within it a load's baselines stand beside its cells.

    What runs only when it is named runs once: it is long. Ctrl-C ends the suite; what was measured until then is told.
    """
    outcome = Outcome()
    try:
        _run_all(list(loads), dialects, outcome, runs=runs, quick=quick, say=say)
    except KeyboardInterrupt:
        outcome.failures.append("it was interrupted")
    return outcome


def _run_all(
    loads: list[Load], dialects: tuple[str, ...], outcome: Outcome, *, runs: int, quick: bool, say: Say
) -> None:
    for number in range(1, runs + 1):
        due = [load for load in loads if number == 1 or not load.asked]
        if not due:
            break
        servers = {cell.server for load in due for cell in load.cells(dialects)}
        with Stack(dialects, servers) as stack:
            outcome.absent.update(stack.absent)
            if number == 1:
                for words in stack.absent.values():
                    say(words)
            for load in due:
                mark = f"[{number}/{1 if load.asked else runs}] "
                _compare(_run_load(stack, load, dialects, outcome, quick, lambda line, mark=mark: say(mark + line)))
            if words := stack.complaints():
                outcome.failures.append(f"run {number}: the relay said:\n{words}")


def _run_load(
    stack: Stack, load: Load, dialects: tuple[str, ...], outcome: Outcome, quick: bool, say: Say
) -> dict[Cell, tuple[Row, Figures]]:
    found: dict[Cell, tuple[Row, Figures]] = {}
    for cell in load.cells(dialects):
        if cell.server in outcome.absent or (cell.server == "relay" and cell.upstream not in dialects):
            continue
        if quick and cell.store and cell.upstream != "chat":
            continue
        row = outcome.rows.get((load.name, cell)) or Row(load, cell)
        if load.fresh and not quick:
            with Stack((cell.upstream,), (cell.server,)) as fresh:
                figures, why = _run_cell(fresh, row, quick)
                if words := fresh.complaints():
                    outcome.failures.append(f"{load.name}, {cell.title}: the relay said:\n{words}")
        else:
            figures, why = _run_cell(stack, row, quick)
        row.add(figures)
        outcome.rows[load.name, cell] = row  # not before: Ctrl-C within its first run leaves nothing to tell
        if why:
            row.notes[why] = None
            if cell.server != "litellm":
                outcome.failures.append(f"{load.name}, {cell.title}: {why}")
            say(f"{load.name:<12} {cell.title:<32} FAILED {why}")
            continue
        found[cell] = row, figures
        shown = "  ".join(f"{name} {value:,.2f}" for name, value in figures.items() if name in _SHOWN)
        say(f"{load.name:<12} {cell.title:<32} {shown}")
    return found


_SHOWN: Final = ("value", "rate", "p50_ms", "p999_ms", "demo_share", "generator_share")


def _compare(found: dict[Cell, tuple[Row, Figures]]) -> None:
    """Ratios to nginx, and delays added to those without a proxy, within one run."""
    direct = found.get(Cell("direct"))
    for cell, (row, figures) in found.items():
        nginx = found.get(Cell("nginx", "json" if cell.transport == "json" else "sse"))
        if nginx is not None and nginx[1].get("value") and cell.server not in ("nginx", "direct"):
            row.add({"ratio": figures["value"] / nginx[1]["value"]})
        if direct is not None and cell.server != "direct" and row.load.latency and "void" not in row.notes:
            names = ("p50_ms", "p99_ms", "p999_ms", "first_ms")
            row.add({f"added_{name}": figures[name] - direct[1][name] for name in names})


# --- one cell


def job_of(stack: Stack, load: Load, cell: Cell, quick: bool) -> dict[str, Any]:
    """What the generator is told to do."""
    spec = {**load.spec, **(load.quick if quick else {})}
    if cell.server == "litellm":
        spec["streams"] = max(1, spec["streams"] // 10)  # so that it keeps up
    server = "demo" if cell.server == "direct" else cell.server
    relay = cell.server == "relay"
    model = load.model.format(**spec)
    aside = spec.get("aside")
    if aside is not None:
        port = stack.ports["relay" if relay else "aside"]
        name = f"aside/{_WARM_MODEL}" if relay else _WARM_MODEL
        spec["aside"] = {**aside, "port": port, "format": "responses" if relay else "chat", "model": name}
    return {
        "deadline_s": 10.0 if quick else 60.0,
        **spec,
        "port": stack.ports[server],
        "format": "responses" if relay else "chat",
        "transport": cell.transport,
        "store": cell.store,
        "model": f"{cell.upstream}/{model}" if relay else model,
        "watched": stack.pids,
    }


def _run_cell(stack: Stack, row: Row, quick: bool) -> tuple[Figures, str]:
    """The figures of one run, and why there are none."""
    load, cell = row.load, row.cell
    if load.spec["kind"] == "start":
        return {"value": seconds_to_first_answer(stack)}, ""
    job = job_of(stack, load, cell, quick)
    wanted = job["streams"]
    if cell.server == "litellm":
        row.notes[f"streams: {wanted}, so that it keeps up"] = None
    if wanted > 1_000:
        job["streams"] = most_streams(wanted)
        if job["streams"] < wanted:
            row.notes[f"{job['streams']:,} streams: the limit of open files allows no more"] = None
    if not quick and job["kind"] != "hold":
        warm = {
            **job,
            **_WARM,
            "stamped": False,
            "window_s": 0.0,
            "spread_s": 0.0,
            "aside": None,
            "input_bytes": 0,
            "input_items": 0,
        }
        warm["model"] = f"{cell.upstream}/{_WARM_MODEL}" if cell.server == "relay" else _WARM_MODEL
        result = stack.run(warm)
        if "failed" in result:
            return {}, result["failed"]
    result = stack.run(job)
    if "failed" in result:
        return {}, result["failed"]
    if job["kind"] == "hold":
        memory = result["memory_bytes"]
        return {"value": memory[cell.server] / 1000}, ""
    return _figures(row, result), ""


def _figures(row: Row, result: dict[str, Any]) -> Figures:
    load, cell = row.load, row.cell
    seconds = result["seconds"]
    count = result["tokens" if load.unit == "token" else "answers"]
    cpu = result["cpu_ns"]
    figures: Figures = {"rate": count / seconds}
    if cell.server in cpu and count:
        figures["value"] = cpu[cell.server] / 1000 / count
    for name in ("demo", "generator"):
        figures[f"{name}_share"] = cpu[name] / 1e9 / seconds
    if load.latency:
        if max(figures["demo_share"], figures["generator_share"]) > MOST_SHARE:
            row.notes["void"] = None
        row.delays_ns = result["delays_ns"]
        for name, quantile in (("p50_ms", "50"), ("p99_ms", "99"), ("p999_ms", "99.9")):
            figures[name] = result["delays_ns"].get(quantile, 0) / 1e6
        figures["first_ms"] = result["firsts_ns"].get("50", 0) / 1e6
    if "memory" in result:
        row.memory = result["memory"]
        levels = [level for _, level in result["memory"]]
        quarter = max(1, len(levels) // 4)
        early, late = statistics.mean(levels[quarter : 2 * quarter] or levels), statistics.mean(levels[-quarter:])
        figures |= {"memory_mb": late / 1e6, "growth_percent": (late / early - 1) * 100}
    return figures


def seconds_to_first_answer(stack: Stack) -> float:
    """From exec to the whole answer to the first request, with the modules compiled, as pip leaves them."""
    # a source tree, and an environment that forbids bytecode, would be compiled at each start: keep it in the stack's
    # folder, where the first start, which does not count, puts it
    cache = Path(stack.folder) / "bytecode"
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment = {**kept, "PYTHONPYCACHEPREFIX": str(cache)}
    if not cache.exists():
        _first_answer(stack, environment)
    return _first_answer(stack, environment)


def _first_answer(stack: Stack, environment: dict[str, str]) -> float:
    folder = Path(stack.folder) / f"start-{time.monotonic_ns()}"
    folder.mkdir()
    path = configuration(folder, stack.ports, ("chat",))
    port = free_port()
    content = body("responses", "json", f"chat/{_WARM_MODEL}", store=True, input_bytes=0, tokens=1)
    request = wire("responses", "json", content)
    began = time.monotonic()
    command = [*RELAY, "serve", "--config", str(path), "--port", str(port)]
    relay = Child("relay", command, folder / "relay.log", stdin=subprocess.DEVNULL, env=environment)
    try:
        while time.monotonic() - began < 30:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)):
                    time.sleep(0.001)
                    continue
                sock.sendall(request)
                answer = sock.recv(65_536)
                ended = time.monotonic()
                if not answer.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(f"the first request was not served: {answer[:500]!r}")
                return ended - began
        raise RuntimeError(f"the relay did not start: {relay.tail()}")
    finally:
        relay.stop()
