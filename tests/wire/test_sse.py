"""The SSE decoder against the WHATWG rules: any split gives the same events, bounds hold, time is linear."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import RelayError
from relay.wire.sse import HEAVY_BYTES, WINDOW_BYTES, Decoder, Event, frame, piece, windows
from tests.support import assert_linear


def whole(data: bytes, limit_bytes: int = 1 << 20) -> list[Event]:
    decoder = Decoder(limit_bytes)
    return [*decoder.feed(data), *decoder.close()]


def pieces(data: bytes, size: int) -> list[Event]:
    decoder = Decoder()
    events: list[Event] = []
    for at in range(0, len(data), size):
        events += decoder.feed(data[at : at + size])
    return events + decoder.close()


# (bytes, events): by hand from the "event stream interpretation" section of WHATWG HTML and translation.md §3.3
CASES = {
    "one": (b"data: a\n\n", [(None, b"a")]),
    "no space": (b"data:a\n\n", [(None, b"a")]),
    "two spaces keep one": (b"data:  a\n\n", [(None, b" a")]),
    "named": (b"event: x\ndata: a\n\n", [(b"x", b"a")]),
    "name behind": (b"data: a\nevent: x\n\n", [(b"x", b"a")]),
    "lines": (b"data: a\ndata: b\n\n", [(None, b"a\nb")]),
    "empty line of data": (b"data\ndata: b\n\n", [(None, b"\nb")]),
    "comment": (b": hi\n\ndata: a\n\n", [(None, b"a")]),
    "comment inside": (b"data: a\n: hi\ndata: b\n\n", [(None, b"a\nb")]),
    "name without data": (b"event: x\n\ndata: a\n\n", [(None, b"a")]),
    "id and retry": (b"id: 1\nretry: 2\ndata: a\n\n", [(None, b"a")]),
    "CRLF": (b"event: x\r\ndata: a\r\n\r\n", [(b"x", b"a")]),
    "CR": (b"event: x\rdata: a\r\r", [(b"x", b"a")]),
    "mixed ends": (b"data: a\r\n\ndata: b\n\r\n", [(None, b"a"), (None, b"b")]),
    "CR at the very end": (b"data: a\n\r", [(None, b"a")]),
    "three line feeds": (b"data: a\n\n\ndata: b\n\n\n\n", [(None, b"a"), (None, b"b")]),
    "no blank line at the end": (b"data: a\n\ndata: b", [(None, b"a"), (None, b"b")]),
    "byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [(None, b"a")]),
    "a mark later is data": (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [(None, b"a")]),
    "bare error line": (b'error: {"x":1}\n\n', [(b"error", b'{"x":1}')]),
    "unknown fields": (b"foo: bar\ndata: a\n\n", [(None, b"a")]),
    "emoji": ("data: 😀\n\n".encode(), [(None, "😀".encode())]),
    "nothing": (b"", []),
}


@pytest.mark.parametrize("name", CASES)
def test_every_split_gives_the_same_events(name: str) -> None:
    data, events = CASES[name]
    assert whole(data) == events
    for size in (1, 2, 3, 5, 7):
        assert pieces(data, size) == events, size
    for at in range(len(data)):
        decoder = Decoder()
        assert decoder.feed(data[:at]) + decoder.feed(data[at:]) + decoder.close() == events, at


@given(st.lists(st.tuples(st.sampled_from([None, b"a", b"b"]), st.text(max_size=20)), max_size=6), st.data())
def test_any_split_of_any_stream(events: list[tuple[bytes | None, str]], draw: st.DataObject) -> None:
    stream = b""
    expected = []
    for name, text in events:
        payload = text.replace("\r", "").replace("\n", "").encode("utf-8", "replace")
        stream += (b"event: " + name + b"\n" if name else b"") + b"data: " + payload + b"\n\n"
        expected.append((name, payload))
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder = Decoder()
    found: list[Event] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += decoder.feed(stream[start:end])
    assert found + decoder.close() == expected


def test_comments_and_stray_lines_are_kept_for_the_error_text() -> None:
    decoder = Decoder()
    assert decoder.feed(b": ping\n\n: ping\n\n<html>\n" + b"x" * 5000 + b"\n\n") == []
    assert decoder.comments == 2
    assert decoder.stray.startswith(b"<html>")
    assert len(decoder.stray) <= 4096
    decoder.feed(b"more\n\n")
    assert b"more" not in decoder.stray


@pytest.mark.parametrize(
    "data", [b"data: " + b"x" * 100 + b"\n\n", b"event: x\ndata: " + b"x" * 100 + b"\n\n", b"data: " + b"x" * 200]
)
def test_one_event_has_a_limit(data: bytes) -> None:
    with pytest.raises(RelayError, match="over 64 bytes") as caught:
        whole(data, 64)
    assert caught.value.kind == "upstream_bad_response"


def test_many_events_under_the_limit_pass() -> None:
    assert len(whole(b"data: x\n\n" * 100, 64)) == 100


def test_time_is_linear_in_one_event_that_comes_in_small_pieces() -> None:
    def cut(size: int) -> None:
        assert len(pieces(b"data: " + b"x" * size + b"\n\n", 64)) == 1

    assert_linear(cut, 1 << 20)


def test_frame() -> None:
    assert frame(b"x", b"{}") == b"event: x\ndata: {}\n\n"


def test_windows_are_whole_events_of_bounded_size() -> None:
    events = [b"data: %b\n\n" % (b"x" * size) for size in (1, 4000, 100, 4096, 4097, 20_000, 3, 1)]
    for count in range(len(events) + 1):
        block = b"".join(events[:count])
        found = list(windows(block))
        assert b"".join(found) == block
        assert all(piece.endswith(b"\n\n") for piece in found)
        assert all(piece.find(b"\n\n", WINDOW_BYTES) in (-1, len(piece) - 2) for piece in found)
    assert [len(piece) for piece in windows(b"".join(events))] == [4125, 4104, 4105, 20_008, 20]


def test_a_large_read_is_fed_in_whole_events() -> None:
    events = [b"data: %b\n\n" % (b"x" * size) for size in (1, 15_000, 100, 16_000, 3, 40_000, 1)]
    for data in (b"".join(events), b"".join(events).replace(b"\n", b"\r\n")):
        found, at = [], 0
        while at < len(data):
            found.append(piece(data, at))
            at += len(found[-1])
        assert b"".join(found) == data
        assert max(map(len, found)) <= 2 * HEAVY_BYTES
    block = b"".join(events)
    assert piece(block, 0).endswith(b"\n\n")
    assert len(piece(block, 31_200)) == HEAVY_BYTES, "inside an event that is larger"
    assert piece(b"data: x\n\n", 0) == b"data: x\n\n"


def test_the_beginning_of_a_large_event_is_known() -> None:
    decoder = Decoder()
    decoder.feed(b"data: 1\n\ndata: " + b"x" * HEAVY_BYTES)
    assert decoder.heavy
    decoder.feed(b"x")
    assert decoder.heavy
    assert len(decoder.feed(b"\n\ndata: 2\n\ndata: 3")) == 2
    assert not decoder.heavy
    assert decoder.feed(b"\n\n") == [(None, b"3")]
    assert not decoder.heavy


def test_unread_members_of_huge_events_are_cut_out_where_that_is_asked_for() -> None:
    data = b'event: a\ndata: {"junk":[%b],"delta":1}\n\ndata: 2\n\n' % b",".join([b"{}"] * 200_000)
    assert Decoder(thins=True).feed(data) == [(b"a", b'{"junk":null,"delta":1}'), (None, b"2")]
    assert len(Decoder().feed(data)[0][1]) > 600_000
