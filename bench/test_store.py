"""The chain of a ``previous_response_id``, by its length and its engine; and what keeping a turn costs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from bench.data import turns
from relay.state import Store, open_store

ENGINES = ("sqlite", "memory")


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Store]]:
    path: Path = tmp_path_factory.mktemp("store") / "bench.db"
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        store = open_store(request.param, path, max_age_days=None, max_bytes=None)
        parent = None
        for response, items in turns(200):
            runner.run(store.commit(response, items, "bench", parent=parent))
            parent = response["id"]
        yield runner, store
        runner.run(store.close())


@pytest.mark.parametrize("length", [1, 20, 200])
def test_chain(benchmark: Any, engine: tuple[asyncio.Runner, Store], length: int) -> None:
    runner, store = engine
    last = turns(200)[length - 1][0]["id"]
    chain = benchmark(lambda: runner.run(store.load_chain(last, "bench")))
    assert len(chain) == 2 * length


def test_commit(benchmark: Any, engine: tuple[asyncio.Runner, Store]) -> None:
    runner, store = engine
    number = iter(range(1_000_000))
    response, items = turns(1)[0]

    def commit() -> None:
        runner.run(store.commit({**response, "id": f"resp_kept{next(number)}"}, items, "bench"))

    benchmark(commit)
