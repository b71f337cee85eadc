"""Requests to generateContent: translation.md §1 and §2, column C, by hand; errors of §5."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from relay.errors import RelayError
from relay.providers.base import Media, Target
from relay.providers.gemini import PARAMETERS, PROVIDER, path_of
from relay.providers.gemini_contents import CONTINUE, MARKER, SENTINEL
from relay.providers.turns import OPENING
from relay.responses import request as requests
from relay.responses.envelope import seal
from tests import oracle
from tests.providers.gemini_support import MODEL, Json, build, sent

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
LOOK = {
    "type": "function",
    "name": "look_up",
    "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
}
READ = {"type": "function", "name": "read_file"}
SEARCH = {"type": "web_search"}


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def said(text: str) -> Json:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def call(number: int, arguments: str = "{}", name: str = "look_up") -> Json:
    return {"type": "function_call", "call_id": f"call_{number}", "name": name, "arguments": arguments}


def output(number: int, value: Any = "found", **more: Any) -> Json:
    return {"type": "function_call_output", "call_id": f"call_{number}", "output": value, **more}


def sealed(*blocks: Json, model: str = MODEL, family: str = "gemini", identifier: str = "rs_1") -> Json:
    content = seal(family, model, [json.dumps(block) for block in blocks])
    return {"type": "reasoning", "id": identifier, "summary": [], "encrypted_content": content}


def fc(number: int, sig: str = "sig==") -> Json:
    return {"k": "fc", "for": f"call_{number}", "sig": sig}


def contents(*items: Json, **options: Any) -> list[Json]:
    return sent({"input": list(items)}, **options)["contents"]  # type: ignore[no-any-return]


def model_parts(*items: Json, **options: Any) -> list[Json]:
    """The parts of the one model content of a conversation."""
    (found,) = [
        content for content in contents(user("hi"), *items, user("go on"), **options) if content["role"] == "model"
    ]
    parts: list[Json] = found["parts"]
    return parts


def refused(body: Json, **options: Any) -> RelayError:
    with pytest.raises(RelayError) as caught:
        build(body, **options)
    return caught.value


def config(body: Json, **options: Any) -> Json:
    return sent({"input": "hi", **body}, **options).get("generationConfig", {})  # type: ignore[no-any-return]


def warned(body: Json, **options: Any) -> list[str]:
    return [param for param, _ in build({"input": "hi", **body}, **options).warnings]


# --- where it goes


@pytest.mark.parametrize(
    ("base_url", "model", "path"),
    [
        ("https://generativelanguage.googleapis.com", "gemini-x", "/v1beta/models/gemini-x:do"),
        ("https://generativelanguage.googleapis.com/", "models/gemini-x", "/v1beta/models/gemini-x:do"),
        ("https://generativelanguage.googleapis.com/v1", "gemini-x", "/models/gemini-x:do"),
        ("https://g.example/v1beta1", "tunedModels/mine", "/tunedModels/mine:do"),
        ("https://g.example/gateway/google", "a/../b?c", "/v1beta/models/a%2F..%2Fb%3Fc:do"),
        (
            "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/google",
            "gemini-x",
            "/models/gemini-x:do",
        ),
        (
            "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l",
            "gemini-x",
            "/publishers/google/models/gemini-x:do",
        ),
        ("https://aiplatform.googleapis.com", "gemini-x", "/v1/publishers/google/models/gemini-x:do"),
    ],
)
def test_paths(base_url: str, model: str, path: str) -> None:
    assert path_of(Target("up", model, base_url), "do") == path


def test_the_call_streams_and_has_no_key_in_its_url() -> None:
    call = build({"input": "hi"})
    assert call.path == f"/v1beta/models/{MODEL}:streamGenerateContent?alt=sse"
    assert call.headers == ()
    assert json.loads(call.body) == {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


# --- parameters


def test_every_parameter_has_a_row() -> None:
    assert set(PARAMETERS) == set(requests.PARAMETERS)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"temperature": 0.2}, {"temperature": 0.2}),
        ({"top_p": 0.9}, {"topP": 0.9}),
        ({"max_output_tokens": 64}, {"maxOutputTokens": 64}),
        ({"max_tokens": 64}, {"maxOutputTokens": 64}),
        ({"seed": 7}, {"seed": 7}),
        ({"seed": 2**40 + 5}, {"seed": 5}),
        ({"stop": "END"}, {"stopSequences": ["END"]}),
        ({"presence_penalty": 1, "frequency_penalty": 0.5}, {"presencePenalty": 1, "frequencyPenalty": 0.5}),
        ({"top_logprobs": 3}, {"responseLogprobs": True, "logprobs": 3}),
        ({"top_logprobs": 0}, {}),
        ({"include": ["message.output_text.logprobs"]}, {"responseLogprobs": True}),
        ({"include": ["reasoning.encrypted_content"]}, {}),
        ({"reasoning": {"summary": "auto"}}, {"thinkingConfig": {"includeThoughts": True}}),
        ({"reasoning": {"generate_summary": "concise"}}, {"thinkingConfig": {"includeThoughts": True}}),
        ({"reasoning": {"effort": "high", "mode": "standard"}}, {"thinkingConfig": {"thinkingLevel": "HIGH"}}),
        ({"text": {"format": {"type": "json_object"}}}, {"responseMimeType": "application/json"}),
        (
            {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}}},
            {"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}},
        ),
        ({"text": {"format": {"type": "text"}, "verbosity": "medium"}}, {}),
        ({"user": "u", "metadata": {"a": "b"}, "store": False, "prompt_cache_key": "k", "truncation": "auto"}, {}),
        ({"prompt_cache_options": {"mode": "implicit"}, "prompt_cache_retention": "24h", "safety_identifier": "s"}, {}),
        ({"parallel_tool_calls": True, "max_tool_calls": 3, "image": {"context_compression": "auto"}}, {}),
    ],
)
def test_parameters(given: Json, expected: Json) -> None:
    assert config(given) == expected
    assert warned(given) == []


@pytest.mark.parametrize(
    ("given", "params"),
    [
        ({"stop": list("abcdef")}, ["stop"]),
        ({"logit_bias": {"1": 1}}, ["logit_bias"]),
        ({"text": {"verbosity": "low"}}, ["text.verbosity"]),
        ({"reasoning": {"mode": "pro"}}, ["reasoning.mode"]),
        ({"parallel_tool_calls": False, "tools": [LOOK]}, ["parallel_tool_calls"]),
        ({"parallel_tool_calls": False}, []),
        ({"max_tool_calls": 3, "tools": [SEARCH]}, ["max_tool_calls"]),
        ({"image": {"context_compression": "enabled"}}, ["image.context_compression"]),
        ({"service_tier": "scale"}, ["service_tier"]),
    ],
)
def test_warnings(given: Json, params: list[str]) -> None:
    assert warned(given) == params
    if params:
        assert refused({"input": "hi", **given}, strict=True).param == params[0]


def test_only_five_stop_sequences_are_sent() -> None:
    assert config({"stop": list("abcdef")})["stopSequences"] == list("abcde")


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"moderation": {}}, "moderation"),
        ({"access_programs": {}}, "access_programs"),
        ({"conversation": "c"}, "conversation"),
        ({"service_tier": "ultrafast"}, "service_tier"),
    ],
)
def test_rejections(given: Json, param: str) -> None:
    assert refused({"input": "hi", **given}).param == param


@pytest.mark.parametrize(
    ("tier", "expected"),
    [("auto", None), ("default", "standard"), ("flex", "flex"), ("priority", "priority"), ("fast", "priority")],
)
def test_service_tiers(tier: str, expected: str | None) -> None:
    assert sent({"input": "hi", "service_tier": tier}).get("serviceTier") == expected


LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


@pytest.mark.parametrize(
    ("model", "field", "values"),
    [
        # translation.md §1.4 C; `!` is a warning
        ("gemini-2.5-pro", "thinkingBudget", "128! 128 1024 8192 24576 32768 32768"),
        ("gemini-2.5-flash", "thinkingBudget", "0 1024 1024 8192 24576 24576! 24576!"),
        ("gemini-2.5-flash-lite", "thinkingBudget", "0 512 1024 8192 24576 24576! 24576!"),
        ("gemini-3-flash-preview", "thinkingLevel", "MINIMAL! MINIMAL LOW MEDIUM HIGH HIGH! HIGH!"),
        ("gemini-3.5-flash", "thinkingLevel", "MINIMAL! MINIMAL LOW MEDIUM HIGH HIGH! HIGH!"),
        ("gemini-3.7-flash-lite", "thinkingLevel", "MINIMAL! MINIMAL LOW MEDIUM HIGH HIGH! HIGH!"),
        ("gemini-3.8-flash", "thinkingLevel", "LOW! LOW LOW MEDIUM HIGH HIGH! HIGH!"),
        ("gemini-3.1-pro-preview", "thinkingLevel", "LOW! LOW LOW MEDIUM HIGH HIGH! HIGH!"),
        ("gemini-4-argon", "thinkingLevel", "LOW! LOW LOW MEDIUM HIGH HIGH! HIGH!"),
        ("gemini-9-unheard-of", "thinkingLevel", "LOW! LOW LOW MEDIUM HIGH HIGH! HIGH!"),
        ("gemini-3-pro-preview", "thinkingLevel", "LOW! LOW LOW HIGH! HIGH HIGH! HIGH!"),
    ],
)
def test_case_22_efforts(model: str, field: str, values: str) -> None:
    assert "thinkingConfig" not in config({}, model=model)
    for level, value in zip(LEVELS, values.split(), strict=True):
        call = build({"input": "hi", "reasoning": {"effort": level}}, model=model)
        number = value.rstrip("!")
        expected = int(number) if number.isdigit() else number
        assert json.loads(call.body)["generationConfig"] == {"thinkingConfig": {field: expected}}, level
        assert [param for param, _ in call.warnings] == (["reasoning.effort"] if value.endswith("!") else []), level


def test_a_model_that_does_not_think() -> None:
    assert config({"reasoning": {"effort": "high"}}, model="gemini-2.0-flash") == {}
    assert warned({"reasoning": {"effort": "high"}}, model="gemini-2.0-flash") == ["reasoning.effort"]
    assert warned({"reasoning": {"effort": "none"}}, model="gemini-2.0-flash") == []


@pytest.mark.parametrize("model", ["gemini-3.5-flash-lite", "gemini-3.6-flash", "gemini-3.7-flash", "gemini-3.8-flash"])
def test_case_23_sampling_is_left_out_where_it_is_ignored(model: str) -> None:
    assert config({"temperature": 0.2, "top_p": 0.5}, model=model) == {}
    assert warned({"temperature": 0.2, "top_p": 0.5}, model=model) == ["temperature", "top_p"]
    assert warned({"temperature": 1, "top_p": 1}, model=model) == []


def test_penalties_by_model_and_address() -> None:
    given = {"presence_penalty": 1, "frequency_penalty": 0}
    assert config(given, model="gemini-2.5-flash") == {}
    assert warned(given, model="gemini-2.5-flash") == ["presence_penalty"]
    vertex = "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/google"
    assert config(given, model="gemini-2.5-flash", base_url=vertex) == {"presencePenalty": 1, "frequencyPenalty": 0}


def test_the_repair_of_logprobs_leaves_them_out() -> None:
    given = {"input": "hi", "top_logprobs": 3, "include": ["message.output_text.logprobs"]}
    call = build(given, repairs=["logprobs"])
    assert "generationConfig" not in json.loads(call.body)
    assert [param for param, _ in call.warnings] == ["include", "top_logprobs"]


def test_capabilities_can_be_overridden() -> None:
    assert config({"temperature": 0.2}, model="gemini-3.8-flash", capabilities={"sampling": "full"}) == {
        "temperature": 0.2
    }
    found = sent({"input": "hi", "tools": [SEARCH]}, capabilities={"url_context": True})["tools"]
    assert found == [{"googleSearch": {}}, {"urlContext": {}}]


def test_forwarded_names_and_extra_body() -> None:
    given = {"input": "hi", "temperature": 0.5, "top_k": 40, "labels": {"a": "b"}, "contents": "no"}
    found = sent(
        given,
        forward=("top_k", "labels", "contents", "missing"),
        extra_body={
            "safetySettings": [],
            "generationConfig": {"topK": 1, "responseModalities": ["TEXT"]},
            "contents": 1,
        },
    )
    assert found["generationConfig"] == {"temperature": 0.5, "topK": 40, "responseModalities": ["TEXT"]}
    assert found["labels"] == {"a": "b"}
    assert found["safetySettings"] == []
    assert found["contents"] == [{"role": "user", "parts": [{"text": "hi"}]}]


# --- tools


def test_functions() -> None:
    tools = [
        {**LOOK, "description": "Looks up."},
        READ,
        {"type": "custom", "name": "patch", "description": "Patches.", "format": {"type": "text"}},
        {"type": "namespace", "name": "files", "tools": [{"type": "function", "name": "read", "parameters": {}}]},
    ]
    call = build({"input": "hi", "tools": tools})
    (declared,) = json.loads(call.body)["tools"]
    first, second, third, fourth = declared["functionDeclarations"]
    assert first == {"name": "look_up", "description": "Looks up.", "parametersJsonSchema": LOOK["parameters"]}
    assert second == {"name": "read_file"}
    assert (third["name"], third["parametersJsonSchema"]["required"]) == ("patch", ["input"])
    assert fourth == {"name": "files__read"}
    assert set(call.tools) == {"look_up", "read_file", "patch", "files__read"}
    assert [param for param, _ in call.warnings] == ["tools"]
    assert "tools" not in sent({"input": "hi", "tools": []})


def test_case_32_names() -> None:
    long = "x" * 80
    names = ["a.b", "a b", "a_b", "1st", long]
    call = build({"input": "hi", "tools": [{"type": "function", "name": name} for name in names]})
    (declared,) = json.loads(call.body)["tools"]
    wire = [one["name"] for one in declared["functionDeclarations"]]
    assert wire == ["a.b", "a_b_2", "a_b", "_1st", "x" * 64]
    assert [call.tools[name].name for name in wire] == names


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "name": "read_file"}, {"mode": "ANY", "allowedFunctionNames": ["read_file"]}),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "look_up"}]},
            {"mode": "ANY", "allowedFunctionNames": ["look_up"]},
        ),
    ],
)
def test_tool_choice(choice: Any, expected: Any) -> None:
    found = sent({"input": "hi", "tools": [LOOK, READ], "tool_choice": choice})
    assert found.get("toolConfig", {}).get("functionCallingConfig") == expected
    assert len(found["tools"][0]["functionDeclarations"]) == 2


def test_case_21_allowed_tools_in_auto_mode_filter_the_declarations() -> None:
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "read_file"}]}
    found = sent({"input": "hi", "tools": [LOOK, READ], "tool_choice": choice})
    assert found["tools"] == [{"functionDeclarations": [{"name": "read_file"}]}]
    assert found["toolConfig"] == {"functionCallingConfig": {"mode": "AUTO"}}
    choice["tools"] = [{"type": "function", "name": "nobody"}]
    assert refused({"input": "hi", "tools": [LOOK], "tool_choice": choice}).param == "tool_choice.tools"


def test_strict_functions_are_validated_where_the_model_can() -> None:
    body = {"input": "hi", "tools": [{**LOOK, "strict": True}]}
    assert sent(body)["toolConfig"] == {"functionCallingConfig": {"mode": "VALIDATED"}}
    assert "toolConfig" not in sent(body, model="gemini-2.0-flash")


def test_hosted_tools_beside_functions() -> None:
    body = {"input": "hi", "tools": [LOOK, SEARCH, {"type": "code_interpreter", "container": {"type": "auto"}}]}
    found = sent(body)
    assert [next(iter(tool)) for tool in found["tools"]] == ["googleSearch", "codeExecution", "functionDeclarations"]
    assert found["toolConfig"] == {
        "functionCallingConfig": {"mode": "VALIDATED"},
        "includeServerSideToolInvocations": True,
    }
    vertex = sent(body, quirks="vertex")
    assert vertex["toolConfig"] == {"functionCallingConfig": {"mode": "VALIDATED"}}
    old = build(body, model="gemini-2.5-pro")
    assert [next(iter(tool)) for tool in json.loads(old.body)["tools"]] == ["functionDeclarations"]
    assert [param for param, _ in old.warnings] == ["tools[1]", "tools[2]"]
    alone = sent({"input": "hi", "tools": [SEARCH, {"type": "web_search_preview"}]}, model="gemini-2.5-pro")
    assert alone["tools"] == [{"googleSearch": {}}]
    assert "toolConfig" not in alone


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({**SEARCH, "filters": {"allowed_domains": ["a.b"]}}, "tools[0].filters.allowed_domains"),
        ({"type": "code_interpreter", "container": "cntr_1"}, "tools[0].container"),
        ({"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["f"]}}, "tools[0].container"),
        ({"type": "file_search", "vector_store_ids": []}, "tools[0].type"),
        ({"type": "mcp", "server_label": "x"}, "tools[0].type"),
        ({"type": "computer"}, "tools[0].type"),
    ],
)
def test_hosted_tools_that_are_refused(tool: Json, param: str) -> None:
    assert refused({"input": "hi", "tools": [tool]}).param == param


def test_a_cached_search_is_left_out() -> None:
    """Codex always offers one (decision 12)."""
    cached = {**SEARCH, "external_web_access": False}
    call = build({"input": "hi", "tools": [cached]})
    assert "tools" not in json.loads(call.body)
    assert [param for param, _ in call.warnings] == ["tools[0]"]
    forced = refused({"input": "hi", "tools": [cached], "tool_choice": {"type": "web_search"}})
    assert forced.param == "tool_choice"


def test_hosted_tools_that_are_warned_about() -> None:
    tools = [{**SEARCH, "user_location": {"type": "approximate"}, "search_context_size": "low"}]
    assert warned({"tools": tools}) == ["tools[0].user_location"]
    assert warned({"tools": [{"type": "image_generation"}]}) == ["tools[0]"]
    assert warned({"tools": [SEARCH, LOOK], "tool_choice": {"type": "web_search"}}) == ["tool_choice"]
    assert refused(
        {"input": "hi", "tools": [{"type": "image_generation"}], "tool_choice": {"type": "image_generation"}}
    )


def test_images_of_models_that_make_them() -> None:
    found = config({"tools": [{"type": "image_generation"}]}, model="gemini-3-pro-image-preview")
    assert found == {"responseModalities": ["TEXT", "IMAGE"]}


# --- structured output


def test_schema_reduction() -> None:
    schema = {
        "type": "object",
        "definitions": {"one": {"type": "string", "pattern": "^a", "description": "A word"}},
        "properties": {
            "kind": {"const": "x"},
            "either": {"oneOf": [{"type": "string"}, {"type": ["integer", "null"], "minimum": 1, "multipleOf": 2}]},
            "one": {"$ref": "#/definitions/one", "description": "dropped"},
            "both": {"allOf": [{"$ref": "#/definitions/one"}, {"type": "string", "format": "date"}], "title": "Both"},
            "free": True,
            "more": {
                "allOf": [
                    {"properties": {"a": {}}, "required": ["a"]},
                    {"properties": {"b": {}}, "required": ["b"], "allOf": [{"properties": {"c": {}}}]},
                ],
                "properties": {"a": {"type": "string"}},
                "required": ["z"],
            },
        },
        "required": ["kind"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "name": "x", "schema": schema, "strict": True}
    call = build({"input": "hi", "text": {"format": form}})
    assert json.loads(call.body)["generationConfig"]["responseJsonSchema"] == {
        "type": "object",
        "$defs": {"one": {"type": "string", "description": 'A word (pattern: "^a")'}},
        "properties": {
            "kind": {"enum": ["x"]},
            "either": {
                "anyOf": [
                    {"type": "string"},
                    {"type": ["integer", "null"], "minimum": 1, "description": "multipleOf: 2"},
                ]
            },
            "one": {"$ref": "#/$defs/one"},
            "both": {"title": "Both", "type": "string", "description": 'A word (pattern: "^a")', "format": "date"},
            "free": {},
            "more": {
                "properties": {"c": {}, "b": {}, "a": {"type": "string"}},
                "required": ["a", "b"],
            },
        },
        "required": ["kind"],
        "additionalProperties": False,
    }
    assert [param for param, _ in call.warnings] == ["text.format"]
    assert call.context.schema == schema


def test_an_allof_that_refers_to_itself_ends() -> None:
    schema = {"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}, "allOf": [{"$ref": "#/$defs/a"}], "type": "object"}
    form = {"type": "json_schema", "name": "x", "schema": schema}
    assert config({"text": {"format": form}})["responseJsonSchema"] == {"type": "object"}


def test_a_schema_nested_too_deeply_is_left_out() -> None:
    schema: Json = {"type": "object"}
    for _ in range(80):
        schema = {"type": "array", "items": schema}
    call = build({"input": "hi", "tools": [{"type": "function", "name": "f", "parameters": schema}]})
    assert "tools" not in json.loads(call.body)
    assert [param for param, _ in call.warnings] == ["tools"]


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"type": "json_object"}, "one JSON object"),
        ({"type": "json_schema", "name": "x", "schema": {"title": "Weather"}}, '{"title":"Weather"}'),
    ],
)
def test_a_format_beside_tools_is_asked_for_in_words_of_older_models(form: Json, words: str) -> None:
    body = {"input": "hi", "tools": [LOOK], "text": {"format": form}}
    call = build(body, model="gemini-2.5-pro")
    found = json.loads(call.body)
    assert "generationConfig" not in found
    assert words in found["systemInstruction"]["parts"][0]["text"]
    assert [param for param, _ in call.warnings] == ["text.format"]
    assert sent(body)["generationConfig"]["responseMimeType"] == "application/json"


# --- items


def test_who_speaks() -> None:
    found = sent(
        {
            "instructions": "Be brief.",
            "input": [
                {"role": "developer", "content": "Be kind."},
                {"role": "system", "content": ""},
                user("one"),
                user("two"),
                said("three"),
                {"role": "developer", "content": "Be quick."},
                user(""),
                {"role": "system", "content": ""},
                {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
                user("five"),
            ],
        }
    )
    assert found["systemInstruction"] == {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]}
    assert found["contents"] == [
        {"role": "user", "parts": [{"text": "one"}, {"text": "two"}]},
        {"role": "model", "parts": [{"text": "three"}]},
        {"role": "user", "parts": [{"text": MARKER + "Be quick."}]},
        {"role": "model", "parts": [{"text": "No."}]},
        {"role": "user", "parts": [{"text": "five"}]},
    ]


def test_an_assistant_that_showed_something() -> None:
    content = [
        {"type": "output_text", "text": "See:"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
    ]
    assert model_parts({"type": "message", "role": "assistant", "content": content}) == [
        {"text": "See:"},
        {"inlineData": {"mimeType": "image/png", "data": PNG}},
    ]


def test_case_38_the_assistant_is_neither_first_nor_last() -> None:
    call = build({"input": [said("Welcome."), user("hi"), said("And")]})
    assert json.loads(call.body)["contents"] == [
        {"role": "user", "parts": [{"text": OPENING}]},
        {"role": "model", "parts": [{"text": "Welcome."}]},
        {"role": "user", "parts": [{"text": "hi"}]},
        {"role": "model", "parts": [{"text": "And"}]},
        {"role": "user", "parts": [{"text": CONTINUE}]},
    ]
    assert [param for param, _ in call.warnings] == ["input"]


def test_pain_9_parallel_calls_are_one_content_and_their_outputs_too() -> None:
    found = contents(user("hi"), said("Let me see."), call(1, '{"q": 1}'), call(2), output(1, "a"), output(2, "b"))
    assert found[1:] == [
        {
            "role": "model",
            "parts": [
                {"text": "Let me see."},
                {
                    "functionCall": {"name": "look_up", "args": {"q": 1}, "id": "call_1"},
                    "thoughtSignature": SENTINEL,
                },
                {"functionCall": {"name": "look_up", "args": {}, "id": "call_2"}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "look_up", "response": {"output": "a"}, "id": "call_1"}},
                {"functionResponse": {"name": "look_up", "response": {"output": "b"}, "id": "call_2"}},
            ],
        },
    ]


def test_case_18_outputs_go_in_call_order_before_what_the_user_said() -> None:
    items = [user("hi"), call(1), call(2), said("Wait."), output(2, "b"), user("hurry"), output(1, "a")]
    model, answers = contents(*items)[1:]
    assert [next(iter(part)) for part in model["parts"]] == ["functionCall", "functionCall", "text"]
    assert [part.get("functionResponse", part).get("id", part.get("text")) for part in answers["parts"]] == [
        "call_1",
        "call_2",
        "hurry",
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {}),
        (" ", {}),
        ("[1]", {"_raw": "[1]"}),
        ("{oops", {"_raw": "{oops"}),
        ('{"a": "\\ud800"}', {"a": "\ufffd"}),
        ('{"big": 123456789012345678901234567890, "f": 1.0}', {"big": 123456789012345678901234567890, "f": 1.0}),
    ],
)
def test_arguments(arguments: str, expected: Json) -> None:
    (part,) = model_parts(call(1, arguments), output(1))
    assert part["functionCall"]["args"] == expected


def test_arguments_are_replayed_in_their_own_bytes() -> None:
    arguments = '{"b": 1.50, "a":[ 1e3 ], "b2": 9007199254740993000000}'
    assert arguments.encode() in build({"input": [user("hi"), call(1, arguments), output(1)]}).body


def test_vertex_has_no_call_ids() -> None:
    _, model, answers = contents(user("hi"), call(1), output(1), quirks="vertex")
    assert "id" not in model["parts"][0]["functionCall"]
    assert "id" not in answers["parts"][0]["functionResponse"]


def test_an_incomplete_output_is_an_error() -> None:
    _, _, answers = contents(user("hi"), call(1), output(1, "cut", status="incomplete"))
    assert answers["parts"][0]["functionResponse"]["response"] == {"error": "cut"}


def test_emulated_and_custom_calls_in_history() -> None:
    found = model_parts(
        {"type": "custom_tool_call", "call_id": "call_1", "name": "patch", "input": "*** Begin"},
        {"type": "custom_tool_call_output", "call_id": "call_1", "output": "ok"},
    )
    assert found[0]["functionCall"]["args"] == {"input": "*** Begin"}
    found = model_parts(
        {"type": "code_interpreter_call", "id": "ci_1", "code": "1+1", "outputs": [{"type": "logs", "logs": "2"}]}
    )
    assert found[0]["functionCall"] == {"name": "code_interpreter", "args": {"code": "1+1"}, "id": "ci_1"}


# --- media


def image(url: str, **more: Any) -> Json:
    return {"type": "input_image", "image_url": url, **more}


def parts_of(*parts: Json, **options: Any) -> list[Json]:
    found: list[Json] = contents({"role": "user", "content": list(parts)}, **options)[0]["parts"]
    return found


def test_case_24_media_are_inline() -> None:
    pdf = {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}
    audio = {"type": "input_audio", "input_audio": {"data": "SUQzBA==", "format": "mp3"}}
    media = {"https://x.example/cat": Media("image/png", base64.b64decode(PNG))}
    found = parts_of({"type": "input_text", "text": "see"}, pdf, image("https://x.example/cat"), audio, media=media)
    assert found == [
        {"text": "see"},
        {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}},
        {"inlineData": {"mimeType": "image/png", "data": PNG}},
        {"inlineData": {"mimeType": "audio/mp3", "data": "SUQzBA=="}},
    ]


def test_what_the_app_must_fetch() -> None:
    request = requests.parse(
        {
            "model": "m",
            "input": [
                {
                    "role": "user",
                    "content": [
                        image("https://x.example/cat"),
                        image(f"data:image/png;base64,{PNG}"),
                        {"type": "input_file", "file_url": "http://x.example/a.pdf"},
                    ],
                }
            ],
        }
    )
    assert PROVIDER.media_needed(request, Target("up", MODEL)) == ["https://x.example/cat", "http://x.example/a.pdf"]


def test_image_detail() -> None:
    url = f"data:image/jpeg;base64,{PNG}"
    found = [parts_of(image(url, detail=detail))[0].get("mediaResolution") for detail in ("low", "high", "original")]
    assert found == [{"level": f"MEDIA_RESOLUTION_{level}"} for level in ("LOW", "HIGH", "HIGH")]
    assert "mediaResolution" not in parts_of(image(url, detail="auto"))[0]
    assert "mediaResolution" not in parts_of(image(url, detail="low"), model="gemini-2.5-pro")[0]


@pytest.mark.parametrize(
    ("part", "code"),
    [
        (image("https://x.example/gone"), "failed_to_download_image"),
        (image("gs://bucket/cat.png"), "invalid_image_url"),
        (image("data:image/gif;base64,R0lGODlh"), "unsupported_image_media_type"),
        (image("data:image/png;base64,###"), "invalid_base64_image"),
        ({"type": "input_image", "file_id": "file_1"}, "unsupported_parameter"),
        (
            {"type": "input_file", "filename": "a.docx", "file_data": "data:application/msword;base64,QQ=="},
            "unsupported_value",
        ),
        ({"type": "input_file", "filename": "a.pdf", "file_data": "###"}, "invalid_value"),
        ({"type": "input_file", "file_url": "https://x.example/gone.pdf"}, "failed_to_download_image"),
    ],
)
def test_media_that_are_refused(part: Json, code: str) -> None:
    assert refused({"input": [{"role": "user", "content": [part]}]}).code == code


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"filename": "a.md", "file_data": "QUJD"}, "text/plain"),
        ({"filename": "a", "file_data": "QUJD"}, "application/pdf"),
        ({"filename": "a.json", "file_data": "data:application/json;base64,QUJD"}, "text/plain"),
        ({"filename": "a.csv", "file_data": "data:text/csv;base64,QUJD"}, "text/csv"),
        ({"filename": "a.png", "file_data": "data:image/png;base64,QUJD"}, "image/png"),
        ({"file_url": "data:audio/wav;base64,QUJD"}, "audio/wav"),
    ],
)
def test_files(part: Json, kind: str) -> None:
    assert parts_of({"type": "input_file", **part}) == [{"inlineData": {"mimeType": kind, "data": "QUJD"}}]


def test_case_25_a_function_output_with_an_image() -> None:
    value = [{"type": "input_text", "text": "a cat"}, image(f"data:image/png;base64,{PNG}", detail="low")]
    blob = {"inlineData": {"mimeType": "image/png", "data": PNG}}
    items = [user("hi"), call(1), call(2), output(1, value), output(2, "b")]
    first, second = contents(*items)[2]["parts"]
    assert first["functionResponse"]["parts"] == [blob]
    assert first["functionResponse"]["response"] == {"output": "a cat"}
    assert "parts" not in second["functionResponse"]
    first, second, third = contents(*items, model="gemini-2.5-flash")[2]["parts"]
    assert "parts" not in first["functionResponse"]
    assert next(iter(second)) == "functionResponse"
    assert third == blob


# --- reasoning


def test_case_27_a_signature_goes_back_to_its_call_only() -> None:
    first, second = model_parts(sealed(fc(1, "s1==")), call(1), call(2), output(1), output(2))
    assert first["thoughtSignature"] == "s1=="
    assert "thoughtSignature" not in second


def test_case_27_without_a_signature_the_first_call_of_each_content_has_the_sentinel() -> None:
    conversation = build({"input": [user("hi"), call(1), call(2), output(1), output(2), call(3), output(3)]})
    models = [one["parts"] for one in json.loads(conversation.body)["contents"] if one["role"] == "model"]
    assert [[part.get("thoughtSignature") for part in parts] for parts in models] == [[SENTINEL, None], [SENTINEL]]
    assert [param for param, _ in conversation.warnings] == ["input"]
    assert "thoughtSignature" not in model_parts(call(1), output(1), model="gemini-2.5-pro")[0]


def test_sequential_calls_keep_a_signature_each() -> None:
    items = [sealed(fc(1, "a")), call(1), output(1), sealed(fc(2, "b"), identifier="rs_2"), call(2), output(2)]
    found = [one["parts"][0] for one in contents(user("hi"), *items) if one["role"] == "model"]
    assert [part["thoughtSignature"] for part in found] == ["a", "b"]


def test_signed_texts_are_cut_where_they_were() -> None:
    marks = [
        {"k": "text", "sig": "a", "from": 0, "to": 3},
        {"k": "text", "sig": "b", "from": 7, "to": 9},
        {"k": "text", "sig": "c", "from": 9, "to": 9},
    ]
    assert model_parts(said("one two three"), sealed(*marks)) == [
        {"text": "one", "thoughtSignature": "a"},
        {"text": " two"},
        {"text": " t", "thoughtSignature": "b"},
        {"text": "", "thoughtSignature": "c"},
        {"text": "hree"},
    ]
    assert model_parts(said("on"), sealed(*marks)) == [
        {"text": "on", "thoughtSignature": "a"},
        {"text": "", "thoughtSignature": "b"},
        {"text": "", "thoughtSignature": "c"},
    ]


def test_thoughts_native_parts_and_late_signatures() -> None:
    code: Json = {"executableCode": {"language": "PYTHON", "code": "1"}, "thoughtSignature": "x"}
    result: Json = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}
    found = model_parts(
        sealed({"k": "thought", "text": "Hm", "sig": "t"}),
        {"type": "code_interpreter_call", "id": "ci_1", "code": "1", "outputs": None, "status": "completed"},
        sealed({"k": "part", "part": code, "item": "ci_1"}, {"k": "part", "part": result}, identifier="rs_2"),
        sealed({"k": "text", "sig": "e", "from": 0, "to": 0}, identifier="rs_3"),
        said("one"),
    )
    assert found == [
        {"text": "Hm", "thought": True, "thoughtSignature": "t"},
        code,
        result,
        {"text": "", "thoughtSignature": "e"},
        {"text": "one"},
    ]


def test_images_that_the_model_made() -> None:
    made = {"type": "image_generation_call", "id": "ig_1", "result": PNG, "status": "completed"}
    signed = sealed({"k": "image", "item": "ig_1", "sig": "i"})
    model = "gemini-3-pro-image"
    (part,) = model_parts(made, sealed({"k": "image", "item": "ig_1", "sig": "i"}, model=model), model=model)
    assert part == {"inlineData": {"mimeType": "image/png", "data": PNG}, "thoughtSignature": "i"}
    (part,) = model_parts({**made, "result": "/9j/AA"}, model=model)
    assert part == {"inlineData": {"mimeType": "image/jpeg", "data": "/9j/AA"}}
    (part,) = model_parts({**made, "result": "????"}, model=model)
    assert part["inlineData"]["mimeType"] == "image/png"
    assert model_parts(made, signed) == [{"text": "[generated image]"}]
    assert model_parts({**made, "result": None}, model=model) == [{"text": "[image generation failed]"}]


def test_case_40_foreign_reasoning_is_left_out_and_reported() -> None:
    items = [
        {"type": "reasoning", "id": "rs_a", "summary": [], "encrypted_content": "gAAAAA=="},
        sealed({"k": "thinking"}, family="anthropic", identifier="rs_b"),
        sealed(fc(1), model="gemini-2.5-pro", identifier="rs_c"),
        {"type": "reasoning", "id": "rs_d", "summary": [{"type": "summary_text", "text": "x"}]},
        sealed({"k": "fc", "for": 1, "sig": "x"}, {"k": "?"}, identifier="rs_e"),
        call(1),
        output(1),
    ]
    conversation = build({"input": [user("hi"), *items]})
    assert [(one["id"], one["reason"]) for one in conversation.transformations] == [
        (identifier, "model_mismatch") for identifier in ("rs_a", "rs_b", "rs_c")
    ]
    assert json.loads(conversation.body)["contents"][1]["parts"][0]["thoughtSignature"] == SENTINEL


def test_signatures_of_another_gemini_3_are_kept() -> None:
    items = [sealed(fc(1, "s"), model="gemini-4-argon"), call(1), output(1)]
    assert model_parts(*items)[0]["thoughtSignature"] == "s"
    assert "thoughtSignature" not in model_parts(*items, model="gemini-2.5-pro")[0]
    items = [sealed(fc(1, "s"), model="gemini-2.5-pro"), call(1), output(1)]
    assert model_parts(*items, model="gemini-2.5-pro")[0]["thoughtSignature"] == "s"


def test_repairs_of_signatures() -> None:
    items = [sealed(fc(1, "s")), call(1), call(2), output(1), output(2)]
    first, second = model_parts(*items, repairs=["invalid_signature"])
    assert (first["thoughtSignature"], second.get("thoughtSignature")) == (SENTINEL, None)
    first, second = model_parts(*items, repairs=["missing_signature"])
    assert (first["thoughtSignature"], second["thoughtSignature"]) == ("s", SENTINEL)
    (first, _) = model_parts(
        call(1), call(2), output(1), output(2), model="gemini-2.5-pro", repairs=["missing_signature"]
    )
    assert first["thoughtSignature"] == SENTINEL


def test_only_the_current_turn_keeps_its_thoughts_where_that_is_asked() -> None:
    items = [
        said("one"),
        sealed({"k": "text", "sig": "a", "from": 3, "to": 3}),
        user("next"),
        sealed(fc(1, "s"), {"k": "thought", "text": "t", "sig": "t"}, identifier="rs_2"),
        call(1),
        output(1),
    ]
    found = sent({"input": [user("hi"), *items], "reasoning": {"context": "current_turn"}})["contents"]
    assert found[1]["parts"] == [{"text": "one"}]
    assert [part.get("thoughtSignature") for part in found[3]["parts"]] == ["t", "s"]


def test_reasoning_alone_says_nothing() -> None:
    assert contents(user("hi"), sealed({"k": "thought", "text": "t", "sig": "t"})) == [
        {"role": "user", "parts": [{"text": "hi"}]}
    ]


def test_case_26_a_lone_surrogate_is_mended() -> None:
    assert contents(user("a\ud83d"))[0]["parts"] == [{"text": "a\ufffd"}]


# --- counting


def test_counting_tokens() -> None:
    request = requests.parse({"model": "m", "input": "hi", "instructions": "brief", "tools": [LOOK], "temperature": 1})
    counter = PROVIDER.count(request, Target("up", MODEL, "https://g.example"), {})
    assert counter is not None
    assert counter.request.path == f"/v1beta/models/{MODEL}:countTokens"
    assert not counter.request.stream
    asked = json.loads(counter.request.body)["generateContentRequest"]
    assert set(asked) == {"model", "contents", "systemInstruction", "tools"}
    assert asked["model"] == f"models/{MODEL}"
    assert counter.tokens({"totalTokens": 7}) == 7
    assert counter.tokens({}) is None
    vertex = PROVIDER.count(request, Target("up", "tunedModels/x", "https://g.example", "vertex"), {})
    assert vertex is not None
    assert set(json.loads(vertex.request.body)) == {"contents", "systemInstruction", "tools"}
    tuned = PROVIDER.count(request, Target("up", "tunedModels/x", "https://g.example"), {})
    assert tuned is not None
    assert json.loads(tuned.request.body)["generateContentRequest"]["model"] == "tunedModels/x"


# --- errors


def google(code: int, status: str, message: str, **more: Any) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "status": status, **more}}).encode()


RETRY = [
    {"@type": "type.googleapis.com/google.rpc.Help"},
    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12.5s"},
]


@pytest.mark.parametrize(
    ("status", "body", "kind", "repair"),
    [
        (400, google(400, "INVALID_ARGUMENT", "Invalid value at 'contents'"), "invalid_request", None),
        (400, b"[" + google(400, "INVALID_ARGUMENT", "Invalid value") + b"]", "invalid_request", None),
        (
            400,
            google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
            "upstream_authentication",
            None,
        ),
        (
            400,
            google(
                400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of tokens allowed (8)."
            ),
            "context_length_exceeded",
            None,
        ),
        (
            400,
            google(400, "FAILED_PRECONDITION", "User location is not supported for the API use."),
            "upstream_forbidden",
            None,
        ),
        (400, google(400, "INVALID_ARGUMENT", "Logprobs is not enabled for models/x"), "invalid_request", "logprobs"),
        (
            400,
            google(400, "INVALID_ARGUMENT", "Function call is missing a thought_signature in functionCall parts."),
            "translation_error",
            "missing_signature",
        ),
        (
            400,
            google(400, "INVALID_ARGUMENT", "Corrupted thought signature."),
            "translation_error",
            "invalid_signature",
        ),
        (
            400,
            google(400, "INVALID_ARGUMENT", "Thought signature is not valid"),
            "translation_error",
            "invalid_signature",
        ),
        (
            400,
            google(400, "INVALID_ARGUMENT", "the number of function response parts is equal to the number"),
            "translation_error",
            None,
        ),
        (401, google(401, "UNAUTHENTICATED", "no"), "upstream_authentication", None),
        (403, google(403, "PERMISSION_DENIED", "no"), "upstream_forbidden", None),
        (404, google(404, "NOT_FOUND", "models/x is not found"), "model_not_found", None),
        (404, b"<html>", "upstream_misconfigured", None),
        (429, google(429, "RESOURCE_EXHAUSTED", "quota"), "rate_limited", None),
        (500, google(500, "INTERNAL", "boom"), "upstream_error", None),
        (503, google(503, "UNAVAILABLE", "overloaded"), "overloaded", None),
        (504, google(504, "DEADLINE_EXCEEDED", "late"), "upstream_timeout", None),
        (502, b"<html>", "overloaded", None),
        (200, google(503, "UNAVAILABLE", "overloaded"), "overloaded", None),
        (500, b'{"error":"boom"}', "upstream_error", None),
        (500, b"[]", "upstream_error", None),
    ],
)
def test_case_30_errors(status: int, body: bytes, kind: str, repair: str | None) -> None:
    error = PROVIDER.error(status, {}, body)
    assert (error.kind, error.repair) == (kind, repair)
    oracle.check_error_body(error.envelope())


def test_case_30_retry_info() -> None:
    error = PROVIDER.error(429, {"retry-after": "3"}, google(429, "RESOURCE_EXHAUSTED", "quota", details=RETRY))
    assert error.retry_after_s == 12.5
    assert ("retry-after", "13") in error.response_headers()
    assert PROVIDER.error(429, {"retry-after": "3"}, google(429, "RESOURCE_EXHAUSTED", "quota")).retry_after_s == 3
    odd = [{"@type": "google.rpc.RetryInfo", "retryDelay": "soon"}, "x"]
    assert PROVIDER.error(429, {}, google(429, "RESOURCE_EXHAUSTED", "quota", details=odd)).retry_after_s is None
