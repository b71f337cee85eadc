"""Chat/completions requests: translation.md §1 and §2 (column A), its cases of §6, decisions 9–14, 25; pain.md B, I."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from relay.errors import RelayError
from relay.providers.base import VERDICTS, Media, Target
from relay.providers.capabilities.chat import LEVELS, ROWS, ladder
from relay.providers.chat import PARAMETERS, PROVIDER
from relay.providers.chat_messages import nine
from relay.responses import request as requests
from relay.responses.envelope import seal
from relay.responses.request import PARAMETERS as KNOWN_PARAMETERS
from tests import corpus
from tests.providers.chat_support import Json, build, sent

FUNCTION = {"type": "function", "name": "f", "description": "does", "parameters": {"type": "object"}}
CUSTOM = {"type": "custom", "name": "patch", "description": "patches"}
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: X"}
PNG = "data:image/png;base64,AAAA"

# the SDK's own parameter types, closed: a field that OpenAI does not know is an error
VENDOR: TypeAdapter[Any] = TypeAdapter(with_config(ConfigDict(extra="forbid"))(CompletionCreateParamsStreaming))


def user(*parts: Json) -> Json:
    return {"role": "user", "content": list(parts)}


def text(value: str) -> Json:
    return {"type": "input_text", "text": value}


def pair(identifier: str, name: str = "f", arguments: str = "{}", output: Any = "done") -> list[Json]:
    return [
        {"type": "function_call", "call_id": identifier, "name": name, "arguments": arguments},
        {"type": "function_call_output", "call_id": identifier, "output": output},
    ]


def warned(body: Json, **options: Any) -> list[str]:
    return [param for param, _ in build(body, **options).warnings]


def messages(items: Any, **options: Any) -> list[Json]:
    found: list[Json] = sent({"input": items}, **options)["messages"]
    return found


def refused(body: Json, **options: Any) -> RelayError:
    with pytest.raises(RelayError) as caught:
        build(body, **options)
    return caught.value


# --- tables


def test_every_parameter_has_a_row() -> None:
    assert set(PARAMETERS) == set(KNOWN_PARAMETERS)
    assert {row.verdict for row in PARAMETERS.values()} <= set(VERDICTS)


def test_every_row_sets_what_the_default_knows() -> None:
    known = set(ROWS[0].sets)
    assert all(set(row.sets) <= known for row in ROWS)


def test_ladders() -> None:
    assert ladder("low", "medium", "high") == {
        "none": ("low", True),
        "minimal": ("low", False),
        "low": ("low", False),
        "medium": ("medium", False),
        "high": ("high", False),
        "xhigh": ("high", True),
        "max": ("high", True),
    }


def test_the_smallest_request() -> None:
    assert sent({"input": "hi"}) == {
        "model": "some-model",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    request = build({"input": "hi"})
    assert (request.path, request.stream, request.headers) == ("/chat/completions", True, ())


# --- parameters

PLAIN = {
    "frequency_penalty": 0.5,
    "presence_penalty": 0.5,
    "logit_bias": {"50256": -100},
    "seed": 7,
    "stop": ["a", "b"],
    "temperature": 0.2,
    "top_p": 0.5,
    "user": "u",
    "max_output_tokens": 20,
    "parallel_tool_calls": False,
    "tools": [FUNCTION],
}


def test_parameters_that_keep_their_name() -> None:
    found = sent({"input": "hi", **PLAIN}, quirks="openai")
    assert {name: found[name] for name in PLAIN if name not in ("max_output_tokens", "tools")} == {
        name: value for name, value in PLAIN.items() if name not in ("max_output_tokens", "tools")
    }
    assert found["max_completion_tokens"] == 20


@pytest.mark.parametrize(
    ("quirks", "field"),
    [
        ("openai", "max_completion_tokens"),
        ("azure", "max_completion_tokens"),
        ("groq", "max_completion_tokens"),
        ("openrouter", "max_completion_tokens"),
        ("xai", "max_completion_tokens"),
        ("cerebras", "max_completion_tokens"),
        ("deepseek", "max_tokens"),
        ("mistral", "max_tokens"),
        ("ollama", "max_tokens"),
        ("llamacpp", "max_tokens"),
        ("vllm", "max_tokens"),
        ("sglang", "max_tokens"),
        ("moonshot", "max_tokens"),
        (None, "max_tokens"),
    ],
)
def test_the_token_limit_by_server(quirks: str | None, field: str) -> None:
    found = sent({"input": "hi", "max_output_tokens": 9}, quirks=quirks)
    assert [name for name in found if name.startswith("max_")] == [field]


def test_servers_are_known_by_address() -> None:
    assert "max_completion_tokens" in sent({"input": "hi", "max_tokens": 9}, base_url="https://api.openai.com/v1")
    assert "stream_options" not in sent({"input": "hi"}, base_url="https://api.mistral.ai/v1")


def test_configured_capabilities_win() -> None:
    found = sent({"input": "hi", "max_tokens": 9}, quirks="openai", capabilities={"token_limit_field": "max_tokens"})
    assert found["max_tokens"] == 9


NEVER = {
    "store": True,
    "metadata": {"a": "b"},
    "n": 3,
    "stream": False,
    "stream_options": {"include_obfuscation": True},
    "truncation": "auto",
    "max_tool_calls": 3,
    "generate": True,
    "background": False,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "prompt_cache_options": {"mode": "auto"},
    "service_tier": "default",
    "image": {"context_compression": "auto"},
    "text": {"verbosity": "medium", "format": {"type": "text"}},
    "reasoning": {"summary": "auto", "effort": None},
}


def test_what_never_reaches_a_server_that_does_not_know_it() -> None:
    found = build({"input": "hi", **NEVER})
    assert json.loads(found.body) == sent({"input": "hi"})
    assert found.warnings == ()


@pytest.mark.parametrize("name", ["access_programs", "conversation", "moderation"])
def test_rejected_parameters_name_themselves(name: str) -> None:
    value = "conv_1" if name == "conversation" else {}
    error = refused({"input": "hi", name: value})
    assert (error.status, error.param, error.code) == (400, name, "unsupported_parameter")


@pytest.mark.parametrize(
    ("body", "quirks", "param"),
    [
        ({"service_tier": "priority"}, None, "service_tier"),
        ({"service_tier": "flex"}, "mistral", "service_tier"),
        ({"text": {"verbosity": "high"}}, None, "text.verbosity"),
        ({"image": {"context_compression": "enabled"}}, None, "image.context_compression"),
        ({"reasoning": {"mode": "pro"}}, None, "reasoning.mode"),
        ({"logit_bias": {"1": 1}}, "mistral", "logit_bias"),
        ({"seed": 1}, "deepseek", "seed"),
        ({"top_logprobs": 1}, "groq", "top_logprobs"),
        ({"include": ["message.output_text.logprobs"]}, "groq", "include"),
        ({"parallel_tool_calls": False, "tools": [FUNCTION]}, "ollama", "parallel_tool_calls"),
        ({"tools": [{**CUSTOM, "format": GRAMMAR}]}, None, "tools"),
        ({"tools": [{"type": "web_search"}]}, None, "tools[0]"),
    ],
)
def test_warned_parameters(body: Json, quirks: str | None, param: str) -> None:
    assert warned({"input": "hi", **body}, quirks=quirks) == [param]
    error = refused({"input": "hi", **body}, quirks=quirks, strict=True)
    assert (error.status, error.param) == (400, param)


def test_decision_12_a_hosted_tool_that_is_chosen_is_refused() -> None:
    body = {"input": "hi", "tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}}
    assert refused(body).param == "tool_choice"
    assert refused({"input": "hi", "tools": [{"type": "file_search"}]}).param == "tools[0].type"


def test_sampling_of_openai_reasoning_models() -> None:
    body = {"input": "hi", "temperature": 0.2, "top_p": 1}
    for model in ("o3", "gpt-5-mini", "gpt-5.4", "gpt-6"):
        assert warned(body, quirks="openai", model=model) == ["temperature"]
        assert not {"temperature", "top_p"} & set(sent(body, quirks="openai", model=model))
    for model in ("gpt-4o", "gpt-5-chat-latest"):
        assert sent(body, quirks="openai", model=model)["temperature"] == 0.2
    assert sent(body, model="gpt-5-mini")["temperature"] == 0.2


EFFORTS = [
    # translation.md §1.4, column A: quirks, model, asked, fields sent, warned
    ("openai", "o3", "minimal", {"reasoning_effort": "low"}, False),
    ("openai", "gpt-5", "none", {"reasoning_effort": "minimal"}, True),
    ("openai", "gpt-5", "minimal", {"reasoning_effort": "minimal"}, False),
    ("openai", "gpt-5", "max", {"reasoning_effort": "high"}, True),
    ("openai", "gpt-5.1", "none", {"reasoning_effort": "none"}, False),
    ("openai", "gpt-5.2", "xhigh", {"reasoning_effort": "xhigh"}, False),
    ("openai", "gpt-5.6", "max", {"reasoning_effort": "max"}, False),
    ("openai", "gpt-4o", "high", {}, True),
    ("openai", "gpt-4o", "none", {}, False),
    ("openrouter", "anthropic/claude", "max", {"reasoning": {"effort": "max"}}, False),
    ("openrouter", "anthropic/claude", "none", {"reasoning": {"effort": "none"}}, False),
    ("deepseek", "deepseek-v4", "none", {"thinking": {"type": "disabled"}}, False),
    ("deepseek", "deepseek-v4", "medium", {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}, False),
    ("deepseek", "deepseek-v4", "max", {"thinking": {"type": "enabled"}, "reasoning_effort": "max"}, False),
    ("groq", "openai/gpt-oss-120b", "none", {"reasoning_effort": "low", "reasoning_format": "parsed"}, True),
    ("groq", "qwen/qwen3-32b", "none", {"reasoning_effort": "none", "reasoning_format": "parsed"}, False),
    ("groq", "qwen/qwen3-32b", "high", {"reasoning_effort": "default", "reasoning_format": "parsed"}, False),
    ("groq", "qwen/qwen3-32b", "max", {"reasoning_effort": "default", "reasoning_format": "parsed"}, True),
    ("groq", "llama-3.3-70b", "high", {}, True),
    ("mistral", "magistral-medium", "low", {"reasoning_effort": "high"}, True),
    ("mistral", "magistral-medium", "medium", {"reasoning_effort": "high"}, False),
    ("mistral", "magistral-medium", "none", {"reasoning_effort": "none"}, False),
    ("vllm", "Qwen/Qwen3-8B", "none", {"chat_template_kwargs": {"enable_thinking": False}}, False),
    ("vllm", "deepseek-ai/DeepSeek-V3.1", "none", {"chat_template_kwargs": {"thinking": False}}, False),
    ("vllm", "openai/gpt-oss-20b", "xhigh", {"reasoning_effort": "high"}, True),
    ("sglang", "Qwen/Qwen3-8B", "low", {"reasoning_effort": "low"}, False),
    ("ollama", "qwen3", "none", {"reasoning_effort": "none"}, False),
    ("llamacpp", "qwen3", "none", {"chat_template_kwargs": {"enable_thinking": False}}, False),
    ("llamacpp", "qwen3", "max", {"chat_template_kwargs": {"enable_thinking": True}}, False),
    ("moonshot", "kimi-k2.5", "none", {"thinking": {"type": "disabled"}}, False),
    ("moonshot", "kimi-k2.5", "high", {}, False),
    ("xai", "grok-4", "minimal", {"reasoning_effort": "low"}, False),
]


@pytest.mark.parametrize(("quirks", "model", "effort", "fields", "warns"), EFFORTS)
def test_case_22_efforts(quirks: str, model: str, effort: str, fields: Json, warns: bool) -> None:
    body = {"input": "hi", "reasoning": {"effort": effort}}
    found = sent(body, quirks=quirks, model=model)
    names = ("reasoning_effort", "reasoning", "thinking", "reasoning_format", "chat_template_kwargs")
    assert {name: found[name] for name in names if name in found} == fields
    assert warned(body, quirks=quirks, model=model) == (["reasoning.effort"] if warns else [])


def test_every_effort_can_be_said_everywhere() -> None:
    names = {name for row in ROWS for name in row.quirks}
    for quirks in names:
        for model in ("gpt-4o", "o3", "gpt-5", "qwen3", "gpt-oss"):
            for level in LEVELS:
                build({"input": "hi", "reasoning": {"effort": level}}, quirks=quirks, model=model)


SCHEMA = {"type": "json_schema", "name": "answer", "schema": {"type": "object"}, "strict": True, "description": "d"}


def test_structured_output() -> None:
    assert "response_format" not in sent({"input": "hi", "text": {"format": {"type": "text"}}})
    found = sent({"input": "hi", "text": {"format": {"type": "json_object"}}})
    assert found["response_format"] == {"type": "json_object"}
    found = sent({"input": "hi", "text": {"format": SCHEMA}})
    assert found["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "description": "d", "schema": {"type": "object"}, "strict": True},
    }
    found = sent({"input": "hi", "text": {"format": {**SCHEMA, "strict": None, "description": None}}})
    assert set(found["response_format"]["json_schema"]) == {"name", "schema"}


def test_pain_38_a_schema_that_the_server_does_not_take_is_said_in_words() -> None:
    body = {"input": "hi", "instructions": "be kind", "text": {"format": SCHEMA}}
    found = sent(body, quirks="deepseek")
    assert found["response_format"] == {"type": "json_object"}
    system = [message["content"] for message in found["messages"] if message["role"] == "system"]
    assert system[0] == "be kind"
    assert '{"type":"object"}' in system[1]
    assert warned(body, quirks="deepseek") == ["text.format"]


def test_logprobs_and_their_repair() -> None:
    found = sent({"input": "hi", "top_logprobs": 3})
    assert (found["logprobs"], found["top_logprobs"]) == (True, 3)
    assert build({"input": "hi", "top_logprobs": 3}).context.logprobs
    assert "logprobs" not in sent({"input": "hi", "top_logprobs": 0})
    found = sent({"input": "hi", "include": ["message.output_text.logprobs"]})
    assert (found["logprobs"], "top_logprobs" in found) == (True, False)
    repaired = build({"input": "hi", "top_logprobs": 3}, repairs=["logprobs"])
    assert "logprobs" not in json.loads(repaired.body)
    assert repaired.warnings[0][0] == "top_logprobs"


def test_the_repair_of_stream_options() -> None:
    assert "stream_options" not in sent({"input": "hi"}, repairs=["stream_options"])


def test_openai_only_parameters() -> None:
    body = {
        "input": "hi",
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "safety_identifier": "s",
        "service_tier": "priority",
        "text": {"verbosity": "low"},
    }
    found = sent(body, quirks="openai")
    expected = {**body, "verbosity": "low"}
    assert {name: found.get(name) for name in expected if name not in ("input", "text")} == {
        name: value for name, value in expected.items() if name not in ("input", "text")
    }
    elsewhere = sent({**body, "service_tier": "default"})
    assert elsewhere["user"] == "s"
    assert sent({**body, "user": "u"})["user"] == "u"
    assert sent({"input": "hi", "prompt_cache_options": {"ttl": "30m"}}, quirks="openai")["prompt_cache_options"]


def test_service_tiers() -> None:
    assert sent({"input": "hi", "service_tier": "default"}, quirks="groq")["service_tier"] == "on_demand"
    assert sent({"input": "hi", "service_tier": "auto"}, quirks="openai")["service_tier"] == "auto"
    assert "service_tier" not in sent({"input": "hi", "service_tier": "auto"})
    assert refused({"input": "hi", "service_tier": "ultrafast"}).param == "service_tier"


def test_mistral_names() -> None:
    found = sent({"input": "hi", "seed": 5}, quirks="mistral")
    assert found["random_seed"] == 5
    assert "seed" not in found
    assert warned({"input": "hi", "safety_identifier": "s"}, quirks="mistral") == ["safety_identifier"]


# --- decision 13


def test_decision_13_forwarded_names_go_as_sent() -> None:
    body = {"input": "hi", "top_k": 4, "min_p": None, "other": 1, "temperature": 0.5}
    assert "top_k" not in sent(body)
    assert sent(body, forward=("top_k", "min_p"))["top_k"] == 4
    assert sent(body, quirks="vllm")["top_k"] == 4
    assert sent(body, quirks="sglang")["top_k"] == 4
    assert sent({"input": "hi", "provider": {"sort": "price"}}, quirks="openrouter")["provider"] == {"sort": "price"}
    assert "min_p" not in sent(body, forward=("top_k", "min_p"))
    assert "other" not in sent(body, quirks="vllm")


@pytest.mark.parametrize("name", ["n", "store", "messages", "metadata", "stream"])
def test_decision_13_our_names_are_not_forwarded(name: str) -> None:
    body = {"input": "hi", name: {"n": 2, "store": True, "stream": False}.get(name, {"a": "b"})}
    if name == "messages":
        body = {"messages": [{"role": "user", "content": "hi"}]}
    found = sent(body, forward=(name,))
    assert found == sent({"input": "hi"})


def test_decision_13_extra_body_comes_last_and_under_ours() -> None:
    extra = {"seed": 1, "temperature": 0.9, "n": 4, "chat_template_kwargs": {"enable_thinking": True, "x": 1}}
    found = sent({"input": "hi", "temperature": 0.1, "reasoning": {"effort": "none"}}, quirks="vllm", extra_body=extra)
    assert (found["seed"], found["temperature"]) == (1, 0.1)
    assert "n" not in found
    assert found["chat_template_kwargs"] == {"enable_thinking": False, "x": 1}


# --- tools


def test_functions() -> None:
    found = sent({"input": "hi", "tools": [FUNCTION, {"type": "function", "name": "g", "strict": True}]})
    assert found["tools"] == [
        {
            "type": "function",
            "function": {"name": "f", "description": "does", "parameters": {"type": "object", "properties": {}}},
        },
        {
            "type": "function",
            "function": {"name": "g", "parameters": {"type": "object", "properties": {}}, "strict": True},
        },
    ]
    assert "strict" not in sent({"input": "hi", "tools": [{**FUNCTION, "strict": False}]})["tools"][0]["function"]


def test_no_tools_no_tool_fields() -> None:
    assert sent({"input": "hi", "parallel_tool_calls": True, "tools": [FUNCTION]}, quirks="ollama")["tools"]
    found = sent({"input": "hi", "tools": [], "tool_choice": "auto", "parallel_tool_calls": False})
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(found)


def test_custom_tools_native_on_openai_only() -> None:
    body = {"input": "hi", "tools": [{**CUSTOM, "format": GRAMMAR}]}
    request = build(body, quirks="openai")
    assert json.loads(request.body)["tools"] == [
        {
            "type": "custom",
            "custom": {
                "name": "patch",
                "description": "patches",
                "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: X"}},
            },
        }
    ]
    assert request.tools["patch"].native
    plain = sent({"input": "hi", "tools": [{**CUSTOM, "format": {"type": "text"}}]}, quirks="openai")
    assert plain["tools"][0]["custom"]["format"] == {"type": "text"}
    emulated = build(body)
    function = json.loads(emulated.body)["tools"][0]["function"]
    assert function["parameters"]["required"] == ["input"]
    assert "start: X" in function["description"]
    assert not emulated.tools["patch"].native
    assert build({"input": "hi", "tools": [CUSTOM]}).warnings == ()
    assert warned(body, quirks="openai") == []


def test_pain_12_one_name_map_for_tools_choice_and_history() -> None:
    tools = [{"type": "namespace", "name": "mcp.x", "tools": [{"type": "function", "name": "f"}]}]
    call = {"type": "function_call", "call_id": "c", "name": "f", "namespace": "mcp.x", "arguments": "{}"}
    items = [user(text("hi")), call, {"type": "function_call_output", "call_id": "c", "output": ""}]
    body = {"input": items, "tools": tools, "tool_choice": {"type": "function", "name": "f"}}
    request = build(body)
    found = json.loads(request.body)
    name = found["tools"][0]["function"]["name"]
    assert name == "mcp_x__f"
    assert found["tool_choice"] == {"type": "function", "function": {"name": name}}
    assert found["messages"][1]["tool_calls"][0]["function"]["name"] == name
    assert (request.tools[name].name, request.tools[name].namespace) == ("f", "mcp.x")


def test_case_32_names_that_collide() -> None:
    request = build({"input": "hi", "tools": [{**FUNCTION, "name": "a.b"}, {**FUNCTION, "name": "a_b"}]})
    assert [tool["function"]["name"] for tool in json.loads(request.body)["tools"]] == ["a_b_2", "a_b"]
    assert {wire: tool.name for wire, tool in request.tools.items()} == {"a_b_2": "a.b", "a_b": "a_b"}


TOOLS = [FUNCTION, {**FUNCTION, "name": "g"}, CUSTOM]
ALLOWED = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]}


@pytest.mark.parametrize(
    ("choice", "quirks", "expected"),
    [
        ("auto", None, "auto"),
        ("none", None, "none"),
        ("required", None, "required"),
        ({"type": "function", "name": "g"}, None, {"type": "function", "function": {"name": "g"}}),
        ({"type": "custom", "name": "patch"}, None, {"type": "function", "function": {"name": "patch"}}),
        ({"type": "custom", "name": "patch"}, "openai", {"type": "custom", "custom": {"name": "patch"}}),
        (ALLOWED, None, "required"),
        (
            ALLOWED,
            "openai",
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]},
            },
        ),
    ],
)
def test_tool_choice(choice: Any, quirks: str | None, expected: Any) -> None:
    assert sent({"input": "hi", "tools": TOOLS, "tool_choice": choice}, quirks=quirks)["tool_choice"] == expected


def test_case_21_allowed_tools() -> None:
    body = {"input": "hi", "tools": TOOLS, "tool_choice": ALLOWED}
    assert [tool["function"]["name"] for tool in sent(body)["tools"]] == ["g"]
    assert len(sent(body, quirks="openai")["tools"]) == 3
    body["tool_choice"] = {**ALLOWED, "tools": [{"type": "function", "name": "nobody"}]}
    assert refused(body).param == "tool_choice.tools"


def test_emulated_shell_and_patch() -> None:
    body = {"input": "hi", "tools": [{"type": "local_shell"}, {"type": "apply_patch"}, {"type": "shell"}]}
    found = sent(body, quirks="openai")
    assert [tool["function"]["name"] for tool in found["tools"]] == ["local_shell", "apply_patch", "shell"]


# --- messages


def test_system_texts() -> None:
    items = [{"role": "developer", "content": "one"}, user(text("hi")), {"role": "system", "content": "two"}]
    body = {"input": items, "instructions": "zero"}
    assert sent(body, quirks="openai", model="gpt-5")["messages"] == [
        {"role": "developer", "content": "zero"},
        {"role": "developer", "content": "one"},
        {"role": "user", "content": "hi"},
        {"role": "developer", "content": "two"},
    ]
    assert [message["role"] for message in sent(body, quirks="openai", model="gpt-4o")["messages"]] == [
        "system",
        "system",
        "user",
        "system",
    ]
    found = sent(body, quirks="vllm")["messages"]
    assert found[0] == {"role": "system", "content": "zero\n\none"}
    assert found[2]["role"] == "user"
    assert found[2]["content"].startswith("Operator note")
    assert found[2]["content"].endswith("two")


def test_templates_that_demand_alternation() -> None:
    items = [user(text("a")), user(text("b")), user(text("c"), {"type": "input_image", "image_url": PNG})]
    found = messages(items, model="google/gemma-3-27b-it")
    assert found == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a\n\nb"},
                {"type": "text", "text": "c"},
                {"type": "image_url", "image_url": {"url": PNG}},
            ],
        }
    ]


def test_pain_9_adjacent_calls_are_one_turn() -> None:
    first, first_output = pair("a")
    second, second_output = pair("b", "g", '{"x":1}', [text("1"), text("2")])
    says = {
        "role": "assistant",
        "content": [{"type": "output_text", "text": "let "}, {"type": "output_text", "text": "me"}],
    }
    found = messages([user(text("hi")), says, first, second, first_output, second_output])
    assert found[1:] == [
        {
            "role": "assistant",
            "content": "let me",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": '{"x":1}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "done"},
        {"role": "tool", "tool_call_id": "b", "content": "12"},
    ]


def test_case_18_outputs_in_another_order_with_a_user_between() -> None:
    first, first_output = pair("a", output="A")
    second, second_output = pair("b", output="B")
    said = {"role": "assistant", "content": "both"}
    found = messages([user(text("hi")), first, second, said, second_output, user(text("and?")), first_output])
    assert [(m["role"], m.get("tool_call_id")) for m in found] == [
        ("user", None),
        ("assistant", None),
        ("tool", "a"),
        ("tool", "b"),
        ("user", None),
    ]
    assert found[1]["content"] == "both"


def test_case_25_an_image_in_an_output() -> None:
    parts = [text("look"), {"type": "input_image", "image_url": PNG, "detail": "low"}]
    first, first_output = pair("a", output=parts)
    second, second_output = pair("b", output=[parts[1]])
    items = [user(text("hi")), first, second, first_output, second_output, user(text("so?"))]
    image = {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}
    found = messages(items)
    assert [m["role"] for m in found] == ["user", "assistant", "tool", "tool", "user", "user"]
    assert found[2]["content"].startswith("look")
    assert found[4]["content"] == [image, image]
    inline = messages(items, capabilities={"tool_result_media": True})
    assert inline[2]["content"] == [{"type": "text", "text": "look"}, image]
    assert inline[3]["content"] == [image]


def test_outputs_that_are_incomplete() -> None:
    call, output = pair("a")
    assert messages([call, {**output, "status": "incomplete"}])[1]["content"] == "[incomplete] done"


@pytest.mark.parametrize(("quirks", "expected"), [("openai", None), (None, ""), ("openrouter", None)])
def test_a_turn_of_calls_only(quirks: str | None, expected: Any) -> None:
    assert messages(pair("a"), quirks=quirks)[0]["content"] == expected
    assert "content" not in messages(pair("a"), quirks="groq")[0]


def test_arguments_that_are_no_json() -> None:
    assert messages(pair("a", arguments=""))[0]["tool_calls"][0]["function"]["arguments"] == "{}"
    assert messages(pair("a", arguments="{cut"))[0]["tool_calls"][0]["function"]["arguments"] == "{cut"
    found = build({"input": pair("a", arguments="{cut")}, quirks="vllm")
    assert json.loads(found.body)["messages"][1]["tool_calls"][0]["function"]["arguments"] == "{}"
    assert [param for param, _ in found.warnings] == ["input"]
    kept = messages(pair("a", arguments='{"a": 1}'), quirks="vllm")
    assert kept[1]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'


def test_call_ids_for_mistral() -> None:
    _, *found = messages(pair("call_0123456789"), quirks="mistral")
    identifier = found[0]["tool_calls"][0]["id"]
    assert len(identifier) == 9
    assert identifier.isalnum()
    assert found[1]["tool_call_id"] == identifier
    assert nine("abcDEF123") == "abcDEF123"
    assert len({nine(f"call_{number}") for number in range(1000)}) == 1000


def test_pain_11_custom_calls_in_history() -> None:
    items = [
        {"type": "custom_tool_call", "call_id": "a", "name": "patch", "input": 'say "hi"'},
        {"type": "custom_tool_call_output", "call_id": "a", "output": "done"},
    ]
    body = {"input": items, "tools": [CUSTOM]}
    native = sent(body, quirks="openai")["messages"]
    assert native[0]["tool_calls"] == [{"id": "a", "type": "custom", "custom": {"name": "patch", "input": 'say "hi"'}}]
    emulated = sent(body)["messages"]
    function = emulated[0]["tool_calls"][0]["function"]
    assert json.loads(function["arguments"]) == {"input": 'say "hi"'}
    undeclared = sent({"input": items}, quirks="openai")["messages"]
    assert undeclared[0]["tool_calls"][0]["type"] == "function"


def test_items_without_a_slot() -> None:
    mcp = {"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "t", "arguments": "{}", "output": "x"}
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    found = messages([user(text("hi")), mcp, search, {"role": "assistant", "content": "done"}])
    assert found[1]["tool_calls"][0]["function"]["name"] == "s__t"
    assert [m["role"] for m in found] == ["user", "assistant", "tool", "assistant"]
    unknown = {"input": [user(text("hi")), {"type": "computer_call", "call_id": "c", "id": "x"}]}
    assert [param for param, _ in build(unknown).warnings] == ["input[1].type"]
    assert refused(unknown, strict=True).param == "input[1].type"


def test_refusals_in_history() -> None:
    parts = [{"type": "output_text", "text": "Hm. "}, {"type": "refusal", "refusal": "No."}]
    items = [user(text("hi")), {"role": "assistant", "content": parts}, user(text("why"))]
    assert messages(items)[1] == {"role": "assistant", "content": "Hm. No."}
    assert messages(items, quirks="openai")[1] == {"role": "assistant", "content": "Hm. ", "refusal": "No."}
    alone = [user(text("hi")), {"role": "assistant", "content": parts[1:]}]
    assert messages(alone, quirks="openai")[1] == {"role": "assistant", "content": None, "refusal": "No."}


def test_assistant_messages_of_one_turn_and_empty_ones() -> None:
    items = [user(text("a")), {"role": "assistant", "content": "b"}, {"role": "assistant", "content": "c"}]
    assert messages(items)[1]["content"] == "b\n\nc"
    items = [user(text("a")), {"role": "assistant", "content": ""}, {"type": "reasoning", "id": "rs_1", "summary": []}]
    assert [m["role"] for m in messages(items)] == ["user"]


def test_vllm_is_told_not_to_go_on_writing_a_last_assistant_message() -> None:
    items = [user(text("a")), {"role": "assistant", "content": "b"}]
    found = sent({"input": items}, quirks="vllm")
    assert (found["add_generation_prompt"], found["continue_final_message"]) == (True, False)
    assert "continue_final_message" not in sent({"input": items})
    assert "continue_final_message" not in sent({"input": "a"}, quirks="vllm")


# --- content parts


def test_case_24_image_file_and_audio() -> None:
    parts = [
        text("see"),
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="},
        {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "auto"},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]
    found = messages([user(*parts)], quirks="openai")
    assert found[0]["content"] == [
        {"type": "text", "text": "see"},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "auto"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]
    assert refused({"input": [user(parts[0], parts[1])]}, quirks="vllm").param == "input[0].content[1]"
    assert refused({"input": [user(parts[3])]}, quirks="deepseek").param == "input[0].content[0]"


def test_pain_37_files_of_text_are_text_everywhere() -> None:
    data = base64.b64encode(b"a,b\n1,2").decode()
    for part in (
        {"filename": "a.csv", "file_data": f"data:text/csv;base64,{data}"},
        {"filename": "a.csv", "file_data": data},
        {"filename": "a.CSV", "file_data": f"data:application/octet-stream;base64,{data}"},
    ):
        found = messages([user({"type": "input_file", **part})])
        assert found[0]["content"][0]["text"].endswith("a,b\n1,2")
    call, output = pair("a", output=[{"type": "input_file", "filename": "a.csv", "file_data": data}])
    found = messages([call, output])
    assert found[2]["content"][0]["text"].endswith("a,b\n1,2")
    bare = messages([user({"type": "input_file", "file_data": "JVBERg=="})], quirks="openai")
    assert bare[0]["content"][0]["file"]["file_data"] == "data:application/pdf;base64,JVBERg=="
    broken = {"type": "input_file", "filename": "a.txt", "file_data": "a"}
    call, output = pair("a", output=[text("x"), broken])
    assert refused({"input": [call, output]}).param == "input[1].output[1].file_data"


def test_media_by_url() -> None:
    parts = [
        {"type": "input_file", "filename": "a.pdf", "file_url": "https://example.com/a.pdf"},
        {"type": "input_image", "image_url": "https://example.com/a.png"},
    ]
    request = requests.parse({"model": "m", "input": [user(*parts)]})
    assert PROVIDER.media_needed(request, Target("up", "m", quirks="openai")) == ["https://example.com/a.pdf"]
    assert PROVIDER.media_needed(request, Target("up", "m", quirks="ollama")) == [
        "https://example.com/a.pdf",
        "https://example.com/a.png",
    ]
    media = {
        "https://example.com/a.pdf": Media("application/pdf", b"%PDF"),
        "https://example.com/a.png": Media("image/png", b"\0\0\0"),
    }
    found = messages([user(*parts)], quirks="openai", media=media)
    assert found[0]["content"][0]["file"]["file_data"] == "data:application/pdf;base64,JVBERg=="
    inlined = messages([user(parts[1])], quirks="ollama", media=media)
    assert inlined[0]["content"][0]["image_url"]["url"] == PNG
    kept = messages([user({"type": "input_image", "image_url": PNG})], quirks="ollama")
    assert kept[0]["content"][0]["image_url"]["url"] == PNG
    assert refused({"input": [user(parts[0])]}, quirks="openai").code == "failed_to_download_image"


def test_image_details_and_images_without_a_url() -> None:
    part = {"type": "input_image", "image_url": PNG, "detail": "original"}
    assert messages([user(part)], quirks="openai")[0]["content"][0]["image_url"]["detail"] == "original"
    found = build({"input": [user(part)]})
    assert json.loads(found.body)["messages"][0]["content"][0]["image_url"]["detail"] == "high"
    assert [param for param, _ in found.warnings] == ["input[0].content[0].detail"]
    assert refused({"input": [user({"type": "input_image", "file_id": "file_1"})]}).param == "input[0].content[0]"


def test_texts_of_several_parts() -> None:
    items = [user(text("a"), text("b"))]
    assert messages(items)[0]["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert messages(items, capabilities={"text_only_content": True})[0]["content"] == "a\n\nb"


def test_cache_marks() -> None:
    items = [user({**text("a"), "prompt_cache_breakpoint": {"mode": "explicit"}})]
    assert messages(items)[0]["content"] == "a"
    assert messages(items, quirks="openai")[0]["content"] == [
        {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}
    ]
    assert messages(items, quirks="openrouter", model="anthropic/claude-x")[0]["content"] == [
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
    ]


def test_lone_surrogates_are_mended() -> None:
    assert messages("a\ud83d")[0]["content"] == "a\ufffd"
    schema = {"type": "json_schema", "name": "a", "schema": {"const": "\ud83d"}}
    assert sent({"input": "hi", "text": {"format": schema}}, quirks="deepseek")


# --- reasoning goes back


def reasoning(
    blocks: list[Json] | None = None, *, model: str = "some-model", family: str = "chat", shown: str = ""
) -> Json:
    item: Json = {"type": "reasoning", "id": "rs_1", "summary": []}
    if shown:
        item["content"] = [{"type": "reasoning_text", "text": shown}]
    if blocks is not None:
        item["encrypted_content"] = seal(family, model, [json.dumps(block) for block in blocks])
    return item


RAW = [{"k": "rc", "field": "reasoning_content", "text": "because"}]
ENTRIES: list[Json] = [
    {"type": "reasoning.text", "text": "Because", "index": 0, "signature": "s"},
    {"type": "reasoning.encrypted", "data": "zzz", "index": 1},
]
DETAILS = [{"k": "rd", "v": entry} for entry in ENTRIES]
SAYS = {"role": "assistant", "content": "x"}


def test_case_11_deepseek_gets_the_reasoning_of_tool_turns() -> None:
    items = [user(text("hi")), reasoning(RAW), *pair("a"), reasoning(RAW), SAYS]
    found = messages(items, quirks="deepseek")
    assert found[1]["reasoning_content"] == "because"
    assert "reasoning_content" not in found[3]
    lost = build({"input": [user(text("hi")), *pair("a")]}, quirks="deepseek")
    assert json.loads(lost.body)["messages"][1]["reasoning_content"] == " "
    assert [param for param, _ in lost.warnings] == ["input"]
    off = build({"input": [user(text("hi")), *pair("a")], "reasoning": {"effort": "none"}}, quirks="deepseek")
    assert (off.warnings, "reasoning_content" in json.loads(off.body)["messages"][1]) == ((), False)
    visible = messages([user(text("hi")), reasoning(shown="seen"), *pair("a")], quirks="deepseek")
    assert visible[1]["reasoning_content"] == "seen"


@pytest.mark.parametrize(
    ("model", "lost"),
    [
        ("deepseek/deepseek-v4-pro", " "),
        ("deepseek-reasoner", " "),
        ("mimo-v2-flash", " "),
        ("XiaomiMiMo/MiMo-V2.5-Pro", " "),
        ("deepseek-ai/DeepSeek-V3.2", None),  # thinks only where it is asked to
    ],
)
def test_models_that_get_the_reasoning_of_tool_turns_from_any_server(model: str, lost: str | None) -> None:
    items = [user(text("hi")), reasoning(shown="because"), *pair("a"), reasoning(shown="so"), SAYS, user(text("go"))]
    found = messages(items, model=model)
    assert found[1]["reasoning_content"] == "because"
    assert "reasoning_content" not in found[3]
    assert messages([user(text("hi")), *pair("a")], model=model)[1].get("reasoning_content") == lost


@pytest.mark.parametrize(
    ("model", "quirks", "field"),
    [
        ("accounts/fireworks/models/kimi-k2p5", None, "reasoning_content"),
        ("kimi-k2-thinking", "moonshot", "reasoning_content"),
        ("kimi-k2.5", "moonshot", "reasoning_content"),
        ("glm-4.7", "zai", "reasoning_content"),
        ("zai-org/GLM-5", "vllm", "reasoning"),
    ],
)
def test_models_that_get_all_their_reasoning_back(model: str, quirks: str | None, field: str) -> None:
    found = messages(
        [user(text("hi")), reasoning(RAW, model=model), SAYS, user(text("so"))], model=model, quirks=quirks
    )
    assert found[1][field] == "because"
    lost = messages([user(text("hi")), SAYS, user(text("so"))], model=model, quirks=quirks)
    assert field not in lost[1]


def test_case_10_details_go_back_as_they_came() -> None:
    items = [user(text("hi")), reasoning(DETAILS, model="other"), *pair("a")]
    assert messages(items, quirks="openrouter")[1]["reasoning_details"] == ENTRIES
    assert "reasoning_details" not in messages([user(text("hi")), *pair("a")], quirks="openrouter")[1]
    assert messages(items, quirks="deepseek")[1]["reasoning_content"] == "Because"


@pytest.mark.parametrize("quirks", ["openai", "groq", "mistral", "xai", None])
def test_servers_that_get_no_reasoning_back(quirks: str | None) -> None:
    items = [user(text("hi")), reasoning(RAW), reasoning(DETAILS), *pair("a")]
    found = build({"input": items}, quirks=quirks)
    assert set(json.loads(found.body)["messages"][1]) <= {"role", "content", "tool_calls"}
    assert found.transformations == ()


@pytest.mark.parametrize(
    "item",
    [
        reasoning([{"type": "thinking"}], family="anthropic"),
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAfrom-elsewhere"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "relay1.broken"},
    ],
)
def test_case_40_foreign_reasoning_is_dropped_and_told(item: Json) -> None:
    found = build({"input": [user(text("hi")), item, *pair("a")]}, quirks="openrouter")
    assert found.transformations == (
        {"id": "rs_1", "type": "reasoning", "action": "removed", "reason": "model_mismatch"},
    )
    assert "reasoning_details" not in json.loads(found.body)["messages"][1]


def test_thought_signatures_go_back_to_the_call_that_follows() -> None:
    signed = reasoning([{"k": "fc", "sig": "SIG"}])
    first, first_output = pair("a")
    second, second_output = pair("b")
    items = [user(text("hi")), signed, first, second, first_output, second_output]
    calls = messages(items)[1]["tool_calls"]
    assert calls[0]["extra_content"] == {"google": {"thought_signature": "SIG"}}
    assert "extra_content" not in calls[1]
    assert "extra_content" not in messages(items, model="other")[1]["tool_calls"][0]


def test_reasoning_of_earlier_turns_can_be_forgotten() -> None:
    items = [user(text("a")), reasoning(RAW), *pair("a"), user(text("b")), reasoning(RAW), *pair("b")]
    found = sent({"input": items, "reasoning": {"context": "current_turn"}}, quirks="openrouter")["messages"]
    assert ["reasoning_details" in message for message in found] == [False] * 6
    items = [user(text("a")), reasoning(DETAILS), *pair("a"), user(text("b")), reasoning(DETAILS), *pair("b")]
    items.append({"role": "developer", "content": "mind"})
    found = sent({"input": items, "reasoning": {"context": "current_turn"}}, quirks="openrouter")["messages"]
    assert ["reasoning_details" in message for message in found] == [False, False, False, False, True, False, False]


def test_an_envelope_without_blocks_falls_back_to_what_is_shown() -> None:
    item = {**reasoning([]), "content": [{"type": "reasoning_text", "text": "seen"}]}
    assert messages([user(text("hi")), item, *pair("a")], quirks="deepseek")[1]["reasoning_content"] == "seen"


# --- decision 25

CONVERSATION = [
    {"role": "developer", "content": "be"},
    user(text("one")),
    reasoning(RAW),
    {"role": "assistant", "content": "let me"},
    *pair("a", output=[text("see"), {"type": "input_image", "image_url": PNG}]),
    {"role": "assistant", "content": "so"},
    {"role": "developer", "content": "mind"},
    user(text("two"), {"type": "input_image", "image_url": PNG}),
    reasoning(DETAILS),
    *pair("b"),
    *pair("c"),
    {"role": "assistant", "content": "end"},
]


@pytest.mark.parametrize("quirks", ["openai", "openrouter", "vllm", "deepseek", "mistral", "groq", "ollama", None])
@pytest.mark.parametrize("model", ["some-model", "gemma-3"])
def test_decision_25_a_longer_conversation_begins_with_the_same_messages(quirks: str | None, model: str) -> None:
    before: list[Json] = []
    for end in range(1, len(CONVERSATION) + 1):
        items = CONVERSATION[:end]
        answered = {item["call_id"] for item in items if item.get("type") == "function_call_output"}
        if any(item.get("call_id") not in answered for item in items if item.get("type") == "function_call"):
            continue
        found = messages(items, quirks=quirks, model=model)
        assert [json.dumps(m) for m in found[: len(before[:-1])]] == [json.dumps(m) for m in before[:-1]]
        before = found
    assert len(before) > 5


# --- the vendor's own types


def vendor_faults(body: Json) -> list[str]:
    try:
        exhaust(VENDOR.validate_python(body))
    except ValidationError as error:
        return [str(error)[:2000]]
    return []


def exhaust(value: Any) -> None:
    """pydantic checks an ``Iterable`` only while it is read."""
    if isinstance(value, dict):
        for member in value.values():
            exhaust(member)
    elif not isinstance(value, str | int | float | None):
        for member in value:
            exhaust(member)


def test_the_vendor_types_refuse_what_is_wrong() -> None:
    assert vendor_faults({**sent({"input": "hi"}, quirks="openai"), "top_k": 1})
    assert vendor_faults({"model": "m", "messages": [{"role": "tool", "content": "x"}], "stream": True})


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-5", "o3"])
def test_requests_for_openai_are_what_its_sdk_types_say(model: str) -> None:
    body = {
        "input": CONVERSATION,
        "tools": [*TOOLS, {**CUSTOM, "name": "other", "format": GRAMMAR}, {"type": "shell"}],
        "tool_choice": ALLOWED,
        "text": {"format": SCHEMA, "verbosity": "low"},
        "reasoning": {"effort": "high"},
        "top_logprobs": 2,
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "service_tier": "flex",
        **{name: value for name, value in PLAIN.items() if name != "tools"},
    }
    assert vendor_faults(sent(body, quirks="openai", model=model)) == []


@corpus.needed
def test_recorded_responses_requests_become_requests_of_the_sdks_types() -> None:
    count = 0
    refusals: dict[str, int] = {}
    for exchange in corpus.exchanges("openai-responses"):
        body = exchange.request
        if not isinstance(body, dict) or not isinstance(body.get("model"), str) or exchange.status != 200:
            continue
        try:
            request = requests.parse({name: value for name, value in body.items() if name != "previous_response_id"})
            built = PROVIDER.build(request, Target("up", "gpt-4o", quirks="openai"), {}, frozenset())
        except RelayError as error:
            refusals[error.message] = refusals.get(error.message, 0) + 1
            continue
        except KeyError:
            assert body.get("previous_response_id"), exchange
            continue
        count += 1
        assert vendor_faults(json.loads(built.body)) == [], exchange
    print(f"{count} requests built, refused: {refusals}")
    assert count >= 30
