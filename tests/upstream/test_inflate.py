"""Inflation, against what the standard library's compressors write."""

import gzip
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import RelayError
from relay.upstream.inflate import STEP_BYTES, Inflater, inflater_for


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


ENCODERS = {b"gzip": gzip.compress, b"X-GZIP": gzip.compress, b"deflate": zlib.compress}


def made(coding: bytes) -> Inflater:
    inflater = inflater_for(coding)
    assert inflater is not None
    return inflater


def inflated(inflater: Inflater, pieces: list[bytes]) -> bytes:
    output = b""
    for piece in pieces:
        inflater.feed(piece)
        while data := inflater.step():
            assert len(data) <= STEP_BYTES
            output += data
    inflater.close()
    return output


@pytest.mark.parametrize("coding", [*ENCODERS, b"deflate raw"])
@given(data=st.binary(max_size=2_000), cut=st.integers(1, 50))
def test_any_split_gives_the_same_bytes(coding: bytes, data: bytes, cut: int) -> None:
    encoded = raw_deflate(data) if coding == b"deflate raw" else ENCODERS[coding](data)
    pieces = [encoded[at : at + cut] for at in range(0, len(encoded), cut)]
    assert inflated(made(coding.split()[0]), pieces) == data


def test_members_follow_each_other() -> None:
    both = gzip.compress(b"one ") + gzip.compress(b"two")
    assert inflated(made(b"gzip"), [both]) == b"one two"
    assert inflated(made(b"gzip"), [both[:20], both[20:]]) == b"one two"


def test_a_flushed_event_comes_out_at_once() -> None:
    compressor = zlib.compressobj(wbits=31)
    inflater = made(b"gzip")
    for number in range(3):
        event = b"data: %d\n\n" % number
        inflater.feed(compressor.compress(event) + compressor.flush(zlib.Z_SYNC_FLUSH))
        assert inflater.step() == event
        assert inflater.step() == b""


def test_ordinary_large_bodies_pass() -> None:
    data = random.Random(1).randbytes(300_000) + b"abcdefghij" * 100_000
    assert inflated(made(b"gzip"), [gzip.compress(data)]) == data


def test_a_bomb_is_refused_long_before_it_is_inflated() -> None:
    inflater = made(b"gzip")
    bomb = gzip.compress(bytes(20_000_000))
    inflater.feed(bomb)
    pieces: list[bytes] = []
    with pytest.raises(RelayError, match="beyond measure") as caught:
        pieces.extend(iter(inflater.step, b""))
    assert caught.value.kind == "upstream_bad_response"
    assert sum(map(len, pieces)) <= 250 * len(bomb) < 6_000_000


@pytest.mark.parametrize("coding", [b"br", b"zstd", b"gzip, gzip", b"identity, gzip"])
def test_codings_that_are_unknown_or_stacked_are_refused(coding: bytes) -> None:
    with pytest.raises(RelayError) as caught:
        inflater_for(coding)
    assert caught.value.kind == "upstream_bad_response"


def test_identity_needs_none() -> None:
    assert inflater_for(None) is inflater_for(b"") is inflater_for(b" Identity ") is None


DAMAGED = {
    "not gzip": b"no gzip",
    "wrong checksum": gzip.compress(b"a" * 99)[:-8] + bytes(8),
    "junk behind": gzip.compress(b"a") + b"junk",
}


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=DAMAGED)
def test_damage_is_refused(damaged: bytes) -> None:
    with pytest.raises(RelayError) as caught:
        inflated(made(b"gzip"), [damaged])
    assert caught.value.kind == "upstream_bad_response"


def test_bytes_behind_deflate_are_refused() -> None:
    with pytest.raises(RelayError, match="damaged"):
        inflated(made(b"deflate"), [zlib.compress(b"a") + b"x"])


def test_a_cut_body_is_not_an_end() -> None:
    with pytest.raises(RelayError) as caught:
        inflated(made(b"gzip"), [gzip.compress(b"a" * 999)[:-9]])
    assert caught.value.kind == "upstream_ended_early"
