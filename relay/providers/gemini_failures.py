"""Errors of Gemini, as HTTP answers and inside streams.

Source: translation.md §5.1 (shapes), §5.2, §5.4 (RetryInfo); decision 19 (repairs); google.rpc error details.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from relay.errors import RelayError
from relay.providers.failures import classify, clean, parse_body, retry_after

MISSING_SIGNATURE: Final = "missing_signature"
INVALID_SIGNATURE: Final = "invalid_signature"
LOGPROBS: Final = "logprobs"
MALFORMED: Final = "malformed_answer"

REPAIRS: Final[Mapping[str, re.Pattern[str]]] = {
    MISSING_SIGNATURE: re.compile(r"missing (a )?thought_?\s?signature", re.IGNORECASE),
    INVALID_SIGNATURE: re.compile(
        r"(corrupted|invalid|not valid).{0,40}thought.?signature|thought.?signature.{0,60}(corrupted|valid)",
        re.IGNORECASE,
    ),
    LOGPROBS: re.compile(r"log_?probs", re.IGNORECASE),
}
"""Repair -> what a 400 says when ``build`` should do without. ``malformed_answer`` is the same request once more."""

_OURS: Final = re.compile(r"function response parts|function call turn|immediately after", re.IGNORECASE)
"""Complaints about the order of the contents, which is ours to keep."""

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)s")


def http_error(status: int, headers: Mapping[str, str], body: bytes) -> RelayError:
    """An error answer as ours."""
    parsed = parse_body(body)
    if isinstance(parsed, list) and parsed:
        parsed = parsed[0]
    if not isinstance(parsed, dict):
        if status == 404:
            return RelayError(
                "upstream_misconfigured",
                "The upstream has no such path: its base_url is wrong.",
                detail=str(body[:200]),
            )
        return classify(status, retry_after_s=retry_after(headers))
    return error_of(parsed.get("error", parsed), status, retry_after(headers))


def error_of(error: Any, status: int = 500, retry_after_s: float | None = None) -> RelayError:
    """``{code, message, status, details}``. Its code wins over a ``status`` of 500 or 200."""
    found: Mapping[str, Any] = error if isinstance(error, dict) else {"message": error}
    code, word = found.get("code"), found.get("status")
    message = str(found.get("message") or "")
    if isinstance(code, int) and 400 <= code <= 599 and status in (200, 500):
        status = code
    waited = _retry_delay(found.get("details"))
    if waited is not None:
        retry_after_s = waited
    if status == 400:
        repair = next((name for name, pattern in REPAIRS.items() if pattern.search(message)), None)
        if repair in (MISSING_SIGNATURE, INVALID_SIGNATURE) or (repair is None and _OURS.search(message)):
            # the order of the contents and their signatures are the relay's affair, not the client's
            return RelayError(
                "translation_error",
                "The relay could not replay the conversation to the upstream.",
                repair=repair,
                detail=f"upstream status {status}: {clean(message)[:500]}",
            )
    else:
        repair = None
    if word == "FAILED_PRECONDITION":  # a region or an account that is not served
        status = 403
    return classify(status, codes=(word, code), message=message, retry_after_s=retry_after_s, repair=repair)


def _retry_delay(details: Any) -> float | None:
    """Seconds of the ``RetryInfo`` among ``details``."""
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and str(detail.get("@type", "")).endswith("google.rpc.RetryInfo"):
            match = _DURATION.fullmatch(str(detail.get("retryDelay", "")))
            if match:
                return float(match[1])
    return None
