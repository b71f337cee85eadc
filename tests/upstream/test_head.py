"""The request head. Expected bytes: RFC 9112 §3 and §5, written by hand."""

import pytest

from relay import __version__
from relay.errors import RelayError
from relay.upstream import Origin
from relay.upstream.head import encode_head

ORIGIN = Origin("http", "example.com", 8080)


def test_head_is_exactly_this() -> None:
    head = encode_head(ORIGIN, "POST", "/v1/x?y=1", [("Authorization", "Bearer k"), ("X-A", " b ")], 7)
    assert head == (
        b"POST /v1/x?y=1 HTTP/1.1\r\n"
        b"host: example.com:8080\r\n"
        b"user-agent: relay/" + __version__.encode() + b"\r\n"
        b"authorization: Bearer k\r\n"
        b"x-a: b\r\n"
        b"accept-encoding: identity\r\n"
        b"content-length: 7\r\n\r\n"
    )


def test_get_has_no_length_and_an_empty_post_has_one() -> None:
    assert b"content-length" not in encode_head(ORIGIN, "GET", "/", [], 0)
    assert b"content-length: 0\r\n" in encode_head(ORIGIN, "POST", "/", [], 0)


def test_framing_headers_of_the_caller_are_left_out() -> None:
    given = [
        ("Content-Length", "99"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "close"),
        ("Accept-Encoding", "br"),
    ]
    head = encode_head(ORIGIN, "POST", "/", given, 1)
    assert b"99" not in head
    assert b"chunked" not in head
    assert b"close" not in head
    assert head.count(b"accept-encoding:") == 1


def test_host_and_user_agent_can_be_given() -> None:
    head = encode_head(ORIGIN, "GET", "/", [("Host", "other"), ("User-Agent", "me")], 0)
    assert head.count(b"host: ") == 1
    assert b"host: other\r\n" in head
    assert b"user-agent: me\r\n" in head


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x", "a\r\nb: c"), ("x", "a\nb"), ("x", "a\rb"), ("x", "a\0b"), ("x", "\x1b"), ("x", "ключ"),
        ("x\r\ny", "1"), ("x y", "1"), ("", "1"), ("x:", "1"),
    ],
)  # fmt: skip
def test_smuggling_is_refused_without_the_value(name: str, value: str) -> None:
    with pytest.raises(RelayError) as caught:
        encode_head(ORIGIN, "POST", "/", [(name, value)], 0)
    assert caught.value.kind == "upstream_misconfigured"
    assert value not in caught.value.message.replace(repr(name), "") or value == "1"


@pytest.mark.parametrize(
    ("method", "target"), [("GET", "/a b"), ("GET", "/\r\n"), ("GE T", "/"), ("GET", ""), ("GET", "x")]
)
def test_bad_request_lines_are_refused(method: str, target: str) -> None:
    with pytest.raises(RelayError, match="method or path"):
        encode_head(ORIGIN, method, target, [], 0)
