"""SVG plots: how long tokens take, what they cost by batch and by open streams, memory over time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot

from bench.suite import Outcome, Row


def draw(outcome: Outcome, folder: Path) -> list[Path]:
    """The plots for which there are numbers."""
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "relay", "figure.figsize": (7.5, 4.2), "axes.grid": True, "grid.alpha": 0.3})
    folder.mkdir(parents=True, exist_ok=True)
    rows = list(outcome.rows.values())
    drawn = []
    for name, plot in _PLOTS.items():
        figure, axes = pyplot.subplots(layout="constrained")
        if plot(axes, rows):
            path = folder / f"{name}.svg"
            figure.savefig(path, metadata={"Date": None})
            drawn.append(path)
        pyplot.close(figure)
    return drawn


def _delays(axes: Any, rows: list[Row]) -> bool:
    shown = [row for row in rows if row.load.name == "paced" and row.delays_ns and not row.cell.store]
    for row in shown:
        points = [(float(q), ns / 1e6) for q, ns in row.delays_ns.items() if 0 < float(q) < 100]
        axes.plot([ms for _, ms in points], [100 - q for q, _ in points], label=row.cell.title)
    axes.set(xscale="log", yscale="log", xlabel="ms from a token's making to the client", ylabel="% of tokens slower")
    axes.set_title("delay of a token: 50 streams × 100 tokens/s")
    return _finish(axes, shown)


def _cost_by(prefix: str, xlabel: str) -> Callable[[Any, list[Row]], bool]:
    def plot(axes: Any, rows: list[Row]) -> bool:
        shown = [row for row in rows if row.load.name.startswith(prefix) and row.figures.get("value")]
        for title in dict.fromkeys(row.cell.title for row in shown):
            line = [row for row in shown if row.cell.title == title]
            sizes = [int(row.load.name.rpartition("-")[2]) for row in line]
            axes.plot(sizes, [row.median("value") for row in line], marker="o", label=title)
        axes.set(xscale="log", yscale="log", xlabel=xlabel, ylabel="µs of CPU per token")
        axes.set_title(f"cost of a token by {xlabel}")
        return _finish(axes, shown)

    return plot


def _memory(axes: Any, rows: list[Row]) -> bool:
    shown = [row for row in rows if row.memory]
    for row in shown:
        axes.plot([at for at, _ in row.memory], [level / 1e6 for _, level in row.memory], label=row.cell.title)
    axes.set(xlabel="s", ylabel="MB", ylim=(0, None), title="memory of the relay under 50 streams")
    return _finish(axes, shown)


def _finish(axes: Any, shown: list[Row]) -> bool:
    if shown:
        axes.legend(fontsize="small")
    return bool(shown)


_PLOTS = {
    "delays": _delays,
    "cost-by-batch": _cost_by("batch-", "tokens a write"),
    "cost-by-streams": _cost_by("growth-", "open streams"),
    "memory": _memory,
}
