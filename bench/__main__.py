"""``python -m bench``: the end-to-end suite; see ``bench/README.md``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import orjson

from bench import report
from bench.loads import LOADS, Cell, most_streams
from bench.processes import UPSTREAMS
from bench.suite import run_suite
from relay.providers.registry import PROVIDERS


def main() -> int:
    """The exit code is 1 where a load failed: a token lost, an error, a process that did not start."""
    options = _options()
    most_streams(10_000)  # raises the limit of open files, which the children inherit
    dialects = tuple(name for name in UPSTREAMS if name in PROVIDERS)
    if options.names[:1] == ["profile"]:
        from bench.profile import profile

        name = options.names[1] if len(options.names) > 1 else "paced"
        cell = Cell("relay", options.transport, options.upstream, options.store)
        return profile(LOADS[name], cell, options.seconds, options.keep)
    everything = options.quick or "all" in options.names
    names = [name for name in LOADS if everything or not LOADS[name].asked]
    if options.names and "all" not in options.names:
        names = [name for name in LOADS if any(name == one or name.rpartition("-")[0] == one for one in options.names)]
    runs = 1 if options.quick else options.runs
    machine = report.machine()  # before the suite: a long one may end at another commit than it began
    outcome = run_suite(
        [LOADS[name] for name in names],
        dialects,
        runs=runs,
        quick=options.quick,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if options.add:
        earlier = orjson.loads(options.add.read_bytes())
        report.add_earlier(outcome, earlier, machine.get("commit", report.UNKNOWN))
    print(report.plain(report.table(outcome)))
    for failure in outcome.failures:
        print("FAILED:", failure)
    facts = {"runs": runs, "quick": options.quick, "loads": names}
    if options.json:
        options.json.write_bytes(orjson.dumps(report.document(outcome, facts, machine), option=orjson.OPT_INDENT_2))
    folder = options.plots or (report.PLOTS if options.readme else None)
    if folder is not None:
        from bench.plots import draw

        drawn = draw(outcome, folder)
        if options.readme:
            report.README.write_text(report.readme(outcome, facts, drawn, machine))
    return 1 if outcome.failures else 0


def _options() -> argparse.Namespace:
    loads = "\n".join(f"  {load.name:<14}{load.words}{' (when asked for)' * load.asked}" for load in LOADS.values())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="The end-to-end suite: what a token costs, beside nginx passing the same bytes in the same run.",
        epilog=f"loads (a name without its number means all of its sizes):\n{loads}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="loads; `all` of them; or `profile LOAD` (default: the usual ones)")
    often = "how often (default 5; those that run only when asked for run once)"
    parser.add_argument("--runs", type=int, default=5, help=often)
    parser.add_argument("--quick", action="store_true", help="every load once with tiny counts: does it work?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--add", type=Path, metavar="FILE", help="show rows of an earlier --json that this run lacks")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write SVG plots there")
    parser.add_argument("--readme", action="store_true", help="write bench/README.md and its plots")
    parser.add_argument("--upstream", default="chat", help="profile: the dialect (default chat)")
    parser.add_argument("--transport", default="sse", choices=("sse", "ws", "json"), help="profile (default sse)")
    parser.add_argument("--store", action="store_true", help="profile: keep what is answered")
    parser.add_argument("--seconds", type=float, default=8.0, help="profile: how long each tool watches (default 8)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="profile: keep what the tools wrote")
    options = parser.parse_args()
    known = {*LOADS, *(name.rpartition("-")[0] for name in LOADS), "all", "profile"}
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no such load: {', '.join(unknown)}")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
