"""Places shared by owners, beside a slow model that says the rule in its own words."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.places import Places
from relay.shares import Shares
from tests.support import run


class Model:
    """Lists and sorting only."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.holders: list[str] = []
        self.queue: list[tuple[int, str]] = []
        self.given: list[str] = []

    def give(self, owner: str) -> None:
        self.holders.append(owner)
        self.given.append(owner)

    def look(self) -> None:
        """Who neither holds nor waits was never here."""
        here = {*self.holders, *(name for _, name in self.queue)}
        self.given = [name for name in self.given if name in here]

    def release(self, owner: str) -> int | None:
        self.holders.remove(owner)
        self.look()
        if not self.queue:
            return None
        owners = set(self.holders) | {name for _, name in self.queue}

        def before(entry: tuple[int, str]) -> tuple[bool, int, int, int]:
            held = self.holders.count(entry[1])
            surplus = held >= self.limit / len(owners)
            last = max((at for at, name in enumerate(self.given, 1) if name == entry[1]), default=0)
            return (surplus, held if surplus else 0, last, entry[0])

        first = min(self.queue, key=before)
        self.queue.remove(first)
        self.give(first[1])
        return first[0]


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.sampled_from(["take", "release", "withdraw"]), st.sampled_from("abcd")), max_size=80),
)
def test_the_model_agrees(limit: int, steps: list[tuple[str, str]]) -> None:
    shares: Shares[int] = Shares(limit)
    model = Model(limit)
    for number, (step, owner) in enumerate(steps):
        if step == "take":
            if shares.take(owner):
                assert len(model.holders) < limit
                model.give(owner)
            else:
                assert len(model.holders) == limit
                shares.wait(number, owner)
                model.queue.append((number, owner))
        elif step == "withdraw" and model.queue:
            ticket, _ = model.queue.pop(len(model.queue) // 2)
            shares.withdraw(ticket)
            shares.withdraw(ticket)  # once more is nothing
            model.look()
        elif step == "release" and owner in model.holders:
            assert shares.release(owner) == model.release(owner)
        assert shares.in_use == len(model.holders) <= limit
        assert shares.tickets == [ticket for ticket, _ in model.queue]
        assert shares.empty == (not model.holders and not model.queue)


def test_one_who_holds_all_waits_behind_each_who_holds_less() -> None:
    """Issue 10: one key with five silent streams made all others wait behind its sixth."""
    shares: Shares[str] = Shares(5)
    assert [shares.take("greedy") for _ in range(6)] == [True] * 5 + [False]
    for number in range(100):
        shares.wait(f"greedy {number}", "greedy")
    shares.wait("one", "one")
    shares.wait("two", "two")
    assert [shares.release("greedy") for _ in range(3)] == ["one", "two", "greedy 0"]


def test_of_one_place_everybody_has_a_turn() -> None:
    """Between two of its turns an owner holds nothing, and a queue of its own must not be the others' wait."""
    shares: Shares[str] = Shares(1)
    assert shares.take("a")
    for ticket in ("a1", "a2", "a3", "b1", "b2", "c1"):
        shares.wait(ticket, ticket[0])
    order, owner = [], "a"
    while (ticket := shares.release(owner)) is not None:
        order.append(ticket)
        owner = ticket[0]
    assert order == ["b1", "c1", "a1", "b2", "a2", "a3"]


@pytest.mark.parametrize("owners", [1, 100])
def test_many_who_wait_cost_each_release_alike(owners: int) -> None:
    def run(count: int) -> float:
        shares: Shares[int] = Shares(1)
        shares.take("0")
        for number in range(count):
            shares.wait(number, str(number % owners))
        owner = "0"
        begin = time.perf_counter()
        while (ticket := shares.release(owner)) is not None:
            owner = str(ticket % owners)
        return time.perf_counter() - begin

    few, many = (min(run(count) for _ in range(3)) for count in (1_000, 4_000))
    assert many < 4 * 2.3 * few


def test_places_are_waited_for_and_never_lost() -> None:
    async def main() -> None:
        places = Places(2)
        order: list[str] = []

        async def hold(name: str, owner: str, go: asyncio.Event) -> None:
            async with places.held(owner):
                order.append(name)
                await go.wait()

        go = asyncio.Event()
        tasks = [asyncio.create_task(hold(f"greedy {n}", "greedy", go)) for n in range(4)]
        tasks.append(asyncio.create_task(hold("other", "other", go)))
        await asyncio.sleep(0)
        assert (places.in_use, places.waiting) == (2, 3)
        tasks[2].cancel()  # waits, and leaves in the moment in which its turn comes
        go.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert order[:3] == ["greedy 0", "greedy 1", "other"]
        assert sorted(order) == ["greedy 0", "greedy 1", "greedy 3", "other"]
        assert (places.in_use, places.waiting) == (0, 0)

    run(main())


def test_a_place_granted_in_the_moment_of_leaving_goes_on() -> None:
    async def main() -> None:
        places = Places(1)
        await places.take("a")
        leaving = asyncio.create_task(places.take("b"))
        next_one = asyncio.create_task(places.take("c"))
        await asyncio.sleep(0)
        places.release("a")  # b's now
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        await next_one
        places.release("c")
        assert (places.in_use, places.waiting) == (0, 0)

    run(main())
