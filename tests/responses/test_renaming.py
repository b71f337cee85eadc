"""Keys of arguments go back to what the client called them; all other bytes stay (RFC 8259 for what a key is)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.responses.renaming import KeyRenamer, with_keys
from tests.support import assert_linear

NAMES = {"_filter": "$filter", "b": "a\u00e9", "q_": 'q"'}


def streamed(text: str, size: int, names: dict[str, str] = NAMES) -> str:
    renamer = KeyRenamer(names)
    pieces = [renamer.feed(text[at : at + size]) for at in range(0, len(text), size)]
    return "".join(pieces) + renamer.close()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ('{"_filter": "a eq 1"}', '{"$filter": "a eq 1"}'),
        ('{ "_filter" :1 , "x":{"b":[{"b":"b"}, "_filter"]}}', '{ "$filter" :1 , "x":{"aé":[{"aé":"b"}, "_filter"]}}'),
        ('{"\\u005ffilter":"_filter"}', '{"$filter":"_filter"}'),
        ('{"q_":1,"q\\"":2}', '{"q\\"":1,"q\\"":2}'),
        ('["_filter",{"_filter":["_filter"]}]', '["_filter",{"$filter":["_filter"]}]'),
        ('{"a":"\\"_filter\\":","_filter":1}', '{"a":"\\"_filter\\":","$filter":1}'),
        ('{"' + "k" * 100 + '":{"b":1}}', '{"' + "k" * 100 + '":{"aé":1}}'),
        ("", ""),
        ('"_filter"', '"_filter"'),
        ('{"_filt', '{"_filt'),
        ('{"_filter', '{"_filter'),
        ('}]{"b":1}]]}', '}]{"aé":1}]]}'),
        ('{"\\q":1,"b":2}', '{"\\q":1,"aé":2}'),
        ("not json", "not json"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_keys(given: str, expected: str, size: int) -> None:
    assert streamed(given, size) == expected
    assert with_keys(given, NAMES) == expected


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=4) | st.sampled_from(list(NAMES)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*NAMES, "c", "\\", '"']), inner, max_size=3)
    ),
    max_leaves=10,
)


def renamed(value: Any) -> Any:
    if isinstance(value, dict):
        return {NAMES.get(name, name): renamed(one) for name, one in value.items()}
    return [renamed(one) for one in value] if isinstance(value, list) else value


@given(VALUES, st.integers(1, 9), st.booleans())
def test_any_arguments_in_any_pieces(value: Any, size: int, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert json.loads(streamed(text, size)) == renamed(value)
    back = {wire: name for name, wire in NAMES.items()}
    assert json.loads(with_keys(streamed(text, size), back)) == value


def test_what_has_none_of_the_names_is_the_same_text() -> None:
    text = '{"c": 1}'
    assert with_keys(text, NAMES) is text
    assert with_keys(text, {}) is text


@pytest.mark.parametrize("piece", ['{"b":', "[1,", '{"c":1,', '"x",', "\\", '{"', "{" * 9, '{"' + "k" * 99])
def test_cost_is_linear(piece: str) -> None:
    def feed(times: int) -> None:
        renamer = KeyRenamer(NAMES)
        for _ in range(times):
            renamer.feed(piece)
        renamer.close()

    assert_linear(feed, 10_000)
