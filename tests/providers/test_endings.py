"""Words for the end of an answer, in the spellings that servers use.

Source: earendil-works/pi#2107, ferro-labs/ai-gateway#142; the vendors' own tables (OpenAI, Anthropic, Gemini, Cohere,
Mistral, Bedrock); design.md §4.12.
"""

from __future__ import annotations

import pytest

from relay.providers.base import Done
from relay.providers.endings import STOP_REASONS, ending_of, reason_of

LIMIT = Done("incomplete", "max_output_tokens")
FILTER = Done("incomplete", "content_filter")


@pytest.mark.parametrize(
    "word",
    [
        *("stop", "STOP", "Stop", "end", "end_turn", "END_TURN", "endTurn", "eos_token", "stop_sequence", "COMPLETE"),
        *("tool_calls", "tool-calls", "toolCalls", "tool_call", "TOOL_CALL", "tool_use", "function_call", " stop "),
    ],
)
def test_words_for_success(word: str) -> None:
    assert ending_of(word) == Done("completed")


@pytest.mark.parametrize(
    "word", ["length", "LENGTH", "max_tokens", "MAX_TOKENS", "maxTokens", "max_output_tokens", "model_length"]
)
def test_words_for_a_limit(word: str) -> None:
    assert ending_of(word) == LIMIT


@pytest.mark.parametrize("word", ["content_filter", "content-filter", "SAFETY", "refusal", "guardrail_intervened"])
def test_words_for_a_filter(word: str) -> None:
    assert ending_of(word) == FILTER


@pytest.mark.parametrize(
    ("word", "done"),
    [
        *(("FinishReason.STOP", Done("completed")), ("FINISH_REASON_MAX_TOKENS", LIMIT), ("token_limit", LIMIT)),
        *(("max_new_tokens", LIMIT), ("content_filter: PROHIBITED_CONTENT", FILTER), ("ERROR_TOXIC", FILTER)),
        *(("function_call_filter: MALFORMED_FUNCTION_CALL", None), ("error: stop", None), ("FinishReason.", None)),
    ],
)
def test_words_with_more_about_them(word: str, done: Done | None) -> None:
    """Enumerations of Google's SDKs, the chat endpoint of Gemini, watsonx, TGI, Cohere."""
    assert ending_of(word) == done


@pytest.mark.parametrize("value", [None, "", " ", "null", "None", "NULL", False, 0])
def test_what_is_no_reason(value: object) -> None:
    assert reason_of(value) is None


@pytest.mark.parametrize("value", ["stop", "exploded", " stop ", 7, True])
def test_what_is_a_reason(value: object) -> None:
    assert reason_of(value) == str(value)


@pytest.mark.parametrize(
    "word",
    [
        *("exploded", "error", "ERROR", "abort", "cancelled", "network_error", "OTHER", "MALFORMED_FUNCTION_CALL"),
        *("", "_", "pause_turn", "compaction", "stopped early", "nonstop", "stop!", "s" * 100_000),
    ],
)
def test_other_words_are_no_success(word: str) -> None:
    assert ending_of(word) is None


def test_no_two_words_mean_different_things_in_one_spelling() -> None:
    folded = [word.replace("_", "") for word in STOP_REASONS]
    assert len(folded) == len(set(folded))
    assert all(word == word.lower() for word in STOP_REASONS)
