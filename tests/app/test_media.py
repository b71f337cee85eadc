"""URLs that the relay fetches for an upstream that cannot: what it reaches, and what it must never reach.

Source: issue 3 part 6 (20 MB, 10 s, content types; never private, loopback, link-local or metadata addresses, checked
after name resolution and at each redirect); OWASP SSRF Prevention Cheat Sheet (forms of addresses); RFC 4291, 6052,
3056 (addresses that carry an IPv4 address).
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from relay.app import media
from relay.app.media import _refuse_private, _shown
from relay.errors import RelayError
from tests.app.support import Relay, post, relaying
from tests.oracle import check_error_body
from tests.server.support import Answer, Client
from tests.support import run

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


class Web:
    """A web server on loopback: pages by path, and what was asked."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[bytes] = []
        self.left = asyncio.Event()
        self.pages: dict[str, bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]] = {}

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def page(self, path: str, body: bytes = PNG, content_type: str | None = "image/png", status: int = 200) -> str:
        line = f"content-type: {content_type}\r\n" if content_type is not None else ""
        self.pages[path] = f"HTTP/1.1 {status} X\r\n{line}content-length: {len(body)}\r\n\r\n".encode() + body
        return self.url(path)

    def redirect(self, path: str, location: str | None, status: int = 302) -> str:
        line = f"location: {location}\r\n" if location is not None else ""
        self.pages[path] = f"HTTP/1.1 {status} X\r\n{line}content-length: 0\r\n\r\n".encode()
        return self.url(path)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.asked.append(head)
                page = self.pages[head.split(b" ")[1].decode().split("?")[0]]
                if isinstance(page, bytes):
                    writer.write(page)
                else:
                    await page(writer)
                    await reader.read()
                    self.left.set()
        except (asyncio.IncompleteReadError, ConnectionError, KeyError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def fetching(**upstream: Any) -> AsyncIterator[tuple[Relay, Web]]:
    """A relay whose upstream fetches nothing, and a web server that it may fetch from."""
    web = Web()
    server = await asyncio.start_server(web.serve, "127.0.0.1", 0)
    web.port = server.sockets[0].getsockname()[1]
    settings = {"quirks": "llamacpp", "fetch_hosts": ("127.0.0.1",), **upstream}
    try:
        async with relaying(upstream=settings) as relay:
            yield relay, web
    finally:
        server.close()


def image(url: str) -> dict[str, Any]:
    return {"type": "input_image", "image_url": url, "detail": "auto"}


async def ask(relay: Relay, *parts: dict[str, Any], items: list[Any] | None = None) -> Answer:
    items = items or [{"role": "user", "content": [{"type": "input_text", "text": "Look."}, *parts]}]
    client = await Client.connect(relay.port)
    client.write(post({"model": "demo", "input": items}))
    answer = await client.answer()
    client.leave()
    return answer


def refusal(answer: Answer) -> dict[str, Any]:
    body = orjson.loads(answer.body)
    check_error_body(body)
    assert answer.status == 400, body
    error: dict[str, Any] = body["error"]
    return error


def sent_parts(relay: Relay) -> list[dict[str, Any]]:
    """The content of the last message that the upstream got."""
    content: list[dict[str, Any]] = orjson.loads(relay.demo.requests[-1].body)["messages"][-1]["content"]
    return content


# --- what is fetched


def test_an_image_arrives_as_a_data_url() -> None:
    async def fetch() -> None:
        async with fetching() as (relay, web):
            answer = await ask(
                relay, image(web.page("/a.png") + "?size=1#x"), image(web.page("/b", b"GIF", "image/gif"))
            )
            assert answer.status == 200, answer.body
            urls = [part["image_url"]["url"] for part in sent_parts(relay) if part["type"] == "image_url"]
            assert urls == [
                "data:image/png;base64," + base64.b64encode(PNG).decode(),
                "data:image/gif;base64," + base64.b64encode(b"GIF").decode(),
            ]
            first = web.asked[0].lower()
            assert first.startswith(b"get /a.png?size=1 http/1.1\r\n")
            assert b"authorization" not in first
            assert b"upstream-canary" not in first

    run(fetch())


def test_the_same_url_is_fetched_once() -> None:
    async def fetch() -> None:
        async with fetching() as (relay, web):
            url = web.page("/a.png")
            assert (await ask(relay, image(url), image(url))).status == 200
            assert len(web.asked) == 1
            assert sum(part["type"] == "image_url" for part in sent_parts(relay)) == 2

    run(fetch())


def test_an_upstream_that_fetches_itself_gets_the_url() -> None:
    async def fetch() -> None:
        async with fetching(quirks="openai") as (relay, web):
            url = web.page("/a.png")
            assert (await ask(relay, image(url))).status == 200
            assert web.asked == []
            assert sent_parts(relay)[-1]["image_url"]["url"] == url

    run(fetch())


def test_redirects_are_followed() -> None:
    async def fetch() -> None:
        async with fetching() as (relay, web):
            web.page("/end")
            web.redirect("/c", "/end", 308)
            web.redirect("/b", web.url("/c"), 301)
            url = web.redirect("/a", "b")
            assert (await ask(relay, image(url))).status == 200
            assert len(web.asked) == 4

    run(fetch())


# --- what is never reached

PRIVATE = [
    "127.0.0.1",
    "127.8.9.1",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "017700000001",
    "127.1",
    "0",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "192.0.0.192",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[::127.0.0.1]",
    "[fe80::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[ff02::1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::1]",
    "[2001::1]",
    "[2001:db8::1]",
    "\u2460\u2461\u2466.0.0.1",
]


@pytest.mark.parametrize("host", PRIVATE)
def test_private_addresses_are_refused_in_every_spelling(host: str) -> None:
    async def fetch() -> None:
        async with fetching(fetch_hosts=()) as (relay, web):
            web.page("/a.png")
            error = refusal(await ask(relay, image(web.url("/a.png", host))))
            # what the resolver does not read as an address at all is not reached either
            assert error["code"] in ("invalid_image_url", "failed_to_download_image")
            assert error["param"] == "input[0].content[1].image_url"
            assert web.asked == []
            assert not relay.demo.requests

    run(fetch())


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("93.184.215.14", True),
        ("2606:4700:4700::1111", True),
        ("64:ff9b::5db8:d70e", True),  # NAT64 of a public address: what an IPv6-only network resolves to
        ("2002:5db8:d70e::1", True),
        ("::ffff:93.184.215.14", True),
        ("fe80::1%eth0", False),
        ("64:ff9b::a00:1", False),
        ("2002:c0a8:101::1", False),
        ("::ffff:10.0.0.1", False),
        ("4000::1", False),
        ("239.1.2.3", False),
    ],
)
def test_which_addresses_are_public(address: str, good: bool) -> None:
    if good:
        _refuse_private(address)
    else:
        with pytest.raises(RelayError):
            _refuse_private(address)


@pytest.mark.parametrize("target", ["http://localhost:{port}/secret", "http://[::ffff:127.0.0.1]:{port}/secret"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_a_private_address_is_refused(status: int, target: str) -> None:
    async def fetch() -> None:
        async with fetching() as (relay, web):
            web.page("/secret")
            error = refusal(await ask(relay, image(web.redirect("/a", target.format(port=web.port), status))))
            assert error["code"] == "invalid_image_url"
            assert "secret" not in error["message"], "where it leads is not the client's to know"
            assert len(web.asked) == 1

    run(fetch())


@pytest.mark.parametrize("location", ["file:///etc/passwd", "unix:/run/x.sock", "gopher://127.0.0.1/", "http://["])
def test_a_redirect_to_another_scheme_is_refused(location: str) -> None:
    async def fetch() -> None:
        async with fetching() as (relay, web):
            error = refusal(await ask(relay, image(web.redirect("/a", location))))
            assert error["code"] in ("invalid_image_url", "failed_to_download_image")
            assert "passwd" not in error["message"]

    run(fetch())


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "unix:/run/x.sock",
        "http://",
        "http:///x",
        "http://127.0.0.1:99999/x",
        "http://127.0.0.1:0/x",
        "http://user:pass-word@127.0.0.1/x",
        "http://127.0.0.1 /x",
        "http://127.0.0.1\r\nx: y/",
        "http://" + "a" * 300 + ".example/x",
        "http://\u00ad/x",
        "javascript:alert(1)",
        "/etc/passwd",
        "",
    ],
)
def test_what_is_no_fetchable_url_names_its_place(url: str) -> None:
    async def fetch() -> None:
        async with fetching() as (relay, _):
            error = refusal(await ask(relay, image(url)))
            assert (error["param"] or "").startswith("input[0].content[1]")
            assert "pass-word" not in error["message"]
            assert not relay.demo.requests

    run(fetch())


def test_fetch_hosts_name_a_host_and_nothing_else() -> None:
    async def fetch() -> None:
        async with fetching(fetch_hosts=("LocalHost",)) as (relay, web):
            web.page("/a.png")
            assert (await ask(relay, image(web.url("/a.png", "localhost")))).status == 200
            refusal(await ask(relay, image(web.url("/a.png", "127.0.0.1"))))
            assert len(web.asked) == 1

    run(fetch())


def test_urls_are_shown_without_what_may_be_secret() -> None:
    assert _shown("https://user:word@host/path?signature=x#y") == "https://host/path"
    assert _shown("https://host/path@2x.png?x=a@b") == "https://host/path@2x.png"
    assert len(_shown("https://host/" + "x" * 1000)) == 200


# --- what goes wrong


@pytest.mark.parametrize("status", [201, 204, 304, 400, 401, 404, 500, 503])
def test_other_statuses(status: int) -> None:
    async def fetch() -> None:
        async with fetching() as (relay, web):
            error = refusal(await ask(relay, image(web.page("/a", b"", status=status) + "?b=signature")))
            assert error["code"] == "failed_to_download_image"
            assert str(status) in error["message"]
            assert "signature" not in error["message"]

    run(fetch())


@pytest.mark.parametrize("location", [None, "/a", "/missing-too"])
def test_redirects_without_an_end(location: str | None) -> None:
    async def fetch() -> None:
        async with fetching() as (relay, web):
            url = web.redirect("/a", location)
            error = refusal(await ask(relay, image(url)))
            assert error["code"] == "failed_to_download_image"
            assert len(web.asked) <= media.REDIRECTS_LIMIT + 1

    run(fetch())


@pytest.mark.parametrize(
    ("content_type", "good"),
    [
        ("image/png; charset=binary", True),
        ("IMAGE/PNG", True),
        ("text/html; charset=utf-8", False),
        ("application/x-msdownload", False),
        ("video/mp4", False),
    ],
)
def test_content_types(content_type: str, good: bool) -> None:
    async def fetch() -> None:
        async with fetching() as (relay, web):
            body = PNG if good else b"no bytes of any known format"
            answer = await ask(relay, image(web.page("/a", body, content_type)))
            if good:
                assert answer.status == 200
                url = sent_parts(relay)[-1]["image_url"]["url"]
                assert url.startswith(f"data:{content_type.split(';')[0].lower()};base64,")
            else:
                assert refusal(answer)["code"] == "unsupported_image_media_type"

    run(fetch())


@pytest.mark.parametrize("content_type", [None, "application/octet-stream", "text/html", "image/jpeg", "nonsense"])
def test_first_bytes_beat_the_label(content_type: str | None) -> None:
    async def fetch() -> None:
        async with fetching() as (relay, web):
            assert (await ask(relay, image(web.page("/a", PNG[:20], content_type)))).status == 200
            assert sent_parts(relay)[-1]["image_url"]["url"].startswith("data:image/png;base64,")

    run(fetch())


def test_what_is_refused_by_its_first_bytes_is_not_read_whole() -> None:
    async def fetch() -> None:
        async with fetching() as (relay, web):
            page = web.page("/a", b"\0" * (media.LIMIT_BYTES + 1), "video/mp4")
            assert refusal(await ask(relay, image(page)))["code"] == "unsupported_image_media_type"

    run(fetch())


@pytest.mark.parametrize("framed", [True, False])
def test_size_is_bounded(framed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "LIMIT_BYTES", 100_000)

    async def endless(writer: asyncio.StreamWriter) -> None:
        length = b"content-length: 1000000000\r\n" if framed else b""
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n" + length + b"\r\n")
        while not writer.is_closing():
            writer.write(b"x" * 50_000)
            await writer.drain()

    async def fetch() -> None:
        async with fetching() as (relay, web):
            web.pages["/a"] = endless
            error = refusal(await ask(relay, image(web.url("/a"))))
            assert error["code"] == "image_too_large"
            assert (await ask(relay, image(web.page("/b", b"x" * 100_000)))).status == 200
            # together they may be twice as large
            urls = [web.page(f"/c{number}", b"x" * 80_000) for number in range(3)]
            error = refusal(await ask(relay, *map(image, urls)))
            assert (error["code"], error["param"]) == ("image_too_large", "input[0].content[3].image_url")

    run(fetch())


def test_the_limits_are_the_issues() -> None:
    assert (media.LIMIT_BYTES, media.LIMIT_S) == (20 * 2**20, 10)


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 9\r\n\r\nabc"])
def test_time_is_bounded_and_the_connection_is_left(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "LIMIT_S", 0.1)

    async def stall(writer: asyncio.StreamWriter) -> None:
        writer.write(head)

    async def fetch() -> None:
        async with fetching() as (relay, web):
            web.pages["/a"] = stall
            started = time.perf_counter()
            error = refusal(await ask(relay, image(web.url("/a"))))
            assert time.perf_counter() - started < 3
            assert error["code"] == "failed_to_download_image"
            assert error["param"] == "input[0].content[1].image_url"
            await web.left.wait()
            assert not relay.app.services.turns

    run(fetch())


@pytest.mark.parametrize(
    "page", [b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 9\r\n\r\nabc", b""]
)
def test_answers_that_break_off(page: bytes) -> None:
    async def cut(writer: asyncio.StreamWriter) -> None:
        writer.write(page)
        writer.close()

    async def fetch() -> None:
        async with fetching() as (relay, web):
            web.pages["/a"] = cut
            error = refusal(await ask(relay, image(web.url("/a"))))
            assert error["code"] == "failed_to_download_image"

    run(fetch())


def test_the_place_of_the_one_that_failed_is_named() -> None:
    async def fetch() -> None:
        async with fetching() as (relay, web):
            good, bad = web.page("/good"), web.page("/bad", status=404)
            error = refusal(await ask(relay, image(good), image(bad)))
            assert error["param"] == "input[0].content[2].image_url"
            call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
            output = {"type": "function_call_output", "call_id": "c", "output": [image(bad)]}
            error = refusal(await ask(relay, items=[{"role": "user", "content": "x"}, call, output]))
            assert error["param"] == "input[2].output[0].image_url"
            document = {"type": "input_file", "file_url": bad, "filename": "a.pdf"}
            error = refusal(await ask(relay, document))
            assert error["param"] == "input[0].content[1].file_url"

    run(fetch())


def test_there_are_at_most_32_urls() -> None:
    async def fetch() -> None:
        async with fetching() as (relay, web):
            urls = [web.page(f"/{number}") for number in range(33)]
            error = refusal(await ask(relay, *map(image, urls)))
            assert error["param"] == "input"
            assert web.asked == []
            assert (await ask(relay, *map(image, urls[:32]))).status == 200

    run(fetch())


def test_a_client_that_leaves_ends_the_download() -> None:
    asked = asyncio.Event()

    async def stall(writer: asyncio.StreamWriter) -> None:
        asked.set()

    async def fetch() -> None:
        async with fetching() as (relay, web):
            web.pages["/a"] = stall
            client = await Client.connect(relay.port)
            client.write(post({"model": "demo", "input": [{"role": "user", "content": [image(web.url("/a"))]}]}))
            await asked.wait()
            client.leave()
            await asyncio.wait_for(web.left.wait(), 2)

    run(fetch())
