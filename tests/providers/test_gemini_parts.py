"""Parts of a Gemini answer in shapes that Google does not send and servers in its place do: nothing vanishes.

Source: decisions 44, 49; ``google.genai.types`` (Part, FunctionCall, Candidate); BerriAI/litellm#2195 and
router-for-me/CLIProxyAPI#5651 (STOP in every chunk).
"""

from __future__ import annotations

from typing import Any

import pytest

from relay.providers.gemini_stream import Context
from relay.responses.emitter import LEFT_OUT_LIMIT
from relay.responses.tools import Tool
from tests.providers.gemini_support import MODEL, Heard, Json, chunk, hear, stream, text

STOP = chunk(finish="STOP")
SIGNED = {"thoughtSignature": "c2ln"}


def heard(*chunks: Any, **options: Any) -> Heard:
    return hear([stream(*chunks)], **options)


def holding(content: Any, **candidate: Any) -> Json:
    return {"candidates": [{"content": content, **candidate}]}


def warned(found: Heard) -> list[str]:
    return [one["reason"] for one in found.final.get("x_relay_warnings", [])]


def calls(found: Heard) -> list[tuple[str, str, str]]:
    return [(one["name"], one["arguments"], one["status"]) for one in found.items("function_call")]


# --- where parts stand


@pytest.mark.parametrize(
    "content",
    [
        {"parts": [{"text": "x"}]},
        {"role": None, "parts": [{"text": "x"}]},
        {"role": "model", "parts": {"text": "x"}},
        {"role": "model", "parts": "x"},
        {"role": "model", "parts": ["x"]},
        {"role": "model", "parts": [None, {}, {"text": None}, {"text": "x"}]},
        {"role": "model", "text": "x"},
        [{"text": "x"}],
        "x",
    ],
)
def test_one_text_in_every_place(content: Any) -> None:
    for chunks in ([holding(content), STOP], [holding(content, finishReason="STOP")]):
        found = heard(*chunks)
        assert (found.final["status"], found.text, warned(found)) == ("completed", "x", [])
        assert hear(chunks).text == "x"
    assert hear({"candidates": {"content": content, "finishReason": "STOP"}}).text == "x"


@pytest.mark.parametrize("content", [None, {}, {"parts": None}, {"parts": []}, {"role": "model"}, "", []])
def test_no_content_is_nothing(content: Any) -> None:
    found = heard(
        chunk(text("a")), holding(content), {"usageMetadata": {}}, {"candidates": None}, chunk(text("b")), STOP
    )
    assert (found.final["status"], found.text, len(found.output)) == ("completed", "ab", 1)


def test_text_that_is_an_object_is_its_json() -> None:
    assert heard(chunk({"text": {"a": 1}}), STOP).text == '{"a":1}'


def test_grounding_alone_is_read() -> None:
    supports = [{"segment": {"endIndex": 1, "text": "x"}, "groundingChunkIndices": [0]}]
    grounding = {"groundingChunks": [{"web": {"uri": "https://e.com", "title": "T"}}], "groundingSupports": supports}
    for last in (
        {"candidates": [{"groundingMetadata": grounding}]},
        {"candidates": [{"content": {"parts": []}, "groundingMetadata": grounding}]},
        {"candidates": [{"finishReason": "STOP", "groundingMetadata": grounding}]},
    ):
        found = heard(chunk(text("x"), finish="STOP"), last, context=Context(model=MODEL, searches=True))
        assert found.output[0]["content"][0]["annotations"][0]["url"] == "https://e.com"


# --- parts of several kinds, and of none that is known


def test_a_part_that_says_two_things_says_both() -> None:
    look = {"name": "look", "args": {"q": 1}}
    found = heard(chunk({"text": "so", "functionCall": look, **SIGNED}), STOP)
    assert [item["type"] for item in found.output] == ["message", "reasoning", "function_call"]
    assert (found.text, calls(found)) == ("so", [("look", '{"q":1}', "completed")])
    assert found.blocks() == [{"k": "fc", "for": found.output[2]["call_id"], "sig": "c2ln"}]
    empty = heard(chunk({"text": "", "functionCall": look}), STOP)
    assert [item["type"] for item in empty.output] == ["function_call"]
    thought = heard(chunk({"text": "Hm.", "thought": True, "functionCall": look}), STOP)
    assert [item["type"] for item in thought.output] == ["reasoning", "function_call"]


def test_text_and_a_call_in_one_chunk() -> None:
    found = heard(chunk(text("so"), {"functionCall": {"name": "look"}}, text("and")), STOP)
    assert [item["type"] for item in found.output] == ["message", "function_call", "message"]
    assert found.text == "soand"


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"fileData": {"fileUri": "gs://x", "mimeType": "video/mp4"}}, "fileData"),
        ({"functionResponse": {"name": "f", "response": {}}}, "functionResponse"),
        ({"novel": 1}, "novel"),
        ({"inlineData": "iVBOR"}, "inlineData"),
        ({"functionCall": "look"}, "functionCall"),
        ({"text": 7}, "text"),
    ],
)
def test_parts_that_nobody_knows_are_left_out_with_a_warning(part: Json, kind: str) -> None:
    found = heard(chunk(text("x"), part), STOP)
    assert (found.final["status"], found.text) == ("completed", "x")
    assert warned(found) == [f"a part of the type '{kind}' that the upstream sent was left out"]
    signed = heard(chunk(text("x"), {**part, **SIGNED}), STOP)
    assert signed.blocks()[0]["sig"] == "c2ln"


@pytest.mark.parametrize(
    "part", [{"videoMetadata": {"fps": 1}}, {"partMetadata": {"a": 1}}, {"thought": True}, {"x": None}]
)
def test_parts_that_say_nothing_are_left_out_without_one(part: Json) -> None:
    assert warned(heard(chunk(text("x"), part), STOP)) == []


def test_warnings_about_kinds_are_bounded() -> None:
    parts = [{f"novel{n}": 1} for n in range(50)]
    media = [{"inlineData": {"mimeType": f"audio/{n}", "data": "x"}} for n in range(50)]
    assert len(warned(heard(chunk(text("x"), *parts, *media), STOP))) == LEFT_OUT_LIMIT


# --- calls


@pytest.mark.parametrize(
    ("fields", "arguments"),
    [
        ({}, "{}"),
        ({"args": None}, "{}"),
        ({"args": {}}, "{}"),
        ({"args": ""}, "{}"),
        ({"args": {"q": 1}}, '{"q":1}'),
        ({"args": '{"q": 1}'}, '{"q":1}'),
        ({"args": ' {"q": '}, '{"q":'),
        ({"args": "[1]"}, "[1]"),
        ({"args": [1]}, "[1]"),
    ],
)
def test_arguments_in_every_shape(fields: Json, arguments: str) -> None:
    found = heard(chunk({"functionCall": {"name": "look", "id": "call_1", **fields}}, finish="STOP"), check=False)
    assert calls(found) == [("look", arguments, "completed")]


@pytest.mark.parametrize("call", [{"args": {"q": 1}}, {"name": "", "args": {}}, {"name": 5}, {"id": "call_1"}])
def test_a_call_that_nobody_named_is_a_failure(call: Json) -> None:
    found = heard(chunk(text("x"), {"functionCall": call}), STOP)
    assert found.final["status"] == "failed"
    assert calls(found) == []


def piece(path: str, value: str, **fields: Any) -> Json:
    return chunk({"functionCall": {"partialArgs": [{"jsonPath": path, "stringValue": value}], **fields}})


OPEN = {"willContinue": True}


def test_a_call_whose_pieces_repeat_its_name_is_one() -> None:
    named = {"name": "look", "id": "call_1"}
    found = heard(
        chunk({"functionCall": {**named, **OPEN}}),
        piece("$.q", "a", **named, **OPEN),
        piece("$.q", "b", name="look", **OPEN),
        chunk({"functionCall": {}}, finish="STOP"),
    )
    assert calls(found) == [("look", '{"q":"ab"}', "completed")]


@pytest.mark.parametrize(
    "following",
    [
        chunk({"functionCall": {"name": "other", "args": {}}}),
        chunk({"functionCall": {"name": "look", "args": {"q": 2}}}),
        piece("$.q", "b", name="look", id="call_2"),
    ],
)
def test_a_call_that_another_cut_short_is_no_success(following: Json) -> None:
    begun = [chunk({"functionCall": {"name": "look", "id": "call_1", **OPEN}}), piece("$.q", "a", **OPEN), following]
    found = heard(*begun, STOP)
    assert found.final["status"] == "failed"
    assert calls(found)[0] == ("look", '{"q":"a"}', "incomplete")
    limited = heard(*begun, chunk(finish="MAX_TOKENS"))
    assert limited.final["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [status for _, _, status in calls(limited)] == ["incomplete", "completed"]


def test_two_calls_of_one_name_stay_two() -> None:
    same = {"functionCall": {"name": "look", "args": {"q": 1}}}
    assert len(calls(heard(chunk(same, same), STOP))) == 2


# --- STOP before the end


def test_stop_in_every_chunk_is_no_end() -> None:
    found = heard(chunk(finish="STOP"), chunk(text("Hel"), finish="STOP"), chunk(text("lo"), finish="STOP"))
    assert (found.final["status"], found.text) == ("completed", "Hello")
    more = heard(chunk(text("a"), finish="STOP"), chunk({"functionCall": {"name": "look"}}), chunk(finish="STOP"))
    assert (more.final["status"], len(more.output)) == ("completed", 2)


def test_a_whole_body_says_what_a_stream_says() -> None:
    parts = [
        text("Hm.", thought=True),
        text("a", **SIGNED),
        {"functionCall": {"name": "look", "args": None}},
        {"novel": 1},
    ]
    whole = hear(chunk(*parts, finish="STOP"))
    streamed = heard(*(chunk(part) for part in parts), STOP)
    assert [item["type"] for item in whole.output] == [item["type"] for item in streamed.output]
    assert (whole.text, warned(whole), whole.blocks(1)) == (streamed.text, warned(streamed), streamed.blocks(1))


def test_marks_of_a_template_are_no_part_of_a_name() -> None:
    """Sibling of vllm-project/vllm#32587."""
    part = {"functionCall": {"name": "f<|channel|>commentary", "args": {"x": 1}}}
    heard = hear([stream(chunk(part, finish="STOP"))], tools={"f": Tool("f", "f")})
    assert [item["name"] for item in heard.items("function_call")] == ["f"]
