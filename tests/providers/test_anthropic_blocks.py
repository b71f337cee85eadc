"""Blocks of an Anthropic answer that do not begin, do not end, come mixed, are hidden, or that nobody knows.

Source: decisions 44, 49, 51; QuantumNous/new-api#5870 (deltas without a start), envoyproxy/ai-gateway#1631 (zeros at
the end); the beta types of the anthropic SDK 2.14 (``compaction``, ``fallback``, ``container_upload``,
``mcp_tool_listing``) and platform.claude.com, "Compaction", "Refusals and fallback".
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.providers.anthropic_content import Context
from relay.responses.emitter import LEFT_OUT_LIMIT, OUTPUT_LIMIT_BYTES
from relay.responses.envelope import unseal
from relay.responses.tools import Tool
from tests.providers.anthropic_support import (
    NEWEST,
    Heard,
    Json,
    block,
    build,
    call,
    end,
    event,
    hear,
    start,
    text,
    thought,
)

TOOL = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
SUMMARY = {"type": "compaction", "content": "So far."}
GAVE_WAY = {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}, "trigger": {"type": "refusal"}}


def delta(index: Any, kind: str | None, **fields: Any) -> bytes:
    return event("content_block_delta", index=index, delta={**({"type": kind} if kind else {}), **fields})


def said(index: Any, words: str) -> bytes:
    return delta(index, "text_delta", text=words)


def mused(index: Any, words: str) -> bytes:
    return delta(index, "thinking_delta", thinking=words)


def signed(index: Any, signature: str = "c2ln") -> bytes:
    return delta(index, "signature_delta", signature=signature)


def given(index: Any, fragment: Any) -> bytes:
    return delta(index, "input_json_delta", partial_json=fragment)


def begun(index: Any, content: Any) -> bytes:
    return event("content_block_start", index=index, content_block=content)


def stop(index: Any) -> bytes:
    return event("content_block_stop", index=index)


def blocks(heard: Heard) -> list[Json]:
    """What is sealed, in order."""
    found = [unseal(item.get("encrypted_content")) for item in heard.items("reasoning")]
    return [json.loads(one) for envelope in found if envelope is not None for one in envelope.blocks]


def warned(heard: Heard) -> list[str]:
    return [one["reason"] for one in heard.final.get("x_relay_warnings", [])]


# --- deltas whose block was never begun


@pytest.mark.parametrize("index", [0, 1, None, "x", [0], 1.5])
@pytest.mark.parametrize("ending", [b"", stop(1)])
def test_text_opens_its_block(index: Any, ending: bytes) -> None:
    heard = hear(start() + said(index, "I") + said(index, " help") + ending + end())
    assert (heard.final["status"], heard.text, heard.kinds) == ("completed", "I help", ["message"])


def test_text_opens_its_block_before_the_message_begins_and_after_a_start_that_says_nothing() -> None:
    assert hear(said(0, "a") + start() + said(0, "b") + end()).text == "ab"
    assert hear(start() + begun(0, None) + said(0, "x") + stop(0) + end()).text == "x"


def test_every_cut_of_the_stream_says_the_same() -> None:
    stream = start() + said(0, "one ") + said(0, "two ") + said(0, "three") + end()
    for at in range(0, len(stream), 7):
        assert hear([stream[:at], stream[at:]]).text == "one two three"
    assert hear([bytes([byte]) for byte in stream]).text == "one two three"


def test_thoughts_open_their_block() -> None:
    heard = hear(start() + mused(0, "Hm") + mused(0, "m.") + signed(0) + said(1, "yes") + end())
    assert heard.kinds == ["reasoning", "message"]
    assert heard.output[0]["summary"] == [{"type": "summary_text", "text": "Hmm."}]
    assert blocks(heard) == [{"type": "thinking", "thinking": "Hmm.", "signature": "c2ln"}]


def test_a_signature_opens_its_block() -> None:
    heard = hear(start() + signed(0) + text(1, "yes") + end())
    assert blocks(heard) == [{"type": "thinking", "thinking": "", "signature": "c2ln"}]
    assert heard.text == "yes"


def test_a_citation_opens_its_block() -> None:
    note = {"type": "web_search_result_location", "url": "https://e.com", "title": "T"}
    heard = hear(start() + text(0, "abc") + delta(1, "citations_delta", citation=note) + end())
    (part,) = heard.output[0]["content"]
    assert part["annotations"][0]["url"] == "https://e.com"


def test_a_summary_opens_its_block() -> None:
    heard = hear(start() + delta(0, "compaction_delta", content="So far.") + text(1, "yes") + end())
    assert blocks(heard) == [SUMMARY]


@pytest.mark.parametrize("fragment", ["{}", "", '{"x":1}', {"x": 1}])
def test_arguments_of_a_call_that_nobody_named_are_a_failure(fragment: Any) -> None:
    for before in (b"", text(0, "so")):
        heard = hear(start() + before + given(3, fragment) + end("tool_use"))
        assert heard.final["status"] == "failed"


@pytest.mark.parametrize("name", [None, "", 5])
def test_a_call_without_a_name_is_a_failure(name: Any) -> None:
    heard = hear(start() + call(0, "t", name, "{}") + end("tool_use"))
    assert heard.final["status"] == "failed"
    assert heard.items("function_call") == []


# --- deltas that their block does not take


def test_a_thought_and_a_text_of_one_index_are_two_blocks() -> None:
    stream = (
        start() + begun(0, {"type": "thinking", "thinking": ""}) + mused(0, "Hm") + said(0, "yes") + stop(0) + end()
    )
    heard = hear(stream)
    assert (heard.final["status"], heard.kinds, heard.text) == ("completed", ["reasoning", "message"], "yes")
    back = hear(start() + begun(0, {"type": "text", "text": ""}) + said(0, "a") + mused(0, "b") + stop(0) + end())
    assert back.kinds == ["message", "reasoning"]
    assert back.output[1]["summary"] == [{"type": "summary_text", "text": "b"}]


def test_a_block_that_another_took_over_is_still_to_end() -> None:
    heard = hear(start() + begun(0, {"type": "thinking", "thinking": ""}) + said(0, "yes") + end())
    assert heard.final["status"] == "failed"


def test_text_in_a_call_stands_beside_it() -> None:
    for fill, arguments in (
        (given(0, '{"x"') + said(0, "so") + said(0, "!") + given(0, ":1}"), '{"x":1}'),
        (said(0, "so!"), "{}"),
    ):
        heard = hear(start() + begun(0, TOOL) + fill + stop(0) + end("tool_use"))
        assert heard.final["status"] == "completed"
        assert heard.text == "so!"
        assert [one["arguments"] for one in heard.items("function_call")] == [arguments]


def test_text_in_a_block_that_nobody_knows_is_said() -> None:
    heard = hear(start() + block(0, {"type": "novel"}, {"type": "text_delta", "text": "x"}) + end())
    assert heard.text == "x"
    assert warned(heard) == ["a content block of the type 'novel' that the upstream sent was left out"]


def test_arguments_in_a_text_are_a_failure_unless_empty() -> None:
    assert (
        hear(
            start() + block(0, {"type": "text", "text": "x"}, {"type": "input_json_delta", "partial_json": ""}) + end()
        ).text
        == "x"
    )
    heard = hear(start() + begun(0, {"type": "text", "text": "x"}) + given(0, "{}") + stop(0) + end())
    assert heard.final["status"] == "failed"


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        (None, {"text": "x"}, "x"),
        ("text", {"text": "x"}, "x"),
        (None, {"partial_json": '{"x":1}'}, None),
    ],
)
def test_deltas_whose_type_their_members_say(kind: str | None, fields: Json, words: str | None) -> None:
    opened = {"type": "text", "text": ""} if words else TOOL
    heard = hear(start() + begun(0, opened) + delta(0, kind, **fields) + stop(0) + end())
    assert heard.text == words if words else heard.output[0]["arguments"] == '{"x":1}'


def test_deltas_that_nobody_knows_are_left_out_with_a_warning() -> None:
    heard = hear(
        start() + block(0, {"type": "text", "text": "x"}, {"type": "novel_delta", "novel": 1}) + delta(0, None) + end()
    )
    assert (heard.final["status"], heard.text) == ("completed", "x")
    assert warned(heard)[0] == "a delta of the type 'novel_delta' that the upstream sent was left out"


def test_warnings_about_types_are_bounded() -> None:
    odd = b"".join(block(n, {"type": f"novel\ud83d{n}" * 100}) for n in range(100))
    assert len(warned(hear(start() + odd + text(100, "x") + end()))) == LEFT_OUT_LIMIT


# --- blocks that have ended


def test_text_behind_the_end_of_its_block_is_said() -> None:
    assert hear(start() + text(0, "a") + said(0, "b") + end()).text == "ab"


def test_a_late_signature_still_signs_its_thought() -> None:
    heard = hear(start() + thought(0, None, "Hm.") + signed(0) + text(1, "yes") + end())
    assert heard.kinds == ["reasoning", "message"]
    assert blocks(heard) == [{"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}]
    twice = hear(start() + thought(0, "c2ln", "Hm.") + signed(0, "b3RoZXI=") + text(1, "yes") + end())
    assert blocks(twice) == blocks(heard)


def test_arguments_behind_the_end_of_their_call_are_a_failure() -> None:
    assert hear(start() + call(0, "t", "look", "{}") + given(0, "") + end("tool_use")).final["status"] == "completed"
    assert hear(start() + call(0, "t", "look", '{"x":') + given(0, "1}") + end("tool_use")).final["status"] == "failed"
    assert hear(start() + call(0, "t", "look") + given(0, '{"x":1}') + end("tool_use")).final["status"] == "failed"


def test_an_index_may_be_used_again() -> None:
    heard = hear(start() + call(0, "t", "look", '{"x":1}') + call(0, "u", "look", '{"x":2}') + text(0, "so") + end())
    assert [one["arguments"] for one in heard.items("function_call")] == ['{"x":1}', '{"x":2}']
    assert heard.text == "so"


# --- blocks that never end


CUT = begun(0, TOOL) + given(0, '{"x": "on')


@pytest.mark.parametrize(
    "stream",
    [
        CUT,
        begun(0, TOOL),
        begun(0, {"type": "text", "text": ""}) + said(0, "so"),
        begun(0, {"type": "thinking", "thinking": ""}) + mused(0, "Hm"),
        begun(0, {"type": "server_tool_use", "id": "s", "name": "web_search"}) + given(0, '{"query":"q"}'),
        begun(0, TOOL) + given(0, '{"x":1}'),
        CUT + begun(0, {**TOOL, "id": "toolu_2"}) + given(0, '{"x": "one"}') + stop(0),
        begun(0, {"type": "text", "text": ""})
        + said(0, "Hel")
        + begun(0, {"type": "text", "text": ""})
        + said(0, "lo")
        + stop(0),
        begun(0, {"type": "text", "text": ""}) + said(0, "Hel") + text(1, "lo"),
    ],
)
def test_a_block_that_never_ended_is_no_success(stream: bytes) -> None:
    heard = hear(start() + stream + end("tool_use"), check=False)
    assert heard.final["status"] == "failed"
    assert all(
        item["status"] == "incomplete" for item in heard.items("function_call") if item["arguments"] == '{"x": "on'
    )
    paused = hear([start() + stream + end("pause_turn")], check=False)
    assert paused.final["status"] == "failed"
    limited = hear(start() + stream + end("max_tokens"), check=False)
    assert limited.final["incomplete_details"] == {"reason": "max_output_tokens"}
    filtered = hear(start() + stream + end("refusal"), check=False)
    assert filtered.final["status"] == "incomplete"


def test_a_start_told_twice_is_one_block() -> None:
    twice = begun(0, TOOL) + begun(0, TOOL) + given(0, '{"x":1}') + stop(0)
    heard = hear(start() + twice + end("tool_use"))
    assert (heard.final["status"], len(heard.output), heard.output[0]["arguments"]) == ("completed", 1, '{"x":1}')


def test_blocks_side_by_side_keep_apart() -> None:
    other = {**TOOL, "id": "toolu_2"}
    mixed = begun(0, TOOL) + begun(1, other) + given(0, '{"x"') + given(1, '{"y"') + given(0, ":1}") + given(1, ":2}")
    heard = hear(start() + mixed + stop(1) + stop(0) + end("tool_use"))
    assert [one["arguments"] for one in heard.items("function_call")] == ['{"x":1}', '{"y":2}']
    texts = (
        begun(0, {"type": "text", "text": ""}) + begun(1, {"type": "text", "text": ""}) + said(0, "a") + said(1, "b")
    )
    assert hear(start() + texts + said(0, "c") + stop(0) + stop(1) + end()).text == "abc"


# --- messages


def test_a_second_message_before_the_end_of_the_first_is_a_failure() -> None:
    for between in (CUT, text(0, "a"), said(0, "a"), begun(0, {"type": "text", "text": ""})):
        heard = hear(start() + between + start() + text(0, "b") + end(), check=False)
        assert heard.final["status"] == "failed"
    assert hear(start() + start(id="msg_2") + text(0, "b") + end()).final["status"] == "failed"


def test_a_message_told_twice_is_one() -> None:
    heard = hear(start() + event("ping") + start() + text(0, "b") + end())
    assert (heard.final["status"], heard.text, heard.final["usage"]["input_tokens"]) == ("completed", "b", 10)


# --- usage


def test_no_zero_and_no_null_takes_a_count_back() -> None:
    first = {"input_tokens": 25, "output_tokens": 1, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 3}
    first["output_tokens_details"] = {"thinking_tokens": 4}  # type: ignore[assignment]
    last = dict.fromkeys(first, 0) | {"output_tokens": 15, "output_tokens_details": {"thinking_tokens": 0, "novel": 0}}
    for ending in (last, {**last, "input_tokens": None, "output_tokens_details": None}):
        usage = hear(start(usage=first) + text(0, "Hi") + end(usage=ending)).final["usage"]
        assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (38, 15, 53)
        assert usage["input_tokens_details"] == {"cached_tokens": 10, "cache_write_tokens": 3}
        assert usage["output_tokens_details"] == {"reasoning_tokens": 4}
    assert hear(start(usage={"output_tokens": 0}) + end(usage={"output_tokens": 0})).final["usage"]["total_tokens"] == 0


# --- hidden blocks


@pytest.mark.parametrize(
    ("opened", "deltas", "whole"),
    [
        ({"type": "compaction", "content": None}, [{"content": "So far."}], SUMMARY),
        ({"type": "compaction", "content": ""}, [{"content": "So "}, {"content": "far."}], SUMMARY),
        (SUMMARY, [], SUMMARY),
        ({"type": "compaction", "content": None}, [{"content": None}], {"type": "compaction", "content": None}),
        (
            {"type": "compaction", "content": None, "signature": "c2ln"},
            [{"content": "So far.", "encrypted_content": "b2xk"}, {"content": None, "encrypted_content": "bmV3"}],
            {**SUMMARY, "encrypted_content": "bmV3", "signature": "c2ln"},
        ),
        (GAVE_WAY, [], GAVE_WAY),
        ({"type": "container_upload", "file_id": "file_1"}, [], {"type": "container_upload", "file_id": "file_1"}),
        (
            {"type": "mcp_tool_listing", "mcp_server_name": "w", "tools": [{"name": "n"}]},
            [],
            {"type": "mcp_tool_listing", "mcp_server_name": "w", "tools": [{"name": "n"}]},
        ),
    ],
)
def test_hidden_blocks_go_back_where_they_stood(opened: Json, deltas: list[Json], whole: Json) -> None:
    stream = block(1, opened, *({"type": "compaction_delta", **one} for one in deltas))
    heard = hear(start() + text(0, "a") + stream + text(2, "b") + end(), context=Context(model=NEWEST))
    assert (heard.final["status"], heard.text) == ("completed", "ab")
    assert warned(heard) == []
    sent = json.loads(build({"input": ["go", *heard.output, "on"][1:], "instructions": "i"}).body)
    assert sent["messages"][1]["content"] == [{"type": "text", "text": "a"}, whole, {"type": "text", "text": "b"}]
    if not deltas:
        body = {"type": "message", "content": [opened, {"type": "text", "text": "x"}], "stop_reason": "end_turn"}
        assert blocks(hear(body)) == [whole]


def test_the_source_of_a_hidden_block_stays_as_it_came() -> None:
    origin = '{"to":{"model":"b"},  "type":"fallback","novel":1.0,"from":{"model":"a"},"trigger":null}'
    raw = (
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":' + origin.encode()
    )
    heard = hear(start() + raw + b"}\n\n" + stop(0) + text(1, "x") + end())
    envelope = unseal(heard.output[0]["encrypted_content"])
    assert envelope is not None
    assert envelope.blocks == (origin,)


def seal_of(heard: Heard, *more: Json) -> Any:
    return json.loads(build({"input": [{"role": "user", "content": "go"}, *heard.output, *more]}).body)["messages"]


def test_what_a_model_thought_that_gave_way_stays_behind() -> None:
    stream = (
        start()
        + thought(0, "YQ==", "one")
        + text(1, "a")
        + block(2, GAVE_WAY)
        + thought(3, "Yg==", "two")
        + text(4, "b")
    )
    heard = hear(stream + end(), context=Context(model=NEWEST))
    request = build({"input": [{"role": "user", "content": "go"}, *heard.output, {"role": "user", "content": "on"}]})
    content = json.loads(request.body)["messages"][1]["content"]
    assert [one["type"] for one in content] == ["text", "fallback", "thinking", "text"]
    assert content[2]["signature"] == "Yg=="
    assert [one["id"] for one in request.transformations] == [heard.output[0]["id"]]


def test_a_pause_behind_a_fallback_leaves_the_same_behind() -> None:
    first = start() + thought(0, "YQ==", "one") + text(1, "a") + call(2, "t", "look", "{}") + end("pause_turn")
    second = start() + block(0, GAVE_WAY) + thought(1, "Yg==", "two") + end("pause_turn")
    heard = hear(first, second, start() + text(0, "b") + end(), tools={"look": Tool("look", "look")})
    assert [one["type"] for one in heard.hops[0]["messages"][-1]["content"]] == ["thinking", "text", "tool_use"]
    assert [one["type"] for one in heard.hops[1]["messages"][-1]["content"]] == ["text", "fallback", "thinking"]
    assert heard.text == "ab"


def test_a_pause_for_a_compaction_goes_on_once() -> None:
    paused = start() + block(0, SUMMARY) + end("compaction")
    heard = hear(paused, start() + text(0, "x") + end())
    assert heard.hops[0]["messages"][-1]["content"] == [SUMMARY]
    assert (heard.final["status"], heard.text, blocks(heard)) == ("completed", "x", [SUMMARY])
    again = hear(paused, paused)
    assert (again.final["status"], len(again.hops), blocks(again)) == ("completed", 1, [SUMMARY, SUMMARY])


@pytest.mark.parametrize(
    ("hidden", "extra", "betas"),
    [
        (SUMMARY, {}, "compact-2026-01-12"),
        (SUMMARY, {"context_management": {"edits": []}}, None),
        (GAVE_WAY, {}, "server-side-fallback-2026-07-01"),
        (GAVE_WAY, {"fallbacks": "default"}, None),
        ({"type": "container_upload", "file_id": "f"}, {}, None),
    ],
)
def test_what_hidden_blocks_need_in_the_header(hidden: Json, extra: Json, betas: str | None) -> None:
    heard = hear(start() + block(0, hidden) + text(1, "x") + end())
    request = build({"input": [{"role": "user", "content": "go"}, *heard.output]}, extra_body=extra)
    assert dict(request.headers).get("anthropic-beta") == betas


def test_blocks_that_nobody_knows_are_said_again_in_a_pause_only() -> None:
    novel = {"type": "novel", "n": 1}
    heard = hear(start() + block(0, novel) + text(1, "x") + end("pause_turn"), start() + end())
    assert heard.hops[0]["messages"][-1]["content"] == [novel, {"type": "text", "text": "x"}]
    assert warned(heard) == ["a content block of the type 'novel' that the upstream sent was left out"]
    assert heard.kinds == ["message"]


# --- whole bodies


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("x", "x"),
        (["x", "y"], "xy"),
        ({"type": "text", "text": "x"}, "x"),
        ([{"text": "x"}], "x"),
        ({"a": 1}, '{"a":1}'),
        ([{"type": "text", "text": None}, {"type": "text", "text": "x"}, None, 5], "x"),
        (None, ""),
        ([], ""),
    ],
)
def test_content_of_a_whole_message(content: Any, words: str) -> None:
    body = {"type": "message", "id": "m", "content": content, "stop_reason": "end_turn"}
    heard = hear(body)
    assert (heard.final["status"], heard.text) == ("completed", words)
    assert (hear(start(content=content) + end()).text) == words


def test_a_whole_body_says_what_a_stream_says() -> None:
    content = [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        SUMMARY,
        {"type": "text", "text": "a"},
        {**TOOL, "input": {"x": 1}},
        {"type": "novel"},
    ]
    whole = hear({"type": "message", "content": content, "stop_reason": "tool_use"})
    streamed = hear(start() + b"".join(block(n, one) for n, one in enumerate(content)) + end("tool_use"))
    assert whole.kinds == streamed.kinds
    assert (blocks(whole), warned(whole), whole.text) == (blocks(streamed), warned(streamed), streamed.text)


@pytest.mark.parametrize(
    ("fields", "arguments"),
    [({"input": '{"x":1}'}, '{"x":1}'), ({"input": " "}, "{}"), ({"input": None}, "{}"), ({}, "{}")],
)
def test_arguments_of_a_whole_call(fields: Json, arguments: str) -> None:
    opened = {"type": "tool_use", "id": "t", "name": "look", **fields}
    assert hear(start() + block(0, opened) + end("tool_use")).output[0]["arguments"] == arguments


def test_arguments_that_are_an_object_are_its_json() -> None:
    assert (
        hear(start() + begun(0, TOOL) + given(0, {"x": 1}) + stop(0) + end("tool_use")).output[0]["arguments"]
        == '{"x":1}'
    )


# --- behind the reason for the end (decision 44)


@pytest.mark.parametrize("more", [said(0, "b"), delta(0, None, text="b"), mused(0, "b"), said(1, "b"), text(1, "b")])
def test_output_behind_the_reason_takes_the_end_back(more: bytes) -> None:
    reason = event("message_delta", delta={"stop_reason": "end_turn"}, usage={})
    opened = begun(0, {"type": "text", "text": ""}) + said(0, "a")
    assert hear(start() + opened + stop(0) + reason).final["status"] == "completed"
    assert hear(start() + opened + reason + more + stop(0)).final["status"] == "failed"
    assert hear(start() + opened + reason + more + stop(0) + reason).final["status"] == "completed"


@pytest.mark.parametrize("more", [said(0, ""), delta(0, None, text=""), said(1, ""), stop(0), event("ping")])
def test_what_says_nothing_behind_the_reason_does_not(more: bytes) -> None:
    reason = event("message_delta", delta={"stop_reason": "end_turn"}, usage={})
    opened = begun(0, {"type": "text", "text": ""}) + said(0, "a")
    assert hear(start() + opened + reason + more + stop(0)).final["status"] == "completed"


def unnamed(stream: bytes) -> bytes:
    """The same stream without ``type`` in its payloads: the events' names say it."""
    lines = stream.split(b"\n")
    for at, line in enumerate(lines):
        if line.startswith(b"data: "):
            payload = json.loads(line[6:])
            del payload["type"]
            lines[at] = b"data: " + json.dumps(payload).encode()
    return b"\n".join(lines)


def test_the_name_of_an_event_says_its_type_where_the_payload_does_not() -> None:
    heard = hear(unnamed(start() + text(0, "a", "b", "c", "d") + call(1, "t", "look", '{"x":1}') + end("tool_use")))
    assert (heard.final["status"], heard.text, heard.output[1]["arguments"]) == ("completed", "abcd", '{"x":1}')
    failed = hear(unnamed(start()) + b'event: message_delta\ndata: {"error": {"type": "overloaded_error"}}\n\n')
    assert failed.final["error"]["code"] == "server_is_overloaded"
    assert hear(start() + b"event: message_stop\ndata: []\n\n" + end()).final["status"] == "completed"


def test_citations_that_cannot_be_shown_are_warned_about() -> None:
    heard = hear(start() + text(0, "abc", citations=[{"type": "novel_location"}]) + end())
    assert warned(heard) == ["a citation of the type 'novel_location' that the upstream sent was left out"]


def test_blocks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    many = b"".join(begun(number, {"type": "text", "text": ""}) for number in range(200))
    monkeypatch.setattr("relay.providers.anthropic_content.BLOCK_BYTES", OUTPUT_LIMIT_BYTES // 100)
    heard = hear(start() + many)
    assert heard.error is not None
    assert heard.error.kind == "output_too_large"


def test_what_the_model_that_took_over_was_not_shown_is_reported_once() -> None:
    dropped = {"type": "thinking_dropped", "path": "messages.1.content.0", "reason": "model_binding_mismatch"}
    context = Context(paths={"messages.1.content.0": "rs_1", "messages.1.content.2": "rs_2"})
    later = [dropped, {**dropped, "path": "messages.1.content.2"}]
    told = event("message_delta", delta={"stop_reason": "end_turn"}, input_transformations=later)
    heard = hear(
        start(input_transformations=[dropped]) + block(0, GAVE_WAY) + told + event("message_stop"), context=context
    )
    assert [one["id"] for one in heard.final["input_transformations"]] == ["rs_1", "rs_2"]


ODD = (
    said(0, "one ") + mused(0, "Hm") + said(1, "two ") + signed(0) + said(1, "three"),
    begun(0, TOOL) + given(0, '{"x"') + said(0, "so") + given(0, ":1}") + stop(0) + said(0, "!"),
    begun(0, {"type": "thinking", "thinking": ""})
    + mused(0, "Hm")
    + said(0, "a")
    + said(0, "b")
    + said(0, "c")
    + stop(0),
    block(0, {"type": "novel"}, {"type": "text_delta", "text": "x"})
    + delta(3, "novel_delta")
    + block(1, GAVE_WAY)
    + said(2, "y"),
    text(0, "a", "b", "c") + start() + text(0, "d"),
    CUT + begun(0, {**TOOL, "id": "toolu_2"}) + given(0, "{}") + stop(0),
    said(0, "a") + given(1, "{}"),
)


@pytest.mark.parametrize("number", range(len(ODD)))
def test_no_cut_of_the_bytes_changes_what_odd_streams_say(number: int) -> None:
    stream = start() + ODD[number] + end("tool_use")
    whole = hear(stream, check=False).final
    for size in (1, 7, 64, 100, 333):
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert hear(pieces, check=False).final == whole


@pytest.mark.parametrize("ahead", ["{}", "{ }", "null"])
@pytest.mark.parametrize(("pieces", "arguments"), [(["{}"], {}), ([], {}), (['{"x":', "1}"], {"x": 1})])
def test_an_empty_object_ahead_of_the_arguments_is_none_of_them(ahead: str, pieces: list[str], arguments: Json) -> None:
    """Sibling of openai/openai-agents-js#712, through a gateway that speaks Anthropic."""
    heard = hear(start() + call(0, "toolu_1", "f", ahead, *pieces) + end("tool_use"))
    assert json.loads(heard.items("function_call")[0]["arguments"]) == arguments


@pytest.mark.parametrize("name", ["f<|channel|>commentary", "functions.f", "<|channel|>commentary to=functions.f"])
def test_marks_of_a_template_are_no_part_of_a_name(name: str) -> None:
    """vllm-project/vllm#32587: vLLM speaks Anthropic, too."""
    tools = {"f": Tool("f", "f")}
    heard = hear(start() + call(0, "toolu_1", name, "{}") + end("tool_use"), tools=tools)
    assert [item["name"] for item in heard.items("function_call")] == ["f"]
    heard = hear(start() + call(0, "toolu_1", "<|channel|>", "{}") + end("tool_use"), tools=tools)
    assert [item["name"] for item in heard.items("function_call")] == ["<|channel|>"]
