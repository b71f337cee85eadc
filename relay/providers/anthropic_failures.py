"""Errors of Anthropic Messages, as HTTP answers and inside streams.

Source: translation.md §5.1, §5.2, §5.4; decision 19 (repairs); platform.claude.com, "Errors".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from relay.errors import RelayError
from relay.providers.failures import Said, classify, clean, refused, repair_of, said, said_in

STATUSES: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""``error.type`` -> HTTP status, for errors inside a stream."""


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns).replace("`", "`?"), re.IGNORECASE)


OURS: Final = _words(
    r"`tool_use` ids were found without `tool_result`",
    r"unexpected `tool_use_id`",
    r"`tool_use` ids must be unique",
    r"`tool_result` blocks? must",
    r"must start with a thinking block",
    r"expected `thinking` or `redacted_thinking`",
    r"invalid `(signature|data)` in `(redacted_)?thinking`",
    r"thinking.{0,40} blocks?.{0,80} (cannot|must not) be modified",
    r"block_binding|binding_mismatch|prefix mismatch",
    r"final block in an assistant message cannot be `thinking`",
    r"text content blocks must (be non-empty|contain non-whitespace)",
    r"must end with a user message",
    r"first message must use the",
    r"role:? .{0,30}must alternate",
)
"""Complaints about how the relay put the conversation together: not the client's fault."""

REPAIRS: Final[Mapping[str, re.Pattern[str]]] = {
    "tool_choice": _words(
        r"forced tool use is not supported",
        r"tool_choice.{0,80}not (supported|compatible|allowed)",
        r"when `?tool_choice`? forces",
    ),
    "sampling": _words(r"`(temperature|top_p)`.{0,80}(not|deprecated|cannot|may only)"),
    "format": _words(
        r"output_config\.format",
        r"schema.{0,60}(too complex|not supported|unsupported|too many)",
        r"grammar.{0,40}(too large|timed? ?out)",
    ),
    "mid_system": _words(r"role.{0,60}(user.{0,12}assistant|system)"),
    "effort": _words(r"(output_config\.)?effort.{0,60}not (supported|permitted|allowed)", r"thinking\.\w+.{0,80}tag"),
}
"""Repair -> what a 400 says when ``build`` should leave it out or say it otherwise."""


def http_error(status: int, headers: Mapping[str, str], body: bytes) -> RelayError:
    """An error answer as ours."""
    found = said_in(body)
    return _ours(status, found) or refused(status, headers, body, found, repairs=REPAIRS)


def error_of(value: Any) -> RelayError:
    """An error inside a 200, in any shape; its type says what it is."""
    found = said(value if isinstance(value, dict) else {"message": value})
    status = next((STATUSES[code] for code in found.codes if code in STATUSES), 500)
    return _ours(status, found) or classify(status, found, repair=repair_of(status, found, REPAIRS))


def _ours(status: int, found: Said) -> RelayError | None:
    if status != 400 or not OURS.search(found.words[0] if found.words else ""):
        return None
    return RelayError(
        "translation_error",
        "The upstream did not accept the conversation as the relay put it together.",
        repair="thinking",
        detail=f"upstream status {status}: {clean(found.shown)[:500]}",
    )
