"""Create requests: what is accepted, what is refused and in which words (responses-api.md §2-3; decisions 9-16, 27)."""

from __future__ import annotations

from typing import Any

import pytest

from relay.errors import RelayError
from relay.responses.items import check_file_ids, normalise, pairing
from relay.responses.messages import from_messages
from relay.responses.request import PARAMETERS, Request, check_known, parse
from relay.responses.response import echoes, template
from relay.responses.tools import (
    arguments_of_call,
    call_id_of,
    key_of_call,
    output_of,
)
from tests.oracle import check_response


def request(**body: Any) -> Request:
    return parse({"model": "m", "input": "hi", **body})


def refused(**body: Any) -> RelayError:
    with pytest.raises(RelayError) as caught:
        request(**body).tools  # noqa: B018
    assert caught.value.status == 400
    return caught.value


F = {"type": "function", "name": "f"}


# --- parameters

WRONG: list[tuple[str, Any, str]] = [
    ("model", 5, "model"),
    ("model", "", "model"),
    ("input", 5, "input"),
    ("background", "yes", "background"),
    ("temperature", 2.1, "temperature"),
    ("temperature", "hot", "temperature"),
    ("temperature", True, "temperature"),
    ("top_p", -0.1, "top_p"),
    ("top_logprobs", 21, "top_logprobs"),
    ("max_output_tokens", 0, "max_output_tokens"),
    ("max_output_tokens", 1.5, "max_output_tokens"),
    ("max_output_tokens", True, "max_output_tokens"),
    ("max_tokens", "many", "max_tokens"),
    ("max_completion_tokens", {"a": "b"}, "max_completion_tokens"),
    ("reasoning_effort", 5, "reasoning_effort"),
    ("verbosity", [], "verbosity"),
    ("functions", {}, "functions"),
    ("logprobs", 2, "logprobs"),
    ("function_call", {}, "tool_choice.name"),
    ("n", 9, "n"),
    ("metadata", {str(i): "" for i in range(17)}, "metadata"),
    ("metadata", {"k" * 65: ""}, "metadata." + "k" * 64),
    ("metadata", {"k": 5}, "metadata.k"),
    ("metadata", {"k": "v" * 513}, "metadata.k"),
    ("metadata", [], "metadata"),
    ("include", ["a", 5], "include"),
    ("include", "a", "include"),
    ("stop", [5], "stop"),
    ("tools", {}, "tools"),
    ("truncation", "always", "truncation"),
    ("reasoning", "high", "reasoning"),
    ("reasoning", {"effort": 3}, "reasoning.effort"),
    ("reasoning", {"summary": True}, "reasoning.summary"),
    ("text", {"verbosity": 1}, "text.verbosity"),
    ("text", {"format": {"type": "xml"}}, "text.format.type"),
    ("text", {"format": {"type": "json_schema", "name": "n"}}, "text.format.schema"),
    ("text", {"format": {"type": "json_schema", "schema": {}}}, "text.format.name"),
    ("text", {"format": {"type": "json_schema", "schema": {}, "name": "n", "strict": 1}}, "text.format.strict"),
    ("response_format", "json", "response_format"),
    ("stream_options", {"include_obfuscation": 1}, "stream_options.include_obfuscation"),
    ("stream", 1, "stream"),
    ("instructions", ["x"], "instructions"),
    ("tools", ["x"], "tools[0]"),
    ("tools", [{"type": "function"}], "tools[0].name"),
    ("tools", [{"type": "function", "name": ""}], "tools[0].name"),
    ("tools", [{"type": "function", "name": "x" * 257}], "tools[0].name"),
    ("tools", [{**F, "parameters": []}], "tools[0].parameters"),
    ("tools", [{**F, "description": 5}], "tools[0].description"),
    ("tools", [F, F], "tools"),
    ("tools", [{"type": "namespace", "name": "n", "tools": {}}], "tools[0].tools"),
    ("tools", [{"type": "namespace", "name": "n", "tools": ["x"]}], "tools[0].tools[0]"),
    ("tools", [{"type": "namespace", "name": "n", "tools": [{"type": "namespace", "name": "m"}]}], "tools[0].tools[0]"),
    ("tools", [{"type": "tool_search", "execution": "client", "parameters": 5}], "tools[0].parameters"),
    ("tools", [{"type": "mcp", "server_label": "a"}, {"type": "mcp", "server_label": "a"}], "tools"),
    ("tool_choice", "maybe", "tool_choice"),
    ("tool_choice", 5, "tool_choice"),
    ("tool_choice", {"type": "function"}, "tool_choice.name"),
    ("tool_choice", {"type": "function", "name": "g"}, "tool_choice"),
    ("tool_choice", {"type": "web_search"}, "tool_choice"),
    ("tool_choice", {"type": "shell"}, "tool_choice"),
    ("tool_choice", {"type": "allowed_tools", "tools": []}, "tool_choice.tools"),
    ("tool_choice", {"type": "allowed_tools", "mode": "some", "tools": [F]}, "tool_choice.mode"),
    ("tool_choice", {"type": "allowed_tools", "tools": [{"type": "function", "name": "g"}]}, "tool_choice.tools"),
]


@pytest.mark.parametrize(("name", "value", "param"), WRONG)
def test_wrong_values_name_their_path(name: str, value: Any, param: str) -> None:
    error = refused(**{name: value})
    assert error.param == param
    assert param.split(".")[0].split("[")[0] in error.message


def test_the_body_is_an_object_and_names_a_model() -> None:
    with pytest.raises(RelayError, match="JSON object"):
        parse([])
    with pytest.raises(RelayError) as caught:
        parse({"input": "hi"})
    assert (caught.value.code, caught.value.param) == ("missing_required_parameter", "model")
    assert parse({"input": "hi"}, default_model="d").model == "d"


def test_unknown_fields_are_ignored_or_refused() -> None:
    assert request(client_metadata={"a": "b"}, whatever=1).params == {}
    check_known(request(whatever=1))
    strict = parse({"model": "m", "client_metadata": {}, "whatever": 1}, strict=True)
    with pytest.raises(RelayError) as caught:
        check_known(strict, ("other",))
    assert (caught.value.code, caught.value.param) == ("unknown_parameter", "whatever")
    check_known(strict, ("whatever",))


def test_null_is_not_set() -> None:
    assert request(**dict.fromkeys(PARAMETERS)).params == {}


def test_right_values_pass() -> None:
    right = {
        "include": ["reasoning.encrypted_content"],
        "stream_options": {"include_obfuscation": False},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True}, "verbosity": "high"},
        "stop": ["a", "b"],
        "conversation": {"id": "conv_1"},
    }
    assert request(**right).params == right
    assert request(stream_options={}, reasoning={"effort": "max", "context": "auto", "mode": "pro"}).params


def test_a_float_that_is_whole_is_an_integer() -> None:
    assert request(max_output_tokens=16.0).params["max_output_tokens"] == 16


def test_aliases() -> None:
    schema = {"name": "n", "schema": {"type": "object"}, "strict": True}
    asked = request(max_tokens=5, response_format={"type": "json_schema", "json_schema": schema}, stop="x")
    assert asked.params["max_output_tokens"] == 5
    assert asked.params["stop"] == ["x"]
    assert asked.format == {"type": "json_schema", **schema}
    assert request(max_tokens=5, max_output_tokens=6).params["max_output_tokens"] == 6
    kept = request(text={"format": {"type": "text"}, "verbosity": "low"}, response_format={"type": "json_object"})
    assert kept.params["text"]["format"] == {"type": "text"}
    assert kept.format is None
    assert request(response_format={"type": "json_object"}, text={"verbosity": "low"}).params["text"] == {
        "verbosity": "low",
        "format": {"type": "json_object"},
    }


LOGPROBS = "message.output_text.logprobs"


@pytest.mark.parametrize(
    ("given", "params"),
    [
        ({"max_completion_tokens": 57}, {"max_output_tokens": 57}),
        ({"max_completion_tokens": 57, "max_tokens": 5}, {"max_output_tokens": 57}),
        ({"max_completion_tokens": 57, "max_output_tokens": 6}, {"max_output_tokens": 6}),
        ({"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}),
        ({"reasoning_effort": "low", "reasoning": {"effort": "high"}}, {"reasoning": {"effort": "high"}}),
        (
            {"reasoning_effort": "low", "reasoning": {"summary": "auto"}},
            {"reasoning": {"summary": "auto", "effort": "low"}},
        ),
        ({"verbosity": "low"}, {"text": {"verbosity": "low"}}),
        ({"logprobs": True, "top_logprobs": 2}, {"include": [LOGPROBS], "top_logprobs": 2}),
        ({"logprobs": True, "include": [LOGPROBS]}, {"include": [LOGPROBS]}),
        ({"logprobs": False}, {}),
        ({"functions": [{"name": "f"}, 5]}, {"tools": [F, 5]}),
        ({"functions": [{"name": "g"}], "tools": [F]}, {"tools": [F]}),
        ({"function_call": {"name": "f"}}, {"tool_choice": F}),
        ({"function_call": "none"}, {"tool_choice": "none"}),
        ({"function_call": "none", "tool_choice": "auto"}, {"tool_choice": "auto"}),
    ],
)
def test_names_of_chat_completions(given: dict[str, Any], params: dict[str, Any]) -> None:
    assert request(**given).params == params
    check_known(parse({"model": "m", "input": "hi", **given}, strict=True))


GRAMMAR = {"syntax": "lark", "definition": "s"}


@pytest.mark.parametrize(
    ("given", "flat"),
    [
        ({"type": "function", "function": {"name": "f"}}, F),
        ({"type": "function", "function": {"name": "f"}, "strict": True}, {**F, "strict": True}),
        ({"type": "custom", "custom": {"name": "f"}}, {"type": "custom", "name": "f"}),
        (
            {"type": "custom", "custom": {"name": "f", "format": {"type": "grammar", "grammar": GRAMMAR}}},
            {"type": "custom", "name": "f", "format": {"type": "grammar", **GRAMMAR}},
        ),
        (
            {"type": "custom", "custom": {"name": "f", "format": {"type": "text"}}},
            {"type": "custom", "name": "f", "format": {"type": "text"}},
        ),
        (
            {"type": "custom", "name": "f", "custom": {"mine": 1}},
            {"type": "custom", "name": "f", "custom": {"mine": 1}},
        ),
        ({"type": "web_search", "web_search": {}}, {"type": "web_search", "web_search": {}}),
        ("x", "x"),
    ],
)
def test_tools_in_the_form_of_chat_completions(given: Any, flat: Any) -> None:
    assert request(tools=[given]).params["tools"] == [flat]


@pytest.mark.parametrize(
    ("given", "flat"),
    [
        *(({"type": name}, name) for name in ("auto", "none", "required")),
        ({"type": "auto", "disable_parallel_tool_use": True}, "auto"),
        ({"type": "any"}, "required"),
        ("any", "required"),
        ("validated", "validated"),
        ({"type": "tool", "name": "f"}, F),
        ({"type": "function", "function": {"name": "f"}}, F),
        ({"type": "custom", "custom": {"name": "f"}}, {"type": "custom", "name": "f"}),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": F}]},
            },
            {"type": "allowed_tools", "mode": "required", "tools": [F]},
        ),
        ({"type": "allowed_tools", "tools": [F]}, {"type": "allowed_tools", "tools": [F]}),
        ({"type": "allowed_tools", "tools": "x"}, {"type": "allowed_tools", "tools": "x"}),
        ({"type": "shell"}, {"type": "shell"}),
        ({"mode": "auto"}, {"mode": "auto"}),
    ],
)
def test_choices_in_the_forms_of_other_apis(given: Any, flat: Any) -> None:
    assert request(tool_choice=given).params["tool_choice"] == flat


def test_messages_in_place_of_input() -> None:
    with pytest.raises(RelayError, match="not both"):
        request(messages=[])
    assert parse({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).items == request().items


def test_conversation_excludes_previous_response_id() -> None:
    assert refused(conversation="c", previous_response_id="r").param == "conversation"


def test_views() -> None:
    plain = request()
    assert (plain.stream, plain.n, plain.store, plain.previous_response_id) == (False, 1, True, None)
    assert not plain.show_summary
    asked = request(stream=True, n=2, store=False, previous_response_id="r", reasoning={"generate_summary": "auto"})
    assert (asked.stream, asked.n, asked.store, asked.previous_response_id) == (True, 2, False, "r")
    assert asked.show_summary
    assert asked.with_params(n=None, seed=5).params.get("n") is None
    assert asked.with_items([]).items == []


# --- the response


def test_the_template_is_a_response_by_the_oracle() -> None:
    response = template(request(), "resp_1", 1)
    check_response({**response, "service_tier": "default"})
    full = request(
        tools=[F, {"type": "function", "function": {"name": "g"}}, {"type": "web_search"}],
        tool_choice={"type": "function", "function": {"name": "g"}},
        reasoning={"effort": "low", "generate_summary": "auto"},
        text={"format": {"type": "json_object"}},
        temperature=0.5,
        metadata={"a": "b"},
        prompt={"id": "p"},
        prompt_cache_options={"mode": "implicit"},
    )
    response = template(full, "resp_1", 1)
    assert response["tools"][0] == {
        "type": "function",
        "name": "f",
        "description": None,
        "parameters": None,
        "strict": None,
    }
    assert response["tools"][1]["name"] == "g"
    assert response["tool_choice"] == {"type": "function", "name": "g"}
    assert response["reasoning"]["summary"] == "auto"
    assert response["text"]["verbosity"] == "medium"
    assert (response["prompt"], response["prompt_cache_options"]) == ({"id": "p"}, {"mode": "implicit"})
    assert echoes(full)["metadata"] == {"a": "b"}
    assert echoes(full)["model"] == "m"


def test_a_namespaces_echo_has_all_its_keys() -> None:
    namespace = {"type": "namespace", "name": "ns", "tools": [F]}
    (echo,) = template(request(tools=[namespace]), "resp_1", 1)["tools"]
    assert echo["description"] == ""
    assert echo["tools"] == [{**F, "description": None, "parameters": None, "strict": None}]
    odd = request()
    odd.params["tools"] = [{"type": "namespace", "name": "ns", "tools": "x"}]
    assert template(odd, "resp_1", 1)["tools"][0]["tools"] == "x"


def test_the_template_survives_odd_tools() -> None:
    odd = request()
    odd.params["tools"] = ["x"]
    assert template(odd, "resp_1", 1)["tools"] == ["x"]


# --- tools


def test_tools_are_flattened() -> None:
    asked = request(
        tools=[
            {**F, "description": "d", "parameters": {"type": "object"}, "strict": True},
            {
                "type": "custom",
                "name": "p",
                "description": "d",
                "format": {"type": "grammar", "syntax": "lark", "definition": "s"},
            },
            {"type": "custom", "name": "q", "format": {"type": "grammar", "syntax": "regex", "definition": "x"}},
            {"type": "custom", "name": "r", "description": "plain"},
            {"type": "namespace", "name": "ns", "tools": [F]},
            {"type": "shell"},
            {"type": "web_search"},
        ]
    )
    tools = asked.tools.by_key()
    assert list(tools) == ["f", "p", "q", "r", "ns__f", "shell"]
    assert tools["f"].schema == {"type": "object"}
    assert tools["f"].strict is True
    assert tools["ns__f"].schema == {"type": "object", "properties": {}}
    assert tools["p"].schema["required"] == ["input"]
    assert tools["p"].function_description == "d\n\nThe input must match this lark grammar:\ns"
    assert (tools["q"].function_description or "").startswith("The input must match this regex")
    assert tools["r"].function_description == "plain"
    assert tools["shell"].schema["required"] == ["commands"]
    assert "shell" in (tools["shell"].function_description or "").lower()
    assert asked.tools.hosted == (("tools[6]", {"type": "web_search"}),)


@pytest.mark.parametrize(
    ("choice", "mode", "key"),
    [
        (None, "auto", None),
        ("none", "none", None),
        ("required", "required", None),
        ({"type": "function", "name": "f"}, "named", "f"),
        ({"type": "function", "function": {"name": "f"}}, "named", "f"),
        ({"type": "custom", "name": "p"}, "named", "p"),
        ({"type": "function", "name": "g"}, "named", "ns__g"),
        ({"type": "function", "name": "g", "namespace": "ns"}, "named", "ns__g"),
        ({"type": "shell"}, "named", "shell"),
        ({"type": "web_search_preview"}, "hosted", None),
        ({"type": "image_generation"}, "hosted", None),
    ],
)
def test_choices(choice: Any, mode: str, key: str | None) -> None:
    tools = [
        F,
        {"type": "custom", "name": "p"},
        {"type": "namespace", "name": "ns", "tools": [{"type": "function", "name": "g"}]},
        {"type": "shell"},
        {"type": "web_search"},
        {"type": "image_generation"},
    ]
    parsed = request(tools=tools, tool_choice=choice).tools.choice
    assert (parsed.mode, parsed.key) == (mode, key)


@pytest.mark.parametrize(
    ("choice", "forces"),
    [
        ("auto", False),
        ("none", False),
        ("required", True),
        (F, True),
        ({"type": "allowed_tools", "mode": "required", "tools": [F]}, True),
        ({"type": "allowed_tools", "mode": "auto", "tools": [F]}, False),
        ({"type": "web_search"}, False),
    ],
)
def test_which_choices_force_a_call(choice: Any, forces: bool) -> None:
    assert request(tools=[F, {"type": "web_search"}], tool_choice=choice).tools.choice.forces is forces


def test_allowed_tools() -> None:
    choice = {"type": "allowed_tools", "mode": "required", "tools": [F, {"type": "function", "name": "x"}, 5]}
    parsed = request(tools=[F], tool_choice=choice).tools.choice
    assert (parsed.mode, parsed.keys, parsed.allowed_mode) == ("allowed", ("f",), "required")
    inner = [{"type": "function", "name": "g"}, {"type": "function", "name": "h"}, {"type": "shell"}]
    tools = [F, {"type": "namespace", "name": "ns", "tools": inner}, {"type": "apply_patch"}, {"type": "web_search"}]
    for listed, keys in (
        ([{"type": "apply_patch"}, F], ("apply_patch", "f")),
        ([{"type": "namespace", "name": "ns"}], ("ns__g", "ns__h", "ns__shell")),
        ([{"type": "function", "name": "h"}, {"type": "function", "name": "h"}], ("ns__h",)),
        ([{"type": "shell"}, {"type": "local_shell"}], ("ns__shell",)),
        ([{"type": "web_search"}, {"type": "mcp", "server_label": "a", "name": "f"}], ()),
    ):
        chosen = request(tools=tools, tool_choice={"type": "allowed_tools", "tools": listed}).tools.choice
        assert chosen.keys == keys


def test_tools_that_items_bring_are_merged() -> None:
    brought = [F, {"type": "function", "name": "g"}]
    items = [{"type": "additional_tools", "role": "developer", "tools": brought}, {"role": "user", "content": "hi"}]
    asked = request(input=items, tools=[F])
    assert list(asked.tools.by_key()) == ["f", "g"]
    with pytest.raises(RelayError) as caught:
        request(input=[{"type": "additional_tools", "tools": [5]}]).tools  # noqa: B018
    assert caught.value.param == "input[0].tools[0]"


# --- before it is known who answers (decision 57)

READ = {"background", "context_management", "generate", "include", "n", "previous_response_id", "store", "stream"}
"""What the relay acts on itself; ``model``, ``input``, ``messages`` and the chat forms of parameters are its own."""


@pytest.mark.parametrize(("name", "value", "param"), WRONG)
def test_what_only_a_translated_upstream_minds_waits(name: str, value: Any, param: str) -> None:
    body = {"model": "m", "input": "hi", name: value}
    if param.startswith("tool_choice"):  # tools are read when they are asked for
        assert parse(body, judged=False).judged()
        return
    shape = {"reasoning", "text", "tools", "prompt", "image", "stream_options"}
    if name in READ or name not in PARAMETERS or (name in shape and param == name and not isinstance(value, list)):
        with pytest.raises(RelayError) as caught:
            parse(body, judged=False)
        assert caught.value.param == param
        return
    early = parse(body, judged=False)
    assert early.params[name] == value
    assert early.with_items(normalise("on")).params[name] == value
    with pytest.raises(RelayError) as caught:
        assert early.judged().tools
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"role": "critic", "content": "x"}, "input[0].role"),
        ({"role": "user", "content": 5}, "input[0].content"),
        ({"role": "user", "content": [{"type": "hologram"}, {"type": "input_text"}]}, "input[0].content[0].type"),
        ({"type": "function_call", "name": "f"}, "input[0].call_id"),
        ({"type": "function_call_output", "call_id": "c"}, "input[0].output"),
        ({"type": "reasoning", "summary": "x"}, "input[0].summary"),
    ],
)
def test_items_wait_too(item: dict[str, Any], param: str) -> None:
    early = parse({"model": "m", "input": [item]}, judged=False)
    assert early.objections is not None
    assert [error.param for error in early.objections] == [param]
    assert early.items == normalise([item], later=[])


# --- items


def test_shorthand() -> None:
    long = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}]
    assert normalise(None) == []
    assert normalise("hi") == normalise(["hi"]) == normalise([{"role": "user", "content": "hi"}]) == long
    assert normalise([{"role": "user", "content": ["hi"]}]) == long
    assert normalise([{"role": "user", "content": [{"type": "output_text", "text": "hi"}]}]) == long
    assert normalise([{"role": "user", "content": None}])[0]["content"] == []
    assistant = normalise([{"role": "assistant", "content": "hi", "phase": "commentary", "id": "msg_1"}])[0]
    assert assistant["content"] == [{"type": "output_text", "text": "hi"}]
    assert (assistant["phase"], assistant["id"]) == ("commentary", "msg_1")
    assert normalise([{"role": "assistant", "content": ["hi"]}])[0]["content"] == assistant["content"]
    assert normalise([{"id": "msg_1"}]) == [{"id": "msg_1", "type": "item_reference"}]
    assert normalise([{"type": "compaction_summary", "encrypted_content": "x"}])[0]["type"] == "compaction"
    assert normalise([{"type": "future_thing"}]) == [{"type": "future_thing"}]


ODD: list[tuple[Any, str]] = [
    (5, "input[0]"),
    ({}, "input[0].type"),
    ({"type": 5}, "input[0].type"),
    ({"role": "robot", "content": "x"}, "input[0].role"),
    ({"role": "user", "content": 5}, "input[0].content"),
    ({"role": "user", "content": [5]}, "input[0].content[0]"),
    ({"role": "user", "content": [{"type": "input_text"}]}, "input[0].content[0].text"),
    ({"role": "user", "content": [{"type": "hologram"}]}, "input[0].content[0].type"),
    ({"role": "user", "content": [{"type": "input_image"}]}, "input[0].content[0].image_url"),
    ({"role": "user", "content": [{"type": "input_file"}]}, "input[0].content[0]"),
    ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "input[0].content[0].input_audio"),
    ({"role": "assistant", "content": [{"type": "refusal"}]}, "input[0].content[0].refusal"),
    ({"type": "function_call", "name": "f", "arguments": "{}"}, "input[0].call_id"),
    ({"type": "function_call", "call_id": "c", "arguments": "{}"}, "input[0].name"),
    ({"type": "function_call", "call_id": "c", "name": "f", "arguments": {}}, "input[0].arguments"),
    ({"type": "function_call_output", "call_id": 5, "output": "x"}, "input[0].call_id"),
    ({"type": "message", "role": 5}, "input[0].role"),
    ({"type": "message", "id": 5, "role": "user"}, "input[0].id"),
    ({"type": "acme:note", "name": []}, "input[0].name"),
    ({"role": "user", "content": [{"type": "encrypted_content"}]}, "input[0].content[0].encrypted_content"),
    ({"type": "shell_call", "call_id": "c", "action": "ls"}, "input[0].action"),
    ({"type": "local_shell_call", "call_id": "c", "action": ["ls"]}, "input[0].action"),
    ({"type": "apply_patch_call", "call_id": "c", "operation": 5}, "input[0].operation"),
    ({"type": "function_call_output", "call_id": "c", "output": 5}, "input[0].output"),
    ({"type": "function_call_output", "call_id": "c", "output": [5]}, "input[0].output[0]"),
    ({"type": "reasoning", "summary": "x"}, "input[0].summary"),
    ({"type": "item_reference"}, "input[0].id"),
    ({"type": "compaction"}, "input[0].encrypted_content"),
]


@pytest.mark.parametrize(("item", "param"), ODD)
def test_odd_items_name_their_path(item: Any, param: str) -> None:
    assert refused(input=[item]).param == param


def test_items_that_are_right_pass_as_they_are() -> None:
    items = [
        {"type": "reasoning", "summary": [], "content": None, "encrypted_content": "x"},
        {"type": "shell_call", "call_id": "s", "action": {"commands": []}},
        {"type": "shell_call_output", "call_id": "s", "output": []},
        {"type": "custom_tool_call", "call_id": "c", "name": "p", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "x"}]},
        {"type": "item_reference", "id": "msg_1"},
    ]
    assert normalise(items) == items
    assert normalise([{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}])


def test_parts() -> None:
    parts = [
        {"type": "input_image", "image_url": {"url": "https://a.example/b.png", "detail": "low"}},
        {"type": "input_image", "file_id": "file_1"},
        {"type": "input_file", "file_url": "https://a.example/b.pdf"},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
    ]
    message = normalise([{"role": "user", "content": parts}])[0]
    assert message["content"][0]["image_url"] == "https://a.example/b.png"
    assert message["content"][0]["detail"] == "low"
    with pytest.raises(RelayError) as caught:
        check_file_ids([{"type": "compaction"}, message])
    assert caught.value.param == "input[1].content[1].file_id"
    check_file_ids([{"type": "message", "content": ["x", {"type": "input_text"}], "output": "x"}])


def call(identifier: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": identifier, "name": "f", "arguments": "{}"}


def output(identifier: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": identifier, "output": "x"}


def test_pairs_may_stand_apart_and_ids_may_be_used_again() -> None:
    say = normalise("hi")[0]
    found = pairing([call("a"), call("b"), say, output("b"), output("a"), call("a"), output("a")])
    assert (found.calls, found.orphans) == ({3: 1, 4: 0, 6: 5}, {})


SAY: dict[str, Any] = {"type": "message", "role": "user", "content": []}
DONE: dict[str, Any] = {"type": "message", "role": "assistant", "content": []}
ORPHANS: dict[str, tuple[list[dict[str, Any]], dict[int, int], list[int]]] = {
    "an output alone": ([SAY, output("a")], {}, [1]),
    "a call alone": ([SAY, call("a"), SAY], {}, [1]),
    "the output first": ([output("a"), call("a")], {}, [0, 1]),
    "a call told twice": ([call("a"), call("a"), output("a")], {2: 0}, [1]),
    "an output told twice": ([call("a"), output("a"), output("a")], {1: 0}, [2]),
    "an id for two calls of a turn": ([call("a"), DONE, call("a"), output("a"), output("a")], {3: 0, 4: 2}, []),
    "an id begun anew after a user": ([call("a"), SAY, call("a"), output("a")], {3: 2}, [0]),
    "an id begun anew after an output": (
        [call("a"), call("b"), output("b"), call("a"), output("a")],
        {2: 1, 4: 3},
        [0],
    ),
    "an output of no call at all": (
        [call("a"), output("a"), {"type": "function_call_output", "output": ""}],
        {1: 0},
        [2],
    ),
    "the wrong one of two": ([call("a"), call("b"), output("c"), output("b")], {3: 1}, [0, 2]),
}


@pytest.mark.parametrize(("items", "calls", "orphans"), ORPHANS.values(), ids=ORPHANS)
def test_orphans(items: list[dict[str, Any]], calls: dict[int, int], orphans: list[int]) -> None:
    found = pairing(items)
    assert (found.calls, sorted(found.orphans)) == (calls, orphans)


def test_call_items_as_functions() -> None:
    custom = {"type": "custom_tool_call", "call_id": "c", "name": "p", "namespace": "ns", "input": 'a"b'}
    assert (key_of_call(custom), arguments_of_call(custom)) == ("ns__p", '{"input":"a\\"b"}')
    assert arguments_of_call(call("a")) == "{}"
    shell = {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"], "timeout_ms": None}}
    assert (key_of_call(shell), arguments_of_call(shell)) == ("shell", '{"commands":["ls"]}')
    local = {"type": "local_shell_call", "call_id": "c", "action": {"type": "exec", "command": ["ls"], "env": {}}}
    assert arguments_of_call(local) == '{"command":["ls"],"env":{}}'
    for kind in ("shell_call", "local_shell_call", "apply_patch_call"):  # as a native upstream may have it
        assert arguments_of_call({"type": kind, "call_id": "c", "action": "ls", "operation": ["x"]}) == "{}"
    patch = {"type": "apply_patch_call", "call_id": "c", "operation": {"type": "delete_file", "path": "a"}}
    assert arguments_of_call(patch) == '{"type":"delete_file","path":"a"}'
    assert call_id_of({"type": "local_shell_call_output", "id": "c"}) == "c"
    assert call_id_of({"type": "function_call", "call_id": 5}) is None


def test_outputs() -> None:
    assert output_of(output("a")) == "x"
    assert output_of({"type": "function_call_output", "output": [{"type": "input_text", "text": "x"}]}) == [
        {"type": "input_text", "text": "x"}
    ]
    assert output_of({"type": "local_shell_call_output"}) == ""
    assert output_of({"type": "tool_search_output", "tools": ["x", {"type": "web_search"}]}) == "web_search"
    assert output_of({"type": "shell_call_output", "output": [{"stdout": "a"}]}) == '[{"stdout":"a"}]'
    assert output_of({"type": "apply_patch_call_output", "status": "completed"}) == "completed"
    assert output_of({"type": "apply_patch_call_output", "status": "failed", "output": "no"}) == "no"


# --- chat messages


def test_chat_messages() -> None:
    items = from_messages(
        [
            {"role": "system", "content": "s"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "u"}, {"type": "image_url", "image_url": {"url": "data:x"}}],
            },
            {"role": "user", "content": [{"type": "file", "file": {"file_data": "data:x"}}, "plain"]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "t"}]},
            {"role": "assistant", "refusal": "no"},
            {"role": "assistant", "content": "done"},
        ]
    )
    assert [item["type"] for item in items] == [
        "message",
        "message",
        "message",
        "function_call",
        "function_call_output",
        "message",
        "message",
    ]
    assert items[1]["content"][1]["image_url"] == "data:x"
    assert items[2]["content"][0] == {"type": "input_file", "file_data": "data:x"}
    assert items[4]["output"] == [{"type": "input_text", "text": "t"}]
    assert items[5]["content"] == [{"type": "refusal", "refusal": "no"}]
    assert not pairing(items).orphans


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ({}, "messages"),
        ([5], "messages[0]"),
        ([{"role": "robot", "content": "x"}], "messages[0].role"),
        ([{"role": "tool", "tool_call_id": "c", "content": 5}], "messages[0].output"),
        ([{"role": "tool", "tool_call_id": "c", "content": [5]}], "messages[0].content[0]"),
        ([{"role": "assistant", "tool_calls": [5]}], "messages[0].tool_calls[0].function"),
        ([{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}], "messages[0].tool_calls[0].call_id"),
    ],
)
def test_odd_chat_messages(messages: Any, param: str) -> None:
    with pytest.raises(RelayError) as caught:
        from_messages(messages)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": [""] * 4}, "input"),
        ({"messages": [{"role": "user", "content": ""}] * 4}, "messages"),
        ({"input": ["", {"role": "user", "content": [{"type": "input_text", "text": ""}] * 4}]}, "input[1].content"),
        ({"input": ["", {"type": "tool_search_output", "tools": [{}] * 4}]}, "input[1].tools"),
    ],
)
def test_items_and_their_parts_are_counted_before_they_are_read(body: dict[str, Any], param: str) -> None:
    """Decision 61."""
    with pytest.raises(RelayError, match="at most 3") as caught:
        parse({"model": "m", **body}, max_items=3)
    assert (caught.value.status, caught.value.param) == (400, param)
    parse(
        {"model": "m", "input": ["", {"role": "user", "content": [{"type": "input_text", "text": ""}] * 3}, "x"]},
        max_items=3,
    )
