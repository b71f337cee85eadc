"""The log's lines on their way out: a pipe that nobody reads holds nobody (spec/operate.md L7)."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.cli.lines import PIECE_BYTES, Direct, LinesHandler, Queued
from tests.server.support import Client
from tests.support import run

CAPACITY = 65_536
REQUEST = (
    b"POST /v1/responses HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 25\r\n\r\n"
    b'{"model":"m","input":"x"}'
)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, CAPACITY)
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def told(count: int) -> str:
    return f"{count} dropped"


def read_all(reader: int) -> bytes:
    """What comes until the pipe's other end is closed."""
    pieces = []
    while piece := os.read(reader, CAPACITY):
        pieces.append(piece)
    return b"".join(pieces)


def test_what_is_queued_is_written_in_order(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    lines = Queued(writer, told)
    for number in range(1_000):
        lines.write(b"line %d\n" % number)
    lines.close()
    os.close(writer)
    assert read_all(reader) == b"".join(b"line %d\n" % number for number in range(1_000))
    assert lines.lost == 0


@pytest.mark.parametrize(("lines_limit", "bytes_limit", "kept"), [(50, 1 << 20, 50), (1_000, 2_000, 20)])
def test_what_does_not_fit_is_counted_and_told(
    pipe: tuple[int, int], lines_limit: int, bytes_limit: int, kept: int
) -> None:
    reader, writer = pipe
    while True:  # nobody reads
        os.set_blocking(writer, False)
        try:
            os.write(writer, b"#" * (PIECE_BYTES - 1) + b"\n")
        except BlockingIOError:
            break
    lines = Queued(writer, told, lines_limit=lines_limit, bytes_limit=bytes_limit)
    for _ in range(500):
        lines.write(b"x" * 99 + b"\n")
    # the thread may have taken one piece's worth before the pipe was found full
    assert 500 - kept - PIECE_BYTES // 100 <= lines.lost <= 500 - kept
    lost = lines.lost
    collected: list[bytes] = []
    drain = threading.Thread(target=lambda: collected.append(read_all(reader)))
    drain.start()
    lines.write(b"after\n") if lost else None
    lines.close(10.0)
    os.close(writer)
    drain.join(10.0)
    said = [int(number) for number in re.findall(rb"(\d+) dropped", collected[0])]
    assert sum(said) in (lost, lost + 1)  # "after" may have come before there was room


def test_closing_waits_a_moment_for_a_reader_that_does_not_read(pipe: tuple[int, int]) -> None:
    _, writer = pipe
    lines = Queued(writer, told)
    for _ in range(1_000):
        lines.write(b"y" * 200 + b"\n")
    lines.close(0.05)  # returns


def test_a_reader_that_is_gone_costs_the_lines_and_nothing_else(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    lines = Queued(writer, told)
    lines.write(b"one\n")
    lines.close()
    assert lines.lost == 1


def test_a_process_without_a_thread_writes_what_is_taken_at_once(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    lines = Direct(writer, told)
    count = CAPACITY // PIECE_BYTES
    for _ in range(count + 3):
        lines.write(b"z" * 10_000 + b"\n")
    assert lines.lost == 3
    first = os.read(reader, CAPACITY)
    assert first == (b"z" * (PIECE_BYTES - 1) + b"\n") * count
    lines.write(b"more\n")
    assert os.read(reader, CAPACITY) == b"3 dropped\nmore\n"
    assert lines.lost == 0
    lines.close()


def test_a_failing_descriptor_is_counted(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    lines = Direct(writer, told)
    lines.write(b"one\n")
    assert lines.lost == 1


def test_a_line_that_cannot_be_formatted_is_told_as_logging_tells_it(capsys: pytest.CaptureFixture[str]) -> None:
    handler = LinesHandler(sys.stderr)
    handler.emit(logging.makeLogRecord({"msg": "%d", "args": ("word",)}))
    assert "Logging error" in capsys.readouterr().err


@pytest.mark.parametrize("workers", [1, 2])
def test_a_thousand_requests_pass_while_nobody_reads_stderr(
    workers: int, tmp_path: Path, pipe: tuple[int, int]
) -> None:
    """Each leaves a line; the pipe takes a few hundred of them, and the rest held every request until now."""
    reader, writer = pipe
    config = tmp_path / "relay.toml"
    # nobody listens there: each turn is refused at once, and is a line of the log
    config.write_text(
        f'[server]\nport = 0\nworkers = {workers}\n[store]\nkind = "sqlite"\npath = "{tmp_path}/store.db"\n'
        '[upstreams.none]\ndialect = "chat"\nbase_url = "http://127.0.0.1:9/v1"\n'
    )
    command = [sys.executable, "-m", "relay", "serve", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=writer, text=True) as child:
        os.close(writer)
        assert child.stdout is not None
        found = re.search(r"listens on http://127\.0\.0\.1:(\d+)", child.stdout.readline())
        assert found is not None
        port = int(found[1])

        async def ask() -> None:
            client = await Client.connect(port)
            for _ in range(1_000):
                client.write(REQUEST)
                assert (await client.answer()).status == 502
            client.writer.close()

        try:
            run(asyncio.wait_for(ask(), 60.0), 70.0)
        finally:
            child.terminate()
            child.wait(20.0)
        assert child.returncode == 0
        said = read_all(reader).decode()
    assert "upstream_unreachable" in said
