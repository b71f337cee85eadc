"""An emitter with counters in place of randomness and clock, and its events as a client reads them."""

from __future__ import annotations

import itertools
from typing import Any

from relay.responses.emitter import Emitter, Voice
from relay.responses.request import Request, parse
from relay.responses.response import template
from relay.responses.sinks import SSESink
from tests.oracle import parse_sse


class Told:
    """One response being told: ``voice`` to say it, ``events()`` to read it."""

    def __init__(self, body: dict[str, Any] | None = None, **options: Any) -> None:
        self.request: Request = parse({"model": "m", "input": "hi", **(body or {})})
        counter = itertools.count()
        self.sink = SSESink()
        self.emitter = Emitter(
            template(self.request, "resp_0", 1_700_000_000),
            self.sink,
            lambda prefix: f"{prefix}_{next(counter):024x}",
            lambda: 1_700_000_001,
            show_summary=self.request.show_summary,
            **options,
        )
        self.voice: Voice = self.emitter.voice(self.request.tools.by_key())

    def end(self, status: str = "completed", **why: Any) -> list[dict[str, Any]]:
        self.emitter.conclude(status, **why)
        self.emitter.terminal()
        return self.events()

    def events(self) -> list[dict[str, Any]]:
        return parse_sse(self.sink.take())


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """Types without their common prefix; runs of deltas counted once."""
    names = [event["type"].removeprefix("response.") for event in events]
    return [name for name, _ in itertools.groupby(names)]
