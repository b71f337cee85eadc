"""Requests and answers that are wrong in a few places: seeds of every item, part, tool, parameter and vendor block, and
what breaks them.

Source: issue 10, kind 8. A seed is a body (or part of one) as its clients send it; ``broken`` changes a few values at
random places of a copy: another type, an extreme, a deletion, a repetition, a move. ``sealed`` stands for an envelope
of decision 22 whose blocks are broken too, and which is whole all the same.
"""

from __future__ import annotations

import base64
import copy
import json
import random
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

Json = dict[str, Any]

_DEEP: Final = re.compile(r'"\$deep(\d+)"')
"""Stands for so many lists in one another, which nothing here could walk over."""

EXTREMES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 7, 1.5, -0.0, 1e308, float("nan"), float("inf"), 2**53, 2**63, 2**64, -(10**40)),
    *("", " ", "x", "0", "\ud800", "\udfff\ud800", "a\u0000b", "ſ", "data:", "data:image/png;base64,!", "relay1."),
    *("http://[", "relay1.e30", "auto", "message", "null", "{", "[1]", '{"a": [}', "x" * 3_000, "\n\r\n", "../..", "*"),
    *([], {}, [[]], [{}], [None], [""], [0], ["x", "x"], {"": None}, {"type": []}, {"type": {}}, {"text": 5}),
    *(
        {"type": "text"},
        {"a": {"b": {"c": []}}},
        {"\ud800": "\udc00"},
        [[[[[[]]]]]],
        "$deep200",
        "$deep245",
        "$deep253",
        "$deep260",
        "$deep3000",
    ),
)
"""Values that stand where others are expected."""


def sealed(family: str, *blocks: Any, model: str = "m") -> Json:
    """An envelope that ``encoded`` closes."""
    return {_SEALED: {"v": 1, "f": family, "m": model, "b": list(blocks)}}


_SEALED: Final = "$sealed"


def _closed(inside: Any) -> Any:
    """The text of an envelope: its blocks as JSON, its check right."""
    if not isinstance(inside, dict) or not isinstance(inside.get("b"), list):
        return inside
    blocks = [one if isinstance(one, str) else _text(one) for one in inside["b"]]
    said = [str(inside.get("f")), str(inside.get("m")), *blocks]
    check = zlib.crc32("\x00".join(said).encode("utf-8", "surrogatepass"))
    content = json.dumps({**inside, "b": blocks, "c": check}).encode()
    return "relay1." + base64.urlsafe_b64encode(content).decode().rstrip("=")


def _filled(value: Any) -> Any:
    if isinstance(value, list):
        return [_filled(one) for one in value]
    if isinstance(value, dict):
        if _SEALED in value:
            return _closed(value[_SEALED])
        return {key: _filled(one) for key, one in value.items()}
    return value


def encoded(value: Any) -> bytes:
    """JSON as a client may send it: lone surrogates escaped, NaN and huge numbers as they are."""
    return _text(_filled(value)).encode()


def _text(value: Any) -> str:
    return _DEEP.sub(lambda found: "[" * int(found[1]) + "]" * int(found[1]), json.dumps(value))


# --- breaking


def broken(value: Any, chance: random.Random) -> Any:
    """A copy with one to three changes."""
    holder = [copy.deepcopy(value)]
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        places = list(_places(holder))
        if places:
            chance.choice(_CHANGES)(*chance.choice(places), chance, places)
    return holder[0] if holder else None


Place = tuple[Any, Any]
"""A list or an object, and an index or a name in it."""


def _places(node: Any) -> Iterator[Place]:
    stack = [node]
    while stack and len(stack) < 5_000:
        node = stack.pop()
        if isinstance(node, dict | list):
            for step in node if isinstance(node, dict) else range(len(node)):
                yield node, step
                stack.append(node[step])


def _extreme(node: Any, step: Any, chance: random.Random, places: list[Place]) -> None:
    node[step] = copy.deepcopy(chance.choice(EXTREMES))


def _other_type(node: Any, step: Any, chance: random.Random, places: list[Place]) -> None:
    value = node[step]
    node[step] = chance.choice([[value], {"type": value}, {"x": value}, json.dumps(value), str(value), bool(value)])


def _deleted(node: Any, step: Any, chance: random.Random, places: list[Place]) -> None:
    del node[step]


def _repeated(node: Any, step: Any, chance: random.Random, places: list[Place]) -> None:
    if isinstance(node, list):
        node[step:step] = [copy.deepcopy(node[step]) for _ in range(chance.choice((1, 2, 9)))]
    else:
        node[f"{step}{step}"] = copy.deepcopy(node[step])


def _moved(node: Any, step: Any, chance: random.Random, places: list[Place]) -> None:
    other, at = chance.choice(places)
    node[step] = copy.deepcopy(other[at])


def _opened(node: Any, step: Any, chance: random.Random, places: list[Place]) -> None:
    value = node[step]
    if isinstance(value, dict | list) and value:
        node[step] = chance.choice(list(value.values()) if isinstance(value, dict) else value)


def _twisted(node: Any, step: Any, chance: random.Random, places: list[Place]) -> None:
    """The members of an object change their values."""
    if isinstance(node, dict) and len(node) > 1:
        names = list(node)
        other = chance.choice(names)
        node[step], node[other] = node[other], node[step]
    else:
        _extreme(node, step, chance, places)


_CHANGES: Final[tuple[Callable[[Any, Any, random.Random, list[Place]], None], ...]] = (
    *(_extreme, _extreme, _extreme, _extreme, _other_type, _other_type),
    *(_deleted, _deleted, _repeated, _moved, _opened, _twisted),
)


def with_repeated_members(body: bytes, chance: random.Random) -> bytes:
    """JSON in which one name stands twice in an object, which most parsers take."""
    text = body.decode()
    at = text.find('{"', chance.randrange(len(text)))
    if at < 0:
        return body
    name = text[at + 1 :].partition(":")[0]
    return f"{text[: at + 1]}{name}:{json.dumps(chance.choice(EXTREMES[:40]))},{text[at + 1 :]}".encode()


# --- seeds

_USER: Final[Json] = {"role": "user", "content": "go"}
_PNG: Final = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg=="

PARTS: Final[tuple[Json, ...]] = (
    {"type": "input_text", "text": "hi", "prompt_cache_breakpoint": {"mode": "explicit"}},
    {"type": "input_image", "image_url": _PNG, "detail": "low"},
    {"type": "input_image", "image_url": {"url": "https://example.com/a.png", "detail": "high"}},
    {"type": "input_image", "file_id": "file_1"},
    {"type": "input_file", "file_data": "data:application/pdf;base64,JVBERi0xLjQK", "filename": "a.pdf"},
    {"type": "input_file", "file_url": "https://example.com/a.pdf", "filename": "a.pdf"},
    {"type": "input_file", "file_data": "SGVsbG8=", "filename": "a.txt"},
    {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
    {"type": "input_audio", "audio_url": {"url": "data:audio/wav;base64,UklGRg=="}},
    {"type": "refusal", "refusal": "no"},
    {
        "type": "output_text",
        "text": "hi",
        "logprobs": [{"token": "h", "logprob": -0.1, "bytes": [104], "top_logprobs": []}],
        "annotations": [
            {"type": "url_citation", "url": "https://a", "title": "A", "start_index": 0, "end_index": 2},
            {"type": "file_citation", "file_id": "f", "filename": "a", "index": 0},
        ],
    },
    {"type": "encrypted_content", "encrypted_content": "gAAAA"},
    {"type": "encrypted_content", "encrypted_content": "words that nobody sealed"},
)

_THOUGHT: Final[Json] = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}

ENVELOPES: Final[tuple[Json, ...]] = (
    sealed("anthropic", _THOUGHT),
    sealed("anthropic", {"type": "redacted_thinking", "data": "b3BhcXVl"}, _THOUGHT),
    sealed(
        "anthropic",
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_1",
            "content": [{"type": "web_search_result", "url": "https://a", "title": "A", "encrypted_content": "x"}],
        },
    ),
    sealed(
        "anthropic",
        {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "n", "server_name": "s", "input": {}},
        {"type": "mcp_tool_result", "tool_use_id": "mcptoolu_1", "is_error": False, "content": []},
        {"type": "compaction", "content": "what was", "signature": "s"},
        {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}},
        {"type": "container_upload", "file_id": "f"},
    ),
    sealed("gemini", {"k": "text", "sig": "c2ln", "from": 0, "to": 2}),
    sealed("gemini", {"k": "thought", "text": "hm", "sig": "c2ln"}, {"k": "fc", "sig": "c2ln", "for": "call_1"}),
    sealed("gemini", {"k": "part", "part": {"text": "", "thoughtSignature": "c2ln"}, "item": "ci_1"}),
    sealed("gemini", {"k": "part", "part": {"executableCode": {"language": "PYTHON", "code": "1"}}, "item": "ci_1"}),
    sealed("gemini", {"k": "part", "part": {"toolCall": {"id": "t", "toolType": "URL_CONTEXT", "args": {}}}}),
    sealed("gemini", {"k": "image", "item": "ig_1", "sig": "c2ln"}),
    sealed("chat", {"k": "rc", "field": "reasoning_content", "text": "hm"}),
    sealed("chat", {"k": "rd", "v": {"type": "reasoning.text", "text": "hm", "signature": "s", "index": 0}}),
    sealed("chat", {"k": "fc", "sig": "c2ln"}),
    sealed("compaction", "what was"),
    sealed("other", {"k": "x"}),
)

CALL: Final[Json] = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"a": 1}', "id": "fc_1"}
ANSWER: Final[Json] = {"type": "function_call_output", "call_id": "call_1", "output": "x"}

ITEMS: Final[tuple[tuple[Json, ...], ...]] = (
    *(({"type": "message", "role": "user", "content": [part]},) for part in PARTS),
    *(
        ({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]},)
        for part in (PARTS[0], PARTS[9], PARTS[10])
    ),
    ({"role": "system", "content": "be"}, {"role": "developer", "content": [PARTS[0]]}),
    ({"role": "assistant", "content": "I", "phase": "commentary"},),
    *(
        ({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": one}, CALL, ANSWER)
        for one in ENVELOPES
    ),
    *(
        (
            {**_USER},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "s"}], "encrypted_content": one},
            {"role": "assistant", "content": "so"},
        )
        for one in ENVELOPES
    ),
    *(({"type": "compaction", "encrypted_content": one},) for one in ENVELOPES[-2:]),
    ({"type": "compaction_summary", "encrypted_content": "gAAAA"},),
    (
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "hm"}],
            "status": "completed",
            "encrypted_content": None,
        },
    ),
    ({"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAAA"}, CALL, ANSWER),
    (CALL, ANSWER),
    (CALL, {**CALL, "call_id": "call_2"}, {**ANSWER, "call_id": "call_2"}, ANSWER),
    (CALL, {**ANSWER, "output": [PARTS[0], PARTS[1], PARTS[4]]}),
    ({**CALL, "namespace": "ns", "status": "completed"}, {**ANSWER, "status": "completed", "name": "f"}),
    (
        {"type": "custom_tool_call", "call_id": "c", "name": "g", "input": "raw", "namespace": "ns"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": [PARTS[0]]},
    ),
    (
        {
            "type": "shell_call",
            "call_id": "c",
            "status": "completed",
            "environment": {"type": "local"},
            "action": {"commands": ["ls"], "timeout_ms": 1, "max_output_length": 10},
        },
        {
            "type": "shell_call_output",
            "call_id": "c",
            "max_output_length": 10,
            "output": [{"stdout": "a", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}],
        },
    ),
    (
        {
            "type": "local_shell_call",
            "id": "lsh_1",
            "call_id": "c",
            "status": "completed",
            "action": {"type": "exec", "command": ["ls"], "env": {"A": "b"}, "timeout_ms": 1, "working_directory": "/"},
        },
        {"type": "local_shell_call_output", "id": "c", "output": "{}"},
    ),
    (
        {
            "type": "apply_patch_call",
            "call_id": "c",
            "status": "completed",
            "operation": {"type": "update_file", "path": "a", "diff": "@@"},
        },
        {"type": "apply_patch_call_output", "call_id": "c", "status": "failed", "output": "no"},
    ),
    (
        {"type": "tool_search_call", "call_id": "c", "execution": "client", "arguments": {"query": "q", "limit": 1}},
        {
            "type": "tool_search_output",
            "call_id": "c",
            "execution": "client",
            "tools": [{"type": "function", "name": "found", "description": "d", "parameters": {"type": "object"}}],
        },
    ),
    (
        {"type": "tool_search_call", "execution": "server", "arguments": {}},
        {"type": "tool_search_output", "execution": "server", "tools": []},
    ),
    (
        {
            "type": "code_interpreter_call",
            "id": "ci_1",
            "code": "1",
            "container_id": "c",
            "status": "completed",
            "outputs": [{"type": "logs", "logs": "1"}, {"type": "image", "url": "https://a"}],
        },
    ),
    (
        {
            "type": "web_search_call",
            "id": "ws_1",
            "status": "completed",
            "action": {
                "type": "search",
                "query": "q",
                "queries": ["q"],
                "sources": [{"type": "url", "url": "https://a"}],
            },
        },
    ),
    ({"type": "file_search_call", "id": "fs_1", "queries": ["q"], "results": [{"text": "t", "score": 0.5}]},),
    ({"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "iVBORw0KGgo="},),
    (
        {
            "type": "computer_call",
            "call_id": "c",
            "id": "cu_1",
            "action": {"type": "click", "x": 1, "y": 2},
            "pending_safety_checks": [],
            "status": "completed",
        },
        {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot", "image_url": _PNG}},
    ),
    (
        {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "s", "tools": [{"name": "n", "input_schema": {}}]},
        {"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "n", "arguments": "{}", "output": "o"},
        {"type": "mcp_approval_request", "id": "mcpr_1", "server_label": "s", "name": "n", "arguments": "{}"},
        {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
    ),
    ({"type": "item_reference", "id": "msg_nobody"},),
    ({"type": "agent_message", "author": "a", "recipient": "b", "content": [PARTS[0], PARTS[11], PARTS[12]]},),
    ({"type": "agent_message", "content": "said"},),
    (
        {
            "type": "additional_tools",
            "role": "developer",
            "tools": [{"type": "function", "name": "more", "parameters": {"type": "object", "properties": {}}}],
        },
    ),
    ({"type": "configuration_update", "reasoning": {"effort": "low"}, "text": {"verbosity": "low"}}, _USER),
    (_USER, {"type": "compaction_trigger"}),
    (
        {"type": "program", "id": "p", "call_id": "c", "code": "1", "fingerprint": "f"},
        {"type": "program_output", "id": "o", "call_id": "c", "result": "1", "status": "completed"},
    ),
    ({"type": "of_tomorrow", "id": "t", "content": [PARTS[0]]},),
)

_SCHEMA: Final[Json] = {
    "type": "object",
    "properties": {
        "a": {"type": ["string", "null"], "enum": ["x", "y"], "description": "d", "pattern": "^x?$"},
        "b": {"type": "array", "items": {"$ref": "#/$defs/c"}, "minItems": 1, "uniqueItems": True},
        "e": {"anyOf": [{"type": "integer", "minimum": 0}, {"const": "z"}], "default": 0},
        "odd name": {"allOf": [{"type": "object", "additionalProperties": False}], "nullable": True},
    },
    "required": ["a"],
    "$defs": {"c": {"type": "object", "properties": {"c": {"$ref": "#/$defs/c"}}, "title": "C"}},
    "additionalProperties": False,
}

TOOLS: Final[tuple[Json, ...]] = (
    {"type": "function", "name": "f", "description": "d", "parameters": _SCHEMA, "strict": True},
    {
        "type": "function",
        "name": "f",
        "parameters": None,
        "async": True,
        "defer_loading": True,
        "allowed_callers": ["direct", "programmatic"],
        "output_schema": _SCHEMA,
    },
    {"type": "function", "function": {"name": "f", "parameters": _SCHEMA}},
    {"type": "custom", "name": "g", "format": {"type": "grammar", "syntax": "lark", "definition": "start: /x/"}},
    {"type": "custom", "custom": {"name": "g", "format": {"type": "grammar", "grammar": {"syntax": "regex"}}}},
    {"type": "namespace", "name": "ns", "description": "d", "tools": [{"type": "function", "name": "f"}]},
    {"type": "shell", "environment": {"type": "local", "skills": [{"name": "s", "description": "d", "path": "/s"}]}},
    {"type": "shell", "environment": {"type": "container_auto"}},
    {"type": "local_shell"},
    {"type": "apply_patch"},
    {"type": "tool_search", "execution": "client", "description": "d", "parameters": _SCHEMA},
    {
        "type": "web_search",
        "search_context_size": "low",
        "filters": {"allowed_domains": ["a.com"]},
        "user_location": {"type": "approximate", "country": "DE", "city": "B", "timezone": "UTC", "region": "B"},
    },
    {"type": "web_search_preview_2025_03_11"},
    {"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["f"], "memory_limit": "4g"}},
    {"type": "code_interpreter", "container": "cntr_1"},
    {"type": "image_generation", "size": "auto", "input_image_mask": {"image_url": _PNG}},
    {"type": "file_search", "vector_store_ids": ["v"], "filters": {"type": "eq", "key": "k", "value": 1}},
    {
        "type": "mcp",
        "server_label": "s",
        "server_url": "https://a",
        "headers": {"a": "b"},
        "require_approval": "never",
        "allowed_tools": {"tool_names": ["n"]},
        "authorization": "t",
    },
    {"type": "computer_use_preview", "display_width": 1, "display_height": 1, "environment": "browser"},
    {"type": "programmatic_tool_calling"},
    {"type": "of_tomorrow", "x": {}},
)

CHOICES: Final[tuple[Any, ...]] = (
    *("auto", "none", "required", "any", {"type": "function", "name": "f"}, {"type": "custom", "name": "g"}),
    *({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}, {"type": "shell"}),
    {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}, {"type": "shell"}]},
    {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "mcp", "server_label": "s"}]}},
    {"type": "web_search"},
)

PARAMETERS: Final[tuple[Json, ...]] = (
    {"instructions": "be", "max_output_tokens": 9, "max_tool_calls": 2, "parallel_tool_calls": False, "user": "u"},
    {"temperature": 1, "top_p": 0.5, "top_logprobs": 2, "seed": 1, "stop": ["a"], "presence_penalty": 1, "n": 2},
    {"frequency_penalty": 1, "logit_bias": {"1": 5}, "service_tier": "auto", "safety_identifier": "s", "store": False},
    {"metadata": {"a": "b"}, "prompt_cache_key": "k", "prompt_cache_retention": "24h", "truncation": "auto"},
    {"prompt_cache_options": {"mode": "explicit"}, "moderation": {"model": "m"}, "access_programs": {}, "image": {}},
    {"reasoning": {"effort": "low", "summary": "auto", "generate_summary": "auto", "context": "current_turn"}},
    {"reasoning": {"effort": "none", "mode": "fast"}, "include": ["reasoning.encrypted_content"]},
    {"include": ["message.output_text.logprobs", "web_search_call.action.sources", "code_interpreter_call.outputs"]},
    {"text": {"verbosity": "low", "format": {"type": "json_schema", "name": "o", "schema": _SCHEMA, "strict": True}}},
    {"text": {"format": {"type": "json_object"}}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "o", "schema": _SCHEMA}}},
    {"max_tokens": 9, "max_completion_tokens": 9, "reasoning_effort": "low", "verbosity": "low", "logprobs": True},
    {"context_management": [{"type": "compaction", "compact_threshold": 1}]},
    {"stream_options": {"include_obfuscation": True, "include_usage": True}, "stream": True},
    {"prompt": {"id": "hello", "version": "1", "variables": {"name": "A", "part": PARTS[1]}}, "input": None},
    {"previous_response_id": "resp_nobody", "conversation": None, "background": False},
    {"top_k": 3, "min_p": 0.1, "top_a": 1, "chat_template_kwargs": {"thinking": True}, "client_metadata": {"a": "b"}},
    {"generate": False, "instructions": "be"},
    {"stream_id": "lane", "previous_response_id": "resp_nobody"},
    {"stream_id": "lane", "type": "response.create"},
    {"type": "response.steer", "previous_response_id": "resp_nobody"},
    {"functions": [{"name": "f", "parameters": _SCHEMA}], "function_call": {"name": "f"}},
)

MESSAGES: Final[tuple[list[Json], ...]] = (
    [{"role": "system", "content": "be"}, _USER],
    [
        {
            "role": "user",
            "name": "n",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "image_url", "image_url": {"url": _PNG, "detail": "low"}},
                {"type": "file", "file": {"file_data": "data:text/plain;base64,eA==", "filename": "a"}},
                {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
            ],
        }
    ],
    [
        _USER,
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "reasoning_content": "hm",
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "d", "type": "custom", "custom": {"name": "g", "input": "x"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "x"}]},
        {"role": "tool", "tool_call_id": "d", "content": "y"},
    ],
    [
        _USER,
        {"role": "assistant", "function_call": {"name": "f", "arguments": {"a": 1}}},
        {"role": "function", "name": "f", "content": "x"},
    ],
)


def seeds() -> list[Json]:
    """Bodies of creates that a relay takes, or refuses for what nobody has."""
    made = [{"input": [*items]} for items in ITEMS]
    made += [{"input": [_USER, *items, _USER]} for items in ITEMS]
    made += [{"input": "go", **some} for some in PARAMETERS]
    made += [{"input": "go", "tools": [tool]} for tool in TOOLS]
    made += [{"input": [_USER, CALL, ANSWER], "tools": [tool], "tool_choice": "auto"} for tool in TOOLS]
    made += [
        {"input": "go", "tools": [TOOLS[0], TOOLS[3], TOOLS[6], TOOLS[11], TOOLS[17]], "tool_choice": one}
        for one in CHOICES
    ]
    made += [{"messages": messages} for messages in MESSAGES]
    return [{"model": "m", **copy.deepcopy(one)} for one in made]


# --- answers

_USAGE: Final[Json] = {
    "prompt_tokens": 5,
    "completion_tokens": 3,
    "total_tokens": 8,
    "prompt_tokens_details": {"cached_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 1},
}

BODIES: Final[dict[str, tuple[Any, ...]]] = {
    "chat": (
        {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": _USAGE, "choices": [
            {"index": 0, "finish_reason": "tool_calls", "logprobs": {"content": [
                {"token": "a", "logprob": -1, "bytes": [97], "top_logprobs": []}]}, "message": {
                "role": "assistant", "content": "a", "refusal": None, "reasoning_content": "hm",
                "annotations": [{"type": "url_citation", "url_citation": {"url": "https://a", "title": "A",
                                                                          "start_index": 0, "end_index": 1}}],
                "images": [{"type": "image_url", "image_url": {"url": _PNG}}],
                "reasoning_details": [{"type": "reasoning.text", "text": "hm", "signature": "s", "index": 0}],
                "tool_calls": [{"id": "c", "type": "function", "index": 0, "function": {"name": "f", "arguments": "{}"},
                                "extra_content": {"google": {"thought_signature": "s"}}}]}}]},
        {"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"type": "thinking", "thinking": []}]}}]},
    ),
    "responses": (
        {"id": "resp_up", "object": "response", "created_at": 1, "status": "completed", "model": "m",
         "usage": {"input_tokens": 5, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 1}},
         "incomplete_details": None, "error": None, "reasoning": {"effort": None}, "text": {"format": {"type": "text"}},
         "input_transformations": [{"id": "rs_1", "type": "reasoning", "action": "removed", "reason": "x"}],
         "output": [item for items in ITEMS[10:] for item in items]},
        *({"id": "r", "status": "completed", "output": [*items]} for items in ITEMS),
        {"id": "r", "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": [
            {"type": "message", "id": "m", "role": "assistant", "content": [PARTS[10], PARTS[9]]}]},
        {"id": "r", "status": "failed", "error": {"code": "server_error", "message": "no"}, "output": []},
    ),
    "anthropic": (
        {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use",
         "stop_sequence": None, "container": {"id": "c", "expires_at": "x"},
         "usage": {"input_tokens": 5, "output_tokens": 3, "cache_read_input_tokens": 1,
                   "cache_creation": {"ephemeral_5m_input_tokens": 1}},
         "content": [
             {"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "redacted_thinking", "data": "x"},
             {"type": "text", "text": "a", "citations": [
                 {"type": "web_search_result_location", "url": "https://a", "title": "A", "cited_text": "c"}]},
             {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}},
             {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [
                 {"type": "web_search_result", "url": "https://a", "title": "A", "encrypted_content": "x"}]},
             {"type": "server_tool_use", "id": "s2", "name": "code_execution", "input": {"code": "1"}},
             {"type": "code_execution_tool_result", "tool_use_id": "s2", "content": {
                 "type": "code_execution_result", "stdout": "1", "stderr": "", "return_code": 0, "content": []}},
             {"type": "mcp_tool_use", "id": "s3", "name": "n", "server_name": "s", "input": {}},
             {"type": "mcp_tool_result", "tool_use_id": "s3", "is_error": False, "content": [
                 {"type": "text", "text": "o"}]},
             {"type": "compaction", "content": "c"}, {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}},
             {"type": "tool_use", "id": "t", "name": "f", "input": {"a": "x"}}]},
    ),
    "gemini": (
        {"responseId": "r", "modelVersion": "m",
         "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 3, "thoughtsTokenCount": 1,
                           "cachedContentTokenCount": 1, "totalTokenCount": 9},
         "promptFeedback": {"blockReason": None, "safetyRatings": []},
         "candidates": [{
             "index": 0, "finishReason": "STOP", "finishMessage": "", "avgLogprobs": -1,
             "safetyRatings": [{"category": "c", "probability": "LOW"}],
             "citationMetadata": {"citationSources": [{"startIndex": 0, "endIndex": 1, "uri": "https://a"}]},
             "urlContextMetadata": {"urlMetadata": [{"retrievedUrl": "https://a", "urlRetrievalStatus": "S"}]},
             "groundingMetadata": {
                 "webSearchQueries": ["q"], "groundingChunks": [{"web": {"uri": "https://a", "title": "A"}}],
                 "groundingSupports": [{"segment": {"startIndex": 0, "endIndex": 1, "text": "a"},
                                        "groundingChunkIndices": [0]}]},
             "logprobsResult": {"chosenCandidates": [{"token": "a", "logProbability": -1}],
                                "topCandidates": [{"candidates": [{"token": "a", "logProbability": -1}]}]},
             "content": {"role": "model", "parts": [
                 {"text": "hm", "thought": True, "thoughtSignature": "cw=="}, {"text": "a"},
                 {"executableCode": {"language": "PYTHON", "code": "1", "id": "k"}},
                 {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1", "id": "k"}},
                 {"toolCall": {"id": "t", "toolType": "GOOGLE_SEARCH_WEB", "args": {"queries": ["q"]}}},
                 {"toolResponse": {"id": "t", "toolType": "GOOGLE_SEARCH_WEB", "response": {}}},
                 {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
                 {"functionCall": {"name": "f", "args": {"a": "x"}, "id": "f1"}, "thoughtSignature": "cw=="}]}}]},
    ),
}  # fmt: skip
"""Whole bodies of each dialect, with every block that it has."""

ERRORS: Final[tuple[tuple[int, Json], ...]] = (
    (400, {"error": {"message": "no", "type": "invalid_request_error", "param": "input[0].x", "code": "c"}}),
    (429, {"type": "error", "error": {"type": "rate_limit_error", "message": "wait"}, "request_id": "r"}),
    (429, {"error": {"code": 429, "message": "wait", "status": "RESOURCE_EXHAUSTED", "details": [
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3s"},
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": "PerDay"}]}]}}),
    (422, {"detail": [{"loc": ["body", "input", 0], "msg": "no", "type": "value_error"}]}),
    (500, {"error": {"message": '{"error": {"message": "inner", "code": 503}}', "metadata": {
        "provider_name": "p", "raw": '{"detail": "x"}', "headers": {"Retry-After": "3"}, "reasons": ["r"]}}}),
    (500, {"base_resp": {"status_code": 1002, "status_msg": "wait"}, "success": False, "errors": [{"code": 1}]}),
    (400, {"error_code": 1, "error_msg": "no", "__type": "ThrottlingException", "message": "wait 3 s", "status": 429}),
)  # fmt: skip
