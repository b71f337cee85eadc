"""The table of loads. A load is a row: what the generator is to do, and for which cells; a cell is who is asked how.

Source: issue 5, "The suite" and its table of targets.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple


class Cell(NamedTuple):
    """Who is asked (``relay``, or a baseline), over what, with which upstream behind it."""

    server: str
    transport: str = "sse"
    upstream: str = "chat"
    store: bool = False

    @property
    def title(self) -> str:
        """As it stands in the table."""
        if self.server != "relay":
            return f"{_SERVERS[self.server]} ({_WORDS[self.transport]})"
        return f"{self.upstream} → {_WORDS[self.transport]}{', stored' if self.store else ''}"


_SERVERS: Final = {"nginx": "nginx, bytes", "direct": "no proxy", "litellm": "LiteLLM"}
_WORDS: Final = {"sse": "SSE", "ws": "WebSocket", "json": "JSON"}


class Target(NamedTuple):
    """What a figure has to be, and what it should be; ``figure`` is a key of the row's result."""

    figure: str
    most: float
    aim: float | None = None


Spec = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Load:
    """A row. ``spec`` goes to the generator, with ``quick`` over it for a smoke test; ``model`` is the demo's.

    ``unit`` is what the CPU time is divided by: ``token``, ``answer`` or ``turn``; ``bytes`` and ``seconds`` are other
    figures. ``targets`` is by the cell's title.
    """

    name: str
    words: str
    unit: str
    model: str
    spec: Spec
    cells: Callable[[tuple[str, ...]], Iterator[Cell]]
    quick: Spec = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)
    latency: bool = False
    asked: bool = False
    """Runs only when it is named."""
    fresh: bool = False
    """Each cell has processes of its own: memory and connections of other loads must not count."""


# --- cells


def _relay(transports: tuple[str, ...], stores: tuple[bool, ...] = (False, True)) -> Callable[..., Iterator[Cell]]:
    def cells(dialects: tuple[str, ...]) -> Iterator[Cell]:
        for upstream in dialects:
            for transport in transports:
                for store in stores:
                    yield Cell("relay", transport, upstream, store)

    return cells


def _and(*baselines: Cell, cells: Callable[..., Iterator[Cell]]) -> Callable[..., Iterator[Cell]]:
    def all_cells(dialects: tuple[str, ...]) -> Iterator[Cell]:
        yield from baselines
        yield from cells(dialects)

    return all_cells


def _one(*cells: Cell) -> Callable[..., Iterator[Cell]]:
    return lambda dialects: iter(cells)


_NGINX: Final = Cell("nginx")
_DIRECT: Final = Cell("direct")
_LITELLM: Final = Cell("litellm")
_CHAT: Final = Cell("relay")
_NATIVE: Final = Cell("relay", "sse", "responses")
_SOCKET: Final = Cell("relay", "ws")


def _sweep(name: str, sizes: tuple[int, ...], make: Callable[[int], dict[str, Any]]) -> tuple[Load, ...]:
    return tuple(Load(name=f"{name}-{size}", **make(size)) for size in sizes)


def most_streams(wanted: int) -> int:
    """How many streams the descriptors allow, after the limit was raised: the relay has two for each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, 2 * wanted + 500),) * 2)
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(wanted, (hard - 500) // 2)


# --- the table


def _batches(size: int) -> dict[str, Any]:
    return {
        "words": f"8 streams, {size} tokens a write",
        "unit": "token",
        "model": f"demo-tokens-{{tokens}}-pace-0-batch-{size}",
        "spec": {"kind": "streams", "streams": 8, "tokens": 2_048, "rounds": 4},
        "quick": {"tokens": 50, "rounds": 1},
        "cells": _one(_NGINX, _CHAT, _NATIVE),
    }


def _growth(streams: int) -> dict[str, Any]:
    pace = 10_000 // streams
    return {
        "words": f"{streams:,} streams, 10,000 tokens/s in all",
        "unit": "token",
        "model": f"demo-stamp-tokens-{{tokens}}-pace-{pace}",
        "spec": _paced(streams, pace, streams / 250, 10.0) | {"deadline_s": 240.0},  # they begin 250 a second
        "quick": {
            "streams": 5,
            "tokens": max(2, pace // 5),
            "spread_s": 0.01,
            "settle_s": 0.0,
            "window_s": 0.02,
            "deadline_s": 10.0,
        },
        "cells": _one(_NGINX, _CHAT),
        "asked": True,
        "fresh": True,
    }


def _paced(streams: int, pace: int, spread_s: float = 0.99, spare_s: float = 1.5) -> Spec:
    # 50 streams in 0.99 s start one by one, and their tokens of every 10 ms come in 50 phases
    window_s = 5.0
    tokens = int((window_s + 1.5 * spread_s + spare_s) * pace) + 1
    return {
        "kind": "streams",
        "streams": streams,
        "tokens": tokens,
        "stamped": True,
        "spread_s": spread_s,
        "settle_s": 0.5,
        "window_s": window_s,
    }


_QUICK_PACED: Final = {"streams": 5, "tokens": 20, "spread_s": 0.02, "settle_s": 0.0, "window_s": 0.03}
_HELD: Final = {"kind": "hold", "streams": 10_000, "settle_s": 1.0, "deadline_s": 180.0}
_TURNS: Final = {"kind": "turns", "streams": 4, "rounds": 5, "turns": 20}
_QUICK_TURNS: Final = {"streams": 1, "rounds": 1, "turns": 3}
_ASIDE: Final = {"kind": "streams", "format": "responses", "transport": "sse", "tokens": 1, "input_bytes": 1_000_000}

LOADS: Final[dict[str, Load]] = {
    load.name: load
    for load in (
        Load(
            "start",
            "from exec to the first served request",
            "seconds",
            "demo-tokens-1-pace-0",
            {"kind": "start"},
            _one(_CHAT),
            targets={"chat → SSE": Target("value", 0.4, 0.15)},
        ),
        Load(
            "paced",
            "50 streams × 100 tokens/s, one token a write",
            "token",
            "demo-stamp-tokens-{tokens}-pace-100",
            _paced(50, 100),
            _and(_DIRECT, _NGINX, _LITELLM, cells=_relay(("sse", "ws"))),
            _QUICK_PACED,
            {"chat → SSE": Target("ratio", 1.8, 1.5), "chat → WebSocket": Target("ratio", 1.9, 1.6)},
            latency=True,
        ),
        Load(
            "blast",
            "8 streams, 64 tokens a write",
            "token",
            "demo-tokens-{tokens}-pace-0-batch-64",
            {"kind": "streams", "streams": 8, "tokens": 10_000, "rounds": 4},
            _and(_NGINX, _LITELLM, cells=_relay(("sse", "ws"))),
            {"tokens": 200, "rounds": 1},
            {"chat → SSE": Target("value", 2.5, 1.2), "responses → SSE": Target("value", 0.8, 0.5)},
        ),
        *_sweep("batch", (1, 4, 16, 64, 256), _batches),
        Load(
            "short",
            "answers of one token, 16 at a time",
            "answer",
            "demo-tokens-1-pace-0",
            {"kind": "streams", "streams": 16, "tokens": 1, "rounds": 150},
            _and(_NGINX, Cell("nginx", "json"), _LITELLM, cells=_relay(("sse", "json", "ws"))),
            {"rounds": 2},
            {"chat → SSE": Target("ratio", 2.0, 1.4)},
        ),
        Load(
            "long",
            "requests of 1 MB for one token, 4 at a time",
            "answer",
            "demo-tokens-1-pace-0",
            {"kind": "streams", "streams": 4, "tokens": 1, "rounds": 10, "input_bytes": 1_000_000},
            _and(_NGINX, cells=_relay(("sse", "ws"))),
            {"streams": 2, "rounds": 1, "input_bytes": 100_000},
        ),
        Load(
            "turns",
            "20 tool calls and an answer; over HTTP the whole history goes each time",
            "answer",
            "demo-steps-{turns}-pace-0",
            _TURNS,
            _relay(("ws", "sse"), (False,)),
            _QUICK_TURNS,
        ),
        Load(
            "chain",
            "20 tool calls and an answer, each by previous_response_id",
            "answer",
            "demo-steps-{turns}-pace-0",
            {**_TURNS, "previous": True},
            lambda dialects: (
                Cell("relay", transport, upstream, store)
                for upstream in dialects
                for transport, store in (("ws", False), ("ws", True), ("sse", True))
            ),
            _QUICK_TURNS,
        ),
        Load(
            "mixed",
            "50 paced streams while one request of 1 MB a second arrives",
            "token",
            "demo-stamp-tokens-{tokens}-pace-100",
            {**_paced(50, 100), "aside": {**_ASIDE, "every_s": 1.0}},
            _and(_DIRECT, cells=_one(_CHAT, _SOCKET)),
            {**_QUICK_PACED, "aside": {**_ASIDE, "every_s": 0.02, "input_bytes": 10_000}},
            {"chat → SSE": Target("added_p999_ms", 20.0), "chat → WebSocket": Target("added_p999_ms", 20.0)},
            latency=True,
        ),
        Load(
            "neighbour",
            "50 paced streams while the worst request of 1 MB a second arrives: 99,000 empty items",
            "token",
            "demo-stamp-tokens-{tokens}-pace-100",
            {**_paced(50, 100), "aside": {**_ASIDE, "every_s": 1.0, "input_items": 99_000}},
            _and(_DIRECT, cells=_one(_CHAT, _SOCKET)),
            {**_QUICK_PACED, "aside": {**_ASIDE, "every_s": 0.02, "input_bytes": 10_000, "input_items": 1_000}},
            {"chat → SSE": Target("added_p999_ms", 20.0), "chat → WebSocket": Target("added_p999_ms", 20.0)},
            latency=True,
        ),
        Load(
            "many",
            "open streams: memory each",
            "bytes",
            "demo-tokens-2-pace-1000-stall-1",
            {**_HELD, "tokens": 1},
            _one(_NGINX, _CHAT, _SOCKET),
            {"streams": 20, "settle_s": 0.0, "deadline_s": 10.0},
            {"chat → SSE": Target("value", 40.0, 16.0)},
            asked=True,
            fresh=True,
        ),
        Load(
            "idle",
            "idle WebSockets: memory each",
            "bytes",
            "demo",
            {**_HELD, "tokens": 0},
            _one(_SOCKET),
            {"streams": 20, "settle_s": 0.0, "deadline_s": 10.0},
            {"chat → WebSocket": Target("value", 20.0, 10.0)},
            asked=True,
            fresh=True,
        ),
        *_sweep("growth", (100, 1_000, 10_000), _growth),
        Load(
            "soak",
            "50 paced streams of 2 s, again and again for ten minutes",
            "token",
            "demo-tokens-{tokens}-pace-100",
            {
                "kind": "soak",
                "streams": 50,
                "tokens": 200,
                "rounds": 1_000_000,
                "settle_s": 30.0,
                "window_s": 600.0,
                "every_s": 5.0,
                "deadline_s": 700.0,
            },
            _one(Cell("relay", "sse", "chat", True), _SOCKET),
            {"streams": 3, "tokens": 5, "settle_s": 0.02, "window_s": 0.1, "every_s": 0.02},
            {"chat → SSE, stored": Target("growth_percent", 3.0), "chat → WebSocket": Target("growth_percent", 3.0)},
            asked=True,
        ),
    )
}
