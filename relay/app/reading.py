"""The body of an upstream's answer: what it is, and a whole one.

Source: decisions 44 (what came whole is no cut answer) and 50 (bytes before labels).
"""

from __future__ import annotations

from typing import Any, Final

from relay.errors import RelayError
from relay.providers.failures import page
from relay.responses.json import check_depth, loads
from relay.upstream import Answer
from relay.wire.sniff import opened, shape_of

BODY_LIMIT_BYTES: Final = 32 * 1024 * 1024

_STREAM_TYPE: Final = b"text/event-stream"


async def opening(answer: Answer) -> tuple[bool, bytes]:
    """Whether the body is an event stream, and what of it has come: no more is read than tells. Raises: RelayError."""
    head = b""
    while (shape := shape_of(head)) is None:
        data = await answer.read()
        if not data:
            break
        head = opened(head + data)
    if shape in (None, "other"):
        return _content_type(answer) == _STREAM_TYPE, head
    return shape == "stream", head


def content_of(answer: Answer, body: bytes, broken: RelayError | None) -> Any:
    """The JSON object or array in a whole body; ``broken``: how it broke off, where it did.

    Raises: RelayError.
    """
    try:
        content = loads(body)
    except ValueError:
        content = None
    if not isinstance(content, dict | list):
        kind = _content_type(answer).decode("latin-1") or "no content type"
        why = " It is a page for people: look at base_url." if page(body) else ""
        message = f"The upstream answered with {kind}, not with an answer.{why}"
        raise broken or RelayError("upstream_bad_response", message)
    check_depth(body, content)
    return content


async def rest_of(answer: Answer, head: bytes) -> tuple[bytes, RelayError | None]:
    """The body; ``head`` was read already. Where it breaks off behind its end, it is whole all the same.

    Raises: RelayError for one over the limit.
    """
    pieces, length = [head], len(head)
    try:
        while data := await answer.read():
            length += len(data)
            if length > BODY_LIMIT_BYTES:
                break
            pieces.append(data)
    except RelayError as error:
        return b"".join(pieces), error
    if length > BODY_LIMIT_BYTES:
        raise RelayError("upstream_bad_response", f"The upstream's answer is larger than {BODY_LIMIT_BYTES:,} bytes.")
    return b"".join(pieces), None


def _content_type(answer: Answer) -> bytes:
    return (answer.header(b"content-type") or b"").split(b";")[0].strip().lower()
