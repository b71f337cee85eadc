"""Chat/completions streams as events: translation.md §3.3, §4.1 and its cases of §6, by hand; pain.md A–E."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.errors import RelayError
from relay.providers import chat_think
from relay.providers.base import Done
from relay.providers.chat import PROVIDER
from relay.providers.chat_stream import Context
from relay.providers.chat_think import SAID_BEFORE, ThinkSplitter
from relay.providers.usage import chat_usage
from relay.responses.envelope import unseal
from relay.responses.tools import Tool
from tests.providers.chat_support import Heard, Json, build, chunk, hear, stream
from tests.support import assert_linear

USAGE = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
COUNTED = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 4,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 14,
}


def say(*texts: str) -> list[Json]:
    return [chunk({"content": text}) for text in texts]


def call(
    index: int | None = None, identifier: str | None = None, name: str | None = None, arguments: Any = None
) -> Json:
    """One fragment of a tool call; what is None is not there."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    fragment = {"index": index, "id": identifier, "type": "function" if identifier else None, "function": function}
    return {key: value for key, value in fragment.items() if value is not None}


def calls(*fragments: Json) -> Json:
    return chunk({"tool_calls": list(fragments)})


def heard(*chunks: Any, done: bool = True, **options: Any) -> Heard:
    return hear([stream(*chunks, done=done)], **options)


def said(found: Heard) -> list[tuple[str, str]]:
    return [(item["name"], item["arguments"]) for item in found.items("function_call")]


def kinds(found: Heard) -> list[str]:
    return [item["type"] for item in found.output]


def blocks(item: Json) -> list[Json]:
    envelope = unseal(item["encrypted_content"])
    assert envelope is not None
    assert (envelope.family, envelope.model) == ("chat", "m")
    return [json.loads(block) for block in envelope.blocks]


# --- text, ends, usage


def test_case_1_role_only_chunk_then_stop_completes_without_output() -> None:
    found = heard(chunk({"role": "assistant"}), chunk(finish="stop"), {"choices": [], "usage": USAGE})
    assert found.done == Done("completed")
    assert found.output == []
    assert found.final["usage"] == COUNTED
    assert [event["type"] for event in found.events] == [
        "response.created",
        "response.in_progress",
        "response.completed",
    ]


def test_case_2_usage_after_finish_counts_and_the_end_waits_for_it() -> None:
    found = heard(*say("Hel", "lo"), chunk(finish="stop"), {"choices": [], "usage": USAGE})
    assert found.text == "Hello"
    assert found.final["usage"] == COUNTED
    assert [event["delta"] for event in found.of("output_text.delta")] == ["Hel", "lo"]


def test_case_3_comments_and_a_split_inside_an_emoji() -> None:
    body = b": OPENROUTER PROCESSING\r\n\r\n" + stream(*say("a 😀 b"), chunk(finish="stop")).replace(b"\n", b"\r\n")
    raw = body.replace(b"\\ud83d\\ude00", "😀".encode())
    for at in range(len(raw)):
        assert hear([raw[:at], raw[at:]], check=False).text == "a 😀 b"


@pytest.mark.parametrize("delta", [{}, None, {"content": None}, {"content": ""}, {"role": "assistant", "content": ""}])
def test_deltas_that_say_nothing(delta: Any) -> None:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    found = heard({"choices": [choice]}, {"choices": [{"index": 0}]}, *say("x"), chunk(finish="stop"))
    assert kinds(found) == ["message"]
    assert found.text == "x"


@pytest.mark.parametrize(
    ("reason", "end"),
    [
        *((word, Done("completed")) for word in ("stop", "eos", "tool_calls", "function_call", "tool_call", "STOP")),
        *((word, Done("incomplete", "max_output_tokens")) for word in ("length", "max_tokens", "model_length")),
        *((word, Done("incomplete", "content_filter")) for word in ("content_filter", "sensitive", "refusal")),
    ],
)
def test_finish_reasons(reason: str, end: Done) -> None:
    found = heard(*say("x"), chunk(finish=reason))
    assert found.done == end
    assert found.final["status"] == end.status
    assert found.final["incomplete_details"] == ({"reason": end.reason} if end.reason else None)


@pytest.mark.parametrize("reason", ["network_error", "abort", "insufficient_system_resource", "never heard of it"])
def test_finish_reasons_that_are_failures(reason: str) -> None:
    found = heard(*say("x"), chunk(finish=reason))
    assert found.error is not None
    assert reason in found.error.message
    assert found.final["error"]["code"] == "server_error"
    assert found.output[0]["status"] == "incomplete"


def test_case_12_no_finish_reason_but_done() -> None:
    assert heard(*say("x")).done == Done("completed")


def test_no_finish_reason_but_done_at_the_token_limit() -> None:
    context = Context(limit_tokens=4)
    assert heard(*say("x"), {"choices": [], "usage": USAGE}, context=context).done == Done(
        "incomplete", "max_output_tokens"
    )


def test_no_finish_reason_after_half_a_call_is_a_cut_stream() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":"1'}}
    found = heard(chunk({"tool_calls": [call]}), b"data: [DONE]\n\n")
    assert found.error is not None
    assert found.error.kind == "upstream_ended_early"
    message = {"tool_calls": [call]}
    assert hear({"choices": [{"message": message, "finish_reason": None}]}).error is not None
    call["function"]["arguments"] += '"}'
    assert heard(chunk({"tool_calls": [call]}), b"data: [DONE]\n\n").final["status"] == "completed"
    assert hear({"choices": [{"message": message, "finish_reason": None}]}).final["status"] == "completed"


def test_no_finish_reason_and_no_done_is_a_cut_stream() -> None:
    found = heard(*say("x"), {"choices": [], "usage": USAGE}, done=False)
    assert found.error is not None
    assert found.error.kind == "upstream_ended_early"
    assert found.final["usage"] == COUNTED
    assert found.output[0]["status"] == "incomplete"


def test_a_finish_reason_without_done_is_enough() -> None:
    assert heard(*say("x"), chunk(finish="stop"), done=False).done == Done("completed")


def test_the_last_event_needs_no_blank_line() -> None:
    body = stream(*say("x"), chunk(finish="stop"), done=False).rstrip(b"\n")
    assert hear([body]).done == Done("completed")


def test_nothing_after_done_is_read() -> None:
    found = hear([stream(*say("x"), chunk(finish="stop")) + stream(*say("y")), stream(*say("z"))])
    assert found.text == "x"


@pytest.mark.parametrize("body", [b"", b": comment\n\n"])
def test_an_empty_stream_is_no_answer(body: bytes) -> None:
    found = hear([body])
    assert found.error is not None
    assert found.error.kind == "upstream_ended_early"
    assert not found.started


def test_done_alone_is_no_answer() -> None:
    found = heard()
    assert found.error is not None
    assert found.error.kind == "upstream_bad_response"


def test_usage_lies_in_many_places_and_the_last_counts() -> None:
    first, last = {"prompt_tokens": 10, "completion_tokens": 1}, USAGE
    for chunks in (
        [chunk({"content": "x"}, usage=first), chunk({"content": "y"}, usage=last)],
        [*say("x"), chunk(finish="stop", x_groq={"usage": last})],
        [*say("x"), {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": last}]}],
    ):
        assert heard(*chunks).final["usage"] == COUNTED


@pytest.mark.parametrize(
    "last",
    [
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None},
        {"completion_tokens": 4},
        {"prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": None},
        {},
    ],
)
def test_zero_and_null_replace_no_count(last: Json) -> None:
    """Decision 51; envoyproxy/ai-gateway#1631."""
    first = {
        **USAGE,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    found = heard(chunk({"content": "x"}, usage=first), chunk(finish="stop"), {"choices": [], "usage": last})
    usage = found.final["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (10, 4, 14)
    assert usage["input_tokens_details"]["cached_tokens"] == 3
    assert usage["output_tokens_details"]["reasoning_tokens"] == 2


def test_no_usage_is_null() -> None:
    assert heard(*say("x"), chunk(finish="stop")).final["usage"] is None


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        # case 14: xAI leaves reasoning out of completion_tokens, OpenAI does not; the identity of the total decides
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 35,
                "completion_tokens_details": {"reasoning_tokens": 20},
            },
            (10, 0, 0, 25, 20),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 25,
                "total_tokens": 35,
                "completion_tokens_details": {"reasoning_tokens": 20},
            },
            (10, 0, 0, 25, 20),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 4}}, (9, 4, 0, 1, 0)),
        (
            {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 12}},
            (21, 12, 0, 1, 0),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 4}, (9, 4, 0, 1, 0)),
        ({"prompt_tokens": 9, "completion_tokens": 1, "cached_tokens": 4}, (9, 4, 0, 1, 0)),
        ({"prompt_tokens": 9, "completion_tokens": 1, "num_cached_tokens": 4}, (9, 4, 0, 1, 0)),
        ({"prompt_tokens": 9, "completion_tokens": 1, "prompt_token_details": {"cached_tokens": 4}}, (9, 4, 0, 1, 0)),
        (
            {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cache_write_tokens": 5}},
            (9, 0, 5, 1, 0),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 7, "reasoning_tokens": 3}, (9, 0, 0, 7, 3)),
        ({"prompt_tokens": None, "completion_tokens": "many"}, (0, 0, 0, 0, 0)),
        # vercel/ai packages/xai/src/convert-xai-chat-usage.test.ts: what was cached is not in prompt_tokens
        (
            {
                "prompt_tokens": 4142,
                "completion_tokens": 254,
                "total_tokens": 8724,
                "prompt_tokens_details": {"cached_tokens": 4328},
            },
            (8470, 4328, 0, 254, 0),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 55,
                "prompt_tokens_details": {"cached_tokens": 20},
                "completion_tokens_details": {"reasoning_tokens": 20},
            },
            (30, 20, 0, 25, 20),
        ),
        # Mistral: more cached than prompt, which the total does not have
        ({"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13, "num_cached_tokens": 64}, (10, 10, 0, 3, 0)),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 3,
                "total_tokens": 13,
                "prompt_tokens_details": {"cached_tokens": 64},
            },
            (10, 10, 0, 3, 0),
        ),
        ({"prompt_tokens": 10, "completion_tokens": 3, "num_cached_tokens": 64}, (10, 10, 0, 3, 0)),
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 3,
                "total_tokens": 103,
                "num_cached_tokens": 64,
                "prompt_tokens_details": {"cached_tokens": 0},
            },
            (100, 64, 0, 3, 0),
        ),
        # names of the Responses API and of Anthropic
        ({"input_tokens": 5, "output_tokens": 2}, (5, 0, 0, 2, 0)),
        (
            {
                "input_tokens": 9,
                "output_tokens": 7,
                "total_tokens": 16,
                "input_tokens_details": {"cached_tokens": 4},
                "output_tokens_details": {"reasoning_tokens": 3},
            },
            (9, 4, 0, 7, 3),
        ),
        ({"prompt_tokens": 0, "input_tokens": 5, "completion_tokens": 0, "output_tokens": 2}, (5, 0, 0, 2, 0)),
        (
            {"input_tokens": 9, "output_tokens": 1, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 2},
            (15, 4, 2, 1, 0),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "cache_read_input_tokens": 4},
            (9, 4, 0, 1, 0),
        ),
        # a side that is missing
        ({"prompt_tokens": None, "completion_tokens": 3, "total_tokens": 12}, (9, 0, 0, 3, 0)),
        ({"prompt_tokens": 9, "completion_tokens": None, "total_tokens": 12}, (9, 0, 0, 3, 0)),
        ({"total_tokens": 12}, (12, 0, 0, 0, 0)),
        ({"completion_tokens": 12, "total_tokens": 3}, (0, 0, 0, 12, 0)),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 1,
                "prompt_tokens_details": None,
                "completion_tokens_details": None,
            },
            (9, 0, 0, 1, 0),
        ),
    ],
)
def test_case_14_usage(usage: Json, expected: tuple[int, int, int, int, int]) -> None:
    given, cached, written, made, thought = expected
    assert chat_usage(usage) == {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": given + made,
    }


def test_service_tier_is_told() -> None:
    tiers = {"priority": "priority", "on_demand": "default", "standard": "default", "": "default", "odd": "default"}
    for sent, shown in tiers.items():
        assert heard(chunk({"content": "x"}, service_tier=sent), chunk(finish="stop")).final["service_tier"] == shown


def test_case_35_ids_stay_the_same_in_added_done_and_completed() -> None:
    found = heard(chunk({"reasoning_content": "r"}), *say("x"), calls(call(0, "c", "f", "{}")), chunk(finish="stop"))
    added = [event["item"]["id"] for event in found.of("output_item.added")]
    finished = [event["item"]["id"] for event in found.of("output_item.done")]
    assert added == finished == [item["id"] for item in found.output]


# --- errors


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"code": 502, "message": "Provider died"}, "choices": [{"index": 0, "finish_reason": "error"}]},
        {"error": "Provider died"},
        {"object": "error", "message": "Provider died", "type": "ServerError", "code": 502},
        {"choices": [{"index": 0, "delta": {}, "error": {"code": 502, "message": "Provider died"}}]},
        {"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]},
        b'event: error\ndata: {"error":{"message":"Provider died","status_code":502}}\n\n',
        b'error: {"error":{"message":"Provider died"}}\n\n',
        b"event: error\ndata: Provider died\n\n",
    ],
)
def test_case_4_errors_inside_a_stream(error: Any) -> None:
    found = heard(*say("Hel", "lo"), error)
    assert found.error is not None
    assert found.final["status"] == "failed"
    assert found.final["error"]["code"] in ("server_error", "server_is_overloaded")
    assert found.text == "Hello"
    assert found.output[0]["status"] == "incomplete"
    first = heard(error)
    assert first.error is not None
    assert first.error.status in (500, 503)
    assert not first.started


def test_an_error_chunk_brings_its_usage() -> None:
    found = heard(*say("x"), {"error": {"code": 429, "message": "slow down"}, "usage": USAGE})
    assert found.error is not None
    assert found.error.kind == "rate_limited"
    assert found.final["usage"] == COUNTED


@pytest.mark.parametrize("bad", [b"data: {broken\n\n", b"data: [1]\n\n", b"data: 7\n\n", b"data: null\n\n"])
def test_garbage_is_a_failure(bad: bytes) -> None:
    found = heard(*say("x"), bad)
    assert found.error is not None
    assert found.error.kind == "upstream_bad_response"


def test_a_page_in_place_of_a_stream() -> None:
    found = hear([b"<html><body>Bad gateway</body></html>"])
    assert found.error is not None
    assert found.error.kind == "upstream_bad_response"
    assert "html" not in found.error.message


def test_a_page_after_the_stream_began_is_a_cut() -> None:
    found = hear([stream(*say("x"), done=False), b"<html>Bad gateway</html>"])
    assert found.error is not None
    assert found.error.kind == "upstream_ended_early"
    assert found.text == "x"


def test_a_lone_surrogate_is_read_and_mended() -> None:
    first, second = b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n', b'{"choices":[{"delta":{"content":"'
    found = hear([first, b"data: " + second + b'\\ude00b"}}]}\n\n', stream(chunk(finish="stop"))])
    assert found.text == "a😀b"


# --- tool calls: the key rule


def test_case_5_parallel_calls_that_all_have_index_0() -> None:
    found = heard(calls(call(0, "a", "f", '{"x":1}')), calls(call(0, "b", "g", '{"y":2}')), chunk(finish="tool_calls"))
    assert said(found) == [("f", '{"x":1}'), ("g", '{"y":2}')]
    assert [item["call_id"] for item in found.output] == ["a", "b"]


def test_case_6_interleaved_fragments_without_ids() -> None:
    found = heard(
        calls(call(0, "a", "f", ""), call(1, "b", "g", "")),
        calls(call(0, arguments='{"x"')),
        calls(call(1, arguments='{"y"')),
        calls(call(0, arguments=":1}")),
        calls(call(1, arguments=":2}")),
        chunk(finish="tool_calls"),
    )
    assert said(found) == [("f", '{"x":1}'), ("g", '{"y":2}')]
    deltas = [(event["output_index"], event["delta"]) for event in found.of("function_call_arguments.delta")]
    assert deltas == [(0, '{"x"'), (1, '{"y"'), (0, ":1}"), (1, ":2}")]


def test_case_7_a_call_whose_buffer_parses_early_goes_on() -> None:
    found = heard(calls(call(0, "a", "f", '{"a":1')), calls(call(0, arguments="2}")), calls(call(0, arguments=" ")))
    assert said(found) == [("f", '{"a":12} ')]
    assert len(found.of("function_call_arguments.done")) == 1


def test_case_8_a_missing_id_is_made_up() -> None:
    found = heard(calls(call(0, None, "f", "{}")), chunk(finish="stop"))
    assert found.output[0]["call_id"].startswith("call_")
    assert found.done == Done("completed")


def test_ids_and_names_repeated_in_every_chunk_count_once() -> None:
    found = heard(calls(call(0, "a", "f", '{"x"')), calls(call(0, "a", "f", ":1}")))
    assert said(found) == [("f", '{"x":1}')]


def test_the_index_wins_over_a_known_id() -> None:
    found = heard(calls(call(0, "a", "f", "1")), calls(call(1, "b", "g", "2")), calls(call(1, "a", arguments="0")))
    assert said(found) == [("f", "1"), ("g", "20")]


def test_without_index_and_id_the_latest_call_goes_on() -> None:
    found = heard(calls(call(None, "a", "f", '{"x"')), calls(call(arguments=":1}")))
    assert said(found) == [("f", '{"x":1}')]


def test_whole_calls_without_index_and_id() -> None:
    found = heard(calls(call(name="f", arguments="{}"), call(name="f", arguments='{"b":1}')))
    assert said(found) == [("f", "{}"), ("f", '{"b":1}')]
    found = heard(calls(call(name="f", arguments="{}")), calls(call(name="g", arguments="{}")))
    assert said(found) == [("f", "{}"), ("g", "{}")]


def test_a_name_that_comes_late_lets_its_arguments_wait() -> None:
    found = heard(calls(call(0, "a", arguments='{"x"')), calls(call(0, name="f", arguments=":1}")))
    assert said(found) == [("f", '{"x":1}')]
    assert [event["delta"] for event in found.of("function_call_arguments.delta")] == ['{"x":1}']


def test_an_id_that_comes_after_the_first_fragment() -> None:
    found = heard(calls(call(0, arguments='{"x"')), calls(call(0, "a", arguments=":1}")), calls(call(0, name="f")))
    assert said(found) == [("f", '{"x":1}')]
    assert found.output[0]["call_id"] == "a"


def test_a_call_that_never_has_a_name_is_a_failure() -> None:
    found = heard(calls(call(0, "a", arguments="{}")), chunk(finish="tool_calls"))
    assert found.error is not None
    assert found.error.kind == "upstream_bad_response"


def test_a_call_without_name_and_arguments_is_nothing() -> None:
    found = heard(*say("x"), chunk({"tool_calls": [{"index": 0}, "odd"]}), chunk(finish="stop"))
    assert kinds(found) == ["message"]


@pytest.mark.parametrize(("arguments", "text"), [({"a": 1}, '{"a":1}'), (None, "{}"), ("", "{}"), ([1], "[1]")])
def test_arguments_that_are_no_text(arguments: Any, text: str) -> None:
    fragment = {"index": 0, "id": "a", "function": {"name": "f", "arguments": arguments}}
    assert said(heard(calls(fragment), calls(call(0, arguments="")), chunk(finish="tool_calls"))) == [("f", text)]


def test_an_id_used_before_is_replaced() -> None:
    found = hear([stream(calls(call(0, "a", "f", "{}")), calls(call(1, "b", "f", "{}")))])
    assert [item["call_id"] for item in found.output] == ["a", "b"]


def test_legacy_function_call() -> None:
    found = heard(
        chunk({"function_call": {"name": "f", "arguments": '{"x"'}}),
        chunk({"function_call": {"arguments": ":1}"}}),
        chunk(finish="function_call"),
    )
    assert said(found) == [("f", '{"x":1}')]


def test_case_13_length_inside_arguments() -> None:
    found = heard(calls(call(0, "a", "f", '{"x": "lo')), chunk(finish="length"))
    assert found.final["incomplete_details"] == {"reason": "max_output_tokens"}
    assert found.output[0]["status"] == "incomplete"
    assert found.of("function_call_arguments.done")[0]["arguments"] == '{"x": "lo'


def test_text_before_calls_is_complete_when_a_call_is_cut() -> None:
    found = heard(*say("x"), calls(call(0, "a", "f", "{")), chunk(finish="length"))
    assert [item["status"] for item in found.output] == ["completed", "incomplete"]


def test_text_after_a_call_is_another_message() -> None:
    found = heard(*say("a"), calls(call(0, "c", "f", "{}")), *say("b"), chunk(finish="stop"))
    assert kinds(found) == ["message", "function_call", "message"]


def test_pain_2_items_are_done_in_their_order() -> None:
    found = heard(*say("a"), calls(call(0, "c", "f", "{}"), call(1, "d", "g", "{}")), chunk(finish="stop"))
    assert [event["output_index"] for event in found.of("output_item.done")] == [0, 1, 2]


def test_case_26_a_custom_tool_over_a_function() -> None:
    tool = Tool("patch", "patch", "custom_tool_call")
    pieces = ['{"inp', 'ut": "*** Beg', "in\\n\\uD83D", '\\uDE00"}']
    chunks = [calls(call(0, "a", "patch", pieces[0])), *(calls(call(0, arguments=piece)) for piece in pieces[1:])]
    found = heard(*chunks, chunk(finish="tool_calls"), tools={"patch": tool})
    assert found.output[0]["type"] == "custom_tool_call"
    assert found.output[0]["input"] == "*** Begin\n😀"
    assert "".join(event["delta"] for event in found.of("custom_tool_call_input.delta")) == "*** Begin\n😀"


def test_a_native_custom_call() -> None:
    tool = Tool("patch", "patch", "custom_tool_call", native=True)
    first = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "patch", "input": "*** "}}
    chunks = [calls(first), calls({"index": 0, "custom": {"input": "Begin"}}), chunk(finish="tool_calls")]
    assert heard(*chunks, tools={"patch": tool}).output[0]["input"] == "*** Begin"


def test_names_and_namespaces_are_mapped_back() -> None:
    tools = {"ns__f": Tool("ns__f", "f", namespace="ns"), "a_b_2": Tool("a.b", "a.b")}
    found = heard(calls(call(0, "a", "ns__f", "{}"), call(1, "b", "a_b_2", "{}")), tools=tools)
    assert [(item["name"], item.get("namespace")) for item in found.output] == [("f", "ns"), ("a.b", None)]


# --- reasoning


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content", "thinking"])
def test_raw_reasoning_under_all_its_names(field: str) -> None:
    found = heard(chunk({field: "be"}), chunk({"content": "", field: "cause"}), *say("x"), chunk(finish="stop"))
    assert kinds(found) == ["reasoning", "message"]
    assert found.output[0]["content"] == [{"type": "reasoning_text", "text": "because"}]
    assert "encrypted_content" not in found.output[0]


def test_case_9_two_names_with_one_text() -> None:
    found = heard(chunk({"reasoning": "why", "reasoning_content": "why"}), *say("x"), chunk(finish="stop"))
    assert found.output[0]["content"][0]["text"] == "why"
    events = [event["type"] for event in found.events]
    assert events.index("response.output_item.done") < events.index("response.output_text.delta")


def test_reasoning_that_must_go_back_is_kept() -> None:
    context = Context(model="m", keep_reasoning=True)
    found = heard(
        chunk({"reasoning_content": "one"}),
        *say("x"),
        chunk({"reasoning_content": "two"}),
        calls(call(0, "a", "f", "{}")),
        chunk(finish="tool_calls"),
        context=context,
    )
    assert kinds(found) == ["reasoning", "message", "reasoning", "function_call"]
    assert [blocks(item) for item in found.items("reasoning")] == [
        [{"k": "rc", "field": "reasoning_content", "text": "one"}],
        [{"k": "rc", "field": "reasoning_content", "text": "two"}],
    ]


def test_reasoning_at_the_very_end_is_kept() -> None:
    found = heard(chunk({"reasoning": "x"}), chunk(finish="length"), context=Context("m", keep_reasoning=True))
    assert blocks(found.output[0]) == [{"k": "rc", "field": "reasoning", "text": "x"}]
    assert found.output[0]["status"] == "incomplete"


def test_case_10_reasoning_details_are_merged_and_kept() -> None:
    def details(*entries: Json, **more: Any) -> Json:
        return chunk({"reasoning_details": list(entries), **more})

    found = heard(
        details({"type": "reasoning.text", "text": "Be", "index": 0, "format": "f"}, reasoning="Be"),
        details({"type": "reasoning.text", "text": "cause", "index": 0, "format": "f"}, reasoning="cause"),
        *say("x"),
        details({"type": "reasoning.text", "text": None, "signature": "sig", "index": 0}),
        details({"type": "reasoning.text", "text": "", "signature": "", "format": None, "index": 0}),
        details({"type": "reasoning.encrypted", "data": "zzz", "index": 1, "id": "r1"}),
        *say("y"),
        chunk({"reasoning_details": [], "content": ""}),
        chunk(finish="stop"),
    )
    assert kinds(found) == ["reasoning", "message"]
    assert found.text == "xy"
    assert found.output[0]["content"] == [{"type": "reasoning_text", "text": "Because"}]
    assert [block["v"] for block in blocks(found.output[0])] == [
        {"type": "reasoning.text", "text": "Because", "index": 0, "format": "f", "signature": "sig"},
        {"type": "reasoning.encrypted", "data": "zzz", "index": 1, "id": "r1"},
    ]
    assert {block["k"] for block in blocks(found.output[0])} == {"rd"}


def test_reasoning_summaries_and_parts() -> None:
    entries = [
        {"type": "reasoning.summary", "summary": "One", "index": 0},
        {"type": "reasoning.summary", "summary": " more", "index": 0},
        {"type": "reasoning.summary", "summary": "Two", "index": 1},
    ]
    chunks = [*(chunk({"reasoning_details": [entry]}) for entry in entries), *say("x"), chunk(finish="stop")]
    shown = heard(*chunks)
    assert [part["text"] for part in shown.output[0]["summary"]] == ["One more", "Two"]
    hidden = heard(*chunks, show_summary=False)
    assert hidden.output[0]["summary"] == []
    expected = [{**entries[0], "summary": "One more"}, entries[2]]
    assert [block["v"] for block in blocks(shown.output[0])] == expected
    assert blocks(hidden.output[0]) == blocks(shown.output[0])
    assert kinds(hidden) == ["reasoning", "message"]


def test_opaque_details_come_before_the_call_that_they_belong_to() -> None:
    entry = {"type": "reasoning.encrypted", "data": "zzz", "format": "openai-responses-v1"}
    found = heard(chunk({"reasoning_details": [entry]}), calls(call(0, "a", "f", "{}")), chunk(finish="tool_calls"))
    assert kinds(found) == ["reasoning", "function_call"]
    assert blocks(found.output[0]) == [{"k": "rd", "v": entry}]
    late = heard(*say("x"), chunk({"reasoning_details": [entry]}), chunk(finish="stop"))
    assert kinds(late) == ["message", "reasoning"]
    assert blocks(late.output[1]) == [{"k": "rd", "v": entry}]


def test_new_reasoning_text_after_text_is_a_new_item() -> None:
    def detail(text: str) -> Json:
        return chunk({"reasoning_details": [{"type": "reasoning.text", "text": text, "index": 0}]})

    found = heard(detail("a"), *say("x"), detail("b"), *say("y"), chunk(finish="stop"))
    assert kinds(found) == ["reasoning", "message", "reasoning", "message"]
    assert [blocks(item)[0]["v"]["text"] for item in found.items("reasoning")] == ["a", "b"]


def test_details_without_a_type_and_details_that_are_none() -> None:
    found = heard(
        chunk({"reasoning_details": ["odd", {"text": "a"}, {"data": "zzz"}]}), *say("x"), chunk(finish="stop")
    )
    assert [block["v"] for block in blocks(found.output[0])] == [
        {"text": "a", "type": "reasoning.text"},
        {"data": "zzz", "type": "reasoning.encrypted"},
    ]


def test_a_thought_signature_stands_before_its_call() -> None:
    fragment = {**call(0, "a", "f", "{}"), "extra_content": {"google": {"thought_signature": "SIG"}}}
    found = heard(calls(fragment, call(1, "b", "g", "{}")), chunk(finish="stop"))
    assert kinds(found) == ["reasoning", "function_call", "function_call"]
    assert blocks(found.output[0]) == [{"k": "fc", "sig": "SIG"}]


def test_mistral_content_lists() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "be"}, {"type": "text", "text": "cause"}]}
    parts = [thinking, "odd", {"type": "reference", "reference_ids": [1]}, {"type": "text", "text": "x"}]
    found = heard(chunk({"content": parts}), chunk({"content": [{"type": "thinking", "thinking": "then"}]}), *say("y"))
    assert kinds(found) == ["reasoning", "message", "reasoning", "message"]
    assert found.output[0]["content"][0]["text"] == "because"
    assert found.text == "xy"
    empty = heard(chunk({"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": ""}]}), *say("x"))
    assert kinds(empty) == ["message"]


def test_lone_surrogates_in_reasoning_can_be_kept() -> None:
    raw = b'data: {"choices":[{"index":0,"delta":{"reasoning_content":"a\\ud83d"}}]}\n\n'
    found = hear([raw, stream(*say("x"), chunk(finish="stop"))], context=Context("m", keep_reasoning=True))
    assert blocks(found.output[0])[0]["text"] == "a\ufffd"


# --- <think> tags


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>why</think>because", ("why", "because")),
        ("\n<think>\nwhy\n</think>\n\nbecause", ("\nwhy\n", "because")),
        ("<think></think>because", ("", "because")),
        ("because <think>no</think>", ("", "because <think>no</think>")),
        ("<thin air", ("", "<thin air")),
        ("<think>a < b </thin </think>x</think>", ("a < b </thin ", "x</think>")),
        ("<think>never ends </th", ("never ends </th", "")),
        ("<think>all</think>  \n", ("all", "")),
        ("<thi", ("", "<thi")),
        ("", ("", "")),
        ("a < b </thin > c <thin", ("", "a < b </thin > c <thin")),
    ],
)
def test_think_tags_in_any_split(text: str, expected: tuple[str, str]) -> None:
    splits = [[text], list(text), *([text[:at], text[at:]] for at in range(len(text)))]
    for pieces in splits:
        splitter = ThinkSplitter()
        found = [one for piece in pieces for one in splitter.feed(piece)] + splitter.close()
        thought = "".join(piece for inside, piece in found if inside)
        assert (thought, "".join(piece for inside, piece in found if not inside)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hmm ok\n</think>\n\nHello", ("hmm ok\n", "Hello")),
        ("</think>\n\nHello", ("", "Hello")),
        (" \n</think>Hello", (" \n", "Hello")),
        ("hmm</think>", ("hmm", "")),
        ("hmm</think>a</think>b", ("hmm", "a</think>b")),
        ("hmm < ok </thin </think>a", ("hmm < ok </thin ", "a")),
        ("hmm <think> ok</think>a", ("", "hmm <think> ok</think>a")),
        ("say `</think>` or '</think>' or \"</think>\"", ("", "say `</think>` or '</think>' or \"</think>\"")),
        ("say `</think>` hm</think>a", ("say `</think>` hm", "a")),
        ("no tag", ("", "no tag")),
        ("no ta</thin", ("", "no ta</thin")),
        ("<think>why</think>a</think>b", ("why", "a</think>b")),
    ],
)
def test_a_lone_end_of_thought(text: str, expected: tuple[str, str]) -> None:
    """All before it was thought where that is not out yet; where it is, only the tag is left out."""
    splits = [[text], list(text), *([text[:at], text[at:]] for at in range(len(text)))]
    for pieces in splits:
        for keep in (True, False):
            splitter = ThinkSplitter(keep=keep)
            found = [one for piece in pieces for one in splitter.feed(piece)] + splitter.close()
            thought = "".join(piece for inside, piece in found if inside)
            shown = "".join(piece for inside, piece in found if not inside)
            if keep or len(pieces) == 1:
                assert (thought, shown) == expected, pieces
            else:
                assert thought + shown in ("".join(expected), "".join(expected) + text[len(text.rstrip()) :])
                assert shown == expected[1] or SAID_BEFORE in found or thought == expected[0]


def test_text_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_think, "KEPT_LIMIT_CHARS", 10)
    splitter = ThinkSplitter(keep=True)
    assert splitter.feed("12345") == []
    assert splitter.feed("1234567") == [(False, "123451234567")]
    assert splitter.feed("8</think>9") == [(False, "8"), SAID_BEFORE, (False, "9")]


def test_a_lone_end_of_thought_where_a_client_streams_and_where_it_waits() -> None:
    chunks = [*say("hmm", " ok\n</think>\n\n", "Hello"), chunk(finish="stop")]
    folded = heard(*chunks, context=Context("m", think_tags=True, folded=True))
    assert kinds(folded) == ["reasoning", "message"]
    assert folded.output[0]["content"][0]["text"] == "hmm ok\n"
    assert folded.text == "Hello"
    streamed = heard(*chunks, context=Context("m", think_tags=True))
    assert [item["content"][0]["text"] for item in streamed.items("message")] == ["hmm ok\n", "Hello"]
    assert [event["delta"] for event in streamed.of("output_text.delta")] == ["hmm", " ok\n", "Hello"]
    whole = {"message": {"content": "hmm ok\n</think>\n\nHello"}, "finish_reason": "stop"}
    for options in ({}, {"folded": True}):
        assert kinds(hear({"choices": [whole]}, context=Context("m", think_tags=True, **options))) == [
            "reasoning",
            "message",
        ]
    assert heard(*chunks).text == "hmm ok\n</think>\n\nHello"


@pytest.mark.parametrize(
    "other",
    [
        {"tool_calls": [call(0, "a", "f", "{}")]},
        {"function_call": {"name": "f", "arguments": "{}"}},
        {"refusal": "no"},
        {"images": [{"image_url": {"url": "data:image/png;base64,AAAA"}}]},
    ],
)
def test_text_that_is_kept_comes_before_what_follows_it(other: Json) -> None:
    context = Context("m", think_tags=True, folded=True)
    found = heard(*say("Hel", "lo"), chunk(other), chunk(finish="stop"), context=context)
    assert kinds(found)[0] == "message"
    assert found.output[0]["content"][0]["text"] == "Hello"
    assert found.done == Done("completed")


def test_text_that_is_kept_is_an_answer() -> None:
    context = Context("m", think_tags=True, folded=True)
    assert heard(*say("Hel", "lo"), context=context).text == "Hello"
    body = {"choices": [{"message": {"content": "Hello"}, "finish_reason": ""}]}
    assert hear(body, context=context).text == "Hello"


def test_splitting_tags_is_linear() -> None:
    for piece in ("ab", "<th", "`</think>`"):

        def feed(count: int, piece: str = piece) -> None:
            splitter = ThinkSplitter(keep=True)
            for _ in range(count):
                splitter.feed(piece)
            splitter.close()

        assert_linear(feed, 20_000)


def test_think_tags_only_where_the_record_says_so() -> None:
    chunks = [*say("<th", "ink>why</think>", "\n\nx"), chunk(finish="stop")]
    assert heard(*chunks).text == "<think>why</think>\n\nx"
    found = heard(*chunks, context=Context(think_tags=True))
    assert (found.text, found.output[0]["content"][0]["text"]) == ("x", "why")
    assert heard(*say("<thi"), context=Context(think_tags=True)).text == "<thi"


# --- the rest of a delta


def test_refusals() -> None:
    found = heard(
        chunk({"reasoning": "hm"}),
        chunk({"refusal": "I ca"}),
        chunk({"refusal": "n't"}),
        chunk(finish="stop"),
        context=Context("m", keep_reasoning=True),
    )
    assert found.output[1]["content"] == [{"type": "refusal", "refusal": "I can't"}]
    assert found.done == Done("completed")


LOGPROBS = {
    "content": [
        {"token": "Hi", "logprob": -0.5, "top_logprobs": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105]}]}
    ]
}


def test_logprobs_where_they_were_asked_for() -> None:
    choice = {"index": 0, "delta": {"content": "Hi"}, "logprobs": LOGPROBS, "finish_reason": None}
    found = heard(chunk({"role": "assistant"}), {"choices": [choice]}, context=Context(logprobs=True))
    expected = [{**LOGPROBS["content"][0], "bytes": []}]
    assert found.output[0]["content"][0]["logprobs"] == expected
    assert found.of("output_text.delta")[0]["logprobs"] == expected
    silent = heard({"choices": [choice]}, chunk(finish="stop"))
    assert silent.output[0]["content"][0]["logprobs"] == []


def test_late_annotations_come_before_the_text_is_done() -> None:
    note = {
        "type": "url_citation",
        "url_citation": {"url": "https://a", "title": "A", "start_index": 0, "end_index": 1},
    }
    bare = {"type": "url_citation", "url_citation": {"url": "https://b"}}
    found = heard(
        *say("x"),
        calls(call(0, "c", "f", "{}")),
        chunk({"annotations": [note, bare, {"type": "file", "file": {}}, "odd"]}),
        chunk(finish="stop"),
    )
    shown = found.output[0]["content"][0]["annotations"]
    assert shown == [
        {"type": "url_citation", "url": "https://a", "title": "A", "start_index": 0, "end_index": 1},
        {"type": "url_citation", "url": "https://b", "title": "", "start_index": 0, "end_index": 0},
    ]
    events = [event["type"] for event in found.events]
    assert events.index("response.output_text.annotation.added") < events.index("response.output_text.done")


def test_annotations_without_text_are_left_out() -> None:
    note = {"type": "url_citation", "url_citation": {"url": "https://a"}}
    assert heard(chunk({"annotations": [note]}), chunk(finish="stop")).output == []


def test_images() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    linked = {"type": "image_url", "image_url": {"url": "https://a/b.png"}}
    found = heard(
        chunk({"reasoning": "hm"}),
        chunk({"images": [image, linked, {"image_url": 7}, 7], "content": "see"}),
        chunk(finish="stop"),
        context=Context("m", keep_reasoning=True),
    )
    assert kinds(found) == ["reasoning", "message", "image_generation_call"]
    assert found.output[2]["result"] == "AAAA"
    assert found.final["x_relay_warnings"][0]["param"] == "output"
    assert kinds(heard(chunk({"images": [image]}), context=Context("m", keep_reasoning=True))) == [
        "image_generation_call"
    ]


def test_an_image_after_reasoning_keeps_the_reasoning() -> None:
    image = {"image_url": {"url": "data:image/png;base64,AAAA"}}
    found = heard(chunk({"reasoning": "hm"}), chunk({"images": [image]}), context=Context("m", keep_reasoning=True))
    assert blocks(found.output[0])[0]["text"] == "hm"


def test_audio_is_left_out_with_a_warning() -> None:
    found = heard(chunk({"audio": {"data": "AAAA"}}), *say("x"), chunk(finish="stop"))
    assert found.final["x_relay_warnings"] == [
        {"param": "output", "reason": "audio that the upstream sent was left out"}
    ]


def test_what_nobody_knows_is_ignored() -> None:
    odd = {"content": None, "tool_calls": 7, "function_call": 7, "refusal": 7, "images": 7, "annotations": 7, "x": 7}
    chunks = [
        chunk({"content": ""}),
        chunk(odd),
        {"prompt_filter_results": [], "choices": []},
        {"choices": "odd"},
        {"choices": ["odd"]},
    ]
    more = [
        {},
        b"event: ping\ndata: {}\n\n",
        b"id: 1\nretry: 5\n\n",
        {"choices": [{"index": 1, "delta": {"content": "n"}}]},
    ]
    deltas = [chunk({"content": "a", "x": 1}), chunk({"x": 1}), chunk({"reasoning_details": 7, "reasoning": 7})]
    found = heard(*chunks, *more, *deltas, chunk(finish="stop"))
    assert found.text == "a"


def test_a_comment_does_not_start_the_response() -> None:
    for quiet in (b": ping\n\n", b"data: {}\n\n"):
        found = hear([quiet])
        assert not found.started


# --- whole bodies


def test_a_whole_body() -> None:
    message = {
        "role": "assistant",
        "content": "Hello",
        "reasoning_content": "why",
        "refusal": None,
        "annotations": [{"type": "url_citation", "url_citation": {"url": "https://a"}}],
        "images": [{"image_url": {"url": "data:image/png;base64,AAAA"}}],
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }
    body = {
        "id": "x",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls", "logprobs": LOGPROBS}],
        "usage": USAGE,
        "service_tier": "flex",
    }
    found = hear(body)
    assert kinds(found) == ["reasoning", "message", "image_generation_call", "function_call", "function_call"]
    assert said(found) == [("f", '{"x":1}'), ("g", "{}")]
    assert found.final["usage"] == COUNTED
    assert found.final["service_tier"] == "flex"
    assert len(found.output[1]["content"][0]["annotations"]) == 1


def test_a_whole_message_inside_a_stream() -> None:
    body = {"choices": [{"index": 0, "delta": {}, "message": {"content": "x"}, "finish_reason": "stop"}]}
    assert heard(body).text == "x"
    assert heard(*say("y"), body).text == "y"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"code": 429, "message": "no"}}, "rate_limited"),
        ({"choices": []}, "upstream_bad_response"),
        ({}, "upstream_bad_response"),
        ({"choices": [{"index": 0, "message": {"content": ""}}]}, "upstream_bad_response"),
    ],
)
def test_bodies_that_are_no_answer(body: Json, kind: str) -> None:
    found = hear(body)
    assert found.error is not None
    assert found.error.kind == kind


def test_a_body_with_a_filter_and_nothing_else() -> None:
    found = hear({"choices": [{"index": 0, "message": {"content": None}, "finish_reason": "content_filter"}]})
    assert found.done == Done("incomplete", "content_filter")
    assert found.output == []


# --- HTTP errors


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (
            400,
            {"error": {"message": "bad field", "type": "invalid_request_error", "code": "x"}},
            "invalid_request",
            "bad",
        ),
        (
            400,
            {"object": "error", "message": "maximum context length is 5", "code": 400},
            "context_length_exceeded",
            "max",
        ),
        (400, {"error": {"message": "too long", "code": "context_length_exceeded"}}, "context_length_exceeded", "too"),
        (401, {"error": {"message": "bad key sk-abcdefgh"}}, "upstream_authentication", "key"),
        (402, {"error": {"message": "Insufficient Balance"}}, "upstream_billing", "billing"),
        (429, {"error": {"code": "insufficient_quota", "message": "quota"}}, "upstream_billing", "billing"),
        (
            403,
            {"error": {"code": 403, "message": "flagged", "metadata": {"reasons": ["x"]}}},
            "content_policy",
            "flagged",
        ),
        (
            400,
            {"error": {"code": "x", "message": "filtered", "innererror": {"code": "ResponsibleAIPolicyViolation"}}},
            "content_policy",
            "filtered",
        ),
        (404, {"error": "model 'x' not found, try pulling it"}, "model_not_found", "pulling"),
        (404, b"<html>", "upstream_misconfigured", "base_url"),
        (422, {"detail": [{"loc": ["body", "n"], "msg": "too big"}, "odd"]}, "invalid_request", "body.n: too big; odd"),
        (400, {"detail": "no"}, "invalid_request", "no"),
        (400, {"message": {"detail": "no"}, "object": "error"}, "invalid_request", "no"),
        (429, {"error": {"message": "slow"}}, "rate_limited", "slow"),
        (498, b"", "overloaded", "overloaded"),
        (500, b"", "upstream_error", "error"),
        (503, {"error": {"message": "no"}}, "overloaded", "overloaded"),
        (400, [{"error": {"message": "bad"}}], "invalid_request", "bad"),
        (
            400,
            {"error": {"message": "Provider returned error", "metadata": {"raw": "prompt is too long"}}},
            "context_length_exceeded",
            "Provider",
        ),
        (500, {"error": {"message": "no", "code": "429"}}, "rate_limited", "no"),
    ],
)
def test_case_30_http_errors(status: int, body: Any, kind: str, said: str) -> None:
    error = PROVIDER.error(status, {}, body if isinstance(body, bytes) else json.dumps(body).encode())
    assert error.kind == kind
    assert said in error.message
    assert "sk-" not in error.message


def test_http_errors_carry_delay_code_and_param() -> None:
    body = b'{"error":{"message":"no","type":"invalid_request_error","code":"bad","param":"temperature"}}'
    error = PROVIDER.error(400, {}, body)
    assert (error.code, error.param) == ("bad", "temperature")
    assert PROVIDER.error(400, {}, body.replace(b'"temperature"', b'"messages[3]"')).param is None
    assert PROVIDER.error(400, {}, body.replace(b'"temperature"', b'"text.format"')).param is None
    assert PROVIDER.error(403, {}, b'{"error":{"message":"no","code":429}}').kind == "upstream_forbidden"
    assert PROVIDER.error(429, {"retry-after": "7"}, b"").retry_after_s == 7


@pytest.mark.parametrize(
    ("message", "repair"),
    [
        ("Unrecognized request argument supplied: stream_options", "stream_options"),
        ("logprobs are not supported with reasoning models", "logprobs"),
        ("something else", None),
    ],
)
def test_repairs_are_named(message: str, repair: str | None) -> None:
    assert PROVIDER.error(400, {}, json.dumps({"error": {"message": message}}).encode()).repair == repair
    assert PROVIDER.error(500, {}, json.dumps({"error": {"message": message}}).encode()).repair is None


# --- the seam


def test_the_provider_makes_its_translator_from_the_request() -> None:
    request = build({"input": "hi", "max_output_tokens": 4}, quirks="deepseek")
    assert request.context == Context(
        model="some-model",
        reasoning_fields=("reasoning_content", "reasoning", "thinking"),
        keep_reasoning=True,
        limit_tokens=4,
        folded=True,
    )
    assert not build({"input": "hi", "stream": True}).context.folded
    assert PROVIDER.translator(request, _voice()).ready


def _voice() -> Any:
    from relay.responses.emitter import Emitter
    from relay.responses.sinks import SSESink

    return Emitter({}, SSESink(), lambda prefix: prefix, lambda: 0).voice({})


def test_an_error_is_raised_once_and_as_ours() -> None:
    translator = PROVIDER.translator(build({"input": "hi"}), _voice())
    with pytest.raises(RelayError, match="slow"):
        translator.feed(stream({"error": {"code": 429, "message": "slow"}}))


@pytest.mark.parametrize("kind", ["text", "arguments", "reasoning"])
def test_pain_39_time_is_linear_in_the_fragments(kind: str) -> None:
    deltas = {
        "text": {"content": "ab"},
        "arguments": {"tool_calls": [call(0, arguments="ab")]},
        "reasoning": {"reasoning_details": [{"type": "reasoning.text", "text": "ab", "index": 0}]},
    }

    def said(count: int) -> None:
        body = stream(calls(call(0, "a", "f", "")), *[chunk(deltas[kind])] * count, chunk(finish="stop"))
        hear([body[at : at + 4096] for at in range(0, len(body), 4096)], check=False)

    said(100)
    assert_linear(said, 5_000)
