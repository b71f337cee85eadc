"""A forced ``tool_choice`` while the model thinks, and reasoning that its server wants back (chat/completions).

Source: github.com/deepseek-ai/DeepSeek-V3/issues/1376; github.com/cloudwego/eino/issues/994;
github.com/can1357/oh-my-pi/issues/1077; github.com/UKGovernmentBEIS/inspect_ai/pull/5152;
github.com/1jehuang/jcode/issues/322; platform.kimi.ai/docs/guide/use-reasoning-effort.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.providers.chat import PROVIDER
from relay.providers.chat_failures import error_of
from tests.providers.chat_support import build, sent

Json = dict[str, Any]

F = {"type": "function", "name": "f"}
G = {"type": "function", "name": "g"}
NAMED = {"type": "function", "name": "f"}
ALLOWED = {"type": "allowed_tools", "mode": "required", "tools": [F]}
FORCED = ["required", NAMED, ALLOWED]
STILL = {"type": "disabled"}
CALLED_F = {"type": "function", "function": {"name": "f"}}


def body(choice: Any, **more: Any) -> Json:
    return {"input": "hi", "tools": [F, G], "tool_choice": choice, **more}


def system(found: Json) -> str:
    return "\n".join(message["content"] for message in found["messages"] if message["role"] == "system")


# --- what rows know


@pytest.mark.parametrize(
    ("model", "quirks", "base_url"),
    [
        ("deepseek-v4-flash", "deepseek", "https://inference.example/v1"),
        ("deepseek-v4-pro", None, "https://api.deepseek.com/v1"),
        ("kimi-k2.5", "moonshot", "https://inference.example/v1"),
        ("kimi-k2.6", None, "https://api.moonshot.ai/v1"),
    ],
)
@pytest.mark.parametrize(("choice", "said"), [("required", "required"), (NAMED, CALLED_F), (ALLOWED, "required")])
def test_thinking_that_can_be_switched_off_gives_way(
    model: str, quirks: str | None, base_url: str, choice: Any, said: Any
) -> None:
    call = build(body(choice), model=model, quirks=quirks, base_url=base_url)
    found = json.loads(call.body)
    assert (found["tool_choice"], found["thinking"], system(found)) == (said, STILL, "")
    assert [param for param, _ in call.warnings] == ["tool_choice"]


def test_an_effort_that_gives_way_is_named() -> None:
    call = build(body("required", reasoning={"effort": "high"}), quirks="deepseek")
    found = json.loads(call.body)
    assert (found["thinking"], "reasoning_effort" in found) == (STILL, False)
    assert [param for param, _ in call.warnings] == ["reasoning.effort"]
    off = build(body("required", reasoning={"effort": "none"}), quirks="deepseek")
    assert (json.loads(off.body)["tool_choice"], off.warnings) == ("required", ())


@pytest.mark.parametrize("choice", ["auto", "none", {**ALLOWED, "mode": "auto"}])
def test_a_choice_that_forces_nothing_leaves_thinking_alone(choice: Any) -> None:
    call = build(body(choice), quirks="deepseek")
    assert ("thinking" in json.loads(call.body), call.warnings) == (False, ())


@pytest.mark.parametrize(
    "model", ["kimi-k2.7-code", "kimi-k2-thinking", "kimi-for-coding", "kimi-for-coding-highspeed"]
)
@pytest.mark.parametrize("choice", FORCED)
def test_a_model_that_always_thinks_is_asked_in_words(model: str, choice: Any) -> None:
    call = build(body(choice), model=model, base_url="https://api.kimi.com/coding/v1")
    found = json.loads(call.body)
    assert ("tool_choice" in found, "thinking" in found) == (False, False)
    assert system(found).startswith("You must answer by calling a tool")
    assert ("named f" in system(found)) is (choice is NAMED)
    assert [param for param, _ in call.warnings] == ["tool_choice"]
    assert [tool["function"]["name"] for tool in found["tools"]] == (["f"] if choice is ALLOWED else ["f", "g"])


@pytest.mark.parametrize("model", ["kimi-k3", "k3", "k3-256k"])
def test_kimi_k3_can_be_forced_but_not_to_what(model: str) -> None:
    named = build(body(NAMED), model=model, quirks="moonshot")
    assert json.loads(named.body)["tool_choice"] == "required"
    assert "named f" in system(json.loads(named.body))
    assert [param for param, _ in named.warnings] == ["tool_choice"]
    required = build(body("required"), model=model, quirks="moonshot")
    assert (json.loads(required.body)["tool_choice"], required.warnings) == ("required", ())


@pytest.mark.parametrize(
    ("model", "effort", "expected", "warned"),
    [
        ("kimi-k3", "none", {"reasoning_effort": "low"}, True),
        ("kimi-k3", "medium", {"reasoning_effort": "high"}, False),
        ("kimi-k3", "xhigh", {"reasoning_effort": "high"}, False),
        ("k3", "max", {"reasoning_effort": "max"}, False),
        ("kimi-for-coding", "high", {}, False),
        ("kimi-k2.7-code", "none", {}, True),
        ("kimi-k2.6", "none", {"thinking": STILL}, False),
    ],
)
def test_efforts_of_kimi(model: str, effort: str, expected: Json, warned: bool) -> None:
    call = build({"input": "hi", "reasoning": {"effort": effort}}, model=model, quirks="moonshot")
    found = json.loads(call.body)
    assert {name: found[name] for name in ("thinking", "reasoning_effort") if name in found} == expected
    assert bool(call.warnings) is warned


# --- what only the upstream knows

REFUSALS = [
    "Thinking mode does not support this tool_choice",
    "deepseek-reasoner does not support this tool_choice",
    "tool_choice 'required' is incompatible with thinking enabled",
    "tool_choice 'specified' is incompatible with thinking enabled",
    "<400> InternalError.Algo.InvalidParameter: The tool_choice parameter does not support being set to required or "
    "object in thinking mode",
    "tool_choice only supports auto",
    "Thinking may not be enabled when tool_choice forces tool use.",
    '`tool_choice` must either be a named tool, "auto", or "none".',
    "body.tool_choice: Input should be 'none' or 'auto'",
    "tool_choice 'required' is not supported by this model",
    "Invalid value for tool_choice",
    "Tool choice must be auto",
    "toolChoice is not supported in this mode",
    "'required' tool choice is not supported when reasoning is enabled",
]


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("message", REFUSALS)
def test_a_refused_choice_has_a_repair(status: int, message: str) -> None:
    error = {"error": {"message": message, "type": "invalid_request_error", "param": None}}
    assert PROVIDER.error(status, {}, json.dumps(error).encode()).repair == "tool_choice"


IN_BAND = [
    # how gateways tell a provider's 400 inside a 200: https://openrouter.ai/docs/api/reference/errors-and-debugging
    {"message": REFUSALS[0], "code": 400},
    {"message": REFUSALS[0], "type": "invalid_request_error", "param": None},
    {"message": "Provider returned error", "code": 400, "metadata": {"raw": json.dumps({"message": REFUSALS[0]})}},
]


@pytest.mark.parametrize("error", IN_BAND)
def test_a_choice_that_is_refused_in_the_stream_has_the_same_repair(error: dict[str, Any]) -> None:
    assert error_of(error).repair == "tool_choice"
    assert error_of({**error, "code": 429, "type": None}).repair is None
    assert error_of({"message": REFUSALS[0], "code": 500}).repair is None


@pytest.mark.parametrize(
    "message",
    [
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
        "Tool choice function f not found in tools",
        "messages: tool_call_id is missing",
    ],
)
def test_what_leaving_out_the_choice_does_not_mend_is_no_repair(message: str) -> None:
    assert PROVIDER.error(400, {}, json.dumps({"error": {"message": message}}).encode()).repair is None


@pytest.mark.parametrize("quirks", [None, "deepseek", "openai", "moonshot", "vllm"])
@pytest.mark.parametrize("choice", FORCED)
def test_the_repair_asks_in_words(quirks: str | None, choice: Any) -> None:
    call = build(body(choice, reasoning={"effort": "high"}), model="kimi-k2.6", quirks=quirks, repairs=["tool_choice"])
    found = json.loads(call.body)
    assert "tool_choice" not in found
    assert found.get("thinking") != STILL
    assert "You must answer by calling a tool" in json.dumps(found["messages"])
    assert "tool_choice" in [param for param, _ in call.warnings]
    assert [tool["function"]["name"] for tool in found["tools"]] == (["f"] if choice is ALLOWED else ["f", "g"])


def test_the_repair_of_a_choice_that_forces_nothing() -> None:
    found = sent(body("auto"), repairs=["tool_choice"])
    assert ("tool_choice" in found, len(found["tools"]), system(found)) == (False, 2, "")
    none = sent(body("none"), repairs=["tool_choice"])
    assert ("tool_choice" in none, "tools" in none) == (False, False)
    assert "tools" not in sent({"input": "hi", "tool_choice": "required"}, repairs=["tool_choice"])


# --- reasoning goes back

GO = {"role": "user", "content": "a"}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm hm"}]}
PAIR = [
    {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "call_1", "output": "r"},
]
KIMI = [
    "kimi-for-coding",
    "kimi-for-coding-highspeed",
    "moonshotai/kimi-for-coding",
    "k3",
    "K3",
    "k3-256k",
    "kimi/k3",
    "k2p6",
    "kimi-code/k2p7",
    "kimi-k2-thinking",
    "kimi-k2.6",
    "kimi-k2.7-code",
    "moonshotai/Kimi-K3",
]


@pytest.mark.parametrize("model", KIMI)
def test_kimi_gets_its_reasoning_back(model: str) -> None:
    found = sent({"input": [GO, THOUGHT, *PAIR], "tools": [F]}, model=model)["messages"]
    assert (found[1]["reasoning_content"], len(found[1]["tool_calls"])) == ("hm hm", 1)
    said = sent({"input": [GO, THOUGHT, {"role": "assistant", "content": "x"}, GO]}, model=model)["messages"]
    assert said[1]["reasoning_content"] == "hm hm"


@pytest.mark.parametrize("model", KIMI)
def test_kimi_gets_a_stand_in_for_lost_reasoning_of_calls(model: str) -> None:
    call = build({"input": [GO, *PAIR, {"role": "assistant", "content": "x"}, GO]}, model=model)
    found = json.loads(call.body)["messages"]
    assert (found[1]["reasoning_content"], "reasoning_content" in found[3]) == (" ", False)
    assert [param for param, _ in call.warnings] == ["input"]


@pytest.mark.parametrize("model", ["k30b", "mk3", "qwen3-k3x", "task3", "k2pro", "glm-5"])
def test_other_models_miss_nothing(model: str) -> None:
    call = build({"input": [GO, *PAIR]}, model=model)
    assert ("reasoning_content" in json.loads(call.body)["messages"][1], call.warnings) == (False, ())


@pytest.mark.parametrize("quirks", ["vllm", "sglang", "ollama", "llamacpp"])
def test_a_server_with_the_models_own_template_misses_nothing(quirks: str) -> None:
    assert build({"input": [GO, *PAIR]}, model="kimi-k2.6", quirks=quirks).warnings == ()


def test_a_turn_that_does_not_think_sends_no_reasoning() -> None:
    found = sent(body("required", input=[GO, THOUGHT, *PAIR]), model="kimi-k2.6", quirks="moonshot")
    assert "reasoning_content" not in found["messages"][1]
