"""Splicing gives what parsing gives, or nothing at all."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.providers.splice import TRIES_LIMIT, Splice
from relay.wire.sse import Decoder

KEY = b'"content"'


def event(text: str, name: str | None = None, **style: object) -> bytes:
    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    lead = f"event: {name}\n" if name else ""
    return f"{lead}data: {json.dumps(chunk, **style)}\n\n".encode()  # type: ignore[arg-type]


COMPACT = {"separators": (",", ":"), "ensure_ascii": False}
SPACED = {"ensure_ascii": False}
STYLES = st.sampled_from([COMPACT, SPACED])


def learned(source: bytes, text: str) -> Splice:
    splice = Splice()
    ((name, data),) = Decoder().feed(source)
    splice.learn(name, data, KEY, text)
    return splice


@given(
    first=st.text(st.characters(codec="utf-8"), min_size=1),
    texts=st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=5),
    style=STYLES,
    name=st.sampled_from([None, "delta"]),
)
def test_what_is_cut_out_is_what_a_parser_reads(
    first: str, texts: list[str], style: dict[str, object], name: str | None
) -> None:
    splice = learned(event("plain" + first.replace("\\", "").replace('"', ""), name, **style), "plain" + first)
    splice = splice if splice.ready else learned(event("plain", name, **style), "plain")
    assert splice.ready
    block = b"".join(event(text, name, **style) for text in texts)
    literals = splice.literals(block)
    if literals is not None:
        said = [text for text in texts if text]
        assert [orjson.loads(b'"' + literal + b'"') for literal in literals] == said
        assert [b'"' + literal + b'"' for literal in literals] == [orjson.dumps(text) for text in said]


def test_several_events_and_their_escapes() -> None:
    splice = learned(event("Hello", **COMPACT), "Hello")
    block = b"".join(event(text, **COMPACT) for text in ("a", 'say "x"\n', "tab\t\\", "Zürich 😀", ""))
    assert splice.literals(block) == [b"a", b'say \\"x\\"\\n', b"tab\\t\\\\", "Zürich 😀".encode()]


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"data: [DONE]\n\n",
        event("x", **SPACED),
        event("x", "named", **COMPACT),
        event("x", **COMPACT) + b"data: [DONE]\n\n",
        b": ping\n\n" + event("x", **COMPACT),
        event("x", **COMPACT)[:-2],
        event("x", **COMPACT).replace(b"null", b'"stop"'),
        event("x", **COMPACT).replace(b'"x"', b'"x\\u00e9"'),
        event("x", **COMPACT).replace(b'"x"', b'"x\\/"'),
        event("x", **COMPACT).replace(b'"x"', b'"x\\ud83d"'),
        event("x", **COMPACT).replace(b'"x"', b'"x\x01"'),
        event("x", **COMPACT).replace(b'"x"', b'"x\xff"'),
        event("x", **COMPACT).replace(b'"x"', b'"x","role":"y"'),
        event("x", **COMPACT).replace(b'"x"', b'"x\\"'),
        event("x", **COMPACT).replace(b'"x"', b'"x\ny"'),
        event("x", **COMPACT) + event("x", **COMPACT).replace(b'"x"', b'"x\ny"'),
        event("x", **COMPACT).replace(b'"x"', b'"x\\') + event("n", **COMPACT),
    ],
)
def test_whatever_else_is_left_to_the_parser(block: bytes) -> None:
    splice = learned(event("Hello", **COMPACT), "Hello")
    assert splice.ready
    assert splice.literals(block) is None


def test_a_block_as_long_as_its_frame_is_no_event() -> None:
    splice = Splice()
    splice.learn(None, b'{"content":"aa"}', KEY, "aa")
    assert splice.literals(b'data: {"content":"}\n\n') is None
    assert splice.literals(b'data: {"content":""}\n\n') == []


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"other":"x"}', "x"),
        (b'{"content":"x","b":{"content":"x"}}', "x"),
        (b'{"\\u0061":1,"content":"x"}', "x"),
        (b'{"content":"x","a":"\\n"}', "x"),
        (b'{"content" :"x"}', "x"),
        (b'{"content":  "x"}', "x"),
        (b'{"content":"\\u0078"}', "x"),
        (b'{"content":"x",\n"a":1}', "x"),
        (b'{"content":null}', "x"),
        (b'{"content":"\\ud83d"}', "\ud83d"),
    ],
)
def test_what_cannot_be_learned(data: bytes, text: str) -> None:
    splice = Splice()
    splice.learn(None, data, KEY, text)
    assert not splice.ready


def test_learning_ends() -> None:
    splice = Splice()
    for number in range(TRIES_LIMIT):
        splice.learn(None, b'{"id":%d,"content":"x"}' % number, KEY, "x")
        assert splice.ready
    splice.learn(None, b'{"id":1,"content":"x"}', KEY, "x")
    assert not splice.ready
