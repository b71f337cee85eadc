"""Names of models to behaviours, and the table that documents them."""

from __future__ import annotations

import dataclasses

import pytest

import relay.demo
from relay.demo.behaviour import AT_ONCE, WORDS, Behaviour, UnknownWordError, behaviour_of, table


def test_words_compose() -> None:
    assert behaviour_of("demo") == Behaviour()
    assert behaviour_of("demo-fail") == Behaviour(fail=500)
    assert behaviour_of("demo-fail-429") == Behaviour(fail=429)
    assert behaviour_of("demo-stall") == Behaviour(stall=AT_ONCE)
    assert behaviour_of("demo-stall-headers") == Behaviour(stall_headers=True)
    assert behaviour_of("demo-think-cut-5-pace-0") == Behaviour(think=True, cut=5, pace=0)
    assert behaviour_of("demo-tokens-1000-batch-64-stamp") == Behaviour(tokens=1000, batch=64, stamp=True)


def test_what_comes_before_demo_is_another_matter() -> None:
    assert behaviour_of("claude-opus-4-5-demo-think") == Behaviour(think=True)
    assert behaviour_of("some/vendor/demo-cite") == Behaviour(cite=True)
    assert behaviour_of("gpt-4o-mini") == Behaviour()


def test_unknown_words_are_named() -> None:
    with pytest.raises(UnknownWordError, match="nonsense"):
        behaviour_of("demo-think-nonsense")
    with pytest.raises(UnknownWordError, match="5"):
        behaviour_of("demo-think-5")


def test_every_word_has_a_field_and_an_example_that_works() -> None:
    assert set(WORDS) == {field.name for field in dataclasses.fields(Behaviour)}
    for name, word in WORDS.items():
        assert getattr(behaviour_of(word.example), name) != getattr(Behaviour(), name), name


def test_the_docstring_holds_the_table() -> None:
    assert relay.demo.__doc__ is not None
    assert table() in relay.demo.__doc__
