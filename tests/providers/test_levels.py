"""Efforts and verbosities that nobody knows become the nearest ones, with a warning (decision 57)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.errors import RelayError
from relay.providers.base import Target, UpstreamRequest
from relay.providers.registry import PROVIDERS
from relay.responses.request import parse

Json = dict[str, Any]
EVERY = pytest.mark.parametrize("dialect", ["chat", "anthropic", "gemini"])
MODELS = {"chat": "some-model", "anthropic": "claude-opus-5-5", "gemini": "gemini-3.5-pro"}


def build(dialect: str, *, quirks: str | None = None, strict: bool = False, **body: Any) -> UpstreamRequest:
    request = parse({"model": "m", "input": "hi", **body}, strict=strict)
    return PROVIDERS[dialect].build(request, Target("up", MODELS[dialect], "", quirks), {}, frozenset())


def sent_effort(dialect: str, effort: str) -> Any:
    """What OpenRouter, which knows every level, and Claude, which knows all but two, and Gemini are asked for."""
    body = json.loads(build(dialect, quirks="openrouter", reasoning={"effort": effort}).body)
    if dialect == "chat":
        return body["reasoning"]["effort"]
    if dialect == "anthropic":
        return body["output_config"]["effort"]
    return body["generationConfig"]["thinkingConfig"]["thinkingLevel"]


NEAREST = [
    ("ultra", "max"),
    ("Ultra", "max"),
    ("xxhigh", "max"),
    ("maximum", "max"),
    ("extreme", "max"),
    ("x-high", "xhigh"),
    ("very_high", "xhigh"),
    ("extra high", "xhigh"),
    ("HIGH", "high"),
    ("higher", "xhigh"),
    ("deep", "high"),
    ("enabled", "high"),
    ("standard", "medium"),
    ("balanced", "medium"),
    ("default", "medium"),
    ("blorp", "medium"),
    ("", "medium"),
    ("lower", "low"),
    ("fast", "low"),
    ("very-low", "minimal"),
    ("ultralow", "minimal"),
    ("tiny", "minimal"),
    ("minimum", "minimal"),
    ("off", "none"),
    ("disabled", "none"),
]


@pytest.mark.parametrize(("word", "level"), NEAREST)
def test_an_effort_that_nobody_knows_is_the_nearest(word: str, level: str) -> None:
    body = {"reasoning": {"effort": word}}
    call = build("chat", quirks="openrouter", **body)
    assert json.loads(call.body)["reasoning"]["effort"] == level
    assert [param for param, _ in call.warnings] == ["reasoning.effort"]
    with pytest.raises(RelayError) as caught:
        build("chat", strict=True, **body)
    assert (caught.value.status, caught.value.param) == (400, "reasoning.effort")


@EVERY
@pytest.mark.parametrize(("word", "level"), [("ultra", "max"), ("Medium", "medium"), ("tiny", "minimal")])
def test_it_is_said_as_the_known_one_would_be(dialect: str, word: str, level: str) -> None:
    assert sent_effort(dialect, word) == sent_effort(dialect, level)
    warned = [param for param, _ in build(dialect, reasoning={"effort": word}).warnings]
    assert set(warned) == {"reasoning.effort"}


def test_a_level_of_the_configuration_is_known() -> None:
    efforts = {"efforts": {"ultra": ("ultra", False)}}
    request = parse({"model": "m", "input": "hi", "reasoning": {"effort": "ultra"}})
    call = PROVIDERS["chat"].build(request, Target("up", "m", capabilities=efforts), {}, frozenset())
    assert (json.loads(call.body)["reasoning_effort"], call.warnings) == ("ultra", ())


@EVERY
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"reasoning": {"mode": "turbo"}}, "reasoning.mode"),
        ({"reasoning": {"context": "last_turn"}}, "reasoning.context"),
        ({"reasoning": {"summary": "long"}}, "reasoning.summary"),
        ({"reasoning": {"generate_summary": "long"}}, "reasoning.generate_summary"),
        ({"text": {"verbosity": "loud"}}, "text.verbosity"),
    ],
)
def test_other_words_that_nobody_knows_are_warned_about(dialect: str, body: Json, param: str) -> None:
    call = build(dialect, **body)
    assert [name for name, _ in call.warnings] == [param]
    with pytest.raises(RelayError) as caught:
        build(dialect, strict=True, **body)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("word", "level"),
    [("Low", "low"), ("terse", "low"), ("xhigh", "high"), ("verbose", "high"), ("loud", "medium"), ("high", "high")],
)
def test_a_verbosity_that_nobody_knows_is_the_nearest(word: str, level: str) -> None:
    call = build("chat", quirks="openai", text={"verbosity": word})
    assert json.loads(call.body)["verbosity"] == level
    assert [param for param, _ in call.warnings] == ([] if word == level else ["text.verbosity"])


@pytest.mark.parametrize(("word", "warned"), [("7d", True), ("24h", True), ("in_memory", False), ("in-memory", False)])
def test_how_long_a_cache_lives_on_claude(word: str, warned: bool) -> None:
    warnings = build("anthropic", prompt_cache_retention=word).warnings
    assert [param for param, _ in warnings] == (["prompt_cache_retention"] if warned else [])
