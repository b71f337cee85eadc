"""The ``Store`` protocol: one suite over both engines. Source: decisions 21, 29, 39 and 42; ``relay.state.store``."""

from __future__ import annotations

import asyncio
import copy
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from relay.errors import RelayError
from relay.state import memory, record, rows
from relay.state.memory import MemoryStore
from relay.state.record import decode
from relay.state.sqlite import SqliteStore
from relay.state.store import Objects, Store, StoreError
from tests.state.engines import DAY_S, ENGINES, Clock, find_item, ids, message, open_engine, turn
from tests.support import run

Body = Callable[[Store], Awaitable[None]]


class Bench:
    """Runs a test body against a store of one kind and closes it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        self.clock = Clock()

    def __call__(self, body: Body, **bounds: Any) -> None:
        async def main() -> None:
            store = open_engine(self.kind, self.folder, self.clock, **bounds)
            try:
                await body(store)
            finally:
                await store.close()

        run(main(), 60)


@pytest.fixture(params=ENGINES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(request.param, tmp_path)


async def settle(store: Store) -> None:
    """Give the engine's sweeps their turns: each follows a write, and SQLite's looks at ages once a minute."""
    if isinstance(store, SqliteStore):
        store.writer.next_expiry = 0.0
    for _ in range(12):
        await store.remember_upstream(Objects("test"), "test", "settle")
        await asyncio.sleep(0.005)


async def chain(store: Store, names: str, owner: str = "ann", text: str = "") -> None:
    parent = None
    for name in names:
        await store.commit(*turn(name, text), owner, parent=parent)
        parent = f"resp_{name}"


def test_a_response_comes_back_as_it_was_committed(bench: Bench) -> None:
    async def body(store: Store) -> None:
        response, items = turn("a")
        response["x"] = {"big": 2**70, "surrogate": "\ud83d", "text": "ÿ\u0000\u2028"}
        before = copy.deepcopy(response)
        await store.commit(response, items, "ann", extra={"upstream": "demo"})
        assert response == before
        response["output"].clear()
        kept = await store.get("resp_a", "ann")
        assert kept is not None
        assert kept.response == before
        assert list(kept.response) == list(before)
        assert kept.extra == {"upstream": "demo"}
        assert kept.created_at == 1_700_000_000
        kept.response["output"].clear()
        again = await store.get("resp_a", "ann")
        assert again is not None
        assert again.response == before

    bench(body)


def test_a_response_without_output_keeps_its_members(bench: Bench) -> None:
    async def body(store: Store) -> None:
        for response in ({"id": "resp_1", "status": "failed"}, {"id": "resp_2", "output": [], "z": 1}):
            await store.commit(response, [], "ann")
            kept = await store.get(response["id"], "ann")
            assert kept is not None
            assert kept.response == response
            assert await store.load_chain(response["id"], "ann") == []
            assert await store.input_items(response["id"], "ann") == []

    bench(body)


def test_a_chain_is_every_item_in_order(bench: Bench) -> None:
    async def body(store: Store) -> None:
        await chain(store, "abc")
        expected = [id for name in "abc" for id in (f"msg_{name}_in", f"rs_{name}", f"msg_{name}_out")]
        items = await store.load_chain("resp_c", "ann")
        assert ids(items) == expected
        assert items is not None
        assert items[1] == turn("a")[0]["output"][0]  # reasoning intact
        assert ids(await store.load_chain("resp_a", "ann")) == expected[:3]
        assert ids(await store.input_items("resp_c", "ann")) == expected[:7]
        assert ids(await store.input_items("resp_a", "ann")) == expected[:1]

    bench(body)


def test_forks_share_what_is_before_them(bench: Bench) -> None:
    async def body(store: Store) -> None:
        await chain(store, "ab")
        await store.commit(*turn("c"), "ann", parent="resp_b")
        await store.commit(*turn("d"), "ann", parent="resp_b")
        left, right = await store.load_chain("resp_c", "ann"), await store.load_chain("resp_d", "ann")
        assert left is not None
        assert right is not None
        assert left[:6] == right[:6]
        assert ids(left[6:]) == ["msg_c_in", "rs_c", "msg_c_out"]
        assert ids(right[6:]) == ["msg_d_in", "rs_d", "msg_d_out"]

    bench(body)


def test_nothing_is_found_under_an_unknown_id(bench: Bench) -> None:
    async def body(store: Store) -> None:
        await chain(store, "a")
        for id in ("resp_none", "", "resp_\ud800", "resp_a\u0000"):
            assert await store.get(id, "ann") is None
            assert await store.load_chain(id, "ann") is None
            assert await store.input_items(id, "ann") is None
            assert await find_item(store, id, "ann") is None
            assert await store.find_upstream(id, "ann") is None
            assert await store.delete(id, "ann") is False
            assert await store.read_events(id, -1) == []

    bench(body)


def test_another_owner_sees_nothing_on_any_method(bench: Bench) -> None:
    async def body(store: Store) -> None:
        await chain(store, "ab")
        await store.remember_upstream(Objects("openai"), "ann", "resp_up")
        assert await store.get("resp_b", "bob") is None
        assert await store.load_chain("resp_b", "bob") is None
        assert await store.input_items("resp_b", "bob") is None
        assert await find_item(store, "msg_a_in", "bob") is None
        assert await find_item(store, "msg_a_out", "bob") is None
        assert await store.find_upstream("resp_up", "bob") is None
        assert await store.delete("resp_b", "bob") is False
        assert await store.delete("resp_up", "bob") is False
        with pytest.raises(RelayError) as caught:
            await store.commit(*turn("b", "stolen"), "bob")
        assert caught.value.kind == "conflict"
        # and ann still has it all
        assert len(await store.load_chain("resp_b", "ann") or ()) == 6
        assert await store.find_upstream("resp_up", "ann") == "openai"

    bench(body)


def test_a_chain_never_crosses_into_another_owners(bench: Bench) -> None:
    async def body(store: Store) -> None:
        await chain(store, "a")
        await store.commit(*turn("x"), "bob", parent="resp_a")
        assert await store.get("resp_x", "bob") is not None
        assert await store.load_chain("resp_x", "bob") is None
        assert await store.input_items("resp_x", "bob") is None
        await store.commit(*turn("y"), "bob", parent="resp_x")
        assert await store.load_chain("resp_y", "bob") is None

    bench(body)


def test_a_second_commit_replaces_the_first(bench: Bench) -> None:
    async def body(store: Store) -> None:
        await chain(store, "a")
        running, items = turn("b", "early", "in_progress")
        running["output"] = [message("msg_partial", "half", "assistant")]
        await store.commit(running, items, "ann", parent="resp_a")
        await store.commit(*turn("b", "late"), "ann", parent="resp_a", extra={"n": 1})
        kept = await store.get("resp_b", "ann")
        assert kept is not None
        assert (kept.response, kept.extra) == (turn("b", "late")[0], {"n": 1})
        assert len(await store.load_chain("resp_b", "ann") or ()) == 6
        assert await find_item(store, "msg_partial", "ann") is None
        assert await find_item(store, "msg_b_out", "ann") == turn("b", "late")[0]["output"][1]
        assert await store.delete("resp_b", "ann") is True
        assert await find_item(store, "msg_b_out", "ann") is None

    bench(body)


def test_an_item_is_found_by_its_id(bench: Bench) -> None:
    async def body(store: Store) -> None:
        await chain(store, "ab")
        assert await find_item(store, "msg_a_in", "ann") == turn("a")[1][0]
        assert await find_item(store, "rs_b", "ann") == turn("b")[0]["output"][0]
        # sent again with its old id by someone who keeps his own history: the last one counts
        await store.commit(turn("c")[0], [message("msg_a_in", "edited")], "ann")
        assert await find_item(store, "msg_a_in", "ann") == message("msg_a_in", "edited")
        await store.commit(turn("d")[0], [message("msg_a_in", "bob's")], "bob")
        assert await find_item(store, "msg_a_in", "ann") == message("msg_a_in", "edited")
        await store.delete("resp_c", "ann")
        assert await find_item(store, "msg_a_in", "ann") == turn("a")[1][0]

    bench(body)


def test_many_items_are_found_in_one_read_of_their_turn(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def decoded(blob: bytes) -> Any:
        read.append(len(blob))
        return decode(blob)

    async def body(store: Store) -> None:
        many = [message(f"msg_{number}", "x") for number in range(2_000)]
        await store.commit(turn("a")[0], many, "ann")
        await store.commit(*turn("b"), "ann")
        await store.commit(turn("c")[0], [message("msg_7", "bob's")], "bob")
        monkeypatch.setattr(record, "decode", decoded)
        asked = [*(f"msg_{number}" for number in range(2_500)), "msg_b_out"]
        found = await store.find_items(asked, "ann")
        assert found == {one["id"]: one for one in many} | {"msg_b_out": turn("b")[0]["output"][1]}
        assert len(read) == 4  # input and output of two turns
        monkeypatch.setattr(memory, "CHAIN_LIMIT_BYTES", 1_000)
        monkeypatch.setattr(rows, "CHAIN_LIMIT_BYTES", 1_000)
        with pytest.raises(RelayError, match="the input refers to") as caught:
            await store.find_items(asked, "ann")
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "input")

    bench(body)


def test_items_without_a_usable_id_are_kept(bench: Bench) -> None:
    async def body(store: Store) -> None:
        odd: list[dict[str, Any]] = [
            {"type": "x"},
            {"id": 5},
            {"id": None},
            {"id": ""},
            {"id": "i" * 5000},
            {"id": "\udc00"},
        ]
        await store.commit({"id": "resp_o", "output": []}, [*odd, {"id": "same"}, {"id": "same"}], "ann")
        assert (await store.load_chain("resp_o", "ann") or [])[:6] == odd
        assert await find_item(store, "\udc00", "ann") == {"id": "\udc00"}
        assert await store.delete("resp_o", "ann") is True

    bench(body)


def test_deletion_breaks_what_descends_and_nothing_else(bench: Bench) -> None:
    async def body(store: Store) -> None:
        await chain(store, "abc")
        await store.commit(*turn("d"), "ann", parent="resp_a")
        assert await store.delete("resp_b", "ann") is True
        assert await store.delete("resp_b", "ann") is False
        assert await store.get("resp_b", "ann") is None
        assert await find_item(store, "msg_b_in", "ann") is None
        assert await store.get("resp_c", "ann") is not None
        assert await store.load_chain("resp_c", "ann") is None
        assert await store.input_items("resp_c", "ann") is None
        assert len(await store.load_chain("resp_a", "ann") or ()) == 3
        assert len(await store.load_chain("resp_d", "ann") or ()) == 6
        # a later response never becomes the missing link
        await chain(store, "xyz")
        assert await store.load_chain("resp_c", "ann") is None
        await store.commit(*turn("e"), "ann", parent="resp_c")
        assert await store.load_chain("resp_e", "ann") is None

    bench(body)


def test_a_deleted_last_response_leaves_its_place_to_nobodys_child(bench: Bench) -> None:
    async def body(store: Store) -> None:
        await chain(store, "ab")
        await store.delete("resp_b", "ann")
        await store.commit(*turn("late"), "ann", parent="resp_b")  # its parent went during the turn
        await chain(store, "xy")
        assert await store.get("resp_late", "ann") is not None
        assert await store.load_chain("resp_late", "ann") is None

    bench(body)


def test_expiry_keeps_what_a_descendant_needs(bench: Bench) -> None:
    async def body(store: Store) -> None:
        await store.commit(*turn("a"), "ann")
        await store.commit(*turn("lone"), "ann")
        bench.clock.time_s += 6 * DAY_S
        await store.commit(*turn("b"), "ann", parent="resp_a")
        bench.clock.time_s += 4 * DAY_S - 1
        assert await store.get("resp_a", "ann") is not None
        bench.clock.time_s += 1
        # exactly ten days: not seen, though nothing swept it yet
        assert await store.get("resp_a", "ann") is None
        assert await store.load_chain("resp_lone", "ann") is None
        assert await store.delete("resp_a", "ann") is False
        # a turn that began while its parent was there still commits to it, sweep or not
        bench.clock.time_s += 60
        await settle(store)
        await store.commit(*turn("c"), "ann", parent="resp_a")
        bench.clock.time_s += DAY_S
        await settle(store)
        assert await store.load_chain("resp_a", "ann") is None
        assert await find_item(store, "msg_lone_in", "ann") is None
        assert ids(await store.load_chain("resp_b", "ann")) == [
            "msg_a_in", "rs_a", "msg_a_out", "msg_b_in", "rs_b", "msg_b_out",
        ]  # fmt: skip
        assert len(await store.load_chain("resp_c", "ann") or ()) == 6
        # the last descendant takes the segment along
        await store.delete("resp_c", "ann")
        assert len(await store.load_chain("resp_b", "ann") or ()) == 6
        await store.delete("resp_b", "ann")
        await settle(store)
        assert await find_item(store, "msg_a_in", "ann") is None

    bench(body, max_age_days=10)


def test_what_runs_is_never_let_go(bench: Bench) -> None:
    async def body(store: Store) -> None:
        await store.commit(*turn("run", status="in_progress"), "ann")
        await store.commit(*turn("queued", status="queued"), "ann")
        for number in range(60):
            await store.commit(*turn(f"n{number}", "x" * 20_000), "ann")
        bench.clock.time_s += 100 * DAY_S
        await store.commit(*turn("new", "x" * 20_000), "ann")
        await settle(store)
        assert await store.get("resp_n0", "ann") is None
        for name in ("run", "queued", "new"):
            assert await store.get(f"resp_{name}", "ann") is not None
        await store.commit(*turn("run"), "ann")
        await settle(store)
        assert await store.get("resp_run", "ann") is None  # it ended, and it is old

    bench(body, max_age_days=10, max_bytes=1 << 20)


def test_size_is_bounded_and_the_oldest_go_first(bench: Bench) -> None:
    async def body(store: Store) -> None:
        for number in range(200):
            await store.commit(*turn(f"n{number}", "x" * 10_000), "ann")
        await settle(store)
        there = [number for number in range(200) if await store.get(f"resp_n{number}", "ann")]
        assert there == list(range(there[0], 200))
        # a turn is 20 KB of text: a bound of 1 MiB keeps at most 52, and what is kept is worth the bound
        assert 30 <= len(there) <= 52

    bench(body, max_bytes=1 << 20)


def test_the_memory_engine_counts_what_it_holds() -> None:
    """Small turns and events: the memory that they really take is at most half as much again."""

    async def body() -> None:
        store = MemoryStore()
        tracemalloc.start()
        try:
            for number in range(500):
                await store.commit(*turn(f"n{number}"), "ann")
                await store.append_events(f"resp_n{number}", 0, [orjson.dumps({"n": at}) for at in range(5)])
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 1.5 * store.used_bytes, (held, store.used_bytes)

    run(body())


def test_a_long_chain_goes_bit_by_bit_when_it_is_the_oldest(bench: Bench) -> None:
    async def body(store: Store) -> None:
        parent = None
        for number in range(300):
            await store.commit(*turn(f"old{number}", "x" * 500), "ann", parent=parent)
            parent = f"resp_old{number}"
        bench.clock.time_s += 11 * DAY_S
        await store.commit(*turn("new"), "ann")
        for _ in range(10):
            await settle(store)
        assert await find_item(store, "msg_old0_in", "ann") is None
        assert await find_item(store, "msg_old299_in", "ann") is None
        assert await store.load_chain("resp_new", "ann") is not None

    bench(body, max_age_days=10)


def test_ids_of_upstreams_are_their_owners(bench: Bench) -> None:
    async def body(store: Store) -> None:
        await store.remember_upstream(Objects("openai"), "ann", "resp_u")
        await store.remember_upstream(Objects("azure"), "bob", "resp_u")
        assert await store.find_upstream("resp_u", "ann") == "openai"
        assert await store.find_upstream("resp_u", "bob") == "azure"
        await store.remember_upstream(Objects("openai2"), "ann", "resp_u")
        assert await store.find_upstream("resp_u", "ann") == "openai2"
        assert await store.delete("resp_u", "ann") is True
        assert await store.find_upstream("resp_u", "ann") is None
        assert await store.find_upstream("resp_u", "bob") == "azure"
        bench.clock.time_s += 10 * DAY_S
        assert await store.find_upstream("resp_u", "bob") is None
        assert await store.delete("resp_u", "bob") is False

    bench(body, max_age_days=10)


def test_objects_of_upstreams_have_owners_and_only_responses_have_paths(bench: Bench) -> None:
    """outliving.md 51 and 52: (id, upstream, owner), learned with a response kept here, there, or not at all."""

    async def body(store: Store) -> None:
        await store.remember_upstream(Objects("openai", ["msg_1", "cntr_1"]), "ann", "resp_up")
        await store.commit(*turn("here"), "ann", objects=Objects("azure", ["cntr_2"]))
        await store.remember_upstream(Objects("openai", ["file_\ud83d", "shared"]), "ann")
        await store.remember_upstream(Objects("azure", ["shared", "theirs"]), "bob")
        asked = ["resp_up", "msg_1", "cntr_1", "resp_here", "cntr_2", "file_\ud83d", "shared", "theirs", "unknown"]
        ann = {
            "resp_up": "openai",
            "msg_1": "openai",
            "cntr_1": "openai",
            "resp_here": "",
            "cntr_2": "azure",
            "file_\ud83d": "openai",
            "shared": "openai",
            "theirs": None,
        }
        assert await store.whose(asked, "ann") == ann
        bob = dict.fromkeys(ann, None) | {"shared": "azure", "theirs": "azure"}
        assert await store.whose(asked, "bob") == bob
        assert await store.whose([], "bob") == {}
        # an input item has an id of its client's own making: it makes nobody an owner
        assert await store.whose(["msg_here_in"], "ann") == {}
        assert await store.find_upstream("cntr_1", "ann") is None
        assert await store.delete("cntr_1", "ann") is False
        assert await store.delete("resp_up", "ann") is True
        assert await store.whose(["resp_up", "msg_1", "cntr_1"], "ann") == {"msg_1": "openai", "cntr_1": "openai"}
        bench.clock.time_s += 10 * DAY_S
        assert await store.whose(asked, "ann") == {}

    bench(body, max_age_days=10)


def test_very_many_objects_are_looked_for_in_one_read(bench: Bench) -> None:
    async def body(store: Store) -> None:
        ids = [f"file_{number}" for number in range(5_000)]
        await store.remember_upstream(Objects("openai", ids[::2]), "ann")
        await store.remember_upstream(Objects("openai", ids[1::2]), "bob")
        known = await store.whose(ids, "ann")
        assert {id for id, name in known.items() if name == "openai"} == set(ids[::2])
        assert len(known) == len(ids)

    bench(body)


def test_notes_of_objects_are_bounded_too(bench: Bench) -> None:
    async def body(store: Store) -> None:
        await store.remember_upstream(Objects("openai", ["old"]), "ann")
        for number in range(8):
            await store.remember_upstream(Objects("openai", [f"{'x' * 400}{number}_{at}" for at in range(500)]), "ann")
        await settle(store)
        await store.remember_upstream(Objects("openai", ["new"]), "ann")
        assert await store.whose(["old", "new"], "ann") == {"new": "openai"}

    bench(body, max_bytes=1 << 20)


def test_event_logs_have_no_gaps_and_go_with_their_response(bench: Bench) -> None:
    async def body(store: Store) -> None:
        await store.commit(*turn("a", status="in_progress"), "ann")
        await store.append_events("resp_a", 0, [b"zero", b"one"])
        await store.append_events("resp_b", 7, [b"other"])
        await store.append_events("resp_a", 2, [b"two"])
        assert await store.read_events("resp_a", -1) == [(0, b"zero"), (1, b"one"), (2, b"two")]
        assert await store.read_events("resp_a", 1) == [(2, b"two")]
        assert await store.read_events("resp_a", 2) == []
        assert await store.read_events("resp_a", 2**80) == []
        assert await store.read_events("resp_b", -1) == [(7, b"other")]
        for first in (0, 2, 4):
            with pytest.raises(RelayError) as caught:
                await store.append_events("resp_a", first, [b"again"])
            assert caught.value.kind == "conflict"
        assert len(await store.read_events("resp_a", -1)) == 3
        await store.delete("resp_a", "ann")
        assert await store.read_events("resp_a", -1) == []
        assert await store.read_events("resp_b", -1) == [(7, b"other")]
        bench.clock.time_s += 11 * DAY_S
        await settle(store)
        assert await store.read_events("resp_b", -1) == []

    bench(body, max_age_days=10)


def test_events_are_read_in_bounded_pages(bench: Bench) -> None:
    async def body(store: Store) -> None:
        await store.append_events("resp_a", 0, [b"%d" % number for number in range(2_500)])
        read: list[tuple[int, bytes]] = []
        pages = 0
        while page := await store.read_events("resp_a", read[-1][0] if read else -1):
            read += page
            pages += 1
        assert read == [(number, b"%d" % number) for number in range(2_500)]
        assert pages == 3
        await store.append_events("resp_big", 0, [b"x" * (6 << 20)] * 4)
        assert len(await store.read_events("resp_big", -1)) == 3  # 16 MiB, passed by one

    bench(body)


def test_one_holder_a_lease(bench: Bench) -> None:
    async def body(store: Store) -> None:
        assert await store.acquire("key", "one", 10) is True
        assert await store.acquire("key", "two", 10) is False
        assert await store.acquire("other", "two", 10) is True
        assert await store.release("key", "two") is False
        bench.clock.time_s += 9
        assert await store.acquire("key", "one", 10) is True  # extended
        bench.clock.time_s += 9
        assert await store.acquire("key", "two", 10) is False
        assert await store.release("key", "one") is True
        assert await store.release("key", "one") is False
        assert await store.acquire("key", "two", 10) is True
        bench.clock.time_s += 10
        assert await store.release("key", "two") is False  # it had run out
        assert await store.acquire("key", "one", 10) is True

    bench(body)


def test_a_race_for_a_lease_has_one_winner(bench: Bench) -> None:
    async def body(store: Store) -> None:
        got = await asyncio.gather(*(store.acquire("key", f"worker{n}", 60) for n in range(32)))
        assert sum(got) == 1

    bench(body)


def test_many_commits_at_once_are_all_there(bench: Bench) -> None:
    async def body(store: Store) -> None:
        await asyncio.gather(*(store.commit(*turn(f"n{n}"), "ann") for n in range(300)))
        for n in range(300):
            assert await store.get(f"resp_n{n}", "ann") is not None

    bench(body)


def test_a_closed_store_refuses_everything(bench: Bench) -> None:
    async def body(store: Store) -> None:
        await store.close()
        assert store.healthy is False
        calls: list[Awaitable[Any]] = [
            store.commit(*turn("a"), "ann"), store.get("a", "ann"), store.load_chain("a", "ann"),
            store.input_items("a", "ann"), find_item(store, "a", "ann"), store.delete("a", "ann"),
            store.remember_upstream(Objects("u"), "ann", "a"), store.find_upstream("a", "ann"),
            store.whose(["a"], "ann"),
            store.append_events("a", 0, [b""]), store.read_events("a", -1),
            store.acquire("k", "o", 1), store.release("k", "o"),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(StoreError) as caught:
                await call
            assert caught.value.status == 503
            assert caught.value.code == "store_unavailable"

    bench(body)
