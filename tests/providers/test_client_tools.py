"""Tools that the client runs, on every dialect that does not know them: declared, called, told again, merged.

Source: decisions 53, 54; hosted-tools.md H18, H25, H57-H61; openai-python's ``ResponseToolSearchCall``. The events are
judged by the oracle (openai-python's models).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from openai.types.responses import ResponseToolSearchCall

from relay.errors import RelayError
from relay.providers.base import Target, UpstreamRequest
from relay.providers.registry import PROVIDERS
from relay.responses.emitter import Emitter
from relay.responses.request import parse
from relay.responses.response import template
from relay.responses.sinks import SSESink
from tests import oracle

Json = dict[str, Any]
Said = tuple[str, Any]

MODELS = {"chat": "some-model", "anthropic": "claude-opus-5-5", "gemini": "gemini-3.5-pro", "responses": "gpt-5"}
ADDRESSES = {
    "chat": "https://inference.example/v1",
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
    "responses": "https://inference.example/v1",
}
TRANSLATED = pytest.mark.parametrize("dialect", ["chat", "anthropic", "gemini"])

SCHEMA = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
SEARCH = {"type": "tool_search", "execution": "client", "description": "Finds tools", "parameters": SCHEMA}
F = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
GO = {"role": "user", "content": "go"}


def build(dialect: str, strict: bool = False, **body: Any) -> UpstreamRequest:
    request = parse({"model": "m", "input": "hi", "stream": True, **body}, strict=strict)
    return PROVIDERS[dialect].build(request, Target("up", MODELS[dialect], ADDRESSES[dialect]), {}, frozenset())


def sent(dialect: str, **body: Any) -> Json:
    return json.loads(build(dialect, **body).body)  # type: ignore[no-any-return]


def refused(dialect: str, **body: Any) -> str | None:
    with pytest.raises(RelayError) as caught:
        build(dialect, **body)
    assert caught.value.status == 400
    return caught.value.param


def declared(body: Json) -> dict[str, Json]:
    """What an upstream is offered, by name: ``{description, schema}``."""
    tools = body.get("tools") or []
    if tools and "functionDeclarations" in tools[0]:
        tools = tools[0]["functionDeclarations"]
    flat = [tool.get("function", tool) for tool in tools]
    schemas = ("parameters", "input_schema", "parametersJsonSchema")
    return {
        tool["name"]: {
            "description": tool.get("description"),
            "schema": next((tool[name] for name in schemas if name in tool), None),
        }
        for tool in flat
    }


def told(body: Json) -> list[Said]:
    """The calls and results of a history: ``(name, arguments)``, then ``("result", text)``."""
    found: list[Said] = []
    for message in body.get("messages") or []:
        found += [
            (c["function"]["name"], json.loads(c["function"]["arguments"])) for c in message.get("tool_calls", ())
        ]
        if message["role"] == "tool":
            found.append(("result", message["content"]))
        for block in message["content"] if isinstance(message["content"], list) else ():
            if block["type"] == "tool_use":
                found.append((block["name"], block["input"]))
            if block["type"] == "tool_result":
                content = block.get("content", "")
                found.append(("result", content if isinstance(content, str) else content[0]["text"]))
    for content in body.get("contents") or []:
        for part in content["parts"]:
            if "functionCall" in part:
                found.append((part["functionCall"]["name"], part["functionCall"]["args"]))
            if "functionResponse" in part:
                found.append(("result", part["functionResponse"]["response"]["output"]))
    return found


# --- an upstream that calls a tool


def _event(value: Json) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


def _chat(name: str, arguments: str) -> Json:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}
    choices = [{"index": 0, "message": {"role": "assistant", "tool_calls": [call]}, "finish_reason": "tool_calls"}]
    return {"id": "c", "object": "chat.completion", "model": "m", "choices": choices}


def _chat_stream(name: str, arguments: str) -> bytes:
    half = len(arguments) // 2
    pieces: list[Json] = [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments[:half]}},
        {"index": 0, "function": {"arguments": arguments[half:]}},
    ]
    chunks = [{"choices": [{"index": 0, "delta": {"tool_calls": [piece]}}]} for piece in pieces]
    return b"".join(map(_event, [*chunks, {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}]))


def _anthropic(name: str, arguments: str) -> Json:
    block = {"type": "tool_use", "id": "toolu_1", "name": name, "input": json.loads(arguments)}
    usage = {"input_tokens": 1, "output_tokens": 1}
    return {"type": "message", "role": "assistant", "content": [block], "stop_reason": "tool_use", "usage": usage}


def _anthropic_stream(name: str, arguments: str) -> bytes:
    message = {"type": "message", "role": "assistant", "content": [], "usage": {"input_tokens": 1, "output_tokens": 1}}
    block = {"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}
    half = len(arguments) // 2
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in (arguments[:half], arguments[half:])]
    events = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


def _gemini(name: str, arguments: str) -> Json:
    call = {"functionCall": {"id": "g1", "name": name, "args": json.loads(arguments)}}
    return {"candidates": [{"content": {"role": "model", "parts": [call]}, "finishReason": "STOP", "index": 0}]}


ANSWERS: dict[tuple[str, str], Callable[[str, str], Any]] = {
    ("chat", "json"): _chat,
    ("chat", "sse"): _chat_stream,
    ("anthropic", "json"): _anthropic,
    ("anthropic", "sse"): _anthropic_stream,
    ("gemini", "json"): _gemini,
    ("gemini", "sse"): lambda name, arguments: _event(_gemini(name, arguments)),
}
EVERY_ANSWER = pytest.mark.parametrize(("dialect", "form"), list(ANSWERS))


def heard(dialect: str, form: str, key: str, arguments: str, **body: Any) -> tuple[list[Json], list[Json]]:
    """The events, and the output, of an answer that calls the tool that the request declares under ``key``."""
    request = parse({"model": "m", "input": "hi", "stream": True, **body})
    provider = PROVIDERS[dialect]
    call = provider.build(request, Target("up", MODELS[dialect], ADDRESSES[dialect]), {}, frozenset())
    name = next(name for name, tool in call.tools.items() if tool.key == key)
    counter = itertools.count(1)
    sink = SSESink()
    emitter = Emitter(template(request, "resp_0", 1), sink, lambda p: f"{p}_{next(counter):024x}", lambda: 2)
    translator = provider.translator(call, emitter.voice(call.tools))
    answer = ANSWERS[dialect, form](name, arguments)
    if form == "json":
        translator.from_body(answer)
    else:
        translator.feed(answer)
    done: Any = translator.close()
    emitter.conclude(done.status, reason=done.reason)
    emitter.terminal()
    events = oracle.parse_sse(sink.take())
    oracle.check_stream(events)
    return events, events[-1]["response"]["output"]


# --- searching for tools


@TRANSLATED
def test_a_search_of_the_client_is_a_function_with_its_own_words(dialect: str) -> None:
    assert declared(sent(dialect, tools=[SEARCH, F]))["tool_search"] == {
        "description": "Finds tools",
        "schema": SCHEMA,
    }
    (bare,) = declared(sent(dialect, tools=[{"type": "tool_search", "execution": "client"}])).values()
    assert set(bare["schema"]["properties"]) == {"query", "limit"}
    assert bare["description"]


@EVERY_ANSWER
def test_its_call_comes_back_as_the_clients_item(dialect: str, form: str) -> None:
    events, output = heard(dialect, form, "tool_search", '{"query": "calendar", "limit": 1}', tools=[SEARCH])
    (item,) = [one for one in output if one["type"] != "reasoning"]
    assert ResponseToolSearchCall.model_validate(item, strict=True)
    assert item["id"].startswith("tsc_")
    assert {name: item[name] for name in ("type", "execution", "arguments", "status")} == {
        "type": "tool_search_call",
        "execution": "client",
        "arguments": {"query": "calendar", "limit": 1},
        "status": "completed",
    }
    about = [event for event in events if event.get("item", {}).get("type") == "tool_search_call"]
    assert [event["type"] for event in about] == ["response.output_item.added", "response.output_item.done"]
    assert about[0]["item"] == {**item, "arguments": {}, "status": "in_progress"}
    assert item["call_id"]


@pytest.mark.parametrize("form", ["json", "sse"])
def test_its_arguments_have_the_clients_names_again(form: str) -> None:
    """Anthropic takes no ``$`` in a property's name (decision 55)."""
    tools = [{**SEARCH, "parameters": {"type": "object", "properties": {"$query": {"type": "string"}}}}]
    (name,) = declared(sent("anthropic", tools=tools))["tool_search"]["schema"]["properties"]
    assert "$" not in name
    _, output = heard("anthropic", form, "tool_search", json.dumps({name: "$query"}), tools=tools)
    assert [item["arguments"] for item in output] == [{"$query": "$query"}]


def test_arguments_that_are_no_object_are_an_ordinary_call() -> None:
    _, output = heard("chat", "sse", "tool_search", "[1]", tools=[SEARCH])
    assert (output[0]["type"], output[0]["name"], output[0]["arguments"]) == ("function_call", "tool_search", "[1]")


FOUND = [
    {"type": "namespace", "name": "cal", "description": "Calendar", "tools": [{**F, "description": "Lists.\nMore."}]},
    {"type": "function", "function": {"name": "chat_form"}},
    {"type": "function", "name": "a.b", "description": "Dotted"},
    {"type": "mcp", "server_label": "maps", "allowed_callers": ["programmatic"]},
    "nonsense",
]
SEARCHED = {"type": "tool_search_call", "call_id": "ts_1", "execution": "client", "arguments": {"query": "calendar"}}


def found(tools: Any, **members: Any) -> Json:
    return {"type": "tool_search_output", "call_id": "ts_1", "execution": "client", "tools": tools, **members}


@TRANSLATED
def test_a_search_in_history_is_a_call_and_its_result(dialect: str) -> None:
    body = sent(dialect, input=[GO, SEARCHED, found(FOUND[:3])], tools=[SEARCH])
    names = list(declared(body))
    assert names[:3] == ["tool_search", "cal__f", "chat_form"]
    lines = ["cal__f: Lists.", "chat_form", f"{names[3]}: Dotted"]
    assert told(body) == [("tool_search", {"query": "calendar"}), ("result", "\n".join(lines))]


@TRANSLATED
@pytest.mark.parametrize(
    ("arguments", "said"), [('{"query": "calendar"}', {"query": "calendar"}), ("[1]", {}), ("{", {}), (5, {})]
)
def test_arguments_of_a_search_may_be_a_string(dialect: str, arguments: Any, said: Json) -> None:
    body = sent(dialect, input=[GO, {**SEARCHED, "arguments": arguments}, found([])])
    assert told(body)[0] == ("tool_search", said)


@TRANSLATED
@pytest.mark.parametrize("tools", [[], None, "x"])
def test_a_search_that_found_nothing_says_so(dialect: str, tools: Any) -> None:
    searched = {name: value for name, value in SEARCHED.items() if name != "arguments"}
    body = sent(dialect, input=[GO, searched, found(tools)])
    assert told(body) == [("tool_search", {}), ("result", "No tools found.")]


def test_what_else_was_found_has_a_line() -> None:
    items = [GO, SEARCHED, found([FOUND[3], {"type": "web_search"}])]
    assert told(sent("chat", input=items))[1] == ("result", "maps\nweb_search")


@TRANSLATED
@pytest.mark.parametrize(
    "server", [{"execution": "server", "call_id": None}, {"execution": "server"}, {"call_id": None}]
)
def test_a_search_of_the_server_only_brings_tools(dialect: str, server: Json) -> None:
    items = [GO, {**SEARCHED, **server}, found([F], **server)]
    body = sent(dialect, input=items)
    assert (told(body), list(declared(body))) == ([], ["f"])


@TRANSLATED
@pytest.mark.parametrize("declaration", [{}, {"execution": "server"}, {"execution": None}])
def test_a_search_that_a_server_runs_is_left_out(dialect: str, declaration: Json) -> None:
    call = build(dialect, tools=[{"type": "tool_search", **declaration}, F])
    assert list(declared(json.loads(call.body))) == ["f"]
    assert [param for param, _ in call.warnings] == ["tools[0]"]
    assert refused(dialect, tools=[{"type": "tool_search"}, F], tool_choice={"type": "tool_search"}) == "tool_choice"


def test_a_search_can_be_chosen() -> None:
    body = sent("chat", tools=[SEARCH, F], tool_choice={"type": "tool_search"})
    assert body["tool_choice"] == {"type": "function", "function": {"name": "tool_search"}}
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "tool_search"}]}
    assert list(declared(sent("chat", tools=[SEARCH, F], tool_choice=allowed))) == ["tool_search"]


# --- who runs it


@TRANSLATED
@pytest.mark.parametrize("environment", [None, {"type": "local"}])
def test_a_shell_of_the_client_is_a_function(dialect: str, environment: Json | None) -> None:
    assert list(declared(sent(dialect, tools=[{"type": "shell", "environment": environment}]))) == ["shell"]


@TRANSLATED
@pytest.mark.parametrize(
    "environment",
    [{"type": "container_auto"}, {"type": "container_reference", "container_id": "c"}, {"type": "new"}, "cntr_1"],
)
def test_a_shell_in_a_container_is_nobodys(dialect: str, environment: Any) -> None:
    shell = {"type": "shell", "environment": environment}
    call = build(dialect, tools=[shell, F])
    assert list(declared(json.loads(call.body))) == ["f"]
    assert [param for param, _ in call.warnings] == ["tools[0]"]
    assert refused(dialect, tools=[shell], tool_choice={"type": "shell"}) == "tool_choice"


@TRANSLATED
def test_a_namespace_may_hold_tools_that_are_emulated(dialect: str) -> None:
    inner = [F, {"type": "shell"}, {"type": "shell", "environment": {"type": "container_auto"}}, SEARCH]
    call = build(dialect, tools=[{"type": "namespace", "name": "ns", "tools": inner}])
    assert list(declared(json.loads(call.body))) == ["ns__f", "ns__shell", "ns__tool_search"]
    assert [param for param, _ in call.warnings] == ["tools[0].tools[2]"]
    bad = {"type": "namespace", "name": "ns", "tools": [{"type": "file_search"}]}
    assert refused(dialect, tools=[bad]) == "tools[0].tools[0].type"


def test_an_emulated_call_keeps_its_namespace_both_ways() -> None:
    # in an item: the SDK's types know no such namespace, and the oracle looks at the echo of tools
    items = [GO, brought(namespace("ns", {"type": "shell"}, {"type": "apply_patch"}))]
    _, output = heard("chat", "sse", "ns__shell", '{"commands": ["ls"]}', input=items)
    assert (output[0]["type"], output[0]["namespace"]) == ("shell_call", "ns")
    answer = {"type": "shell_call_output", "call_id": output[0]["call_id"], "output": []}
    assert told(sent("chat", input=[*items, output[0], answer]))[0] == ("ns__shell", {"commands": ["ls"]})
    _, output = heard("chat", "sse", "ns__apply_patch", "{}", input=items)
    assert (output[0]["type"], output[0]["name"], output[0]["namespace"]) == ("function_call", "apply_patch", "ns")


@TRANSLATED
@pytest.mark.parametrize("kind", ["file_search", "computer", "computer_use_preview", "shell_of_another_kind", "new"])
def test_what_must_not_vanish_is_refused(dialect: str, kind: str) -> None:
    assert refused(dialect, tools=[F, {"type": kind}]) == "tools[1].type"


# --- declared twice


def namespace(name: str, *tools: Json) -> Json:
    return {"type": "namespace", "name": name, "description": "d", "tools": list(tools)}


def brought(*tools: Json) -> Json:
    return {"type": "additional_tools", "role": "developer", "tools": list(tools)}


def function(name: str, words: str) -> Json:
    return {"type": "function", "name": name, "description": words, "parameters": {"type": "object", "properties": {}}}


Offered = list[tuple[str, str]]
TWICE: list[tuple[str, list[Json], list[Json], Offered]] = [
    (
        "a namespace in two items",
        [],
        [brought(namespace("n", function("a", "1"))), GO, brought(namespace("n", function("b", "2")))],
        [("n__a", "1"), ("n__b", "2")],
    ),
    (
        "a member again, later",
        [],
        [brought(namespace("n", function("a", "1"), function("b", "2"))), brought(namespace("n", function("a", "3")))],
        [("n__a", "3"), ("n__b", "2")],
    ),
    (
        "tools beat items, member by member",
        [namespace("n", function("a", "1"))],
        [brought(namespace("n", function("a", "2"), function("b", "3"))), brought(function("c", "4"))],
        [("n__a", "1"), ("n__b", "3"), ("c", "4")],
    ),
    (
        "flat beats namespaced",
        [function("n__a", "1")],
        [brought(namespace("n", function("a", "2")))],
        [("n__a", "1")],
    ),
    (
        "namespaced beats flat",
        [namespace("n", function("a", "1"))],
        [brought(function("n__a", "2"))],
        [("n__a", "1")],
    ),
    (
        "function beats custom of its name",
        [function("a", "1")],
        [brought({"type": "custom", "name": "a", "description": "2"})],
        [("a", "1")],
    ),
    (
        "twice in one item",
        [],
        [brought(function("a", "1"), function("b", "2"), function("a", "3"))],
        [("a", "3"), ("b", "2")],
    ),
    (
        "two namespaces of one name in tools",
        [namespace("n", function("a", "1")), namespace("n", function("b", "2"))],
        [],
        [("n__a", "1"), ("n__b", "2")],
    ),
    (
        "a search's tools, and those of an item",
        [function("a", "1")],
        [GO, SEARCHED, found([function("a", "2"), function("b", "3")]), brought(function("b", "4"))],
        [("a", "1"), ("b", "4")],
    ),
    (
        "a shell of this turn, in a container, and one of the client before",
        [{"type": "shell", "environment": {"type": "container_auto"}}, function("a", "1")],
        [brought({"type": "shell"})],
        [("a", "1")],
    ),
    (
        "a search by the client, later by the server",
        [],
        [brought({**SEARCH, "description": "1"}, function("a", "1")), brought({"type": "tool_search"})],
        [("a", "1")],
    ),
]


@TRANSLATED
@pytest.mark.parametrize(("tools", "items", "offered"), [row[1:] for row in TWICE], ids=[row[0] for row in TWICE])
def test_tools_are_merged_one_by_one(dialect: str, tools: list[Json], items: list[Json], offered: Offered) -> None:
    seen = declared(sent(dialect, tools=tools, input=[*items, GO]))
    assert [(name, tool["description"]) for name, tool in seen.items()] == offered


@TRANSLATED
@pytest.mark.parametrize(
    "tools",
    [
        [function("a", "1"), {"type": "custom", "name": "a"}],
        [function("n__a", "1"), namespace("n", function("a", "2"))],
        [namespace("n", function("a", "1")), namespace("n", function("a", "2"))],
        [{"type": "shell"}, {"type": "shell"}],
        [{"type": "shell"}, function("shell", "mine")],
    ],
)
def test_two_equal_names_in_tools_are_refused(dialect: str, tools: list[Json]) -> None:
    assert refused(dialect, tools=tools) == "tools"


def server(label: str, url: str) -> Json:
    return {"type": "mcp", "server_label": label, "server_url": url, "require_approval": "never"}


def test_servers_are_merged_by_label() -> None:
    items = [
        brought(server("b", "https://old.example"), server("a", "https://item.example"), {"type": "web_search"}),
        brought(server("b", "https://new.example"), {"type": "web_search_preview", "filters": {}}),
        GO,
    ]
    body = sent("anthropic", tools=[server("a", "https://tools.example")], input=items)
    assert [(one["name"], one["url"]) for one in body["mcp_servers"]] == [
        ("a", "https://tools.example"),
        ("b", "https://new.example"),
    ]
    assert [tool.get("name") for tool in body["tools"]].count("web_search") == 1


@pytest.mark.parametrize(("kind", "before"), [("function", "custom"), ("custom", "function")])
@TRANSLATED
def test_a_call_of_a_tool_that_changed_its_kind_is_told_as_it_was(dialect: str, kind: str, before: str) -> None:
    calls: dict[str, Json] = {
        "custom": {"type": "custom_tool_call", "call_id": "c1", "name": "exec", "input": "ls"},
        "function": {"type": "function_call", "call_id": "c1", "name": "exec", "arguments": '{"x": "ls"}'},
    }
    output = {"type": f"{calls[before]['type']}_output", "call_id": "c1", "output": "done"}
    body = sent(dialect, tools=[{"type": kind, "name": "exec"}], input=[GO, calls[before], output])
    arguments = {"custom": {"input": "ls"}, "function": {"x": "ls"}}[before]
    assert told(body) == [("exec", arguments), ("result", "done")]


@EVERY_ANSWER
def test_a_call_comes_back_in_the_form_that_won(dialect: str, form: str) -> None:
    flat, inner = function("n__a", "1"), namespace("n", function("a", "2"))
    for tools, items, name in (([flat], [brought(inner)], ("n__a", None)), ([inner], [brought(flat)], ("a", "n"))):
        _, output = heard(dialect, form, "n__a", "{}", tools=tools, input=[*items, GO])
        (call,) = [one for one in output if one["type"] == "function_call"]
        assert (call["name"], call.get("namespace")) == name


# --- outputs that do not say whose they are


@TRANSLATED
@pytest.mark.parametrize("members", [{"name": "f"}, {}, {"call_id": None, "name": "f"}])
def test_an_output_without_an_id_answers_the_call_that_waits(dialect: str, members: Json) -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    items = [GO, call, {"type": "function_call_output", "output": "r", **members}]
    built = build(dialect, input=items, tools=[F])
    assert told(json.loads(built.body)) == [("f", {}), ("result", "r")]
    assert [param for param, reason in built.warnings if "left out" in reason] == []
    assert sent("responses", input=items)["input"][1:] == items[1:]


@TRANSLATED
def test_one_that_nobody_waits_for_is_left_out(dialect: str) -> None:
    built = build(dialect, input=[GO, {"type": "function_call_output", "name": "f", "output": "r"}])
    assert (told(json.loads(built.body)), [param for param, _ in built.warnings]) == ([], ["input[1]"])


@TRANSLATED
def test_messages_of_every_chat_api_are_told(dialect: str) -> None:
    messages = [
        GO,
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "p", "input": "x"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "2"},
    ]
    body = sent(dialect, input=None, messages=messages)
    assert told(body) == [("f", {}), ("result", "1"), ("p", {"input": "x"}), ("result", "2")]


# --- what is said in vain


VAIN: list[tuple[Json, str]] = [
    ({"async": True}, "tools[0].async"),
    ({"defer_loading": True}, "tools[0].defer_loading"),
    ({"allowed_callers": ["direct", "programmatic"]}, "tools[0].allowed_callers"),
    ({"output_schema": {"type": "object"}}, "tools[0].output_schema"),
]


@TRANSLATED
@pytest.mark.parametrize(("members", "param"), VAIN)
@pytest.mark.parametrize("kind", ["function", "custom"])
def test_members_without_effect_are_warned_about(dialect: str, kind: str, members: Json, param: str) -> None:
    tool = {"type": kind, "name": "a", **members}
    assert [name for name, _ in build(dialect, tools=[tool]).warnings] == [param]
    with pytest.raises(RelayError) as caught:
        build(dialect, strict=True, tools=[tool])
    assert caught.value.param == param
    (passed,) = sent("responses", tools=[tool])["tools"]
    assert passed == tool


@TRANSLATED
@pytest.mark.parametrize(
    "members",
    [
        {"async": False},
        {"defer_loading": False},
        {"allowed_callers": ["direct"]},
        {"allowed_callers": []},
        {"output_schema": None},
    ],
)
def test_members_that_say_nothing_are_not(dialect: str, members: Json) -> None:
    assert build(dialect, tools=[{**F, **members}]).warnings == ()


@TRANSLATED
def test_one_warning_a_member_names_the_first_tool(dialect: str) -> None:
    tools = [namespace("n", *({**function(name, ""), "async": True} for name in "abc"))]
    ((param, reason),) = build(dialect, tools=tools).warnings
    assert (param, reason.endswith("(and 2 more)")) == ("tools[0].tools[0].async", True)


@TRANSLATED
def test_what_a_search_loaded_was_deferred_no_more(dialect: str) -> None:
    deferred = {**F, "defer_loading": True}
    searched = build(dialect, input=[GO, SEARCHED, found([deferred])])
    assert [param for param, _ in searched.warnings if "tools" in param] == []
    assert build(dialect, input=[GO, brought(deferred)]).warnings[0][0] == "input[1].tools[0].defer_loading"


@TRANSLATED
def test_a_tool_for_programs_only_is_left_out(dialect: str) -> None:
    tools = [F, {**function("a", "1"), "allowed_callers": ["programmatic"]}]
    call = build(dialect, tools=tools)
    assert list(declared(json.loads(call.body))) == ["f"]
    assert [param for param, _ in call.warnings] == ["tools[1]"]
    assert refused(dialect, tools=tools, tool_choice={"type": "function", "name": "a"}) == "tool_choice"


@TRANSLATED
def test_a_local_shell_has_no_skills(dialect: str) -> None:
    shell = {"type": "shell", "environment": {"type": "local", "skills": [{"name": "s"}]}}
    assert [param for param, _ in build(dialect, tools=[shell]).warnings] == ["tools[0].environment"]


@TRANSLATED
@pytest.mark.parametrize(
    "name", ["extra_body", "extra_headers", "extra_query", "audio", "prediction", "web_search_options"]
)
def test_members_of_a_request_without_effect_are_warned_about(dialect: str, name: str) -> None:
    assert [param for param, _ in build(dialect, **{name: {"top_k": 5}}).warnings] == [name]
    assert sent("responses", **{name: {"top_k": 5}})[name] == {"top_k": 5}


@TRANSLATED
def test_modalities_are_warned_about_unless_they_are_text(dialect: str) -> None:
    assert build(dialect, modalities=["text"]).warnings == ()
    assert [param for param, _ in build(dialect, modalities=["text", "audio"]).warnings] == ["modalities"]


def test_members_that_are_forwarded_are_not_warned_about() -> None:
    request = parse({"model": "m", "input": "hi", "modalities": ["image"]})
    target = Target("up", "some-model", "https://inference.example/v1", "openrouter")
    assert PROVIDERS["chat"].build(request, target, {}, frozenset()).warnings == ()


@TRANSLATED
@pytest.mark.parametrize("member", ["prewarm", "comparison_response_id"])
def test_cache_options_without_effect_are_warned_about(dialect: str, member: str) -> None:
    options = {member: "resp_1" if member == "comparison_response_id" else True}
    assert [param for param, _ in build(dialect, prompt_cache_options=options).warnings] == [
        f"prompt_cache_options.{member}"
    ]
    assert sent("responses", prompt_cache_options=options)["prompt_cache_options"] == options
