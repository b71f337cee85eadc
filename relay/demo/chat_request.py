"""Requests to chat/completions, checked as OpenAI checks them.

Source: OpenAI's API reference of chat completions and the wording of its 400 answers; DeepSeek's and OpenRouter's rules
for the reasoning that must come back (translation.md §2.6).
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from relay.demo.behaviour import Behaviour, behaviour_of
from relay.demo.script import Conversation, Refusal, Tool, Turn, call_problem, make_seal, seal_fits

_NAME: Final = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
_ROLES: Final = ("developer", "system", "user", "assistant", "tool", "function")


def read_chat(body: dict[str, Any]) -> Turn:
    """Check a request as OpenAI would.

    Raises:
        Refusal: in OpenAI's words.
    """
    model = body.get("model")
    if not isinstance(model, str):
        raise Refusal("you must provide a model parameter")
    behaviour = behaviour_of(model)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal("Missing required parameter: 'messages'.", param="messages", code="missing_required_parameter")
    if body.get("n") not in (None, 1):
        raise Refusal("The demo model answers one choice: 'n' must be 1.", param="n")
    tools = _tools(body)
    talk = _conversation(messages, behaviour)
    stops = body.get("stop") or ()
    return Turn(
        model=model,
        behaviour=behaviour,
        stream=body.get("stream") is True,
        body=body,
        talk=talk,
        call_prefix="call_",
        tools=tools,
        choice=_choice(body, tools),
        parallel=body.get("parallel_tool_calls") is not False,
        schema=_schema(body, messages),
        reason=_reasons(body),
        limit=body.get("max_completion_tokens") or body.get("max_tokens"),
        stops=(stops,) if isinstance(stops, str) else tuple(stops),
    )


def _reasons(body: dict[str, Any]) -> bool:
    asked = body.get("reasoning_effort") or (body.get("reasoning") or {}).get("effort")
    switched = (body.get("thinking") or {}).get("type") == "enabled"
    template = (body.get("chat_template_kwargs") or {}).get("enable_thinking") is True
    return (asked is not None and asked != "none") or switched or template


def _schema(body: dict[str, Any], messages: list[Any]) -> Any:
    asked = body.get("response_format")
    if not isinstance(asked, dict) or asked.get("type") == "text":
        return None
    if asked.get("type") == "json_object":
        if b"json" not in orjson.dumps(messages).lower():
            message = (
                "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
            )
            raise Refusal(message, param="messages")
        return {"type": "object", "properties": {"answer": {"type": "string"}}}
    wrapped = asked.get("json_schema")
    if asked.get("type") != "json_schema" or not isinstance(wrapped, dict):
        raise Refusal("Missing required parameter: 'response_format.json_schema'.", param="response_format.json_schema")
    if not isinstance(wrapped.get("name"), str):
        name = "response_format.json_schema.name"
        raise Refusal(f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")
    return wrapped.get("schema") or {}


def _tools(body: dict[str, Any]) -> tuple[Tool, ...]:
    offered = body.get("tools")
    if offered is None:
        for key in ("tool_choice", "parallel_tool_calls"):
            if body.get(key) is not None:
                raise Refusal(f"'{key}' is only allowed when 'tools' are specified.", param=key)
        return ()
    if not isinstance(offered, list) or not offered:
        raise Refusal("Invalid 'tools': empty array. Expected an array with minimum length 1.", param="tools")
    tools: list[Tool] = []
    for at, tool in enumerate(offered):
        kind = tool.get("type")
        inner = tool.get(str(kind)) if kind in ("function", "custom") else None
        if not isinstance(inner, dict):
            raise Refusal(
                f"Invalid value: '{kind}'. Supported values are: 'function' and 'custom'.", param=f"tools[{at}].type"
            )
        name = inner.get("name")
        if not isinstance(name, str) or not _NAME.match(name):
            path = f"tools[{at}].{kind}.name"
            raise Refusal(
                f"Invalid '{path}': string does not match pattern '^[a-zA-Z0-9_-]+$'.",
                param=path,
            )
        parameters = inner.get("parameters")
        if parameters is not None and (
            not isinstance(parameters, dict) or parameters.get("type", "object") != "object"
        ):
            raise Refusal(
                f"Invalid schema for function '{name}': schema must be a JSON Schema of 'type: \"object\"'.",
                param=f"tools[{at}].function.parameters",
            )
        tools.append(Tool(name, parameters or {"type": "object", "properties": {}}, kind == "custom"))
    return tuple(tools)


def _choice(body: dict[str, Any], tools: tuple[Tool, ...]) -> str:
    asked = body.get("tool_choice")
    if asked is None:
        return "auto"
    if isinstance(asked, str):
        if asked not in ("none", "auto", "required"):
            raise Refusal(
                f"Invalid value: '{asked}'. Supported values are: 'none', 'auto', and 'required'.", param="tool_choice"
            )
        return asked
    if asked.get("type") == "allowed_tools":
        return str(asked["allowed_tools"].get("mode", "auto"))
    name = (asked.get(asked.get("type")) or {}).get("name")
    if name not in {tool.name for tool in tools}:
        raise Refusal(
            f"Invalid value: 'tool_choice.function.name' '{name}' is not among the 'tools'.", param="tool_choice"
        )
    return str(name)


def _conversation(messages: list[Any], behaviour: Behaviour) -> Conversation:
    """Walk the messages; every call needs its answers right behind it, every answer its call."""
    talk = Conversation()
    open_calls: dict[str, None] = {}
    for at, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in _ROLES:
            raise Refusal(
                f"Invalid value: '{role}'. Supported values are: {', '.join(map(repr, _ROLES))}.",
                param=f"messages[{at}].role",
            )
        if role == "tool":
            call_id = message.get("tool_call_id")
            if call_id not in open_calls:
                raise Refusal(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message "
                    "with 'tool_calls'.",
                    param=f"messages.[{at}].role",
                )
            del open_calls[call_id]
            talk.result(call_id, _text(message.get("content"), at))
            continue
        _closed(open_calls)
        if role == "assistant":
            open_calls = _assistant(talk, message, at, behaviour)
        elif role == "user":
            talk.user(_text(message.get("content"), at))
        else:
            talk.system(_text(message.get("content"), at))
    _closed(open_calls)
    return talk


def _closed(open_calls: dict[str, None]) -> None:
    if open_calls:
        raise Refusal(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(open_calls)}",
            param="messages",
        )


def _assistant(talk: Conversation, message: dict[str, Any], at: int, behaviour: Behaviour) -> dict[str, None]:
    calls = message.get("tool_calls")
    content = message.get("content")
    if calls is not None and not calls:
        raise Refusal(
            f"Invalid 'messages[{at}].tool_calls': empty array. Expected an array with minimum length 1.",
            param=f"messages[{at}].tool_calls",
        )
    if content is None and not calls and message.get("refusal") is None and message.get("function_call") is None:
        raise Refusal(
            f"Invalid value for 'content': expected a string, got null at messages[{at}].",
            param=f"messages[{at}].content",
        )
    if behaviour.strict:
        _check_reasoning(message, at, talk.prefix())
    if content is not None:
        talk.assistant(_text(content, at))
    ids = [call.get("id") for call in calls or ()]
    for call in calls or ():
        inner = call.get(call.get("type", "function"))
        if (
            not isinstance(call.get("id"), str)
            or not isinstance(inner, dict)
            or not _NAME.match(str(inner.get("name")))
        ):
            raise Refusal(
                f"Invalid 'messages[{at}].tool_calls': a call needs an id, a type and a valid name.",
                param=f"messages[{at}].tool_calls",
            )
        if not isinstance(inner.get("arguments", inner.get("input")), str):
            raise Refusal(
                f"Invalid type for 'messages[{at}].tool_calls[0].function.arguments': expected a string.",
                param=f"messages[{at}].tool_calls",
            )
    if ids:
        talk.calls(*ids)
    return dict.fromkeys(ids)


def _check_reasoning(message: dict[str, Any], at: int, prefix: bytes) -> None:
    """DeepSeek wants its reasoning back on messages with calls; OpenRouter its details as they were."""
    text = message.get("reasoning_content") or message.get("reasoning") or ""
    details = message.get("reasoning_details") or ()
    seals = [one.get("data") for one in details if one.get("type") == "reasoning.encrypted"]
    shown = "".join(one.get("text") or "" for one in details if one.get("type") == "reasoning.text")
    if any(not seal_fits(seal, shown) for seal in seals):
        raise Refusal(f"messages[{at}].reasoning_details: the encrypted reasoning was changed.", param="messages")
    calls = message.get("tool_calls") or ()
    if not any(str(call.get("id")).startswith("call_5ea1") for call in calls):
        return
    if not seals and not text:
        raise Refusal("The reasoning_content in the thinking mode must be passed back to the API.", param="messages")
    seal = seals[0] if seals else make_seal(text, prefix)
    for index, call in enumerate(calls):
        if problem := call_problem(call.get("id"), "call_", seal, index):
            raise Refusal(f"messages[{at}]: the reasoning is {problem}.", param="messages")


def _text(content: Any, at: int) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list) or not content:
        raise Refusal(
            f"Invalid type for 'messages[{at}].content': expected one of a string or array of objects.",
            param=f"messages[{at}].content",
        )
    last = ""
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in ("text", "refusal", "image_url", "input_audio", "file"):
            raise Refusal(
                f"Invalid value: '{kind}'. Supported values are: 'text', 'image_url', 'input_audio', and 'file'.",
                param=f"messages[{at}].content[0].type",
            )
        if kind in ("text", "refusal"):
            last = part.get(kind) or ""
    return last
