"""What a socket remembers, and for how long (responses-api.md §5.7; decision 36)."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.app.memory import ConnectionMemory, View


def window(text: str, size: int = 0) -> list[dict[str, Any]]:
    return [{"id": f"msg_{text}", "type": "message", "role": "user", "content": text + "x" * size}]


def held_bytes(value: Any) -> int:
    """What a value costs: its JSON, and 64 bytes for each value in it."""

    def count(one: Any) -> int:
        inner = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        return 1 + sum(map(count, inner))

    return len(orjson.dumps(value)) + 64 * count(value)


def found(memory: ConnectionMemory, identifier: str) -> list[dict[str, Any]] | None:
    return View(memory, None).find(identifier)


def test_the_last_response_of_each_lane() -> None:
    memory = ConnectionMemory()
    memory.remember("r1", None, window("one"))
    memory.remember("r2", "a", window("two"))
    memory.remember("r3", None, window("three"))
    assert found(memory, "r1") is None
    assert found(memory, "r2") == window("two")
    assert found(memory, "r3") == window("three")
    assert found(memory, "r4") is None
    assert memory.size_bytes == held_bytes(window("two")) + held_bytes(window("three"))


def test_a_pin_outlives_the_lane() -> None:
    memory = ConnectionMemory()
    memory.remember("r1", None, window("one"))
    entry = memory.get("r1")
    assert entry is not None
    memory.pin(entry)
    memory.pin(entry)
    memory.remember("r2", None, window("two"))
    memory.unpin(entry)
    assert View(memory, entry).find("r1") == window("one")
    memory.unpin(entry)
    assert found(memory, "r1") is None
    assert memory.size_bytes == held_bytes(window("two"))


def test_a_pin_outlives_an_eviction_for_whoever_holds_it() -> None:
    memory = ConnectionMemory()
    memory.remember("r1", "a", window("one"))
    entry = memory.get("r1")
    assert entry is not None
    memory.pin(entry)
    memory.evict(entry)
    assert memory.get("r1") is None
    assert View(memory, entry).find("r1") == window("one")
    memory.unpin(entry)
    assert memory.size_bytes == 0
    memory.evict(entry)  # once more does no harm
    assert memory.size_bytes == 0


def test_no_hit_means_nothing_to_evict() -> None:
    memory = ConnectionMemory()
    memory.remember("r1", "a", window("one"))
    view = View(memory, None)
    assert view.hit is None
    assert view.find("other") is None
    assert view.hit is None
    view.find("r1")
    assert view.hit is memory.get("r1")


def test_oldest_idle_lane_first() -> None:
    busy = {"a"}
    memory = ConnectionMemory(2_200, busy.__contains__)
    for lane in "abc":
        memory.remember(f"r{lane}", lane, window(lane, 250))
    memory.remember("rd", "d", window("d", 250))
    assert [entry.id for entry in memory.entries] == ["ra", "rc", "rd"]  # a runs, b was the oldest that did not
    memory.remember("re", "e", window("e", 1_700))
    assert [entry.id for entry in memory.entries] == ["re"]


def test_pins_go_last_and_go() -> None:
    memory = ConnectionMemory(2_200)
    memory.remember("r1", "a", window("1", 250))
    first = memory.get("r1")
    assert first is not None
    memory.pin(first)
    for number in range(2, 6):
        memory.remember(f"r{number}", f"l{number}", window(str(number), 250))
        assert memory.get("r1") is first
    memory.remember("r6", "b", window("6", 1_700))
    assert View(memory, first).find("r1") is None
    memory.unpin(first)
    assert [entry.id for entry in memory.entries] == ["r6"]


def test_what_alone_is_too_much_is_not_kept_and_costs_nobody_else() -> None:
    memory = ConnectionMemory(1_000)
    memory.remember("r1", "a", window("1"))
    memory.remember("r2", "b", window("2", 2_000))
    assert [entry.id for entry in memory.entries] == ["r1"]
    memory.remember("r3", "a", window("3", 2_000))  # and what it continued is no longer its lane's last
    assert memory.entries == ()


def test_items_of_every_window_are_found_the_newest_first() -> None:
    memory = ConnectionMemory()
    memory.remember("r1", "a", [*window("one"), {"id": "fc_1", "type": "function_call", "arguments": "old"}])
    memory.remember("r2", "b", [{"id": "fc_1", "type": "function_call", "arguments": "new"}, {"type": "message"}])
    view = View(memory, None)
    item = view.find_item("fc_1")
    assert item is not None
    assert item["arguments"] == "new"
    assert view.find_item("msg_one") == window("one")[0]
    assert view.find_item("msg_two") is None


def test_many_small_values_count_by_what_they_hold() -> None:
    """10,000 empty objects are 30 KB of JSON and many times that in memory (issue 10: 52 MB for 589 bytes sent)."""
    memory = ConnectionMemory(500_000)
    memory.remember("r1", None, [{"type": "message", "content": [{} for _ in range(10_000)]}])
    assert memory.entries == ()
    memory.remember("r2", None, [{"type": "message", "content": "x" * 30_000}])
    assert [entry.id for entry in memory.entries] == ["r2"]


def test_lone_surrogates_have_a_size_too() -> None:
    memory = ConnectionMemory()
    memory.remember("r1", None, [{"type": "message", "content": "\ud800"}])
    assert memory.size_bytes > 0


STEPS = st.tuples(
    st.sampled_from(["remember", "pin", "unpin", "evict"]), st.sampled_from("abc"), st.integers(0, 400), st.integers(0)
)


@given(st.lists(STEPS, max_size=60))
@settings(max_examples=200, deadline=None)
def test_the_account_is_right_after_anything(steps: list[tuple[str, str, int, int]]) -> None:
    memory = ConnectionMemory(3_000)
    pins: list[Any] = []
    for number, (step, lane, size, which) in enumerate(steps):
        entries = memory.entries
        if step == "remember":
            memory.remember(f"r{number}", lane, window(str(number), size))
        elif step == "pin" and entries:
            pins.append(entries[which % len(entries)])
            memory.pin(pins[-1])
        elif step == "unpin" and pins:
            memory.unpin(pins.pop(which % len(pins)))
        elif step == "evict" and entries:
            memory.evict(entries[which % len(entries)])
        held = memory.entries
        assert memory.size_bytes == sum(held_bytes(entry.window) for entry in held) <= 3_000
        for entry in held:
            assert entry.held
            assert entry.pins or entry.current
            assert (memory.get(entry.id) is entry) >= entry.current
        lanes = [entry.lane for entry in held if entry.current]
        assert len(lanes) == len(set(lanes))
