"""Names of tools on the wire (translation.md §1.6): what ``test_*_request`` ask of a few holds for many."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from relay.providers.base import wire_names
from tests.support import assert_linear

VALID = re.compile(r"[A-Za-z0-9_-]+")


@given(st.lists(st.text("aé_2", min_size=1, max_size=6), unique=True), st.integers(4, 8))
def test_names_differ_and_are_valid(keys: list[str], limit: int) -> None:
    names = wire_names(keys, VALID, limit, ["a"])
    assert len(set(names.values()) | {"a"}) == len(keys) + 1
    assert all(VALID.fullmatch(name) and len(name) <= limit for name in names.values())


def test_many_names_of_one_stem_are_linear() -> None:
    assert_linear(lambda size: wire_names([f"{chr(0x4E00 + n)}é" for n in range(size)], VALID, 64), 4000)
