"""Which create may start: first in, first out in a lane, side by side across lanes (responses-api.md §5.6)."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.app.lanes import NAMES_LIMIT, QUEUE_LIMIT, RUNNING_LIMIT, Lanes, lane_name
from relay.errors import RelayError

ROOM = 1 << 30


def started(lanes: Lanes[Any]) -> list[Any]:
    jobs = []
    while (queued := lanes.next()) is not None:
        jobs.append(queued.job)
    return jobs


def test_a_lane_runs_one_at_a_time_in_order() -> None:
    lanes: Lanes[int] = Lanes(ROOM)
    for job in range(3):
        lanes.add("a", job, 1)
    assert started(lanes) == [0]
    lanes.finished("a")
    assert started(lanes) == [1]
    assert not lanes.idle
    lanes.finished("a")
    assert started(lanes) == [2]
    lanes.finished("a")
    assert started(lanes) == []
    assert lanes.idle


def test_lanes_run_side_by_side_and_the_default_lane_is_one() -> None:
    lanes: Lanes[str] = Lanes(ROOM)
    for lane in (None, "a", "b"):
        lanes.add(lane, f"{lane}0", 1)
        lanes.add(lane, f"{lane}1", 1)
    assert started(lanes) == ["None0", "a0", "b0"]
    assert lanes.busy(None)
    assert lanes.busy("a")
    assert not lanes.busy("c")


def test_the_seventeenth_waits_and_lanes_take_turns() -> None:
    lanes: Lanes[str] = Lanes(ROOM)
    for number in range(RUNNING_LIMIT + 2):
        lanes.add(f"l{number}", f"first {number}", 1)
    lanes.add("l0", "second 0", 1)
    assert len(started(lanes)) == 16
    lanes.finished("l0")
    assert started(lanes) == ["first 16"]  # it came before the second of l0
    lanes.finished("l3")
    assert started(lanes) == ["first 17"]
    lanes.finished("l4")
    assert started(lanes) == ["second 0"]


def test_thirty_two_names_for_the_life_of_the_connection() -> None:
    lanes: Lanes[int] = Lanes(ROOM)
    for number in range(NAMES_LIMIT):
        lanes.add(f"l{number}", number, 1)
        started(lanes)
        lanes.finished(f"l{number}")
    with pytest.raises(RelayError) as refused:
        lanes.add("one more", 0, 1)
    error = refused.value
    assert (error.status, error.code, error.param) == (400, "websocket_stream_limit_reached", "stream_id")
    lanes.add(None, 0, 1)  # the default lane is not counted
    lanes.add("l5", 0, 1)  # nor is a name that is known


def full(lanes: Lanes[Any]) -> RelayError:
    with pytest.raises(RelayError) as refused:
        lanes.add("a", "too much", 1)
    assert (refused.value.status, refused.value.code) == (429, "websocket_queue_full")
    return refused.value


def test_sixty_four_wait_and_no_more() -> None:
    lanes: Lanes[int] = Lanes(ROOM)
    lanes.add("a", -1, 1)
    assert started(lanes) == [-1]
    for number in range(QUEUE_LIMIT):
        lanes.add("a", number, 1)
    full(lanes)
    lanes.add("b", 99, 1)  # starts at once: it does not wait
    assert started(lanes) == [99]
    lanes.finished("a")
    assert started(lanes) == [0]
    lanes.add("a", 64, 1)
    full(lanes)


def test_one_body_limit_of_bytes_waits() -> None:
    lanes: Lanes[int] = Lanes(100)
    lanes.add("a", 0, 90)  # starts: nothing waits
    assert started(lanes) == [0]
    lanes.add("a", 1, 60)
    lanes.add("a", 2, 40)
    full(lanes)
    lanes.finished("a")
    assert started(lanes) == [1]
    assert lanes.queued_bytes == 40
    lanes.add("a", 3, 60)
    full(lanes)


def test_a_refused_create_takes_no_name() -> None:
    lanes: Lanes[int] = Lanes(RUNNING_LIMIT)
    for number in range(RUNNING_LIMIT):
        lanes.add(f"l{number}", number, 1)
        started(lanes)
    for number in range(NAMES_LIMIT):
        with pytest.raises(RelayError, match="wait on a connection"):
            lanes.add(f"x{number}", 0, RUNNING_LIMIT + 1)
    lanes.add("y", 0, 1)


def test_what_runs_counts_too() -> None:
    """16 lanes of one body limit each held 600 MB for 25 KB on the wire."""
    lanes: Lanes[int] = Lanes(100)
    lanes.add("big", 0, 1_000)  # alone it may be as large as a message is
    assert started(lanes) == [0]
    with pytest.raises(RelayError, match="run and wait on a connection hold at most 200 bytes") as refused:
        lanes.add("other", 1, 1)
    assert (refused.value.status, refused.value.code) == (429, "websocket_queue_full")
    lanes.finished("big")
    for number in range(2):
        lanes.add(f"l{number}", number, 100)
    assert started(lanes) == [0, 1]
    with pytest.raises(RelayError, match="hold at most"):
        lanes.add("l2", 2, 1)
    lanes.finished("l0")
    lanes.add("l2", 2, 100)


def test_drain_takes_out_what_waits_and_leaves_what_runs() -> None:
    lanes: Lanes[int] = Lanes(ROOM)
    for number in range(3):
        lanes.add("a", number, 1)
        lanes.add("b", number + 10, 1)
    assert started(lanes) == [0, 10]
    assert sorted(queued.job for queued in lanes.drain()) == [1, 2, 11, 12]
    assert (lanes.running, lanes.queued, lanes.queued_bytes) == (2, 0, 0)
    lanes.finished("a")
    lanes.finished("b")
    assert lanes.idle


@pytest.mark.parametrize("name", ["a", "A-z_0.9", "x" * 256, "..."])
def test_names_of_lanes(name: str) -> None:
    assert lane_name({"stream_id": name}) == name


@pytest.mark.parametrize("name", ["", "x" * 257, "a b", "é", "a\n", 5, None, ["a"], {}, True])
def test_what_is_no_name(name: Any) -> None:
    with pytest.raises(RelayError) as refused:
        lane_name({"stream_id": name})
    error = refused.value
    assert (error.status, error.code, error.param) == (400, "invalid_stream_id", "stream_id")


def test_no_name_is_the_default_lane() -> None:
    assert lane_name({}) is None


NAMES = [None, *(f"l{number}" for number in range(20))]


@given(st.lists(st.tuples(st.sampled_from(["add", "end"]), st.sampled_from(NAMES)), max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_schedule_is_fair(steps: list[tuple[str, str | None]]) -> None:
    """Against a model that is only lists: order in a lane, one at a time, sixteen at most, and nobody waits idly."""
    lanes: Lanes[int] = Lanes(ROOM)
    waiting: dict[str | None, list[int]] = defaultdict(list)
    running: dict[str | None, int] = {}
    for number, (step, lane) in enumerate(steps):
        if step == "add":
            try:
                lanes.add(lane, number, 1)
            except RelayError:
                assert sum(map(len, waiting.values())) == QUEUE_LIMIT
            else:
                waiting[lane].append(number)
        elif lane in running:
            del running[lane]
            lanes.finished(lane)
        while (queued := lanes.next()) is not None:
            assert queued.lane not in running
            assert waiting[queued.lane].pop(0) == queued.job
            running[queued.lane] = queued.job
        assert len(running) == lanes.running <= RUNNING_LIMIT
        if len(running) < RUNNING_LIMIT:
            assert not [one for one, jobs in waiting.items() if jobs and one not in running]
        assert lanes.queued == lanes.queued_bytes == sum(map(len, waiting.values()))
        assert lanes.idle == (not running and not any(waiting.values()))
