"""Upstreams whose host vanishes, for ``test_liveness``: run it in ``unshare -rn``.

A veth pair leads to a second network namespace with a server in it. Once three connections are where the test wants
them (asked a moment ago; in the middle of a stream; idle in the pool) the server's end is set down: from then on
nothing is acknowledged and nothing is refused. Prints, as JSON, after how many seconds each was given up, and how.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

import uvloop

from relay.errors import RelayError
from relay.upstream import Client, Origin, Timeouts

PORT = 8000
STREAM = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n"
SHORT = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def _serve() -> None:
    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                if b" /slow " in head:  # lives, and reads nothing of a large body for longer than the limit
                    await asyncio.sleep(float(sys.argv[2]) * 1.2)
                    await reader.readexactly(SLOW_BYTES)
                if b" /hold " in head:
                    await asyncio.sleep(600)
                if b" /think " not in head:
                    writer.write(STREAM if b" /stream " in head else SHORT)

    server = await asyncio.start_server(on_connection, "10.9.0.2", PORT, limit=65_536)
    print("ready", flush=True)
    await server.serve_forever()


SLOW_BYTES = 32 * 1024 * 1024


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


async def _main(limit_s: float) -> dict[str, Any]:
    server = await asyncio.create_subprocess_exec(
        "unshare", "-n", sys.executable, __file__, "wait", str(limit_s), stdin=-1, stdout=-1
    )
    assert server.stdout is not None
    assert server.stdin is not None
    await server.stdout.readline()
    inside = ("nsenter", "-t", str(server.pid), "-n", "ip")
    _run("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(server.pid))
    for command in (("ip", "addr", "add", "10.9.0.1/24", "dev", "near"), ("ip", "link", "set", "near", "up")):
        _run(*command)
    for words in (("addr", "add", "10.9.0.2/24", "dev", "far"), ("link", "set", "far", "up")):
        _run(*inside, *words)
    server.stdin.write(b"go\n")
    await server.stdout.readline()
    try:
        return await _ask(limit_s, (*inside, "link", "set", "far", "down"))
    finally:
        server.kill()
        await server.wait()


async def _ask(limit_s: float, cut: tuple[str, ...]) -> dict[str, Any]:
    client = Client()
    origin = Origin("http", "10.9.0.2", PORT)
    timeouts = Timeouts(limit_s / 6, 600.0, 300.0, limit_s)

    async def ask(path: str, body: bytes = b"x") -> Any:
        return await client.request(origin, "POST", path, [], body, timeouts)

    # a server that lives, and does not read: TCP_USER_TIMEOUT would end it
    slow = await ask("/slow", bytes(SLOW_BYTES))
    lived = slow.status
    slow.close()
    streaming, thinking = await ask("/stream"), asyncio.create_task(ask("/think"))
    sending = asyncio.create_task(ask("/hold", bytes(SLOW_BYTES)))
    assert await streaming.read() == b"a"
    pooled = [await ask("/short") for _ in range(2)]
    for answer in pooled:
        await answer.body(10)
    for answer in pooled:
        answer.close()
    await asyncio.sleep(0.3)  # so that all is acknowledged
    _run(*cut)
    begin = time.monotonic()

    async def given_up(awaitable: Any) -> tuple[float, str]:
        try:
            await awaitable
        except RelayError as error:
            return time.monotonic() - begin, error.message
        return time.monotonic() - begin, "no error"

    async def emptied() -> None:
        while client.counts(origin).idle:
            await asyncio.sleep(0.05)

    names = ("asked", "sending", "in a stream", "asked on a reused connection", "idle")
    waits = (thinking, sending, streaming.read(), ask("/think"), emptied())
    found = dict(zip(names, await asyncio.gather(*map(given_up, waits)), strict=True))
    streaming.close()
    await client.aclose()
    return {**found, "lives": (0.0, str(lived))}


if __name__ == "__main__":
    if sys.argv[1] == "wait":
        print("here", flush=True)
        sys.stdin.readline()
        asyncio.run(_serve())
        os._exit(0)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(_main(float(sys.argv[1])))))
