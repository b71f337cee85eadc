"""Decision 51, of an upstream's own counts: zero, null and what is missing replace none."""

from __future__ import annotations

import pytest

from relay.responses.usage import MEMBERS_LIMIT, MOST, Counts, count_of, overlaid
from tests.support import assert_linear


@pytest.mark.parametrize(
    ("known", "told", "expected"),
    [
        ({}, {"a": 0}, {"a": 0}),
        ({"a": 5, "b": 1}, {"a": 6, "b": 2}, {"a": 6, "b": 2}),
        ({"a": 5, "b": 1}, {"a": 0, "b": 2}, {"a": 5, "b": 2}),
        ({"a": 5}, {"a": None}, {"a": 5}),
        ({"a": 5}, {"b": 0}, {"a": 5, "b": 0}),
        ({"a": 5}, {"a": 3}, {"a": 3}),
        ({"a": 0}, {"a": None}, {"a": None}),
        ({"d": {"x": 4, "y": 1}}, {"d": {"x": 0, "y": 2, "z": 0}}, {"d": {"x": 4, "y": 2, "z": 0}}),
        ({"d": {"x": 4}}, {"d": {}}, {"d": {"x": 4}}),
        ({"d": {"x": 4}}, {"d": None, "a": 1}, {"d": {"x": 4}, "a": 1}),
        ({"d": {"x": 4}}, {"d": {"x": 0}}, {"d": {"x": 4}}),
        ({"d": None, "a": 1}, {"d": {"x": 4}, "a": 0}, {"d": {"x": 4}, "a": 1}),
        ({"l": [1], "a": 1}, {"l": [], "a": 2}, {"l": [1], "a": 2}),
    ],
)
def test_what_is_known_stays_where_nothing_better_comes(known: Counts, told: Counts, expected: Counts) -> None:
    before = repr((known, told))
    assert overlaid(known, told) == expected
    assert repr((known, told)) == before


def test_members_that_never_end_are_not_kept() -> None:
    known: Counts = {}
    for number in range(10 * MEMBERS_LIMIT):
        known = overlaid(known, {str(number): 1})
    assert len(known) <= MEMBERS_LIMIT + 1


def test_cost_is_linear() -> None:
    def tell(count: int) -> None:
        known: Counts = {}
        for number in range(count):
            known = overlaid(known, {str(number): 1, "a": 0})

    assert_linear(tell, 5_000)


@pytest.mark.parametrize(
    ("value", "count"),
    [
        *((5, 5), (5.9, 5), (True, 1), (MOST, MOST), (0, 0), (-1, 0), (MOST + 1, 0), (10**40, 0), (1e300, 0)),
        *((float("inf"), 0), (float("nan"), 0), ("5", 0), (None, 0), ([], 0), ({}, 0)),
    ],
)
def test_what_is_no_count_is_none(value: object, count: int) -> None:
    assert count_of(value) == count
