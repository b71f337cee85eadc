"""Any schedule over 8 sockets x 8 lanes: no event on the wrong lane, out of order, or twice (issue 4)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.app.sockets import TERMINAL, Socket, connected, text_of
from tests.app.support import Relay, relaying
from tests.support import run

LANES = [None, "a", "b", "c", "d", "e", "f", "g"]
FAULTS = {"demo-fail-429": "error", "demo-error-3": "response.failed", "demo-cut-3": "response.failed"}


class Step(NamedTuple):
    """A create on a socket's lane; ``words`` of text, written ``batch`` tokens at a time, or a fault."""

    socket: int
    lane: str | None
    words: int
    batch: int
    fault: str | None


STEPS = st.builds(
    Step,
    st.integers(0, 7),
    st.sampled_from(LANES),
    st.integers(1, 30),
    st.sampled_from([1, 1, 1, 4, 64]),
    st.sampled_from([None] * 6 + list(FAULTS)),
)


def text_for(step: Step, number: int) -> str:
    return " ".join([f"s{step.socket}", f"{step.lane}", f"n{number}", *("w" for _ in range(step.words))])


async def follow(relay: Relay, steps: list[tuple[int, Step]], leaves_after: int | None) -> None:
    """One socket: send everything at once, then judge each lane's events against what was sent on it."""
    async with connected(relay.port) as socket:
        waiting: dict[str | None, list[tuple[int, Step]]] = defaultdict(list)
        for number, step in steps:
            fields = {} if step.lane is None else {"stream_id": step.lane}
            model = step.fault or f"demo-batch-{step.batch}"
            await socket.create(input=text_for(step, number), model=model, **fields)
            waiting[step.lane].append((number, step))
        running: dict[str | None, list[dict[str, Any]]] = defaultdict(list)
        left = len(steps)
        while left:
            if leaves_after is not None and len(steps) - left >= leaves_after:
                return  # a client that leaves in the middle of it
            event = await socket.event()
            lane = event.get("stream_id")
            assert lane in waiting
            events = running[lane]
            if event["type"] != "error":
                assert event["sequence_number"] == len(events)
            events.append(event)
            if event["type"] in TERMINAL:
                judge(*waiting[lane].pop(0), events)
                running[lane] = []
                left -= 1
        assert not any(waiting.values())
        await quiet(socket)


async def quiet(socket: Socket) -> None:
    """Nothing comes any more: the pong is the next thing."""
    await (await socket.connection.ping())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await socket.connection.recv()


def judge(number: int, step: Step, events: list[dict[str, Any]]) -> None:
    """These events are the turn of that create, whole."""
    text, last = text_for(step, number), events[-1]
    if step.fault is not None:
        assert last["type"] == FAULTS[step.fault]
        assert len(events) == 1 or last["type"] == "response.failed"
    else:
        assert last["type"] == "response.completed"
        assert text_of(last["response"]) == text
    said = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert text.startswith(said)
    assert said == text or step.fault
    ids = {event["response"]["id"] for event in events if "response" in event}
    assert len(ids) <= 1
    items = {event["item_id"] for event in events if "item_id" in event}
    assert len(items) <= 1


@pytest.mark.parametrize("server", ["ours", "uvicorn"])
@given(st.lists(STEPS, min_size=1, max_size=120), st.dictionaries(st.integers(0, 7), st.integers(0, 5), max_size=2))
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_schedule(server: str, steps: list[Step], leaving: dict[int, int]) -> None:
    numbered = list(enumerate(steps))

    async def play() -> None:
        async with relaying(foreign=server == "uvicorn") as relay, asyncio.TaskGroup() as group:
            for socket in range(8):
                mine = [(number, step) for number, step in numbered if step.socket == socket][:64]
                group.create_task(follow(relay, mine, leaving.get(socket)))

    run(play(), 60)


def test_every_lane_of_every_socket_is_busy() -> None:
    """The densest schedule there is: 64 lanes, each with a queue."""
    steps = [
        (number, Step(socket, lane, 20, 1, None))
        for number, (socket, lane) in enumerate((s, lane) for _ in range(6) for s in range(8) for lane in LANES)
    ]

    async def play() -> None:
        async with relaying() as relay, asyncio.TaskGroup() as group:
            for socket in range(8):
                group.create_task(follow(relay, [one for one in steps if one[1].socket == socket], None))

    run(play(), 60)
