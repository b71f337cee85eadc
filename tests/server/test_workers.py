"""``serve`` in processes of its own: signals, workers, crashes, the parent's death."""

from __future__ import annotations

import asyncio
import http.client
import os
import platform
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import asyncio, os, resource, signal, sys
from relay.config import ServerSettings
from relay.server import Built, Limits, serve

ended = asyncio.Event()

def say(line):  # one write: the lines of several workers never mix
    os.write(1, line.encode() + b"\\n")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if "refuse" in sys.argv:
            await send({"type": "lifespan.startup.failed", "message": "no"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        say("shutdown")
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if scope["path"] == "/hang":
        while True:
            pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % os.getpid(), "more_body": True})
    if scope["path"] == "/long":
        try:
            await ended.wait()
        except asyncio.CancelledError:
            say("cancelled")
            raise
    if scope["path"] == "/churn":
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(100):
            blocks = [b"x" * 100_000 for _ in range(10)]
            del blocks
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        await send({"type": "http.response.body", "body": b" %d" % faults, "more_body": True})
    await send({"type": "http.response.body", "body": b" done"})

async def on_deadline():
    say("deadline")
    ended.set()

def build():
    return Built(app, lambda: say("drain"), on_deadline, lambda: say("unready"))

port, workers, drain = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
uds = sys.argv[4] if len(sys.argv) > 4 and sys.argv[4] != "refuse" else None
more = {name[6:].lower(): float(value) for name, value in os.environ.items() if name.startswith("RELAY_")}
hang_timeout_s, drain_delay_s = more.pop("hang_timeout_s", 0.0), more.pop("drain_delay_s", 0.0)
settings = ServerSettings(
    port=port, workers=workers, drain_timeout_s=drain, uds=uds,
    hang_timeout_s=hang_timeout_s, drain_delay_s=drain_delay_s,
)
limits = Limits(**{"restart_s": 0.05, "flush_s": 0.2, "grace_s": 0.1, **more})
sys.exit(serve(build, settings, limits=limits, on_ready=lambda port: say(f"ready {port}")))
"""


class Process:
    """A running ``serve``."""

    def __init__(self, *arguments: object, **more: float) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
        self.popen = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**environment, **{f"RELAY_{name.upper()}": str(value) for name, value in more.items()}},
        )
        assert self.popen.stdout is not None
        self.out = self.popen.stdout.fileno()
        self.said = b""
        self.port = 0
        self.answering = 0  # the process that answers what has begun

    def line(self) -> str:
        """The next line, or "" at the end."""
        while b"\n" not in self.said:
            assert select.select([self.out], [], [], 20)[0], "it says nothing"
            if not (data := os.read(self.out, 4096)):
                break
            self.said += data
        line, _, self.said = self.said.partition(b"\n")
        return line.decode().strip()

    def ready(self) -> None:
        word, port = self.line().split()
        assert word == "ready"
        self.port = int(port)

    def get(self, path: str = "/", timeout_s: float = 10) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def pid(self) -> int:
        """Who answers a request."""
        return int(self.get().split()[0])

    @contextmanager
    def begun(self, path: str) -> Iterator[socket.socket]:
        """A request whose response has begun, up to its first chunk, which says who answers."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            data = b""
            while data.partition(b"\r\n\r\n")[2].count(b"\r\n") < 2:
                data += sock.recv(1000)
            self.answering = int(data.split(b"\r\n")[-2])
            yield sock

    def end(self) -> tuple[int, list[str]]:
        out, _ = self.popen.communicate(timeout=20)
        return self.popen.returncode, (self.said + out).decode().split("\n")[:-1]


@contextmanager
def running(*arguments: object, **more: float) -> Iterator[Process]:
    process = Process(*arguments, **more)
    try:
        process.ready()
        yield process
    finally:
        if process.popen.poll() is None:
            process.popen.kill()
        process.popen.communicate(timeout=20)


def eventually(condition: Callable[[], bool], timeout_s: float = 15) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


def pending(pid: int) -> str:
    """The signals that were sent to a process and that it has not yet taken, a hexadecimal mask."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("ShdPnd:"))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_stops_it_gracefully(number: signal.Signals, workers: int) -> None:
    with running(0, workers, 10) as process:
        assert process.get().endswith(" done")
        process.popen.send_signal(number)
        code, lines = process.end()
        assert (code, sorted(lines)) == (0, ["drain"] * workers + ["shutdown"] * workers + ["unready"] * workers)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_deadline_and_the_flush(workers: int) -> None:
    with running(0, workers, 0.2) as process:
        with process.begun("/long") as sock:
            process.popen.terminate()
            assert sock.makefile("rb").read().endswith(b"5\r\n done\r\n0\r\n\r\n")
        code, lines = process.end()
        assert code == 0
        assert "deadline" in lines
        assert "cancelled" not in lines


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_signal_cuts_the_drain_short(workers: int) -> None:
    with running(0, workers, 60) as process:
        with process.begun("/long") as sock:
            process.popen.terminate()
            while process.line() != "drain":
                pass
            begin = time.monotonic()
            process.popen.terminate()
            assert b"0\r\n\r\n" not in sock.makefile("rb").read()
        code, lines = process.end()
        assert time.monotonic() - begin < 5
        assert code == 0
        assert "cancelled" in lines
        assert "deadline" not in lines


def test_a_worker_that_sleeps_through_both_signals_does_not_drain() -> None:
    """Two signals of one kind that a process has not yet taken are one."""
    with running(0, 2, 60) as process:
        with process.begun("/long") as sock:
            worker = process.answering
            os.kill(worker, signal.SIGSTOP)
            process.popen.terminate()
            while process.line() != "drain":  # the other worker's: the parent has forwarded the first
                pass
            before = pending(worker)
            process.popen.terminate()
            eventually(lambda: pending(worker) != before)
            begin = time.monotonic()
            os.kill(worker, signal.SIGCONT)
            assert b"0\r\n\r\n" not in sock.makefile("rb").read()
        code, lines = process.end()
        assert time.monotonic() - begin < 5
        assert code == 0
        assert "cancelled" in lines


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's allocator that gives memory back")
@pytest.mark.parametrize("workers", [1, 2])
def test_memory_that_is_freed_is_not_faulted_in_again(workers: int) -> None:
    """A megabyte in ten blocks, a hundred times over: 250 pages once, not 25,000."""
    with running(0, workers, 5) as process:
        faults = int(process.get("/churn").split()[1])
        assert faults < 2_500


@pytest.mark.parametrize("fixed", [True, False], ids=["fixed port", "any port"])
def test_workers_share_the_work_and_crashes_are_healed(fixed: bool) -> None:
    with running(free_port() if fixed else 0, 2, 10) as process:
        seen: set[int] = set()

        def two() -> bool:
            seen.add(process.pid())
            return len(seen) == 2

        eventually(two)
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            process.get("/crash")
        eventually(lambda: not all(alive(pid) for pid in seen))

        def healed() -> bool:
            seen.add(process.pid())  # no connection is refused meanwhile
            return len(seen) == 3

        eventually(healed)
        process.popen.terminate()
        assert process.end()[0] == 0
        assert not any(alive(pid) for pid in seen)


def test_what_waits_for_a_worker_that_dies_is_answered_by_another() -> None:
    """The kernel has given about half of the connections to the stopped worker, which is not started again in time."""
    with running(free_port(), 2, 10, restart_s=30.0) as process:
        seen: set[int] = set()
        eventually(lambda: seen.add(process.pid()) or len(seen) == 2)
        victim = seen.pop()
        os.kill(victim, signal.SIGSTOP)
        clients = [socket.create_connection(("127.0.0.1", process.port), timeout=10) for _ in range(40)]
        for client in clients:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        os.kill(victim, signal.SIGKILL)
        for client in clients:
            with client, client.makefile("rb") as answer:
                assert int(answer.read().split()[-2]) in seen
        for _ in range(20):  # and none waits for a worker that is away
            assert process.pid() in seen


def test_a_worker_that_hangs_is_killed_and_its_clients_are_served() -> None:
    with running(free_port(), 2, 10, hang_timeout_s=2.0) as process:
        seen: set[int] = set()
        eventually(lambda: seen.add(process.pid()) or len(seen) == 2)
        with socket.create_connection(("127.0.0.1", process.port), timeout=20) as hung:
            hung.sendall(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
            assert hung.recv(1000) == b""  # its end is the worker's
        clients = [socket.create_connection(("127.0.0.1", process.port), timeout=10) for _ in range(20)]
        for client in clients:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        for client in clients:
            with client, client.makefile("rb") as answer:
                assert answer.read().endswith(b" done")


def test_a_hangup_that_nohup_has_ignored_is_ignored() -> None:
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = Process(0, 2, 10)
    finally:
        signal.signal(signal.SIGHUP, ignored)
    try:
        process.ready()
        process.popen.send_signal(signal.SIGHUP)
        assert process.get().endswith(" done")
        process.popen.terminate()
        assert process.end()[0] == 0
    finally:
        process.popen.kill()
        process.popen.wait()


@pytest.mark.parametrize(("number", "delayed"), [(signal.SIGTERM, True), (signal.SIGINT, False)])
@pytest.mark.parametrize("workers", [1, 2])
def test_the_delay_before_a_drain_is_sigterms(number: signal.Signals, delayed: bool, workers: int) -> None:
    with running(free_port(), workers, 10, drain_delay_s=1.0) as process:
        assert process.get().endswith(" done")
        begin = time.monotonic()
        process.popen.send_signal(number)
        assert process.line() == "unready"
        if delayed:
            assert process.get().endswith(" done")  # a new connection
        assert process.end()[0] == 0
        assert (time.monotonic() - begin >= 1.0) is delayed


class Asked:
    """What clients of a server that stops have seen: requests that were sent, and how many of them were lost."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answered = 0
        self.lost: list[str] = []

    async def run(self, *, kept: bool) -> None:
        """Ask until nobody listens; on one connection as long as it is kept."""
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:  # refused, or reset in the handshake: nothing was sent
                return
            close = not kept
            head = b""
            while True:
                try:
                    writer.write(
                        b"GET / HTTP/1.1\r\nHost: a\r\n" + (b"connection: close\r\n" if close else b"") + b"\r\n"
                    )
                    head = await reader.readuntil(b"\r\n\r\n")
                    await reader.readuntil(b"0\r\n\r\n")
                    self.answered += 1
                except (OSError, asyncio.IncompleteReadError) as error:
                    self.lost.append(f"{'kept' if kept else 'fresh'}: {error!r}")
                    break
                if b"connection: close" in head.lower():
                    break
            writer.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_under_load_loses_no_request(workers: int) -> None:
    with running(free_port(), workers, 10, grace_s=1.0) as process:
        asked = Asked(process.port)

        async def load() -> None:
            async with asyncio.timeout(30):
                clients = [asyncio.create_task(asked.run(kept=number % 2 == 0)) for number in range(48)]
                while asked.answered < 500:
                    await asyncio.sleep(0.01)
                process.popen.terminate()
                await asyncio.gather(*clients)

        asyncio.run(load())
        assert process.end()[0] == 0
        assert asked.lost == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_connection_that_is_kept_has_a_second_for_its_next_request(workers: int) -> None:
    with running(0, workers, 10, grace_s=5.0) as process:
        connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=10)
        connection.request("GET", "/")
        connection.getresponse().read()
        process.popen.terminate()
        for _ in range(workers):
            assert process.line() == "unready"
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert answer.read().endswith(b" done")
        assert answer.headers["connection"] == "close"
        assert process.end()[0] == 0
        connection.close()


def test_draining_workers_refuse_connections() -> None:
    with running(free_port(), 2, 60) as process, process.begun("/long"):
        process.popen.terminate()

        def refused() -> bool:
            try:
                socket.create_connection(("127.0.0.1", process.port), timeout=1).close()
            except ConnectionRefusedError:
                return True
            return False

        eventually(refused)
        process.popen.terminate()
        assert process.end()[0] == 0


def test_workers_end_with_their_parent() -> None:
    with running(0, 2, 10) as process:
        seen: set[int] = set()
        eventually(lambda: seen.add(process.pid()) or len(seen) == 2)
        process.popen.kill()
        eventually(lambda: not any(alive(pid) for pid in seen))


def test_workers_on_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "relay.sock"
    with running(0, 2, 10, path) as process:
        assert process.port == 0
        for _ in range(4):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(path))
                sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert sock.makefile("rb").read().endswith(b" done")
        process.popen.terminate()
        assert process.end()[0] == 0
    assert not path.exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_app_that_cannot_start_is_an_exit_code(workers: int) -> None:
    process = Process(0, workers, 10, "refuse")
    code, lines = process.end()
    assert code == 1
    assert any("no" in line for line in lines)


def test_a_port_that_another_has_is_an_error_with_workers_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        process = Process(sock.getsockname()[1], 2, 10)
        code, lines = process.end()
        assert code == 1
        assert "in use" in lines[-1]
