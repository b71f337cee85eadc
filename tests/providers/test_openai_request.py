"""Requests to native upstreams: what passes, what the relay owns, and each server's row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.errors import KINDS, RelayError
from relay.providers.base import VERDICTS, Target
from relay.providers.openai import PARAMETERS, PROVIDER
from relay.responses import request as requests
from relay.responses.envelope import seal
from tests import oracle
from tests.providers.openai_support import Json, build, sent

OPENAI = "https://api.openai.com/v1"
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}


def refused(body: Json, **options: Any) -> RelayError:
    with pytest.raises(RelayError) as caught:
        build(body, **options)
    return caught.value


# --- parameters (translation.md §1.1, column D)


def test_every_parameter_has_a_row() -> None:
    assert set(PARAMETERS) == set(requests.PARAMETERS)
    assert all(row.verdict in VERDICTS for row in PARAMETERS.values())
    assert PROVIDER.media_needed(requests.parse({"model": "m", "input": "x"}), Target("up", "m")) == []


PASSING: Json = {
    "include": ["message.output_text.logprobs"],
    "instructions": "be brief",
    "max_output_tokens": 100,
    "max_tool_calls": 3,
    "metadata": {"a": "b"},
    "parallel_tool_calls": False,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "implicit"},
    "prompt_cache_retention": "24h",
    "reasoning": {"effort": "xhigh", "summary": "auto"},
    "safety_identifier": "s",
    "service_tier": "flex",
    "stream": False,
    "temperature": 0.3,
    "text": {"format": {"type": "json_object"}, "verbosity": "low"},
    "tool_choice": {"type": "function", "name": "f"},
    "tools": [FUNCTION, {"type": "web_search"}, {"type": "mcp", "server_label": "a", "server_url": "https://a"}],
    "top_logprobs": 2,
    "top_p": 0.9,
    "truncation": "auto",
    "user": "u",
    "context_management": [{"type": "compaction", "compact_threshold": 1000}],
    "background": True,
    "conversation": "conv_1",
    "store": True,
    "moderation": {"model": "omni"},
    "access_programs": {"a": 1},
    "image": {"context_compression": "auto"},
    "client_metadata": {"session": "1"},
    "something_new": {"deep": [1, None]},
}


def test_to_openai_everything_passes() -> None:
    body = {"input": [{"role": "user", "content": "hi"}], **PASSING}
    assert sent(body, base_url=OPENAI, holds_state=True) == {"model": "gpt-5", **body}


def test_where_the_relay_keeps_the_state_nothing_of_it_passes() -> None:
    request = requests.parse({"model": "alias", "input": "hi", "store": True, "conversation": "c", "background": False})
    call = PROVIDER.build(request.with_params(previous_response_id="resp_1"), Target("up", "m"), {}, frozenset())
    assert json.loads(call.body) == {
        "model": "m",
        "store": False,
        "input": "hi",
        "include": ["reasoning.encrypted_content"],
    }


def test_a_previous_response_passes_unless_the_relay_resolved_it() -> None:
    body = {"input": "hi", "previous_response_id": "resp_1"}
    assert sent(body, holds_state=True)["previous_response_id"] == "resp_1"
    request = requests.parse({"model": "alias", **body})
    window = requests.parse({"model": "alias", "input": "before"}).items
    resolved = request.with_window(window, request.items)
    built = json.loads(PROVIDER.build(resolved, Target("up", "m", holds_state=True), {}, frozenset()).body)
    assert "previous_response_id" not in built
    assert built["input"] == [*window, *request.items]


def test_the_client_decides_whether_it_streams() -> None:
    """Decision 18."""
    assert build({"input": "hi", "stream": True}).stream
    assert sent({"input": "hi", "stream": True})["stream"] is True
    assert not build({"input": "hi"}).stream


def test_obfuscation_is_switched_off_unless_the_client_wants_it() -> None:
    asked = {"input": "hi", "stream": True}
    assert sent(asked, base_url=OPENAI)["stream_options"] == {"include_obfuscation": False}
    wanted = {**asked, "stream_options": {"include_obfuscation": True}}
    assert sent(wanted, base_url=OPENAI)["stream_options"] == {"include_obfuscation": True}
    assert "stream_options" not in sent(asked)
    assert "stream_options" not in sent({"input": "hi"}, base_url=OPENAI)
    assert "stream_options" not in sent(asked, base_url=OPENAI, repairs=["stream_options"])


def test_aliases_are_resolved() -> None:
    body = {
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 7,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
        "stream_id": "s",
        "generate": True,
        "type": "response.create",
        "n": 1,
    }
    assert sent(body, holds_state=True) == {
        "model": "gpt-5",
        "max_output_tokens": 7,
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
    }


def test_one_answer_only() -> None:
    error = refused({"input": "hi", "n": 2})
    assert (error.status, error.param) == (400, "n")


@pytest.mark.parametrize("name", ["stop", "seed", "logit_bias"])
def test_chat_style_parameters_are_warned_about(name: str) -> None:
    body = {"input": "hi", name: {"stop": ["x"], "seed": 1, "logit_bias": {"1": 1}}[name]}
    call = build(body, base_url=OPENAI)
    assert call.warnings == ((name, "not supported by this upstream"),)
    assert name not in json.loads(call.body)
    assert refused(body, strict=True).param == name
    assert sent(body, quirks="vllm")[name] == body[name]
    assert build({"input": "hi", "logit_bias": {}}).warnings == ()


@pytest.mark.parametrize("name", ["moderation", "access_programs"])
def test_what_only_openai_knows_is_refused_elsewhere(name: str) -> None:
    assert refused({"input": "hi", name: {"a": 1}}).param == name


def test_image_compression_elsewhere() -> None:
    assert build({"input": "hi", "image": {"context_compression": "enabled"}}).warnings[0][0] == (
        "image.context_compression"
    )
    assert build({"input": "hi", "image": {"context_compression": "auto"}}).warnings == ()


def test_tools_in_chat_clothing_are_undressed() -> None:
    body = {
        "input": "hi",
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
    }
    assert sent(body)["tools"] == [{"type": "function", "name": "f", "parameters": {}}]
    assert sent(body)["tool_choice"] == {"type": "function", "name": "f"}
    assert "tools" not in sent({"input": "hi", "tools": []})


def test_forwarded_and_extra_parameters() -> None:
    body = {"input": "hi", "metadata": {"a": "b"}, "top_k": 3}
    built = sent(body, quirks="xai", forward=("top_k", "metadata", "absent"), extra_body={"seed": 7})
    assert (built["top_k"], built["metadata"], built["seed"]) == (3, {"a": "b"}, 7)


# --- input


def test_input_passes_as_it_was_sent() -> None:
    items = [
        {"role": "user", "content": "hi", "novelty": 1},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA", "content": None},
        {"type": "item_reference", "id": "msg_9"},
        {"type": "hologram", "x": [1]},
    ]
    assert sent({"input": items}, quirks="openai")["input"] == items
    assert sent({"input": "hi"})["input"] == "hi"
    typed = {"role": "user", "novelty": 1, "type": "message", "content": [{"type": "input_text", "text": "hi"}]}
    assert sent({"input": items})["input"] == [typed, *items[1:]]
    assert "input" not in json.loads(
        PROVIDER.build(requests.parse({"model": "m"}), Target("u", "m"), {}, frozenset()).body
    )


def test_truncations_that_the_relay_does_not_know() -> None:
    assert sent({"truncation": "auto"})["truncation"] == "auto"
    early = requests.parse({"model": "m", "input": "hi", "truncation": "oldest"}, judged=False)
    kept = PROVIDER.build(early, Target("u", "m", holds_state=True), {}, frozenset())
    assert json.loads(kept.body)["truncation"] == "oldest"
    with pytest.raises(RelayError) as caught:
        PROVIDER.build(early, Target("u", "m"), {}, frozenset())
    assert (caught.value.status, caught.value.param) == (400, "truncation")


def test_reasoning_that_the_relay_sealed_for_another_upstream_is_removed() -> None:
    sealed = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": seal("anthropic", "m", ["{}"])}
    call = build({"input": [sealed, {"role": "user", "content": "hi"}]})
    assert [item["type"] for item in json.loads(call.body)["input"]] == ["message"]
    assert call.transformations == (
        {"id": "rs_1", "type": "reasoning", "action": "removed", "reason": "model_mismatch"},
    )


def test_lone_surrogates_do_not_stop_a_request() -> None:
    assert sent({"input": "a\ud83d"})["input"] == "a\ufffd"


# --- servers (translation.md §3.6)

HISTORY = [
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}], "status": "completed"},
    {"type": "reasoning", "id": "rs_1", "summary": [], "status": "completed"},
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"},
    {"type": "function_call_output", "call_id": "c", "output": "1", "status": "completed"},
]


@pytest.mark.parametrize(
    ("base_url", "stripped"),
    [
        ("https://me.openai.azure.com/openai/v1", {"message", "reasoning"}),
        ("https://api.x.ai/v1", set()),
    ],
)
def test_members_of_items_that_a_server_refuses(base_url: str, stripped: set[str]) -> None:
    items = sent({"input": HISTORY}, base_url=base_url)["input"]
    assert {item["type"] for item in items if "status" not in item} == stripped


def test_vllm_refuses_the_status_of_calls() -> None:
    items = sent({"input": HISTORY}, quirks="vllm")["input"]
    assert [item["type"] for item in items if "status" not in item] == ["function_call"]


def test_xai() -> None:
    tools = [
        {"type": "code_interpreter", "container": {"type": "auto"}},
        {"type": "web_search", "search_context_size": "low", "filters": {"excluded_domains": ["a"]}},
        "odd",
    ]
    request = requests.parse({"model": "m", "input": "hi", "metadata": {"a": "b"}, "tools": tools[:2]})
    call = PROVIDER.build(
        request.with_params(tools=tools), Target("up", "grok-4", "https://api.x.ai/v1"), {}, frozenset()
    )
    body = json.loads(call.body)
    assert "metadata" not in body
    assert body["tools"] == [
        {"type": "code_interpreter"},
        {"type": "web_search", "filters": tools[1]["filters"]},
        "odd",
    ]  # type: ignore[index]
    assert call.warnings == ()


def test_azure_drops_context_management_with_a_warning() -> None:
    body = {"input": "hi", "context_management": [{"type": "compaction"}]}
    call = build(body, base_url="https://me.openai.azure.com/openai/v1", holds_state=True)
    assert call.warnings == (("context_management", "not supported by this upstream"),)


def test_deepseek_knows_fewer_efforts() -> None:
    levels = {
        "none": "none",
        "minimal": "low",
        "low": "low",
        "medium": "high",
        "high": "high",
        "xhigh": "high",
        "max": "max",
    }
    for level, known in levels.items():
        built = sent({"input": "hi", "reasoning": {"effort": level}}, base_url="https://api.deepseek.com/v1")
        assert built["reasoning"] == {"effort": known}


def test_encrypted_reasoning_is_asked_for_where_it_exists() -> None:
    wanted = ["reasoning.encrypted_content"]
    assert sent({"input": "hi"})["include"] == wanted
    assert sent({"input": "hi", "include": wanted})["include"] == wanted
    assert "include" not in sent({"input": "hi"}, model="gpt-4o")
    assert "include" not in sent({"input": "hi"}, quirks="ollama")
    assert "include" not in sent({"input": "hi"}, holds_state=True)
    assert "include" not in sent({"input": "hi"}, repairs=["encrypted_content"])
    assert "include" not in sent({"input": "hi"}, capabilities={"encrypted_reasoning": False})


# --- sealed reasoning that the upstream cannot open (decision 60)

GO = {"role": "user", "content": "go"}
SEALED_ITEM = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAAother"}
PLAIN_ITEM = {"type": "reasoning", "id": "rs_2", "summary": [{"type": "summary_text", "text": "hm"}]}
SAID = {"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}
CALLED = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"}
GAVE = {"type": "function_call_output", "call_id": "c", "output": "1"}
FOLDED = {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAAAfolded"}
FOUND = {**GAVE, "encrypted_content": "gAAAAAtool"}
REFERENCE = {"type": "item_reference", "id": "msg_9"}


@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize(
    ("items", "kinds", "ids"),
    [
        ([GO, SEALED_ITEM, SAID, GO], ["message", "message", "message"], []),
        ([GO, SEALED_ITEM, CALLED, GAVE, SAID], ["message", "function_call", "function_call_output", "message"], []),
        # what came before, and what a later turn said, keeps its id
        ([SAID, GO, SEALED_ITEM, CALLED, GAVE, GO, SAID], None, ["msg_1", "msg_1"]),
        ([GO, SEALED_ITEM, FOLDED, REFERENCE], ["message", "compaction", "item_reference"], ["cmp_1", "msg_9"]),
        ([GO, SEALED_ITEM, PLAIN_ITEM, SAID], ["message", "reasoning", "message"], []),
        # a summary alone may be what is refused, unless something else is sealed
        ([GO, PLAIN_ITEM, SAID], ["message", "message"], []),
        ([GO, PLAIN_ITEM, CALLED, FOUND], None, ["rs_2", "fc_1"]),
        ([GO, FOLDED, GO], None, ["cmp_1"]),
    ],
)
def test_sealed_reasoning_is_left_out(
    state: bool, items: list[dict[str, Any]], kinds: list[str] | None, ids: list[str]
) -> None:
    body = sent({"input": items}, repairs=["sealed"], holds_state=state)
    assert "gAAAAAother" not in json.dumps(body)
    if kinds is not None:
        assert [item.get("type", "message") for item in body["input"]] == kinds
    assert [item["id"] for item in body["input"] if "id" in item] == ids


def test_left_out_reasoning_is_reported() -> None:
    request = requests.parse({"model": "alias", "input": [GO, SEALED_ITEM, SAID, GO]})
    target = Target("up", "gpt-5", OPENAI)
    assert PROVIDER.build(request, target, {}, frozenset()).transformations == ()
    (entry,) = PROVIDER.build(request, target, {}, frozenset({"sealed"})).transformations
    assert entry == {"id": "rs_1", "type": "reasoning", "action": "removed", "reason": "organization_mismatch"}


# --- counting


def test_tokens_are_counted_by_openai() -> None:
    request = requests.parse({"model": "alias", "input": "hi", "temperature": 1, "instructions": "x"})
    count = PROVIDER.count(request, Target("up", "gpt-5", OPENAI, holds_state=True), {})
    assert count is not None
    assert count.request.path == "/responses/input_tokens"
    assert json.loads(count.request.body) == {"model": "gpt-5", "input": "hi", "instructions": "x"}
    assert count.tokens({"object": "response.input_tokens", "input_tokens": 9}) == 9
    assert count.tokens({"input_tokens": None}) is None
    assert PROVIDER.count(request, Target("up", "gpt-5"), {}) is None


# --- errors (translation.md §5)


def error_of(status: int, body: Any, **headers: str) -> RelayError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    error = PROVIDER.error(status, headers, raw)
    oracle.check_error_body(error.envelope())
    assert error.kind in KINDS
    return error


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (
            400,
            {"error": {"message": "bad", "type": "invalid_request_error", "code": "x", "param": "p"}},
            "invalid_request",
        ),
        (400, [{"error": {"message": "maximum context length is 5"}}], "context_length_exceeded"),
        (
            400,
            {"object": "error", "message": "vLLM says no", "type": "BadRequestError", "code": 400},
            "invalid_request",
        ),
        (
            400,
            {"error": {"message": "no", "code": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}},
            "content_policy",
        ),
        (403, {"error": {"message": "flagged", "code": 403, "metadata": {"reasons": ["x"]}}}, "content_policy"),
        (422, {"detail": [{"msg": "missing"}, "and more"]}, "invalid_request"),
        (401, {"error": "bad key"}, "upstream_authentication"),
        (429, {"error": {"code": "insufficient_quota", "message": "q"}}, "upstream_billing"),
        (429, {"error": {"code": "rate_limit_exceeded", "message": "r"}}, "rate_limited"),
        (404, b"<html>", "upstream_misconfigured"),
        (404, {"error": {"code": "model_not_found", "message": "no such model"}}, "model_not_found"),
        (500, {"error": {"code": 503, "message": "busy"}}, "overloaded"),
        (502, b"<html>", "overloaded"),
        (500, b"", "upstream_error"),
        (400, [], "invalid_request"),
    ],
)
def test_errors_as_upstreams_write_them(status: int, body: Any, kind: str) -> None:
    assert error_of(status, body).kind == kind


def test_an_error_keeps_what_helps() -> None:
    error = error_of(400, {"error": {"message": "Unknown: 'x'", "code": "unknown_parameter", "param": "x"}})
    assert (error.code, error.param, error.message) == ("unknown_parameter", "x", "Unknown: 'x'")
    path = "input[2].content[0].image_url"
    assert error_of(400, {"error": {"message": "no", "param": path}}).param == path
    limited = {"error": {"code": "rate_limit_exceeded", "message": "m"}}
    assert error_of(429, limited, **{"retry-after": "3"}).retry_after_s == 3


@pytest.mark.parametrize(
    ("message", "param", "repair"),
    [
        ("Encrypted content is not supported with this model.", "include", "encrypted_content"),
        ("Unknown parameter: 'stream_options.include_obfuscation'.", "stream_options", "stream_options"),
        ("no", None, None),
    ],
)
def test_repairs_are_named(message: str, param: str | None, repair: str | None) -> None:
    assert error_of(400, {"error": {"message": message, "param": param}}).repair == repair
    assert error_of(500, {"error": {"message": message, "param": param}}).repair is None


def test_what_a_chats_assistant_thought_is_told_to_those_that_can_read_it() -> None:
    """OpenAI takes back only reasoning that it has sealed or kept."""
    body: Json = {"messages": [{"role": "assistant", "content": "so", "reasoning_content": "hm"}]}
    assert [item["type"] for item in sent(body)["input"]] == ["reasoning", "message"]
    assert [item["type"] for item in sent(body, base_url=OPENAI)["input"]] == ["message"]
