"""Idle WebSockets cost little: the measurement of ``bench.idle_sockets`` with few of them and a generous bound."""

from __future__ import annotations

import pytest

from bench.idle_sockets import measured, relay


@pytest.mark.parametrize(("turn", "limit"), [(False, 24_000), (True, 40_000)], ids=["silent", "after a turn"])
def test_an_idle_socket_is_small(turn: bool, limit: int) -> None:
    with relay() as (pid, port):
        cost = measured(pid, port, 200, turn=turn)
    assert cost.rss_bytes < limit, cost
