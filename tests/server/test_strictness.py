"""Every strictness rule, on both parsers, through real sockets; whole and byte by byte."""

from __future__ import annotations

import orjson
import pytest

from tests.server.breaches import BREACHES, SOUND, Breach
from tests.server.support import PARSERS, Client, echo, serving
from tests.support import all_of, run

STATUS = {"bad_request": 400, "method_not_allowed": 405}


async def refusal(server, breach: Breach, bytewise: bool) -> None:
    client = await Client.connect(server)
    # A request that breaks a rule must not disturb the one before it on the connection, nor be taken for part of it.
    client.write(b"GET /before HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.answer()).body == b"GET /before? "
    if bytewise:
        await client.write_bytewise(breach.data)
    else:
        client.write(breach.data)
    answer = await client.answer()
    assert answer.status == STATUS[breach.kind], breach.name
    assert answer.headers["connection"] == "close"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    error = orjson.loads(answer.body)["error"]
    assert error["message"] == f"The HTTP request has {breach.rule}."
    assert error["code"] == breach.kind
    assert error["type"] == "invalid_request_error"
    assert await client.ended() == b""
    client.leave()


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("http", PARSERS)
@pytest.mark.parametrize("part", range(4))
def test_breaches_are_refused(http: str, bytewise: bool, part: int) -> None:
    async def main() -> None:
        async with serving(echo, http=http) as server:
            await all_of(*(refusal(server, breach, bytewise) for breach in BREACHES[part::4]))
            assert server.tasks == 0

    run(main())


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("http", PARSERS)
def test_sound_messages_are_served(http: str, bytewise: bool) -> None:
    bodies = {
        "a body": b"abc",
        "a body that looks like a request": b"GET / HTTP/1.1\r\n\r\n",
        "chunks": b"abc0123456789",
        "chunks in capitals": b"abc",
        "chunks with extensions": b"abcx",
        "chunks with trailers": b"x",
        "chunks of line ends": b"\r\n\r\n",
    }

    async def main() -> None:
        async with serving(echo, http=http) as server:
            client = await Client.connect(server)
            for name, data in SOUND.items():
                if bytewise:
                    await client.write_bytewise(data)
                else:
                    client.write(data)
                answer = await client.answer()
                assert answer.status == 200, name
                expected = b"POST /p? " if data.startswith(b"POST") else b"GET /a? "
                assert answer.body == expected + bodies.get(name, b""), name
            client.leave()

    run(main())


@pytest.mark.parametrize("http", PARSERS)
def test_a_body_that_breaks_off_is_refused_while_the_app_reads_it(http: str) -> None:
    ended = []

    async def app(scope, receive, send) -> None:
        try:
            while (await receive())["type"] == "http.request":
                pass
        finally:
            ended.append(scope["path"])

    async def main() -> None:
        async with serving(app, http=http) as server:
            client = await Client.connect(server)
            client.write(b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            while not server.tasks:
                await client.write_bytewise(b"3\r\nabc\r\n")
            client.write(b"zzz\r\n")
            assert (await client.answer()).status == 400
            assert await client.ended() == b""
            assert ended == ["/x"]

    run(main())
