"""CPU time and memory of processes, as Linux counts them.

Source: proc(5). ``/proc/PID/task/*/schedstat`` counts nanoseconds on a CPU, user and system together; the ticks of
``/proc/PID/stat`` are 10 ms. A thread that ended takes its count with it; the relay's live as long as it does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def cpu_ns(pids: Iterable[int]) -> int:
    """Time that all threads of these processes were on a CPU."""
    total = 0
    for pid in pids:
        tasks = f"/proc/{pid}/task"
        for thread in os.listdir(tasks):
            with open(f"{tasks}/{thread}/schedstat", "rb") as file:
                total += int(file.read().split()[0])
    return total


def memory_bytes(pids: Iterable[int]) -> int:
    """Resident memory, pages shared with other processes counted in part (Pss)."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for thread in os.listdir(f"/proc/{pid}/task"):
        for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split():
            found += family(int(child))
    return found
