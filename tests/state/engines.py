"""Stores, turns and a clock for the tests of this folder."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from relay.state.memory import MemoryStore
from relay.state.sqlite import SqliteStore
from relay.state.store import Store
from tests.support import run

ENGINES = ("memory", "sqlite")
DAY_S = 86_400


class Clock:
    """Time as an argument; starts at a round second."""

    def __init__(self) -> None:
        self.time_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.time_s


def open_engine(kind: str, folder: Path, clock: Clock, **bounds: Any) -> Store:
    if kind == "memory":
        return MemoryStore(now=clock, **bounds)
    return SqliteStore(folder / "relay.db", now=clock, **bounds)


def message(id: str, text: str, role: str = "user") -> dict[str, Any]:
    part = "input_text" if role == "user" else "output_text"
    return {"id": id, "type": "message", "role": role, "content": [{"type": part, "text": text}]}


def turn(name: str, text: str = "", status: str = "completed") -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A response ``resp_NAME`` with output ``msg_NAME_out``, and its input ``msg_NAME_in``."""
    output = [
        {"id": f"rs_{name}", "type": "reasoning", "summary": [], "encrypted_content": f"relay1.{name}"},
        message(f"msg_{name}_out", f"answer {name} {text}", "assistant"),
    ]
    response = {"id": f"resp_{name}", "object": "response", "status": status, "output": output, "usage": None}
    return response, [message(f"msg_{name}_in", f"question {name} {text}")]


def ids(items: list[dict[str, Any]] | None) -> list[str] | None:
    return None if items is None else [item["id"] for item in items]


def size_of(path: Path) -> int:
    return path.stat().st_size


def with_store(path: Path, body: Callable[[SqliteStore], Awaitable[None]], **options: Any) -> None:
    """Run ``body`` on a SQLite store, on a fresh loop, and close it."""

    async def main() -> None:
        store = SqliteStore(path, **options)
        try:
            await body(store)
        finally:
            await store.close()

    run(main(), 60)


async def one_turn(store: Store) -> None:
    await store.commit(*turn("a"), "ann")


async def find_item(store: Store, id: str, owner: str) -> dict[str, Any] | None:
    return (await store.find_items([id], owner)).get(id)
