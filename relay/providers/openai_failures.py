"""Errors of native Responses upstreams: HTTP answers, ``error`` events, failed Responses.

Source: responses-api.md §4.7-4.8, §6; translation.md §3.7, §5; pain.md 20-22.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from relay.errors import STREAM_CODES, RelayError
from relay.providers.failures import classify, clean, parse_body, retry_after
from relay.providers.openai_response import usage_with_details
from relay.responses.emitter import Voice
from relay.responses.tools import JSON

REPAIRS: Final[Mapping[str, re.Pattern[str]]] = {
    "stream_options": re.compile(r"stream_options|include_obfuscation"),
    "encrypted_content": re.compile(r"encrypted.content is not supported|reasoning\.encrypted_content", re.IGNORECASE),
}
"""Repair -> what an upstream's 400 or 422 says when ``build`` should leave out what the client did not ask for."""


def http_error(status: int, headers: Mapping[str, str], body: bytes) -> RelayError:
    """An error answer as ours."""
    parsed = parse_body(body)
    if isinstance(parsed, list) and parsed:
        parsed = parsed[0]
    wait_s = retry_after(headers)
    if isinstance(parsed, dict):
        return _error(parsed, status, wait_s)
    if status == 404:
        message = "The upstream has no such path: its base_url is wrong."
        return RelayError("upstream_misconfigured", message, detail=repr(body[:200]))
    return classify(status, retry_after_s=wait_s)


def in_band(content: JSON, voice: Voice) -> RelayError:
    """An ``error`` event, or a failed Response, as ours; what a failed Response has used is kept."""
    usage = usage_with_details(content.get("usage"))
    if usage is not None:
        voice.usage(usage)
    error = _error(content, 500, None)
    if error.kind != "upstream_error":
        return error
    # the upstream's own words: there is no status beside them that says more
    inner = content.get("error")
    source = inner if isinstance(inner, dict) else content
    code, message = source.get("code"), source.get("message")
    shown = clean(message) if isinstance(message, str) else ""
    known = code if isinstance(code, str) and code in STREAM_CODES else None
    return RelayError("upstream_error", shown or error.message, code=known, detail=error.detail)


def _error(outer: JSON, status: int, wait_s: float | None) -> RelayError:
    error = outer.get("error") or outer.get("detail") or outer
    if not isinstance(error, dict):
        error = {"message": error}
    message, code, param = _words(error.get("message")), error.get("code"), error.get("param")
    for inner in (error.get("status"), code, outer.get("status")):
        if status == 500 and type(inner) is int and 400 <= inner <= 599:
            status = inner
    metadata = error.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    further = error.get("innererror")
    codes = (code, error.get("type"), further.get("code") if isinstance(further, dict) else None)
    more = _words(metadata.get("raw"))
    repair = None
    if status in (400, 422):
        said = f"{message} {param}"
        repair = next((name for name, pattern in REPAIRS.items() if pattern.search(said)), None)
    return classify(
        status,
        codes=(*codes, "moderation") if metadata.get("reasons") else codes,
        message=message,
        param=param if isinstance(param, str) else None,
        code=code if isinstance(code, str) else None,
        text=more,
        retry_after_s=wait_s,
        repair=repair,
    )


def _words(value: Any) -> str:
    """Words for a person: FastAPI's list of complaints becomes one line."""
    if isinstance(value, list):
        said = [str(one.get("msg", "")) if isinstance(one, dict) else str(one) for one in value[:8]]
        return "; ".join(said)
    return value if isinstance(value, str) else ""
