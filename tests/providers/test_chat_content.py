"""Nothing that a chat/completions server says vanishes or comes twice: decision 49, and citations beside the text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.providers.base import Done
from relay.providers.chat_citations import SOURCES_LIMIT
from relay.providers.chat_stream import Context
from tests.providers.chat_support import Heard, Json, chunk, hear, stream
from tests.support import assert_linear


def whole(choice: Json, **top: Any) -> Heard:
    return hear({"object": "chat.completion", "choices": [{"index": 0, "finish_reason": "stop", **choice}], **top})


def heard(*choices: Any, **options: Any) -> Heard:
    """A stream of chunks with these choices (or whole chunks, where they have ``choices``), and the end."""
    chunks = [one if "choices" in one else {"choices": [{"index": 0, "finish_reason": None, **one}]} for one in choices]
    return hear([stream(*chunks, chunk(finish="stop"))], **options)


def both(message: Json, delta: Any) -> Json:
    return {"message": {"role": "assistant", **message}, "delta": delta}


SILENT: list[Any] = [{"role": "assistant", "content": ""}, {}, None, {"content": None, "tool_calls": []}]
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}


# --- message and delta


@pytest.mark.parametrize("delta", [*SILENT, {"content": "Hel"}])
def test_in_a_body_the_message_wins(delta: Any) -> None:
    found = whole(both({"content": "Hello.", "tool_calls": [CALL]}, delta))
    assert found.text == "Hello."
    assert [item["type"] for item in found.output] == ["message", "function_call"]


@pytest.mark.parametrize("message", [{"content": ""}, {"content": None}, {}])
def test_in_a_body_a_message_that_says_nothing_loses(message: Json) -> None:
    assert whole(both(message, {"content": "Hello."})).text == "Hello."
    assert whole({"delta": {"content": "Hello."}}).text == "Hello."
    assert whole({"message": None, "delta": {"content": "Hello."}}).text == "Hello."


def test_a_message_that_repeats_all_deltas_adds_nothing() -> None:
    steps = [("Hel", "Hel"), ("Hello", "lo"), ("Hello.", "."), ("Hello.", "")]
    assert (
        heard(*(both({"content": told}, {"role": "assistant", "content": new}) for told, new in steps)).text == "Hello."
    )


@pytest.mark.parametrize("silent", SILENT)
def test_messages_that_grow_beside_empty_deltas_are_told_once(silent: Any) -> None:
    found = heard(*(both({"content": told}, silent) for told in ("Hel", "Hello", "Hello", "Hello.")))
    assert found.text == "Hello."
    assert [event["delta"] for event in found.of("output_text.delta")] == ["Hel", "lo", "."]


def test_what_the_last_message_has_beyond_the_deltas_is_told() -> None:
    found = heard({"delta": {"content": "Hel"}}, both({"content": "Hello", "tool_calls": [CALL]}, {"content": ""}))
    assert [item["type"] for item in found.output] == ["message", "function_call"]
    assert found.text == "Hello"
    found = heard({"delta": {"reasoning_content": "hm"}}, {"message": {"reasoning_content": "hm", "content": "Hello"}})
    assert [item["type"] for item in found.output] == ["reasoning", "message"]
    assert found.text == "Hello"


def test_calls_that_were_told_are_not_told_again_by_the_message() -> None:
    call = {"index": 0, **CALL}
    found = heard({"delta": {"tool_calls": [call]}}, both({"content": "", "tool_calls": [{**CALL, "id": "b"}]}, {}))
    assert [item["type"] for item in found.output] == ["function_call"]


@pytest.mark.parametrize("told", ["Other text", "He", 7, None])
def test_a_message_that_says_it_otherwise_adds_nothing(told: Any) -> None:
    assert heard({"delta": {"content": "Hello"}}, both({"content": told}, {"content": ""})).text == "Hello"


def test_text_that_is_closed_is_not_told_again() -> None:
    parts = [{"delta": {"content": "Hello"}}, {"delta": {"reasoning_content": "hm"}}]
    assert heard(*parts, both({"content": "Hello"}, {"content": ""})).text == "Hello"


def test_with_tags_only_a_first_message_counts() -> None:
    context = Context(think_tags=True)
    text = "<think>hm</think>Hello"
    assert heard(both({"content": text}, {}), both({"content": text}, {}), context=context).text == "Hello"


def test_growing_messages_cost_what_their_bytes_cost() -> None:
    def told(count: int) -> None:
        size = 200_000 // count
        growing = [both({"content": "a" * size * (at + 1)}, {"content": ""}) for at in range(count)]
        assert len(heard(*growing, check=False).text) == size * count

    told(2)
    assert_linear(told, 40)


def test_a_reason_that_is_told_twice_ends_once() -> None:
    assert heard({"delta": {"content": "x"}, "finish_reason": "stop"}, chunk(finish="stop")).done == Done("completed")


# --- content that is no text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"name": "Ada", "age": 36}, '{"name":"Ada","age":36}'),
        ({"type": "text", "text": "x"}, '{"type":"text","text":"x"}'),
        ([{"name": "Ada"}], '[{"name":"Ada"}]'),
        ([1, 2], "[1,2]"),
        (["a", "b"], '["a","b"]'),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        ([{"text": "a"}, {"type": "reference"}], "a"),
        ({}, ""),
        ([], ""),
    ],
)
def test_content_that_is_an_object_is_its_json(content: Any, text: str) -> None:
    found = whole({"message": {"role": "assistant", "content": content}})
    assert found.text == text
    assert found.done == Done("completed")
    assert heard({"delta": {"content": content}}, {"delta": {"content": content}}).text == text * 2


# --- events without data


@pytest.mark.parametrize(
    "blank", [b"data: \n\n", b"data:\n\n", b"data:  \n\n", b"event: message\ndata: \n\n", b"data\n\n"]
)
def test_events_without_data_are_ignored(blank: bytes) -> None:
    pieces = [
        blank,
        stream(chunk({"content": "Hel"}), blank, blank, chunk({"content": "lo."}), blank, chunk(finish="stop")),
    ]
    found = hear(pieces)
    assert (found.text, found.done) == ("Hello.", Done("completed"))
    assert not hear([blank]).started


def test_an_error_without_data_is_an_error() -> None:
    found = hear([stream(chunk({"content": "Hel"}), b"event: error\ndata: \n\n")])
    assert found.error is not None


# --- citations


A, B, C = "https://example.com/a", "https://example.com/b", "https://example.com/c"


def cited(found: Heard) -> list[tuple[str, str, str]]:
    """(url, title, the text that it is marked at) of each annotation."""
    parts = [part for item in found.items("message") for part in item["content"]]
    assert all(note["type"] == "url_citation" for part in parts for note in part["annotations"])
    return [
        (note["url"], note["title"], part["text"][note["start_index"] : note["end_index"]])
        for part in parts
        for note in part["annotations"]
    ]


SOURCES: list[tuple[Json, list[tuple[str, str, str]]]] = [
    ({"citations": [A]}, [(A, "", "[1]")]),
    ({"citations": [A], "search_results": [{"title": "T", "url": A}]}, [(A, "T", "[1]")]),
    ({"search_results": [{"title": "T", "url": A, "date": None}, {"url": B}]}, [(A, "T", "[1]"), (B, "", "[2]")]),
    (
        {"citations": [A, B, C], "search_results": [{"title": "T", "url": B}]},
        [(A, "", "[1]"), (B, "T", "[2]"), (C, "", "")],
    ),
    ({"citations": [A, A], "search_results": [{"title": "T", "url": B}]}, [(A, "", "[1]"), (B, "T", "[2]")]),
    ({"citations": [{"url": A, "title": "T"}, 7, {"title": "none"}, None]}, [(A, "T", "[1]")]),
    ({"citations": 7, "search_results": {}}, []),
    ({"citations": []}, []),
]


@pytest.mark.parametrize(("sources", "expected"), SOURCES)
@pytest.mark.parametrize("place", ["all", "first", "middle", "last"])
def test_sources_become_citations(sources: Json, expected: list[tuple[str, str, str]], place: str) -> None:
    chunks = [
        chunk({"content": "Hello.[1]"}),
        chunk({"content": " More.[2]"}),
        chunk({"content": "!"}),
        chunk(finish="stop"),
    ]
    for at, one in enumerate(chunks):
        if place == "all" or at == {"first": 0, "middle": 1, "last": 3}[place]:
            one.update(sources)
    found = hear([stream(*chunks)])
    assert cited(found) == expected
    assert hear([b"".join(stream(one, done=False) for one in chunks)]).output == found.output
    assert cited(whole({"message": {"content": "Hello.[1] More.[2]!"}}, **sources)) == expected


def test_sources_that_are_annotations_too_are_told_once() -> None:
    note = {"type": "url_citation", "url_citation": {"url": A, "title": "T", "start_index": 0, "end_index": 5}}
    found = whole({"message": {"content": "Hello.[2]", "annotations": [note]}}, citations=[A, B])
    assert cited(found) == [(A, "T", "Hello"), (B, "", "[2]")]


def test_sources_without_text_are_left_out() -> None:
    assert hear([stream(chunk({"role": "assistant"}, citations=[A]), chunk(finish="stop"))]).output == []


def test_sources_are_bounded_and_linear() -> None:
    many = [f"https://example.com/{number}" for number in range(2 * SOURCES_LIMIT)]
    assert len(cited(whole({"message": {"content": "x"}}, citations=many))) == SOURCES_LIMIT

    def marked(count: int) -> None:
        body = {"choices": [{"message": {"content": "[1]" * count}, "finish_reason": "stop"}], "citations": many}
        hear(json.loads(json.dumps(body)), check=False)

    assert_linear(marked, 100_000)


# --- other shapes


@pytest.mark.parametrize(("content", "text"), [(42, "42"), (True, "true"), (1.5, "1.5")])
def test_an_answer_that_is_a_scalar_is_its_json(content: Any, text: str) -> None:
    assert whole({"message": {"content": content}}).text == text
    assert heard({"delta": {"role": "assistant", "content": content}}).text == text


@pytest.mark.parametrize("beside", [{}, {"delta": None}, {"delta": {}}, {"message": None}])
def test_text_where_completions_have_it_is_said(beside: Json) -> None:
    """A server that answers as /v1/completions does (platform.openai.com, the legacy Completion object)."""
    assert whole({"text": "Hello.", **beside}).text == "Hello."
    assert heard({"text": "Hel", **beside}, {"text": "lo.", **beside}).text == "Hello."
    assert heard({"delta": {"content": "Hello."}, "text": "Hello."}).text == "Hello."
