"""Which call a fragment belongs to: decision 48 over the ways in which servers write tool calls.

The sources are public threads; each row says which calls the model really made. Every row is also heard as one read
and byte by byte, and as the body that says the same where it has one.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.providers.chat_arguments import Arguments, Stage
from relay.providers.chat_stream import Context
from relay.responses.tools import Tool, tool_name
from tests.providers.chat_support import Heard, Json, chunk, hear, stream
from tests.support import assert_linear

X1, X2, Y3 = '{"x":"1"}', '{"x":"2"}', '{"y":3}'
LATE = "what came after the arguments of a whole tool call was left out"


def f(index: Any = ..., identifier: Any = ..., name: Any = ..., arguments: Any = ..., **more: Any) -> Json:
    """A fragment; what is ``...`` is not there."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not ...}
    members = {"index": index, "id": identifier, "function": function, **more}
    return {key: value for key, value in members.items() if value is not ...}


def heard(*deltas: Any, finish: str = "tool_calls", check: bool = True, **options: Any) -> Heard:
    """Each of ``deltas`` is a fragment in a chunk of its own, or a list of those of one chunk."""
    chunks = [chunk({"tool_calls": delta if isinstance(delta, list) else [delta]}) for delta in deltas]
    return hear([stream(*chunks, chunk(finish=finish))], check=check, **options)


def said(found: Heard) -> list[tuple[str, Any]]:
    return [(item["name"], json.loads(item["arguments"])) for item in found.items("function_call")]


def ids(found: Heard) -> list[str]:
    return [item["call_id"] for item in found.items("function_call")]


ONE = [("f", {"x": "1"})]
TWO = [("f", {"x": "1"}), ("f", {"x": "2"})]
OTHER = [("f", {"x": "1"}), ("g", {"y": 3})]

SERVERS: dict[str, tuple[list[Any], list[tuple[str, Any]]]] = {
    # one call
    "as OpenAI writes it": ([f(0, "a", "f", ""), f(0, ..., ..., '{"x":'), f(0, ..., ..., '"1"}')], ONE),
    "whole in one fragment": ([f(0, "a", "f", X1)], ONE),
    "the id drifts once (poolsideai/pool#9)": (
        [f(0, "a", "f", ""), f(0, "b", ..., '{"x":'), f(0, "b", ..., '"1"}')],
        ONE,
    ),
    "an id in every piece (BerriAI/litellm#28223)": (
        [f(0, "r1", "f", '{"x":'), f(0, "r2", "f", '"1"'), f(0, "r3", "f", "}")],
        ONE,
    ),
    "ids drift after the arguments": ([f(0, "a", "f", X1), f(0, "b", ..., ""), f(0, "c")], ONE),
    "opened under two ids (Avarok-Cybersecurity/atlas#33)": (
        [f(0, "a", "f", ""), f(0, "b", "f", ""), f(0, ..., ..., X1)],
        ONE,
    ),
    "no arguments, as null": ([f(0, "a", "f", "null")], [("f", {})]),
    "null ahead of the arguments": ([f(0, "a", "f", "null"), f(0, ..., ..., X1)], ONE),
    "an empty object in every piece (sibling of openai/openai-agents-js#712)": (
        [f(0, "a", "f", "{}"), f(0, "a", "f", X1), f(0, "a", "f", "{}"), f(0, "a", ..., "{}")],
        ONE,
    ),
    "no id at all": ([f(0, ..., "f", '{"x":'), f(0, ..., ..., '"1"}')], ONE),
    "an empty id": ([f(0, "", "f", ""), f(0, "", ..., X1)], ONE),
    "a null id": ([f(0, None, "f", ""), f(0, None, None, X1)], ONE),
    "an id that is no string": ([f(0, 7, "f", ""), f(0, [7], ..., X1)], ONE),
    "an id that comes late": ([f(0, ..., "f", '{"x":'), f(0, "a", ..., '"1"}')], ONE),
    "a name that comes late": ([f(0, "a", ..., '{"x":'), f(0, "a", "f", '"1"}')], ONE),
    "a name after the arguments": ([f(0, "a", ..., X1), f(0, "a", "f", "")], ONE),
    "empty names": ([f(0, "a", "f", ""), f(0, "a", "", '{"x":'), f(0, "a", "", '"1"}')], ONE),
    "null names": ([f(0, "a", "f", None), f(0, "a", None, X1)], ONE),
    "the name grows": ([f(0, "a", "g", ""), f(0, "a", "g_x", ""), f(0, ..., ..., X1)], [("g", {"x": "1"})]),
    "the name changes under its id": ([f(0, "a", "f", "{}"), f(0, "a", "g", X1)], ONE),
    "the name in every piece": ([f(0, "a", "f", '{"x":'), f(0, ..., "f", '"1"'), f(0, ..., "f", "}")], ONE),
    "the name again at the end (vllm-ascend#8178)": (
        [f(0, "a", "f", ""), f(0, "a", "f", X1), f(0, "a", "f", ""), f(0, ..., "f", "")],
        ONE,
    ),
    "no index": ([f(..., "a", "f", ""), f(..., ..., ..., '{"x":'), f(..., ..., ..., '"1"}')], ONE),
    "a null index": ([f(None, "a", "f", ""), f(None, "a", ..., '{"x":'), f(None, None, None, '"1"}')], ONE),
    "an index that is no number": ([f("0", "a", "f", ""), f("0", "a", ..., X1)], ONE),
    "an index that is not 0": ([f(3, "a", "f", ""), f(3, ..., ..., X1)], ONE),
    "no index, drifting ids": ([f(..., "a", "f", ""), f(..., "b", ..., '{"x":'), f(..., "c", "f", '"1"}')], ONE),
    "null arguments first": ([f(0, "a", "f", None), f(0, ..., ..., X1), f(0, ..., ..., None)], ONE),
    "empty arguments at the end": ([f(0, "a", "f", X1), f(0, ..., ..., ""), f(0)], ONE),
    "white space around": ([f(0, "a", "f", " "), f(0, ..., ..., "\n" + X1 + " "), f(0, ..., ..., "\n")], ONE),
    "told again under its id": ([f(0, "a", "f", X1), f(0, "a", "f", X1)], ONE),
    "told again in other words": ([f(0, "a", "f", X1), f(0, "a", "f", '{ "x" : "\\u0031" }')], ONE),
    "told again without a name": ([f(0, "a", "f", X1), f(0, "a", ..., X1)], ONE),
    "told again in pieces": ([f(0, "a", "f", X1), f(0, "a", "f", '{"x":'), f(0, "a", "f", '"1"}')], ONE),
    "announced and told again": ([f(0, "a", "f", X1), f(0, "a", "f", ""), f(0, ..., ..., X1)], ONE),
    # one call under several indexes (mudler/LocalAI#9722)
    "whole at two indexes": ([f(0, "a", "f", X1), f(1, "a", "f", X1)], ONE),
    "in pieces at the second index, too": (
        [f(0, "a", "f", X1), f(1, "a", "f", '{"x"'), f(1, "a", "f", ':"1"}'), f(2, "a", "f", X1)],
        ONE,
    ),
    "pieces spread over indexes": ([f(0, "a", "f", ""), f(1, "a", ..., '{"x":'), f(2, "a", ..., '"1"}')], ONE),
    "pieces with names spread over indexes": ([f(0, "a", "f", '{"x":'), f(1, "a", "f", '"1"}')], ONE),
    "announced at two indexes": ([f(0, "a", "f", ""), f(1, "a", "f", ""), f(1, "a", ..., X1)], ONE),
    "announced once more": ([f(0, "a", "f", X1), f(1, "a", "f", "")], ONE),
    "arguments at an index of their own": ([f(0, "a", "f", ""), f(1, ..., ..., X1)], ONE),
    # {} in front (openai/openai-agents-js#712)
    "{} first": ([f(0, "a", "f", "{}"), f(0, ..., ..., '{"x":'), f(0, ..., ..., '"1"}')], ONE),
    "{} first, name and id in each": ([f(0, "a", "f", "{}"), f(0, "a", "f", '{"x":'), f(0, "a", "f", '"1"}')], ONE),
    "{} first, without ids": ([f(0, ..., "f", "{}"), f(0, ..., "f", X1)], ONE),
    "{} first, then an id that drifts": ([f(0, "a", "f", "{}"), f(0, "b", ..., X1)], ONE),
    "{} twice": ([f(0, "a", "f", " {} "), f(0, "a", ..., "{ }"), f(0, "a", ..., ""), f(0, "a", ..., X1)], ONE),
    "{} and more in one piece": ([f(0, "a", "f", "{}" + X1)], ONE),
    "{} as an object first": ([f(0, "a", "f", {}), f(0, ..., ..., X1)], ONE),
    "{} first under another index": ([f(0, "a", "f", "{}"), f(1, ..., ..., X1)], ONE),
    "{} alone": ([f(0, "a", "f", "{}")], [("f", {})]),
    "{} alone, as an object": ([f(0, "a", "f", {}), f(0, "a", "f", ""), f(0)], [("f", {})]),
    "{} told twice": ([f(0, "a", "f", "{}"), f(1, "a", "f", "{}")], [("f", {})]),
    "no arguments": ([f(0, "a", "f", ""), f(0, "a", "f")], [("f", {})]),
    # objects in place of text
    "an object": ([f(0, "a", "f", {"x": "1"})], ONE),
    "an object after nothing": ([f(0, "a", "f", ""), f(0, ..., ..., {"x": "1"})], ONE),
    "an object that tells it again": ([f(0, "a", "f", X1), f(0, "a", "f", {"x": "1"})], ONE),
    # several calls
    "interleaved": (
        [
            [f(0, "a", "f", ""), f(1, "b", "g", "")],
            f(0, ..., ..., '{"x"'),
            f(1, ..., ..., '{"y"'),
            f(0, ..., ..., ':"1"}'),
            f(1, ..., ..., ":3}"),
        ],
        OTHER,
    ),
    "one id for two calls (HKUDS/nanobot#3943)": ([f(0, "c", "f", X1), f(1, "c", "g", Y3)], OTHER),
    "one id for two calls of one tool": ([f(0, "c", "f", X1), f(1, "c", "f", X2)], TWO),
    "one id, interleaved": ([f(0, "c", "f", ""), f(1, "c", "f", ""), f(0, ..., ..., X1), f(1, ..., ..., X2)], TWO),
    "one id and one index": ([f(0, "c", "f", X1), f(0, "c", "f", X2)], TWO),
    "one id and one index, two tools": ([f(0, "c", "f", X1), f(0, "c", "g", Y3)], OTHER),
    "one id, without and with arguments": ([f(0, "c", "f", "{}"), f(1, "c", "f", X1)], [("f", {}), *ONE]),
    "index 0 for all, ids of their own": ([f(0, "a", "f", X1), f(0, "b", "f", X2)], TWO),
    "index 0 for all, in one chunk": ([[f(0, "a", "f", X1), f(0, "b", "f", X2)]], TWO),
    "index 0 for all, no ids (huggingface/smolagents#1958)": ([f(0, ..., "f", X1), f(0, ..., "f", X2)], TWO),
    "index 0 for all, no ids, equal": ([f(0, ..., "f", X1), f(0, ..., "f", X1)], [*ONE, *ONE]),
    "index 0 for all, in pieces": (
        [f(0, "a", "f", ""), f(0, ..., ..., X1), f(0, "b", "g", ""), f(0, ..., ..., '{"y"'), f(0, ..., ..., ":3}")],
        OTHER,
    ),
    "index 0 for all, in pieces, no ids": (
        [f(0, ..., "f", ""), f(0, ..., ..., X1), f(0, ..., "g", ""), f(0, ..., ..., Y3)],
        OTHER,
    ),
    "index 0 for all, in pieces, no ids, one tool": (
        [f(0, ..., "f", ""), f(0, ..., ..., X1), f(0, ..., "f", ""), f(0, ..., ..., X2)],
        TWO,
    ),
    "index 0 for all, an id in every piece": (
        [f(0, "a", "f", '{"x":'), f(0, "a", "f", '"1"}'), f(0, "b", "g", '{"y"'), f(0, "b", "g", ":3}")],
        OTHER,
    ),
    "index 0 for all, the first without arguments": ([f(0, "a", "f", "{}"), f(0, "b", "f", X1)], [("f", {}), *ONE]),
    "index 0 for all, {} before each": (
        [f(0, "a", "f", "{}"), f(0, ..., ..., X1), f(0, "b", "g", "{}"), f(0, ..., ..., Y3)],
        OTHER,
    ),
    "index 0 for all, none has arguments": ([f(0, "a", "f", "{}"), f(0, "b", "g", "{}")], [("f", {}), ("g", {})]),
    "index 0 for all, no ids, none has arguments": ([f(0, ..., "f", "{}"), f(0, ..., "g", "")], [("f", {}), ("g", {})]),
    "index 0 for all, empty": ([f(0, "a", "f", ""), f(0, "b", "g", "")], [("f", {}), ("g", {})]),
    "cut by another call": ([f(0, "a", "f", X1), f(0, "b", "g", ""), f(0, "b", ..., Y3)], OTHER),
    "the tail under the next index (agno-agi/agno#8879)": (
        [f(0, "a", "f", X1), f(0, "b", "g", ""), f(1, ..., ..., '{"y"'), f(1, ..., ..., ":3}")],
        OTHER,
    ),
    "no index, ids": ([f(..., "a", "f", X1), f(..., "b", "f", X2)], TWO),
    "no index, ids, interleaved": (
        [
            f(..., "a", "f", ""),
            f(..., "b", "g", ""),
            f(..., "a", ..., X1),
            f(..., "b", ..., '{"y"'),
            f(..., "b", ..., ":3}"),
        ],
        OTHER,
    ),
    "no index, no ids": ([f(..., ..., "f", X1), f(..., ..., "f", X2)], TWO),
    "no index, several in a chunk": ([[f(..., "a", "f", X1), f(..., "b", "g", Y3)]], OTHER),
    "no index, several in each chunk": (
        [[f(..., "a", "f", ""), f(..., "b", "g", "")], [f(..., ..., ..., X1), f(..., ..., ..., Y3)]],
        OTHER,
    ),
    "no index, several in each chunk, in another order": (
        [[f(..., "a", "f", ""), f(..., "b", "g", "")], [f(..., "b", ..., Y3), f(..., "a", ..., X1)]],
        OTHER,
    ),
    "no index, no ids, several in each chunk": (
        [[f(..., ..., "f", X1), f(..., ..., "g", Y3)], [f(..., ..., "f", X2), "odd"]],
        [*OTHER, TWO[1]],
    ),
}


@pytest.mark.parametrize("server", SERVERS)
def test_one_item_for_each_real_call(server: str) -> None:
    fragments, expected = SERVERS[server]
    found = heard(*fragments)
    assert said(found) == expected
    assert len(set(ids(found))) == len(expected)
    assert {item["status"] for item in found.output} == {"completed"}
    assert "x_relay_warnings" not in found.final
    body = stream(
        *[chunk({"tool_calls": one if isinstance(one, list) else [one]}) for one in fragments], chunk(finish="stop")
    )
    pieces = hear([body[at : at + 1] for at in range(len(body))], check=False)
    assert [item["arguments"] for item in pieces.output] == [item["arguments"] for item in found.output]


@pytest.mark.parametrize("server", SERVERS)
def test_nothing_that_was_sent_is_taken_back(server: str) -> None:
    found = heard(*SERVERS[server][0])
    for item in found.output:
        deltas = [
            event["delta"] for event in found.of("function_call_arguments.delta") if event["item_id"] == item["id"]
        ]
        assert "".join(deltas) == item["arguments"]


@pytest.mark.parametrize(
    ("fragments", "expected"),
    [
        ([f(0, "a", "f", X1), f(0, "a", ..., "}")], ONE),
        ([f(0, "a", "f", X1 + "}")], ONE),
        ([f(0, "a", "f", '{"x":'), f(0, ..., ..., '"1"}}')], ONE),
        ([f(0, "a", "f", X1 + X2)], ONE),
        ([f(0, "a", "f", X1), f(0, "b", ..., X2)], ONE),
        ([f(0, "a", "f", X1), f(0, ..., ..., "}"), f(0, ..., ..., "}")], ONE),
        ([f(0, "a", "f", X1), f(0, "a", "f", '"}')], ONE),
        ([f(0, "a", ..., X1), f(0, "a", ..., "}"), f(0, "a", "f", "")], ONE),
    ],
)
def test_what_comes_after_whole_arguments_is_left_out_with_a_warning(fragments: list[Json], expected: Any) -> None:
    found = heard(*fragments)
    assert said(found) == expected
    assert found.final["x_relay_warnings"] == [{"param": "output", "reason": LATE}]


def test_a_call_that_was_named_after_its_whole_arguments_by_another_call_is_none() -> None:
    found = heard(f(0, "a", ..., X1), f(0, "b", "g", Y3))
    assert found.error is not None
    assert found.error.kind == "upstream_bad_response"
    assert said(found) == [("g", {"y": 3})]


def test_an_id_that_drifts_under_another_name_is_another_call() -> None:
    found = heard(f(0, "a", "f", '{"x":'), f(0, "b", "g", Y3), check=False)
    assert [(item["name"], item["arguments"]) for item in found.output] == [("f", '{"x":'), ("g", Y3)]


def test_arguments_that_a_model_wrote_wrong_pass_as_they_are() -> None:
    for wrong in ('{"x": "a"b"}', "x=1", "}{", '{"x":1', "12", "true"):
        found = heard(f(0, "a", "f", wrong[:2]), f(0, ..., ..., wrong[2:]), check=False)
        assert found.output[0]["arguments"] == wrong


def test_a_twin_that_is_cut_or_empty() -> None:
    found = heard(f(0, "a", "f", X1), f(1, "a", "f", '{"x":'), finish="length")
    assert [item["arguments"] for item in found.output] == [X1, '{"x":']
    assert len(set(ids(found))) == 2
    found = heard(f(0, "a", "f", '{"x":'), f(1, "a", "f", X1), finish="length")
    assert [item["arguments"] for item in found.output] == ['{"x":', X1]


def test_fragments_that_are_none() -> None:
    found = heard({"index": 0, "id": "a", "function": "odd"}, {"index": 1}, f(0, "a", "f", X1))
    assert said(found) == ONE


def test_whole_messages_hold_whole_calls() -> None:
    entries = [f(0, "a", "f", "{}"), f(0, "a", "f", {"x": "1"}), f(0, ..., "g", Y3), "odd", f(0, ..., "g", Y3)]
    body = {"choices": [{"index": 0, "message": {"tool_calls": entries}, "finish_reason": "tool_calls"}]}
    found = hear(body)
    assert said(found) == [("f", {}), *ONE, ("g", {"y": 3}), ("g", {"y": 3})]
    assert len(set(ids(found))) == 4


def test_legacy_calls() -> None:
    deltas = [
        {"name": "f", "arguments": "{}"},
        {"arguments": '{"x"'},
        {"name": "f", "arguments": ':"1"}'},
        {"name": "f"},
    ]
    found = hear([stream(*[chunk({"function_call": delta}) for delta in deltas], chunk(finish="function_call"))])
    assert said(found) == ONE


# --- custom tools

NATIVE = {"patch": Tool("patch", "patch", "custom_tool_call", native=True)}
WRAPPED = {"patch": Tool("patch", "patch", "custom_tool_call")}


def custom(index: int, identifier: Any = ..., name: Any = ..., text: Any = ...) -> Json:
    inner = {key: value for key, value in (("name", name), ("input", text)) if value is not ...}
    fragment = {"index": index, "id": identifier, "custom": inner}
    return {key: value for key, value in fragment.items() if value is not ...}


@pytest.mark.parametrize(
    ("fragments", "inputs"),
    [
        ([custom(0, "a", "patch", "{}"), custom(0, text='{"x":1}'), custom(0, text="}")], ['{}{"x":1}}']),
        ([custom(0, "a", "patch", ""), custom(0, "a", "patch", "{"), custom(0, "a", "patch", "} {}")], ["{} {}"]),
        ([custom(0, "a", "patch", "{}"), custom(1, "b", "patch", "{}")], ["{}", "{}"]),
        ([custom(0, "a", "patch", "{}"), custom(0, "b", "patch", "x")], ["{}", "x"]),
        ([custom(0, "a", text="{"), custom(0, name="patch", text="}")], ["{}"]),
        ([f(0, "a", "patch", "{}", custom=None), f(0, ..., ..., '{"x":1}')], ['{}{"x":1}']),
        ([custom(0, "a", "patch", "x"), custom(1, "a", "patch", "x")], ["x"]),
    ],
)
def test_the_input_of_a_native_custom_tool_is_raw_text(fragments: list[Json], inputs: list[str]) -> None:
    found = heard(*fragments, tools=NATIVE)
    assert [item["input"] for item in found.items("custom_tool_call")] == inputs


def test_a_custom_tool_over_a_function_has_arguments_that_are_json() -> None:
    fragments = [
        f(0, "a", "patch", "{}"),
        f(0, "a", "patch", '{"input":"a'),
        f(0, ..., ..., 'b"}'),
        f(0, "b", "patch", '{"input":"c"}'),
    ]
    found = heard(*fragments, tools=WRAPPED)
    assert [item["input"] for item in found.items("custom_tool_call")] == ["ab", "c"]


# --- names


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("f", "f"),
        ("f<|channel|>commentary", "f"),
        ("f <|channel|>analysis", "f"),
        ("f<|constrain|>json", "f"),
        ("f<|message|>", "f"),
        ("f<|channel", "f"),
        ("f<｜tool▁sep｜>", "f"),
        ("functions.f", "f"),
        ("functions.f<|channel|>commentary", "f"),
        ("functions.f:0", "f"),
        ("<|channel|>commentary to=functions.f <|constrain|>json", "f"),
        ("commentary to=f", "f"),
        ("<|start|>f", "f"),
        ("a.b", "a.b"),
        ("a.b<|channel|>commentary", "a.b"),
        ("functions.b", "functions.b"),
        ("functions.nobody", "functions.nobody"),
        ("nobody<|channel|>commentary", "nobody"),
        ("no body", "no body"),
        ("<|channel|>", ""),
    ],
)
def test_marks_of_a_template_are_no_part_of_a_name(raw: str, name: str) -> None:
    """Source: vllm-project/vllm#32587, #35906; openai/harmony's docs/format.md (recipients)."""
    tools = {known: Tool(known, known) for known in ("f", "a.b", "functions.b")}
    assert tool_name(raw, tools) == name
    if name:
        body = {"message": {"tool_calls": [f(0, "a", raw, X1)]}, "finish_reason": "tool_calls"}
        for found in (
            heard(f(0, "a", raw, ""), f(0, ..., raw, X1), tools=tools),
            hear({"choices": [body]}, tools=tools),
        ):
            assert said(found) == [(name, {"x": "1"})]
            assert [event["item"]["name"] for event in found.of("output_item.added")] == [name]


def test_a_mark_in_place_of_a_name_names_nothing() -> None:
    assert said(heard(f(0, "a", "f", ""), f(0, "a", "<|channel|>", X1))) == ONE


# --- arguments


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ('{"a":1}', 7),
        ('{"a":{"b":[1,{"c":2}]}}', 23),
        ("[1,[2]]", 7),
        ('{"a":"}"}', 9),
        ('{"a":"\\"}"}', 11),
        ('{"a":"\\\\"}', 10),
        ('{"a\\\\\\"{":1}', 12),
        ('"text"', 6),
        (' {"a":"]"} ', 10),
        ('{"a":1', -1),
        ('{"a":"}', -1),
        ('{"a":"\\', -1),
        ("12", -1),
        ("null", -1),
        ("]", -1),
    ],
)
def test_where_arguments_end_in_any_split(text: str, end: int) -> None:
    for at in range(len(text)):
        arguments = Arguments()
        pieces = [text[:at], text[at:]] if at else list(text)
        told = "".join(arguments.add(piece) for piece in pieces)
        assert (arguments.stage is Stage.WHOLE) == (end >= 0), pieces
        assert told == text
        assert not arguments.excess
    arguments = Arguments()
    arguments.add(text)
    assert arguments.add("x") == ("" if end >= 0 else "x")
    assert arguments.excess == (end >= 0)


@pytest.mark.parametrize("rest", ["", "}", " ", '{"a":1}'])
def test_long_arguments_in_one_piece(rest: str) -> None:
    text = json.dumps({"a": ["x{" * 100] * 5})
    arguments = Arguments()
    assert arguments.add(text + rest) == text + rest.strip("}").partition("{")[0]
    assert arguments.stage is Stage.WHOLE
    assert arguments.same_as(json.dumps(json.loads(text), indent=1))


def test_arguments_that_cannot_be_compared_as_json() -> None:
    deep = "[" * 300 + "]" * 300
    for text in ("x", "\ud800", deep):
        arguments = Arguments(raw=True)
        arguments.add(text)
        assert arguments.same_as(text)
        assert not arguments.same_as(text + " ")


# --- any calls, cut anywhere, as any server writes them

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('a{}[]"\\ é\n', max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text('b"\\{', max_size=2), inner, max_size=2),
    max_leaves=4,
)
REAL = st.lists(
    st.tuples(st.sampled_from("fg"), st.dictionaries(st.sampled_from(["k", 'q"']), VALUES, min_size=1)), max_size=4
)
STYLES = (
    "openai",
    "id in every piece",
    "id and name in every piece",
    "id of its own in every piece",
    "empty object first",
    "no id",
    "no id, name in every piece",
    "one index",
    "one index, no id",
    "no index",
    "no index, id in every piece",
    "whole at one index",
    "whole at one index, no id",
    "whole without index and id",
    "one id",
    "told at two indexes",
    "name again at the end",
)


def written(style: str, number: int, name: str, pieces: list[str], total: int) -> list[Json]:
    """The fragments of one call as a server of that style sends them."""
    index: Any = 0 if "one index" in style else ... if "no index" in style or "without index" in style else number
    identifier: Any = (
        ...
        if "no id" in style or ("and id" in style and "without" in style)
        else "same"
        if style == "one id"
        else f"id{number}"
    )
    if style.startswith("whole"):
        return [f(index, identifier, name, "".join(pieces))]
    if "name in every" in style or "id in every" in style or "id of its own" in style:
        out = [f(index, identifier, name, pieces[0])]
        for count, piece in enumerate(pieces[1:]):
            own = f"{identifier}.{count}" if "of its own" in style else ... if "no id" in style else identifier
            out.append(f(index, own, name if "name in" in style or "of its own" in style else ..., piece))
        return out
    first = [f(index, identifier, name, "{}" if "empty object" in style else "")]
    out = first + [f(index, ..., ..., piece) for piece in pieces]
    if style == "told at two indexes":
        out.append(f(index + total, identifier, name, "".join(pieces)))
    if style == "name again at the end":
        out.append(f(index, ..., name, ""))
    return out


@settings(max_examples=100, deadline=None)
@given(real=REAL, style=st.sampled_from(STYLES), data=st.data())
def test_real_calls_come_out_of_any_fragments(real: list[tuple[str, Any]], style: str, data: st.DataObject) -> None:
    sent: list[Json] = []
    for number, (name, arguments) in enumerate(real):
        text = json.dumps(arguments, ensure_ascii=data.draw(st.booleans()))
        cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1), max_size=4)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        sent += written(style, number, name, pieces, len(real))
    found = heard(*sent)
    expected = list(real)
    if style == "one id":  # a call told twice and two equal calls look the same
        expected = [one for at, one in enumerate(real) if json.dumps(one) not in map(json.dumps, real[:at])]
    assert said(found) == expected
    assert len(set(ids(found))) == len(expected)
    assert "x_relay_warnings" not in found.final


# --- cost and bounds


@pytest.mark.parametrize("kind", ["pieces", "ids", "twins", "braces", "names", "waiting", "after"])
def test_cost_is_linear(kind: str) -> None:
    first = f(0, "a", "f", X1)
    made: dict[str, Any] = {
        "pieces": lambda n: [f(0, "a", "f", '{"x":['), *[f(0, ..., ..., '"a",')] * n],
        "ids": lambda n: [f(0, "a", "f", "["), *(f(0, f"i{at}", "f", "1,") for at in range(n))],
        "twins": lambda n: [first, *(f(at, "a", "f", f'{{"x":{at}}}') for at in range(1, n // 4))],
        "braces": lambda n: [f(0, "a", "f", "["), f(0, ..., ..., '{"a":[]},' * n)],
        "names": lambda n: [f(0, "a", "f", "["), *[f(0, ..., "f<|channel|>commentary", "1,")] * n],
        "waiting": lambda n: [
            f(at, ..., "f" if at < n // 4 else ..., "" if at < n // 4 else X1) for at in range(n // 2)
        ],
        "after": lambda n: [first, *[f(0, ..., ..., "}")] * n],
    }

    def said_by(count: int) -> None:
        chunks = [chunk({"tool_calls": [one]}) for one in made[kind](count)]
        hear([stream(*chunks, chunk(finish="stop"))], check=False)

    said_by(100)
    assert_linear(said_by, 2_000)


def test_100_000_fragments() -> None:
    fragments = [f(0, "a", "f", '{"x":"'), *[f(0, ..., ..., "ab")] * 100_000, f(0, ..., ..., '"}')]
    found = heard(*fragments, check=False)
    assert said(found) == [("f", {"x": "ab" * 100_000})]


def test_what_is_kept_back_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.providers.chat_calls.OUTPUT_LIMIT_BYTES", 100)
    found = heard(*[f(0, "a", ..., "x" * 60)] * 2)
    assert found.error is not None
    assert found.error.kind == "output_too_large"


def test_reasoning_is_sealed_before_a_call_that_opens_at_the_end() -> None:
    deltas = [
        {"reasoning_content": "why"},
        {"tool_calls": [f(0, "a", "f", "")]},
        {"tool_calls": [f(1, "a", "f", '{"x":')]},
    ]
    found = hear([stream(*map(chunk, deltas), chunk(finish="length"))], context=Context("m", keep_reasoning=True))
    assert [item["type"] for item in found.output] == ["reasoning", "function_call"]
    assert found.output[1]["arguments"] == '{"x":'
