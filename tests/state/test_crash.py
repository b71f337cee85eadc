"""The contract of the store: what was answered survives kill -9 of every process (issue 4, State 2)."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from relay.state.sqlite import SqliteStore
from tests.state.engines import turn
from tests.support import run

WRITERS = 4
ROUNDS = 20
WANTED = 500
LIMIT_S = 60.0  # for the whole test, on a busy machine; 10 to 15 s on an idle one


def text_of(name: str) -> str:
    return name * (40 + hash_of(name) % 2_000)


def hash_of(name: str) -> int:
    return sum(map(ord, name)) * 7_919


async def write(path: Path, prefix: str) -> None:
    """Commit chains for ever from four tasks, saying each id after its commit returned, in one write."""
    store = SqliteStore(path)

    async def chain(number: int) -> None:
        parent = None
        count = 0
        while True:
            name = f"{prefix}.{number}.{count}"
            await store.commit(*turn(name, text_of(name)), "ann", parent=parent)
            say(name)
            parent = f"resp_{name}" if count % 25 else None
            count += 1

    await asyncio.gather(*(chain(number) for number in range(4)))


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())  # to a pipe, so short a line is there whole or not at all


def nurse(path: Path) -> None:
    """Fork four writers a line read, say their ids, wait for their ends: what a start costs is paid once."""
    for line in sys.stdin:
        pids = []
        for number in range(WRITERS):
            pid = os.fork()
            if pid == 0:
                asyncio.run(write(path, f"{line.strip()}.{number}"))
            pids.append(pid)
        say("pids " + " ".join(map(str, pids)))
        for pid in pids:
            assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
        say("reaped")


def test_whatever_was_answered_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    chance = random.Random(20_261_122)
    nursery = subprocess.Popen(
        [sys.executable, "-m", __name__, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    watchdog = threading.Timer(LIMIT_S, nursery.kill)
    watchdog.start()
    answered: list[str] = []
    try:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        for number in range(ROUNDS):
            nursery.stdin.write(f"{number}\n")
            nursery.stdin.flush()
            pids: list[int] = []
            wanted = chance.randrange(1, 80)  # how many answers this round's kill waits for
            said = 0
            for line in nursery.stdout:
                word, *rest = line.split()
                if word == "reaped":
                    break
                if word == "pids":
                    pids = [int(pid) for pid in rest]
                else:
                    answered.append(word)
                    said += 1
                if pids and said >= wanted:
                    kill(pids, chance, one_by_one=bool(number % 2))
                    pids, wanted = [], 1 << 30
            else:
                pytest.fail("the writers ended by themselves, or took too long")
    finally:
        watchdog.cancel()
        nursery.kill()
        nursery.communicate()
    check(path, answered)
    print(f"\n{len(answered)} responses over {ROUNDS} kills of {WRITERS} writers")
    assert len(answered) >= WANTED
    assert not [file for file in tmp_path.iterdir() if ".damaged" in file.name]


def kill(pids: list[int], chance: random.Random, *, one_by_one: bool) -> None:
    """At a random moment: all at once, or one after the other while the rest goes on."""
    chance.shuffle(pids)
    time.sleep(chance.uniform(0, 0.01))
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        if one_by_one:
            time.sleep(chance.uniform(0, 0.01))


def check(path: Path, answered: list[str]) -> None:
    async def main() -> None:
        store = SqliteStore(path)
        assert store.healthy
        for name in answered:
            response, items = turn(name, text_of(name))
            kept = await store.get(f"resp_{name}", "ann")
            assert kept is not None, name
            assert kept.response == response
            chain = await store.load_chain(f"resp_{name}", "ann")
            assert chain is not None, name
            assert chain[-3:] == [*items, *response["output"]]
            assert len(chain) == 3 * (1 + (int(name.rsplit(".", 1)[1]) - 1) % 25 if not name.endswith(".0") else 1)
        await store.close()

    run(main(), 60)


if __name__ == "__main__":
    nurse(Path(sys.argv[1]))
