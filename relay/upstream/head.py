"""The head of a request, checked and encoded.

Source: RFC 9112 §3, §5, §6 (request line, fields, framing), RFC 9110 §5.6.2 (tokens); decision 26 (identity).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from relay import __version__
from relay.errors import RelayError
from relay.upstream.origin import Origin

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_TARGET: Final = re.compile(r"[/*][\x21-\x7e]*")
_OURS: Final = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding"}
    | {"proxy-connection", "upgrade"}
)
_WITHOUT_BODY: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
_USER_AGENT: Final = f"relay/{__version__}"


def encode_head(origin: Origin, method: str, target: str, headers: Iterable[tuple[str, str]], body_bytes: int) -> bytes:
    """Request line and fields. Framing and coding are ours: what ``headers`` says about them is left out.

    Raises: RelayError upstream_misconfigured, naming the field and never its value.
    """
    if not _TOKEN.fullmatch(method) or not _TARGET.fullmatch(target):
        raise RelayError("upstream_misconfigured", "The request for the upstream has no valid method or path.")
    lines: list[str] = []
    given = set()
    for name, value in headers:
        lowered = name.lower()
        if lowered in _OURS:
            continue
        value = value.strip(" \t")
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise RelayError(
                "upstream_misconfigured", f"The header {name[:64]!r} for the upstream holds forbidden characters."
            )
        given.add(lowered)
        lines.append(f"{lowered}: {value}\r\n")
    first = [f"{method} {target} HTTP/1.1\r\n"]
    if "host" not in given:
        first.append(f"host: {origin.host_header}\r\n")
    if "user-agent" not in given:
        first.append(f"user-agent: {_USER_AGENT}\r\n")
    lines.append("accept-encoding: identity\r\n")
    if body_bytes or method not in _WITHOUT_BODY:
        lines.append(f"content-length: {body_bytes}\r\n")
    lines.append("\r\n")
    return "".join(first + lines).encode("latin-1")
