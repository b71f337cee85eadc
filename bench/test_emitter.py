"""A thousand tokens told to the emitter, into each sink."""

from __future__ import annotations

from typing import Any

import pytest

from bench.data import SINKS, TOKENS, emitter, event_payloads, request, words


@pytest.mark.parametrize("sink", SINKS)
def test_text(benchmark: Any, sink: str) -> None:
    asked = request(100)
    tokens = words()

    def tell() -> Any:
        out = SINKS[sink]()
        told = emitter(asked, out)
        voice = told.voice({})
        voice.begin()
        for token in tokens:
            voice.text(token)
            out.take()
        response = told.conclude("completed")
        told.terminal()
        return response

    assert benchmark(tell)["output"][0]["content"][0]["text"] == "".join(tokens)


@pytest.mark.parametrize("events", [1, 64])
@pytest.mark.parametrize("sink", ["sse", "socket"])
def test_sink(benchmark: Any, sink: str, events: int) -> None:
    payloads = event_payloads()
    name = b"response.output_text.delta"

    def write() -> int:
        out = SINKS[sink]()
        taken = 0
        for at in range(0, TOKENS, events):
            for payload in payloads[at : at + events]:
                out.write(name, payload)
            taken += len(out.take())
        return taken

    assert benchmark(write) >= TOKENS
