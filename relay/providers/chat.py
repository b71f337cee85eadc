"""The dialect ``chat``: OpenAI's chat/completions and the many servers that speak it in their own way.

Source: translation.md §1 (column A), §2 (column A); decisions 10–14, 18, 19. What servers differ in is a row of
``providers.capabilities.chat``; the translator is ``providers.chat_stream``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from relay.errors import RelayError
from relay.providers.base import (
    Count,
    Media,
    Parameter,
    Target,
    UpstreamRequest,
    Warnings,
    apply_parameters,
    drop_hosted_tools,
    media_urls,
    warn_cache_options,
    warn_unheeded,
    wire_names,
)
from relay.providers.capabilities import capabilities
from relay.providers.capabilities.chat import ROWS
from relay.providers.chat_choice import REPAIR, put_choice, reconcile
from relay.providers.chat_failures import http_error
from relay.providers.chat_messages import Messages
from relay.providers.chat_stream import ChatTranslator, Context
from relay.providers.levels import effort, verbosity
from relay.providers.schema import CHAT_TOOLS, Rules, cut_ahead, cut_tools
from relay.providers.turns import Assist, turns
from relay.responses.emitter import Voice
from relay.responses.json import encoded, exact
from relay.responses.request import KNOWN, Request
from relay.responses.tools import JSON, Tool, key_of_call

__all__ = ["PARAMETERS", "PROVIDER", "ChatProvider", "ChatTranslator"]


class _Build:
    """One request being built: ``body`` is what is sent."""

    __slots__ = ("body", "record", "repairs", "request", "system", "target", "warnings")

    def __init__(
        self, request: Request, target: Target, record: Mapping[str, Any], warnings: Warnings, repairs: frozenset[str]
    ) -> None:
        self.request = request
        self.target = target
        self.record = record
        self.warnings = warnings
        self.repairs = repairs
        self.body: JSON = {"model": target.model, "messages": []}
        self.system: list[str] = []

    def put(self, name: str, field: str, value: Any) -> None:
        """Set ``field`` unless the record drops the parameter ``name``."""
        if name in self.record["drops"]:
            self.warnings.add(name, "not supported by this upstream")
        else:
            self.body[self.record["names"].get(field, field)] = value


# --- the parameter table

Apply = Callable[[_Build, Any], None]


def _same(name: str) -> Apply:
    def apply(build: _Build, value: Any) -> None:
        build.put(name, name, value)

    return apply


def _limit(build: _Build, value: int) -> None:
    build.body[build.record["token_limit_field"]] = value


def _sampling(name: str) -> Apply:
    def apply(build: _Build, value: float) -> None:
        if build.record["sampling"] == "full":
            build.put(name, name, value)
        elif value != 1:
            build.warnings.add(name, "this model has no sampling parameters")

    return apply


def _logprobs(build: _Build, value: int) -> None:
    if value:
        _ask_logprobs(build, "top_logprobs")
        if build.body.get("logprobs"):
            build.body["top_logprobs"] = value


def _include(build: _Build, values: list[str]) -> None:
    if "message.output_text.logprobs" in values:
        _ask_logprobs(build, "include")


def _ask_logprobs(build: _Build, param: str) -> None:
    if "logprobs" in build.repairs or "top_logprobs" in build.record["drops"]:
        build.warnings.add(param, "log probabilities are not supported by this upstream")
    else:
        build.body["logprobs"] = True


def _parallel(build: _Build, value: bool) -> None:
    if not build.request.tools.tools:
        return
    if build.record["parallel_tool_calls"]:
        build.body["parallel_tool_calls"] = value
    elif not value:
        build.warnings.add("parallel_tool_calls", "not supported by this upstream")


def _reasoning(build: _Build, value: JSON) -> None:
    level = effort(value, build.record["efforts"], build.warnings)
    if level is None:
        return
    sent, warned = build.record["efforts"][level]
    if warned:
        reason = f"effort '{level}' was sent as '{sent}'" if sent else "this model's effort cannot be set"
        build.warnings.add("reasoning.effort", reason)
    if sent is not None:
        EFFORT_FIELDS[build.record["effort"]](build.body, sent, build.target.model.lower())


def _plain_effort(body: JSON, level: str, model: str) -> None:
    body["reasoning_effort"] = level


def _nested_effort(body: JSON, level: str, model: str) -> None:
    body["reasoning"] = {"effort": level}


def _thinking_effort(body: JSON, level: str, model: str) -> None:
    body["thinking"] = {"type": "disabled" if level == "none" else "enabled"}
    if level != "none":
        body["reasoning_effort"] = level


def _groq_effort(body: JSON, level: str, model: str) -> None:
    body["reasoning_effort"] = level
    body["reasoning_format"] = "parsed"


def _template_effort(body: JSON, level: str, model: str) -> None:
    if level != "none":
        body["reasoning_effort"] = level
    elif "deepseek" in model or "granite" in model:
        body["chat_template_kwargs"] = {"thinking": False}
    else:
        body["chat_template_kwargs"] = {"enable_thinking": False}


def _switch_effort(body: JSON, level: str, model: str) -> None:
    body["chat_template_kwargs"] = {"enable_thinking": level != "none"}


EFFORT_FIELDS: Final[Mapping[str, Callable[[JSON, str, str], None]]] = {
    "reasoning_effort": _plain_effort,
    "reasoning.effort": _nested_effort,
    "thinking": _thinking_effort,
    "groq": _groq_effort,
    "chat_template_kwargs": _template_effort,
    "enable_thinking": _switch_effort,
}


def _text(build: _Build, value: JSON) -> None:
    level = verbosity(value, build.warnings)
    if level is not None:
        if build.record["verbosity"]:
            build.body["verbosity"] = level
        elif level != "medium":
            build.warnings.add("text.verbosity", "not supported by this upstream")
    form = build.request.format
    if form is None:
        return
    if form["type"] == "json_object":
        build.body["response_format"] = {"type": "json_object"}
    elif build.record["json_schema"] == "native":
        schema = {
            name: form[name] for name in ("name", "description", "schema", "strict") if form.get(name) is not None
        }
        build.body["response_format"] = {"type": "json_schema", "json_schema": schema}
    else:
        build.warnings.add("text.format", "the schema is given to the model as text and not enforced")
        build.body["response_format"] = {"type": "json_object"}
        schema_text = encoded(form["schema"]).decode()
        build.system.append(f"Answer with one JSON object that matches this JSON schema:\n{schema_text}")


def _safety_identifier(build: _Build, value: str) -> None:
    if build.record["safety_identifier"]:
        build.body["safety_identifier"] = value
    elif "user" not in build.request.params:
        build.put("safety_identifier", "user", value)


def _cache(name: str) -> Apply:
    def apply(build: _Build, value: Any) -> None:
        if build.record["prompt_cache"]:
            build.body[name] = value

    return apply


def _openai_cache(name: str) -> Apply:
    def apply(build: _Build, value: Any) -> None:
        if build.record["cache_marks"] == "openai":
            build.body[name] = value
        elif isinstance(value, dict):
            warn_cache_options(value, build.warnings)

    return apply


def _service_tier(build: _Build, value: str) -> None:
    if value == "ultrafast":
        message = "service_tier 'ultrafast' is not supported by this upstream."
        raise RelayError("unsupported_value", message, param="service_tier")
    sent = build.record["tiers"].get(value)
    if sent is None:
        build.warnings.add("service_tier", f"'{value}' is not supported by this upstream")
    elif sent:
        build.body["service_tier"] = sent


def _image(build: _Build, value: JSON) -> None:
    if value.get("context_compression") == "enabled":
        build.warnings.add("image.context_compression", "not supported by this upstream")


PARAMETERS: Final[Mapping[str, Parameter]] = {
    "access_programs": Parameter("rejected"),
    "background": Parameter("ignored", "Only false: background responses are the relay's."),
    "context_management": Parameter("emulated", "Compaction, by a summary that the model writes."),
    "conversation": Parameter("rejected", "The relay keeps no conversations in this version."),
    "frequency_penalty": Parameter("mapped", "", _same("frequency_penalty")),
    "generate": Parameter("ignored"),
    "image": Parameter("ignored", "context_compression 'enabled' is warned about.", _image),
    "include": Parameter("mapped", "message.output_text.logprobs; encrypted reasoning is always there.", _include),
    "instructions": Parameter("mapped", "The first message."),
    "logit_bias": Parameter("mapped", "", _same("logit_bias")),
    "max_output_tokens": Parameter("mapped", "max_completion_tokens or max_tokens.", _limit),
    "max_tool_calls": Parameter("ignored", "It counts tools that the upstream runs."),
    "metadata": Parameter("emulated", "Kept and echoed, never sent."),
    "moderation": Parameter("rejected"),
    "n": Parameter("emulated", "As many upstream calls side by side."),
    "parallel_tool_calls": Parameter("mapped", "", _parallel),
    "presence_penalty": Parameter("mapped", "", _same("presence_penalty")),
    "previous_response_id": Parameter("emulated"),
    "prompt": Parameter("emulated", "From the configuration's [prompts]."),
    "prompt_cache_key": Parameter("mapped", "OpenAI and OpenRouter; ignored elsewhere.", _cache("prompt_cache_key")),
    "prompt_cache_options": Parameter("mapped", "OpenAI; ignored elsewhere.", _openai_cache("prompt_cache_options")),
    "prompt_cache_retention": Parameter(
        "mapped", "OpenAI; ignored elsewhere.", _openai_cache("prompt_cache_retention")
    ),
    "reasoning": Parameter("mapped", "effort by model; summary decides what is shown.", _reasoning),
    "safety_identifier": Parameter("mapped", "user where the upstream has no such field.", _safety_identifier),
    "seed": Parameter("mapped", "", _same("seed")),
    "service_tier": Parameter("mapped", "", _service_tier),
    "stop": Parameter("mapped", "", _same("stop")),
    "store": Parameter("emulated", "Never sent."),
    "stream": Parameter("emulated", "The upstream always streams."),
    "stream_options": Parameter("emulated"),
    "temperature": Parameter("mapped", "", _sampling("temperature")),
    "text": Parameter("mapped", "response_format, verbosity.", _text),
    "tool_choice": Parameter("mapped"),
    "tools": Parameter("mapped", "Functions; custom, shell, patch and client search tools are emulated as functions."),
    "top_logprobs": Parameter("mapped", "", _logprobs),
    "top_p": Parameter("mapped", "", _sampling("top_p")),
    "truncation": Parameter("emulated", "auto: the oldest turns are left out when the input is too long."),
    "user": Parameter("mapped", "", _same("user")),
}

_OURS: Final = KNOWN | {
    "functions",
    "function_call",
    "max_completion_tokens",
    "parallel_tool_calls",
    "random_seed",
    "reasoning_effort",
    "tool_choice",
    "verbosity",
}
"""Names that cannot be forwarded: we map them ourselves, or they are a chat name of what we map."""

_NEVER: Final = frozenset({"n", "store", "stream"})
"""Names that ``extra_body`` cannot set."""


# --- build


def _record(target: Target) -> dict[str, Any]:
    return capabilities(
        ROWS,
        model=target.model,
        base_url=target.base_url,
        quirks=target.quirks,
        overrides=target.capabilities,
    )


def _rules(record: Mapping[str, Any]) -> Rules:
    return CHAT_TOOLS.get(record["tool_schema"], CHAT_TOOLS["openai"])


def _tools(build: _Build, names: Mapping[str, str]) -> dict[str, Tool]:
    """Declare the tools and the choice; the tools by wire name."""
    request, record, body = build.request, build.record, build.body
    choice = request.tools.choice
    refused = REPAIR in build.repairs
    record = {**record, "allowed_tools": False} if refused else record
    offered = request.tools.tools
    if choice.mode == "allowed" and not record["allowed_tools"]:
        offered = tuple(tool for tool in offered if tool.key in choice.keys)
    known = {
        names[tool.key]: replace(tool, native=tool.item_type == "custom_tool_call" and record["custom_tools"])
        for tool in request.tools.tools
    }
    rules = _rules(record)
    cut = cut_tools(request.tools, lambda tool: rules, build.warnings)
    declared = []
    for tool in offered:
        if tool.key not in cut:
            continue
        if tool.item_type == "custom_tool_call" and not record["custom_tools"] and tool.format is not None:
            build.warnings.add("tools", f"the format of the custom tool '{tool.name}' is described, not enforced")
        declared.append(_declaration(known[names[tool.key]], names[tool.key], cut[tool.key].schema))
    if not declared:
        return known
    body["tools"] = declared
    references = {tool.key: _reference(tool, name) for name, tool in known.items() if tool.key in cut}
    put_choice(body, choice, references, record, given="tool_choice" in request.params)
    chosen = names[str(choice.key)] if choice.mode == "named" else None
    asked = reconcile(body, choice, chosen, record, build.warnings, refused=refused)
    if asked is not None:
        build.system.append(asked)
    return known


def _declaration(tool: Tool, name: str, schema: JSON | None) -> JSON:
    description = tool.description if tool.native else tool.function_description
    said: JSON = {"name": name} if description is None else {"name": name, "description": description}
    if tool.native:
        form = tool.format or {}
        if form.get("type") == "grammar":
            grammar = {"syntax": form.get("syntax"), "definition": form.get("definition")}
            said["format"] = {"type": "grammar", "grammar": grammar}
        elif form:
            said["format"] = form
        return {"type": "custom", "custom": said}
    said["parameters"] = schema
    if tool.strict:
        said["strict"] = True
    return {"type": "function", "function": said}


def _reference(tool: Tool, name: str) -> JSON:
    kind = "custom" if tool.native else "function"
    return {"type": kind, kind: {"name": name}}


def _extras(build: _Build) -> None:
    """What the operator lets through and adds (decision 13)."""
    body, target, record = build.body, build.target, build.record
    for name in dict.fromkeys((*record["forward"], *target.forward)):
        value = build.request.body.get(name)
        if value is not None and name not in _OURS:
            _add(body, name, value)
    for name, value in {**record["extra_body"], **target.extra_body}.items():
        if name not in _NEVER:
            _add(body, name, value)


def _add(body: JSON, name: str, value: Any) -> None:
    ours = body.get(name)
    if isinstance(ours, dict) and isinstance(value, dict) and name not in ("tool_choice", "response_format"):
        body[name] = {**value, **ours}
    else:
        body.setdefault(name, value)


def _build(request: Request, target: Target, media: Mapping[str, Media], repairs: frozenset[str]) -> UpstreamRequest:
    warnings = Warnings(request)
    record = _record(target)
    build = _Build(request, target, record, warnings, repairs)
    warn_unheeded(request, warnings, (*record["forward"], *target.forward))
    drop_hosted_tools(request, warnings)
    groups = turns(request.items, request, warnings)
    keys = [tool.key for tool in request.tools.tools]
    keys += [key_of_call(call) for group in groups if isinstance(group, Assist) for call in group.calls]
    names = wire_names(keys, record["tool_name"], record["tool_name_limit"])
    apply_parameters(PARAMETERS, request, build, warnings, target.upstream)
    tools = _tools(build, names)
    body = build.body
    if body.get("thinking") == {"type": "disabled"}:
        record["must_replay"] = "never"
    native = frozenset(tool.key for tool in tools.values() if tool.native)
    messages = Messages(record, names, native, media, warnings)
    instructions = request.params.get("instructions")
    leading = [*([instructions] if instructions else []), *build.system]
    body["messages"] = messages.render(request, groups, leading, target.model)
    if record["closed_prompt"] and body["messages"][-1]["role"] == "assistant":
        body.update(add_generation_prompt=True, continue_final_message=False)
    body["stream"] = True
    if record["usage_in_stream"] == "option" and "stream_options" not in repairs:
        body["stream_options"] = {"include_usage": True}
    _extras(build)
    context = Context(
        model=target.model,
        reasoning_fields=tuple(record["reasoning_out_fields"]),
        keep_reasoning=record["must_replay"] in ("always", "tool_turns"),
        think_tags=record["think_tags"],
        late_annotations=record["late_annotations"],
        logprobs=bool(body.get("logprobs")),
        limit_tokens=request.params.get("max_output_tokens"),
        folded=not request.stream,
    )
    return UpstreamRequest(
        "/chat/completions",
        exact(encoded(body)),
        tools=tools,
        warnings=tuple(warnings.entries),
        transformations=tuple(messages.transformations),
        context=context,
    )


# --- the provider


class ChatProvider:
    """Chat/completions in all its dialects."""

    name: Final = "chat"
    native: Final = False
    parameters: Final = PARAMETERS

    def media_needed(self, request: Request, target: Target) -> list[str]:
        """Files by URL, which this wire format cannot name, and images where the server does not fetch."""
        kinds = {"input_file": "file_url", "input_audio": "audio_url"}
        if not _record(target)["image_url_fetch"]:
            kinds["input_image"] = "image_url"
        return media_urls(request, kinds)

    def cut_schemas(self, request: Request, target: Target) -> Iterator[None]:
        """Cut the schemas of tools, one with each step."""
        rules = _rules(_record(target))
        return cut_ahead(request.tools, lambda tool: (rules,))

    def build(
        self, request: Request, target: Target, media: Mapping[str, Media], repairs: frozenset[str]
    ) -> UpstreamRequest:
        """The upstream call. Raises: RelayError naming the parameter that cannot be said."""
        return _build(request, target, media, repairs)

    def count(self, request: Request, target: Target, media: Mapping[str, Media]) -> Count | None:
        """None: chat/completions has no call that counts."""
        return None

    def translator(self, upstream_request: UpstreamRequest, voice: Voice) -> ChatTranslator:
        """A translator for the answer."""
        return ChatTranslator(voice, upstream_request.context or Context())

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> RelayError:
        """An error answer as ours; ``repair`` names what ``build`` could leave out."""
        return http_error(status, headers, body)


PROVIDER: Final = ChatProvider()
