"""The dialect ``anthropic``: Anthropic Messages, at Anthropic's own address, at Google's and at those who copy it.

Source: translation.md §1 (column B), §2 (column B); decisions 9, 10, 12–14, 19, 22, 25. What models differ in is a row
of ``providers.capabilities.anthropic``; thinking and schemas are ``anthropic_build``, messages ``anthropic_messages``,
tools ``anthropic_tools``, and the translator is ``anthropic_stream``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from relay.errors import RelayError
from relay.providers import anthropic_media as media_blocks
from relay.providers.anthropic_build import BETAS, Build, shape, think
from relay.providers.anthropic_content import Context
from relay.providers.anthropic_failures import http_error
from relay.providers.anthropic_messages import Messages, cache_control, cache_ttl, encoded, without_synthetic
from relay.providers.anthropic_stream import AnthropicTranslator
from relay.providers.anthropic_tools import (
    HOSTED_NAMES,
    JSON_TOOL,
    NAME,
    NAME_LIMIT,
    chosen,
    declaration,
    from_history,
    hosted_kind,
    hosted_tools,
    is_run,
    rules_of,
    schemas,
)
from relay.providers.base import (
    Count,
    Media,
    Parameter,
    Target,
    UpstreamRequest,
    Warnings,
    apply_parameters,
    drop_hosted_tools,
    warn_cache_options,
    warn_unheeded,
    wire_names,
)
from relay.providers.capabilities import capabilities
from relay.providers.capabilities.anthropic import ROWS, Effort
from relay.providers.levels import effort
from relay.providers.schema import Reduced, back, cut_ahead
from relay.providers.turns import Assist, turns
from relay.responses.emitter import Voice
from relay.responses.request import KNOWN, Request
from relay.responses.tools import JSON, Tool, key_of_call

__all__ = ["PARAMETERS", "PROVIDER", "AnthropicProvider", "AnthropicTranslator"]

VERSION: Final = "2023-06-01"
VERTEX_VERSION: Final = "vertex-2023-10-16"
# --- the parameter table

Apply = Callable[[Build, Any], None]


def _limit(build: Build, value: int) -> None:
    most = build.record["max_output"]
    if value > most:
        build.warnings.add("max_output_tokens", f"this model writes at most {most} tokens")
    build.body["max_tokens"] = min(value, most)


def _temperature(build: Build, value: float) -> None:
    if _samples(build, "temperature", value):
        if value > 1:
            build.warnings.add("temperature", "it was sent as 1, the highest value here")
        build.body["temperature"] = min(value, 1)


def _top_p(build: Build, value: float) -> None:
    if _samples(build, "top_p", value):
        if build.record["sampling"] == "one" and "temperature" in build.body:
            build.warnings.add("top_p", "this model takes it or temperature, not both")
        else:
            build.body["top_p"] = value


def _samples(build: Build, name: str, value: float) -> bool:
    if build.record["sampling"] != "none" and "sampling" not in build.repairs:
        return True
    if value != 1:
        build.warnings.add(name, "this model has no sampling parameters")
    return False


def _stop(build: Build, value: list[str]) -> None:
    kept = [text for text in value if text.strip()]
    if len(kept) < len(value):
        build.warnings.add("stop", "blank stop sequences were left out")
    if kept:
        build.body["stop_sequences"] = kept


def _unless(name: str, default: Any) -> Apply:
    """Warn where the value is not what happens anyway."""

    def apply(build: Build, value: Any) -> None:
        if value != default:
            build.warnings.add(name, "not supported by this upstream")

    return apply


def _include(build: Build, values: list[str]) -> None:
    if "message.output_text.logprobs" in values:
        build.warnings.add("include", "log probabilities are not supported by this upstream")


def _safety_identifier(build: Build, value: str) -> None:
    build.body["metadata"] = {"user_id": _anonymous(value)}


def _user(build: Build, value: str) -> None:
    if "safety_identifier" not in build.request.params:
        build.body["metadata"] = {"user_id": _anonymous(value)}


def _anonymous(value: str) -> str:
    """A name as it may be sent: addresses and what is too long go as their hash."""
    if "@" in value or len(value) > 256:
        return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    return value


def _text(build: Build, value: JSON) -> None:
    if value.get("verbosity") not in (None, "medium"):
        build.warnings.add("text.verbosity", "not supported by this upstream")


def _reasoning(build: Build, value: JSON) -> None:
    build.effort = effort(value, build.record["efforts"], build.warnings)


def _cache_options(build: Build, value: JSON) -> None:
    warn_cache_options(value, build.warnings)
    if value.get("ttl") not in (None, "5m", "30m", "1h"):
        build.warnings.add("prompt_cache_options.ttl", "it was sent as 1h, the longest life here")
    if value.get("mode") == "implicit":
        build.body["cache_control"] = cache_control(cache_ttl(value.get("ttl")))


def _cache_retention(build: Build, value: str) -> None:
    if value == "24h":
        build.warnings.add("prompt_cache_retention", "it was sent as 1h, the longest life here")
    elif value not in ("in_memory", "in-memory"):
        build.warnings.add("prompt_cache_retention", "it must be in_memory or 24h: it was read as in_memory")


def _tier(build: Build, value: str) -> None:
    if value == "ultrafast":
        message = "service_tier 'ultrafast' is not supported by this upstream."
        raise RelayError("unsupported_value", message, param="service_tier")
    if value == "fast" and build.record["speed"]:
        build.body["speed"] = "fast"
        build.betas.add(BETAS["speed"])
    elif value in _TIERS:
        build.body["service_tier"] = _TIERS[value]
    else:
        build.warnings.add("service_tier", f"'{value}' is not supported by this upstream")


_TIERS: Final = {"auto": "auto", "default": "standard_only", "priority": "auto"}


def _image(build: Build, value: JSON) -> None:
    if value.get("context_compression") == "enabled":
        build.warnings.add("image.context_compression", "not supported by this upstream")


PARAMETERS: Final[Mapping[str, Parameter]] = {
    "access_programs": Parameter("rejected"),
    "background": Parameter("ignored", "Only false: background responses are the relay's."),
    "context_management": Parameter("emulated", "Compaction, by a summary that the model writes."),
    "conversation": Parameter("rejected", "The relay keeps no conversations in this version."),
    "frequency_penalty": Parameter("ignored", "Warned about unless 0.", _unless("frequency_penalty", 0)),
    "generate": Parameter("ignored"),
    "image": Parameter("ignored", "context_compression 'enabled' is warned about.", _image),
    "include": Parameter("mapped", "Sources and outputs of hosted tools; no log probabilities.", _include),
    "instructions": Parameter("mapped", "The first block of system."),
    "logit_bias": Parameter("warned"),
    "max_output_tokens": Parameter("mapped", "max_tokens; the model's limit where it is not given.", _limit),
    "max_tool_calls": Parameter("mapped", "max_uses of web search."),
    "metadata": Parameter("emulated", "Kept and echoed, never sent."),
    "moderation": Parameter("rejected"),
    "n": Parameter("emulated", "As many upstream calls side by side."),
    "parallel_tool_calls": Parameter("mapped", "tool_choice.disable_parallel_tool_use."),
    "presence_penalty": Parameter("ignored", "Warned about unless 0.", _unless("presence_penalty", 0)),
    "previous_response_id": Parameter("emulated"),
    "prompt": Parameter("emulated", "From the configuration's [prompts]."),
    "prompt_cache_key": Parameter("ignored"),
    "prompt_cache_options": Parameter("mapped", "cache_control; lives of 5 minutes and 1 hour.", _cache_options),
    "prompt_cache_retention": Parameter("mapped", "The life of cache marks.", _cache_retention),
    "reasoning": Parameter("mapped", "thinking and output_config.effort, by model.", _reasoning),
    "safety_identifier": Parameter("mapped", "metadata.user_id; addresses are hashed.", _safety_identifier),
    "seed": Parameter("warned"),
    "service_tier": Parameter("mapped", "service_tier, speed.", _tier),
    "stop": Parameter("mapped", "stop_sequences.", _stop),
    "store": Parameter("emulated", "Never sent."),
    "stream": Parameter("emulated", "The upstream always streams."),
    "stream_options": Parameter("emulated"),
    "temperature": Parameter("mapped", "Up to 1, on models that have it.", _temperature),
    "text": Parameter("mapped", "output_config.format, else a forced tool, else words; no verbosity.", _text),
    "tool_choice": Parameter("mapped"),
    "tools": Parameter("mapped", "Functions, web search, code interpreter, MCP; others are emulated as functions."),
    "top_logprobs": Parameter("ignored", "Warned about unless 0.", _unless("top_logprobs", 0)),
    "top_p": Parameter("mapped", "On models that have it.", _top_p),
    "truncation": Parameter("emulated", "auto: the oldest turns are left out when the input is too long."),
    "user": Parameter("mapped", "metadata.user_id; addresses are hashed.", _user),
}

_OURS: Final = KNOWN | {
    "anthropic_version",
    "cache_control",
    "container",
    "mcp_servers",
    "output_config",
    "speed",
    "stop_sequences",
    "system",
    "thinking",
}
"""Names that cannot be forwarded: we map them ourselves."""

_NEVER: Final = frozenset({"messages", "stream"})
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


def _assemble(
    request: Request, target: Target, media: Mapping[str, Media], repairs: frozenset[str]
) -> tuple[Build, Messages, dict[str, Tool]]:
    warnings = Warnings(request)
    build = Build(request, target, _record(target), warnings, repairs)
    warn_unheeded(request, warnings, (*build.record["forward"], *target.forward))
    drop_hosted_tools(request, warnings, is_run)
    apply_parameters(PARAMETERS, request, build, warnings, target.upstream)
    cut = schemas(request.tools, warnings)
    messages, names = _messages(build, media, cut)
    tools = _tools(build, names, messages, cut)
    think(build, bool(messages.calls))
    shape(build)
    _system(build, messages)
    _extras(build)
    _replay_betas(build, messages.kinds)
    return build, messages, tools


def _messages(build: Build, media: Mapping[str, Media], cut: Mapping[str, Reduced]) -> tuple[Messages, dict[str, str]]:
    request = build.request
    groups = turns(without_synthetic(request.items), request, build.warnings)
    keys = [tool.key for tool in request.tools.tools]
    keys += [key_of_call(call) for group in groups if isinstance(group, Assist) for call in group.calls]
    reserved = [HOSTED_NAMES.get(hosted_kind(tool["type"]) or "", JSON_TOOL) for _, tool in request.tools.hosted]
    names = wire_names(keys, NAME, NAME_LIMIT, (JSON_TOOL, *reserved))
    if "thinking" in build.repairs:
        build.warnings.add("input", "the upstream did not accept the thinking of earlier turns: it was left out")
    reasoning = request.params.get("reasoning") or {}
    messages = Messages(
        names,
        media,
        build.warnings,
        model=build.target.model,
        renamed={key: schema.names for key, schema in cut.items()},
        native_system=build.record["mid_system"] == "native" and "mid_system" not in build.repairs,
        keep_thoughts="thinking" not in build.repairs and not _thought_off(build),
        ttl=_ttl(request.params),
    )
    messages.items = request.items
    messages.render(groups, [], forget_before=reasoning.get("context") == "current_turn")
    return messages, names


def _replay_betas(build: Build, kinds: set[str]) -> None:
    """What the history's blocks need. Where the operator's ``extra_body`` asks for such blocks, so do his headers."""
    body = build.body
    if "mcp_servers" in body or any(kind.startswith("mcp_") for kind in kinds):
        build.betas.add(BETAS["mcp"])
    if "compaction" in kinds and not body.keys() & {"context_management", "compaction"}:
        build.betas.add(BETAS["compaction"])
    if "fallback" in kinds and "fallbacks" not in body:
        build.betas.add(BETAS["fallback"])


def _thought_off(build: Build) -> bool:
    """Whether a model that only thinks when asked was asked not to."""
    return build.effort == "none" and isinstance(Effort(*build.record["efforts"]["high"]).thinking, int)


def _ttl(params: JSON) -> str | None:
    options = params.get("prompt_cache_options") or {}
    return cache_ttl(options.get("ttl") or ("24h" if params.get("prompt_cache_retention") == "24h" else None))


def _tools(build: Build, names: Mapping[str, str], messages: Messages, cut: Mapping[str, Reduced]) -> dict[str, Tool]:
    """Declare the tools and the choice; the tools by wire name."""
    request, body, warnings = build.request, build.body, build.warnings
    choice = request.tools.choice
    hosted = hosted_tools(request.tools.hosted, warnings, request.params.get("max_tool_calls"))
    offered = [tool for tool in request.tools.tools if choice.mode != "allowed" or tool.key in choice.keys]
    declared = list(hosted.tools)
    for tool in offered:
        schema = cut[tool.key].schema if tool.key in cut else None
        if schema is not None:
            declared.append(declaration(tool, names[tool.key], schema, warnings))
    if hosted.servers:
        body["mcp_servers"] = hosted.servers
    if hosted.container is not None:
        body["container"] = hosted.container
    if declared:
        forced = build.record["forced_tool_choice"] and "tool_choice" not in build.repairs
        said, nudge = chosen(choice, names, forced=forced, warnings=warnings)
        if nudge is not None:
            build.system.append(nudge)
        if request.params.get("parallel_tool_calls") is False and (said or {}).get("type") != "none":
            said = {**(said or {"type": "auto"}), "disable_parallel_tool_use": True}
        if said is not None:
            body["tool_choice"] = said
    elif messages.calls:
        declared, body["tool_choice"] = from_history(messages.calls), {"type": "none"}
    if declared:
        body["tools"] = declared
    return {
        names[tool.key]: replace(tool, renamed=back(cut[tool.key].names)) if tool.key in cut else tool
        for tool in request.tools.tools
    }


def _system(build: Build, messages: Messages) -> None:
    instructions = build.request.params.get("instructions")
    texts = [text for text in (instructions,) if text and text.strip()]
    first = [{"type": "text", "text": text} for text in texts]
    blocks = [*first, *messages.system, *({"type": "text", "text": text} for text in build.system)]
    if blocks:
        build.body["system"] = blocks


def _extras(build: Build) -> None:
    """What the operator lets through and adds (decision 13)."""
    body, target, record = build.body, build.target, build.record
    for name in dict.fromkeys((*record["forward"], *target.forward)):
        value = build.request.body.get(name)
        if value is not None and name not in _OURS:
            body.setdefault(name, value)
    for name, value in {**record["extra_body"], **target.extra_body}.items():
        if name in _NEVER:
            continue
        ours = body.get(name)
        if isinstance(ours, dict) and isinstance(value, dict) and name != "tool_choice":
            body[name] = {**value, **ours}
        else:
            body.setdefault(name, value)


def _sent(build: Build, body: JSON, messages: list[bytes]) -> bytes:
    """The body with ``messages`` last, so that a further message can be put behind them."""
    if build.record["vertex"]:
        body = {"anthropic_version": VERTEX_VERSION, **{name: body[name] for name in body if name != "model"}}
    return encoded(body)[:-1] + b',"messages":[' + b",".join(messages) + b"]}"


def _headers(build: Build) -> tuple[tuple[str, str], ...]:
    betas = (("anthropic-beta", ",".join(sorted(build.betas))),) if build.betas else ()
    return betas if build.record["vertex"] else (("anthropic-version", VERSION), *betas)


def _path(build: Build, path: str) -> str:
    """``path`` behind ``/v1``, unless the address ends in a version itself."""
    return path if re.search(r"/v\d[a-z0-9]*/*$", build.target.base_url) else f"/v1{path}"


def _build(request: Request, target: Target, media: Mapping[str, Media], repairs: frozenset[str]) -> UpstreamRequest:
    build, messages, tools = _assemble(request, target, media, repairs)
    said = messages.encoded
    include = request.params.get("include") or []
    body = build.body
    context = Context(
        model=target.model,
        json_tool=JSON_TOOL if any(tool.get("name") == JSON_TOOL for tool in body.get("tools", ())) else None,
        schema=build.schema,
        limit_tokens=body["max_tokens"],
        sources="web_search_call.action.sources" in include or "web_search_call.results" in include,
        outputs="code_interpreter_call.outputs" in include,
        paths=messages.paths,
    )
    return UpstreamRequest(
        f"/models/{target.model}:streamRawPredict" if build.record["vertex"] else _path(build, "/messages"),
        _sent(build, {**body, "stream": True}, said),
        headers=_headers(build),
        tools=tools,
        warnings=tuple(build.warnings.entries),
        transformations=tuple(messages.transformations),
        context=context,
    )


_COUNTED: Final = frozenset(
    {"cache_control", "mcp_servers", "model", "output_config", "speed", "system", "thinking", "tool_choice", "tools"}
)
"""What the counting call takes."""


# --- the provider


class AnthropicProvider:
    """Anthropic Messages."""

    name: Final = "anthropic"
    native: Final = False
    parameters: Final = PARAMETERS

    def media_needed(self, request: Request, target: Target) -> list[str]:
        """What the upstream cannot fetch: plain http, and files by URL that are no PDF."""
        return media_blocks.needed(request)

    def cut_schemas(self, request: Request, target: Target) -> Iterator[None]:
        """Cut the schemas of tools, one with each step."""
        return cut_ahead(request.tools, rules_of)

    def build(
        self, request: Request, target: Target, media: Mapping[str, Media], repairs: frozenset[str]
    ) -> UpstreamRequest:
        """The upstream call. Raises: RelayError naming the parameter that cannot be said."""
        return _build(request, target, media, repairs)

    def count(self, request: Request, target: Target, media: Mapping[str, Media]) -> Count | None:
        """The call that counts tokens; Google's addresses have none of this form."""
        build, messages, _ = _assemble(request, target, media, frozenset())
        if build.record["vertex"]:
            return None
        body = {name: value for name, value in build.body.items() if name in _COUNTED}
        call = UpstreamRequest(
            _path(build, "/messages/count_tokens"),
            _sent(build, body, messages.encoded),
            headers=_headers(build),
            stream=False,
            warnings=tuple(build.warnings.entries),
        )
        return Count(call, _tokens)

    def translator(self, upstream_request: UpstreamRequest, voice: Voice) -> AnthropicTranslator:
        """A translator for the answer."""
        return AnthropicTranslator(voice, upstream_request)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> RelayError:
        """An error answer as ours; ``repair`` names what ``build`` could leave out."""
        return http_error(status, headers, body)


def _tokens(answer: JSON) -> int | None:
    count = answer.get("input_tokens")
    return count if isinstance(count, int) else None


PROVIDER: Final = AnthropicProvider()
