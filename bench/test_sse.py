"""Events cut out of a stream."""

from __future__ import annotations

from typing import Any

import pytest

from bench.data import LONG_BYTES, TOKENS, by_event, by_size, event_payloads
from relay.wire.sse import Decoder, frame

NAMED = b"".join(frame(b"response.output_text.delta", payload) for payload in event_payloads())
PLAIN = b"".join(b"data: %b\n\n" % payload for payload in event_payloads())
LONG = b'data: {"delta":"' + b"x" * LONG_BYTES + b'"}\n\n'


@pytest.mark.parametrize(
    ("reads", "events"),
    [
        pytest.param(by_event(PLAIN), TOKENS, id="plain-event-a-read"),
        pytest.param(by_event(NAMED), TOKENS, id="named-event-a-read"),
        pytest.param(by_size(PLAIN), TOKENS, id="plain-16KiB-reads"),
        pytest.param(by_size(NAMED), TOKENS, id="named-16KiB-reads"),
        pytest.param(by_size(NAMED.replace(b"\n", b"\r\n")), TOKENS, id="crlf-16KiB-reads"),
        pytest.param(by_size(LONG), 1, id="one-4MiB-event"),
    ],
)
def test_split(benchmark: Any, reads: list[bytes], events: int) -> None:
    def split() -> int:
        decoder = Decoder()
        return sum(len(decoder.feed(data)) for data in reads)

    assert benchmark(split) == events
