"""An upstream's bytes in, Responses events out, for every dialect of the registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from bench.data import DIALECTS, by_event, by_size, emitter, spoken
from relay.providers.registry import PROVIDERS
from relay.responses.sinks import SSESink

SHAPES: dict[str, tuple[str, Callable[[bytes], list[bytes]]]] = {
    "event-a-read": ("tokens", by_event),
    "16KiB-reads": ("tokens", by_size),
    "one-4MiB-event": ("event", by_size),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_translate(benchmark: Any, dialect: str, shape: str) -> None:
    size, split = SHAPES[shape]
    asked, call, stream = spoken(dialect, size)
    reads = split(stream)

    def translate() -> bytes:
        sink = SSESink()
        told = emitter(asked, sink)
        translator = PROVIDERS[dialect].translator(call, told.voice(call.tools))
        written = []
        for data in reads:
            translator.feed(data)
            written.append(sink.take())
        done = translator.close()
        told.conclude_with(done.response) if done.response is not None else told.conclude(done.status)
        told.terminal()
        written.append(sink.take())
        return b"".join(written)

    out = benchmark(translate)
    final = orjson.loads(out.split(b"event: response.completed\ndata: ")[1].split(b"\n\n")[0])
    assert final["response"]["output"][0]["content"][0]["text"] == asked.items[0]["content"][0]["text"]
