"""The Anthropic translator on streams that no server of ours would send, with expectations written by hand.

Source: translation.md §3.4, §4.2, §5, §6; decisions 1–3, 18, 19, 22–24.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from relay.errors import RelayError
from relay.providers.anthropic import PROVIDER
from relay.providers.anthropic_content import Context
from relay.providers.anthropic_notes import anthropic_usage
from relay.providers.base import Continue, UpstreamRequest
from relay.responses.emitter import Emitter
from relay.responses.envelope import unseal
from relay.responses.response import template
from relay.responses.sinks import SSESink
from relay.responses.tools import Tool
from tests.providers.anthropic_support import (
    Heard,
    Json,
    block,
    build,
    call,
    end,
    event,
    hear,
    parsed,
    start,
    text,
    thought,
)
from tests.support import assert_linear

CITED: Json = {"type": "web_search_result_location", "url": "https://e.com", "title": None, "cited_text": "x"}


def sealed(heard: Heard) -> list[list[Json]]:
    """The blocks of each envelope."""
    envelopes = [unseal(item.get("encrypted_content")) for item in heard.items("reasoning")]
    return [[json.loads(one) for one in envelope.blocks] for envelope in envelopes if envelope is not None]


def notes(heard: Heard) -> list[Json]:
    return [note for item in heard.items("message") for part in item["content"] for note in part["annotations"]]


# --- text and citations


def test_case_15_a_cited_block_between_two_others() -> None:
    heard = hear(start() + text(0, "A") + text(1, "B", citations=[CITED]) + text(2, "C") + end())
    (item,) = heard.items("message")
    (part,) = item["content"]
    assert part["text"] == "ABC"
    expected = {"type": "url_citation", "url": "https://e.com", "title": "", "start_index": 1, "end_index": 2}
    assert part["annotations"] == [expected]
    kinds = [one["type"] for one in heard.events]
    assert kinds.index("response.output_text.annotation.added") < kinds.index("response.output_text.done")
    assert heard.of("output_text.annotation.added")[0]["annotation_index"] == 0


def test_offsets_count_characters_and_begin_anew_in_each_message() -> None:
    stream = (
        start()
        + text(0, "\U0001f600é")
        + text(1, "xy", citations=[CITED])
        + thought(2, "c2ln")
        + text(3, "abc")
        + text(4, "d", citations=[CITED])
        + end()
    )
    assert [(note["start_index"], note["end_index"]) for note in notes(hear(stream))] == [(2, 4), (3, 4)]


@pytest.mark.parametrize(
    ("citation", "expected"),
    [
        (
            {"type": "search_result_location", "source": "https://e.com/x", "title": "T", "search_result_index": 0},
            {"type": "url_citation", "url": "https://e.com/x", "title": "T", "start_index": 0, "end_index": 3},
        ),
        (
            {"type": "search_result_location", "source": "handbook", "title": "T", "search_result_index": 2},
            {"type": "file_citation", "file_id": "document_2", "filename": "T", "index": 3},
        ),
        (
            {"type": "char_location", "document_index": 1, "document_title": None, "file_id": None},
            {"type": "file_citation", "file_id": "document_1", "filename": "", "index": 3},
        ),
        (
            {"type": "page_location", "document_index": 1, "document_title": "p.pdf", "file_id": "file_1"},
            {"type": "file_citation", "file_id": "file_1", "filename": "p.pdf", "index": 3},
        ),
        ({"type": "novel_location"}, None),
        ({"type": "web_search_result_location"}, None),
    ],
)
def test_citations(citation: Json, expected: Json | None) -> None:
    heard = hear(start() + text(0, "abc", citations=[citation]) + end())
    assert notes(heard) == ([] if expected is None else [expected])


def test_empty_text_opens_nothing() -> None:
    assert hear(start() + text(0, "", "") + end()).output == []
    assert hear(start() + end(None)).final["status"] == "completed"


def test_the_answer_of_a_tool_is_checked_against_the_schema_that_was_not_enforced() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 5}}}
    for answer, warned in (('{"n": 6}', False), ('{"n": 4}', True), ("no json", True)):
        heard = hear(start() + text(0, answer) + end(), context=Context(schema=schema))
        assert ("x_relay_warnings" in heard.final) == warned
        if warned:
            assert heard.final["x_relay_warnings"][0]["param"] == "text.format"
    cut = hear(start() + text(0, '{"n":') + end("max_tokens"), context=Context(schema=schema))
    assert "x_relay_warnings" not in cut.final
    nothing = hear(start() + call(0, "t", "look", "{}") + end("tool_use"), context=Context(schema=schema))
    assert "x_relay_warnings" not in nothing.final


def test_the_json_tool_is_text() -> None:
    unchecked = Context(json_tool="json_response")
    assert hear(start() + call(0, "t", "json_response", "{}") + end("tool_use"), context=unchecked).text == "{}"
    context = Context(json_tool="json_response", schema={"type": "object", "required": ["b"]})
    heard = hear(start() + call(0, "t", "json_response", '{"a"', ":1}") + end("tool_use"), context=context)
    assert (heard.text, heard.kinds, heard.final["status"]) == ('{"a":1}', ["message"], "completed")
    assert "$: required" in heard.final["x_relay_warnings"][0]["reason"]
    whole = {"type": "tool_use", "id": "t", "name": "json_response", "input": {"b": 1}}
    assert hear(start() + block(0, whole) + end(), context=context).text == '{"b":1}'


# --- thoughts


def test_case_17_each_thought_is_an_item_of_its_own() -> None:
    stream = (
        start()
        + block(0, {"type": "redacted_thinking", "data": "b3BhcXVl"})
        + block(1, {"type": "redacted_thinking"})
        + thought(2, "c2ln", "Hm", "m.")
        + text(3, "yes")
        + end()
    )
    heard = hear(stream)
    assert heard.kinds == ["reasoning", "reasoning", "message"]
    assert sealed(heard) == [
        [{"type": "redacted_thinking", "data": "b3BhcXVl"}],
        [{"type": "thinking", "thinking": "Hmm.", "signature": "c2ln"}],
    ]
    assert [item["summary"] for item in heard.items("reasoning")] == [[], [{"type": "summary_text", "text": "Hmm."}]]
    assert "b3BhcXVl" not in json.dumps(heard.of("reasoning_summary_text.delta"))


def test_thoughts_are_not_shown_without_a_summary_but_kept() -> None:
    heard = hear(start() + thought(0, "c2ln", "secret") + text(1, "yes") + end(), show_summary=False)
    assert heard.items("reasoning")[0]["summary"] == []
    assert sealed(heard)[0][0]["thinking"] == "secret"


def test_the_last_signature_counts_and_none_means_cut() -> None:
    deltas = [{"type": "signature_delta", "signature": sign} for sign in ("YQ==", "Yg==")]
    heard = hear(start() + block(0, {"type": "thinking", "thinking": "a"}, *deltas) + text(1, "x") + end())
    assert sealed(heard) == [[{"type": "thinking", "thinking": "a", "signature": "Yg=="}]]
    cut = hear(start() + thought(0, None, "a", "b") + end("max_tokens"))
    assert sealed(cut) == []
    assert (cut.output[0]["status"], cut.final["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert hear(start() + thought(0, None) + end()).output == []


def test_members_of_thoughts_that_nobody_knows_are_kept() -> None:
    begun = {"type": "thinking", "thinking": "", "signature": "", "novel": [1.0]}
    heard = hear(start() + block(0, begun, {"type": "signature_delta", "signature": "c2ln"}) + text(1, "x") + end())
    assert sealed(heard)[0][0]["novel"] == [1.0]


# --- calls


def test_arguments_come_as_they_come() -> None:
    tools = {"a_b": Tool("a.b", "a.b"), "patch": Tool("patch", "patch", "custom_tool_call")}
    stream = (
        start()
        + text(0, "so")
        + call(1, "toolu_1", "a_b", '{"x"', ": 1}")
        + call(2, "toolu_2", "patch", '{"input":"*** x"}')
        + call(3, "toolu_3", "unknown")
        + block(4, {"type": "tool_use", "id": "toolu_4", "name": "a_b", "input": {"y": 2}})
        + end("tool_use")
    )
    heard = hear(stream, tools=tools)
    assert heard.kinds == ["message", "function_call", "custom_tool_call", "function_call", "function_call"]
    calls = heard.items("function_call")
    assert [(one["name"], one["arguments"]) for one in calls] == [
        ("a.b", '{"x": 1}'),
        ("unknown", "{}"),
        ("a.b", '{"y":2}'),
    ]
    assert heard.items("custom_tool_call")[0]["input"] == "*** x"
    assert [one["call_id"] for one in calls] == ["toolu_1", "toolu_3", "toolu_4"]


def test_a_call_that_was_cut_stays_raw_and_incomplete() -> None:
    cut = hear(start() + call(0, "t", "look", '{"a":"b') + end("max_tokens"))
    assert (cut.output[0]["arguments"], cut.output[0]["status"]) == ('{"a":"b', "incomplete")
    assert cut.final["status"] == "incomplete"
    eager = hear(start() + call(0, "t", "look", '{"a":"b') + end("tool_use"), check=False)
    assert (eager.output[0]["arguments"], eager.output[0]["status"]) == ('{"a":"b', "completed")


# --- hosted tools


def use(index: int, name: str, given: str, number: int = 1, **fields: Any) -> bytes:
    return call(index, f"srvtoolu_{number}", name, given, kind="server_tool_use", **fields)


def answer(index: int, kind: str, content: Any, number: int = 1, **fields: Any) -> bytes:
    return block(index, {"type": kind, "tool_use_id": f"srvtoolu_{number}", "content": content, **fields})


def test_a_web_search() -> None:
    found = [{"type": "web_search_result", "url": "https://e.com", "encrypted_content": "Zm9v"}, "odd"]
    stream = start() + use(0, "web_search", '{"query":"q"}') + answer(1, "web_search_tool_result", found) + end()
    heard = hear(stream, context=Context(sources=True))
    (item,) = heard.items("web_search_call")
    sources = [{"type": "url", "url": "https://e.com"}]
    assert item["action"] == {"type": "search", "query": "q", "queries": ["q"], "sources": sources}
    steps = [one["type"] for one in heard.events if ".web_search_call." in one["type"]]
    assert steps == [f"response.web_search_call.{step}" for step in ("in_progress", "searching", "completed")]
    assert sealed(heard)[0][0]["input"] == {"query": "q"}
    assert sealed(heard)[0][1]["content"] == found
    assert "sources" not in hear(stream).items("web_search_call")[0]["action"]


def test_a_search_that_failed() -> None:
    error = {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}
    stream = start() + use(0, "web_search", "{}") + answer(1, "web_search_tool_result", error) + end()
    (item,) = hear(stream, context=Context(sources=True)).items("web_search_call")
    assert (item["status"], item["action"]["query"]) == ("failed", "")


def test_code() -> None:
    def heard_code(name: str, given: str, result: Any, outputs: bool = True) -> Json:
        stream = start() + use(0, name, given) + answer(1, f"{name}_tool_result", result)
        heard = hear(stream + end(container={"id": "c_1"}), context=Context(outputs=outputs))
        return heard.items("code_interpreter_call")[0]

    ran = {"type": "code_execution_result", "stdout": "out", "stderr": "err", "return_code": 1, "content": []}
    item = heard_code("code_execution", '{"code":"1+1"}', ran)
    assert (item["code"], item["outputs"]) == ("1+1", [{"type": "logs", "logs": "outerr"}])
    assert heard_code("bash_code_execution", '{"command":"ls"}', ran, outputs=False)["outputs"] is None
    edit = '{"command":"view","path":"a"}'
    viewed = {"type": "text_editor_code_execution_view_result", "content": "text"}
    item = heard_code("text_editor_code_execution", edit, viewed)
    assert (json.loads(item["code"]), item["outputs"][0]["logs"]) == (json.loads(edit), "text")
    failed = {"type": "code_execution_tool_result_error", "error_code": "unavailable"}
    assert heard_code("code_execution", '{"code":""}', failed)["status"] == "failed"
    assert heard_code("code_execution", '{"code":""}', None)["outputs"] == [{"type": "logs", "logs": ""}]


def test_the_container_of_the_code_is_shown_where_it_is_known() -> None:
    stream = (
        start(container={"id": "c_1"})
        + use(0, "code_execution", '{"code":"1"}')
        + answer(1, "code_execution_tool_result", {"type": "code_execution_result", "stdout": ""})
    )
    assert hear(stream + end()).output[0]["container_id"] == "c_1"
    first = start() + end("pause_turn", container={"id": "c_2"})
    second = start() + stream.removeprefix(start(container={"id": "c_1"})) + end()
    assert hear(first, second).output[0]["container_id"] == "c_2"


def test_mcp_calls() -> None:
    def mcp(content: Any, *, error: bool, pieces: tuple[str, ...] = ('{"q"', ":1}"), **fields: Any) -> Json:
        opened = call(0, "srvtoolu_1", "ask", *pieces, kind="mcp_tool_use", server_name="wiki", **fields)
        heard = hear(start() + opened + answer(1, "mcp_tool_result", content, is_error=error) + end())
        ending = "failed" if error else "completed"
        assert [one["type"] for one in heard.of(f"mcp_call.{ending}")] == [f"response.mcp_call.{ending}"]
        return heard.items("mcp_call")[0]

    item = mcp([{"type": "text", "text": "4"}, {"type": "text", "text": "2"}, 3], error=False)
    assert (item["server_label"], item["name"], item["arguments"]) == ("wiki", "ask", '{"q":1}')
    assert (item["output"], item["error"], item["status"]) == ("42", None, "completed")
    item = mcp("no", error=True, pieces=())
    assert (item["arguments"], item["output"], item["error"]["content"], item["status"]) == ("{}", None, "no", "failed")
    assert mcp(None, error=False)["output"] == ""


def test_tools_that_are_not_shown_are_kept_all_the_same() -> None:
    result = {"type": "advisor_result", "text": "think"}
    stream = start() + use(0, "advisor", "[1]") + answer(1, "advisor_tool_result", result) + text(2, "x") + end()
    heard = hear(stream)
    assert heard.kinds == ["reasoning", "message"]
    assert [one["type"] for one in sealed(heard)[0]] == ["server_tool_use", "advisor_tool_result"]


def test_results_of_nobody_and_calls_without_results() -> None:
    assert hear(start() + answer(0, "web_search_tool_result", [])).error is not None
    assert hear(start() + answer(0, "web_search_tool_result", []) + end()).output == []
    waiting = hear(start() + use(0, "code_execution", '{"code":"x"}') + call(1, "t", "look", "{}") + end("tool_use"))
    assert waiting.items("code_interpreter_call")[0]["status"] == "incomplete"
    assert waiting.final["status"] == "completed"
    hidden = hear(start() + use(0, "advisor", "{}") + text(1, "x") + end())
    assert hidden.kinds == ["message"]


def test_results_that_come_before_their_call_is_whole() -> None:
    for kind, name in (("server_tool_use", "web_search"), ("mcp_tool_use", "ask")):
        opened = event("content_block_start", index=0, content_block={"type": kind, "id": "srvtoolu_1", "name": name})
        late = event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": "{}"})
        result = answer(1, "web_search_tool_result", [])
        heard = hear(start() + opened + result + late + event("content_block_stop", index=0) + end(), check=False)
        assert heard.final["status"] == "completed"
        assert sealed(heard) == []
        unheard = hear(start() + opened + result + event("content_block_stop", index=0) + end(), check=False)
        assert unheard.final["status"] == "completed"


def test_lone_surrogates_do_no_harm_anywhere() -> None:
    odd = "a\ud83d"
    found = [{"type": "web_search_result", "url": odd}]
    stream = (
        start()
        + block(0, {"type": "redacted_thinking", "data": odd})
        + use(1, "web_search", json.dumps({"query": odd}))
        + answer(2, "web_search_tool_result", found)
        + call(3, "m1", odd, kind="mcp_tool_use", server_name=odd)
        + block(4, {"type": "mcp_tool_result", "tool_use_id": "m1", "content": odd})
        + text(5, odd, citations=[{**CITED, "title": odd}])
        + call(6, odd, odd, json.dumps({"x": odd}))
        + end("tool_use")
    )
    heard = hear(stream, context=Context(sources=True))
    assert heard.final["status"] == "completed"
    assert sealed(heard)[0][0]["data"] == odd
    assert heard.items("web_search_call")[0]["action"]["query"] == "a\ufffd"
    raw = '{"type":"content_block_start","index":0,"content_block":{"type":"redacted_thinking","data":"\ud83d"}}'
    stray = b"data: " + raw.encode("utf-8", "surrogatepass") + b"\n\n"
    assert sealed(hear(start() + stray + text(1, "x") + end()))[0][0]["data"] == "\ud83d"


def test_blocks_that_are_nested_too_deeply_fail() -> None:
    deep = "[" * 960 + "]" * 960
    begun = '{"type":"content_block_start","index":0,"content_block":{"type":"redacted_thinking","data":"x","d":%s}}'
    heard = hear(start() + f"data: {begun % deep}\n\n".encode())
    assert heard.final["status"] == "failed"
    deeper: Any = []
    for _ in range(2000):
        deeper = [deeper]
    assert hear(message({"type": "redacted_thinking", "data": "x", "d": deeper})).final["status"] == "failed"


# --- endings


@pytest.mark.parametrize(
    ("reason", "status", "why"),
    [
        ("end_turn", "completed", None),
        ("stop_sequence", "completed", None),
        ("tool_use", "completed", None),
        (None, "completed", None),
        ("", "completed", None),
        ("stop", "completed", None),
        ("STOP", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
        ("max_tokens", "incomplete", "max_output_tokens"),
        ("model_context_window_exceeded", "incomplete", "max_output_tokens"),
        ("refusal", "incomplete", "content_filter"),
    ],
)
def test_stop_reasons(reason: str | None, status: str, why: str | None) -> None:
    heard = hear(start() + text(0, "x") + end(reason))
    assert (heard.final["status"], (heard.final["incomplete_details"] or {}).get("reason")) == (status, why)
    assert heard.output[0]["status"] == status


def test_an_unknown_stop_reason_is_no_success() -> None:
    heard = hear(start() + text(0, "x") + end("novel"))
    assert heard.final["status"] == "failed"
    assert "novel" in heard.final["error"]["message"]


def test_refusals_say_why() -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "No."}
    heard = hear(start() + end("refusal", stop_details=details))
    assert heard.output[0]["content"] == [{"type": "refusal", "refusal": "No."}]
    assert hear(start() + end("refusal", stop_details={"type": "refusal", "explanation": None})).output == []


def test_case_37_a_cut_stream_keeps_its_usage() -> None:
    usage = {"input_tokens": 3, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 2, "output_tokens": 1}
    heard = hear(
        start(usage=usage) + event("content_block_start", index=0, content_block={"type": "text", "text": "x"})
    )
    assert heard.final["status"] == "failed"
    assert heard.final["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 2},
        "output_tokens": 1,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 11,
    }
    assert heard.output[0]["status"] == "incomplete"


def test_usage_of_the_end_overwrites_and_what_it_lacks_stays() -> None:
    first = {"input_tokens": 3, "cache_read_input_tokens": 5, "output_tokens": 1}
    last = {"output_tokens": 9, "cache_read_input_tokens": None, "output_tokens_details": {"thinking_tokens": 4}}
    usage = hear(start(usage=first) + end(usage=last)).final["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (8, 9)
    assert usage["output_tokens_details"] == {"reasoning_tokens": 4}


def test_events_without_data_are_ignored() -> None:
    blank = b"data: \n\n"
    found = hear(blank + start() + blank + text(0, "x") + end() + blank)
    assert found.final["status"] == "completed"
    assert not hear(blank).started


def test_zeros_at_the_end_replace_no_count() -> None:
    """Decision 51; envoyproxy/ai-gateway#1631."""
    first = {"input_tokens": 25, "output_tokens": 1, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 0}
    last = {"input_tokens": 25, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0, "output_tokens": 15}
    for told in (last, {**last, "input_tokens": 0}):
        usage = hear(start(usage=first) + end(usage=told)).final["usage"]
        assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (35, 15, 50)
        assert usage["input_tokens_details"]["cached_tokens"] == 10


def test_iterations_of_other_models_do_not_count() -> None:
    rows = [
        {"type": "message", "input_tokens": 10, "output_tokens": 1},
        {"type": "advisor_message", "input_tokens": 900, "output_tokens": 90},
        {"type": "compaction", "input_tokens": 5, "output_tokens": 2},
    ]
    assert anthropic_usage({"input_tokens": 1, "output_tokens": 1, "iterations": rows})["total_tokens"] == 18
    rows.append({"type": "fallback_message", "input_tokens": 7, "output_tokens": 7})
    assert anthropic_usage({"input_tokens": 1, "output_tokens": 1, "iterations": rows})["total_tokens"] == 2


@pytest.mark.parametrize(
    ("usage", "tier"),
    [
        ({"service_tier": "priority"}, "priority"),
        ({"service_tier": "batch"}, "default"),
        ({"speed": "fast"}, "priority"),
    ],
)
def test_service_tiers(usage: Json, tier: str) -> None:
    assert hear(start(usage=usage) + end()).final["service_tier"] == tier


def test_dropped_thoughts_are_reported_with_the_items_they_came_from() -> None:
    dropped = {"type": "thinking_dropped", "path": "messages.1.content.0", "reason": "prefix_binding_mismatch"}
    unknown = {**dropped, "path": "messages.9.content.0"}
    novel = {**dropped, "reason": "novel"}
    context = Context(paths={"messages.1.content.0": "rs_1"})
    heard = hear(start(input_transformations=[dropped, unknown, novel]) + end(), context=context)
    expected = {"id": "rs_1", "type": "reasoning", "action": "removed", "reason": "prefix_mismatch"}
    assert heard.final["input_transformations"] == [expected]
    begun = start(input_transformations=[dropped])
    hops = hear(begun + text(0, "a") + end("pause_turn"), begun + end(), context=context)
    assert hops.final["input_transformations"] == [expected]


# --- pauses


def test_case_29_a_pause_goes_on_with_what_was_said() -> None:
    first = (
        start()
        + thought(0, "c2ln", "hm")
        + text(1, "")
        + text(2, "one ", citations=[CITED])
        + use(3, "web_search", '{"query":"q"}')
        + end("pause_turn", usage={"output_tokens": 5})
    )
    second = (
        start()
        + answer(0, "web_search_tool_result", [{"url": "https://e.com"}])
        + text(1, "two")
        + use(2, "web_search", "{}", number=2)
        + end("pause_turn", usage={"output_tokens": 6})
    )
    third = start() + answer(0, "web_search_tool_result", [], number=2) + end(usage={"output_tokens": 7})
    request = build({"input": "go", "tools": [{"type": "web_search"}], "reasoning": {"summary": "auto"}})
    heard = hear(first, second, third, call=request)
    assert heard.final["status"] == "completed"
    assert [kind for kind in heard.kinds if kind != "reasoning"] == [
        "message",
        "web_search_call",
        "message",
        "web_search_call",
    ]
    assert heard.items("web_search_call")[0]["action"]["query"] == "q"
    assert heard.final["usage"]["output_tokens"] == 18
    assert heard.final["usage"]["input_tokens"] == 30
    one, two = (hop["messages"] for hop in heard.hops)
    assert one[:-1] == two[:-1] == json.loads(request.body)["messages"]
    said = one[-1]["content"]
    assert said == [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "text", "text": "one ", "citations": [CITED]},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
    ]
    assert two[-1]["content"][:3] == said
    kinds = [one["type"] for one in two[-1]["content"][3:]]
    assert kinds == ["web_search_tool_result", "text", "server_tool_use"]
    rest = {name: value for name, value in json.loads(request.body).items() if name != "messages"}
    for hop in heard.hops:
        assert {name: value for name, value in hop.items() if name != "messages"} == rest


def test_a_pause_with_nothing_said_asks_again() -> None:
    heard = hear(start() + end("pause_turn"), start() + text(0, "x") + end())
    assert heard.hops == [{"messages": [{}]}]
    assert heard.text == "x"


def test_what_is_checked_goes_over_the_hops() -> None:
    schema = {"type": "object", "required": ["a"]}
    hops = (start() + text(0, '{"a"') + end("pause_turn"), start() + text(0, ":1}") + end())
    assert "x_relay_warnings" not in hear(*hops, context=Context(schema=schema)).final
    assert hear(*hops, context=Context(schema=schema)).text == '{"a":1}'


def test_a_failure_after_a_pause_keeps_the_text() -> None:
    failing = start() + event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    heard = hear(start() + text(0, "so far") + end("pause_turn"), failing)
    assert (heard.final["status"], heard.text) == ("failed", "so far")


def test_answers_side_by_side_do_not_share_their_pauses() -> None:
    request = UpstreamRequest("", b'{"messages":[{}]}', context=Context())
    sink = SSESink()
    emitter = Emitter(template(parsed({}), "resp_1", 1), sink, lambda prefix: f"{prefix}_{id(object())}", lambda: 1)
    bodies = []
    for word in ("one", "two"):
        translator = PROVIDER.translator(request, emitter.voice({}))
        translator.feed(start() + text(0, word) + end("pause_turn"))
        outcome = translator.close()
        assert isinstance(outcome, Continue)
        bodies.append(outcome.request.body)
    assert b"one" not in bodies[1]
    assert b"two" in bodies[1]


# --- errors and nonsense


def test_an_error_before_anything_was_said() -> None:
    heard = hear(event("error", error={"type": "overloaded_error", "message": "Overloaded"}))
    assert heard.error is not None
    assert not heard.started
    assert (heard.error.status, heard.error.code) == (503, "server_overloaded")


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("overloaded_error", "server_is_overloaded"),
        ("rate_limit_error", "rate_limit_exceeded"),
        ("api_error", "server_error"),
        ("novel_error", "server_error"),
    ],
)
def test_errors_inside_a_stream(kind: str, code: str) -> None:
    error = event("error", error={"type": kind, "message": "m"})
    heard = hear(start() + text(0, "so far") + error + text(1, "not read") + end())
    assert (heard.final["status"], heard.final["error"]["code"]) == ("failed", code)
    assert heard.text == "so far"


def test_errors_in_odd_shapes() -> None:
    for data in (
        b'data: {"error": {"type": "overloaded_error", "message": "x"}}\n\n',
        b"event: error\ndata: plain words\n\n",
        b'event: error\ndata: {"error": "words"}\n\n',
        b'data: {"type": "error", "error": {"type": "api_error"}}\n\n',
    ):
        heard = hear(start() + data)
        assert heard.error is not None
        assert heard.final["status"] == "failed"


@pytest.mark.parametrize(
    "data",
    [
        event("content_block_delta", index=0, delta=5),
        event("content_block_delta", index=9, delta={"type": "text_delta", "text": ""}),
        event("content_block_delta", index=9, delta={"type": "thinking_delta"}),
        event("content_block_delta", index=[], delta={"type": []}),
        event("content_block_start", index=0, content_block=5),
        event("content_block_stop", index=[]),
        event("content_block_stop", index=7),
        event("message_delta", delta=None),
        event("message_delta", delta={}, usage=5),
        event("novel"),
        block(0, {"type": "novel"}),
        block(0, {"type": "text", "text": None}, {"type": "novel_delta"}, {"type": "text_delta", "text": 5}),
        block(0, {"type": "text", "text": ""}, {"type": "citations_delta", "citation": 5}),
        block(0, {"type": "thinking", "thinking": None, "signature": None}, {"type": "thinking_delta"}),
        block(0, {"type": "thinking"}, {"type": "signature_delta", "signature": 5}),
        block(0, {"type": "text", "text": "", "citations": 5}),
        b"data: [DONE]\n\n",
        b"data: 5\n\n",
        b": comment\n\n",
    ],
)
def test_what_nobody_knows_is_passed_over(data: bytes) -> None:
    heard = hear(start() + data + text(3, "x") + end())
    assert (heard.final["status"], heard.text) == ("completed", "x")


def test_arguments_of_the_wrong_type_are_passed_over() -> None:
    stream = start() + block(0, {"type": "tool_use", "id": None, "name": "look"}, {"type": "input_json_delta"}) + end()
    (item,) = hear(stream).output
    assert (item["arguments"], item["name"]) == ("{}", "look")


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"data: {\n\n",
        start(),
        event("message_stop"),
        event("message_start", message=5),
        b"<html>busy</html>",
        b"[1]",
        text(0, "x"),
    ],
)
def test_what_is_no_whole_answer_is_no_success(stream: bytes) -> None:
    heard = hear(stream)
    assert heard.error is not None
    assert heard.final["status"] == "failed"


def test_a_message_without_a_beginning_is_read() -> None:
    assert hear(text(0, "x") + end()).text == "x"


def test_the_last_event_may_lack_its_blank_line() -> None:
    assert hear((start() + text(0, "x") + end()).rstrip(b"\n")).final["status"] == "completed"


def test_nothing_is_read_behind_the_end() -> None:
    whole = start() + text(0, "x") + end()
    heard = hear([whole + start() + text(0, "y") + end(), start()])
    assert heard.text == "x"


# --- whole bodies


def message(*content: Json, **fields: Any) -> Json:
    usage = {"input_tokens": 1, "output_tokens": 2}
    return {"type": "message", "content": list(content), "stop_reason": "end_turn", "usage": usage, **fields}


def test_a_whole_body_is_the_same_machine() -> None:
    body = message(
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b", "citations": [CITED]},
        {"type": "tool_use", "id": "t", "name": "look", "input": {"q": 1}},
    )
    heard = hear(body)
    assert heard.kinds == ["reasoning", "message", "function_call"]
    assert heard.text == "ab"
    assert notes(heard)[0]["start_index"] == 1
    assert heard.output[2]["arguments"] == '{"q":1}'
    assert heard.final["usage"]["total_tokens"] == 3
    assert hear(message()).output == []
    paused = hear(message({"type": "text", "text": "a"}, stop_reason="pause_turn"), message())
    assert paused.hops[0]["messages"][-1]["content"] == [{"type": "text", "text": "a"}]


@pytest.mark.parametrize(
    "body",
    [
        {"type": "error", "error": {"type": "overloaded_error", "message": "x"}},
        {"error": "x"},
        {"detail": "x"},
        {"type": "message", "content": 5, "stop_reason": "end_turn"},
        {"type": "message", "content": None},
        {"type": "message", "stop_reason": None, "content": []},
    ],
)
def test_bodies_that_are_no_answer(body: Json) -> None:
    heard = hear(body)
    assert heard.error is not None
    assert not heard.started


def test_content_of_a_message_that_begins_with_some_is_read() -> None:
    heard = hear(start(content=[{"type": "text", "text": "already "}]) + text(0, "more") + end())
    assert heard.text == "already more"


# --- HTTP errors


def http(status: int, kind: str, words: str = "m", **headers: str) -> RelayError:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_1"}).encode()
    return PROVIDER.error(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


@pytest.mark.parametrize(
    ("status", "kind", "ours", "code"),
    [
        (400, "invalid_request_error", 400, None),
        (401, "authentication_error", 502, "upstream_authentication_error"),
        (402, "billing_error", 503, "upstream_billing"),
        (403, "permission_error", 502, "model_not_available"),
        (404, "not_found_error", 404, "model_not_found"),
        (409, "conflict_error", 409, "conflict"),
        (413, "request_too_large", 413, "request_too_large"),
        (429, "rate_limit_error", 429, "rate_limit_exceeded"),
        (500, "api_error", 500, "server_error"),
        (504, "timeout_error", 504, "upstream_timeout"),
        (529, "overloaded_error", 503, "server_overloaded"),
    ],
)
def test_case_30_errors_before_the_first_byte(status: int, kind: str, ours: int, code: str | None) -> None:
    error = http(status, kind)
    assert (error.status, error.code) == (ours, code)
    assert error.repair is None


def test_waiting_times_and_long_prompts() -> None:
    assert http(429, "rate_limit_error", retry_after="7").retry_after_s == 7
    assert http(400, "invalid_request_error", "prompt is too long: 9 tokens").code == "context_length_exceeded"


def test_bodies_of_errors_that_are_no_json() -> None:
    assert PROVIDER.error(404, {}, b"<html>").kind == "upstream_misconfigured"
    assert PROVIDER.error(502, {}, b"<html>").kind == "overloaded"
    assert PROVIDER.error(500, {}, b'{"error": "words"}').status == 500
    assert PROVIDER.error(500, {}, b'{"error": {"message": 5}}').status == 500


@pytest.mark.parametrize(
    "words",
    [
        "messages.2: `tool_use` ids were found without `tool_result` blocks immediately after: toolu_1.",
        "messages.2.content.0: unexpected `tool_use_id` found in `tool_result` blocks: toolu_1.",
        "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`.",
        "messages.1.content.0: Invalid `signature` in `thinking` block",
        "messages.1.content.0: Invalid `data` in `redacted_thinking` block",
        "a final `assistant` message must start with a thinking block",
        "`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified.",
        "messages: text content blocks must be non-empty",
        "The conversation must end with a user message.",
    ],
)
def test_complaints_about_the_order_are_ours_and_repaired_once(words: str) -> None:
    error = http(400, "invalid_request_error", words)
    assert (error.kind, error.status, error.repair) == ("translation_error", 500, "thinking")
    assert words not in error.message


@pytest.mark.parametrize(
    ("words", "repair"),
    [
        ("tool_choice: forced tool use is not supported by this model.", "tool_choice"),
        ("Thinking may not be enabled when tool_choice forces tool use.", "tool_choice"),
        ("`temperature` is deprecated for this model.", "sampling"),
        ("`temperature` and `top_p` cannot both be specified for this model.", "sampling"),
        ("output_config.format.schema: too many optional properties", "format"),
        ("output_config.effort: 'xhigh' is not supported", "effort"),
        ("messages.2.role: Input should be 'user' or 'assistant'", "mid_system"),
        ("max_tokens: 5 > 4, which is the maximum allowed", None),
        ("messages.0.content.0.image.source.base64: invalid", None),
    ],
)
def test_what_a_repair_can_leave_out(words: str, repair: str | None) -> None:
    error = http(400, "invalid_request_error", words)
    assert (error.status, error.repair) == (400, repair)


# --- pieces that go on unparsed


def test_pieces_that_are_not_parsed_count_for_all_that_follows() -> None:
    def piece(index: int, value: Any) -> bytes:
        return event("content_block_delta", index=index, delta={"type": "text_delta", "text": value})

    opened = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    closed = event("content_block_stop", index=0)
    note = event("content_block_delta", index=0, delta={"type": "citations_delta", "citation": CITED})
    reads = [start() + opened, piece(0, 5), piece(0, "a\n"), piece(0, "\u00e9") * 2, piece(0, ""), event("ping")]
    reads += [piece(0, '"'), note + closed, text(1, "b", citations=[CITED]), end("pause_turn")]
    heard = hear(reads, [start(), end()])
    assert heard.text == 'a\néé"b'
    assert [(one["start_index"], one["end_index"]) for one in notes(heard)] == [(0, 5), (5, 6)]
    assert [one["text"] for one in heard.hops[0]["messages"][-1]["content"]] == ['a\néé"', "b"]


# --- time


@pytest.mark.parametrize("size", ["whole", "small"])
def test_time_is_linear_in_the_stream(size: str) -> None:
    def seconds(count: int) -> float:
        pieces = ["word "] * 50
        body = start() + b"".join(text(n, *pieces, citations=[CITED]) for n in range(count)) + end()
        step = len(body) if size == "whole" else 97
        sink = SSESink()
        emitter = Emitter(template(parsed({}), "resp_1", 1), sink, lambda prefix: f"{prefix}_1", lambda: 1)
        translator = PROVIDER.translator(UpstreamRequest("", b"{}", context=Context()), emitter.voice({}))
        begun = time.process_time()
        for at in range(0, len(body), step):
            translator.feed(body[at : at + step])
            sink.take()
        translator.close()
        return time.process_time() - begun

    assert_linear(seconds, 60)


CHAT_COUNTS = {
    "prompt_tokens": 25,
    "completion_tokens": 7,
    "total_tokens": 32,
    "prompt_tokens_details": {"cached_tokens": 10},
}


@pytest.mark.parametrize("first", [{}, {"input_tokens": 0, "output_tokens": 0}])
def test_counts_under_the_names_of_chat_are_read(first: Json) -> None:
    """A gateway in front of a chat server: the names of openai-python's CompletionUsage."""
    usage = hear(start(usage=first) + text(0, "x") + end(usage=CHAT_COUNTS)).final["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (25, 7, 32)
    assert usage["input_tokens_details"]["cached_tokens"] == 10
    usage = hear(start(usage={"input_tokens": 3, "output_tokens": 2}) + end(usage={"prompt_tokens": 9})).final["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (3, 2)


def test_usage_that_only_the_last_event_has_is_read() -> None:
    stop = b'event: message_stop\ndata: {"type":"message_stop","usage":{"output_tokens":7}}\n\n'
    delta = b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\n'
    usage = hear(start(usage={"input_tokens": 5, "output_tokens": 1}) + text(0, "x") + delta + stop).final["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (5, 7)
