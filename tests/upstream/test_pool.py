"""The pool's decisions, without I/O. Expected values follow from the rules at the top of the module."""

from hypothesis import given
from hypothesis import strategies as st

from relay.upstream.pool import Admission, Counts, Grant, Pool


class Wire:
    """The least that can be pooled."""

    def __init__(self) -> None:
        self.alive = True


def test_last_in_first_out() -> None:
    pool: Pool[Wire, str] = Pool(4, 60)
    one, two = Wire(), Wire()
    assert [pool.take(), pool.take()] == [Admission(True, None)] * 2
    pool.release(one, 1)
    pool.release(two, 2)
    assert pool.take().connection is two
    assert pool.take().connection is one


def test_beyond_the_limit_callers_wait_in_order_and_get_what_comes_back() -> None:
    pool: Pool[Wire, str] = Pool(2, 60)
    wire = Wire()
    pool.take()
    pool.take()
    assert pool.take() == Admission(False, None)
    for ticket in ("a", "b", "c"):
        pool.wait(ticket)
    pool.withdraw("b")
    assert pool.tickets == ["a", "c"]
    assert pool.release(wire, 1) == Grant("a", wire)
    assert pool.release(None, 1) == Grant("c", None)
    assert pool.counts == Counts(2, 0, 0)
    assert pool.release(None, 1) is None
    assert pool.counts == Counts(1, 0, 0)


def test_what_comes_back_goes_by_the_owners_shares() -> None:
    pool: Pool[Wire, str] = Pool(2, 60)
    wire = Wire()
    pool.take("greedy")
    pool.take("greedy")
    pool.wait("third", "greedy")
    pool.wait("other", "other")
    assert pool.release(wire, 1, "greedy") == Grant("other", wire)
    assert pool.release(wire, 1, "other") == Grant("third", wire)


def test_the_dead_are_neither_granted_nor_kept_nor_taken() -> None:
    pool: Pool[Wire, str] = Pool(1, 60)
    wire = Wire()
    pool.take()
    pool.wait("a")
    wire.alive = False
    assert pool.release(wire, 1) == Grant("a", None)
    assert pool.release(wire, 1) is None
    assert pool.empty
    other = Wire()
    pool.take()
    pool.release(other, 1)
    other.alive = False
    assert pool.take() == Admission(True, None)
    assert pool.counts == Counts(1, 0, 0)


def test_expiry_takes_the_oldest_only() -> None:
    pool: Pool[Wire, str] = Pool(4, 10)
    wires = [Wire(), Wire(), Wire()]
    for _ in wires:
        pool.take()
    assert pool.next_expiry() is None
    for now, wire in enumerate(wires):
        pool.release(wire, now)
    assert pool.next_expiry() == 10
    assert pool.expire(9.9) == []
    assert pool.expire(11) == wires[:2]
    assert pool.next_expiry() == 12
    pool.forget(wires[2])
    assert pool.empty


@given(st.lists(st.sampled_from(["take", "give", "drop", "withdraw", "die", "expire"]), max_size=60), st.integers(1, 4))
def test_slots_are_never_lost_and_the_limit_holds(steps: list[str], limit: int) -> None:
    """A model of the callers beside the pool: who holds a slot is who was admitted or granted, less who released."""
    pool: Pool[Wire, int] = Pool(limit, 10)
    holders = 0
    waiting: list[int] = []
    for now, step in enumerate(steps):
        if step == "take":
            if pool.take().admitted:
                assert not waiting
                holders += 1
            else:
                assert holders == limit
                pool.wait(now)
                waiting.append(now)
        elif step in ("give", "drop") and holders:
            grant = pool.release(Wire() if step == "give" else None, now)
            holders -= 1
            if waiting:  # all of one owner: in the order in which they came
                assert grant is not None
                assert grant.ticket == waiting.pop(0)
                holders += 1
            else:
                assert grant is None
        elif step == "withdraw" and waiting:
            pool.withdraw(waiting.pop())
        elif step == "expire":
            pool.expire(now)
        counts = pool.counts
        assert counts.in_use == holders
        assert counts.waiting == len(waiting)
        assert counts.in_use + counts.idle <= limit
