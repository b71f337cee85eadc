"""The dialect ``responses``: an upstream that speaks the Responses API itself.

Source: translation.md §1 and §2 (column D), §3.6; decisions 3, 18, 20, 21. The client's body passes but for what the
relay owns (the model's name, the state) and what a row of ``providers.capabilities.openai`` says of the server. The
translator is ``providers.openai_stream``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import orjson

from relay.errors import RelayError
from relay.providers.base import Count, Media, Parameter, Target, UpstreamRequest, Warnings, apply_parameters
from relay.providers.capabilities import capabilities
from relay.providers.capabilities.openai import ROWS
from relay.providers.openai_failures import SEALED, http_error
from relay.providers.openai_response import Context
from relay.providers.openai_stream import ResponsesTranslator
from relay.responses.emitter import Voice
from relay.responses.envelope import unseal
from relay.responses.json import encoded, exact
from relay.responses.request import KNOWN, Request
from relay.responses.request import PARAMETERS as NAMES
from relay.responses.response import echoes
from relay.responses.tools import JSON

__all__ = ["PARAMETERS", "PROVIDER", "ResponsesProvider", "ResponsesTranslator"]

_ENCRYPTED: Final = "reasoning.encrypted_content"


class _Build:
    """One request being built: ``body`` is what is sent."""

    __slots__ = ("body", "record", "repairs", "request", "target", "warnings")

    def __init__(
        self, request: Request, target: Target, record: Mapping[str, Any], warnings: Warnings, repairs: frozenset[str]
    ) -> None:
        self.request = request
        self.target = target
        self.record = record
        self.warnings = warnings
        self.repairs = repairs
        self.body: JSON = {"model": target.model}

    def put(self, name: str, value: Any) -> None:
        """Set a parameter, unless the record leaves it out."""
        if name in self.record["drops"]:
            self.warnings.add(name, "not supported by this upstream")
        elif name not in self.record["strips"]:
            self.body[name] = value


# --- the parameter table

Apply = Callable[[_Build, Any], None]


def _same(name: str) -> Apply:
    def apply(build: _Build, value: Any) -> None:
        build.put(name, value)

    return apply


def _state(name: str) -> Apply:
    """A parameter of an upstream that keeps its responses; the app acts on it for the others."""

    def apply(build: _Build, value: Any) -> None:
        if build.target.holds_state:
            build.body[name] = value

    return apply


def _previous(build: _Build, value: str) -> None:
    if build.target.holds_state and not build.request.resolved:
        build.body["previous_response_id"] = value


def _chat_style(name: str) -> Apply:
    def apply(build: _Build, value: Any) -> None:
        if name in build.record["takes"]:
            build.body[name] = value
        elif value:
            build.warnings.add(name, "not supported by this upstream")

    return apply


def _openai_only(name: str) -> Apply:
    def apply(build: _Build, value: Any) -> None:
        if not build.record["openai"]:
            message = f"'{name}' is not supported by the upstream '{build.target.upstream}'."
            raise RelayError("unsupported_parameter", message, param=name)
        build.put(name, value)

    return apply


def _image(build: _Build, value: JSON) -> None:
    if build.record["openai"]:
        build.put("image", value)
    elif value.get("context_compression") == "enabled":
        build.warnings.add("image.context_compression", "not supported by this upstream")


def _one(build: _Build, value: int) -> None:
    if value > 1:
        message = "A native Responses upstream gives one answer: 'n' must be 1."
        raise RelayError("unsupported_value", message, param="n")


def _nothing(build: _Build, value: Any) -> None:
    """Not for the upstream."""


def _reasoning(build: _Build, value: JSON) -> None:
    level = value.get("effort")
    if isinstance(level, str) and level in build.record["efforts"]:
        value = {**value, "effort": build.record["efforts"][level]}
    build.put("reasoning", value)


def _truncation(build: _Build, value: Any) -> None:
    if value not in ("auto", "disabled") and not build.target.holds_state:
        message = "truncation must be one of auto, disabled where the relay keeps responses."
        raise RelayError("invalid_value", message, param="truncation")
    build.put("truncation", value)


def _tools(build: _Build, value: list[Any]) -> None:
    if value:
        build.put("tools", [_tool(build, tool) for tool in value])


def _tool(build: _Build, tool: Any) -> Any:
    if not isinstance(tool, dict):
        return tool
    for prefix, members in build.record["tool_strips"].items():
        if str(tool.get("type")).startswith(prefix) and any(name in tool for name in members):
            tool = {name: value for name, value in tool.items() if name not in members}
    return tool


_ROWS: Final[dict[str, Parameter]] = {
    "background": Parameter("mapped", "only where the upstream keeps responses", _state("background")),
    "conversation": Parameter("mapped", "only where the upstream keeps responses", _state("conversation")),
    "previous_response_id": Parameter("mapped", "passes where the upstream keeps responses", _previous),
    "store": Parameter("mapped", "false where the relay keeps responses", _state("store")),
    "prompt": Parameter("emulated", "[prompts] of the configuration; others pass to OpenAI", _state("prompt")),
    "generate": Parameter("emulated", "warm-ups are local", _nothing),
    "stream_options": Parameter("mapped", "", _same("stream_options")),
    "n": Parameter("mapped", "1 only", _one),
    **{
        name: Parameter("mapped", "where the upstream takes it, else a warning", _chat_style(name))
        for name in ("stop", "seed", "logit_bias", "presence_penalty", "frequency_penalty")
    },
    **{
        name: Parameter("mapped", "OpenAI only, else 400", _openai_only(name))
        for name in ("moderation", "access_programs")
    },
    "image": Parameter("mapped", "OpenAI only, else a warning", _image),
    "reasoning": Parameter("mapped", "levels as the upstream knows them", _reasoning),
    "tools": Parameter("mapped", "hosted tools pass", _tools),
    "tool_choice": Parameter("mapped", "", _same("tool_choice")),
    "truncation": Parameter("mapped", "auto, disabled; others where the upstream keeps responses", _truncation),
}

PARAMETERS: Final[dict[str, Parameter]] = {
    name: _ROWS.get(name) or Parameter("mapped", "passes", _same(name)) for name in NAMES
}


# --- build


def _body(build: _Build) -> tuple[JSON, list[JSON]]:
    """The body, and the transformations of its input."""
    request, target, record = build.request, build.target, build.record
    for name, value in request.body.items():
        # unknown fields pass, in strict mode too: the upstream may know them
        if name not in KNOWN and value is not None:
            build.put(name, value)
    if request.body.get("client_metadata") is not None:
        build.put("client_metadata", request.body["client_metadata"])
    apply_parameters(PARAMETERS, request, build, build.warnings, target.upstream)
    body = build.body
    sent, transformations = _input(request, record, build.repairs)
    if sent is not None:
        body["input"] = sent
    if not target.holds_state:
        body["store"] = False
        _ask_for_reasoning(build)
    if request.stream and record["obfuscation"]:
        options = request.params.get("stream_options") or {}
        if options.get("include_obfuscation") is None and "stream_options" not in build.repairs:
            body["stream_options"] = {**options, "include_obfuscation": False}
    for name in target.forward:
        if request.body.get(name) is not None:
            body[name] = request.body[name]
    body.update(target.extra_body)
    return body, transformations


def _ask_for_reasoning(build: _Build) -> None:
    """Whoever keeps no state must carry the reasoning."""
    if not build.record["encrypted_reasoning"] or "encrypted_content" in build.repairs:
        return
    include = build.body.get("include", [])
    if _ENCRYPTED not in include:
        build.body["include"] = [*include, _ENCRYPTED]


def _input(request: Request, record: Mapping[str, Any], repairs: frozenset[str]) -> tuple[Any, list[JSON]]:
    """``input``: as the client sent it where the relay has nothing to say, else its items, each with its type: some
    servers refuse the short form of a message (https://github.com/ggml-org/llama.cpp, ``server-chat.cpp``).
    """
    transformations: list[JSON] = []
    items: list[JSON] = []
    altered = request.retold
    strips = record["item_strips"]
    unopened = {id(item) for item in _unopened(request.items)} if SEALED in repairs else frozenset()
    behind = False
    spoken = request.body.get("messages") is not None
    for item in request.items:
        kind = item["type"]
        if spoken and record["openai"] and kind == "reasoning":
            continue  # a chat's, in words: OpenAI takes back only what it has sealed or kept
        foreign = kind == "reasoning" and unseal(item.get("encrypted_content")) is not None
        refused = id(item) in unopened
        if foreign or refused:
            reason = "model_mismatch" if foreign else "organization_mismatch"
            entry = {"id": item.get("id"), "type": "reasoning", "action": "removed", "reason": reason}
            transformations.append(entry)
            altered = True
            behind = behind or refused
            continue
        behind = behind and not (kind == "message" and item.get("role") != "assistant")
        if behind and "id" in item and kind not in _NAMED:
            item = {name: value for name, value in item.items() if name != "id"}
        members = strips.get(kind, ())
        if any(name in item for name in members):
            item = {name: value for name, value in item.items() if name not in members}
            altered = True
        items.append(item)
    given = request.body.get("input")
    as_sent = given is not None and not altered and (request.items is request.own or request.items == request.own)
    if as_sent and (record["openai"] or isinstance(given, str)):
        return given, transformations
    return (items if items or given is not None else None), transformations


_NAMED: Final = ("item_reference", "compaction", "mcp_approval_request")
"""Items whose id others point to, or that is bound to what they seal."""


def _unopened(items: list[JSON]) -> list[JSON]:
    """The sealed reasoning; all of it where nothing is sealed: a summary alone may be refused (Wei-Shaw/sub2api#3138).

    Empty where only something else is sealed, which cannot be left out (decision 60).
    """
    reasoning = [item for item in items if item["type"] == "reasoning"]
    sealed = [item for item in reasoning if item.get("encrypted_content")]
    if sealed or any(b"encrypted_content" in encoded(item) for item in items if item["type"] != "reasoning"):
        return sealed
    return reasoning


def _record(target: Target) -> dict[str, Any]:
    return capabilities(
        ROWS, model=target.model, base_url=target.base_url, quirks=target.quirks, overrides=target.capabilities
    )


_COUNTED: Final = frozenset(
    {
        "conversation",
        "input",
        "instructions",
        "model",
        "parallel_tool_calls",
        "previous_response_id",
        "reasoning",
        "text",
        "tool_choice",
        "tools",
        "truncation",
    }
)
"""Parameters of the endpoint that counts (responses-api.md §1.7); those that no other has pass too."""


def _tokens(answer: JSON) -> int | None:
    count = answer.get("input_tokens")
    return count if isinstance(count, int) else None


class ResponsesProvider:
    """Native Responses upstreams."""

    name: Final = "responses"
    native: Final = True
    parameters: Final = PARAMETERS

    def media_needed(self, request: Request, target: Target) -> list[str]:
        """None: the upstream fetches what it is pointed at."""
        return []

    def cut_schemas(self, request: Request, target: Target) -> Iterator[None]:
        """Cut the schemas of tools, one with each step."""
        return iter(())

    def build(
        self, request: Request, target: Target, media: Mapping[str, Media], repairs: frozenset[str]
    ) -> UpstreamRequest:
        """The upstream call; it streams if the client does (decision 18). Raises: RelayError naming the parameter."""
        record = _record(target)
        warnings = Warnings(request)
        body, transformations = _body(_Build(request, target, record, warnings, repairs))
        return UpstreamRequest(
            "/responses",
            exact(encoded(body)),
            stream=request.stream,
            warnings=tuple(warnings.entries),
            transformations=tuple(transformations),
            context=Context(
                target.holds_state,
                echoes(request),
                background=target.holds_state and request.params.get("background") is True,
            ),
        )

    def count(self, request: Request, target: Target, media: Mapping[str, Media]) -> Count | None:
        """``/responses/input_tokens``, where the upstream is known to have it."""
        if not _record(target)["openai"]:
            return None
        call = self.build(request, target, media, frozenset())
        sent = orjson.loads(call.body)
        body = {name: value for name, value in sent.items() if name in _COUNTED or name not in NAMES}
        return Count(UpstreamRequest("/responses/input_tokens", encoded(body), stream=False), _tokens)

    def translator(self, upstream_request: UpstreamRequest, voice: Voice) -> ResponsesTranslator:
        """A translator for the answer."""
        return ResponsesTranslator(upstream_request.context, voice)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> RelayError:
        """An error answer as ours."""
        return http_error(status, headers, body)


PROVIDER: Final = ResponsesProvider()
