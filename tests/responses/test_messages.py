"""Chat ``messages`` as items: calls of every kind, and answers to them with and without an id (decision 10).

Source: platform.openai.com, chat/completions ``messages``; openai-python's ``ResponseInputItemParam``.
"""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.responses import ResponseInputItemParam
from pydantic import TypeAdapter

from relay.errors import RelayError
from relay.responses.items import pairing
from relay.responses.messages import from_messages
from relay.responses.request import parse
from tests.support import assert_linear

Json = dict[str, Any]
GO = {"role": "user", "content": "go"}
SDK: TypeAdapter[Any] = TypeAdapter(ResponseInputItemParam)


def called(**call: Any) -> Json:
    return {"role": "assistant", "content": None, "tool_calls": [call]}


ROUNDS: list[tuple[str, list[Json], list[Json]]] = [
    (
        "function",
        [
            called(id="c", type="function", function={"name": "f", "arguments": "{}"}),
            {"role": "tool", "tool_call_id": "c", "content": "r"},
        ],
        [
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "r"},
        ],
    ),
    (
        "arguments as an object",
        [
            called(id="c", function={"name": "f", "arguments": {"x": 1}}),
            {"role": "tool", "tool_call_id": "c", "content": None},
        ],
        [
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"x":1}'},
            {"type": "function_call_output", "call_id": "c", "output": ""},
        ],
    ),
    (
        "custom",
        [
            called(id="c", type="custom", custom={"name": "p", "input": "text"}),
            {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "r"}]},
        ],
        [
            {"type": "custom_tool_call", "call_id": "c", "name": "p", "input": "text"},
            {"type": "custom_tool_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "r"}]},
        ],
    ),
    (
        "the first API",
        [
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"x": 1}'}},
            {"role": "function", "name": "f", "content": "r"},
        ],
        [
            {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"x": 1}'},
            {"type": "function_call_output", "call_id": "call_1", "output": "r"},
        ],
    ),
    (
        "a tool's answer that only names it",
        [
            called(id="c", function={"name": "f"}),
            {"role": "tool", "name": "f", "content": "r"},
        ],
        [
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": ""},
            {"type": "function_call_output", "name": "f", "output": "r"},
        ],
    ),
    (
        "a tool's answer that says nothing of it",
        [
            called(id="c", function={"name": "f"}),
            {"role": "tool", "content": "r"},
        ],
        [
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": ""},
            {"type": "function_call_output", "output": "r"},
        ],
    ),
]


@pytest.mark.parametrize(("messages", "items"), [row[1:] for row in ROUNDS], ids=[row[0] for row in ROUNDS])
def test_a_call_and_its_answer(messages: list[Json], items: list[Json]) -> None:
    found = from_messages([GO, *messages])[1:]
    assert found == items
    assert pairing(found) == ({1: 0}, {})
    for item in found:
        SDK.validate_python(item)


@pytest.mark.parametrize("member", ["reasoning_content", "reasoning"])
def test_what_the_assistant_thought_stands_before_what_it_said(member: str) -> None:
    said = {**called(id="c", function={"name": "f", "arguments": "{}"}), "content": "so", member: "hm"}
    thought, *rest = from_messages([said])
    assert thought["content"] == [{"type": "reasoning_text", "text": "hm"}]
    SDK.validate_python(thought)
    assert [item["type"] for item in rest] == ["message", "function_call"]


@pytest.mark.parametrize("said", [{"reasoning": None}, {"reasoning": ""}, {"reasoning": {"effort": "low"}}])
def test_what_is_no_thought_is_none(said: Json) -> None:
    assert [item["type"] for item in from_messages([{"role": "assistant", "content": "so", **said}])] == ["message"]
    assert [item["type"] for item in from_messages([{**GO, "reasoning": "hm"}])] == ["message"]


def test_words_beside_a_call_are_a_message() -> None:
    said = {"role": "assistant", "content": "let me see", "function_call": {"name": "f", "arguments": "{}"}}
    assert [item["type"] for item in from_messages([said])] == ["message", "function_call"]
    twice = [said, {"role": "function", "name": "f", "content": "1"}] * 2
    ids = [item["call_id"] for item in from_messages(twice) if "call_id" in item]
    assert ids == ["call_0", "call_0", "call_2", "call_2"]


def test_an_answer_that_nobody_asked_for_is_an_orphan() -> None:
    (found,) = from_messages([{"role": "function", "name": "f", "content": "r"}])
    assert found == {"type": "function_call_output", "name": "f", "output": "r"}
    assert pairing([found]).orphans == {0: "it answers no open call ('')"}


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "assistant", "function_call": 5}, "messages[0].function_call"),
        ({"role": "assistant", "function_call": {"arguments": "{}"}}, "messages[0].function_call.name"),
        ({"role": "assistant", "tool_calls": [{"custom": {"name": "p"}}]}, "messages[0].tool_calls[0].call_id"),
        ({"role": "assistant", "tool_calls": [{"id": "c", "custom": {}}]}, "messages[0].tool_calls[0].name"),
        ({"role": "function", "name": "f", "content": 5}, "messages[0].output"),
        ({"role": "tool", "tool_call_id": 5, "content": "r"}, "messages[0].call_id"),
    ],
)
def test_what_makes_no_call_is_named(message: Json, param: str) -> None:
    with pytest.raises(RelayError) as caught:
        from_messages([message])
    assert caught.value.param == param


# --- outputs without an id


def call(name: str, identifier: str, namespace: str | None = None) -> Json:
    more = {"namespace": namespace} if namespace else {}
    return {"type": "function_call", "call_id": identifier, "name": name, "arguments": "{}", **more}


def answer(**members: Any) -> Json:
    return {"type": "function_call_output", "output": "r", **members}


A, B, C = call("f", "a"), call("g", "b"), call("f", "c")
UNNAMED: list[tuple[str, list[Json], dict[int, int], set[int]]] = [
    ("by name", [A, B, answer(name="g"), answer(name="f")], {2: 1, 3: 0}, set()),
    ("the oldest of a name", [A, C, answer(name="f"), answer(name="f")], {2: 0, 3: 1}, set()),
    ("by place", [A, B, answer(), answer()], {2: 0, 3: 1}, set()),
    ("beside one with an id", [A, B, answer(call_id="a"), answer()], {2: 0, 3: 1}, set()),
    ("the id first, then its name", [A, C, answer(call_id="a"), answer(name="f")], {2: 0, 3: 1}, set()),
    ("the name first, then the id", [A, C, answer(name="f"), answer(call_id="c")], {2: 0, 3: 1}, set()),
    ("of a namespace", [call("f", "a", "n"), A, answer(name="f", namespace="n")], {2: 0}, {1}),
    ("a flat name", [call("f", "a", "n"), answer(name="n__f")], {1: 0}, set()),
    ("of another name", [A, answer(name="g")], {}, {0, 1}),
    ("answered already", [A, answer(call_id="a"), answer(call_id="a"), answer(name="f"), answer()], {1: 0}, {2, 3, 4}),
    ("before its call", [answer(name="f"), A], {}, {0, 1}),
    ("an id that is null", [A, answer(call_id=None, name="f")], {1: 0}, set()),
]


@pytest.mark.parametrize(("items", "calls", "orphans"), [row[1:] for row in UNNAMED], ids=[row[0] for row in UNNAMED])
def test_outputs_without_an_id(items: list[Json], calls: dict[int, int], orphans: set[int]) -> None:
    found = pairing(items)
    assert (found.calls, set(found.orphans)) == (calls, orphans)


def test_pairing_by_name_is_linear() -> None:
    def work(count: int) -> None:
        pairing([*(call(f"f{n}", f"c{n}") for n in range(count)), *(answer(name=f"f{n}") for n in range(count))])

    assert_linear(work, 5_000)


# --- names of chat/completions before it is known who answers (decision 57)


def test_words_of_other_names_are_the_upstreams_to_judge() -> None:
    early = parse({"model": "m", "input": "hi", "reasoning_effort": "ultra", "verbosity": "chatty"}, judged=False)
    assert early.params == {"reasoning": {"effort": "ultra"}, "text": {"verbosity": "chatty"}}
    assert early.judged() is early
