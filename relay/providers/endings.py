"""What an upstream's word for the end of its answer means, for every dialect.

Source: translation.md §3.3–3.5; design.md §4.12 (an unknown word is no success); earendil-works/pi#2107 and
ferro-labs/ai-gateway#142 (words of one dialect in another, and in other spellings). A gateway that speaks one dialect
in front of a model of another often leaves the word as the model's own server wrote it, so there is one table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from relay.errors import RelayError
from relay.providers.base import Done, Wait
from relay.responses.json import loads
from relay.wire.sse import Decoder, Event

GRACE_S: Final = 2.0
"""Decision 44: how long usage and the end marker are waited for after the reason for the end."""

EARLY_GRACE_S: Final = 10.0
"""The same where the reason came with or before the first output, as short answers and hasty servers have it."""

STOP_REASONS: Final[Mapping[str, Done]] = {
    **dict.fromkeys(
        (
            "stop",
            "end",
            "end_turn",
            "eos",
            "eos_token",
            "stop_sequence",
            "complete",
            "completed",
            "tool_call",
            "tool_calls",
            "tool_use",
            "function_call",
            "function_calls",
        ),
        Done("completed"),
    ),
    **dict.fromkeys(
        (
            "length",
            "max_tokens",
            "max_output_tokens",
            "max_completion_tokens",
            "max_new_tokens",
            "max_length",
            "token_limit",
            "model_length",
            "model_context_window_exceeded",
        ),
        Done("incomplete", "max_output_tokens"),
    ),
    **dict.fromkeys(
        (
            "content_filter",
            "content_filtered",
            "error_toxic",
            "sensitive",
            "refusal",
            "guardrail_intervened",
            "safety",
            "recitation",
            "blocklist",
            "prohibited_content",
            "spii",
            "language",
            "image_safety",
            "image_prohibited_content",
            "image_recitation",
            "image_other",
            "no_image",
            "model_armor",
            "escalation",
            "pup_limited_disabled",
        ),
        Done("incomplete", "content_filter"),
    ),
}
"""Word, in lower case and with ``_`` between its parts, -> how the response ends."""


def ending_of(word: str) -> Done | None:
    """How an answer ends that ended with ``word``, in any spelling (``END_TURN``, ``tool-calls``, ``maxTokens``, an
    enumeration's ``FinishReason.STOP``, with more behind a colon as Google's chat endpoint has it: ``content_filter:
    SAFETY``); None for a word that nobody knows, which is a failure.
    """
    folded = _NO_LETTERS.sub("", word[:64].partition(":")[0]).lower()
    return _FOLDED.get(folded.removeprefix("finishreason").removeprefix("."))


def reason_of(value: Any) -> str | None:
    """What a server names as the reason for the end. Null, blank, and what its language prints for null, are none."""
    word = str(value or "")
    return None if word.strip().lower() in _NO_REASONS else word


_NO_REASONS: Final = frozenset({"", "null", "none"})

_NO_LETTERS: Final = re.compile(r"[\s_-]")
_FOLDED: Final = {word.replace("_", ""): done for word, done in STOP_REASONS.items()}


def wait_after_reason(before: Wait | None, *, spoke: bool) -> Wait:
    """What is waited for after a reason for the end (decision 44). ``before``: the wait for one that came earlier and
    that no output without a reason has taken back; ``spoke``: whether there was output before this one.
    """
    early = not spoke if before is None else before.seconds == EARLY_GRACE_S
    return Wait(EARLY_GRACE_S if early else GRACE_S)


def last_events(decoder: Decoder, wait: Wait | None) -> list[Event]:
    """What the end of the input leaves of an event. Where nothing is missing any more, a piece of one says nothing."""
    events = decoder.close()
    return events if wait is None else [event for event in events if event[0] == b"error" or _is_whole(event[1])]


def no_stream() -> RelayError:
    """What was called a stream holds no event, but something: a page, say."""
    return RelayError("upstream_bad_response", "The upstream's answer is no event stream.")


def _is_whole(payload: bytes) -> bool:
    if payload.startswith(b"[DONE]"):
        return True
    try:
        loads(payload)
    except ValueError:
        return False
    return True
