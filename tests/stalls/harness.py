"""A relay in a process of its own, inputs for it, and how long others wait meanwhile (decision 61).

``stage()`` is the fixture: one relay for many inputs. ``Stage.play(Input)`` sends one request through it to an upstream
that answers with given bytes, while a second process asks ``/healthz`` every 5 ms, and says how long the longest of
these waited, and by how much the relay's peak of memory grew. ``check`` holds that against the bounds.

A new input is a row: ``Input("name", request={...} or bytes, answer=b"the upstream's body")``.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tests.app.upstreams import first, token

MIB = 2**20
QUIET_S, LOUD_S = 0.05, 0.12  # the longest wait: what has at most 1 MiB, whatever is at the limits
ROOM_MIB, ROOM_FACTOR = 128, 8  # decision 61: 128 MiB + 8 × the bytes
PATHS = {"chat": "/v1", "responses": "/v1", "anthropic": "", "gemini": ""}
DIALECTS = tuple(PATHS)

_PROBE = """
import select, socket, sys, time
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
longest, asks = 0.0, False
while True:
    if select.select([sys.stdin.buffer], [], [], 0.005 if asks else None)[0]:
        if not sys.stdin.buffer.read(1):
            break
        asks = not asks
        print(longest, flush=True)
        longest = 0.0
        continue
    began = time.monotonic()
    sock.sendall(b"GET /healthz HTTP/1.1\\r\\nhost: 127.0.0.1\\r\\n\\r\\n")
    data = b""
    while not data.endswith(b"}"):
        piece = sock.recv(65536)
        if not piece:
            sys.exit("the relay closed the connection")
        data += piece
    longest = max(longest, time.monotonic() - began)
"""


@dataclass(frozen=True)
class Input:
    """One request and the upstream's answer to it. Bytes go out as they are; a client's are its whole body."""

    name: str
    request: dict[str, Any] | Callable[[], dict[str, Any] | bytes] | bytes | None = None
    answer: Callable[[], bytes] | bytes | None = None
    """The body; None: two words."""
    content_type: str = "text/event-stream"
    status: int = 200
    dialect: str = "chat"
    transport: str = "sse"
    """``sse``, ``json`` or ``ws``."""
    path: str = "/v1/responses"
    frames: Callable[[bytes], bytes] | None = None
    """ws: what is sent for the message in place of one plain frame."""
    deflate: bool = False
    """ws: offer permessage-deflate."""
    longest_s: float | None = None
    """A bound of its own, with its reason in the row."""
    room_mib: float | None = None
    times: int = 1
    """As often on one connection."""

    def __str__(self) -> str:
        return f"{self.name}-{self.dialect}-{self.transport}"


@dataclass(frozen=True)
class Play:
    """What happened. ``said``: what the client got, without HTTP's framing on a WebSocket."""

    longest_s: float
    grown_mib: float
    seconds: float
    cpu_s: float
    said: bytes
    bytes_in: int

    @property
    def status(self) -> int:
        return int(self.said[9:12])

    @property
    def room_mib(self) -> float:
        return ROOM_MIB + ROOM_FACTOR * self.bytes_in / MIB

    @property
    def bound_s(self) -> float:
        return QUIET_S if self.bytes_in <= MIB else LOUD_S


def words(dialect: str, text: str = "two words", pieces: int = 1) -> bytes:
    """A whole stream that says ``text``, as often as there are ``pieces``."""
    return first(dialect) + b"".join(token(dialect, text, at) for at in range(pieces)) + END[dialect]


def event(content: dict[str, Any], name: str | None = None) -> bytes:
    """One server-sent event; its name is the type that it has."""
    name = name or content.get("type")
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + orjson.dumps(content) + b"\n\n"


END = {
    "chat": event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}) + b"data: [DONE]\n\n",
    "responses": event(
        {
            "type": "response.completed",
            "sequence_number": 999_999_999,
            "response": {"id": "resp_up", "object": "response", "status": "completed", "output": [], "usage": None},
        }
    ),
    "anthropic": event({"type": "content_block_stop", "index": 0})
    + event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}})
    + event({"type": "message_stop"}),
    "gemini": event({"candidates": [{"content": {"role": "model", "parts": []}, "finishReason": "STOP", "index": 0}]}),
}


class _Upstream(threading.Thread):
    """Answers every request with ``answer``, one connection each, in a thread of the test's process."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.answer = b""

    def run(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, suppress(OSError):
            data = b""
            while b"\r\n\r\n" not in data:
                piece = sock.recv(65_536)
                if not piece:
                    return
                data += piece
            head, _, rest = data.partition(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            left = sum(int(line[15:]) for line in lines if line.startswith(b"content-length:")) - len(rest)
            while left > 0:
                left -= len(sock.recv(min(left, 2**20))) or left
            sock.sendall(self.answer)


class Stage:
    """One relay with an upstream of each dialect."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, upstream: _Upstream) -> None:
        self.process = process
        self.port = port
        self._upstream = upstream
        self._probe = subprocess.Popen(
            [sys.executable, "-S", "-c", _PROBE, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def play(self, one: Input) -> Play:
        """Send it, and wait for the end of the answer."""
        request = _body(one)
        answer = one.answer() if callable(one.answer) else one.answer
        answer = words(one.dialect) if answer is None else answer
        head = f"HTTP/1.1 {one.status} X\r\ncontent-type: {one.content_type}\r\ncontent-length: {len(answer)}\r\n"
        self._upstream.answer = f"{head}connection: close\r\n\r\n".encode() + answer
        message = _wrapped(one, request)
        before = self._memory_mib("VmRSS")
        (Path("/proc") / str(self.process.pid) / "clear_refs").write_text("5")
        self._toggle()
        cpu, began = self._cpu_s(), time.monotonic()
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as sock:
            said = _talk(sock, message, one)
        seconds, cpu = time.monotonic() - began, self._cpu_s() - cpu
        time.sleep(0.05)  # what is let go afterwards counts too
        longest = self._toggle()
        grown = self._memory_mib("VmHWM") - before
        return Play(longest, grown, seconds, cpu, said, len(request) + len(answer))

    def close(self) -> None:
        self._probe.terminate()
        self._probe.communicate()
        self.process.terminate()
        self.process.wait(30)
        self._upstream.listener.close()

    def _toggle(self) -> float:
        """Start or stop asking; the longest wait since the start."""
        stdin, stdout = self._probe.stdin, self._probe.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(b"x")
        stdin.flush()
        return float(stdout.readline())

    def _memory_mib(self, field: str) -> float:
        text = (Path("/proc") / str(self.process.pid) / "status").read_text()
        return int(text.split(f"{field}:")[1].split()[0]) / 1024

    def _cpu_s(self) -> float:
        fields = (Path("/proc") / str(self.process.pid) / "stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def check(stage: Stage, one: Input, tries: int = 3) -> Play:
    """Play it until the wait and the memory are within the bounds, ``tries`` times at most."""
    seen = []
    for _ in range(tries):
        play = stage.play(one)
        bound, room = one.longest_s or play.bound_s, one.room_mib or play.room_mib
        seen.append(f"longest {play.longest_s * 1000:.0f} of {bound * 1000:.0f} ms, ")
        seen[-1] += f"grown {play.grown_mib:.0f} of {room:.0f} MiB, took {play.seconds:.2f} s, {play.cpu_s:.2f} s CPU"
        if play.longest_s < bound and play.grown_mib < room:
            if os.environ.get("RELAY_STALLS"):
                print(f"\n{one}: {seen[-1]}")
            return play
    raise AssertionError(f"{one}: {seen}; the answer ends with {play.said[-300:]!r}")


@contextmanager
def relay_stage(folder: Path, server: str = "") -> Iterator[Stage]:
    """A relay in a process of its own; ``server``: more lines of ``[server]``."""
    upstream = _Upstream()
    upstream.start()
    tables = "".join(
        f'[upstreams.{name}]\ndialect = "{name}"\nbase_url = "http://127.0.0.1:{upstream.port}{path}"\n'
        f'api_key = "stall-test-canary"\nmodels = ["{name}-*"]\n'
        for name, path in PATHS.items()
    )
    config = folder / "relay.toml"
    config.write_text(
        f'[server]\nport = 0\nlog_level = "warning"\n{server}\n{tables}\n[store]\npath = "{folder}/relay.db"\n'
    )
    command = [sys.executable, "-m", "relay", "serve", "--config", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    stage: Stage | None = None
    try:
        assert select.select([process.stdout], [], [], 30)[0], "the relay did not start"
        line = process.stdout.readline()
        stage = Stage(process, int(line.split(b"http://127.0.0.1:")[1].split(b".")[0].split()[0]), upstream)
        yield stage
    finally:
        if stage is not None:
            stage.close()
        else:
            process.kill()
        process.stdout.close()


# --- the client


def _body(one: Input) -> bytes:
    request = one.request() if callable(one.request) else one.request
    if isinstance(request, bytes):
        return request
    usual = {"model": f"{one.dialect}-m", "input": "hi", "store": False}
    usual |= {"type": "response.create"} if one.transport == "ws" else {"stream": one.transport == "sse"}
    return orjson.dumps(usual | (request or {}))


def _wrapped(one: Input, body: bytes) -> bytes:
    """The body in what its transport puts around it."""
    if one.transport == "ws":
        return one.frames(body) if one.frames is not None else frame(body)
    head = f"POST {one.path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return f"{head}connection: close\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def frame(payload: bytes, *, compressed: bool = False) -> bytes:
    """A client's text frame; its mask is zero (RFC 6455 §5.2)."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2) if size < 65_536 else b""
    return bytes([0xC1 if compressed else 0x81]) + (length or b"\xff" + size.to_bytes(8)) + bytes(4) + payload


def _talk(sock: socket.socket, message: bytes, one: Input) -> bytes:
    if one.transport != "ws":
        with suppress(ConnectionError):  # it may be refused before it was read
            sock.sendall(message)
        return _until_closed(sock)
    head = "GET /v1/responses HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    head += "sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    head += "sec-websocket-extensions: permessage-deflate\r\n" if one.deflate else ""
    sock.sendall(f"{head}\r\n".encode())
    reader = sock.makefile("rb")
    while reader.readline().strip():
        pass
    sending = threading.Thread(target=_send, args=(sock, message * one.times), daemon=True)
    sending.start()
    said = b""
    for _ in range(one.times):
        while True:
            opcode, said = _message(reader)
            if opcode == 8 or (opcode == 1 and said[:60].find(b'"type":"error"') > 0):
                break
            if b'"type":"response.' in said[:120] and any(end in said[:160] for end in _ENDS):
                break
    sending.join()
    return said


_ENDS = (b"response.completed", b"response.incomplete", b"response.failed")


def _send(sock: socket.socket, data: bytes) -> None:
    with suppress(OSError):
        sock.sendall(data)


def _message(reader: Any) -> tuple[int, bytes]:
    head = reader.read(2)
    if len(head) < 2:
        return 8, b""
    size = head[1]
    if size >= 126:
        size = int.from_bytes(reader.read(2 if size == 126 else 8))
    return head[0] & 15, reader.read(size)


def _until_closed(sock: socket.socket) -> bytes:
    pieces = []
    with suppress(ConnectionError):
        while piece := sock.recv(MIB):
            pieces.append(piece)
    return b"".join(pieces)
