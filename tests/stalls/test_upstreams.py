"""What upstreams send, whatever it is, holds the worker for no longer than decision 61 says."""

from __future__ import annotations

import pytest

from tests.stalls.harness import DIALECTS, Input, Stage, check, words

INPUTS = [
    *(Input("small", dialect=dialect, transport=how) for dialect in DIALECTS for how in ("sse", "json", "ws")),
    *(Input("1-MiB-of-tokens", answer=lambda d=d: words(d, "tok", 6_000), dialect=d) for d in DIALECTS),
]


@pytest.mark.parametrize("one", INPUTS, ids=str)
def test_others_are_served_meanwhile(stage: Stage, one: Input) -> None:
    play = check(stage, one)
    assert b"response.completed" in play.said or play.status == 200
