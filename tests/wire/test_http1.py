"""The rule table and the scanner, without sockets. Verdicts come from RFC 9112 and 9110, named at each case."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import RelayError
from relay.wire import http1
from relay.wire.http1 import CHUNK, RULES, Scanner, encode_head, split_target
from tests.server.breaches import BREACHES, SOUND

Outcome = tuple[list[bytes], bool, int] | tuple[str, str]


def scan(pieces: Iterable[bytes], *, head_limit: int = 32_768, body_limit: int = 1_000) -> Outcome:
    """The messages that came whole, whether the last one is complete, and what is left; or the refusal."""
    scanner = Scanner(head_limit, body_limit)
    messages: list[list[bytes]] = [[]]
    try:
        for data in pieces:
            scanner.feed(data)
            while (piece := scanner.take()) is not None or scanner.complete:
                messages[-1].append(piece or b"")
                if scanner.complete:
                    messages.append([])
                    scanner.next()
    except RelayError as error:
        return error.kind, error.message
    return [joined(b"".join(message)) for message in messages], scanner.started, scanner.waiting_bytes


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def passed(data: bytes) -> bytes:
    """What of a sound message goes on to a parser: all but an empty line before it; its chunks in one, no trailers."""
    data = data.removeprefix(b"\r\n")
    head, _, body = data.partition(b"\r\n\r\n")
    if not re.search(rb"(?i)\r\ntransfer-encoding:", head):
        return data
    whole = b""
    while size := int(re.match(rb"[0-9A-Fa-f]+", body)[0], 16):  # type: ignore[index]
        body = body.partition(b"\r\n")[2]
        whole += body[:size]
        body = body[size + 2 :]
    chunk = b"%x\r\n%b\r\n" % (len(whole), whole) if whole else b""
    return head + b"\r\n\r\n" + chunk + b"0\r\n\r\n"


def joined(message: bytes) -> bytes:
    """What was handed on, whole or not, with its chunks in one: where they are cut depends on how the bytes came."""
    head, end, body = message.partition(b"\r\n\r\n")
    if not re.search(rb"(?i)\r\ntransfer-encoding:", head):
        return message
    whole = b""
    while line := re.match(rb"([1-9a-f][0-9a-f]*)\r\n", body):
        at = line.end() + int(line[1], 16)
        whole += body[line.end() : at]
        body = body[at + 2 :]
    return head + end + (b"%x\r\n%b\r\n" % (len(whole), whole) if whole else b"") + body


@pytest.mark.parametrize("breach", BREACHES, ids=lambda breach: breach.name)
def test_a_breach_is_refused_however_it_is_split(breach) -> None:
    kind, message = breach.kind, f"The HTTP request has {breach.rule}."
    assert scan([breach.data]) == (kind, message)
    assert scan(bytewise(breach.data)) == (kind, message)
    for at in range(1, len(breach.data)):
        assert scan([breach.data[:at], breach.data[at:]]) == (kind, message)


def test_every_rule_has_a_breach() -> None:
    assert {rule.name for rule in RULES} <= {breach.rule for breach in BREACHES}


@pytest.mark.parametrize("data", SOUND.values(), ids=SOUND.keys())
def test_a_sound_message_passes_unchanged_however_it_is_split(data: bytes) -> None:
    expected = ([passed(data), b""], False, 0)
    assert scan([data]) == expected
    assert scan(bytewise(data)) == expected
    for at in range(1, len(data)):
        assert scan([data[:at], data[at:]]) == expected


def test_messages_are_cut_apart() -> None:
    every, expected = b"".join(SOUND.values()), [*(passed(data) for data in SOUND.values()), b""]
    assert scan([every]) == (expected, False, 0)
    assert scan(bytewise(every)) == (expected, False, 0)


# Fields and lines that are nearly right, so that the two ways of judging a head meet in the middle.
_LINES = st.sampled_from(
    [b"Host: a", b"A:", b"A: b", b" b", b"\tb", b"A : b", b"A\t: b", b": b", b"A", b"", b"A: b\rc", b"A: \x00",
     b"A: \x7f", b"A:\x0b", b"A: \xff", b"\xff: a", b"A: b\n", b"a b: c", b"A:b:c", b"\r", b"A:\t b \t"]
)  # fmt: skip
_START = st.sampled_from(
    [b"GET / HTTP/1.1", b"GET / HTTP/1.0", b"get / HTTP/1.1", b"GET /", b"GET  / HTTP/1.1", b"GET / HTTP/1.2",
     b"GET / HTTP/2.0", b"GET * HTTP/1.1", b"GET http://a/b HTTP/1.1", b"GET a HTTP/1.1", b"GET /\x01 HTTP/1.1",
     b"GET /\xff HTTP/1.1", b"GET /a#b HTTP/1.1", b"G(T / HTTP/1.1", b"GET /\tHTTP/1.1", b" GET / HTTP/1.1", b""]
)  # fmt: skip


@given(_START, st.lists(_LINES, max_size=4), st.binary(max_size=3), st.integers(0, 40))
@settings(max_examples=2_000, deadline=None)
def test_the_fast_judgement_of_a_head_is_the_table_s(start: bytes, lines: list[bytes], noise: bytes, at: int) -> None:
    head = b"\r\n".join([start, *lines])
    head = head[:at] + noise + head[at:] + b"\r\n\r\n"
    head = head[: head.index(b"\r\n\r\n") + 4]
    broken = [rule.name for rule in RULES if "l" in rule.places and re.search(rule.pattern, head)]
    assert (http1._SOUND_HEAD(head) is not None) == (not broken)


@given(st.binary(max_size=60), st.lists(st.integers(0, 300), max_size=6))
@settings(max_examples=500, deadline=None)
def test_any_split_of_anything_gives_the_same(noise: bytes, cuts: list[int]) -> None:
    for base in SOUND.values():
        at = (cuts[0] if cuts else 0) % len(base)
        data = base[:at] + noise + base[at:]
        ends = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
        split = scan(data[start:end] for start, end in pairwise(ends))
        whole = scan([data])
        # A bare line end is seen early where bytes come apart, and by then another rule may be broken as well.
        assert split == whole or (isinstance(whole[0], str) and isinstance(split[0], str))


def test_the_head_limit() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nA: %b\r\n\r\n"
    fits = head % (b"x" * (200 - len(head) + 2))
    assert len(fits) == 200
    assert scan([fits], head_limit=200) == ([fits, b""], False, 0)
    for pieces in ([fits], bytewise(fits)):
        assert scan(pieces, head_limit=199)[0] == "headers_too_large"
    assert scan([b"GET /" + b"a" * 200], head_limit=200)[0] == "headers_too_large"


def test_the_body_limit() -> None:
    sized = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert scan([sized % 1_000])[1] is True
    assert scan([sized % 1_001])[0] == "request_too_large"
    assert scan([chunked + b"3e8\r\n"])[1] is True
    assert scan([chunked + b"3e9\r\n"])[0] == "request_too_large"
    assert scan([chunked + b"3e8\r\n" + b"x" * 1_000 + b"\r\n1\r\n"])[0] == "request_too_large"
    assert scan([chunked + b"ffffffffffffffff\r\n"])[0] == "request_too_large"


def test_chunk_lines_and_trailers_are_bounded() -> None:
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert scan([chunked + b"1;" + b"a" * 1_100])[0] == "bad_request"
    assert scan(bytewise(chunked + b"1;" + b"a" * 1_100))[0] == "bad_request"
    many = chunked + b"1;a=%b\r\nx\r\n" % (b"b" * 900)
    assert scan([many + b"1;a=%b\r\nx\r\n" % (b"b" * 900) * 900])[1] is True
    assert "long extensions" in scan([many + b"1;a=%b\r\nx\r\n" % (b"b" * 900) * 1_200], body_limit=10_000)[1]
    assert scan([chunked + b"0\r\nA: " + b"b" * 300], head_limit=300)[0] == "headers_too_large"
    assert scan([chunked + b"0\r\nA: " + b"b" * 300 + b"\r\n\r\n"], head_limit=300)[0] == "headers_too_large"


def test_the_scanner_counts_the_body_without_its_framing() -> None:
    scanner = Scanner(1_000, 1_000)
    counts = []
    for data in bytewise(SOUND["chunks with extensions"]):
        scanner.feed(data)
        while scanner.take() is not None:
            pass
        counts.append(scanner.received_bytes)
    assert scanner.complete
    assert sorted(set(counts)) == [0, 1, 2, 3, 4]
    assert counts == sorted(counts)


CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("size", "chunks", "fine"),
    [
        (1, 100_000, True),  # anybody may send a little byte by byte
        (1, 220_000, False),  # 5 bytes of framing each: beyond 1 MiB
        (16, 200_000, True),
        (16, 400_000, False),
        (40, 300_000, True),  # 5 of 40 are an eighth
    ],
)
def test_framing_is_bounded_by_what_it_frames(size: int, chunks: int, fine: bool) -> None:
    """(A line of one or two digits, two CRLFs) × chunks against 1 MiB + an eighth of the data."""
    data = CHUNKED + (b"%x\r\n%b\r\n" % (size, b"x" * size)) * chunks + b"0\r\n\r\n"
    outcome = scan([data[at : at + 262_144] for at in range(0, len(data), 262_144)], body_limit=1 << 30)
    assert isinstance(outcome[0], list) is fine
    if not fine:
        assert outcome[1] == "The HTTP request comes in too many small chunks, or with long extensions."


def test_a_piece_costs_bounded_work() -> None:
    scanner = Scanner(1_000, 1 << 20)
    scanner.feed(CHUNKED + b"1\r\nx\r\n" * 2_500 + b"0\r\n\r\n")
    assert scanner.take() == CHUNKED
    pieces = []
    while (piece := scanner.take()) is not None:
        pieces.append((len(piece), scanner.behind))
    assert pieces == [(1_030, True), (1_031, True), (463, False), (2, False)]
    assert scanner.complete


def test_what_follows_an_upgrade_is_handed_out_unchecked() -> None:
    scanner = Scanner(1_000, 1_000)
    scanner.feed(SOUND["a request"] + b"\x81\x00\r")
    scanner.take()
    assert scanner.take() is None
    assert scanner.take_rest() == b"\x81\x00\r"
    assert scanner.waiting_bytes == 0


@pytest.mark.parametrize("split", [1, 7])
def test_time_is_linear_in_a_body_of_tiny_chunks(split: int) -> None:
    def seconds(chunks: int) -> float:
        data = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * chunks
        pieces = [data[at : at + split] for at in range(0, len(data), split)]
        best = float("inf")
        for _ in range(5):
            begin = time.process_time()
            scan(pieces, body_limit=1_000_000)
            best = min(best, time.process_time() - begin)
        return best

    assert seconds(8_000) < 6 * seconds(2_000) + 0.002  # linear: 4, quadratic: 16


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/", (b"/", b"", None)),
        (b"/a?b=c?d", (b"/a", b"b=c?d", None)),
        (b"http://h:1/a?b", (b"/a", b"b", b"h:1")),
        (b"HTTPS://h", (b"/", b"", b"h")),
        (b"http://h?q", (b"/", b"q", b"h")),
        (b"*", (b"*", b"", None)),
    ],
)
def test_targets(target: bytes, expected: tuple[bytes, bytes, bytes | None]) -> None:
    assert split_target(target) == expected


def test_a_response_head() -> None:
    assert encode_head(200, [(b"a", b"b"), (b"c", b"")]) == b"HTTP/1.1 200 OK\r\na: b\r\nc: \r\n\r\n"
    assert encode_head(204, []) == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert encode_head(599, []) == b"HTTP/1.1 599 \r\n\r\n"
    assert CHUNK % (26, b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"


@pytest.mark.parametrize("value", [b"a\rb", b"a\nb", b"a\x00b", b"a\r\nx: y", b"\r\n", b"\n"])
def test_a_response_header_cannot_be_split(value: bytes) -> None:
    for field in ((b"a", value), (value, b"a")):
        with pytest.raises(ValueError, match="CR, LF or NUL"):
            encode_head(200, [field])
