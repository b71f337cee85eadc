"""Work before the first upstream byte lets others run in between (decision 61)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from relay.app import prepare
from tests.support import run


def test_steps_let_others_run() -> None:
    def steps() -> Iterator[None]:
        for _ in range(20):
            end = time.perf_counter() + prepare.SLICE_S * 1.5
            while time.perf_counter() < end:
                pass
            yield

    async def main() -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.ensure_future(other())
        await prepare._in_turns(steps())
        await prepare._in_turns(iter([None, None]))
        task.cancel()
        return turns

    assert run(main()) >= 19
