"""The load generator: ``python -m bench.generator`` reads one job a line and answers each with one line of numbers.

A process of its own, so that its work is no part of what it measures; it reads the CPU time of the processes it is told
to watch at both ends of its own window of measurement.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import uvloop

from bench.clients import FORMS, HTTP, Answer, Connection, Failed, Socket, Tally, Whole
from bench.proc import cpu_ns, memory_bytes
from bench.requests import TOOL, body, wire

QUANTILES: Final = (*range(100), 99.5, 99.9, 99.99, 100)
_OPENING: Final = 100  # connections that are opened side by side


@dataclass(slots=True)
class Job:
    """What one line asks for; the fields beyond the first four have their meaning in the job's own function."""

    kind: str
    port: int
    format: str  # of requests and answers: "responses" or "chat"
    transport: str  # "sse", "json" or "ws"
    model: str = ""
    store: bool = False
    tokens: int = 1
    stamped: bool = False
    input_bytes: int = 0
    input_items: int = 0
    streams: int = 1
    rounds: int = 1  # answers a connection
    spread_s: float = 0.0  # over which the streams start
    settle_s: float = 0.0
    window_s: float = 0.0  # 0: all of it
    every_s: float = 0.0  # soak: between two looks at the memory
    turns: int = 0
    previous: bool = False
    result_bytes: int = 4096
    aside: dict[str, Any] | None = None
    deadline_s: float = 60.0
    watched: dict[str, list[int]] = field(default_factory=dict)


class Window:
    """CPU time of the watched processes, tokens and answers between two moments."""

    def __init__(self, job: Job, tally: Tally) -> None:
        self._watched = {**job.watched, "generator": [os.getpid()]}
        self._tally = tally
        tally.delays.clear()
        self._before = self._now()

    def _now(self) -> tuple[float, int, int, dict[str, int]]:
        cpu = {name: cpu_ns(pids) for name, pids in self._watched.items()}
        return time.monotonic(), self._tally.tokens, self._tally.answers, cpu

    def close(self) -> dict[str, Any]:
        """What happened within."""
        began, tokens, answers, cpu = self._before
        ended, tokens_now, answers_now, cpu_now = self._now()
        return {
            "seconds": ended - began,
            "tokens": tokens_now - tokens,
            "answers": answers_now - answers,
            "cpu_ns": {name: cpu_now[name] - cpu[name] for name in cpu},
            "delays_ns": _quantiles(self._tally.delays),
            "firsts_ns": _quantiles(self._tally.firsts),
        }


def _quantiles(values: list[int]) -> dict[str, int]:
    ordered = sorted(values)
    return {str(q): ordered[min(len(ordered) - 1, int(len(ordered) * q / 100))] for q in QUANTILES} if ordered else {}


class Crowd:
    """``job.streams`` connections that each ask ``job.rounds`` times, one answer after the other."""

    def __init__(self, job: Job, tally: Tally) -> None:
        self.job = job
        self._tally = tally
        self._form = FORMS[job.format, job.transport]
        content = body(
            job.format,
            job.transport,
            job.model,
            store=job.store,
            input_bytes=job.input_bytes,
            tokens=job.tokens,
            input_items=job.input_items,
        )
        self._request = wire(job.format, job.transport, content)
        self._left: dict[Connection, int] = {}
        self._running = job.streams
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        """Connect, where all start at once; connections that wait long for their start would be closed."""
        if not self.job.spread_s:
            await self._all(self._connect)

    async def start(self) -> None:
        """Ask on every connection, at once or over ``spread_s``."""
        for connection in self._left:
            self._ask(connection)
        if self.job.spread_s:
            # a task a stream: one that takes long to connect must not hold the others up
            await asyncio.gather(*(self._start_at(number) for number in range(self.job.streams)))

    async def _start_at(self, number: int) -> None:
        await asyncio.sleep(self.job.spread_s * number / self.job.streams)
        self._ask(await self._connect())

    async def hold(self) -> None:
        """Connect, and ask for one token more than ever comes (if for any), so that the answers stay open."""

        async def one() -> None:
            connection = await self._connect()
            if self.job.tokens:
                answer = Answer(self._form, self.job.tokens + 1, False, self._tally)
                connection.begin(self._request, answer)
                await _until(lambda: answer.count == self.job.tokens)

        await self._all(one)

    async def _all(self, one: Callable[[], Awaitable[Any]]) -> None:
        gate = asyncio.Semaphore(_OPENING)

        async def gated() -> None:
            async with gate:
                await one()

        await asyncio.gather(*(gated() for _ in range(self.job.streams)))

    async def _connect(self) -> Connection:
        connection = await connect(self.job, self._tally, self._on_done)
        self._left[connection] = self.job.rounds
        return connection

    def stop(self) -> None:
        """No further rounds."""
        self._left = dict.fromkeys(self._left, 1)

    def _ask(self, connection: Connection) -> None:
        connection.begin(self._request, Answer(self._form, self.job.tokens, self.job.stamped, self._tally))

    def _on_done(self, connection: Connection) -> None:
        self._left[connection] -= 1
        if self._left[connection]:
            self._ask(connection)
            return
        self._running -= 1
        if not self._running:
            self.done.set_result(None)


async def connect(job: Job, tally: Tally, on_done: Callable[[Connection], None]) -> Connection:
    """One connection, ready to be asked."""
    kind: Callable[..., Connection] = Socket if job.transport == "ws" else HTTP
    _, connection = await asyncio.get_running_loop().create_connection(
        lambda: kind(tally, on_done), "127.0.0.1", job.port
    )
    assert isinstance(connection, Connection)
    if isinstance(connection, Socket):
        await connection.opened
    return connection


# --- the kinds of jobs


async def streams(job: Job, tally: Tally) -> dict[str, Any]:
    """Streams side by side; the window opens ``settle_s`` after the first token of the last of them.

    ``aside`` is a second job whose one answer is asked for every ``every_s``, and not measured.
    """
    crowd = Crowd(job, tally)
    aside = asyncio.create_task(_repeat(Job(**job.aside))) if job.aside else None
    await crowd.open()
    window = Window(job, tally)
    await crowd.start()
    if job.window_s:
        await _until(lambda: len(tally.firsts) >= job.streams)
        await asyncio.sleep(job.settle_s)
        window = Window(job, tally)
        await asyncio.sleep(job.window_s)
        result = window.close()
        if tally.answers:
            raise Failed("streams ended within the window of measurement: they began too slowly")
        await crowd.done
    else:
        await crowd.done
        result = window.close()
    if aside is not None:
        aside.cancel()
        if aside.done() and not aside.cancelled():
            aside.result()
    expected = job.streams * job.rounds * job.tokens
    if tally.tokens != expected:
        raise Failed(f"{tally.tokens} tokens of {expected}")
    return result


async def _repeat(job: Job) -> None:
    while True:
        tally = Tally()
        started = time.monotonic()
        try:
            crowd = Crowd(job, tally)
            await crowd.open()
            await crowd.start()
            await _first(crowd.done, tally.failed)
        finally:
            tally.close()
        await asyncio.sleep(max(0.0, started + job.every_s - time.monotonic()))


async def hold(job: Job, tally: Tally) -> dict[str, Any]:
    """Memory of the watched processes for each of ``streams`` that stand open with ``tokens`` tokens (0: idle)."""
    before = {name: memory_bytes(pids) for name, pids in job.watched.items()}
    crowd = Crowd(job, tally)
    await crowd.hold()
    await asyncio.sleep(job.settle_s)
    memory = {name: (memory_bytes(pids) - before[name]) / job.streams for name, pids in job.watched.items()}
    return {"memory_bytes": memory, "streams": job.streams, "tokens": tally.tokens}


async def soak(job: Job, tally: Tally) -> dict[str, Any]:
    """Streams that begin again for ``window_s``; the memory every ``every_s``."""
    crowd = Crowd(job, tally)
    await crowd.open()
    await crowd.start()
    await asyncio.sleep(job.settle_s)
    window = Window(job, tally)
    samples = []
    started = time.monotonic()
    while (at := time.monotonic() - started) < job.window_s:
        samples.append([at, memory_bytes(job.watched["relay"])])
        await asyncio.sleep(job.every_s)
    result = window.close()
    crowd.stop()
    await crowd.done
    if tally.tokens != tally.answers * job.tokens:
        raise Failed(f"{tally.tokens} tokens in {tally.answers} answers of {job.tokens}")
    return {**result, "memory": samples}


_RESPONSE_ID: Final = re.compile(rb'"id":"(resp_[^"]+)"')
_CALL_ID: Final = re.compile(rb'"call_id":"([^"]+)"')
_ARGUMENTS: Final = re.compile(rb'"arguments":"((?:[^"\\]|\\.)+)"')


async def turns(job: Job, tally: Tally) -> dict[str, Any]:
    """``streams`` conversations side by side, ``rounds`` of them one after the other, each of ``turns`` tool calls."""
    window = Window(job, tally)
    await asyncio.gather(*(_conversations(job, tally) for _ in range(job.streams)))
    return window.close()


async def _conversations(job: Job, tally: Tally) -> None:
    done = asyncio.Event()
    connection = await connect(job, tally, lambda _: done.set())
    for _ in range(job.rounds):
        await _conversation(job, connection, done)


async def _conversation(job: Job, connection: Connection, done: asyncio.Event) -> None:
    items: list[dict[str, Any]] = [{"role": "user", "content": "Look it all up."}]
    previous: str | None = None
    for turn in range(job.turns + 1):
        asked: dict[str, Any] = {"model": job.model, "input": items, "store": job.store, "tools": [TOOL]}
        if previous is not None:
            asked["previous_response_id"] = previous
        if job.transport == "sse":
            asked["stream"] = True
        answer = Whole(FORMS["responses", job.transport].end)
        done.clear()
        connection.begin(wire("responses", job.transport, asked), answer)
        await done.wait()
        data = answer.data()
        call = _CALL_ID.search(data)
        if (call is None) != (turn == job.turns):
            raise Failed(f"turn {turn} of {job.turns}: {'no call' if call is None else 'a call too many'}")
        if call is None:
            return
        output = {"type": "function_call_output", "call_id": call[1].decode(), "output": "x" * job.result_bytes}
        if job.previous:
            found = _RESPONSE_ID.search(data)
            previous = found[1].decode() if found else None
            items = [output]
        else:
            arguments = _ARGUMENTS.search(data)
            text = orjson.loads(b'"' + arguments[1] + b'"') if arguments else "{}"
            name = TOOL["name"]
            items += [{"type": "function_call", "call_id": call[1].decode(), "name": name, "arguments": text}, output]


KINDS: Final[dict[str, Callable[[Job, Tally], Awaitable[dict[str, Any]]]]] = {
    "streams": streams,
    "hold": hold,
    "soak": soak,
    "turns": turns,
}


# --- the process


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  an event would be set in the middle of what is measured
        await asyncio.sleep(0.005)


async def _first(*awaitables: Awaitable[Any]) -> Any:
    """The result of the first to end, or its failure; the others are cancelled."""
    futures = [asyncio.ensure_future(one) for one in awaitables]
    done, rest = await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    for future in rest:
        future.cancel()
    return next(iter(done)).result()


async def run(job: Job) -> dict[str, Any]:
    """One job; what failed is named in the result."""
    tally = Tally()
    # what goes wrong in a callback of ours must not look like a slow relay
    asyncio.get_running_loop().set_exception_handler(lambda _, context: tally.fail(repr(context)))
    try:
        async with asyncio.timeout(job.deadline_s):
            result = await _first(KINDS[job.kind](job, tally), tally.failed)
            assert isinstance(result, dict)
            return result
    except Failed as failure:
        return {"failed": str(failure)}
    except TimeoutError:
        return {"failed": f"not done in {job.deadline_s:g} s: {tally.tokens} tokens, {tally.answers} answers so far"}
    except Exception as error:  # whatever it is, it is this job's failure, and the next job may fare better
        return {"failed": repr(error)}
    finally:
        tally.close()


def main() -> None:
    """Jobs on stdin, results on stdout."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin.buffer:
            result = runner.run(run(Job(**orjson.loads(line))))
            sys.stdout.buffer.write(orjson.dumps(result) + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
