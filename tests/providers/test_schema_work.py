"""What a client's schema may cost when an answer is checked against it (decision 61; CWE-1333, CWE-407)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.providers.schema import mismatch
from relay.providers.schema.patterns import bound
from tests.support import cpu_seconds

Json = dict[str, Any]

RUN = [
    "",
    "abc",
    "^abc$",
    "a+",
    "a*b",
    "a?b",
    "a{2,5}",
    "a{2,}",
    "a{,5}",
    "a{3}b{4}c{5}",  # of fixed length: free
    r"^\d{4}-\d{2}-\d{2}$",
    "^[a-z]+-[a-z]+$",
    "^a*?b+?$",
    "(ab|cd)e",
    "(?:ab|cd)",
    "a|b|c",
    r"[\]a]+",
    r"\+\*\?\{",
    "a{x}",
    "a{}",
    "^((a))$",
    "a*",
    "|",
    "x" * 256,
]
NOT_RUN = [
    "a+b+",
    "a*a*",
    "^a+b+c+",
    "^a+|b+c+",
    "(a+)+",
    "(a)*",
    "(a){2}",
    "(?:a)?",
    "(a|a)(a|a)(a|a)(a|a)(a|a)",
    "(" * 33 + ")" * 33,
    "(?=a)",
    "(?!a)",
    "(?<=a)",
    "(?<name>a)",
    "(?P<name>a)",
    "(?i)a",
    r"(a)\1",
    r"\k<a>",
    r"\p{L}",
    "\\",
    "a++",
    "a**",
    "*a",
    "a|*",
    "^*",
    "(*)",
    "{2}",
    "[a",
    "[]a]",
    "[]",
    "[^",
    "[a[b]",
    "[a--b]",
    "[[a]",
    "(a",
    "a)",
    "x" * 257,
    "a?" * 26 + "a" * 26,
]


@pytest.mark.parametrize("pattern", RUN)
def test_patterns_that_run(pattern: str) -> None:
    assert bound(pattern) is not None


@pytest.mark.parametrize("pattern", NOT_RUN)
def test_patterns_that_do_not(pattern: str) -> None:
    assert bound(pattern) is None
    assert mismatch("!" * 20, {"pattern": pattern}) is None


@pytest.mark.parametrize(
    ("pattern", "right", "wrong"),
    [
        (r"^\d{4}-\d{2}$", "2026-11", "26-11"),
        ("^[a-z]+@[a-z]+$", "a@b", "a@"),
        ("b", "abc", "ac"),
        ("(ab|cd)$", "xcd", "xce"),
        ("^a{2,3}$", "aa", "aaaa"),
    ],
)
def test_patterns_are_searched(pattern: str, right: str, wrong: str) -> None:
    assert mismatch(right, {"pattern": pattern}) is None
    assert mismatch(wrong, {"pattern": pattern}) == "$: pattern"


def test_a_pattern_is_looked_at_once() -> None:
    assert mismatch(["ab", "ac", "b"], {"items": {"pattern": "^a"}}) == "$[2]: pattern"


def test_nothing_else_is_skipped_with_a_pattern() -> None:
    schema = {"properties": {"a": {"pattern": "(a+)+$", "maxLength": 3}}}
    assert mismatch({"a": "bbb"}, schema) is None
    assert mismatch({"a": "bbbb"}, schema) == "$.a: maxLength"


PIECES = st.sampled_from(
    ["a", "b", ".", "a+", "a*", "a?", "a*?", "a{2,5}", "a{9}", "[ab]", "[^a]+", "(a|b)", "(", ")", "|", "^", "$"]
)
ATOMS = st.sampled_from(["a" * 255 + "b", "b" * 256, "ab" * 128, "a" * 256, "", "\n"])


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=14).map("".join), ATOMS)
def test_a_pattern_of_any_form_costs_little(pattern: str, text: str) -> None:
    found = mismatch(text, {"pattern": pattern})
    assert cpu_seconds(lambda: mismatch(text, {"pattern": pattern})) < 0.1
    if found is not None:
        assert re.search(pattern, text) is None


@pytest.mark.parametrize(
    "pattern",
    ["a?" * 34 + "a" * 34, "^a*" + "a{200}" + "b", "^a*a*" + "(a|b)(a|b)(a|b)(a|b)b", "a*" + "a" * 253, "^.*.*$b" * 2],
)
def test_many_texts_of_one_pattern(pattern: str) -> None:
    names = {"a" * 200 + str(n): 1 for n in range(2000)}
    assert cpu_seconds(lambda: mismatch(["a" * 256] * 2000, {"items": {"pattern": pattern}}), 3) < 0.1
    patterned = {"patternProperties": {pattern: {}}, "additionalProperties": {}}
    assert cpu_seconds(lambda: mismatch(names, patterned), 3) < 0.1


def test_patterns_that_python_refuses() -> None:
    assert mismatch("a", {"pattern": "a{9,2}"}) is None
    assert mismatch("a", {"pattern": "[z-a]"}) is None


WORK: dict[str, Callable[[int], tuple[Any, Json]]] = {
    "enum against a list": lambda n: ([n * 20 - 1] * n, {"items": {"enum": list(range(n * 20))}}),
    "enum of objects": lambda n: ([{"a": n}] * n, {"items": {"enum": [{"a": i} for i in range(n)]}}),
    "enum of large numbers": lambda n: ([1] * n, {"items": {"enum": [(2**61 - 1) * 2**70 * i for i in range(n)]}}),
    "enum of long texts": lambda n: (["a" * n] * n, {"items": {"enum": ["a" * (n - 1) + chr(i) for i in range(999)]}}),
    "many properties": lambda n: ([{"a": 1}] * n, {"items": {"properties": {f"p{i}": {} for i in range(n)}}}),
    "many names": lambda n: (
        {f"p{i}": 1 for i in range(n)},
        {"properties": {f"p{i}": {} for i in range(n)}, "additionalProperties": False},
    ),
    "required": lambda n: ([{}] * n, {"items": {"properties": {}, "required": [5] * n}}),
    "long names": lambda n: ({"k" * n * 100: [1] * n}, {"additionalProperties": {"items": {"type": "integer"}}}),
    "unique": lambda n: ([[i, "x" * 50] for i in range(n)], {"uniqueItems": True}),
    "keywords": lambda n: ([1] * n, {"items": {f"x{i}": 1 for i in range(n)}}),
    "alternatives": lambda n: ([1] * n, {"items": {"anyOf": [{"type": "null"}] * n}}),
    "a long reference": lambda n: ([1] * n, {"items": {"$ref": "#/" + "a/" * n}}),
    "const": lambda n: ([list(range(n))] * n, {"items": {"const": list(range(n))}}),
    "types": lambda n: ([1] * n, {"items": {"type": ["string"] * n}}),
}


@pytest.mark.parametrize("work", WORK)
def test_the_check_ends_in_time(work: str) -> None:
    for size in (100, 1000, 20_000 if work not in ("enum of long texts", "enum of objects") else 2000):
        value, schema = WORK[work](size)
        assert cpu_seconds(lambda: mismatch(value, schema), 3) < 0.1  # noqa: B023


@pytest.mark.parametrize(
    ("value", "schema", "found"),
    [
        ({"a": [1, True]}, {"enum": [{"a": [1, True]}]}, None),
        ({"a": [1, True]}, {"enum": [{"a": [1, 1]}, [], {"b": [1, True]}, {"a": 1}]}, "$: enum"),
        ([1], {"const": [True]}, "$: const"),
        ([1], {"const": [1.0]}, None),
        ([1], {"const": [1, 2]}, "$: const"),
        (1, {"const": "1"}, "$: const"),
        (2**70, {"enum": [2**70]}, None),
        (2**70, {"enum": [1, 2**70 + 1]}, "$: enum"),
        ("b", {"enum": ["a", None]}, "$: enum"),
        ({"a" * 300: 1}, {"additionalProperties": False}, "$." + "a" * 64 + ": not allowed"),
        (1, {"$ref": 5}, None),
        ([0, 1], {"items": {"$ref": "#/items/anyOf/0"}, "anyOf": [{}]}, None),
    ],
)
def test_values_are_compared_as_json(value: Any, schema: Json, found: str | None) -> None:
    assert mismatch(value, schema) == found


def test_what_is_compared_is_not_followed_for_ever() -> None:
    one: Any = 1
    for _ in range(400):
        one = [one]
    assert mismatch(one, {"const": one}) is None
    assert mismatch(one, {"enum": [one]}) is None


def test_a_schema_that_is_nested_deeply_passes() -> None:
    value: Any = 1
    schema: Any = {"type": "string"}
    for _ in range(140):
        value, schema = [value], {"items": schema}
    assert mismatch(value, schema) is None
