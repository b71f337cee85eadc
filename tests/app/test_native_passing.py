"""What an upstream that keeps responses gets as the client sent it, and what it never gets."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from relay.app.compaction import compaction_fields
from tests.app.support import fronting, post
from tests.server.support import Client
from tests.support import run

ANSWER = {
    "id": "resp_up",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "m",
    "output": [],
    "usage": None,
}


def heard(body: dict[str, Any], **upstream: Any) -> tuple[int, dict[str, Any]]:
    """The relay's status, and the body that the upstream got (empty if none)."""
    seen: dict[str, Any] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        seen.update(orjson.loads(await reader.readexactly(length)))
        content = orjson.dumps(ANSWER)
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (len(content), content)
        )
        await writer.drain()
        writer.close()

    async def ask() -> int:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            async with fronting(
                "responses", f"http://127.0.0.1:{port}/v1", **{"state": "upstream", **upstream}
            ) as relay:
                client = await Client.connect(relay.port)
                client.write(post(body))
                return (await client.answer()).status
        finally:
            server.close()

    return run(ask()), seen


def test_a_prompt_of_the_upstreams_own_passes() -> None:
    prompt = {"id": "pmpt_1", "version": "2", "variables": {"a": "b"}}
    status, body = heard({"model": "m", "prompt": prompt})
    assert status == 200
    assert body["prompt"] == prompt


def test_a_prompt_that_nobody_has_is_not_found() -> None:
    status, body = heard({"model": "m", "input": "hi", "prompt": {"id": "pmpt_1"}}, state="relay")
    assert (status, body) == (404, {})


@pytest.mark.parametrize("state", ["upstream", "relay"])
def test_whether_an_input_is_needed_is_the_upstreams_to_say(state: str) -> None:
    status, body = heard({"model": "m"}, state=state)
    assert (status, body["model"]) == (200, "m")
    assert "input" not in body


@pytest.mark.parametrize("ours", [True, False])
def test_a_compaction_passes_unless_a_relay_made_it(ours: bool) -> None:
    item = compaction_fields("m", "the story so far") if ours else {"type": "compaction", "encrypted_content": "gAAA"}
    said = [{"role": "user", "content": "old"}, item, {"role": "user", "content": "go on"}]
    status, body = heard({"model": "m", "input": said})
    assert status == 200
    if ours:
        texts = [part["text"] for one in body["input"] for part in one["content"]]
        assert texts[0] == "old"
        assert texts[1].endswith("the story so far")
        assert texts[2] == "go on"
    else:
        assert body["input"][1]["encrypted_content"] == "gAAA"


# --- native upstreams judge what is theirs (decision 57)

STATES = pytest.mark.parametrize("state", ["upstream", "relay"])
GO: dict[str, Any] = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "go"}]}
F = {"type": "function", "name": "f", "async": True, "allowed_callers": ["direct"]}
THEIRS: dict[str, dict[str, Any]] = {
    # members of a request that the relay does not know, and need not
    "an effort": {"reasoning": {"effort": "ultra"}},
    "an effort that is no word": {"reasoning": {"effort": {"budget": 5}}},
    "a summary": {"reasoning": {"summary": "long", "context": "last_turn", "novelty": 1}},
    "a verbosity": {"text": {"verbosity": "loud"}},
    "a format": {"text": {"format": {"type": "grammar", "syntax": "lark", "definition": "start: A"}}},
    "a format without a name": {"text": {"format": {"type": "json_schema", "schema": {}}}},
    "a type of tool": {"tools": [{"type": "acme_tool", "x": [1]}, {"type": 5}, F]},
    "a tool without a name": {"tools": [{"type": "function"}]},
    "two tools of one name": {"tools": [F, F]},
    "a choice": {"tool_choice": {"type": "acme_choice"}},
    "a choice in a word": {"tool_choice": "maybe"},
    "a choice of no tool": {"tool_choice": {"type": "function", "name": "g"}},
    "a temperature": {"temperature": 3.5},
    "a temperature that is none": {"temperature": "hot"},
    "more log probabilities": {"top_logprobs": 40},
    "a limit": {"max_output_tokens": 0, "max_tool_calls": 0},
    "instructions in parts": {"instructions": [GO]},
    "metadata of another form": {"metadata": {"a": 5, "b": "x" * 600}},
    "a cache": {"prompt_cache_retention": "7d"},
    "an option of the stream": {"stream_options": {"include_obfuscation": "no"}},
    "what nobody knows": {"personality": "friendly", "novelty": {"a": [1]}},
}
ITEMS: dict[str, list[Any]] = {
    # whole inputs, typed: what goes in comes out
    "an item": [GO, {"type": "acme:note", "id": "x_1", "status": "completed", "content": 5}],
    "a role": [{"type": "message", "role": "critic", "content": [{"type": "input_text", "text": "x"}]}],
    "content that is none": [{"type": "message", "role": "user", "content": 5}],
    "a part": [{"type": "message", "role": "user", "content": [{"type": "input_video", "video_url": "https://x"}]}],
    "a part without text": [{"type": "message", "role": "user", "content": [{"type": "input_text"}]}],
    "a sound by its address": [
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_audio", "audio_url": "data:audio/wav;base64,A"}],
        }
    ],
    "a file of its own": [
        {"type": "message", "role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}
    ],
    "a call that is not waited for": [
        GO,
        {"type": "function_call", "call_id": "k", "name": "f", "arguments": "{}", "async": True},
        GO,
    ],
    "a call without arguments": [GO, {"type": "function_call", "call_id": "k", "name": "f", "arguments": {}}, GO],
    "a call without an id": [GO, {"type": "function_call", "name": "f", "arguments": "{}"}],
    "a shell call of another form": [GO, {"type": "shell_call", "call_id": "k", "action": "ls"}],
    "an output by name": [GO, {"type": "function_call_output", "name": "watch", "output": "green"}],
    "an output without a call": [GO, {"type": "function_call_output", "call_id": "k", "output": {"a": 1}}],
    "a sealed output": [
        GO,
        {
            "type": "function_call_output",
            "call_id": "k",
            "output": [{"type": "encrypted_content", "encrypted_content": "gAAA"}],
        },
    ],
    "reasoning of another form": [GO, {"type": "reasoning", "summary": "x"}],
    "a compaction of its own": [{"type": "compaction", "encrypted_content": "gAAA"}, GO],
    "a program": [GO, {"type": "program", "id": "p_1", "code": "x"}],
}


@STATES
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("members", THEIRS.values(), ids=THEIRS)
def test_members_pass(members: dict[str, Any], state: str, strict: bool) -> None:
    """Also where the relay refuses what it cannot pass on: nothing of this is lost."""
    status, body = heard({"model": "m", "input": "hi", **members}, state=state, strict=strict)
    assert (status, {name: body.get(name) for name in members}) == (200, members)


@STATES
@pytest.mark.parametrize("items", ITEMS.values(), ids=ITEMS)
def test_items_pass(items: list[Any], state: str) -> None:
    status, body = heard({"model": "m", "input": items}, state=state)
    assert (status, body["input"]) == (200, items)


READ: list[tuple[dict[str, Any], str]] = [
    ({"input": 5}, "input"),
    ({"input": [5]}, "input[0]"),
    ({"input": [{"type": 5}]}, "input[0].type"),
    ({"input": [{}]}, "input[0].type"),
    ({"input": [{"role": 5, "content": "x"}]}, "input[0].role"),
    ({"input": [{"type": "acme:note", "id": 5}]}, "input[0].id"),
    ({"input": [{"type": "function_call", "call_id": 5}]}, "input[0].call_id"),
    ({"input": [{"type": "function_call", "name": 5}]}, "input[0].name"),
    ({"input": [{"role": "user", "content": [5]}]}, "input[0].content[0]"),
    ({"input": [{"type": "function_call_output", "call_id": "k", "output": [5]}]}, "input[0].output[0]"),
    ({"input": [{"type": "item_reference"}]}, "input[0].id"),
    ({"stream": "yes"}, "stream"),
    ({"store": 1}, "store"),
    ({"background": "no"}, "background"),
    ({"include": "x"}, "include"),
    ({"n": 99}, "n"),
    ({"reasoning": "high"}, "reasoning"),
    ({"text": []}, "text"),
    ({"tools": {}}, "tools"),
    ({"prompt": "p"}, "prompt"),
    ({"previous_response_id": 5}, "previous_response_id"),
]


@STATES
@pytest.mark.parametrize(("members", "param"), READ)
def test_what_the_relay_reads_is_checked(members: dict[str, Any], param: str, state: str) -> None:
    assert heard({"model": "m", "input": "hi", **members}, state=state) == (400, {})


@STATES
@pytest.mark.parametrize("value", ["last_turns", {"type": "oldest"}])
def test_other_truncations_pass_where_the_upstream_keeps_responses(value: Any, state: str) -> None:
    status, body = heard({"model": "m", "input": "hi", "truncation": value}, state=state)
    assert (status, body.get("truncation")) == ((200, value) if state == "upstream" else (400, None))


def test_a_message_to_an_agent_is_a_users_where_the_relay_keeps_responses() -> None:
    item = {"type": "agent_message", "author": "/root", "recipient": "/root/w", "content": [GO["content"][0]]}
    status, body = heard({"model": "m", "input": [item]})
    assert (status, body["input"]) == (200, [item])
    status, body = heard({"model": "m", "input": [item]}, state="relay")
    (said,) = body["input"]
    assert (status, said["type"], said["role"]) == (200, "message", "user")
    assert said["content"][0]["text"].endswith("go")


SHORT = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "ok"}, {"role": "user", "content": ["b"]}]


@pytest.mark.parametrize("quirks", ["openai", "azure", None, "vllm", "xai"])
def test_a_server_other_than_openais_gets_each_item_with_its_type(quirks: str | None) -> None:
    """llama.cpp takes an assistant's message only with its type and its parts."""
    status, body = heard({"model": "m", "input": SHORT}, state="relay", quirks=quirks)
    assert status == 200
    if quirks in ("openai", "azure"):
        assert body["input"] == SHORT
    else:
        assert [item["type"] for item in body["input"]] == ["message"] * 3
        kinds = [part["type"] for item in body["input"] for part in item["content"]]
        assert kinds == ["input_text", "output_text", "input_text"]


@pytest.mark.parametrize(("quirks", "kept"), [("openai", True), ("azure", True), (None, False), ("vllm", False)])
def test_what_calls_carry_for_codex_goes_to_openai_only(quirks: str | None, kept: bool) -> None:
    call = {"type": "function_call", "call_id": "k", "name": "f", "arguments": "{}", "encrypted_function_args": []}
    output = {"type": "function_call_output", "call_id": "k", "output": "x"}
    status, body = heard({"model": "m", "input": [GO, call, output]}, state="relay", quirks=quirks)
    assert (status, "encrypted_function_args" in body["input"][1]) == (200, kept)
