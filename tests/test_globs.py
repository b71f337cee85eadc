"""Globs of the configuration: ``re`` is the reference for what matches, the clock for what it costs."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.config import Glob
from tests.support import cpu_seconds


def reference(glob: str) -> re.Pattern[str]:
    return re.compile("".join({"*": "(.*)", "?": "."}.get(one) or re.escape(one) for one in glob), re.DOTALL)


@settings(max_examples=1000, deadline=None)
@given(st.text("ab*?\n", max_size=7), st.text("ab\n", max_size=9))
def test_what_matches(glob: str, name: str) -> None:
    found, expected = Glob(glob).match(name), reference(glob).fullmatch(name)
    assert (found is None) == (expected is None)
    if expected is not None and glob.count("*") == 1:
        assert found == expected[1]


@pytest.mark.parametrize(
    ("glob", "name", "taken"),
    [
        ("gpt-*-mini", "gpt-5-mini", "5"),
        ("*", "", ""),
        ("a", "a", ""),
        ("a?c", "abc", ""),
        ("a*b*c", "aXbYc", "XbY"),
        ("ab*ba", "aba", None),
    ],
)
def test_what_the_star_took(glob: str, name: str, taken: str | None) -> None:
    assert Glob(glob).match(name) == taken


@pytest.mark.parametrize("glob", ["*a*a*a*a*b", "*?a*?a*?a*?a*b", "a*" * 100 + "b", "*?" * 100 + "b"])
def test_a_name_of_any_form_costs_little(glob: str) -> None:
    assert Glob(glob).match("a" * 512) is None
    assert cpu_seconds(lambda: Glob(glob).match("a" * 512), 3) < 0.05
