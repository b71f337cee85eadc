"""The table on the terminal, the JSON, and README.md."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from bench.loads import LOADS, Cell, Target
from bench.processes import ROOT, UPSTREAMS, litellm_command
from bench.suite import Outcome, Row

README: Final = ROOT / "bench" / "README.md"
PLOTS: Final = ROOT / "bench" / "plots"
_PACKAGES: Final = ("uvloop", "httptools", "orjson", "h11", "wsproto")
_LITELLM_VERSION: Final = "from importlib.metadata import version; print(version('litellm'))"  # it says so in 12 s
_UNITS: Final = {"token": "µs", "answer": "µs", "bytes": "KB", "seconds": "s"}

UNKNOWN: Final = "an unknown commit"
HEAD: Final = (
    "load",
    "path",
    "cost",
    "× nginx",
    "rate /s",
    "added ms p50 / p99 / p99.9",
    "first +ms",
    "demo, gen %",
    "",
)


def table(outcome: Outcome) -> list[tuple[str, ...]]:
    """A line a row in the order of one run of all loads, ``HEAD`` first."""
    cells = ((load.name, cell) for load in LOADS.values() for cell in load.cells(tuple(UPSTREAMS)))
    places = {key: place for place, key in enumerate(cells)}
    rows = sorted(outcome.rows.items(), key=lambda item: places.get(item[0], len(places)))
    return [HEAD, *(_line(row) for _, row in rows)]


def _line(row: Row) -> tuple[str, ...]:
    load = row.load
    unit = _UNITS[load.unit]
    cost = _spread(row, "value", unit) + (f" / {load.unit}" if load.unit in ("token", "answer") else "")
    shares = [row.median(f"{name}_share") for name in ("demo", "generator")]
    return (
        load.name,
        row.cell.title,
        cost if row.figures.get("value") else "",
        _spread(row, "ratio"),
        f"{rate:,.0f}" if (rate := row.median("rate")) is not None else "",
        _delays(row),
        f"{first:.2f}" if (first := row.median("added_first_ms")) is not None else "",
        " ".join(f"{share * 100:.0f}" for share in shares if share is not None),
        "; ".join([*verdict(row), *row.notes, *([f"measured at {row.commit}"] if row.commit else [])]),
    )


def _spread(row: Row, figure: str, unit: str = "") -> str:
    values = row.figures.get(figure)
    if not values:
        return ""
    middle = row.median(figure) or 0.0
    words = f"{_number(middle)} {unit}".rstrip()
    return words + (f" ({_number(min(values))} to {_number(max(values))})" if len(values) > 1 else "")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _delays(row: Row) -> str:
    if "void" in row.notes or not row.load.latency:
        return ""
    added = [row.median(f"added_{name}_ms") for name in ("p50", "p99", "p999")]
    if None not in added:
        return " / ".join(f"{value:.2f}" for value in added if value is not None)
    own = [row.median(f"{name}_ms") for name in ("p50", "p99", "p999")]
    return "itself " + " / ".join(f"{value:.2f}" for value in own if value is not None)


def verdict(row: Row) -> list[str]:
    """What the row's target says of it, in words."""
    words = []
    if (growth := row.median("growth_percent")) is not None:
        words.append(f"memory {row.median('memory_mb') or 0:.1f} MB, {growth:+.1f} % over the run")
    target = row.load.targets.get(row.cell.title)
    if target is not None:
        words.append(_judged(row, target))
    return words


def _judged(row: Row, target: Target) -> str:
    value = row.median(target.figure)
    wanted = f"{target.most:g}" + (f", aim {target.aim:g}" if target.aim is not None else "")
    if value is None:
        return f"target {wanted}: not measured"
    if target.aim is not None and value <= target.aim:
        return f"aim met (target {wanted})"
    return f"target {'met' if value <= target.most else 'MISSED'} ({wanted})"


def plain(lines: list[tuple[str, ...]]) -> str:
    """The table in columns."""
    widths = [max(len(line[at]) for line in lines) for at in range(len(HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def markdown(lines: list[tuple[str, ...]]) -> str:
    """The table in Markdown."""
    rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([rows[0], "|" + "---|" * len(HEAD), *rows[1:]])


def machine() -> dict[str, str]:
    """Where and with what this was measured."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _text("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    cores = sum(line.startswith("processor") for line in _text("/proc/cpuinfo"))
    facts = {
        "processor": f"{model}, {cores} cores",
        "system": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    for name in _PACKAGES:
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if (nginx := _output("/usr/sbin/nginx", "-v")) is not None:
        facts["nginx"] = nginx.rpartition("/")[2]
    if (litellm := litellm_command()) is not None:
        python = Path(litellm).resolve().parent / "python"
        if (version := _output(str(python), "-c", _LITELLM_VERSION)) is not None:
            facts["litellm"] = version
    if (commit := _output("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")) is not None:
        facts["commit"] = commit
    return facts


def _text(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return (done.stdout or done.stderr).strip()


def document(outcome: Outcome, options: dict[str, Any], facts: dict[str, str]) -> dict[str, Any]:
    """Everything that was measured, for machines; ``facts`` are those of ``machine()``."""
    rows = [
        {
            "load": row.load.name,
            "words": row.load.words,
            "unit": row.load.unit,
            "path": row.cell.title,
            **row.cell._asdict(),
            "figures": row.figures,
            "verdict": verdict(row),
            "notes": list(row.notes),
            "commit": row.commit or facts.get("commit", UNKNOWN),
            "delays_ns": row.delays_ns,
            "memory": row.memory,
        }
        for row in outcome.rows.values()
    ]
    return {
        "machine": facts,
        "options": options,
        "rows": rows,
        "failures": outcome.failures,
        "absent": outcome.absent,
    }


def add_earlier(outcome: Outcome, earlier: dict[str, Any], commit: str) -> None:
    """Rows of an earlier ``document`` that this outcome does not have, and what failed in its run.

    ``commit`` is where this outcome was measured. What failed in a row that was measured anew is left out.
    """
    anew = [f"{row.load.name}, {row.cell.title}: " for row in outcome.rows.values()]
    then = earlier["machine"].get("commit", UNKNOWN)
    for one in earlier["rows"]:
        load = LOADS.get(one["load"])
        cell = Cell(*(one[name] for name in Cell._fields))
        if load is not None and (load.name, cell) not in outcome.rows:
            row = outcome.rows[load.name, cell] = Row(load, cell, one["figures"], dict.fromkeys(_notes(one)))
            row.delays_ns = one["delays_ns"]
            row.memory = one["memory"]
            measured = one.get("commit", then)
            row.commit = "" if measured == commit else measured
    for words in earlier["failures"]:
        if not any(name in words for name in anew):
            # a run that was itself added to another has said so already
            outcome.failures.append(words if words.startswith("earlier, ") else f"earlier, at {then}: {words}")


def _notes(row: dict[str, Any]) -> list[str]:
    if "verdict" in row:
        return list(row["notes"])
    # a file of before they stood apart
    return [note for note in row["notes"] if not note.startswith(("aim ", "target ", "memory "))]


def readme(outcome: Outcome, options: dict[str, Any], plots: list[Path], facts: dict[str, str]) -> str:
    """``bench/README.md``: how to repeat it, the latest table, and what is written there below it by hand."""
    measured = {name for name, _ in outcome.rows}
    loads = {load.name: load.words for load in LOADS.values() if load.name in measured}
    words = "\n".join(f"| `{name}` | {text} |" for name, text in loads.items())
    pictures = "\n".join(f"![{path.stem.replace('-', ' ')}](plots/{path.name})" for path in plots)
    missing = "".join(f"\n{text}.\n" for text in outcome.absent.values())
    failures = "".join(f"\n**Failed:** {text}\n" for text in outcome.failures)
    if not outcome.rows:
        missing = "\nNothing has been measured yet.\n"
    _, mark, written = README.read_text().partition(_BY_HAND) if README.exists() else ("", "", "")
    return _README.format(
        facts="\n".join(f"| {name} | {value} |" for name, value in facts.items()),
        loads=words,
        table=markdown(table(outcome)),
        pictures=pictures,
        missing=missing,
        failures=failures,
        runs=options["runs"],
        by_hand=mark + written,
    )


_BY_HAND: Final = "## Where the rest goes"
_README: Final = """\
# Benchmarks

    pip install -e '.[bench]' && apt-get install nginx-light
    python -m bench                       # the end-to-end suite; nginx passes the same bytes in the same run
    python -m bench paced blast --runs 5 --json out.json --plots plots
    python -m bench all --readme          # also 10,000 streams and the ten-minute soak; writes this page and its plots
    python -m bench profile paced         # where the relay's time goes: py-spy, perf, strace
    tox -e bench                          # the micro suite, compared with the base saved on this machine

Run it on a machine that does nothing else. What counts are **ratios to nginx in one run** and **CPU time of the relay's
process**, user and system, from `/proc/PID/task/*/schedstat`; wall time alone says more about the machine. The demo
upstream, the relay, nginx and the load generator are one process each. Every token is counted and its place checked:
one that is lost or out of order fails the run. A latency run in which the demo or the generator takes over 80 % of a
core is void. `LITELLM=/its/environment/bin/litellm` adds rows of LiteLLM (`pip install 'litellm[proxy]'`): one worker,
a tenth of the streams.

*cost*: CPU time of the proxy per token or answer (memory, seconds where it says so), median of {runs} runs and their
range (a cost without a range was measured once; a row that names a commit, by an earlier run, at that commit). *added*:
quantiles of a token's way from its making to the client, less those of the same streams without a proxy. *first*: the
same for the time to the first token. *demo, gen*: per cent of a core.

## Latest

| | |
|---|---|
{facts}

| load | |
|---|---|
{loads}

{table}
{missing}{failures}
{pictures}

{by_hand}"""
