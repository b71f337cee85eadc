"""Whether a worker's loop turns, by a clock that is passed in."""

from __future__ import annotations

import pytest

from relay.server.heartbeat import BEAT_S, Board, Watch

PATIENCE_S, START_S = 20.0, 60.0


def watch() -> Watch:
    return Watch(PATIENCE_S, START_S, count=7, looked_at=100.0)


def looks(one: Watch, count: int, begin: float, seconds: float, gap: float = BEAT_S) -> float | None:
    """When it is first said to hang, looking every ``gap``; None if never."""
    now = begin
    while now < begin + seconds:
        now += gap
        if one.hangs(count, now):
            return now - begin
    return None


def test_places_count_for_themselves() -> None:
    board = Board(3)
    board.beat(1)
    board.beat(1)
    board.beat(2)
    assert [board.count(place) for place in range(3)] == [0, 2, 1]
    board.close()


def test_one_that_beats_does_not_hang() -> None:
    one = watch()
    assert not any(one.hangs(8 + second, 100.0 + second) for second in range(1, 1_000))


def test_one_that_stops_hangs_after_its_time() -> None:
    one = watch()
    assert not one.hangs(8, 101.0)
    assert looks(one, 8, 101.0, 100.0) == PATIENCE_S


def test_one_that_never_began_has_the_time_of_a_start_besides() -> None:
    assert looks(watch(), 7, 100.0, 200.0) == START_S + PATIENCE_S


@pytest.mark.parametrize("gap", [60.0, 86_400.0])
def test_a_parent_that_slept_itself_blames_nobody(gap: float) -> None:
    """Suspended with its machine, stopped by a debugger: one look after a long time is worth two beats."""
    one = watch()
    assert not one.hangs(8, 101.0)
    assert not one.hangs(8, 101.0 + gap)
    assert not one.hangs(9, 102.0 + gap)
    assert looks(one, 9, 102.0 + gap, 100.0) == PATIENCE_S
