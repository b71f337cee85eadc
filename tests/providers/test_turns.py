"""What becomes of items that a chat has no slot for, and of requests in which nobody speaks (decisions 52 and 56)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.errors import RelayError
from relay.providers.base import Target, UpstreamRequest, Warnings
from relay.providers.registry import PROVIDERS
from relay.providers.turns import NOTHING_SAID, OPENING, Results, Turn, turns
from relay.responses.emitter import Emitter
from relay.responses.items import normalise
from relay.responses.request import parse
from relay.responses.sinks import NullSink

Json = dict[str, Any]
EVERY = pytest.mark.parametrize("dialect", ["chat", "anthropic", "gemini"])
SAY: Json = {"role": "user", "content": "go"}


def build(dialect: str, items: list[Json], *, strict: bool = False, **body: Any) -> UpstreamRequest:
    request = parse({"model": "m", "input": items, **body}, strict=strict)
    return PROVIDERS[dialect].build(request.told(sealed=False), Target("up", "some-model"), {}, frozenset())


def messages(dialect: str, items: list[Json], **body: Any) -> list[Json]:
    """What the upstream is told, message by message; system texts that stand apart are left out."""
    sent = json.loads(build(dialect, items, **body).body)
    found = sent["contents" if dialect == "gemini" else "messages"]
    return [message for message in found if message["role"] not in ("system", "developer")]


def grouped(items: list[Json]) -> list[Turn]:
    request = parse({"model": "m", "input": []}).with_items(items)
    return turns(items, request, Warnings(request))


def call(identifier: str, name: str = "f", **more: Any) -> Json:
    return {"type": "function_call", "call_id": identifier, "name": name, "arguments": "{}", **more}


def output(identifier: str, text: str = "42") -> Json:
    return {"type": "function_call_output", "call_id": identifier, "output": text}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"output": "done"}, "done"),
        ({"error": "went wrong"}, "went wrong"),
        ({"error": {"code": 5}}, '{"code":5}'),
    ],
)
def test_an_mcp_call_becomes_a_call_and_its_output(fields: dict[str, object], said: str) -> None:
    item = {"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "t", "arguments": "{}", **fields}
    *_, results = grouped([*normalise("hi"), item])
    assert isinstance(results, Results)
    ((call, output),) = results.pairs
    assert (call["name"], output["output"]) == ("s__t", said)


# --- what nobody can be told (decision 52)

LEFT_OUT: dict[str, tuple[list[Json], list[str]]] = {
    # items between two messages -> where the warnings point
    "an item that nobody knows": ([{"type": "acme:gone", "id": "gone"}], ["input[1].type"]),
    "one that looks like a message": ([{"type": "acme:gone", "role": "user", "content": "gone"}], ["input[1].type"]),
    "one of OpenAI's own": ([{"type": "program", "id": "gone", "code": "gone"}], ["input[1].type"]),
    "a computer's call": (
        [{"type": "computer_call", "id": "gone", "call_id": "gone", "action": {}}],
        ["input[1].type"],
    ),
    "a call": ([call("gone", "gone")], ["input[1]"]),
    "a call that is not waited for": ([call("gone", "gone", **{"async": True})], ["input[1]"]),
    "a custom call": ([{"type": "custom_tool_call", "call_id": "gone", "name": "gone", "input": "x"}], ["input[1]"]),
    "a shell call": ([{"type": "shell_call", "call_id": "gone", "action": {"commands": ["gone"]}}], ["input[1]"]),
    "an output": ([output("gone", "gone")], ["input[1]"]),
    "a custom output": ([{"type": "custom_tool_call_output", "call_id": "gone", "output": "gone"}], ["input[1]"]),
    "an output with words in a sealed part": (
        [{**output("gone"), "output": [{"type": "encrypted_content", "encrypted_content": "it is gone"}]}],
        ["input[1]"],
    ),
    "an output of no call": ([{"type": "function_call_output", "name": "gone", "output": "gone"}], ["input[1]"]),
    "an output before its call": ([output("gone", "gone"), call("gone", "gone")], ["input[1]", "input[2]"]),
    "a call with its reasoning": (
        [{"type": "reasoning", "summary": [], "encrypted_content": "gone"}, call("gone", "gone")],
        ["input[2]"],
    ),
}


@EVERY
@pytest.mark.parametrize(("items", "places"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_it_is_left_out_with_a_warning(dialect: str, items: list[Json], places: list[str]) -> None:
    whole = [SAY, *items, {"role": "user", "content": "on"}]
    sent = build(dialect, whole)
    assert "gone" not in sent.body.decode()
    assert [param for param, _ in sent.warnings] == places
    roles = [message["role"] for message in messages(dialect, whole)]
    assert set(roles) == {"user"}
    with pytest.raises(RelayError) as caught:
        build(dialect, whole, strict=True)
    assert (caught.value.status, caught.value.param) == (400, places[0])


@EVERY
def test_what_is_left_out_of_messages_is_named_there(dialect: str) -> None:
    """One message may be several items: places in ``messages`` are not those of the items."""
    calls = [{"id": one, "type": "function", "function": {"name": one, "arguments": "{}"}} for one in ("c", "gone")]
    said: list[Json] = [
        SAY,
        {"role": "assistant", "content": "so", "reasoning_content": "hm", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c", "content": "42"},
        {"role": "tool", "tool_call_id": "lost", "content": "gone"},
    ]
    sent = PROVIDERS[dialect].build(parse({"model": "m", "messages": said}), Target("up", "m"), {}, frozenset())
    assert "gone" not in sent.body.decode()
    assert [param for param, _ in sent.warnings if "message" in param] == ["messages[1].tool_calls[1]", "messages[3]"]


@EVERY
@pytest.mark.parametrize("at", [0, 1, 2])
def test_one_beside_pairs_costs_only_itself(dialect: str, at: int) -> None:
    """Parallel calls, one of which has no output: the turn of the assistant stays whole without it."""
    calls = [call("call_1"), call("call_2")]
    calls.insert(at, call("gone", "gone"))
    whole = [SAY, *calls, output("call_1", "wind"), output("call_2", "rain"), output("call_x", "gone")]
    sent = build(dialect, whole)
    assert "gone" not in sent.body.decode()
    assert [param for param, _ in sent.warnings if param != "input"] == [f"input[{1 + at}]", "input[6]"]
    said = messages(dialect, whole)
    assert [sent.body.decode().count(word) for word in ("wind", "rain")] == [1, 1]
    assert [message["role"] for message in said][:2] == ["user", {"gemini": "model"}.get(dialect, "assistant")]


@EVERY
def test_text_beside_a_call_that_is_left_out_stays(dialect: str) -> None:
    said = {"role": "assistant", "content": "I look."}
    whole = [SAY, said, call("gone", "gone"), {"role": "user", "content": "on"}]
    assert [message["role"] for message in messages(dialect, whole)] == [
        "user",
        {"gemini": "model"}.get(dialect, "assistant"),
        "user",
    ]
    # at the end of the list it is as if it had never been there
    assert messages(dialect, whole[:3]) == messages(dialect, whole[:2])


@EVERY
def test_an_output_that_comes_a_turn_late_brings_its_call_back(dialect: str) -> None:
    """Decision 25's named exception: from then on the bytes stay."""
    late = [SAY, call("call_1"), {"role": "user", "content": "wait"}]
    there = [*late, output("call_1", "sunny"), {"role": "user", "content": "and now?"}]
    assert "call_1" not in json.dumps(messages(dialect, late))
    found = messages(dialect, there)
    longer = messages(dialect, [*there, {"role": "assistant", "content": "warm"}, SAY])
    assert "sunny" in json.dumps(found)
    assert longer[: len(found)] == found


@EVERY
def test_of_very_many_only_the_first_are_named(dialect: str) -> None:
    items = [SAY, *({"type": f"acme:{number}"} for number in range(100))]
    warnings = build(dialect, items).warnings
    assert len(warnings) == 33
    assert warnings[-1] == ("input", "68 more were left out")


@EVERY
def test_items_of_an_earlier_response_have_no_place(dialect: str) -> None:
    before = normalise([SAY, call("call_1")])
    own = normalise([{"type": "acme:note"}, SAY])
    request = parse({"model": "m", "input": []}).with_window(before, own)
    sent = PROVIDERS[dialect].build(request, Target("up", "some-model"), {}, frozenset())
    assert [param for param, _ in sent.warnings] == ["input", "input[0].type"]


@EVERY
def test_a_continuation_of_lost_outputs_alone_is_none(dialect: str) -> None:
    """The Open Responses suite: ``websocket-failed-continuation-evicts-cache``."""
    own = normalise([output("call_missing")])
    request = parse({"model": "m", "input": []}).with_window(normalise([SAY]), own)
    with pytest.raises(RelayError, match="No tool call found for function call output with call_id call_missing") as e:
        PROVIDERS[dialect].build(request, Target("up", "some-model"), {}, frozenset())
    assert (e.value.status, e.value.param) == (400, "input")


# --- where nobody says anything (decision 56)

BLANK: dict[str, list[Json]] = {
    "nothing": [],
    "an empty string": [{"role": "user", "content": ""}],
    "a blank string": [{"role": "user", "content": " \n\t"}],
    "no parts": [{"role": "user", "content": []}],
    "blank parts": [
        {"role": "user", "content": [{"type": "input_text", "text": ""}, {"type": "input_text", "text": " "}]}
    ],
    "only the system": [{"role": "system", "content": "Say hello."}],
    "only the developer": [{"role": "developer", "content": "Say hello."}],
    "the system and a blank": [{"role": "system", "content": "Say hello."}, {"role": "user", "content": ""}],
    "an item that nobody knows": [{"type": "acme:note"}],
    "a call without output": [call("call_1")],
    "an output without call": [output("call_1")],
    "reasoning": [{"type": "reasoning", "summary": []}],
}
NEEDY: list[tuple[str, Json]] = [
    ("anthropic", {}),
    ("gemini", {}),
    *(("chat", {"quirks": quirks}) for quirks in ("vllm", "sglang", "ollama", "llamacpp", "mistral", "minimax")),
    *(("chat", {"model": model}) for model in ("qwen3.5-27b", "gemma-3", "anthropic/claude-opus-5", "gemini-3.5-pro")),
]


def asked(dialect: str, items: Any, where: Json, *, strict: bool = False, **body: Any) -> UpstreamRequest:
    request = parse({"model": "m", "input": items, **body}, strict=strict)
    target = Target("up", where.get("model", "some-model"), "", where.get("quirks"))
    return PROVIDERS[dialect].build(request, target, {}, frozenset())


def users(dialect: str, sent: UpstreamRequest) -> list[tuple[str, str]]:
    """(role, its texts) of all but the system."""
    body = json.loads(sent.body)
    found = []
    for message in body["contents" if dialect == "gemini" else "messages"]:
        content = message.get("parts", message.get("content"))
        text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
        found.append((message["role"], text))
    return [(role, text) for role, text in found if role not in ("system", "developer")]


@pytest.mark.parametrize(("dialect", "where"), NEEDY)
@pytest.mark.parametrize("items", BLANK.values(), ids=BLANK)
@pytest.mark.parametrize("instructions", ["Say hello.", None])
def test_a_neutral_text_stands_in(dialect: str, where: Json, items: list[Json], instructions: str | None) -> None:
    sent = asked(dialect, items, where, instructions=instructions)
    assert users(dialect, sent) == [("user", OPENING)]
    assert NOTHING_SAID in sent.warnings
    assert ("Say hello." in sent.body.decode()) == (instructions is not None or "Say hello." in json.dumps(items))
    with pytest.raises(RelayError) as caught:
        asked(dialect, items, where, strict=True)
    assert str(caught.value.param).startswith("input")


@pytest.mark.parametrize(("dialect", "where"), NEEDY)
@pytest.mark.parametrize("more", [[], [{"role": "user", "content": "hi"}]])
def test_what_follows_stands_behind_the_same_text(dialect: str, where: Json, more: list[Json]) -> None:
    """Decision 25: the answer to a request in which nobody spoke is continued behind the bytes that it answered."""
    items = [{"role": "system", "content": "Say hello."}]
    before = users(dialect, asked(dialect, items, where))
    after = users(dialect, asked(dialect, [*items, {"role": "assistant", "content": "Hello."}, *more], where))
    assert after[:1] == before
    assert after[1][1] == "Hello."


@pytest.mark.parametrize("quirks", ["openai", "openrouter", "deepseek", "groq", "xai", None])
def test_a_chat_server_that_needs_no_user_is_told_what_was_said(quirks: str | None) -> None:
    said = [{"role": "system", "content": "Say hello."}]
    assert users("chat", asked("chat", said, {"quirks": quirks})) == []
    assert users("chat", asked("chat", [*said, {"role": "user", "content": ""}], {"quirks": quirks})) == [("user", "")]
    assert not asked("chat", said, {"quirks": quirks}, strict=True).warnings
    nothing = asked("chat", [], {"quirks": quirks})
    assert users("chat", nothing) == [("user", OPENING)]
    assert nothing.warnings == (NOTHING_SAID,)


@pytest.mark.parametrize(("dialect", "where"), NEEDY)
def test_a_picture_says_something(dialect: str, where: Json) -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}
    sent = asked(dialect, [{"role": "user", "content": [picture, {"type": "input_text", "text": ""}]}], where)
    assert NOTHING_SAID not in sent.warnings
    assert OPENING not in sent.body.decode()


# --- what agents say to each other


def agent_message(*content: Json, **fields: Any) -> Json:
    return {"type": "agent_message", "author": "/root", "recipient": "/root/worker", "content": list(content), **fields}


def text(value: str) -> Json:
    return {"type": "input_text", "text": value}


def sealed(value: str) -> Json:
    return {"type": "encrypted_content", "encrypted_content": value}


HEAD = "Message Type: NEW_TASK\nTask name: /root/worker\nSender: /root\nPayload:\n"
TOKEN = "gAAAAABoZW" + "x9_-" * 40 + "=="
AGENTS: dict[str, tuple[Json, str, list[str]]] = {
    "its words": (agent_message(text(HEAD + "list the files")), HEAD + "list the files", []),
    "words where a seal is meant": (agent_message(text(HEAD), sealed("list the files")), HEAD + "list the files", []),
    "words without a head": (agent_message(sealed("list")), "Message from /root to /root/worker:\nlist", []),
    "no recipient": (agent_message(text("a"), recipient=None), "Message from /root:\na", []),
    "nobody's": (agent_message(text("a"), author=None), "a", []),
    "a string": (agent_message(content="from /root: a"), "from /root: a", []),
    "a sealed part": (agent_message(text(HEAD), sealed(TOKEN)), HEAD, ["input[0].content[1]"]),
    "a short one": (agent_message(text(HEAD), sealed("gAAAsealed")), HEAD, ["input[0].content[1]"]),
    "base64 of another kind": (agent_message(text(HEAD), sealed("A/+b" * 40)), HEAD, ["input[0].content[1]"]),
    "sealed alone": (agent_message(sealed(TOKEN)), OPENING, ["input[0].content[0]"]),
    "nothing": (agent_message(), OPENING, []),
}


@EVERY
@pytest.mark.parametrize(("item", "said", "places"), AGENTS.values(), ids=AGENTS)
def test_an_agents_message_is_a_users(dialect: str, item: Json, said: str, places: list[str]) -> None:
    sent = build(dialect, [item])
    assert users(dialect, sent) == [("user", said)]
    assert [param for param, _ in sent.warnings if param != "input"] == places
    if places:
        with pytest.raises(RelayError) as caught:
            build(dialect, [item], strict=True)
        assert caught.value.param == places[0]


@EVERY
def test_a_picture_from_an_agent_is_shown(dialect: str) -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}
    assert "iVBORw0KGgo=" in build(dialect, [agent_message(text("see"), picture)]).body.decode()


@EVERY
@pytest.mark.parametrize(("value", "there"), [("the files are a, b", True), (TOKEN, False)])
def test_sealed_parts_elsewhere(dialect: str, value: str, there: bool) -> None:
    """Codex puts what another agent answered into the output of a call."""
    items = [SAY, call("call_1"), {**output("call_1"), "output": [text("It says: "), sealed(value)]}]
    sent = build(dialect, [*items, {"role": "user", "content": [text("x"), sealed(value)]}])
    assert (value in sent.body.decode()) == there
    places = [param for param, _ in sent.warnings if param != "input"]  # Gemini misses the signature of the call
    assert places == ([] if there else ["input[2].output[1]", "input[3].content[1]"])


def test_what_has_no_sealed_parts_is_not_copied() -> None:
    request = parse({"model": "m", "input": [SAY, call("a"), {**output("a"), "output": [text("x")]}, output("b")]})
    assert request.told(sealed=False).items is request.items
    assert request.told(sealed=True).items is request.items


def test_log_probabilities_may_follow_text_and_each_other() -> None:
    emitter = Emitter({"id": "resp_1"}, NullSink(), lambda prefix: prefix + "_1", lambda: 1)
    voice = emitter.voice({})
    voice.text("a")
    voice.logprobs("b", [])
    voice.logprobs("c", [])
    assert voice.text_so_far() == "abc"
