"""Requests to Anthropic: every parameter row, tools, choices, thinking, schemas, by model.

Source: translation.md §1 (column B) and §6; decisions 9–14.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from relay.errors import RelayError
from relay.providers.anthropic import PROVIDER
from relay.providers.anthropic_build import BETAS
from relay.providers.base import Target
from relay.providers.capabilities import capabilities
from relay.providers.capabilities.anthropic import ROWS
from tests.providers.anthropic_support import NEWEST, Json, build, parsed, sent

FUNCTION: Json = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
SEARCH: Json = {"type": "web_search"}
SCHEMA: Json = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
LOOP: list[Json] = [
    {"role": "user", "content": "go"},
    {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "call_1", "output": "found"},
]
OPUS_46 = "claude-opus-4-6"
SONNET_45 = "claude-sonnet-4-5"


def warned(body: Json, **options: Any) -> list[str]:
    """The parameters that were warned about."""
    return [param for param, _ in build(body, **options).warnings]


def refused(body: Json, **options: Any) -> str:
    """The parameter that the 400 names."""
    with pytest.raises(RelayError) as caught:
        build(body, **options)
    assert caught.value.status == 400
    return str(caught.value.param)


# --- address and headers


@pytest.mark.parametrize(
    ("base_url", "path"),
    [
        ("https://api.anthropic.com", "/v1/messages"),
        ("https://api.anthropic.com/", "/v1/messages"),
        ("https://api.anthropic.com/v1", "/messages"),
        ("https://gateway.example/anthropic/v1/", "/messages"),
        ("https://gateway.example/anthropic", "/v1/messages"),
        ("https://v1.example", "/v1/messages"),
    ],
)
def test_the_path_follows_the_address(base_url: str, path: str) -> None:
    assert build({}, base_url=base_url).path == path


def test_headers_are_the_version_and_exactly_the_betas_that_the_body_needs() -> None:
    assert build({}).headers == (("anthropic-version", "2023-06-01"),)
    mcp = {"type": "mcp", "server_label": "w", "server_url": "https://mcp.example", "require_approval": "never"}
    call = build({"tools": [mcp], "truncation": "auto"})
    assert dict(call.headers)["anthropic-beta"] == ",".join(sorted([BETAS["mcp"], BETAS["binding"]]))


def test_google_addresses_differ_in_path_version_and_model() -> None:
    base = "https://europe-west1-aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/anthropic"
    call = build({"truncation": "auto"}, base_url=base)
    assert call.path == f"/models/{NEWEST}:streamRawPredict"
    body = sent({}, base_url=base)
    assert body["anthropic_version"] == "vertex-2023-10-16"
    assert "model" not in body
    assert dict(call.headers) == {"anthropic-beta": BETAS["binding"]}
    assert PROVIDER.count(parsed({}), Target("up", NEWEST, base), {}) is None


def test_counting_takes_only_what_it_knows() -> None:
    body: Json = {"tools": [FUNCTION], "temperature": 0.5, "instructions": "Be brief.", "stop": ["x"]}
    counted = PROVIDER.count(parsed(body), Target("up", OPUS_46, "https://api.anthropic.com"), {})
    assert counted is not None
    assert counted.request.path == "/v1/messages/count_tokens"
    import json

    assert set(json.loads(counted.request.body)) == {"model", "system", "tools", "messages"}
    assert counted.tokens({"input_tokens": 7}) == 7
    assert counted.tokens({}) is None


# --- limits and sampling


@pytest.mark.parametrize(
    ("model", "limit"),
    [
        (NEWEST, 128_000),
        ("claude-something-new", 128_000),
        (OPUS_46, 128_000),
        (SONNET_45, 64_000),
        ("claude-sonnet-4-20250514", 64_000),
        ("claude-opus-4-1-20250805", 32_000),
        ("claude-opus-4-0", 32_000),
        ("claude-3-7-sonnet-latest", 64_000),
        ("claude-3-5-haiku-20241022", 8_192),
        ("claude-3-haiku-20240307", 4_096),
    ],
)
def test_max_tokens_is_the_models_own_where_none_is_given(model: str, limit: int) -> None:
    assert sent({}, model=model)["max_tokens"] == limit
    assert sent({"max_output_tokens": 100}, model=model)["max_tokens"] == 100
    assert sent({"max_output_tokens": 999_999}, model=model)["max_tokens"] == limit
    assert warned({"max_output_tokens": 999_999}, model=model) == ["max_output_tokens"]


def test_case_23_temperature_where_the_model_has_it() -> None:
    assert sent({"temperature": 0.2}, model="claude-sonnet-4-6")["temperature"] == 0.2
    assert "temperature" not in sent({"temperature": 0.2}, model="claude-sonnet-5-5")
    assert warned({"temperature": 0.2}, model="claude-sonnet-5-5") == ["temperature"]
    assert warned({"temperature": 1, "top_p": 1}, model="claude-sonnet-5-5") == []
    assert "temperature" not in sent({"temperature": 1}, model="claude-sonnet-5-5")


def test_temperatures_over_one_are_cut() -> None:
    assert sent({"temperature": 1.5}, model=OPUS_46)["temperature"] == 1
    assert warned({"temperature": 1.5}, model=OPUS_46) == ["temperature"]


def test_the_pair_of_temperature_and_top_p_is_for_old_models() -> None:
    both: Json = {"temperature": 0.5, "top_p": 0.9}
    old = sent(both, model="claude-opus-4-1")
    assert (old["temperature"], old["top_p"]) == (0.5, 0.9)
    assert "top_p" not in sent(both, model=OPUS_46)
    assert warned(both, model=OPUS_46) == ["top_p"]
    assert sent({"top_p": 0.9}, model=OPUS_46)["top_p"] == 0.9


def test_sampling_goes_where_the_upstream_refused_it() -> None:
    assert "temperature" not in sent({"temperature": 0.5}, model=OPUS_46, repairs=["sampling"])


@pytest.mark.parametrize(
    ("body", "params"),
    [
        ({"presence_penalty": 0.5}, ["presence_penalty"]),
        ({"frequency_penalty": 0.5}, ["frequency_penalty"]),
        ({"presence_penalty": 0, "frequency_penalty": 0, "top_logprobs": 0}, []),
        ({"top_logprobs": 3}, ["top_logprobs"]),
        ({"include": ["message.output_text.logprobs"]}, ["include"]),
        ({"include": ["reasoning.encrypted_content"]}, []),
        ({"seed": 5}, ["seed"]),
        ({"logit_bias": {"1": 1}}, ["logit_bias"]),
        ({"text": {"verbosity": "low"}}, ["text.verbosity"]),
        ({"text": {"verbosity": "medium"}}, []),
        ({"reasoning": {"mode": "pro"}}, ["reasoning.mode"]),
        ({"image": {"context_compression": "enabled"}}, ["image.context_compression"]),
        ({"image": {"context_compression": "auto"}}, []),
        ({"stop": ["x", " "]}, ["stop"]),
        ({"prompt_cache_retention": "24h"}, ["prompt_cache_retention"]),
        ({"prompt_cache_retention": "in_memory"}, []),
        ({"prompt_cache_options": {"ttl": "12h"}}, ["prompt_cache_options.ttl"]),
        ({"service_tier": "flex"}, ["service_tier"]),
        ({"service_tier": "scale"}, ["service_tier"]),
        ({"service_tier": "fast"}, ["service_tier"]),
        ({"metadata": {"a": "b"}, "store": True, "user": "u"}, []),
    ],
)
def test_what_is_warned_about(body: Json, params: list[str]) -> None:
    assert warned(body) == params
    if params:
        with pytest.raises(RelayError):
            build(body, strict=True)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"moderation": {}}, "moderation"),
        ({"access_programs": {}}, "access_programs"),
        ({"conversation": "c"}, "conversation"),
        ({"service_tier": "ultrafast"}, "service_tier"),
        ({"tools": [{"type": "file_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "computer_use_preview"}]}, "tools[0].type"),
        ({"tools": [{"type": "mcp"}]}, "tools[0].require_approval"),
        ({"tools": [{"type": "mcp", "require_approval": "never"}]}, "tools[0]"),
        (
            {"tools": [{"type": "mcp", "require_approval": "never", "connector_id": "c"}]},
            "tools[0].connector_id",
        ),
        (
            {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["f"]}}]},
            "tools[0].container.file_ids",
        ),
        (
            {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "network_policy": {"a": 1}}}]},
            "tools[0].container.network_policy",
        ),
        ({"tools": [{"type": "image_generation"}], "tool_choice": {"type": "image_generation"}}, "tool_choice"),
    ],
)
def test_what_is_refused(body: Json, param: str) -> None:
    assert refused(body) == param


def test_names_of_users_are_sent_and_addresses_hashed() -> None:
    assert sent({"user": "u-1"})["metadata"] == {"user_id": "u-1"}
    assert sent({"user": "u-1", "safety_identifier": "s-1"})["metadata"] == {"user_id": "s-1"}
    digest = hashlib.sha256(b"jane@example.com").hexdigest()
    assert sent({"safety_identifier": "jane@example.com"})["metadata"] == {"user_id": digest}


def test_stop_sequences() -> None:
    assert sent({"stop": "END"})["stop_sequences"] == ["END"]
    assert "stop_sequences" not in sent({"stop": ["\n"]})


@pytest.mark.parametrize(
    ("tier", "sent_as"), [("auto", "auto"), ("default", "standard_only"), ("priority", "auto"), ("flex", None)]
)
def test_service_tiers(tier: str, sent_as: str | None) -> None:
    assert sent({"service_tier": tier}).get("service_tier") == sent_as


def test_fast_is_a_speed_where_the_model_has_it() -> None:
    call = build({"service_tier": "fast"}, model=OPUS_46)
    assert sent({"service_tier": "fast"}, model=OPUS_46)["speed"] == "fast"
    assert dict(call.headers)["anthropic-beta"] == BETAS["speed"]


def test_what_the_operator_adds_and_lets_through() -> None:
    body = sent(
        {"top_k": 5, "thinking": {"type": "enabled"}, "other": 1},
        forward=("top_k", "thinking", "absent"),
        extra_body={"inference_geo": "eu", "messages": [], "metadata": {"a": 1}, "max_tokens": 1},
    )
    assert body["top_k"] == 5
    assert "thinking" not in body
    assert "other" not in body
    assert body["inference_geo"] == "eu"
    assert body["metadata"] == {"a": 1}
    assert body["max_tokens"] == 128_000
    assert len(body["messages"]) == 1
    merged = sent({"user": "u"}, extra_body={"metadata": {"user_id": "x", "team": "t"}})
    assert merged["metadata"] == {"user_id": "u", "team": "t"}


def test_rows_can_be_overridden_in_the_configuration() -> None:
    assert sent({"temperature": 0.5}, capabilities={"sampling": "full"})["temperature"] == 0.5
    assert sent({"temperature": 0.5}, quirks="compatible", model="other")["temperature"] == 0.5


# --- thinking and effort

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
ADAPTIVE: Json = {"type": "adaptive"}


def budget(tokens: int) -> Json:
    return {"type": "enabled", "budget_tokens": tokens}


# model -> (thinking, effort, warned) for each of EFFORTS
COLUMNS: dict[str, list[tuple[Json | None, str | None, bool]]] = {
    "claude-opus-5-5": [
        (None, "low", True),
        (None, "low", False),
        *[(None, level, False) for level in EFFORTS[2:]],
    ],
    "claude-sonnet-5-5": [
        ({"type": "between_tools"}, None, False),
        (None, "low", False),
        *[(None, level, False) for level in EFFORTS[2:]],
    ],
    "claude-haiku-5-5": [
        ({"type": "disabled"}, None, False),
        (ADAPTIVE, "low", False),
        *[(ADAPTIVE, level, False) for level in EFFORTS[2:]],
    ],
    "claude-opus-4-8": [
        (None, None, False),
        (ADAPTIVE, "low", False),
        *[(ADAPTIVE, level, False) for level in EFFORTS[2:]],
    ],
    "claude-opus-4-6": [
        (None, None, False),
        (ADAPTIVE, "low", False),
        *[(ADAPTIVE, level, False) for level in EFFORTS[2:5]],
        (ADAPTIVE, "high", True),
        (ADAPTIVE, "max", False),
    ],
    "claude-sonnet-4-5": [
        (None, None, False),
        *[(budget(tokens), None, False) for tokens in (1024, 2048, 8192, 16384, 24576, 32768)],
    ],
    "claude-3-haiku-20240307": [(None, None, False), *[(None, None, True) for _ in EFFORTS[1:]]],
}
COLUMNS["claude-fable-5-1"] = COLUMNS["claude-mythos-5"] = COLUMNS["claude-new"] = COLUMNS["claude-opus-5-5"]
COLUMNS["claude-opus-5"] = COLUMNS["claude-sonnet-5"] = COLUMNS["claude-haiku-5-5"]
COLUMNS["claude-opus-4-7"] = COLUMNS["claude-opus-4-8"]
COLUMNS["anthropic/claude-sonnet-4.6"] = COLUMNS["claude-opus-4-6"]


@pytest.mark.parametrize("model", COLUMNS)
def test_case_22_effort_by_model(model: str) -> None:
    assert "thinking" not in sent({}, model=model)
    assert "output_config" not in sent({}, model=model)
    for level, (thinking, effort, warning) in zip(EFFORTS, COLUMNS[model], strict=True):
        body = sent({"reasoning": {"effort": level}}, model=model)
        assert body.get("thinking") == thinking, level
        assert body.get("output_config") == (None if effort is None else {"effort": effort}), level
        assert warned({"reasoning": {"effort": level}}, model=model) == ["reasoning.effort"] * warning, level


def test_a_summary_is_asked_for_where_the_model_thinks() -> None:
    wanted: Json = {"reasoning": {"summary": "auto"}}
    assert sent(wanted)["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert "thinking" not in sent(wanted, model="claude-opus-4-8")
    both: Json = {"reasoning": {"summary": "auto", "effort": "low"}}
    assert sent(both, model="claude-opus-4-8")["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert sent(both, model=SONNET_45)["thinking"] == {**budget(2048), "display": "summarized"}
    none: Json = {"reasoning": {"summary": "auto", "effort": "none"}}
    assert sent(none, model="claude-sonnet-5-5")["thinking"] == {"type": "between_tools"}
    assert "thinking" not in sent(none)


@pytest.mark.parametrize(
    ("cap", "thinking"),
    [(1024, None), (1025, budget(1024)), (1500, budget(1024)), (4096, budget(3072)), (20_000, budget(15_000))],
)
def test_a_budget_stays_below_the_limit(cap: int, thinking: Json | None) -> None:
    body: Json = {"reasoning": {"effort": "high"}, "max_output_tokens": cap}
    assert sent(body, model=SONNET_45).get("thinking") == thinking
    assert warned(body, model=SONNET_45) == ["reasoning.effort"] * (thinking is None)


def test_thinking_and_sampling_do_not_go_together() -> None:
    body: Json = {"reasoning": {"effort": "high"}, "temperature": 0.5}
    assert "temperature" not in sent(body, model=SONNET_45)
    assert warned(body, model=SONNET_45) == ["temperature"]
    assert sent({**body, "temperature": 1}, model=SONNET_45)["temperature"] == 1
    assert warned({"reasoning": {"effort": "high"}, "top_p": 0.5}, model=SONNET_45) == ["top_p"]


def test_thinking_gives_way_to_a_forced_choice() -> None:
    body: Json = {"reasoning": {"effort": "high"}, "tools": [FUNCTION], "tool_choice": "required"}
    for model in (SONNET_45, OPUS_46):
        built = sent(body, model=model)
        assert built["tool_choice"] == {"type": "any"}
        assert "thinking" not in built
        assert warned(body, model=model) == ["reasoning.effort"]
    assert warned(body, model="claude-haiku-5-5") == []


def test_thinking_between_calls_of_budget_models_needs_a_beta() -> None:
    body: Json = {"reasoning": {"effort": "high"}, "tools": [FUNCTION], "input": LOOP}
    assert dict(build(body, model=SONNET_45).headers)["anthropic-beta"] == BETAS["interleaved"]
    assert "anthropic-beta" not in dict(build({**body, "input": "hi"}, model=SONNET_45).headers)
    assert "anthropic-beta" not in dict(build(body, model="claude-3-7-sonnet-latest").headers)


def test_bound_thoughts_may_be_dropped_where_the_client_cuts_the_conversation() -> None:
    dropped = {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}}
    assert sent({"truncation": "auto"})["thinking"] == dropped
    assert sent({"reasoning": {"context": "current_turn"}})["thinking"] == dropped
    assert "thinking" not in sent({"truncation": "auto"}, model="claude-opus-4-8")


def test_repairs_leave_out_what_the_upstream_refused() -> None:
    effort: Json = {"reasoning": {"effort": "high"}}
    body = sent(effort, model=OPUS_46, repairs=["effort"])
    assert "thinking" not in body
    assert "output_config" not in body
    assert warned(effort, model=OPUS_46, repairs=["effort"]) == ["reasoning.effort"]
    assert "thinking" not in sent(effort, model=SONNET_45, repairs=["thinking"])
    forced: Json = {"tools": [FUNCTION], "tool_choice": "required"}
    assert "tool_choice" not in sent(forced, model=OPUS_46, repairs=["tool_choice"])


# --- tools


def test_functions() -> None:
    described = {**FUNCTION, "description": "Looks."}
    body = sent({"tools": [described, {"type": "function", "name": "bare", "parameters": None}]})
    assert body["tools"] == [
        {"name": "look", "description": "Looks.", "input_schema": {"type": "object", "properties": {}}},
        {"name": "bare", "input_schema": {"type": "object", "properties": {}}},
    ]
    untyped = {**FUNCTION, "parameters": {"properties": {}}}
    assert sent({"tools": [untyped]})["tools"][0]["input_schema"]["type"] == "object"
    assert "tools" not in sent({"tools": []})


def test_strict_tools_have_reduced_schemas() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
    (tool,) = sent({"tools": [{**FUNCTION, "parameters": schema, "strict": True}]})["tools"]
    assert tool["strict"] is True
    assert tool["input_schema"] == {
        "type": "object",
        "properties": {"n": {"type": "integer", "description": "minimum: 1"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    free = {"type": "object", "additionalProperties": {"type": "string"}}
    body: Json = {"tools": [{**FUNCTION, "parameters": free, "strict": True}]}
    assert sent(body)["tools"][0] == {"name": "look", "input_schema": free}
    assert warned(body) == ["tools"]


def test_custom_tools_are_functions_and_their_grammar_is_described() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: WORD"}
    body: Json = {"tools": [{"type": "custom", "name": "patch", "format": grammar}, {"type": "custom", "name": "say"}]}
    first, second = sent(body)["tools"]
    assert first["input_schema"]["required"] == ["input"]
    assert "start: WORD" in first["description"]
    assert "description" not in second
    assert warned(body) == ["tools"]


def test_case_32_names_are_mapped_without_collisions() -> None:
    call = build({"tools": [{**FUNCTION, "name": "a.b"}, {**FUNCTION, "name": "a_b"}]})
    assert {wire: tool.name for wire, tool in call.tools.items()} == {"a_b_2": "a.b", "a_b": "a_b"}
    hosted = build({"tools": [SEARCH, {**FUNCTION, "name": "web_search"}]})
    assert set(hosted.tools) == {"web_search_2"}
    assert set(build({"tools": [{**FUNCTION, "name": "web_search"}]}).tools) == {"web_search"}
    assert set(build({"tools": [{**FUNCTION, "name": "json_response"}]}).tools) == {"json_response_2"}


def test_a_cached_search_is_left_out() -> None:
    """Codex always offers one (decision 12): dropped with a warning, and refused only where it must be used."""
    cached = {**SEARCH, "external_web_access": False}
    assert "tools" not in sent({"tools": [cached]})
    assert warned({"tools": [cached]}) == ["tools[0]"]
    with pytest.raises(RelayError) as refused:
        build({"tools": [cached], "tool_choice": {"type": "web_search"}})
    assert refused.value.param == "tool_choice"


def test_hosted_tools() -> None:
    search = {
        "type": "web_search_2025_08_26",
        "filters": {"allowed_domains": ["a.example"]},
        "user_location": {"type": "approximate", "country": "DE", "city": None},
        "search_context_size": "low",
    }
    code = {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}}
    body = sent({"tools": [search, SEARCH, code, FUNCTION]})
    assert body["tools"] == [
        {
            "type": "web_search_20250305",
            "name": "web_search",
            "allowed_domains": ["a.example"],
            "user_location": {"type": "approximate", "country": "DE"},
        },
        {"type": "code_execution_20250825", "name": "code_execution"},
        {"name": "look", "input_schema": {"type": "object", "properties": {}}},
    ]
    assert warned({"tools": [code]}) == ["tools[0].container.memory_limit"]
    assert sent({"tools": [{**code, "container": "container_1"}]})["container"] == "container_1"
    plain = {**code, "container": {"type": "auto"}}
    assert warned({"tools": [plain]}) == []
    assert sent({"tools": [plain]})["tools"] == [{"type": "code_execution_20250825", "name": "code_execution"}]
    assert warned({"tools": [{"type": "code_interpreter"}, {"type": "image_generation"}]}) == ["tools[1]"]


def test_mcp_servers() -> None:
    tool = {
        "type": "mcp",
        "server_label": "wiki",
        "server_url": "https://mcp.example",
        "require_approval": "never",
        "headers": {"Authorization": "Bearer t"},
        "allowed_tools": {"tool_names": ["ask"]},
    }
    body = sent({"tools": [tool]})
    server = {"type": "url", "name": "wiki", "url": "https://mcp.example", "authorization_token": "t"}
    assert body["mcp_servers"] == [server]
    toolset = {"type": "mcp_toolset", "mcp_server_name": "wiki"}
    allowed = {"default_config": {"enabled": False}, "configs": {"ask": {"enabled": True}}}
    assert body["tools"] == [{**toolset, **allowed}]
    plain = {**tool, "headers": None, "allowed_tools": ["ask"], "authorization": "a"}
    assert sent({"tools": [plain]})["mcp_servers"][0]["authorization_token"] == "a"
    assert sent({"tools": [plain]})["tools"] == [{**toolset, **allowed}]
    bare = {**tool, "headers": None, "allowed_tools": None}
    assert sent({"tools": [bare]})["tools"] == [toolset]
    assert "authorization_token" not in sent({"tools": [bare]})["mcp_servers"][0]
    assert refused({"tools": [{**tool, "headers": {"X-Key": "k"}}]}) == "tools[0].headers"
    choice: Json = {"tools": [tool], "tool_choice": {"type": "mcp", "server_label": "wiki"}}
    assert warned(choice, model=OPUS_46) == ["tool_choice"]
    assert "tool_choice" not in sent(choice, model=OPUS_46)


def test_max_tool_calls_is_for_web_search_alone() -> None:
    assert sent({"tools": [SEARCH, FUNCTION], "max_tool_calls": 3})["tools"][0]["max_uses"] == 3
    assert warned({"tools": [SEARCH, {"type": "code_interpreter"}], "max_tool_calls": 3}) == ["max_tool_calls"]
    assert warned({"tools": [FUNCTION], "max_tool_calls": 3}) == []


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("auto", None),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "name": "look"}, {"type": "tool", "name": "look"}),
        ({"type": "web_search"}, {"type": "tool", "name": "web_search"}),
    ],
)
def test_tool_choice(choice: Any, expected: Json | None) -> None:
    body: Json = {"tools": [FUNCTION, SEARCH], "tool_choice": choice}
    assert sent(body, model=OPUS_46).get("tool_choice") == expected
    parallel = sent({**body, "parallel_tool_calls": False}, model=OPUS_46)["tool_choice"]
    if expected == {"type": "none"}:
        assert parallel == expected
    else:
        assert parallel == {**(expected or {"type": "auto"}), "disable_parallel_tool_use": True}


def test_case_20_models_that_cannot_be_forced_are_asked() -> None:
    body: Json = {"tools": [FUNCTION], "tool_choice": "required"}
    assert "tool_choice" not in sent(body)
    assert "call" in sent(body)["system"][-1]["text"]
    assert warned(body) == ["tool_choice"]
    assert refused(body | {"input": "hi"}, strict=True) == "tool_choice"
    assert sent(body, model="claude-haiku-5-5")["tool_choice"] == {"type": "any"}
    named: Json = {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "look"}}
    assert "named look" in sent(named)["system"][-1]["text"]


def test_case_21_allowed_tools_filter_the_declarations() -> None:
    other = {**FUNCTION, "name": "other"}
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "look"}]}
    body: Json = {"tools": [FUNCTION, other], "tool_choice": choice}
    built = sent(body, model=OPUS_46)
    assert [tool["name"] for tool in built["tools"]] == ["look"]
    assert "tool_choice" not in built
    required = sent({**body, "tool_choice": {**choice, "mode": "required"}}, model=OPUS_46)
    assert required["tool_choice"] == {"type": "any"}
    unknown = {**choice, "tools": [{"type": "function", "name": "nobody"}]}
    with pytest.raises(RelayError):
        build({**body, "tool_choice": unknown})


def test_tools_of_the_history_are_declared_where_the_request_declares_none() -> None:
    body = sent({"input": LOOP})
    assert body["tools"] == [{"name": "look", "input_schema": {"type": "object"}}]
    assert body["tool_choice"] == {"type": "none"}


# --- structured output


def form(schema: Json, **more: Any) -> Json:
    return {"text": {"format": {"type": "json_schema", "name": "place", "schema": schema, **more}}}


def test_schemas_are_native_where_they_can_be_said() -> None:
    body = sent(form(SCHEMA, description="A place."))
    described = {"title": "place", "description": "A place.", **SCHEMA}
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": described}}
    assert build(form(SCHEMA)).context.schema is None
    assert sent(form(SCHEMA) | {"reasoning": {"effort": "low"}})["output_config"]["effort"] == "low"
    assert warned(form(SCHEMA)) == []


def test_case_34_schemas_are_reduced_or_replaced() -> None:
    pattern = {**SCHEMA, "properties": {"city": {"type": "string", "pattern": "^[A-Z]"}}}
    sent_schema = sent(form(pattern))["output_config"]["format"]["schema"]
    assert sent_schema["properties"]["city"] == {"type": "string", "description": 'pattern: "^[A-Z]"'}
    assert build(form(pattern)).context.schema == pattern
    free = {"type": "object", "additionalProperties": {"type": "string"}}
    optional = {**SCHEMA, "properties": {f"p{n}": {"type": "string"} for n in range(11)}, "required": []}
    for schema in (free, optional):
        body = sent(form(schema), model=OPUS_46)
        assert body["tools"] == [{"name": "json_response", "description": "Gives the answer.", "input_schema": schema}]
        assert body["tool_choice"] == {"type": "tool", "name": "json_response"}
        assert build(form(schema), model=OPUS_46).context.json_tool == "json_response"
        assert warned(form(schema), model=OPUS_46) == []
        newest = sent(form(schema))
        assert "tools" not in newest
        assert "output_config" not in newest
        assert '"object"' in newest["system"][-1]["text"]
        assert warned(form(schema)) == ["text.format"]
    in_words = form(free) | {"tools": [FUNCTION]}
    assert warned(in_words, model=OPUS_46) == ["text.format"]
    assert warned(form(free) | {"reasoning": {"effort": "low"}}, model=OPUS_46) == ["text.format"]
    assert warned(form({"type": "array", "items": free}), model=OPUS_46) == ["text.format"]


def test_old_models_and_refused_schemas_fall_back() -> None:
    assert sent(form(SCHEMA), model="claude-opus-4-1")["tool_choice"]["name"] == "json_response"
    assert sent(form(SCHEMA), model=OPUS_46, repairs=["format"])["tool_choice"]["name"] == "json_response"
    both = sent(form(SCHEMA), model=OPUS_46, repairs=["format", "tool_choice"])
    assert "tools" not in both


def test_a_json_object_is_asked_for_in_words() -> None:
    body: Json = {"text": {"format": {"type": "json_object"}}, "instructions": "Be brief."}
    assert [block["text"] for block in sent(body)["system"]] == [
        "Be brief.",
        "Answer with one JSON object and nothing else.",
    ]
    assert warned(body) == ["text.format"]
    assert build(body).context.schema == {"type": "object"}
    assert "output_config" not in sent({"text": {"format": {"type": "text"}}})


# --- cache marks


def test_cache_options() -> None:
    assert sent({"prompt_cache_options": {"mode": "implicit"}})["cache_control"] == {"type": "ephemeral"}
    hour = {"type": "ephemeral", "ttl": "1h"}
    assert sent({"prompt_cache_options": {"mode": "implicit", "ttl": "30m"}})["cache_control"] == hour
    assert "cache_control" not in sent({"prompt_cache_options": {"mode": "explicit"}})


def test_every_model_has_a_whole_record() -> None:
    names = {
        "max_output",
        "sampling",
        "efforts",
        "thinks",
        "forced_tool_choice",
        "mid_system",
        "json_schema",
        "block_binding",
        "speed",
        "interleaved",
        "vertex",
        "forward",
        "extra_body",
    }
    for model in (*COLUMNS, "claude-2.1", "x"):
        record = capabilities(ROWS, model=model, base_url="", quirks=None, overrides={})
        assert set(record) == names
        assert set(record["efforts"]) == set(EFFORTS)
