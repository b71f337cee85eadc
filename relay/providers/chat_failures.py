"""Errors of chat/completions servers, as HTTP answers and inside streams.

Source: translation.md §5.1 (shapes), §3.3 (errors inside a 200), §5.4; decision 19 (repairs).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from relay.errors import RelayError
from relay.providers.failures import classify, refused, repair_of, said, said_in

REPAIRS: Final[Mapping[str, re.Pattern[str]]] = {
    "stream_options": re.compile(r"stream_options|include_usage"),
    "logprobs": re.compile(r"logprobs"),
    "tool_choice": re.compile(
        r"tool[_ ]?choice.{0,120}(not (be )?(support|compat|allow|permit)|incompatible|unsupported|only|must|should be)"
        r"|(not support|unsupported|incompatible|invalid).{0,60}tool[_ ]?choice"
        r"|tool[_ ]choice`? forces|forced tool use is not supported",
        re.IGNORECASE | re.DOTALL,
    ),
}
"""Repair -> what an upstream's 400 or 422 says when ``build`` should leave it out."""


def http_error(status: int, headers: Mapping[str, str], body: bytes) -> RelayError:
    """An error answer as ours."""
    return refused(status, headers, body, said_in(body), repairs=REPAIRS)


def error_of(value: Any, status: int = 500) -> RelayError:
    """An error inside a 200, in any shape. A status inside it wins; where the request is at fault, it is repaired as if
    the status had said so (OpenRouter tells a provider's 400 only in the stream)."""
    found = said(value if isinstance(value, dict) else {"message": value})
    error = classify(status, found)
    if error.kind == "invalid_request":
        error.repair = repair_of(400, found, REPAIRS)
    return error
