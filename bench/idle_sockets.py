"""What an idle WebSocket costs: memory of one worker with N open sockets, as a difference of its resident set.

    python -m bench.idle_sockets            # 5,000 sockets that never said anything
    python -m bench.idle_sockets 5000 --turn  # that each have had one turn, which they remember

The relay runs in a process of its own before the demo upstream; this process holds the clients' ends. Pages that the
relay needs once, whatever the number of sockets, are there before the count begins: 50 sockets come and go first.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import orjson

ROOT: Final = Path(__file__).parent.parent
_KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="
_SETTLED_S: Final = 1.0


class Cost(NamedTuple):
    """``rss_bytes`` a socket, over ``count`` of them; ``opened_per_s`` is how fast one client opened them."""

    count: int
    rss_bytes: float
    opened_per_s: float


@contextlib.contextmanager
def relay() -> Iterator[tuple[int, int]]:
    """A relay with the built-in demo behind it: its process id and port."""
    with tempfile.TemporaryDirectory(prefix="relay-idle-") as folder:
        kept = {**os.environ, "XDG_DATA_HOME": folder, "HOME": folder}
        environment = {name: value for name, value in kept.items() if not name.endswith("_API_KEY")}
        command = [sys.executable, "-m", "relay", "serve", "--port", "0", "--log-level", "warning"]
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                address = process.stdout.readline().split("http://127.0.0.1:")[1]
                yield process.pid, int(address.split(".")[0].split()[0])
            finally:
                process.terminate()


def rss_bytes(pid: int) -> int:
    """Resident memory of one process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def open_socket(port: int) -> socket.socket:
    """A WebSocket after its handshake."""
    sock = socket.create_connection(("127.0.0.1", port))
    lines = [
        "GET /v1/responses HTTP/1.1",
        "host: 127.0.0.1",
        "authorization: Bearer sk-of-a-usual-length-0123456789abcdefghijklmnopqrstuvwxyz",
        "user-agent: idle",
        "upgrade: websocket",
        "connection: upgrade",
        f"sec-websocket-key: {_KEY}",
        "sec-websocket-version: 13",
    ]
    sock.sendall("\r\n".join([*lines, "", ""]).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    if not head.startswith(b"HTTP/1.1 101"):
        raise RuntimeError(head.decode())
    return sock


def take_turn(sock: socket.socket) -> None:
    """One short response, to its end."""
    body = orjson.dumps({"type": "response.create", "model": "demo-pace-0", "input": "Hello there.", "store": False})
    sock.sendall(bytes([0x81, 0x80 | len(body)]) + b"\0\0\0\0" + body)  # a text frame with a mask of zeros
    said = b""
    while b"response.completed" not in said:
        read = sock.recv(65_536)
        if not read:
            raise RuntimeError("the relay closed the socket")
        said = said[-20:] + read


def measured(pid: int, port: int, count: int, *, turn: bool = False) -> Cost:
    """Open ``count`` sockets and let them be."""
    for _ in range(50):
        with open_socket(port) as sock:
            if turn:
                take_turn(sock)
    time.sleep(_SETTLED_S)
    before = rss_bytes(pid)
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            sock = stack.enter_context(open_socket(port))
            if turn:
                take_turn(sock)
        took = time.perf_counter() - started
        time.sleep(_SETTLED_S)
        return Cost(count, (rss_bytes(pid) - before) / count, count / took)


def main() -> None:
    """Measure and say it in one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=5_000)
    parser.add_argument("--turn", action="store_true", help="each socket has had one turn")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with relay() as (pid, port):
        cost = measured(pid, port, options.count, turn=options.turn)
    print(f"{cost.count} sockets: {cost.rss_bytes:,.0f} bytes each, opened at {cost.opened_per_s:,.0f}/s")


if __name__ == "__main__":
    main()
