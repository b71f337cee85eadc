"""Counting values without reading them, beside the standard library's reader."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.wire import values
from tests.support import assert_linear

TEXTS = st.text(alphabet='ab"\\{}[],: \n\té😀', max_size=12)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=30,
)


def truth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(truth, inner))


@given(TREES, st.sampled_from([None, 1]), st.booleans(), st.integers(1, 40))
def test_values_are_counted_wherever_a_window_ends(tree: Any, indent: int | None, ascii_only: bool, size: int) -> None:
    data = json.dumps(tree, indent=indent, ensure_ascii=ascii_only).encode()
    before = values.WINDOW_BYTES
    values.WINDOW_BYTES = size  # type: ignore[misc]
    try:
        assert values.count(data) == truth(tree) <= values.most(data) + 1
    finally:
        values.WINDOW_BYTES = before  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "member"),
    [
        (b'{"model":"m, [x]","input":["","","",""],"b":[1]}', "input"),
        (b'{"a":[1,2],"in\\"put" :\n[{},{"b":[1]}]}', 'in\\"put'),
        (b'{"a":{"input":[1,2,3,4,5]}}', "a"),
        (b"[1,2,3,4,5,6]", ""),
        (b'{"a":1}', ""),
    ],
)
def test_the_member_that_goes_too_far_is_named(text: bytes, member: str) -> None:
    assert values.where(text, 5) == member


@pytest.mark.parametrize(
    "make",
    [
        lambda n: b'["' + b"\\" * n + b'"]',
        lambda n: b'["' + b'\\"' * n + b'"]',
        lambda n: b"[" + b'"",' * n + b'""]',
        lambda n: b'{"a":' * n,
        lambda n: b'"' * n,
        lambda n: b'["' + b"a,[{" * n,
    ],
    ids=["backslashes", "quotes", "empty strings", "nested", "no text at all", "brackets in a string"],
)
def test_counting_is_linear(make: Any) -> None:
    def counted(size: int) -> None:
        data = make(size)
        for function in (values.count, values.most, lambda data: values.where(data, len(data))):
            function(data)

    assert_linear(counted, 400_000)
