"""Decision 17, line by line, and decision 16."""

from __future__ import annotations

import time

import pytest

from relay.app.routing import Route, Router
from relay.config import ServerSettings, Settings, UpstreamSettings
from relay.errors import RelayError

OPENAI = UpstreamSettings("openai", "responses", "https://api.openai.com/v1", models=("gpt-*", "o?-*"))
CLAUDE = UpstreamSettings("anthropic", "anthropic", "https://api.anthropic.com", models=("claude-*",))
LOCAL = UpstreamSettings("local", "chat", "http://127.0.0.1:8001/v1")


def router(
    models: dict[str, tuple[str, ...]] | None = None,
    upstreams: tuple[UpstreamSettings, ...] = (OPENAI, CLAUDE, LOCAL),
    default_model: str | None = None,
) -> Router:
    server = ServerSettings(default_model=default_model)
    return Router(Settings(server=server, upstreams=upstreams, models=models or {}))


def said(route: Route) -> list[str]:
    return [f"{target.upstream.name} {target.model}" for target in route.targets]


MODELS = {
    "fast": ("local/llama3:8b", "openai/gpt-5-mini"),
    "openai/gpt-4": ("local/exact-alias-first",),
    "gpt-5*": ("local/from-glob",),
    "gpt-*-mini": ("local/longer-*",),
    "*-nano": ("anthropic/tiny-*",),
    "?-nano": ("openai/same-literals-later",),
    "plain": ("claude-x",),
}


@pytest.mark.parametrize(
    ("model", "targets"),
    [
        # an exact alias, all its targets in order
        ("fast", ["local llama3:8b", "openai gpt-5-mini"]),
        ("openai/gpt-4", ["local exact-alias-first"]),
        # NAME/rest or NAME:rest at the first separator, never resolved again
        ("openai/gpt-5", ["openai gpt-5"]),
        ("openai:gpt-5", ["openai gpt-5"]),
        ("local/fast", ["local fast"]),
        ("local/openai/gpt-5", ["local openai/gpt-5"]),
        ("local:a/b:c", ["local a/b:c"]),
        ("local/llama3:8b", ["local llama3:8b"]),
        # the glob with the most literal characters, then file order
        ("gpt-5-mini", ["local longer-5"]),
        ("gpt-5", ["local from-glob"]),
        ("gpt-5-nano", ["local from-glob"]),  # both have five
        ("x-nano", ["anthropic tiny-x"]),
        # an upstream's own globs
        ("gpt-4.1", ["openai gpt-4.1"]),
        ("o3-pro", ["openai o3-pro"]),
        ("claude-opus-5", ["anthropic claude-opus-5"]),
        # a target without an upstream is told by the upstreams' own globs
        ("plain", ["anthropic claude-x"]),
    ],
)
def test_the_order_of_decision_17(model: str, targets: list[str]) -> None:
    route = router(MODELS).resolve(model)
    assert said(route) == targets
    assert route.name == model


@pytest.mark.parametrize("model", ["llama", "mistral/large", "GPT-5", "claude", "openai/", "local:", "o3", "gpt", "/"])
def test_what_is_not_configured_is_404_and_says_what_is(model: str) -> None:
    with pytest.raises(RelayError) as caught:
        router({"fast": ("local/x",)}).resolve(model)
    error = caught.value
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")
    assert error.message == (
        f"The model '{model}' does not exist here. "
        "Configured: fast, gpt-*, o?-*, claude-*, openai/…, anthropic/…, local/…."
    )


@pytest.mark.parametrize("model", ["llama", "meta-llama/Llama-3", "llama3:8b", "claude-x"])
def test_the_only_upstream_gets_everything(model: str) -> None:
    assert said(router(upstreams=(LOCAL,)).resolve(model)) == [f"local {model}"]


def test_the_only_upstreams_own_prefix_is_taken_off() -> None:
    assert said(router(upstreams=(LOCAL,)).resolve("local/x")) == ["local x"]


def test_a_glob_is_not_an_alias_of_its_own_text() -> None:
    assert said(router({"a*": ("local/b*",)}).resolve("a*")) == ["local b*"]


def test_globs_know_no_other_signs() -> None:
    assert said(router({"a[b].c*": ("local/b-*",)}).resolve("a[b].c1")) == ["local b-1"]
    with pytest.raises(RelayError):
        router({"a[b].c*": ("local/b-*",)}).resolve("ab.c1")


@pytest.mark.parametrize("model", [None, ""])
def test_the_default_model_is_resolved_and_echoed(model: str | None) -> None:
    route = router(MODELS, default_model="fast").resolve(model)
    assert (route.name, said(route)) == ("fast", ["local llama3:8b", "openai gpt-5-mini"])


def test_without_model_and_default_it_is_400() -> None:
    with pytest.raises(RelayError) as caught:
        router().resolve(None)
    error = caught.value
    assert (error.status, error.code, error.param) == (400, "missing_required_parameter", "model")
    assert error.message == "Missing required parameter: 'model'."


def test_no_upstream_at_all() -> None:
    with pytest.raises(RelayError, match="Configured: nothing"):
        router(upstreams=()).resolve("x")


def test_a_long_name_costs_nothing() -> None:
    hostile = router({"*a*a*a*a*": ("local/x",)})
    began = time.perf_counter()
    with pytest.raises(RelayError) as caught:
        hostile.resolve("a" * 1_000_000)
    assert (caught.value.status, caught.value.param) == (400, "model")
    assert time.perf_counter() - began < 0.5


def test_aliases_in_file_order() -> None:
    assert router(MODELS).aliases() == ("fast", "openai/gpt-4", "plain")
