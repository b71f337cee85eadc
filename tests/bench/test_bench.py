"""The end-to-end suite runs: every load with tiny counts, and a token that is lost or misplaced fails it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from bench.clients import FORMS, HTTP, Answer, Connection, Failed, Socket, Tally, Whole, frame
from bench.loads import LOADS
from bench.proc import cpu_ns, family
from bench.processes import Child
from tests.support import run, until

ROOT = Path(__file__).parent.parent.parent


def test_every_load_runs_and_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    command = [sys.executable, "-m", "bench", "--quick", "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = orjson.loads(path.read_bytes())
    assert {row["load"] for row in report["rows"]} == set(LOADS)
    measured = {(row["load"], row["path"]): row["figures"] for row in report["rows"]}
    for (load, path_name), figures in measured.items():
        assert load in done.stdout
        assert figures, (load, path_name)
    assert measured["paced", "chat → SSE"]["value"][0] > 0
    assert 0.05 < measured["start", "chat → SSE"]["value"][0] < 30


@pytest.mark.parametrize(
    ("numbers", "why"),
    [
        ([1, 2, 3], None),
        ([1, 3], "after token 1 came"),
        ([1, 2], "2 tokens of 3"),
        ([2, 1, 3], "after token 0 came"),
        ([1, 2, 2, 3], "after token 2 came"),
        ([1, 2, 3, 4], "4 tokens of 3"),
    ],
)
def test_a_token_that_is_lost_or_misplaced_fails(numbers: list[int], why: str | None) -> None:
    stream = b"".join(b'data: {"delta":"%d ","n":0}\n\n' % number for number in numbers)
    stream += b"event: response.completed\ndata: {}\n\ndata: [DONE]\n\n"

    async def main() -> None:
        for size in range(1, len(stream) + 1):
            tally = Tally()
            answer = Answer(FORMS["responses", "sse"], 3, False, tally)
            for at in range(0, len(stream), size):
                answer.feed(stream[at : at + size], time.monotonic_ns())
            answer.close()
            assert tally.tokens == 3
            assert len(tally.firsts) == 1

    if why is None:
        run(main())
    else:
        with pytest.raises(Failed, match=why):
            run(main())


def test_stamps_are_delays_and_must_not_go_back() -> None:
    async def main() -> None:
        tally = Tally()
        answer = Answer(FORMS["responses", "sse"], 3, True, tally)
        answer.feed(b'data: {"delta":"1000 "}\n\ndata: {"delta":"2000 "}\n\n', 5000)
        assert tally.delays == [4000, 3000]
        answer.feed(b'data: {"delta":"1999 "}\n\n', 6000)

    with pytest.raises(Failed, match="made before"):
        run(main())


@pytest.mark.parametrize(
    "stream", [b"data: [DONE]\n\n", b'event: response.failed\ndata: {"type":"response.failed"}\n\n']
)
def test_an_end_without_completion_fails(stream: bytes) -> None:
    async def main() -> None:
        answer = Answer(FORMS["responses", "sse"], 1, False, Tally())
        answer.feed(stream, 1)
        answer.close()

    with pytest.raises(Failed):
        run(main())


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 10_000])
def test_chunked_bodies_are_read_in_any_split(size: int) -> None:
    body = b"5\r\nhello\r\n10\r\n, chunked world!\r\n0\r\n\r\n"
    assert _told_over_http(HEAD + body, size) == b"hello, chunked world!"
    assert _told_over_http(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", size) == b"hello"


def _told_over_http(answer: bytes, size: int) -> bytes:
    async def main() -> bytes:
        whole = Whole(b"o")
        done: list[Connection] = []
        connection = HTTP(Tally(), done.append)
        connection.connection_made(_Nowhere())
        connection.begin(b"", whole)
        for at in range(0, len(answer), size):
            connection.take(answer[at : at + size], 0)
        assert done == [connection]
        return whole.data()

    return run(main())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 100_000])
def test_web_socket_messages_are_read_in_any_split_and_pings_answered(size: int) -> None:
    long = b'{"delta":"1 ","x":"' + b"x" * 70_000 + b'"}'
    stream = b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x89\x02hi" + b"\x81\x0d" + b'{"delta":"0"}'
    stream += b"\x81\x7f" + len(long).to_bytes(8) + long
    end = b'{"type":"response.completed","text":"%b"}' % (b"x" * 200)
    stream += b"\x81\x7e" + len(end).to_bytes(2) + end

    async def main() -> None:
        tally = Tally()
        done: list[Connection] = []
        connection, wire = Socket(tally, done.append), _Nowhere()
        connection.connection_made(wire)
        connection.begin(b"", Answer(FORMS["responses", "ws"], 1, False, tally))
        for at in range(0, len(stream), size):
            connection.take(stream[at : at + size], 0)
        assert done == [connection]
        assert tally.tokens == 1
        assert frame(b"hi", 0x8A) in wire.written

    run(main())


class _Nowhere(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))


def test_cpu_time_counts_all_threads_in_nanoseconds() -> None:
    before, clock = cpu_ns([os.getpid()]), time.process_time_ns()
    while time.process_time_ns() - clock < 50_000_000:
        pass
    assert cpu_ns([os.getpid()]) - before == pytest.approx(time.process_time_ns() - clock, rel=0.1)


def test_children_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from bench.processes import Child\n"
        f"child = Child('sleep', ['sleep', '100'], Path({str(tmp_path / 'log')!r}))\n"
        "print(child.process.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdin is not None
    child = int(parent.stdout.readline())
    assert child in family(parent.pid)
    parent.kill()
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()
    run(until(lambda: not _runs(child)))


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_child_that_does_not_start_says_why(tmp_path: Path) -> None:
    child = Child("shell", ["sh", "-c", "echo that is why >&2"], tmp_path / "log")
    with pytest.raises(RuntimeError, match="that is why"):
        child.wait_for(b"listens on")
    child.stop()
