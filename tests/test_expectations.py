"""The corpus's expectations agree with what the vendors' own SDKs accumulate from the same payloads."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from google.genai import types
from openai._models import construct_type_unchecked  # what the SDK's own Stream does
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from tests import corpus

pytestmark = corpus.marks


def parameters(api: str, stream: bool | None = None) -> Any:
    return pytest.mark.parametrize("exchange", corpus.exchanges(api, stream), ids=str)


def test_the_corpus_is_the_one_its_readme_counts() -> None:
    counts = {
        api: (len(corpus.exchanges(api, True)), len(corpus.exchanges(api, False)))
        for api in ("openai-chat", "openai-responses", "anthropic-messages", "gemini-generate")
    }
    assert counts == {
        "openai-chat": (67, 30),
        "openai-responses": (47, 19),
        "anthropic-messages": (35, 18),
        "gemini-generate": (27, 16),
    }


@pytest.mark.parametrize("exchange", corpus.exchanges(), ids=str)
def test_every_exchange_has_an_expectation_and_every_feeding_its_bytes(exchange: corpus.Exchange) -> None:
    assert corpus.expect(exchange).ending in {"completed", "incomplete", "failed", "error", "continue"}
    for _, pieces in corpus.splits(exchange):
        assert b"".join(pieces) == exchange.body


@parameters("openai-chat", True)
def test_chat_agrees_with_openai(exchange: corpus.Exchange) -> None:
    expected = corpus.expect(exchange)
    if expected.ending in {"failed", "error"}:
        pytest.skip("the SDK has no word for a failed stream")
    state = ChatCompletionStreamState()
    try:
        for payload in corpus.payloads(exchange):
            state.handle_chunk(construct_type_unchecked(type_=ChatCompletionChunk, value=payload))
        message = state.current_completion_snapshot.choices[0].message
    except Exception as refusal:
        pytest.skip(f"the SDK cannot read this dialect: {type(refusal).__name__}")
    assert (message.content or "") == expected.text
    assert (message.refusal or "") == expected.refusal
    calls = [(call.function.name, call.function.arguments or "{}") for call in message.tool_calls or []]
    assert calls == expected.calls


@parameters("anthropic-messages", True)
def test_messages_agree_with_anthropic(exchange: corpus.Exchange) -> None:
    expected = corpus.expect(exchange)
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for payload in corpus.payloads(exchange):
        if payload["type"] == "ping":
            continue
        snapshot = accumulate_event(event=payload, current_snapshot=snapshot, json_bufs=buffers)
        if payload["type"] == "message_stop":
            break
    assert "".join(block.text for block in snapshot.content if block.type == "text") == expected.text
    assert "".join(block.thinking for block in snapshot.content if block.type == "thinking") == expected.reasoning
    calls = [(block.name, block.input) for block in snapshot.content if block.type == "tool_use"]
    assert [name for name, _ in calls] == [name for name, _ in expected.calls]
    for (_, given), (_, arguments) in zip(calls, expected.calls, strict=True):
        assert corpus.same_arguments(arguments, corpus.json.dumps(given))
    assert expected.usage is not None
    assert snapshot.usage.output_tokens == expected.usage["output_tokens"]
    assert (snapshot.usage.cache_read_input_tokens or 0) == expected.usage["input_tokens_details"]["cached_tokens"]


@parameters("gemini-generate", True)
def test_chunks_agree_with_google(exchange: corpus.Exchange) -> None:
    expected = corpus.expect(exchange)
    text, names = "", []
    for payload in corpus.payloads(exchange):
        chunk = types.GenerateContentResponse.model_validate({"candidates": payload.get("candidates")})
        for part in (chunk.candidates and chunk.candidates[0].content and chunk.candidates[0].content.parts) or []:
            text += part.text or "" if not part.thought else ""
            names += [part.function_call.name] if part.function_call and part.function_call.name else []
    assert text == expected.text
    assert names == [name for name, _ in expected.calls]


def test_the_comparison_sees_each_difference() -> None:
    response: dict[str, Any] = {"status": "completed", "usage": None, "output": [], "incomplete_details": None}
    assert corpus.differences(corpus.Expectation(), response) == []
    for other in (
        corpus.Expectation(text="x"),
        corpus.Expectation(reasoning="x"),
        corpus.Expectation(refusal="x"),
        corpus.Expectation(calls=[("f", "{}")]),
        corpus.Expectation(usage={}),
        corpus.Expectation(ending="incomplete", reason="content_filter"),
    ):
        assert len(corpus.differences(other, response)) == 1
    message = {"type": "message", "content": [{"type": "output_text", "text": "a", "annotations": []}]}
    thought = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "b"}]}
    moved = {**response, "output": [thought, message]}
    assert corpus.differences(corpus.Expectation(text="<think>\nb\n</think>\na"), moved) == []
    assert corpus.differences(corpus.Expectation(text="<think>c</think>a"), moved) != []


def test_the_table_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert corpus.table([("groq", True), ("groq", False), ("xai", True)]) in capsys.readouterr().out
    assert corpus.table([("groq", True), ("groq", False)]).split()[:4] == ["groq", "1", "/", "2"]
