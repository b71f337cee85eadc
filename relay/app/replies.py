"""The ASGI side of an HTTP exchange: its body in, its answer out.

Source: ASGI 3 HTTP specification; responses-api.md §6.1 (envelope), §6.3 (``x-request-id`` on every answer).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from relay.errors import RelayError
from relay.responses.json import encoded as encode
from relay.wire import values

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

_REQUEST_ID: Final = re.compile(rb"[\w.:-]{1,128}")
_CONTROLS: Final = bytes([*range(0x20), 0x7F])
JSON_TYPE: Final[Header] = (b"content-type", b"application/json")


class ClientLeft(Exception):
    """The client closed its side before its request was whole."""


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """A request's headers by lowercase name; of a repeated one the last."""
    return {name.lower(): value for name, value in scope["headers"]}


def request_id_of(headers: dict[bytes, bytes], new_id: Callable[[str], str]) -> bytes:
    """The id that the client gave its request, else a new one (decision 43)."""
    given = headers.get(b"x-request-id", b"")
    return given if _REQUEST_ID.fullmatch(given) else new_id("req").encode()


def encoded(pairs: Iterable[tuple[str, str]]) -> list[Header]:
    """Text headers as bytes; characters that no header may hold are left out."""
    return [(name.encode("latin-1", "ignore"), _safe(value)) for name, value in pairs]


def _safe(value: str) -> bytes:
    return value.encode("latin-1", "replace")[:4096].translate(None, _CONTROLS)


async def read_body(
    headers: dict[bytes, bytes], receive: Receive, limit_bytes: int, take: Callable[[int], None]
) -> tuple[bytes, int]:
    """The body of a request, and no fewer than the JSON values in it; ``take`` is told of each piece's bytes.

    Raises: RelayError 413 or 415, and what ``take`` raises; ClientLeft.
    """
    coding = headers.get(b"content-encoding", b"identity").strip().lower()
    if coding != b"identity":
        raise RelayError("unsupported_media_type", "Send the body without a Content-Encoding.")
    pieces: list[bytes] = []
    size = 0
    weight = 1
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit_bytes:
            raise RelayError("request_too_large", f"The request body is larger than {limit_bytes} bytes.")
        take(len(piece))
        pieces.append(piece)
        weight += values.most(piece)
        if not message.get("more_body", False):
            break
    return pieces[0] if len(pieces) == 1 else b"".join(pieces), weight


async def send_json(send: Send, status: int, content: Any, headers: Iterable[Header] = ()) -> None:
    """A whole JSON answer in two messages, which a server writes as one."""
    body = content if isinstance(content, bytes) else encode(content)
    head = [JSON_TYPE, (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, error: RelayError, headers: Iterable[Header] = ()) -> None:
    """The error envelope."""
    await send_json(send, error.status, error.envelope(), [*encoded(error.response_headers()), *headers])
