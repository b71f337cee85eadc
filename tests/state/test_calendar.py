"""The time that expiry goes by, where the clocks disagree: a jump of the wall clock erases nothing (issue 10, 13)."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from relay.state.calendar import DOUBT_S, Calendar, Doubt, steady_clock
from relay.state.memory import MemoryStore
from relay.state.sqlite import SqliteStore
from relay.state.store import Objects, Store
from tests.state.engines import DAY_S, ENGINES, Clock, turn
from tests.support import run, until

START = 1_700_000_000.0


def begun(youngest_s: float | None = None, doubt: Doubt | None = None) -> Calendar:
    calendar = Calendar()
    calendar.start(START, 1_000.0, youngest_s=youngest_s, doubt=doubt)
    return calendar


def test_time_that_goes_by_on_both_clocks_is_time() -> None:
    calendar = begun()
    for days in (0.001, 1, 40, 400):
        assert calendar.look(START + days * DAY_S, 1_000.0 + days * DAY_S) == START + days * DAY_S
        assert calendar.doubt() is None


@pytest.mark.parametrize("jump_s", [2 * 3_600, 30 * DAY_S, 10_000 * DAY_S])
def test_a_jump_ahead_is_not_believed_for_a_day(jump_s: float) -> None:
    calendar = begun()
    assert calendar.look(START + jump_s + 60, 1_060.0) == START + 60
    assert calendar.doubt() == Doubt(START + 60, DOUBT_S)
    assert calendar.look(START + jump_s + 3_600, 4_600.0) == START + 3_600
    assert calendar.look(START + jump_s + DOUBT_S, 1_000.0 + DOUBT_S) == START + DOUBT_S
    assert calendar.look(START + jump_s + DOUBT_S + 61, 1_061.0 + DOUBT_S) == START + jump_s + DOUBT_S + 61
    assert calendar.doubt() is None


def test_a_clock_that_is_put_right_is_believed_at_once() -> None:
    calendar = begun()
    calendar.look(START + 30 * DAY_S, 1_000.0)
    assert calendar.look(START + 100, 1_100.0) == START + 100
    assert calendar.doubt() is None


def test_a_clock_that_is_set_back_only_delays() -> None:
    calendar = begun()
    assert calendar.look(START - 30 * DAY_S, 1_010.0) == START - 30 * DAY_S
    assert calendar.doubt() is None
    assert calendar.look(START + 20, 1_020.0) == START - 30 * DAY_S + 10  # ahead again: who knows


@pytest.mark.parametrize(
    ("youngest_s", "doubt", "expected"),
    [
        (None, None, START),  # an empty store
        (START - 3_600, None, START),
        (START + 3_600, None, START),
        (START - 40 * DAY_S, None, START - 40 * DAY_S),  # away for long, or a clock that jumped meanwhile
        (START - 1, Doubt(START - 30 * DAY_S, 50.0), START - 30 * DAY_S),  # rows made under the doubt prove nothing
        (START - 1, Doubt(START - 60, 50.0), START),  # put right meanwhile
    ],
)
def test_a_start_asks_what_the_store_holds(youngest_s: float | None, doubt: Doubt | None, expected: float) -> None:
    calendar = begun(youngest_s, doubt)
    assert calendar.look(START, 1_000.0) == expected
    left_s = DOUBT_S if doubt is None else doubt.left_s
    assert calendar.look(START + left_s + 1, 1_001.0 + left_s) == START + left_s + 1


def test_the_steady_clock_goes_on() -> None:
    before = steady_clock()
    assert 0 <= steady_clock() - before < 60
    assert steady_clock() >= time.monotonic() - 60  # as long as the machine runs, sleep included


# -- in the stores ------------------------------------------------------------------------------------------------


class Clocks:
    """Both clocks; ``pass_s`` lets time go by on both, a jump is the wall clock's own."""

    def __init__(self) -> None:
        self.wall, self.steady = Clock(), Clock()

    def pass_s(self, seconds: float) -> None:
        self.wall.time_s += seconds
        self.steady.time_s += seconds


def opened(kind: str, folder: Path, clocks: Clocks) -> Store:
    options: dict[str, Any] = {"max_age_days": 30, "now": clocks.wall, "steady": clocks.steady}
    return MemoryStore(**options) if kind == "memory" else SqliteStore(folder / "relay.db", **options)


async def swept(store: Store) -> None:
    """Whatever a sweep finds to do is done."""
    await store.commit(*turn("tick"), "ann")
    if isinstance(store, SqliteStore):
        store.writer.next_expiry = 0.0
        await store.commit(*turn("tick"), "ann")
        await until(lambda: not store.writer._backlog)


@pytest.mark.parametrize("kind", ENGINES)
def test_a_month_ahead_erases_and_hides_nothing(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        clocks = Clocks()
        store = opened(kind, tmp_path, clocks)
        for number in range(50):
            await store.commit(*turn(f"n{number}"), "ann")
        await store.remember_upstream(Objects("openai"), "ann", "resp_up")
        clocks.wall.time_s += 31 * DAY_S
        clocks.pass_s(5)
        for _ in range(3):
            await swept(store)
            for number in range(50):
                assert await store.get(f"resp_n{number}", "ann") is not None
            assert await store.load_chain("resp_n7", "ann") is not None
            assert await store.find_upstream("resp_up", "ann") == "openai"
            clocks.pass_s(3_600)
        assert len([record for record in caplog.records if "ahead of what has passed" in record.getMessage()]) == 1
        clocks.pass_s(DOUBT_S)
        await swept(store)
        assert await store.get("resp_n7", "ann") is None  # it was meant
        await store.close()

    with caplog.at_level(logging.WARNING, "relay.state"):
        run(main(), 60)


def test_a_restart_under_a_clock_that_jumped_erases_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        clocks = Clocks()
        store = opened("sqlite", tmp_path, clocks)
        await store.commit(*turn("a"), "ann")
        clocks.wall.time_s += 60 * DAY_S
        await store.commit(*turn("b"), "ann")  # made in the wrong month, and the youngest at the next start
        await store.close()
        for _ in range(2):
            clocks.pass_s(60)
            clocks.steady.time_s = 100.0  # a machine that was started again
            store = opened("sqlite", tmp_path, clocks)
            await swept(store)
            assert await store.get("resp_a", "ann") is not None
            await store.close()

    run(main(), 60)


def test_a_jump_between_two_lives_erases_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        clocks = Clocks()
        store = opened("sqlite", tmp_path, clocks)
        await store.commit(*turn("a"), "ann")
        await store.close()
        clocks.wall.time_s += 60 * DAY_S
        store = opened("sqlite", tmp_path, clocks)
        await swept(store)
        assert await store.get("resp_a", "ann") is not None
        clocks.pass_s(DOUBT_S + 1)
        await swept(store)
        assert await store.get("resp_a", "ann") is None
        await asyncio.gather(store.close())

    run(main(), 60)
