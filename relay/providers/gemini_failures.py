"""Errors of Gemini, as HTTP answers and inside streams.

Source: translation.md §5.1 (shapes), §5.2, §5.4 (RetryInfo); decision 19 (repairs); google.rpc error details.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from relay.errors import RelayError
from relay.providers.failures import Said, classify, clean, refused, repair_of, said, said_in

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


def http_error(status: int, headers: Mapping[str, str], body: bytes) -> RelayError:
    """An error answer as ours."""
    found = said_in(body)
    status = found.status if status in (200, 500) and found.status is not None else status
    if "FAILED_PRECONDITION" in found.codes:  # a region or an account that is not served
        status = 403
    return _ours(status, found) or refused(status, headers, body, found, repairs=REPAIRS)


def error_of(error: Any) -> RelayError:
    """An error inside a 200: ``{code, message, status, details}``, or any other shape."""
    found = said(error if isinstance(error, dict) else {"message": error})
    status = 403 if "FAILED_PRECONDITION" in found.codes else found.status or 500
    return _ours(status, found) or classify(status, found, repair=repair_of(status, found, REPAIRS))


def _ours(status: int, found: Said) -> RelayError | None:
    """The order of the contents and their signatures are the relay's affair, not the client's."""
    if status != 400:
        return None
    repair = repair_of(status, found, REPAIRS)
    if repair not in (MISSING_SIGNATURE, INVALID_SIGNATURE) and (repair is not None or not _OURS.search(found.text)):
        return None
    return RelayError(
        "translation_error",
        "The relay could not replay the conversation to the upstream.",
        repair=repair,
        detail=f"upstream status {status}: {clean(found.shown)[:500]}",
    )
