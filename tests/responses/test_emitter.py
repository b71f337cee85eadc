"""The emitter against openai-python's own models and accumulator (tests/oracle.py), case by case."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import RelayError
from relay.responses.emitter import usage_of
from tests.mutations import assert_refuses_mutations
from tests.oracle import check_stream
from tests.responses.support import Told, kinds
from tests.support import assert_linear

FRAME = ["created", "in_progress"]
MESSAGE = [
    "output_item.added",
    "content_part.added",
    "output_text.delta",
    "output_text.done",
    "content_part.done",
    "output_item.done",
]
CALL = [
    "output_item.added",
    "function_call_arguments.delta",
    "function_call_arguments.done",
    "output_item.done",
]
TOOLS = [
    {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}},
    {"type": "custom", "name": "patch"},
    {"type": "namespace", "name": "ns", "description": "", "tools": [{"type": "function", "name": "g"}]},
    {"type": "shell"},
    {"type": "local_shell"},
    {"type": "apply_patch"},
]


def test_text() -> None:
    told = Told()
    told.voice.text("Hel")
    told.voice.text("lo")
    told.voice.usage(usage_of(3, 2))
    events = told.end()
    assert kinds(events) == [*FRAME, *MESSAGE, "completed"]
    final = check_stream(events)
    assert final["output"][0]["content"][0]["text"] == "Hello"
    assert final["usage"]["total_tokens"] == 5
    assert final["completed_at"] == 1_700_000_001
    assert_refuses_mutations(events)


def test_nothing_said_is_an_empty_output() -> None:
    events = Told().end()
    assert kinds(events) == [*FRAME, "completed"]
    assert check_stream(events)["output"] == []


def test_begin_is_idempotent() -> None:
    told = Told()
    told.voice.begin()
    told.voice.begin()
    assert kinds(told.end()) == [*FRAME, "completed"]


def test_reasoning_ends_when_text_begins_and_text_when_reasoning_begins() -> None:
    told = Told()
    told.voice.reasoning("hm")
    told.voice.text("A")
    told.voice.reasoning("mh")
    told.voice.text("B")
    final = check_stream(told.end())
    assert [item["type"] for item in final["output"]] == ["reasoning", "message", "reasoning", "message"]
    assert final["output"][0]["content"] == [{"type": "reasoning_text", "text": "hm"}]


def test_summaries_are_shown_only_where_asked_for() -> None:
    told = Told()
    told.voice.summary("secret")
    told.voice.envelope("relay1.x")
    told.voice.reasoning_end()
    events = told.end()
    assert check_stream(events)["output"][0]["summary"] == []
    assert not any("secret" in str(event) for event in events)
    told = Told({"reasoning": {"summary": "auto"}})
    told.voice.summary("one")
    told.voice.summary_end()
    told.voice.summary("two")
    told.voice.envelope("relay1.x")
    told.voice.text("A")
    events = told.end()
    item = check_stream(events)["output"][0]
    assert [part["text"] for part in item["summary"]] == ["one", "two"]
    assert item["encrypted_content"] == "relay1.x"
    assert_refuses_mutations(events)


def test_raw_reasoning_and_summary_in_one_item() -> None:
    told = Told({"reasoning": {"summary": "auto"}})
    told.voice.reasoning("raw")
    told.voice.summary("short")
    told.voice.reasoning("more")
    item = check_stream(told.end())["output"][0]
    assert [part["text"] for part in item["content"]] == ["raw", "more"]
    assert [part["text"] for part in item["summary"]] == ["short"]


def test_a_signature_that_comes_late_reaches_the_held_reasoning_item() -> None:
    told = Told()
    told.voice.hold_reasoning = True
    told.voice.reasoning("hm")
    told.voice.text("A")
    assert told.voice.reasoning_open
    told.voice.envelope("relay1.late")
    told.voice.reasoning_end()
    told.voice.reasoning_end()
    final = check_stream(told.end())
    assert final["output"][0]["encrypted_content"] == "relay1.late"
    assert final["output"][1]["content"][0]["text"] == "A"


def test_parallel_calls_interleave_and_end_in_order() -> None:
    told = Told({"tools": TOOLS})
    one = told.voice.call("call_1", "f")
    two = told.voice.call("call_2", "ns__g")
    told.voice.arguments(one, '{"a"')
    told.voice.arguments(two, "{}")
    told.voice.call_end(two)
    told.voice.arguments(one, ":1}")
    told.voice.call_end(one)
    events = told.end()
    final = check_stream(events)
    assert [(c["name"], c.get("namespace"), c["arguments"]) for c in final["output"]] == [
        ("f", None, '{"a":1}'),
        ("g", "ns", "{}"),
    ]
    done = [event["output_index"] for event in events if event["type"] == "response.output_item.done"]
    assert done == [0, 1]
    assert_refuses_mutations(events)


def test_a_call_without_arguments_has_an_empty_object() -> None:
    told = Told({"tools": TOOLS})
    call = told.voice.call("call_1", "f")
    told.voice.arguments(call, "")
    told.voice.call_end(call)
    events = told.end()
    assert kinds(events) == [*FRAME, *CALL, "completed"]
    assert check_stream(events)["output"][0]["arguments"] == "{}"


def test_call_ids_are_kept_or_minted() -> None:
    told = Told()
    told.emitter.call_ids.add("used")
    for proposed in ("fine", "fine", "used", "", None, "x" * 65):
        told.voice.call_end(told.voice.call(proposed, "f"))
    ids = [item["call_id"] for item in check_stream(told.end())["output"]]
    assert ids[0] == "fine"
    assert len(set(ids)) == 6
    assert all(identifier.startswith("call_") for identifier in ids[1:])


def test_a_custom_tool_is_unwrapped() -> None:
    told = Told({"tools": TOOLS})
    call = told.voice.call("c", "patch")
    for fragment in ('{"inp', 'ut": "*** Beg', "in\\n\\uD83D", '\\uDE00"}'):
        told.voice.arguments(call, fragment)
    told.voice.call_end(call)
    events = told.end()
    item = check_stream(events)["output"][0]
    assert (item["type"], item["name"], item["input"]) == ("custom_tool_call", "patch", "*** Begin\n😀")
    assert_refuses_mutations(events)


@pytest.mark.parametrize("arguments", ["plain text", '{"other": 1}', '{"input": 5}', '"a string"'])
def test_a_custom_tool_given_something_else_shows_it(arguments: str) -> None:
    told = Told({"tools": TOOLS})
    call = told.voice.call("c", "patch")
    told.voice.arguments(call, arguments)
    told.voice.call_end(call)
    shown = check_stream(told.end())["output"][0]["input"]
    assert shown == ("a string" if arguments == '"a string"' else arguments)


EMULATED = [
    (
        "shell",
        '{"commands": ["ls", "pwd"], "timeout_ms": 5}',
        {
            "type": "shell_call",
            "action": {"commands": ["ls", "pwd"], "max_output_length": None, "timeout_ms": 5},
            "environment": {"type": "local"},
        },
    ),
    (
        "local_shell",
        '{"command": ["ls", "-l"], "timeout_ms": 7, "working_directory": "/w", "env": {"A": "b"}}',
        {
            "type": "local_shell_call",
            "action": {
                "type": "exec",
                "command": ["ls", "-l"],
                "env": {"A": "b"},
                "timeout_ms": 7,
                "working_directory": "/w",
            },
        },
    ),
    (
        "local_shell",
        '{"command": ["ls"]}',
        {"type": "local_shell_call", "action": {"type": "exec", "command": ["ls"], "env": {}}},
    ),
    (
        "apply_patch",
        '{"type": "update_file", "path": "a.py", "diff": "@@"}',
        {"type": "apply_patch_call", "operation": {"type": "update_file", "path": "a.py", "diff": "@@"}},
    ),
    (
        "apply_patch",
        '{"type": "delete_file", "path": "a.py", "diff": "@@"}',
        {"type": "apply_patch_call", "operation": {"type": "delete_file", "path": "a.py"}},
    ),
]


@pytest.mark.parametrize(("tool", "arguments", "expected"), EMULATED)
def test_emulated_tools_become_their_own_items(tool: str, arguments: str, expected: dict[str, Any]) -> None:
    told = Told({"tools": TOOLS})
    call = told.voice.call("c", tool)
    for character in arguments:
        told.voice.arguments(call, character)
    told.voice.call_end(call)
    item = check_stream(told.end())["output"][0]
    assert {name: item[name] for name in expected} == expected
    assert (item["call_id"], item["status"]) == ("c", "completed")


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("shell", "{"),
        ("shell", "[]"),
        ("shell", '{"commands": "ls"}'),
        ("local_shell", '{"command": [1]}'),
        ("apply_patch", '{"type": "rename", "path": "a"}'),
        ("apply_patch", '{"type": "create_file", "path": "a"}'),
    ],
)
def test_emulated_calls_that_are_no_such_structure_are_shown_as_functions(tool: str, arguments: str) -> None:
    told = Told({"tools": TOOLS})
    call = told.voice.call("c", tool)
    told.voice.arguments(call, arguments)
    events = told.end("incomplete", reason="max_output_tokens")
    item = check_stream(events)["output"][0]
    assert (item["type"], item["name"], item["arguments"]) == ("function_call", tool, arguments)


def test_a_message_stays_open_for_late_annotations() -> None:
    citation = {"type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 0, "end_index": 1}
    told = Told({"tools": TOOLS})
    told.voice.late_annotations = True
    told.voice.text("A")
    assert (told.voice.text_length(), told.voice.text_so_far()) == (1, "A")
    call = told.voice.call("c", "f")
    told.voice.call_end(call)
    told.voice.annotation(citation)
    search = told.voice.hosted("web_search_call", {"status": "in_progress", "action": {"type": "search", "query": "q"}})
    told.voice.hosted_end(search, {"status": "completed"})
    told.voice.text("B")
    events = told.end()
    final = check_stream(events)
    assert [item["type"] for item in final["output"]] == ["message", "function_call", "web_search_call", "message"]
    assert final["output"][0]["content"][0]["annotations"] == [citation]
    done = [event["output_index"] for event in events if event["type"] == "response.output_item.done"]
    assert done == [0, 1, 2, 3]


def test_an_annotation_alone_opens_a_part() -> None:
    told = Told()
    told.voice.annotation({"type": "file_citation", "file_id": "f", "filename": "a", "index": 0})
    assert told.voice.text_length() == 0
    assert check_stream(told.end())["output"][0]["content"][0]["text"] == ""


def test_positions_without_text() -> None:
    told = Told()
    assert (told.voice.text_length(), told.voice.text_so_far()) == (0, "")
    told.voice.refusal("no")
    assert (told.voice.text_length(), told.voice.text_so_far()) == (0, "")
    told.voice.message_end()
    told.voice.message_end()
    assert (told.voice.text_length(), told.voice.text_so_far()) == (0, "")


def test_refusal_and_text_are_parts_of_one_message() -> None:
    told = Told()
    told.voice.text("Well, ")
    told.voice.refusal("no.")
    told.voice.text("Sorry.")
    events = told.end()
    parts = check_stream(events)["output"][0]["content"]
    assert [(part["type"], part.get("text") or part.get("refusal")) for part in parts] == [
        ("output_text", "Well, "),
        ("refusal", "no."),
        ("output_text", "Sorry."),
    ]
    assert_refuses_mutations(events)


def test_refusal_and_logprobs_after_a_suspended_message_open_another() -> None:
    told = Told({"tools": TOOLS})
    told.voice.late_annotations = True
    told.voice.text("A")
    told.voice.call_end(told.voice.call("1", "f"))
    told.voice.refusal("no")
    told.voice.call_end(told.voice.call("2", "f"))
    told.voice.logprobs("B", [])
    types = [item["type"] for item in check_stream(told.end())["output"]]
    assert types == ["message", "function_call", "message", "function_call", "message"]


def test_logprobs() -> None:
    token = {"token": "A", "logprob": -0.5, "bytes": [65], "top_logprobs": []}
    told = Told()
    told.voice.logprobs("A", [token])
    told.voice.text("B")
    events = told.end()
    part = check_stream(events)["output"][0]["content"][0]
    assert (part["text"], part["logprobs"]) == ("AB", [token])


def test_logprobs_after_a_refusal_and_a_namespaced_custom_tool() -> None:
    custom = {"type": "namespace", "name": "ns", "description": "", "tools": [{"type": "custom", "name": "p"}]}
    told = Told({"tools": [custom]})
    told.voice.refusal("no")
    told.voice.logprobs("A", [])
    told.voice.call_end(told.voice.call("c", "ns__p"))
    final = check_stream(told.end())
    assert [part["type"] for part in final["output"][0]["content"]] == ["refusal", "output_text"]
    assert (final["output"][1]["namespace"], final["output"][1]["name"]) == ("ns", "p")


def test_hosted_tools_go_through_their_steps() -> None:
    told = Told()
    item = told.voice.hosted(
        "code_interpreter_call",
        {"status": "in_progress", "code": "", "container_id": "c", "outputs": None},
    )
    told.voice.hosted_delta(item, "code", "print(")
    told.voice.hosted_delta(item, "code", "1)")
    told.voice.hosted_delta_end(item)
    told.voice.hosted_step(item, "interpreting")
    told.voice.hosted_end(item, {"status": "completed", "outputs": [{"type": "logs", "logs": "1"}]})
    events = told.end()
    assert kinds(events) == [
        *FRAME,
        "output_item.added",
        "code_interpreter_call.in_progress",
        "code_interpreter_call_code.delta",
        "code_interpreter_call_code.done",
        "code_interpreter_call.interpreting",
        "code_interpreter_call.completed",
        "output_item.done",
        "completed",
    ]
    assert check_stream(events)["output"][0]["code"] == "print(1)"


def test_a_hosted_tool_without_steps_and_one_that_is_cut() -> None:
    told = Told()
    told.voice.text("A")
    done = told.voice.hosted(
        "web_search_call", {"status": "in_progress", "action": {"type": "search", "query": "a"}}, step=None
    )
    told.voice.hosted_end(done, {"status": "completed"}, step=None)
    told.voice.hosted("web_search_call", {"status": "searching", "action": {"type": "search", "query": "b"}})
    told.emitter.conclude("incomplete", reason="max_output_tokens")
    assert [item["status"] for item in told.emitter.response["output"]] == ["completed", "completed", "incomplete"]


def test_incomplete_marks_what_was_open() -> None:
    told = Told({"tools": TOOLS})
    told.voice.reasoning("hm")
    told.voice.text("A")
    call = told.voice.call("c", "f")
    told.voice.arguments(call, '{"a": ')
    events = told.end("incomplete", reason="max_output_tokens")
    final = check_stream(events)
    assert final["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item.get("status") for item in final["output"]] == [None, "completed", "incomplete"]
    assert final["output"][2]["arguments"] == '{"a": '
    assert final["completed_at"] is None
    assert_refuses_mutations(events)


def test_a_cut_reasoning_item_says_so() -> None:
    told = Told()
    told.voice.reasoning("hm")
    final = check_stream(told.end("incomplete", reason="max_output_tokens"))
    assert final["output"][0]["status"] == "incomplete"


def test_failed_keeps_what_was_said() -> None:
    told = Told()
    told.voice.text("A")
    told.voice.usage(usage_of(3, 1))
    events = told.end("failed", error=RelayError("rate_limited", "Slow down.", retry_after_s=2.5))
    final = check_stream(events)
    assert final["error"] == {"code": "rate_limit_exceeded", "message": "Slow down. Please try again in 2.5s."}
    assert final["output"][0]["status"] == "incomplete"
    assert final["output"][0]["content"][0]["text"] == "A"
    assert_refuses_mutations(events)


def test_surrogates_wait_for_their_partner() -> None:
    told = Told()
    for delta in ("a\ud83d", "\ude00b", "\ud83d", "c", "\ude00", "\ud83d"):
        told.voice.text(delta)
    events = told.end()
    assert check_stream(events)["output"][0]["content"][0]["text"] == "a😀b\ufffdc\ufffd\ufffd"


def test_a_lone_surrogate_outside_deltas_is_replaced() -> None:
    told = Told()
    call = told.voice.call("c", "na\ud800me")
    told.voice.call_end(call)
    events = told.end()
    added = next(event for event in events if event["type"] == "response.output_item.added")
    assert added["item"]["name"] == "na\ufffdme"


def test_literals_and_text_mix() -> None:
    told, parsed = Told(), Told()
    for pieces in (["a", "b"], ["\n", "é😀", 'q"\\']):
        told.voice.literals([orjson.dumps(piece)[1:-1] for piece in pieces])
        told.voice.text("-")
        for piece in [*pieces, "-"]:
            parsed.voice.text(piece)
    told.voice.literals([b"end"])
    parsed.voice.text("end")
    events = told.end()
    assert events == parsed.end()
    assert check_stream(events)["output"][0]["content"][0]["text"] == 'ab-\né😀q"\\-end'


def test_literals_after_a_surrogate_a_refusal_and_a_suspended_message() -> None:
    told = Told({"tools": TOOLS})
    told.voice.late_annotations = True
    told.voice.text("\ud83d")
    told.voice.literals([b"a", b"b"])
    told.voice.refusal("no")
    told.voice.literals([b"c"])
    told.voice.call_end(told.voice.call("1", "f"))
    told.voice.literals([b"d"])
    first, _, last = check_stream(told.end())["output"]
    assert [part.get("text") for part in first["content"]] == ["\ufffdab", None, "c"]
    assert last["content"][0]["text"] == "d"


def test_usage_is_summed_over_hops_and_voices() -> None:
    told = Told()
    told.voice.usage(usage_of(10, 5, cached=4, cache_write=1, reasoning=2))
    told.voice.next_hop()
    told.voice.usage(usage_of(1, 1))
    told.voice.usage(usage_of(20, 6, cached=8))
    other = told.emitter.voice({})
    other.usage(usage_of(1, 2))
    assert told.emitter.usage_so_far() == {
        "input_tokens": 31,
        "input_tokens_details": {"cached_tokens": 12, "cache_write_tokens": 1},
        "output_tokens": 13,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 44,
    }


def test_cached_tokens_never_exceed_the_input() -> None:
    assert usage_of(3, 1, cached=9)["input_tokens_details"]["cached_tokens"] == 3


def test_two_voices_share_numbers_and_indexes() -> None:
    told = Told({"n": 2})
    other = told.emitter.voice({})
    told.voice.text("A")
    other.text("B")
    told.voice.text("a")
    other.text("b")
    final = check_stream(told.end())
    assert [item["content"][0]["text"] for item in final["output"]] == ["Aa", "Bb"]


def test_warnings_transformations_and_tier_are_in_the_final_response() -> None:
    told = Told()
    told.emitter.warn("seed", "not supported")
    told.emitter.warn("seed", "not supported")
    told.emitter.transformation({"id": "rs_1", "type": "reasoning", "action": "removed", "reason": "model_mismatch"})
    told.emitter.tier("priority")
    final = check_stream(told.end())
    assert final["x_relay_warnings"] == [{"param": "seed", "reason": "not supported"}]
    assert final["input_transformations"][0]["id"] == "rs_1"
    assert final["service_tier"] == "priority"


def test_the_tier_is_default_where_nobody_said() -> None:
    events = Told().end()
    assert events[0]["response"]["service_tier"] == "auto"
    assert events[-1]["response"]["service_tier"] == "default"


def test_a_native_response_is_taken_as_it_is() -> None:
    told = Told()
    told.voice.begin()
    final = {**told.emitter.response, "status": "completed", "completed_at": 5, "service_tier": "flex", "output": []}
    assert told.emitter.conclude_with(final)["service_tier"] == "flex"
    told.emitter.terminal()
    assert told.events()[-1]["type"] == "response.completed"


def test_forwarded_events_count() -> None:
    told = Told()
    told.voice.begin()
    told.emitter.forward(b"response.custom", b'{"type":"response.custom","sequence_number":2}')
    numbers = [event["sequence_number"] for event in told.end()]
    assert numbers == [0, 1, 2, 3]


@pytest.mark.parametrize("say", ["text", "arguments", "envelope", "annotation", "emulated"])
def test_the_output_has_a_limit(say: str) -> None:
    told = Told({"tools": TOOLS}, limit_bytes=100)

    def once() -> None:
        if say == "text":
            told.voice.text("x" * 60)
        elif say == "arguments":
            told.voice.arguments(call, "x" * 60)
        elif say == "envelope":
            told.voice.envelope("x" * 60)
        elif say == "emulated":
            told.voice.arguments(shell, "x" * 60)
        else:
            told.voice.annotation({"type": "url_citation", "url": "x" * 60})

    call = told.voice.call("c", "f")
    shell = told.voice.call("s", "shell")
    once()
    with pytest.raises(RelayError, match="over 100 bytes"):
        once()


VERBS = st.sampled_from(
    ["text", "refusal", "reasoning", "summary", "envelope", "call", "arguments", "end", "hosted", "cite"]
)


@given(
    st.lists(st.tuples(VERBS, st.text(min_size=1, max_size=3)), max_size=25),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_any_order_of_verbs_is_a_legal_stream(said: list[tuple[str, str]], late: bool, hold: bool, cut: bool) -> None:
    told = Told({"tools": TOOLS, "reasoning": {"summary": "auto"}})
    voice = told.voice
    voice.late_annotations, voice.hold_reasoning = late, hold
    calls: list[Any] = []
    for verb, text in said:
        if verb in ("text", "refusal", "reasoning", "summary", "envelope"):
            getattr(voice, verb)(text)
        elif verb == "call":
            calls.append(voice.call(None, "f"))
        elif verb == "arguments" and calls:
            voice.arguments(calls[-1], "1")
        elif verb == "end" and calls:
            voice.call_end(calls.pop())
        elif verb == "hosted":
            item = voice.hosted(
                "web_search_call", {"status": "in_progress", "action": {"type": "search", "query": "q"}}
            )
            voice.hosted_end(item, {"status": "completed"})
        elif verb == "cite":
            voice.annotation({"type": "file_citation", "file_id": "f", "filename": "a", "index": 0})
    check_stream(told.end("incomplete", reason="max_output_tokens") if cut else told.end())


def test_a_call_may_be_left_open_behind_a_finished_one() -> None:
    told = Told({"tools": TOOLS})
    told.voice.call_end(told.voice.call("1", "f"))
    told.voice.call("2", "f")
    assert [item["status"] for item in check_stream(told.end())["output"]] == ["completed", "completed"]


def test_arguments_in_one_byte_deltas_take_linear_time() -> None:
    def say(count: int) -> None:
        told = Told({"tools": TOOLS})
        call = told.voice.call("c", "patch")
        told.voice.arguments(call, '{"input": "')
        for _ in range(count):
            told.voice.arguments(call, "x")
        told.emitter.conclude("completed")

    assert_linear(say, 40_000)


def test_calls_that_all_end_at_the_end_take_linear_time() -> None:
    """120,000 calls of one character took 9 s of moving the rest of a list (issue 10)."""

    def say(count: int) -> None:
        told = Told({"tools": TOOLS})
        calls = [told.voice.call(f"c{at}", "f") for at in range(count)]
        for call in calls:
            told.voice.call_end(call)
        told.emitter.conclude("completed")

    assert_linear(say, 20_000)


def test_a_sign_of_life_is_the_first_in_progress_again_but_for_its_number() -> None:
    """Decision 59: whatever has become known of the response since."""
    told = Told()
    told.voice.text("Hi")
    told.emitter.tier("flex")
    told.emitter.warn("x", "y")
    told.voice.usage(usage_of(1, 2))
    told.emitter.alive()
    events = told.end()
    again = [event for event in events if event["type"] == "response.in_progress"]
    assert len(again) == 2
    assert again[1] == {**again[0], "sequence_number": 5}
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"]["service_tier"] == "flex"
