"""WebSocket frames, out and in."""

from __future__ import annotations

from typing import Any

import pytest

from bench.clients import frame
from bench.data import TOKENS, event_payloads
from relay.wire.websocket import Reader, text_frames


@pytest.mark.parametrize("events", [1, 64])
def test_text_frames(benchmark: Any, events: int) -> None:
    payloads = event_payloads()
    batches = [payloads[at : at + events] for at in range(0, TOKENS, events)]
    assert sum(benchmark(lambda: [len(text_frames(batch)) for batch in batches])) == 2 * TOKENS


@pytest.mark.parametrize("size", [100, 10_000, 1_000_000])
def test_read(benchmark: Any, size: int) -> None:
    message = frame(b'{"input":"%b"}' % (b"x" * size))
    pieces = [message[at : at + 65_536] for at in range(0, len(message), 65_536)]

    def read() -> list[Any]:
        reader = Reader(1 << 24)
        return [event for piece in pieces for event in reader.feed(piece)]

    assert len(benchmark(read)) == 1
