"""Errors of chat/completions servers, as HTTP answers and inside streams.

Source: translation.md §5.1 (shapes), §3.3 (errors inside a 200), §5.4; decision 19 (repairs).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from relay.errors import RelayError
from relay.providers.failures import classify, parse_body, retry_after
from relay.responses.json import encoded

REPAIRS: Final[Mapping[str, re.Pattern[str]]] = {
    "stream_options": re.compile(r"stream_options|include_usage"),
    "logprobs": re.compile(r"logprobs"),
}
"""Repair -> what an upstream's 400 or 422 says when ``build`` should leave it out."""


def http_error(status: int, headers: Mapping[str, str], body: bytes) -> RelayError:
    """An error answer as ours."""
    parsed = parse_body(body)
    if isinstance(parsed, list) and parsed:
        parsed = parsed[0]
    if not isinstance(parsed, dict):
        if status == 404:
            # a page, not an API's answer
            return RelayError(
                "upstream_misconfigured",
                "The upstream has no such path: its base_url is wrong.",
                detail=str(body[:200]),
            )
        return classify(status, retry_after_s=retry_after(headers))
    return error_of(parsed, status, retry_after(headers))


def error_of(value: Any, status: int = 500, retry_after_s: float | None = None) -> RelayError:
    """An error object, or what wraps it, in any shape. A status inside it wins over a ``status`` of 500 or 200."""
    outer = value if isinstance(value, dict) else {}
    error = outer.get("error") or outer.get("detail") or value
    if not isinstance(error, dict):
        message = _text(error) or _text(outer.get("message"))
        error = outer if outer.get("object") == "error" else {}
    else:
        message = _text(error.get("message")) or _text(error.get("detail")) or _text(outer.get("message"))
    code, kind = error.get("code"), error.get("type")
    inner = _status(error.get("status_code")) or _status(code)
    if inner is not None and status in (200, 500):
        status = inner
    metadata = error.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    codes: tuple[object, ...] = (code, kind, error.get("status"))
    inner_error = error.get("innererror")
    if isinstance(inner_error, dict):
        codes = (*codes, inner_error.get("code"))
    if metadata.get("reasons"):
        codes = (*codes, "moderation")
    more = _text(metadata.get("raw"))
    repair = None
    if status in (400, 422):
        said = f"{message} {more} {error.get('param')}"
        repair = next((name for name, pattern in REPAIRS.items() if pattern.search(said)), None)
    param = error.get("param")
    return classify(
        status,
        codes=codes,
        message=message,
        param=param if isinstance(param, str) and "[" not in param and "." not in param else None,
        code=code if isinstance(code, str) and _status(code) is None else None,
        text=more,
        retry_after_s=retry_after_s,
        repair=repair,
    )


def _status(value: Any) -> int | None:
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599 else None


def _text(value: Any) -> str:
    """Words for a person: FastAPI's list of complaints becomes one line."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "; ".join(
            f"{'.'.join(str(step) for step in one.get('loc') or ())}: {one.get('msg', '')}".lstrip(": ")
            if isinstance(one, dict)
            else str(one)
            for one in value[:8]
        )
    return encoded(value).decode() if value else ""
