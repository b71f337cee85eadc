"""The Response object of a native upstream, made whole: the upstream's members, the client's own words, our identity.

Source: decision 20; translation.md §3.6, §4.4; responses-api.md §2.3, §2.7.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from relay.errors import RelayError
from relay.providers.usage import chat_usage
from relay.responses.emitter import Emitter, Usage
from relay.responses.tools import JSON
from relay.responses.usage import count_of


@dataclass(frozen=True, slots=True)
class Context:
    """What the translator of an answer must know of the request: who owns the id, and the client's own words."""

    holds_state: bool = False
    echoes: JSON = field(default_factory=dict)
    background: bool = False
    """Whether the upstream runs the response by itself: a JSON answer may then come before its end."""


_FIXED: Final = frozenset(
    {
        "id",
        "object",
        "created_at",
        "model",
        "instructions",
        "metadata",
        "parallel_tool_calls",
        "previous_response_id",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_p",
        "truncation",
        "max_output_tokens",
        "max_tool_calls",
        "user",
        "store",
        "safety_identifier",
        "prompt_cache_key",
    }
)
"""What a Response says in all its events alike: what was said first is kept."""

_PROGRESS: Final[JSON] = {
    "status": "in_progress",
    "output": [],
    "error": None,
    "incomplete_details": None,
    "completed_at": None,
    "usage": None,
}

_NUMBER: Final = (int, float)
_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "created_at": _NUMBER,
    "background": bool,
    "parallel_tool_calls": bool,
    "temperature": _NUMBER,
    "top_p": _NUMBER,
    "presence_penalty": _NUMBER,
    "frequency_penalty": _NUMBER,
    "top_logprobs": int,
    "max_output_tokens": int,
    "max_tool_calls": int,
    "service_tier": str,
    "truncation": str,
    "reasoning": dict,
    "text": dict,
    "tool_choice": (str, dict),
}
"""What clients rely on: a member of another type is not taken over."""

_UNWANTED: Final = frozenset({"output_text", "input_transformations", *_PROGRESS})


def _members(theirs: JSON, ours: JSON) -> JSON:
    """What is taken over: members that say something, and those that we do not know."""
    taken = {}
    for name, value in theirs.items():
        if name in _UNWANTED or (value is None and name in ours):
            continue
        if name in _TYPES and not isinstance(value, _TYPES[name]):
            continue
        taken[name] = value
    return taken


def started(ours: JSON, theirs: JSON, context: Context) -> JSON:
    """The Response as ``response.created`` shows it; ``ours`` is the template of the request."""
    merged = {**ours, **_members(theirs, ours), **context.echoes, **_PROGRESS, "object": "response"}
    identifier = theirs.get("id")
    if not (context.holds_state and isinstance(identifier, str) and identifier):
        merged["id"] = ours["id"]
        merged["previous_response_id"] = ours["previous_response_id"]
        merged["background"] = ours["background"]
    merged["created_at"] = count_of(merged["created_at"]) or ours["created_at"]
    merged["reasoning"] = {"effort": None, "summary": None, **merged["reasoning"]}
    text = merged["text"] = {**ours["text"], **merged["text"]}
    for name in ("format", "verbosity"):
        if text.get(name) is None:
            text[name] = ours["text"][name]
    return merged


def finished(emitter: Emitter, theirs: JSON, status: str, context: Context) -> JSON:
    """The Response as the terminal event shows it; its output is what was said."""
    ours = emitter.response
    taken = {name: value for name, value in _members(theirs, ours).items() if name not in _FIXED}
    if not context.holds_state:
        taken.pop("background", None)
    if isinstance(taken.get("reasoning"), dict):
        taken["reasoning"] = {**ours["reasoning"], **taken["reasoning"]}
    for entry in theirs.get("input_transformations") or []:
        emitter.transformation(entry)
    return {
        **ours,
        **taken,
        "status": status,
        "output": emitter.output,
        "error": None,
        "incomplete_details": {"reason": _reason(theirs)} if status == "incomplete" else None,
        "completed_at": count_of(theirs.get("completed_at")) or emitter.now() if status == "completed" else None,
        "usage": usage_with_details(theirs.get("usage")),
    }


_ENDS: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})
_OPEN: Final = frozenset({"in_progress", "queued"})


def status_of(theirs: JSON, named: str | None, context: Context) -> str:
    """How a Response ends (decision 45): its own ``status`` wins over its event's name; ``named`` is None for a body.

    Raises: RelayError for a status that is no end, but in a body of a response in the background.
    """
    status = theirs.get("status")
    if not isinstance(status, str) or not status:
        return "failed" if theirs.get("error") else named or "completed"
    if status in _ENDS or (status in _OPEN and named is None and context.background):
        return status
    if theirs.get("error"):
        return "failed"
    raise RelayError("upstream_error", f"The upstream ended its response as '{status[:64]}'.")


def _reason(theirs: JSON) -> str:
    details = theirs.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else details
    # pain.md 23: some servers say what a chat's finish_reason says, or nothing
    return "max_output_tokens" if reason in (None, "", "length", "max_tokens") else str(reason)


def usage_with_details(theirs: Any) -> Usage | None:
    """The upstream's numbers, with the members that it left out (responses-api.md §2.7)."""
    if not isinstance(theirs, dict):
        return None
    given, made = _count(theirs, "input_tokens"), _count(theirs, "output_tokens")
    if not (given or made) and ("prompt_tokens" in theirs or "completion_tokens" in theirs):
        return {**theirs, **chat_usage(theirs)}  # a server that counts as its chat endpoint does
    inside, outside = theirs.get("input_tokens_details"), theirs.get("output_tokens_details")
    inside = inside if isinstance(inside, dict) else {}
    outside = outside if isinstance(outside, dict) else {}
    return {
        **theirs,
        "input_tokens": given,
        "input_tokens_details": {
            **inside,
            "cached_tokens": _count(inside, "cached_tokens"),
            "cache_write_tokens": _count(inside, "cache_write_tokens"),
        },
        "output_tokens": made,
        "output_tokens_details": {**outside, "reasoning_tokens": _count(outside, "reasoning_tokens")},
        "total_tokens": _count(theirs, "total_tokens") or given + made,
    }


def _count(source: JSON, name: str) -> int:
    return count_of(source.get(name))
