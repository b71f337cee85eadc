"""Descriptors: what is taken of the system's, what fits, and running out of them (operate.md L8)."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relay.server import descriptors
from relay.server.descriptors import fitting_connections, raise_limit

INFINITY = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "granted", "told"),
    [
        (1_024, 4_096, 4_096, (4_096, 4_096)),
        (1_024, 2_000_000, 1_048_576, (1_048_576, 2_000_000)),
        (1_024, INFINITY, 1_048_576, (1_048_576, INFINITY)),
        (4_096, 4_096, 4_096, None),
        (2_000_000, 2_000_000, 2_000_000, None),
        (INFINITY, INFINITY, 1_048_576, None),
    ],
)
def test_the_soft_limit_becomes_the_hard_one(
    soft: int, hard: int, granted: int, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: seen.append(limits))
    assert raise_limit() == granted
    assert seen == ([told] if told else [])


def test_a_system_that_grants_less_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(which: int, limits: Any) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_limit() == 256


@pytest.mark.parametrize(
    ("wanted", "upstreams", "limit", "fitting"),
    [
        (10_000, 1_000, 1_048_576, 10_000),
        (10_000, 1_000, 11_064, 10_000),
        (10_000, 1_000, 11_063, 9_999),
        (10_000, 1_000, 4_096, 3_032),
        (10_000, 1_000, 1_024, 256),  # a quarter at least
        (100, 1_000, 1_024, 100),
        (1, 1, 1, 1),
    ],
)
def test_how_many_connections_fit(wanted: int, upstreams: int, limit: int, fitting: int) -> None:
    assert fitting_connections(wanted, upstreams, limit) == fitting


STARVING = """
import asyncio, logging, os, resource, socket, subprocess, sys
import uvloop
from relay.config import ServerSettings
from relay.server import Server

logging.basicConfig(level="INFO", stream=sys.stdout, format="%(levelname)s %(message)s")

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})

CLIENT = '''
import socket, sys, time
port = int(sys.argv[1])
many = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
print("connected", flush=True)
sys.stdin.readline()
for one in many:
    one.close()
answer, until = b"", time.monotonic() + 2.0  # the server has to see their ends
while not answer and time.monotonic() < until:
    last = socket.create_connection(("127.0.0.1", port))
    last.settimeout(5)
    try:
        last.sendall(b"GET / HTTP/1.1\\\\r\\\\nHost: a\\\\r\\\\n\\\\r\\\\n")
        answer = last.recv(100)
    except ConnectionError:
        pass
print(answer.split(b"\\\\r\\\\n")[0].decode(), flush=True)
'''

async def main():
    server = Server(app, ServerSettings(port=0))
    await server.start()
    client = await asyncio.create_subprocess_exec(sys.executable, "-c", CLIENT, str(server.port), stdin=-1, stdout=-1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 20, hard))
    print((await client.stdout.readline()).decode().strip(), flush=True)
    await asyncio.sleep(2.2)
    client.stdin.write(b"go\\n")
    print((await client.stdout.readline()).decode().strip(), flush=True)
    await client.wait()
    await server.stop(0)

with asyncio.Runner(loop_factory=getattr(sys.modules[sys.argv[1]], "new_event_loop")) as runner:
    runner.run(main())
"""


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_running_out_is_said_once_and_survived(loop: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STARVING, loop],
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
        cwd=Path(__file__).parent.parent.parent,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    said = [line for line in lines if line.startswith("ERROR")]
    assert len(said) == 1, lines
    assert said[0].startswith("ERROR out of file descriptors (EMFILE): all ")
    assert lines[-1] == "HTTP/1.1 200 OK"
    assert done.stderr == ""


def test_other_faults_of_the_loop_go_where_they_went() -> None:
    class Loop:
        """What ``Watch`` asks of a loop."""

        def __init__(self, handler: Any) -> None:
            self.handler = handler
            self.told: list[Any] = []

        def get_exception_handler(self) -> Any:
            return self.handler

        def default_exception_handler(self, context: Any) -> None:
            self.told.append(context)

        def time(self) -> float:
            return 0.0

    told: list[Any] = []
    plain, handled = Loop(None), Loop(lambda loop, context: told.append(context))
    for loop in (plain, handled):
        descriptors.Watch(loop)._on_exception(loop, {"message": "something else"})  # type: ignore[arg-type]
    assert plain.told == told == [{"message": "something else"}]
