# ruff: noqa: E501  (a case is a line)
"""What a client must not send, with the section that says so, and sound messages that look alike."""

from __future__ import annotations

from typing import NamedTuple


class Breach(NamedTuple):
    """``data`` breaks ``rule`` (a row of ``wire.http1.RULES``) and no rule before it."""

    name: str
    rule: str
    data: bytes
    kind: str = "bad_request"


_POST = b"POST /p HTTP/1.1\r\nHost: a\r\n"
_CHUNKED = _POST + b"Transfer-Encoding: chunked\r\n\r\n"

BREACHES = (
    # RFC 9110 §5.5: CTLs in a field value
    Breach("nul in a value", "a control byte", b"GET / HTTP/1.1\r\nHost: a\r\nX: b\x00c\r\n\r\n"),
    Breach("nul in the target", "a control byte", b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n"),
    Breach("delete in a value", "a control byte", b"GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n"),
    Breach("vertical tab before the colon", "a control byte", b"GET / HTTP/1.1\r\nHost: a\r\nX\x0b: b\r\n\r\n"),
    Breach("a TLS hello", "a control byte", b"\x16\x03\x01\x02\x00"),
    Breach("nul in a trailer", "a control byte", _CHUNKED + b"0\r\nX: \x00\r\n\r\n"),
    # RFC 9112 §2.2: a bare CR is invalid; a lone LF may be taken for a line's end by others
    Breach("bare LF in the request line", "a bare CR or LF", b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    Breach("bare LFs only", "a bare CR or LF", b"GET / HTTP/1.1\nHost: a\n\n"),
    Breach("bare LF at the head's end", "a bare CR or LF", b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    Breach("bare CR in a value", "a bare CR or LF", b"GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n"),
    Breach("CR CR LF", "a bare CR or LF", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"),
    Breach("bare LF in trailers", "a bare CR or LF", _CHUNKED + b"0\r\nX: y\n\n"),
    # §3
    Breach("no version", "a malformed request line", b"GET /\r\nHost: a\r\n\r\n"),
    Breach("two spaces", "a malformed request line", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    Breach("a space in the target", "a malformed request line", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    Breach("two empty lines", "a malformed request line", b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    Breach("lower-case http", "a malformed request line", b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    Breach("HTTP/2", "an HTTP version other than 1.0 and 1.1", b"PRI * HTTP/2.0\r\n\r\n"),
    Breach("HTTP/1.2", "an HTTP version other than 1.0 and 1.1", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    Breach("an unknown method", "a method that is not supported", b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n", "method_not_allowed"),
    Breach("CONNECT", "a method that is not supported", b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "method_not_allowed"),
    Breach("no slash", "a malformed request target", b"GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
    Breach("a fragment", "a malformed request target", b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    Breach("a byte over ASCII", "a malformed request target", b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n"),
    Breach("another scheme", "a malformed request target", b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    # §5.2, §5.1
    Breach("a folded value", "a folded header", b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n"),
    Breach("a fold before the first field", "a folded header", b"GET / HTTP/1.1\r\n\tHost: a\r\n\r\n"),
    Breach("a folded trailer", "a folded header", _CHUNKED + b"0\r\nX: b\r\n c\r\n\r\n"),
    Breach("a space", "space before the colon of a header", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    Breach("a tab", "space before the colon of a header", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length\t: 3\r\n\r\nabc"),
    Breach("a space in a trailer", "space before the colon of a header", _CHUNKED + b"0\r\nX : b\r\n\r\n"),
    Breach("no colon", "a malformed header name", b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"),
    Breach("no name", "a malformed header name", b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
    Breach("a name with a bracket", "a malformed header name", b"GET / HTTP/1.1\r\nHost: a\r\nX(y): b\r\n\r\n"),
    Breach("a name over ASCII", "a malformed header name", b"GET / HTTP/1.1\r\nHost: a\r\n\xc3\xa4: b\r\n\r\n"),
    # §6.3, RFC 9110 §8.6
    Breach("twice the same length", "several Content-Length headers", _POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    Breach("two lengths", "several Content-Length headers", _POST + b"Content-Length: 3\r\ncontent-length: 4\r\n\r\nabcd"),
    Breach("a list of lengths", "a malformed Content-Length", _POST + b"Content-Length: 3, 3\r\n\r\nabc"),
    Breach("a plus", "a malformed Content-Length", _POST + b"Content-Length: +3\r\n\r\nabc"),
    Breach("a minus", "a malformed Content-Length", _POST + b"Content-Length: -3\r\n\r\nabc"),
    Breach("an empty length", "a malformed Content-Length", _POST + b"Content-Length:\r\n\r\n"),
    Breach("a hexadecimal length", "a malformed Content-Length", _POST + b"Content-Length: 0x3\r\n\r\nabc"),
    Breach("a space in a length", "a malformed Content-Length", _POST + b"Content-Length: 1 2\r\n\r\nabc"),
    Breach("a huge length", "a malformed Content-Length", _POST + b"Content-Length: 18446744073709551619\r\n\r\nabc"),
    Breach("length and coding", "Content-Length with Transfer-Encoding", _POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    Breach("coding and length", "Content-Length with Transfer-Encoding", _POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
    Breach("a coding on 1.0", "Transfer-Encoding on HTTP/1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    Breach("gzip, chunked", "a Transfer-Encoding other than a single chunked", _POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    Breach("chunked, identity", "a Transfer-Encoding other than a single chunked", _POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    Breach("chunked twice", "a Transfer-Encoding other than a single chunked", _POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    Breach("identity", "a Transfer-Encoding other than a single chunked", _POST + b"Transfer-Encoding: identity\r\n\r\n"),
    Breach("an empty coding", "a Transfer-Encoding other than a single chunked", _POST + b"Transfer-Encoding:\r\n\r\n"),
    Breach("xchunked", "a Transfer-Encoding other than a single chunked", _POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    Breach("a quoted coding", "a Transfer-Encoding other than a single chunked", _POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n'),
    # §3.2
    Breach("no host", "no Host header", b"GET / HTTP/1.1\r\nAccept: a\r\n\r\n"),
    Breach("no header at all", "no Host header", b"GET / HTTP/1.1\r\n\r\n"),
    Breach("two hosts", "several Host headers", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    Breach("two hosts on 1.0", "several Host headers", b"GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n"),
    Breach("a host with a path", "a malformed Host header", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    Breach("a host with a user", "a malformed Host header", b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    # §7.1
    Breach("a chunk size with 0x", "a malformed chunk size", _CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n"),
    Breach("a negative chunk size", "a malformed chunk size", _CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n"),
    Breach("a chunk size with an underscore", "a malformed chunk size", _CHUNKED + b"1_0\r\nabc\r\n0\r\n\r\n"),
    Breach("a space before a chunk size", "a malformed chunk size", _CHUNKED + b" 3\r\nabc\r\n0\r\n\r\n"),
    Breach("a space after a chunk size", "a malformed chunk size", _CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n"),
    Breach("an empty chunk size", "a malformed chunk size", _CHUNKED + b"\r\nabc\r\n0\r\n\r\n"),
    Breach("a chunk size of 17 digits", "a malformed chunk size", _CHUNKED + b"00000000000000003\r\nabc\r\n0\r\n\r\n"),
    Breach("a chunk size ended by LF", "a malformed chunk size", _CHUNKED + b"3\nabc\r\n0\r\n\r\n"),
    Breach("the second chunk size", "a malformed chunk size", _CHUNKED + b"3\r\nabc\r\nz\r\n"),
    Breach("nul in an extension", "a control byte in a chunk extension", _CHUNKED + b"3;a=\x00\r\nabc\r\n0\r\n\r\n"),
    Breach("LF in an extension", "a control byte in a chunk extension", _CHUNKED + b"3;a\nb\r\nabc\r\n0\r\n\r\n"),
    Breach("CR in an extension", "a control byte in a chunk extension", _CHUNKED + b"3;a\rb\r\nabc\r\n0\r\n\r\n"),
    Breach("an extension of the last chunk", "a control byte in a chunk extension", _CHUNKED + b"0;\x7f\r\n\r\n"),
    Breach("an extension without a name", "a malformed chunk extension", _CHUNKED + b"3;\r\nabc\r\n0\r\n\r\n"),
    Breach("an extension with a space", "a malformed chunk extension", _CHUNKED + b"3;a b\r\nabc\r\n0\r\n\r\n"),
    Breach("an open quote", "a malformed chunk extension", _CHUNKED + b'3;a="b\r\nabc\r\n0\r\n\r\n'),
    Breach("longer than its size", "chunk data that does not end with CRLF", _CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n"),
    Breach("shorter than its size", "chunk data that does not end with CRLF", _CHUNKED + b"5\r\nabc\r\n0\r\n\r\n"),
    Breach("ended by LF", "chunk data that does not end with CRLF", _CHUNKED + b"3\r\nabc\n0\r\n\r\n"),
)  # fmt: skip

SOUND = {
    "a request": b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    "an empty line before it": b"\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    "an empty host": b"GET /a HTTP/1.1\r\nHost:\r\n\r\n",
    "an IPv6 host": b"GET /a HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    "obs-text, tabs and empty values": b"GET /a HTTP/1.1\r\nX: \xe4\t b\r\nhost: \t a \r\nY:\r\n\r\n",
    "names that look like framing": b"GET /a HTTP/1.1\r\nX-Host: b\r\nHost: a\r\nX-Content-Length: z\r\nY: Host: c\r\n\r\n",
    "a body": _POST + b"Content-Length: 3\r\n\r\nabc",
    "a body of nothing": _POST + b"Content-Length: 0\r\n\r\n",
    "a body that looks like a request": _POST + b"Content-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "chunks": _POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
    "chunks in capitals": _POST + b"TRANSFER-ENCODING: \tChunked \r\n\r\n003\r\nabc\r\n00\r\n\r\n",
    "chunks with extensions": _CHUNKED + b'3;a\r\nabc\r\n1;b=c;d="e;\\"f"\r\nx\r\n0;g\r\n\r\n',
    "chunks with trailers": _CHUNKED + b"1\r\nx\r\n0\r\nX: y\r\nContent-Length: 7\r\n\r\n",
    "chunks of line ends": _CHUNKED + b"4\r\n\r\n\r\n\r\n0\r\n\r\n",
}
