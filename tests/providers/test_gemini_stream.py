"""generateContent streams as events: translation.md §3.5, §4.3 and its cases of §6, by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.errors import RelayError
from relay.providers.base import Done
from relay.providers.gemini_calls import DEPTH_LIMIT, PartialCall
from relay.providers.gemini_grounding import MISSES_LIMIT, Grounding
from relay.providers.gemini_stream import (
    REPAIRABLE,
    STOP_REASONS_WITH_OUTPUT,
    Context,
    gemini_usage,
)
from relay.responses.tools import Tool
from tests.providers.gemini_support import MODEL, Heard, Json, build, chunk, hear, stream, text
from tests.support import assert_linear

SEARCHES = Context(model=MODEL, searches=True)
USAGE = {"promptTokenCount": 10, "candidatesTokenCount": 4, "thoughtsTokenCount": 3, "totalTokenCount": 17}


def heard(*chunks: Any, **options: Any) -> Heard:
    return hear([stream(*chunks)], **options)


def kinds(found: Heard) -> list[str]:
    return [item["type"] for item in found.output]


def call(name: str = "look_up", args: Any = None, identifier: str | None = "call_1", **more: Any) -> Json:
    made: Json = {"name": name}
    if args is not None:
        made["args"] = args
    if identifier is not None:
        made["id"] = identifier
    return {"functionCall": made, **more}


def nested(depth: int) -> Json:
    value: Json = json.loads('{"a":' * depth + "1" + "}" * depth)
    return value


def said(found: Heard) -> list[tuple[str, str, str]]:
    return [(item["call_id"], item["name"], item["arguments"]) for item in found.items("function_call")]


STOP = chunk(finish="STOP")


# --- text and endings


def test_text_and_usage() -> None:
    found = heard(chunk(text("Hel")), chunk(text("lo")), chunk(text(""), finish="STOP", usageMetadata=USAGE))
    assert found.done == Done("completed")
    assert found.text == "Hello"
    assert [event["delta"] for event in found.of("output_text.delta")] == ["Hel", "lo"]
    assert found.final["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 17,
    }


FILTERED = (
    *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "MODEL_ARMOR", "ESCALATION"),
    *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "IMAGE_OTHER", "NO_IMAGE"),
    "PUP_LIMITED_DISABLED",
)


@pytest.mark.parametrize(
    ("reason", "end"),
    [
        ("STOP", Done("completed")),
        ("stop", Done("completed")),
        ("end_turn", Done("completed")),
        ("MAX_TOKENS", Done("incomplete", "max_output_tokens")),
        ("length", Done("incomplete", "max_output_tokens")),
        *((word, Done("incomplete", "content_filter")) for word in FILTERED),
    ],
)
def test_finish_reasons(reason: str, end: Done) -> None:
    found = heard(chunk(text("x")), chunk(finish=reason))
    assert found.done == end
    assert found.final["incomplete_details"] == ({"reason": end.reason} if end.reason else None)


@pytest.mark.parametrize(("reason", "end"), sorted(STOP_REASONS_WITH_OUTPUT.items()))
def test_finish_reasons_that_need_output(reason: str, end: Done) -> None:
    assert heard(chunk(text("x")), chunk(finish=reason)).done == end
    found = heard(chunk(finish=reason))
    assert found.error is not None
    assert found.error.kind == "upstream_error"


@pytest.mark.parametrize("reason", ["NEVER_HEARD_OF", 1, *sorted(REPAIRABLE)])
def test_finish_reasons_that_are_failures(reason: Any) -> None:
    found = heard(chunk(text("x")), chunk(finish=reason, candidate={"finishMessage": "because"}))
    assert found.error is not None
    assert f"'{reason}': because" in found.error.message
    assert found.final["error"]["code"] == "server_error"
    assert found.output[0]["status"] == "incomplete"


@pytest.mark.parametrize(("reason", "repair"), sorted(REPAIRABLE.items()))
def test_malformed_answers_are_repaired_before_anything_is_shown(reason: str, repair: str) -> None:
    first = {"usageMetadata": USAGE, "candidates": [{"content": {"role": "model"}, "index": 0}]}
    found = heard(first, chunk(call(), finish=reason))
    assert found.error is not None
    assert found.error.repair == repair
    assert not found.started
    assert found.output == []


def test_an_answer_without_content_is_complete() -> None:
    found = heard(chunk(finish="STOP"))
    assert found.done == Done("completed")
    assert found.output == []


@pytest.mark.parametrize("chunks", [(), (chunk(text("x")),), (chunk(text("")),), ({"usageMetadata": USAGE},)])
def test_an_end_without_finish_reason_is_a_failure(chunks: Any) -> None:
    found = heard(*chunks)
    assert found.error is not None
    assert found.error.kind == "upstream_ended_early"


def test_case_28_max_tokens_with_only_thoughts() -> None:
    usage = {"promptTokenCount": 5, "thoughtsTokenCount": 64, "totalTokenCount": 69}
    found = heard(chunk(finish="MAX_TOKENS", usageMetadata=usage))
    assert found.done == Done("incomplete", "max_output_tokens")
    assert found.final["usage"]["output_tokens"] == 64
    assert found.output == []


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"blockReason": "SAFETY"}, "The prompt was blocked: SAFETY."),
        ({"blockReason": "OTHER", "blockReasonMessage": "No such talk."}, "No such talk."),
    ],
)
def test_case_28_a_blocked_prompt_is_a_refusal(block: Json, words: str) -> None:
    found = heard({"promptFeedback": block, "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3}})
    assert found.done == Done("incomplete", "content_filter")
    assert found.output[0]["content"] == [{"type": "refusal", "refusal": words}]
    assert found.final["usage"]["input_tokens"] == 3


def test_a_block_after_some_text_is_cut_off() -> None:
    found = heard(chunk(text("x")), {"promptFeedback": {"blockReason": "OTHER"}})
    assert found.done == Done("incomplete", "content_filter")
    assert [part["type"] for part in found.output[0]["content"]] == ["output_text", "refusal"]


def test_feedback_without_a_block_is_nothing() -> None:
    assert heard({"promptFeedback": {"safetyRatings": []}}, chunk(text("x"), finish="STOP")).text == "x"


def test_other_candidates_and_unknown_parts_are_ignored() -> None:
    other = chunk(text("other"))
    other["candidates"][0]["index"] = 1
    both = {"candidates": [other["candidates"][0], chunk(text("mine"), finish="STOP")["candidates"][0]]}
    found = heard(other, both, chunk({"fileData": {"fileUri": "x"}}), chunk({"videoMetadata": {}}))
    assert found.text == "mine"


@pytest.mark.parametrize(
    "junk",
    [
        {"candidates": 1},
        {"candidates": [1, None]},
        {"candidates": [{"content": 1}]},
        {"candidates": [{"content": {"parts": 3}}]},
        chunk(7, None, {"functionCall": 1}, {"executableCode": 1}, {"codeExecutionResult": 1}),  # type: ignore[arg-type]
        chunk({"toolCall": 1}, {"toolResponse": 1}, {"inlineData": 1}, {"text": 1}, {}),
        chunk(candidate={"groundingMetadata": 1, "urlContextMetadata": [], "citationMetadata": "x"}),
        chunk(candidate={"urlContextMetadata": {"urlMetadata": [1, {}]}, "logprobsResult": 1}),
        {"usageMetadata": 1, "promptFeedback": 1},
    ],
)
def test_junk_is_ignored(junk: Json) -> None:
    context = Context(model=MODEL, searches=True, logprobs=True)
    assert heard(junk, chunk(text("x"), finish="STOP"), context=context).text == "x"


@pytest.mark.parametrize("payload", [b"data: nonsense\n\n", b"data: 1\n\n", b"<html>no</html>\n\n", b"17\n\n"])
def test_nonsense_is_a_bad_response(payload: bytes) -> None:
    found = hear([payload])
    assert found.error is not None
    assert found.error.kind == "upstream_bad_response"
    assert not found.started


def test_done_ends_the_stream_and_what_follows_is_not_read() -> None:
    found = heard(chunk(text("x"), finish="STOP"), b"data: [DONE]\n\n", b"data: nonsense\n\n")
    assert found.text == "x"
    found = hear([stream(chunk(text("x"), finish="STOP")), b"data: [DONE]\n\n", b"data: nonsense\n\n"])
    assert found.text == "x"


def test_case_26_lone_surrogates_are_read_and_mended() -> None:
    raw = json.dumps(chunk(text("a\ud83d")), ensure_ascii=True).encode()
    rest = json.dumps(chunk(text("\ude00b"), finish="STOP"), ensure_ascii=True).encode()
    assert hear([b"data: " + raw + b"\n\ndata: " + rest + b"\n\n"]).text == "a😀b"


# --- errors inside


@pytest.mark.parametrize("wrap", [False, True])
def test_errors_in_the_stream(wrap: bool) -> None:
    error: Any = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    event = [error] if wrap else error
    first = heard(event)
    assert first.error is not None
    assert (first.error.kind, first.started) == ("overloaded", False)
    later = heard(chunk(text("x")), event)
    assert later.error is not None
    assert later.final["error"]["code"] == "server_is_overloaded"
    assert later.text == "x"


def test_an_error_in_plain_words() -> None:
    found = heard({"error": "boom"})
    assert found.error is not None
    assert found.error.kind == "upstream_error"


# --- whole bodies


def test_a_whole_body_and_an_array() -> None:
    body = chunk(text("Hm", thought=True), text("a"), text("b"), call(), finish="STOP", usageMetadata=USAGE)
    whole = hear(body)
    assert kinds(whole) == ["reasoning", "message", "function_call"]
    assert whole.text == "ab"
    parts = [chunk(text("a")), chunk(text("b"), finish="STOP")]
    assert hear(parts).text == "ab"


@pytest.mark.parametrize("body", [{}, {"candidates": []}, {"usageMetadata": USAGE}])
def test_an_empty_body_is_a_bad_response(body: Json) -> None:
    found = hear(body)
    assert found.error is not None
    assert found.error.kind == "upstream_bad_response"


# --- calls


def test_calls() -> None:
    found = heard(chunk(text("Let me see.")), chunk(call(args={"q": "ü"}), call("read", identifier="call_2")), STOP)
    assert kinds(found) == ["message", "function_call", "function_call"]
    assert said(found) == [("call_1", "look_up", '{"q":"ü"}'), ("call_2", "read", "{}")]
    assert [event["delta"] for event in found.of("function_call_arguments.delta")] == ['{"q":"ü"}', "{}"]


def test_case_8_missing_repeated_and_overlong_call_ids_are_minted() -> None:
    ids: list[Any] = [None, "", "x" * 65, "call_1", "call_1", 7]
    found = heard(chunk(*(call(identifier=one) for one in ids)), STOP)
    minted = [identifier for identifier, _, _ in said(found)]
    assert len(set(minted)) == len(ids)
    assert minted[3] == "call_1"
    assert all(identifier.startswith("call_") for identifier in minted)


def test_lone_surrogates_in_arguments_are_mended() -> None:
    raw = json.dumps(chunk(call(args={"q": "a\ud800"}, thoughtSignature="s\udfff"), finish="STOP")).encode()
    found = hear([b"data: " + raw + b"\n\n"])
    assert said(found) == [("call_1", "look_up", '{"q":"a\ufffd"}')]
    assert found.blocks()[0]["sig"] == "s\ufffd"


@pytest.mark.parametrize("part", [call(args=nested(300)), {"toolCall": nested(300)}], ids=["arguments", "sealed"])
def test_what_is_nested_too_deeply_to_be_written_again_is_a_bad_response(part: Json) -> None:
    found = heard(chunk(part), STOP)
    assert found.error is not None
    assert found.error.kind == "upstream_bad_response"


def test_calls_of_custom_and_shell_tools() -> None:
    tools = {"patch": Tool("patch", "patch", "custom_tool_call"), "sh": Tool("shell", "shell", "shell_call")}
    parts = (call("patch", {"input": "*** Begin\n😀"}), call("sh", {"commands": ["ls"]}, "call_2"))
    found = heard(chunk(*parts), STOP, tools=tools)
    assert kinds(found) == ["custom_tool_call", "shell_call"]
    assert found.output[0]["input"] == "*** Begin\n😀"
    assert found.output[1]["action"]["commands"] == ["ls"]


def test_a_call_without_a_name() -> None:
    found = heard(chunk({"functionCall": {"args": {}}}))
    assert found.error is not None
    assert found.error.kind == "upstream_bad_response"
    assert kinds(heard(chunk({"functionCall": {}}), STOP)) == []


def part_of(path: str, more: bool = True, **value: Any) -> Json:
    partial = [{"jsonPath": path, **value}]
    return {"functionCall": {"partialArgs": partial, "willContinue": True} if more else {"partialArgs": partial}}


def test_arguments_in_pieces() -> None:
    first = {"functionCall": {"name": "f", "id": "call_1", "willContinue": True}, "thoughtSignature": "s"}
    pieces = [
        part_of("$.a.b[0].name", stringValue="La"),
        part_of("$.a.b[0].name", stringValue="sagna"),
        part_of("$.a['x y'][1]", numberValue=2),
        part_of("$.flag", boolValue=True),
        part_of("$.none", nullValue="NULL_VALUE"),
    ]
    found = heard(chunk(first), *(chunk(piece) for piece in pieces), chunk({"functionCall": {}}, finish="STOP"))
    expected = {"a": {"b": [{"name": "Lasagna"}], "x y": [None, 2]}, "flag": True, "none": None}
    assert json.loads(said(found)[0][2]) == expected
    assert found.blocks() == [{"k": "fc", "for": "call_1", "sig": "s"}]
    cut = heard(chunk(first), chunk(pieces[0], finish="STOP"))
    assert json.loads(said(cut)[0][2]) == {"a": {"b": [{"name": "La"}]}}
    two = heard(chunk(first), chunk(call("g", identifier="call_2")), STOP)
    assert [name for _, name, _ in said(two)] == ["f", "g"]


@pytest.mark.parametrize(
    "paths",
    [
        ["$"],
        ["$[0]"],
        ["$.a[100]"],
        ["$" + ".a" * (DEPTH_LIMIT + 1)],
        ["$.a.b", "$.a[0]"],
        ["$.a[0]", "$.a.b"],
        ["$.a", "$.a.b"],
    ],
)
def test_paths_of_no_use(paths: list[str]) -> None:
    partial = PartialCall("f", None, None, None)
    with pytest.raises(RelayError, match="arguments"):
        partial.add([{"jsonPath": path, "stringValue": "x"} for path in paths])


def test_later_paths_replace_what_stands_in_their_way() -> None:
    partial = PartialCall("f", None, None, {"kept": [1]})
    partial.add([{"jsonPath": "$.a", "numberValue": 1}, {"jsonPath": "$.a.b", "stringValue": "x"}])
    partial.add("nonsense")
    assert partial.arguments() == {"kept": [1], "a": {"b": "x"}}
    partial.add([{"jsonPath": "$.kept[0]", "stringValue": "y"}, {"jsonPath": "$.a.b", "boolValue": False}])
    assert partial.arguments() == {"kept": ["y"], "a": {"b": False}}
    with pytest.raises(RelayError):
        partial.add([7])


# --- thoughts and signatures


def test_thoughts_are_one_summary() -> None:
    found = heard(chunk(text("**A**", thought=True)), chunk(text("**B**", thought=True)), chunk(text("x")), STOP)
    assert kinds(found) == ["reasoning", "message"]
    assert found.output[0]["summary"] == [{"type": "summary_text", "text": "**A****B**"}]
    assert "encrypted_content" not in found.output[0]
    hidden = heard(chunk(text("A", thought=True)), chunk(text("x")), STOP, show_summary=False)
    assert kinds(hidden) == ["message"]


def test_a_signature_on_a_thought_is_kept_in_its_item() -> None:
    found = heard(chunk(text("A", thought=True), text("B", thought=True, thoughtSignature="s")), chunk(text("x")), STOP)
    assert kinds(found) == ["reasoning", "message"]
    assert found.blocks() == [{"k": "thought", "text": "B", "sig": "s"}]


def test_a_signed_thought_without_words() -> None:
    found = heard(chunk(text("", thought=True, thoughtSignature="s"), text("", thought=True)), chunk(text("x")), STOP)
    assert found.blocks() == [{"k": "thought", "text": "", "sig": "s"}]


def test_pain_15_a_signature_on_a_call_precedes_it() -> None:
    parts = (call(thoughtSignature="s+/="), call("read", identifier="call_2"))
    found = heard(chunk(*parts), STOP)
    assert kinds(found) == ["reasoning", "function_call", "function_call"]
    assert found.output[0]["summary"] == []
    assert found.blocks() == [{"k": "fc", "for": "call_1", "sig": "s+/="}]
    thinking = heard(chunk(text("A", thought=True)), chunk(*parts), STOP)
    assert kinds(thinking) == ["reasoning", "function_call", "function_call"]
    assert thinking.output[0]["summary"][0]["text"] == "A"


def test_case_27_a_trailing_empty_text_with_a_signature_is_not_seen() -> None:
    found = heard(chunk(text("one ")), chunk(text("two")), chunk(text("", thoughtSignature="s"), finish="STOP"))
    assert kinds(found) == ["message", "reasoning"]
    assert len(found.of("output_text.delta")) == 2
    assert found.blocks() == [{"k": "text", "sig": "s", "from": 7, "to": 7}]
    alone = heard(chunk({"thoughtSignature": "s"}, finish="STOP"))
    assert kinds(alone) == ["reasoning"]
    after = heard(chunk(call(), text("", thoughtSignature="s"), finish="STOP"))
    assert kinds(after) == ["function_call", "reasoning"]


def test_signatures_in_the_middle_of_a_text() -> None:
    chunks = (text("one", thoughtSignature="a"), text(" two"), text("!", thoughtSignature="b"), text("?"))
    found = heard(*(chunk(part) for part in chunks), STOP)
    assert kinds(found) == ["message", "reasoning"]
    assert found.text == "one two!?"
    assert [(block["from"], block["to"], block["sig"]) for block in found.blocks()] == [(0, 3, "a"), (7, 8, "b")]


def test_a_signed_text_before_a_signed_call_shares_its_envelope() -> None:
    found = heard(chunk(text("x", thoughtSignature="a"), call(thoughtSignature="b")), STOP)
    assert kinds(found) == ["message", "reasoning", "function_call"]
    assert [block["k"] for block in found.blocks()] == ["text", "fc"]


def test_interleaved_thoughts_and_texts() -> None:
    parts = (text("A", thought=True), text("x", thoughtSignature="a"), text("B", thought=True), text("y"))
    found = heard(*(chunk(part) for part in parts), STOP)
    assert kinds(found) == ["reasoning", "message", "reasoning", "reasoning", "message"]
    assert found.text == "xy"


# --- what the upstream runs


def test_code_execution() -> None:
    code = {"executableCode": {"language": "PYTHON", "code": "print(1)", "id": "c1"}, "thoughtSignature": "s"}
    result = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n", "id": "c1"}}
    include = Context(model=MODEL, include=frozenset({"code_interpreter_call.outputs"}))
    found = heard(chunk(code), chunk(result), chunk(text("One.")), STOP, context=include)
    assert kinds(found) == ["code_interpreter_call", "reasoning", "message"]
    item = found.output[0]
    assert (item["code"], item["outputs"]) == ("print(1)", [{"type": "logs", "logs": "1\n"}])
    assert found.blocks() == [{"k": "part", "part": code, "item": item["id"]}, {"k": "part", "part": result}]
    steps = [event["type"].rpartition(".")[2] for event in found.events if ".code_interpreter_call" in event["type"]]
    assert steps == ["in_progress", "delta", "done", "interpreting", "completed"]
    assert heard(chunk(code), chunk(result), STOP).output[0]["outputs"] is None


def test_code_without_a_result_and_a_result_without_code() -> None:
    code = {"executableCode": {"language": "PYTHON"}}
    found = heard(chunk(code), chunk(text("x")), STOP)
    assert kinds(found) == ["code_interpreter_call", "reasoning", "message"]
    assert found.output[0]["status"] == "completed"
    assert kinds(heard(chunk({"codeExecutionResult": {"outcome": "OUTCOME_FAILED"}}), STOP)) == ["reasoning"]


TOOL_CALL = {"toolCall": {"toolType": "GOOGLE_SEARCH_WEB", "id": "t", "args": {"queries": ["a", "b", ""]}}}
TOOL_RESPONSE = {"toolResponse": {"toolType": "GOOGLE_SEARCH_WEB", "id": "t", "response": {"x": 1}}}
GROUNDED = {
    "groundingChunks": [{"web": {"uri": "https://a", "title": "A"}}, {"web": {"uri": "https://b"}}],
    "groundingSupports": [
        {"segment": {"startIndex": 0, "endIndex": 7, "text": "Zürich"}, "groundingChunkIndices": [0, 1]}
    ],
    "webSearchQueries": ["zurich size"],
}


def test_server_side_searches() -> None:
    parts = ({**TOOL_CALL, "thoughtSignature": "s"}, TOOL_RESPONSE, text("Zürich is big"))
    found = heard(chunk(*parts), chunk(finish="STOP", candidate={"groundingMetadata": GROUNDED}), context=SEARCHES)
    assert kinds(found) == ["web_search_call", "reasoning", "message"]
    assert found.output[0]["action"] == {"type": "search", "query": "a", "queries": ["a", "b"]}
    assert [block["part"] for block in found.blocks()] == [{**TOOL_CALL, "thoughtSignature": "s"}, TOOL_RESPONSE]
    assert len(found.output[2]["content"][0]["annotations"]) == 2


def test_sources_are_shown_where_they_are_asked_for() -> None:
    context = Context(model=MODEL, searches=True, include=frozenset({"web_search_call.action.sources"}))
    chunks = (chunk(TOOL_CALL, TOOL_RESPONSE), chunk(text("Zürich"), candidate={"groundingMetadata": GROUNDED}), STOP)
    sources = [{"type": "url", "url": "https://a"}, {"type": "url", "url": "https://b"}]
    assert heard(*chunks, context=context).output[0]["action"]["sources"] == sources
    found = heard(*chunks[1:], context=context)
    assert kinds(found) == ["message", "web_search_call"]
    assert found.output[1]["action"] == {
        "type": "search",
        "query": "zurich size",
        "queries": ["zurich size"],
        "sources": sources,
    }


def test_pages_that_were_read() -> None:
    pages = {
        "urlMetadata": [{"retrievedUrl": "https://a"}, {"retrievedUrl": "https://a"}, {"retrievedUrl": "https://b"}]
    }
    found = heard(chunk(text("x"), finish="STOP", candidate={"urlContextMetadata": pages}), context=SEARCHES)
    assert [item["action"] for item in found.items("web_search_call")] == [
        {"type": "open_page", "url": "https://a"},
        {"type": "open_page", "url": "https://b"},
    ]
    shown = {"toolCall": {"toolType": "URL_CONTEXT", "id": "u", "args": {"urls": ["https://a"]}}}
    again = heard(
        chunk(shown), chunk(text("x"), finish="STOP", candidate={"urlContextMetadata": pages}), context=SEARCHES
    )
    assert len(again.items("web_search_call")) == 1
    empty = heard(chunk({"toolCall": {"toolType": "URL_CONTEXT"}}), STOP, context=SEARCHES)
    assert empty.output[0]["action"] == {"type": "open_page", "url": None}


def test_other_server_tools_are_only_kept() -> None:
    part = {"toolCall": {"toolType": "FILE_SEARCH", "id": "f"}}
    answer = {"toolResponse": {"toolType": "FILE_SEARCH", "id": "f"}}
    found = heard(chunk(part, answer, text("x")), STOP, context=SEARCHES)
    assert kinds(found) == ["reasoning", "message"]
    assert found.blocks() == [{"k": "part", "part": part}, {"k": "part", "part": answer}]


def test_images_and_other_media() -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "iVBOR"}}
    draft = {"inlineData": {"mimeType": "image/png", "data": "x"}, "thought": True}
    audio = {"inlineData": {"mimeType": "audio/wav", "data": "x"}}
    found = heard(chunk(text("Here:"), draft, {**image, "thoughtSignature": "s"}, image, audio), STOP)
    assert kinds(found) == ["message", "image_generation_call", "reasoning", "image_generation_call"]
    assert found.output[1]["result"] == "iVBOR"
    assert found.blocks() == [{"k": "image", "item": found.output[1]["id"], "sig": "s"}]
    assert found.final["x_relay_warnings"] == [
        {"param": "output", "reason": "content of the type audio/wav that the upstream sent was left out"}
    ]


# --- citations


def test_case_28_grounding_counts_characters() -> None:
    found = heard(
        chunk(text("Zür")),
        chunk(text("ich is big"), finish="STOP", candidate={"groundingMetadata": GROUNDED}),
        context=SEARCHES,
    )
    notes = found.output[0]["content"][0]["annotations"]
    assert [(note["url"], note["title"], note["start_index"], note["end_index"]) for note in notes] == [
        ("https://a", "A", 0, 6),
        ("https://b", "", 0, 6),
    ]
    types = [event["type"] for event in found.events]
    assert types.index("response.output_text.annotation.added") < types.index("response.output_text.done")


def test_grounding_that_comes_after_a_call_finds_the_text() -> None:
    chunks = (
        chunk(text("Zürich is big")),
        chunk(call(thoughtSignature="s")),
        chunk(text("", thoughtSignature="e"), finish="STOP", candidate={"groundingMetadata": GROUNDED}),
    )
    found = heard(*chunks, context=SEARCHES)
    assert kinds(found) == ["message", "reasoning", "function_call", "reasoning", "web_search_call"]
    assert len(found.output[0]["content"][0]["annotations"]) == 2
    assert found.text == "Zürich is big"


def test_segments_are_found_by_their_words() -> None:
    grounding = Grounding()
    spans = [
        {"segment": {"startIndex": 50, "endIndex": 53, "text": "two"}, "groundingChunkIndices": [0, 9, "x"]},
        {"segment": {"startIndex": 4, "endIndex": 7, "text": "gone"}, "groundingChunkIndices": [0]},
        {"segment": {"endIndex": 99}, "groundingChunkIndices": [0, 1, 2]},
        {"segment": None},
        7,
    ]
    chunks: list[Any] = [{"maps": {"uri": "https://m", "title": "M"}}, {"retrievedContext": {"text": "x"}}, 7]
    grounding.read({"groundingMetadata": {"groundingSupports": spans, "groundingChunks": chunks}})
    found = [(note["url"], note["start_index"], note["end_index"]) for note in grounding.annotations("ein€ two two")]
    assert found == [("https://m", 5, 8), ("https://m", 0, 12)]
    assert Grounding().annotations("x") == []


def test_recitations_are_cited_once() -> None:
    cited = [{"startIndex": 0, "endIndex": 4, "uri": "https://a", "license": "mit"}, {"endIndex": 3}, 7]
    first = chunk(text("€uro"), candidate={"citationMetadata": {"citationSources": cited}})
    last = chunk(finish="STOP", candidate={"citationMetadata": {"citations": cited}})
    notes = heard(first, last).output[0]["content"][0]["annotations"]
    assert [(note["url"], note["start_index"], note["end_index"]) for note in notes] == [("https://a", 0, 2)]


def test_queries_without_a_search_tool_are_not_shown() -> None:
    assert kinds(heard(chunk(text("x"), finish="STOP", candidate={"groundingMetadata": GROUNDED}))) == ["message"]


# --- log probabilities, tiers, schemas


def test_logprobs() -> None:
    result = {
        "chosenCandidates": [{"token": "x", "logProbability": -0.5}, {"token": "ü"}, 7],
        "topCandidates": [{"candidates": [{"token": "x", "logProbability": -0.5}, 7]}],
    }
    context = Context(model=MODEL, logprobs=True)
    found = heard(
        chunk(text("Hm", thought=True), text("xü"), text("!"), candidate={"logprobsResult": result}),
        STOP,
        context=context,
    )
    assert found.output[1]["content"][0]["logprobs"] == [
        {
            "token": "x",
            "logprob": -0.5,
            "bytes": [120],
            "top_logprobs": [{"token": "x", "logprob": -0.5, "bytes": [120]}],
        },
        {"token": "ü", "logprob": 0.0, "bytes": [195, 188], "top_logprobs": []},
    ]
    assert found.text == "xü!"


@pytest.mark.parametrize(
    ("tier", "expected"), [("standard", "default"), ("PRIORITY", "priority"), ("flex", "flex"), ("odd", "default")]
)
def test_tiers(tier: str, expected: str) -> None:
    assert heard(chunk(text("x"), finish="STOP", usageMetadata={"serviceTier": tier})).final["service_tier"] == expected


@pytest.mark.parametrize(
    ("answer", "reasons"),
    [
        ('{"a": "bcd"}', []),
        ('{"a": "b"}', ["the answer does not match the schema: $.a: minLength"]),
        ("no", ["the answer does not match the schema: it is no JSON"]),
    ],
)
def test_an_answer_is_checked_against_the_schema_that_was_reduced(answer: str, reasons: list[str]) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "minLength": 2}}}
    form = {"type": "json_schema", "name": "x", "schema": schema}
    context = build({"input": "hi", "text": {"format": form}}).context
    found = heard(chunk(text(answer)), chunk(text("", thoughtSignature="s"), finish="STOP"), context=context)
    assert [one["reason"] for one in found.final.get("x_relay_warnings", [])] == reasons
    assert heard(chunk(call(), finish="STOP"), context=context).final.get("x_relay_warnings") is None


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        # input, cached, output, reasoning, total
        (USAGE, (10, 0, 7, 3, 17)),
        ({**USAGE, "totalTokenCount": 14}, (10, 0, 4, 3, 14)),
        ({"promptTokenCount": 10, "toolUsePromptTokenCount": 5, "candidatesTokenCount": 1}, (15, 0, 1, 0, 16)),
        ({"promptTokenCount": 10, "cachedContentTokenCount": 8}, (10, 8, 0, 0, 10)),
        ({"promptTokenCount": 10, "cachedContentTokenCount": 80}, (10, 10, 0, 0, 10)),
        ({"trafficType": "ON_DEMAND", "promptTokenCount": "x"}, (0, 0, 0, 0, 0)),
    ],
)
def test_usage(usage: Json, expected: tuple[int, ...]) -> None:
    found = gemini_usage(usage)
    details = found["input_tokens_details"]["cached_tokens"], found["output_tokens_details"]["reasoning_tokens"]
    assert (found["input_tokens"], details[0], found["output_tokens"], details[1], found["total_tokens"]) == expected


@pytest.mark.parametrize(
    "last", [dict.fromkeys(USAGE, 0), dict.fromkeys(USAGE), {"promptTokenCount": 10, "totalTokenCount": 0}, {}]
)
@pytest.mark.parametrize("text_chunks", [1, 3])
def test_zero_and_null_replace_no_count(last: Json, text_chunks: int) -> None:
    """Decision 51, in the events that are nothing but text, too."""
    told = [chunk(text("x"), usageMetadata=usage) for usage in [USAGE] * text_chunks + [last]]
    whole = heard(*told, chunk(finish="STOP"))
    assert whole.final["usage"]["total_tokens"] == 17
    assert whole.final["usage"]["output_tokens_details"] == {"reasoning_tokens": 3}


def test_events_without_data_are_ignored() -> None:
    blank = b"data: \n\n"
    assert heard(chunk(text("Hel")), blank, chunk(text("lo"), finish="STOP")).text == "Hello"
    assert not hear([blank]).started


# --- answers that go on


def test_case_29_continuation() -> None:
    request = build({"input": "hi", "reasoning": {"effort": "low"}})
    first = stream(
        chunk(text("one ", thoughtSignature="a")),
        chunk(finish="CONTINUATION", candidate={"continuationToken": "dG9r"}, usageMetadata=USAGE),
    )
    second = stream(
        chunk(text("two "), finish="CONTINUATION", candidate={"continuationToken": "dG9r2"}, usageMetadata=USAGE)
    )
    third = stream(chunk(text("three", thoughtSignature="b")), chunk(finish="STOP", usageMetadata=USAGE))
    half = hear([first], request=request)
    assert half.next is not None
    assert half.next.path == request.path
    assert json.loads(half.next.body) == {**json.loads(request.body), "continuationToken": "dG9r"}
    more = hear([first], [second], request=request)
    assert more.next is not None
    assert json.loads(more.next.body) == {**json.loads(request.body), "continuationToken": "dG9r2"}
    found = hear([first], [second], [third], request=request)
    assert found.done == Done("completed")
    assert found.text == "one two three"
    assert kinds(found) == ["message", "reasoning"]
    assert [(block["from"], block["to"]) for block in found.blocks()] == [(0, 4), (8, 13)]
    assert found.final["usage"]["total_tokens"] == 51


def test_case_29_a_hop_that_fails_keeps_the_text() -> None:
    first = stream(chunk(text("one "), finish="CONTINUATION", candidate={"continuationToken": "dG9r"}))
    found = hear([first], [stream({"error": {"code": 500, "message": "boom", "status": "INTERNAL"}})])
    assert found.final["status"] == "failed"
    assert found.text == "one "
    empty = hear([first], [stream(chunk(finish="OTHER"))])
    assert empty.done == Done("incomplete", "content_filter")


def test_a_continuation_without_a_token_or_beyond_the_limit_is_cut() -> None:
    assert heard(chunk(text("x"), finish="CONTINUATION")).done == Done("incomplete", "max_output_tokens")
    context = Context(model=MODEL, limit_tokens=7)
    final = chunk(text("x"), finish="CONTINUATION", candidate={"continuationToken": "t"}, usageMetadata=USAGE)
    assert heard(final, context=context).done == Done("incomplete", "max_output_tokens")
    assert heard(final, context=Context(model=MODEL, limit_tokens=8)).next is not None
    code = heard(chunk({"executableCode": {"code": "1"}}), final)
    assert code.output[0]["status"] == "completed"


# --- cost


def test_pain_39_time_is_linear() -> None:
    def many(count: int) -> None:
        pieces = [stream(chunk(text("tok en")), chunk(text("x", thought=True)), chunk(text("x"))) for _ in range(count)]
        hear([*pieces, stream(STOP)], check=False, show_summary=False)

    assert_linear(many, 1_500)


def test_arguments_in_pieces_are_linear() -> None:
    def many(count: int) -> None:
        partial = PartialCall("f", None, None, None)
        for number in range(count):
            partial.add(
                [{"jsonPath": f"$.list[{number}].text", "stringValue": "x"}, {"jsonPath": "$.t", "stringValue": "y"}]
            )
        partial.arguments()

    assert_linear(many, 4_000)


def test_grounding_is_linear() -> None:
    def many(count: int) -> None:
        grounding = Grounding()
        supports = [
            {"segment": {"startIndex": n * 3, "endIndex": n * 3 + 3, "text": "ü "}, "groundingChunkIndices": [0]}
            for n in range(count)
        ]
        grounding.read(
            {"groundingMetadata": {"groundingSupports": supports, "groundingChunks": [{"web": {"uri": "u"}}]}}
        )
        assert len(grounding.annotations("ü " * count)) == count

    assert_linear(many, 4_000)


def test_segments_that_are_not_there_are_not_looked_for_again_and_again() -> None:
    grounding = Grounding()
    gone = {"segment": {"endIndex": 3, "text": "gone"}, "groundingChunkIndices": [0]}
    moved = {"segment": {"endIndex": 3, "text": "two"}, "groundingChunkIndices": [0]}
    exact = {"segment": {"endIndex": 3, "text": "one"}, "groundingChunkIndices": [0]}
    supports = [gone] * MISSES_LIMIT + [moved, exact]
    grounding.read({"groundingMetadata": {"groundingSupports": supports, "groundingChunks": [{"web": {"uri": "u"}}]}})
    assert [note["start_index"] for note in grounding.annotations("one two")] == [0]
