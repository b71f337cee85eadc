"""Huge members that nobody reads are cut out of JSON text; everything else is as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.wire import thinning
from relay.wire.thinning import INTO, KEPT, thinned
from tests.support import assert_linear

TEXTS = st.text(alphabet='ab"\\{}[],: \n\té', max_size=8)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(TEXTS | st.sampled_from(["delta", "content"]), inner, max_size=4)
    ),
    max_leaves=25,
)
MANY = [[], {}, "[", 0, {"a": [1]}, '\\"'] * 30_000


def without(value: Any, limit: int) -> Any:
    """The rule, said once more over values: what a member holds is counted in the text, as the module does."""

    def heavy(one: Any) -> bool:
        text = json.dumps(one, separators=(",", ":"))
        return len(text) > limit and sum(map(text.count, ",[{")) > limit

    if isinstance(value, dict):
        kept = {}
        for name, one in value.items():
            said = json.dumps(name)[1:-1].encode()
            whole = said in KEPT or not heavy(one)
            kept[name] = one if whole else without(one, limit) if said in INTO else None
        return kept
    return [without(one, limit) if heavy(one) else one for one in value] if isinstance(value, list) else value


@given(st.dictionaries(TEXTS | st.sampled_from(["choices", "content"]), TREES, max_size=4), st.integers(1, 6))
def test_only_what_is_huge_and_unknown_is_cut(tree: dict[str, Any], limit: int) -> None:
    before = thinning.HUGE_VALUES
    thinning.HUGE_VALUES = limit  # type: ignore[misc]
    try:
        data = json.dumps(tree, separators=(",", ":")).encode()
        assert json.loads(thinned(data)) == without(tree, limit)
    finally:
        thinning.HUGE_VALUES = before  # type: ignore[misc]


@pytest.mark.parametrize("place", ["first", "last", "deep", "blank"])
def test_the_member_is_found_wherever_it_stands(place: str) -> None:
    tree: dict[str, Any] = {"choices": [{"message": {"content": "ok"}}]}
    if place == "deep":
        tree["choices"][0]["message"]["junk"] = MANY
        expected: Any = {"choices": [{"message": {"content": "ok", "junk": None}}]}
    else:
        tree = {"junk": MANY, **tree} if place == "first" else {**tree, "junk": MANY}
        expected = {**tree, "junk": None}
    data = json.dumps(tree, indent=1 if place == "blank" else None).encode()
    assert json.loads(thinned(data)) == expected
    assert json.loads(thinned(b"data: " + data)[6:]) == expected, "a field of an event may stand before it"


@pytest.mark.parametrize(
    "data",
    [
        b'{"choices":' + json.dumps(MANY).encode() + b"}",
        b'{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":'
        + json.dumps({"mine": MANY}).encode()
        + b"}}]}}]}",
        b"[" * 200_000,
        b'{"a":' * 100_001,
        b'{"junk":[' + b"{}," * 200_000,
        b'{"junk":[' + b"{}," * 200_000 + b'"',
        b"{" + b"," * 200_000 + b"1",
        b'{"a":' + b"," * 200_000 + b"}",
        b'{"a":}' + b"," * 200_000,
        b"x" * 200_000,
        b"," * 200_000,
        b'{"text":"' + b"[,{" * 100_000 + b'"}',
        b"{}",
    ],
    ids=lambda data: str(data[:12]),
)
def test_what_is_read_or_is_no_json_stays(data: bytes) -> None:
    assert thinned(data) == data


def test_long_strings_and_lists_are_matched_too() -> None:
    long = ["x" * 600_000, [0] * 200_000, {"a": ["y" * 300_000, [1] * 300_000]}]
    data = json.dumps({"junk": long, "choices": 1, "id": "z" * 300_000}).encode()
    assert json.loads(thinned(data)) == {"junk": None, "choices": 1, "id": "z" * 300_000}


@pytest.mark.parametrize("one", [b"{}", b"[]", b"0", b'""', b'"\\""', b"[[]]", b'{"a":[{}]}', b"[0,[0]]"])
def test_the_time_is_linear(one: bytes) -> None:
    def work(count: int) -> None:
        data = b'{"choices":[],"junk":[%b]}' % b",".join([one] * count)
        assert thinned(data) == b'{"choices":[],"junk":null}'

    assert_linear(work, 150_000)
