"""The small parts of the protocol: envelope, unwrapping, sinks, JSON in the wild."""

from __future__ import annotations

import base64
import json
import threading
from functools import partial

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import KINDS, RelayError
from relay.responses.envelope import Envelope, seal, unseal
from relay.responses.json import loads, mended, mended_text
from relay.responses.sinks import NullSink, SocketSink, SSESink
from relay.responses.unwrap import InputUnwrapper
from tests.support import assert_linear

TEXT = st.text(st.characters(codec="utf-8"))

# --- envelope


@given(TEXT, TEXT, st.lists(TEXT, max_size=4))
def test_what_is_sealed_is_unsealed(family: str, model: str, blocks: list[str]) -> None:
    sealed = seal(family, model, blocks)
    assert sealed.startswith("relay1.")
    assert unseal(sealed) == Envelope(family, model, tuple(blocks))


def test_blocks_keep_their_source_text() -> None:
    source = '{"type": "thinking",  "thinking":"\\u00e9\\/", "signature":"a=="}'
    envelope = unseal(seal("anthropic", "claude", [source]))
    assert envelope is not None
    assert envelope.blocks == (source,)


def test_lone_surrogates_are_mended_before_they_are_sealed() -> None:
    assert unseal(seal("a", "m\ud800", ["b\udc00"])) == Envelope("a", "m\ufffd", ("b\ufffd",))


def _encoded(content: object) -> str:
    return "relay1." + base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    [
        None,
        5,
        "",
        "gAAAAABo",
        "relay1.",
        "relay1.!!!",
        "relay1.é",
        "relay1.e30",
        "relay2." + seal("a", "b", ["c"])[7:],
        seal("a", "b", ["c"])[:-4],
        _encoded({"v": 2, "f": "a", "m": "b", "b": ["c"], "c": 0}),
        _encoded({"v": 1, "f": "a", "m": "b", "b": ["c"], "c": 0}),
        _encoded({"v": 1, "f": "a", "m": "b", "b": [5], "c": 0}),
        _encoded([1]),
    ],
)
def test_what_is_not_ours_is_foreign(text: object) -> None:
    assert unseal(text) is None


# --- unwrapping


@given(TEXT, st.data())
def test_any_split_of_any_input_unwraps(text: str, draw: st.DataObject) -> None:
    spaces = draw.draw(st.sampled_from(["", " ", "\n\t"]))
    ascii_only = draw.draw(st.booleans())
    arguments = f'{spaces}{{{spaces}"input"{spaces}:{spaces}{json.dumps(text, ensure_ascii=ascii_only)}{spaces}}}'
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(arguments)), max_size=6)))
    unwrapper = InputUnwrapper()
    pieces = [unwrapper.feed(arguments[a:b]) for a, b in zip([0, *cuts], [*cuts, len(arguments)], strict=True)]
    pieces.append(unwrapper.close())
    assert "".join(pieces) == text
    assert not any("\ud800" <= character <= "\udfff" for piece in pieces for character in piece)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", ""),
        ("   ", "   "),
        ("*** Begin Patch", "*** Begin Patch"),
        ('{"inputs": "x"}', '{"inputs": "x"}'),
        ('{"other": 1, "input": "x"}', "x"),
        ('{"input": 5}', '{"input": 5}'),
        ('"just text"', "just text"),
        ("[1]", "[1]"),
        ('{"input": "cut', "cut"),
        ('{"input": "cut\\', "cut"),
        ('{"input": "a\\ud83d', "a\ufffd"),
        ('{"input": "\\ud83dx"}', "\ufffdx"),
        ('{"input": "\\ud83d"}', "\ufffd"),
        ('{"input": "\\ud83d\\ud83d\\ude00"}', "\ufffd😀"),
        ('{"input": "\\ude00"}', "\ufffd"),
        ('{"input": "\\uzzzz"}', "uzzzz"),
        ('{"input": "\\q"}', "q"),
        ('{"input": "\\ud83d\\n"}', "\ufffd\n"),
        ('{"input": "a"} trailing', "a"),
    ],
)
def test_odd_arguments(arguments: str, expected: str) -> None:
    for size in (1, 1000):
        unwrapper = InputUnwrapper()
        pieces = [unwrapper.feed(arguments[at : at + size]) for at in range(0, len(arguments), size)]
        assert "".join(pieces) + unwrapper.close() == expected
        assert unwrapper.feed("") == ""


def test_unwrapping_is_linear_in_raw_and_wrapped_arguments() -> None:
    def unwrap(head: str, fragment: str, size: int) -> None:
        unwrapper = InputUnwrapper()
        unwrapper.feed(head)
        for _ in range(size):
            unwrapper.feed(fragment)
        unwrapper.close()

    openings = ['{"input"'[:size] for size in (0, 1, 8)] + ['{"input":']
    for head, fragment in [('{"input": "', "x"), ("raw", "x"), *((head, " ") for head in openings)]:
        assert_linear(partial(unwrap, head, fragment), 50_000)


def test_blanks_in_fragments_are_none_of_the_input() -> None:
    unwrapper = InputUnwrapper()
    pieces = [*"  {", "\n" * 3, '"inp', "", 'ut"', "\t", ":", "  ", ' "a', "b c", '"']
    assert "".join(map(unwrapper.feed, pieces)) + unwrapper.close() == "ab c"
    other = InputUnwrapper()
    pieces = [*"  {", "\n", '"in', " ", 'put": "a"}']
    assert "".join(map(other.feed, pieces)) + other.close() == "".join(pieces), "a name with a blank in it is another"


# --- sinks


def test_the_sse_sink_frames_and_ends() -> None:
    sink = SSESink()
    assert sink.take() == b""
    sink.write(b"a", b"{}")
    assert sink.take() == b"event: a\ndata: {}\n\n"
    sink.write(b"a", b"{}")
    sink.end()
    assert sink.take() == b"event: a\ndata: {}\n\ndata: [DONE]\n\n"


def test_the_socket_sink_adds_the_lane() -> None:
    sink = SocketSink()
    assert sink.take() == []
    sink.write(b"a", b'{"type":"a"}')
    sink.end()
    assert sink.take() == [b'{"type":"a"}']
    assert sink.take() == []
    sink = SocketSink(b'"lane"')
    sink.write(b"a", b'{"type":"a"}')
    assert [orjson.loads(text) for text in sink.take()] == [{"stream_id": "lane", "type": "a"}]


@pytest.mark.parametrize("sink", [SSESink(), SocketSink()], ids=["SSE", "socket"])
def test_nothing_is_lost_that_another_thread_writes(sink: SSESink | SocketSink) -> None:
    def write() -> None:
        for number in range(20_000):
            sink.write(b"a", b'{"n":%d}' % number)

    thread = threading.Thread(target=write)
    thread.start()
    taken: list[bytes] = []
    while thread.is_alive():
        taken += sink.take_all()
    taken += sink.take_all()
    assert [int(one.split(b'"n":')[1].split(b"}")[0]) for one in taken] == list(range(20_000))
    assert sink.take_all() == []


def test_the_null_sink_keeps_nothing() -> None:
    sink = NullSink()
    sink.write(b"a", b"{}")
    sink.end()
    assert sink.take() == b""


# --- JSON


def test_lone_surrogates_are_read() -> None:
    assert loads(b'{"a": "\\ud83d"}') == {"a": "\ud83d"}
    assert loads('"\\ud83d"') == "\ud83d"


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"nope", b"[" * 100_000])
def test_what_is_no_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        loads(data)


def test_mending() -> None:
    assert mended_text("\ud83d\ude00 \ud83d") == "😀 \ufffd"
    assert mended({"\ud83d": ["\ude00", 1, None, True]}) == {"\ufffd": ["\ufffd", 1, None, True]}


# --- errors


def test_every_kind_has_a_status_and_the_envelope_all_keys() -> None:
    for kind in KINDS:
        error = RelayError(kind, "m")
        assert 400 <= error.status < 600
        assert set(orjson.loads(error.body())["error"]) == {"message", "type", "param", "code"}
        assert error.socket_envelope()["error"]["code"]


def test_overrides_and_headers() -> None:
    error = RelayError(
        "rate_limited", "m", status=503, type="t", code="c", param="p", retry_after_s=1.2, headers=(("a", "b"),)
    )
    assert error.envelope() == {"error": {"message": "m", "type": "t", "param": "p", "code": "c"}}
    assert error.status == 503
    assert error.response_headers() == [("a", "b"), ("retry-after", "2"), ("retry-after-ms", "1200")]
    socket = error.socket_envelope("lane")
    assert socket["stream_id"] == "lane"
    assert socket["headers"] == socket["error"]["headers"] == {"a": "b", "retry-after": "2", "retry-after-ms": "1200"}
    assert socket["status"] == 503


def test_stream_errors_are_codes_that_clients_know() -> None:
    assert RelayError("upstream_bad_response", "m").stream_error() == {"code": "server_error", "message": "m"}
    assert RelayError("overloaded", "m").stream_error()["code"] == "server_is_overloaded"
    assert RelayError("rate_limited", "m").stream_error()["message"] == "m"
    said = RelayError("rate_limited", "Please try again in 3s.", retry_after_s=3).stream_error()["message"]
    assert said == "Please try again in 3s."


def test_a_run_of_literals_is_framed_by_each_sink() -> None:
    run = (b"x", b'{"type":"x","delta":', [b"a", b"\\n"], b',"sequence_number":', 7)
    payloads = [b'{"type":"x","delta":"a","sequence_number":7}', b'{"type":"x","delta":"\\n","sequence_number":8}']
    sse, plain, laned = SSESink(), SocketSink(), SocketSink(b'"l"')
    for sink in (sse, plain, laned, NullSink()):
        sink.write_run(*run)
    assert sse.take() == b"".join(b"event: x\ndata: %b\n\n" % payload for payload in payloads)
    assert plain.take() == payloads
    assert [orjson.loads(text) for text in laned.take()] == [{**orjson.loads(p), "stream_id": "l"} for p in payloads]
