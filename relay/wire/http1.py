"""HTTP/1.1 as a client may write it: the one table of strictness rules, and the scanner that cuts messages by it.

Source: RFC 9112 (message syntax, §6 framing, §7.1 chunks, §11 smuggling), RFC 9110 §5 (fields).

The scanner runs before httptools or h11 and hands either only bytes that broke no rule, cut at the message's end,
because each of the two lets through what the other refuses. It knows of framing only what it needs for that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Final, NamedTuple

from relay.errors import RelayError

METHODS: Final = ("DELETE", "GET", "HEAD", "POST", "PUT", "PATCH", "OPTIONS")

_METHOD: Final = "|".join(METHODS).encode()
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_TARGET: Final = rb"(?:/[!\"$-~]*+|[Hh][Tt][Tt][Pp][Ss]?://[0-9A-Za-z\-._~%!$&'()*+,;=\[\]:]++(?:[/?][!\"$-~]*+)?|\*)"
_QUOTED: Final = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_EXTENSION: Final = rb";" + _TOKEN + rb"++(?:=(?:" + _TOKEN + rb"++|" + _QUOTED + rb"))?"


class Rule(NamedTuple):
    """One thing that is refused: where it is looked for, and the pattern that finds it.

    ``places``: ``l`` the head line by line, ``t`` the trailers (both with a CRLF before each field), ``f`` the framing
    summary (see ``_framing``), ``c`` one chunk line without its CRLF. ``early``: also looked for where the CRLF that
    ends it all has not come, since after bare line ends it never would.
    """

    name: str
    places: str
    pattern: bytes
    kind: str = "bad_request"
    early: bool = False


RULES: Final[tuple[Rule, ...]] = (
    Rule("a control byte", "lt", rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", early=True),
    Rule("a bare CR or LF", "lt", rb"\r(?!\n|\Z)|(?<!\r)\n", early=True),
    Rule("a malformed request line", "l", rb"\A(?!" + _TOKEN + rb"++ [^\s]++ HTTP/[0-9]\.[0-9]\r)"),
    Rule("an HTTP version other than 1.0 and 1.1", "l", rb"\A[^\r]* HTTP/(?!1\.[01]\r)"),
    Rule("a method that is not supported", "l", rb"\A(?!(?:" + _METHOD + rb") )", "method_not_allowed"),
    Rule("a malformed request target", "l", rb"\A[^ ]*+ (?!" + _TARGET + rb" )"),
    Rule("a folded header", "lt", rb"\r\n[ \t]"),
    Rule("space before the colon of a header", "lt", rb"\r\n[^\r\n:]*+(?<=[ \t]):"),
    Rule("a malformed header name", "lt", rb"\r\n(?!" + _TOKEN + rb"++:|\r\n|\Z)"),
    Rule("several Content-Length headers", "f", rb"\ncontent-length:[^\n]*+\ncontent-length:"),
    Rule("a malformed Content-Length", "f", rb"\ncontent-length:(?![0-9]{1,18}\n)"),
    Rule("Content-Length with Transfer-Encoding", "f", rb"(?s)\ncontent-length:.*\ntransfer-encoding:"),
    Rule("Transfer-Encoding on HTTP/1.0", "f", rb"(?s)\A1\.0\n(?:.*\n)?transfer-encoding:"),
    Rule("a Transfer-Encoding other than a single chunked", "f", rb"(?i)\ntransfer-encoding:(?!chunked\n\Z)"),
    Rule("several Host headers", "f", rb"\nhost:[^\n]*+\nhost:"),
    Rule("no Host header", "f", rb"(?s)\A1\.1\n(?!(?:.*\n)?host:)"),
    Rule("a malformed Host header", "f", rb"\nhost:(?![0-9A-Za-z\-._~%!$&'()*+,;=\[\]:]*+\n)"),
    Rule("a malformed chunk size", "c", rb"\A(?![0-9A-Fa-f]{1,16}(?:;|\Z))", early=True),
    Rule("a control byte in a chunk extension", "c", rb"[\x00-\x08\x0a-\x1f\x7f]", early=True),
    Rule("a malformed chunk extension", "c", rb"\A[^;]*+(?!(?:" + _EXTENSION + rb")*+\Z)"),
)

_Search = Callable[..., object]
_BY_PLACE: Final[dict[str, tuple[tuple[Rule, _Search], ...]]] = {
    place: tuple((rule, re.compile(rule.pattern).search) for rule in RULES if place in rule.places) for place in "ltfc"
}
_EARLY: Final = {place: tuple(row for row in rows if row[0].early) for place, rows in _BY_PLACE.items()}

# hot: a head that matches breaks none of the ``l`` rules (a property test says so); one pass instead of nine.
_SOUND_HEAD: Final = re.compile(
    rb"(?:" + _METHOD + rb") " + _TARGET + rb" HTTP/1\.[01]\r\n"
    rb"(?:" + _TOKEN + rb"++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+\r\n"
).fullmatch
_SOUND_CHUNK_LINE: Final = re.compile(rb"[0-9A-Fa-f]{1,16}").fullmatch
_FRAMING_FIELDS: Final = re.compile(rb"(?i)\n(host|content-length|transfer-encoding):[ \t]*+([^\r\n]*+)").findall

_CHUNK_LINE_LIMIT: Final = 1024
_CHUNKS_A_PIECE: Final = 1_024  # about 2 ms of work
_FREE_FRAMING: Final = 1 << 20


def framing_limit(body_bytes: int) -> int:
    """How many bytes of framing (chunk lines, frame headers) a body or message of ``body_bytes`` may come in.

    Each piece costs work whatever it holds. What is sent in pieces of 48 bytes and more has no limit, what is sent byte
    by byte one of about 170,000 pieces; no setting, since no client needs more.
    """
    return _FREE_FRAMING + (body_bytes >> 3)


def check(place: str, text: bytes) -> None:
    """Refuse ``text`` if it breaks a rule of ``place``.

    Raises: RelayError(bad_request | method_not_allowed).
    """
    for rule, search in _BY_PLACE[place]:
        if search(text) is not None:
            raise _refusal(rule)


def _refusal(rule: Rule) -> RelayError:
    headers = (("allow", ", ".join(METHODS)),) if rule.kind == "method_not_allowed" else ()
    return RelayError(rule.kind, f"The HTTP request has {rule.name}.", headers=headers)


def _framing(head: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The fields that frame a message, sorted; as the text that the ``f`` rules read: ``1.1\\nhost:a\\n``."""
    version = head[head.index(b"\r") - 3 : head.index(b"\r")]
    fields = sorted((name.lower(), value.rstrip(b" \t")) for name, value in _FRAMING_FIELDS(head))
    return version + b"\n" + b"".join([b"%b:%b\n" % field for field in fields]), fields


class Scanner:
    """Cuts what a client sends into pieces that a parser may see; one message at a time.

    ``feed`` adds bytes, ``take`` gives the next piece or None where more must come, ``complete`` says that the message
    is over (nothing is taken then until ``next``), ``waiting_bytes`` is what came and was not taken, ``behind`` that
    the last piece was cut for the work that it cost: others' turn comes first. A piece is a whole head, or body bytes,
    never of two messages. The data of many chunks comes as one chunk: a parser's work must not depend on how a client
    cuts its body. Chunk extensions and trailers are checked and left out.
    """

    __slots__ = (
        "_blank_lines",
        "_body_limit_bytes",
        "_head_limit_bytes",
        "_left",
        "_overhead",
        "_rest",
        "_seen",
        "_step",
        "behind",
        "body_bytes",
        "complete",
        "started",
    )

    def __init__(self, head_limit_bytes: int, body_limit_bytes: int) -> None:
        self._head_limit_bytes = head_limit_bytes
        self._body_limit_bytes = body_limit_bytes
        self._rest: bytes | bytearray = b""
        self.next()

    def close(self) -> None:
        """Nothing follows: let go of what waits, and of the circle that the next step is."""
        self._rest = b""
        del self._step

    def next(self) -> None:
        """Begin with the next message."""
        self._seen = 0
        self._blank_lines = 0
        self._left = 0
        self._overhead = 0
        self._step: Callable[[], bytes | None] = self._take_head
        self.body_bytes = 0
        self.behind = False
        self.complete = False
        self.started = False

    @property
    def waiting_bytes(self) -> int:
        return len(self._rest)

    @property
    def received_bytes(self) -> int:
        """Of the body, without its framing."""
        chunked = self._step == self._take_chunks
        return self.body_bytes - (max(0, self._left - 2) if chunked else 0)

    def feed(self, data: bytes) -> None:
        """Add what the client sent."""
        if not self._rest:
            self._rest = data
        elif isinstance(self._rest, bytearray):
            self._rest += data
        else:
            self._rest = bytearray(self._rest)
            self._rest += data

    def take(self) -> bytes | None:
        """The next piece, or None where more must come.

        Raises: RelayError(bad_request | method_not_allowed | headers_too_large | request_too_large).
        """
        return self._step() if self._rest else None

    def take_rest(self) -> bytes:
        """All that was not taken, unchecked: for what a connection becomes after an upgrade."""
        return self._cut(len(self._rest))

    def _cut(self, size: int) -> bytes:
        rest = self._rest
        if size == len(rest):
            self._rest = b""
            return bytes(rest)
        piece = bytes(rest[:size])
        if isinstance(rest, bytearray):
            del rest[:size]
        else:
            self._rest = rest[size:]
        return piece

    def _take_nothing(self) -> bytes | None:
        return None

    def _take_head(self) -> bytes | None:
        if not self._blank_lines and self._rest[:2] == b"\r\n":
            self._blank_lines = 1  # RFC 9112 §2.2: one empty line before the request line is no fault
            self._cut(2)
            self._seen = 0
        end = self._rest.find(b"\r\n\r\n", max(0, self._seen - 3)) + 4
        if end < 4:
            self._wait("l")
            return None
        if end > self._head_limit_bytes:
            raise self._head_too_large()
        head = self._cut(end)
        if _SOUND_HEAD(head) is None:
            check("l", head)
        text, fields = _framing(head)
        check("f", text)
        self.started = True
        self._seen = 0
        framing = dict(fields)
        if b"transfer-encoding" in framing:
            self._step = self._take_chunks
        else:
            self._begin_sized(int(framing.get(b"content-length", b"0")))
        return head

    def _wait(self, place: str) -> None:
        """More of a head or of trailers must come; what is new is looked at once."""
        rest = self._rest
        for rule, search in _EARLY[place]:
            if search(rest, max(0, self._seen - 1)) is not None:
                raise _refusal(rule)
        if len(rest) > self._head_limit_bytes:
            raise self._head_too_large()
        self._seen = len(rest)

    def _head_too_large(self) -> RelayError:
        limit = self._head_limit_bytes
        return RelayError("headers_too_large", f"The request line and headers are over {limit} bytes.")

    def _begin_sized(self, length: int) -> None:
        if length > self._body_limit_bytes:
            raise self._body_too_large()
        self._left = length
        self._step = self._take_sized
        if not length:
            self._end()

    def _take_sized(self) -> bytes | None:
        piece = self._cut(min(self._left, len(self._rest)))
        self._left -= len(piece)
        self.body_bytes += len(piece)
        if not self._left:
            self._end()
        return piece

    def _take_chunks(self) -> bytes | None:
        """The data of the chunks that are there, as one; ``_left`` counts a chunk's data and the CRLF after it."""
        rest = self._rest
        at, chunks = 0, 0
        data: list[bytes | bytearray] = []
        while at < len(rest) and chunks < _CHUNKS_A_PIECE:
            if self._left > 2:
                piece = rest[at : at + self._left - 2]
                data.append(piece)
                self._left -= len(piece)
                at += len(piece)
            elif self._left:
                if rest[at] != b"?\n\r"[self._left]:
                    raise RelayError("bad_request", "The HTTP request has chunk data that does not end with CRLF.")
                self._left -= 1
                at += 1
            elif (end := rest.find(b"\r\n", at, at + _CHUNK_LINE_LIMIT)) < 0:
                _check_unfinished_line(bytes(rest[at : at + _CHUNK_LINE_LIMIT]))
                break
            else:
                chunks += 1
                last = self._begin_chunk(bytes(rest[at:end]))
                at = end + 2
                if last:
                    self._step = self._take_trailers
                    break
        self._cut(at)
        self.behind = chunks == _CHUNKS_A_PIECE
        body = b"".join(data)
        taken = CHUNK % (len(body), body) if body else b""
        if self._step == self._take_trailers:
            taken += b"0\r\n"
        return taken or None

    def _begin_chunk(self, line: bytes) -> bool:
        """Whether this is the last chunk."""
        if _SOUND_CHUNK_LINE(line) is None:
            check("c", line)
        size = int(line.partition(b";")[0], 16)
        self.body_bytes += size  # all of it is announced now, or comes
        if self.body_bytes > self._body_limit_bytes:
            raise self._body_too_large()
        self._overhead += len(line) + 4
        if self._overhead > framing_limit(self.body_bytes):
            raise RelayError("bad_request", "The HTTP request comes in too many small chunks, or with long extensions.")
        self._left = size + 2 if size else 0
        return not size

    def _take_trailers(self) -> bytes | None:
        rest = self._rest
        if rest[:2] == b"\r\n":
            self._end()
            return self._cut(2)
        end = rest.find(b"\r\n\r\n", max(0, self._seen - 3)) + 4
        if end < 4:
            if len(rest) > 2:
                self._wait("t")
            return None
        if end > self._head_limit_bytes:
            raise self._head_too_large()
        check("t", b"\r\n" + self._cut(end))
        self._end()
        # No parser sees trailers: llhttp would read framing out of them.
        return b"\r\n"

    def _end(self) -> None:
        self._step = self._take_nothing
        self.complete = True

    def _body_too_large(self) -> RelayError:
        return RelayError("request_too_large", f"The request body is over {self._body_limit_bytes} bytes.")


def _check_unfinished_line(line: bytes) -> None:
    """Refuse a chunk line whose CRLF has not come, if it cannot become a good one."""
    if len(line) >= _CHUNK_LINE_LIMIT:
        raise RelayError("bad_request", f"The HTTP request has a chunk line over {_CHUNK_LINE_LIMIT} bytes.")
    line = line.removesuffix(b"\r")
    for rule, search in _EARLY["c"] if line else ():
        if search(line) is not None:
            raise _refusal(rule)


class Head(NamedTuple):
    """A request's head as a parser read it; header names in lower case."""

    method: str
    target: bytes
    version: str
    headers: list[tuple[bytes, bytes]]


class Target(NamedTuple):
    """A request target: ``authority`` only of the absolute form."""

    path: bytes
    query: bytes
    authority: bytes | None


_ABSOLUTE: Final = re.compile(rb"(?i)https?://([^/?]*)(.*)").fullmatch


def split_target(target: bytes) -> Target:
    """``/path?query`` or ``http://authority/path?query`` in its parts."""
    authority = None
    if not target.startswith(b"/") and (absolute := _ABSOLUTE(target)) is not None:
        authority, target = absolute.groups()
    path, _, query = target.partition(b"?")
    return Target(path or b"/", query, authority)


STATUS_LINES: Final[dict[int, bytes]] = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}
CONTINUE: Final = STATUS_LINES[100] + b"\r\n"
CHUNK: Final = b"%x\r\n%b\r\n"
"""``CHUNK % (len(data), data)``, where ``data`` is not empty."""

LAST_CHUNK: Final = b"0\r\n\r\n"
GUARD_HEADERS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""On every answer: a page of another origin can neither run nor embed what it holds (WHATWG Fetch §3.6, §3.7). What
CORS allows is read all the same, since the second one speaks of requests without it only."""


def encode_head(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A response's head, with the empty line.

    Raises: ValueError where a name or value holds CR, LF or NUL.
    """
    fields = [b"%b: %b\r\n" % (name, value) for name, value in headers]
    block = b"".join(fields)
    # hot: three scans of the whole instead of one a header; a CR or LF inside a field makes the counts differ.
    if block.count(b"\n") != len(fields) or block.count(b"\r") != len(fields) or b"\x00" in block:
        raise ValueError("a response header holds CR, LF or NUL")
    line = STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    return b"%b%b\r\n" % (line, block)
