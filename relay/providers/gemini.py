"""The dialect ``gemini``: Google's generateContent, on the developer API and on Vertex.

Source: translation.md §1, §2 (column C); decisions 9–14, 18, 19, 22, 25. What models differ in is a row of
``providers.capabilities.gemini``; tools are offered by ``gemini_tools``, items become contents in
``gemini_contents``; the translator is ``gemini_stream``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

import orjson

from relay.errors import RelayError
from relay.providers.base import (
    Count,
    Media,
    Parameter,
    Target,
    UpstreamRequest,
    Warnings,
    apply_parameters,
    media_urls,
    warn_cache_options,
    warn_unheeded,
    wire_names,
)
from relay.providers.capabilities import capabilities
from relay.providers.capabilities.gemini import ROWS
from relay.providers.gemini_contents import Contents
from relay.providers.gemini_failures import LOGPROBS, http_error
from relay.providers.gemini_stream import Context, GeminiTranslator
from relay.providers.gemini_tools import Build, offer_functions, offer_hosted, put_tools, reduced_format
from relay.providers.levels import effort
from relay.providers.schema import GEMINI_TOOL, cut_ahead
from relay.providers.turns import Assist
from relay.responses.emitter import Voice
from relay.responses.json import encoded, exact
from relay.responses.request import KNOWN, Request
from relay.responses.tools import JSON, key_of_call

__all__ = ["PARAMETERS", "PROVIDER", "GeminiProvider", "GeminiTranslator"]

STOPS_LIMIT: Final = 5


# --- the parameter table

Apply = Callable[[Build, Any], None]


def _same(field: str) -> Apply:
    def apply(build: Build, value: Any) -> None:
        build.config[field] = value

    return apply


def _sampling(name: str, field: str) -> Apply:
    def apply(build: Build, value: float) -> None:
        if build.record["sampling"] == "full":
            build.config[field] = value
        elif value != 1:
            build.warnings.add(name, "this model ignores sampling parameters")

    return apply


def _penalty(name: str, field: str) -> Apply:
    def apply(build: Build, value: float) -> None:
        if build.record["penalties"]:
            build.config[field] = value
        elif value:
            build.warnings.add(name, "not supported by this model")

    return apply


def _seed(build: Build, value: int) -> None:
    build.config["seed"] = value % 2**31  # an int32 upstream; the same seed stays the same


def _stop(build: Build, value: list[str]) -> None:
    if len(value) > STOPS_LIMIT:
        build.warnings.add("stop", f"only the first {STOPS_LIMIT} stop sequences were sent")
    build.config["stopSequences"] = value[:STOPS_LIMIT]


def _top_logprobs(build: Build, value: int) -> None:
    if value and _ask_logprobs(build, "top_logprobs"):
        build.config["logprobs"] = value


def _include(build: Build, values: list[str]) -> None:
    if "message.output_text.logprobs" in values:
        _ask_logprobs(build, "include")


def _ask_logprobs(build: Build, param: str) -> bool:
    if LOGPROBS in build.repairs:
        build.warnings.add(param, "log probabilities are not supported by this model")
        return False
    build.config["responseLogprobs"] = True
    return True


def _parallel(build: Build, value: bool) -> None:
    if not value and build.request.tools.tools:
        build.warnings.add("parallel_tool_calls", "not supported by this upstream")


def _max_tool_calls(build: Build, value: int) -> None:
    if build.hosted:
        build.warnings.add("max_tool_calls", "not supported by this upstream")


def _reasoning(build: Build, value: JSON) -> None:
    thinking: JSON = {}
    level = effort(value, build.record["efforts"], build.warnings)
    if level is not None:
        field, sent, warned = build.record["efforts"][level]
        if warned:
            reason = f"effort '{level}' was sent as '{sent}'" if field else "this model's effort cannot be set"
            build.warnings.add("reasoning.effort", reason)
        if field is not None:
            thinking[field] = sent
    if build.request.show_summary:
        thinking["includeThoughts"] = True
    if thinking:
        build.config["thinkingConfig"] = thinking


def _text(build: Build, value: JSON) -> None:
    if value.get("verbosity") not in (None, "medium"):
        build.warnings.add("text.verbosity", "not supported by this upstream")
    form = build.request.format
    if form is None:
        return
    if (build.functions or build.hosted) and not build.record["json_with_tools"]:
        build.warnings.add("text.format", "this model does not combine it with tools: the format is asked for in words")
        build.system.append(_format_in_words(form))
        return
    build.config["responseMimeType"] = "application/json"
    if form["type"] == "json_schema":
        cut = reduced_format(build, form["schema"])
        if cut.schema != form["schema"]:
            build.schema = form["schema"]
            if form.get("strict"):
                build.warnings.add("text.format", "the schema was reduced to what this upstream enforces")
        build.config["responseJsonSchema"] = cut.schema


def _format_in_words(form: JSON) -> str:
    if form["type"] == "json_object":
        return "Answer with one JSON object and nothing else."
    schema = encoded(form["schema"]).decode()
    return f"Answer with one JSON object that matches this JSON schema, and nothing else:\n{schema}"


def _cache_options(build: Build, value: JSON) -> None:
    warn_cache_options(value, build.warnings)


TIERS: Final[Mapping[str, str | None]] = {
    "auto": "",
    "default": "standard",
    "flex": "flex",
    "priority": "priority",
    "fast": "priority",
    "scale": None,
}
"""``service_tier`` -> Gemini's; empty: nothing is sent; None: a warning."""


def _service_tier(build: Build, value: str) -> None:
    if value == "ultrafast":
        message = "service_tier 'ultrafast' is not supported by this upstream."
        raise RelayError("unsupported_value", message, param="service_tier")
    sent = TIERS.get(value)
    if sent is None:
        build.warnings.add("service_tier", f"'{value}' is not supported by this upstream")
    elif sent:
        build.body["serviceTier"] = sent


def _image(build: Build, value: JSON) -> None:
    if value.get("context_compression") == "enabled":
        build.warnings.add("image.context_compression", "not supported by this upstream")


PARAMETERS: Final[Mapping[str, Parameter]] = {
    "access_programs": Parameter("rejected"),
    "background": Parameter("ignored", "Only false: background responses are the relay's."),
    "context_management": Parameter("emulated", "Compaction, by a summary that the model writes."),
    "conversation": Parameter("rejected", "The relay keeps no conversations in this version."),
    "frequency_penalty": Parameter(
        "mapped", "frequencyPenalty, by model.", _penalty("frequency_penalty", "frequencyPenalty")
    ),
    "generate": Parameter("ignored"),
    "image": Parameter("ignored", "context_compression 'enabled' is warned about.", _image),
    "include": Parameter(
        "mapped",
        "Log probabilities, sources, code outputs; encrypted reasoning is always there.",
        _include,
    ),
    "instructions": Parameter("mapped", "systemInstruction."),
    "logit_bias": Parameter("warned"),
    "max_output_tokens": Parameter("mapped", "maxOutputTokens.", _same("maxOutputTokens")),
    "max_tool_calls": Parameter("ignored", "Warned about where the upstream runs tools.", _max_tool_calls),
    "metadata": Parameter("emulated", "Kept and echoed, never sent."),
    "moderation": Parameter("rejected"),
    "n": Parameter("emulated", "As many upstream calls side by side."),
    "parallel_tool_calls": Parameter("ignored", "false is warned about: there is no such switch.", _parallel),
    "presence_penalty": Parameter(
        "mapped", "presencePenalty, by model.", _penalty("presence_penalty", "presencePenalty")
    ),
    "previous_response_id": Parameter("emulated"),
    "prompt": Parameter("emulated", "From the configuration's [prompts]."),
    "prompt_cache_key": Parameter("ignored"),
    "prompt_cache_options": Parameter("ignored", "prewarm is warned about.", _cache_options),
    "prompt_cache_retention": Parameter("ignored"),
    "reasoning": Parameter("mapped", "thinkingLevel or thinkingBudget by model; summary: includeThoughts.", _reasoning),
    "safety_identifier": Parameter("ignored"),
    "seed": Parameter("mapped", "", _seed),
    "service_tier": Parameter("mapped", "serviceTier.", _service_tier),
    "stop": Parameter("mapped", "stopSequences, at most five.", _stop),
    "store": Parameter("emulated", "Never sent."),
    "stream": Parameter("emulated", "The upstream always streams."),
    "stream_options": Parameter("emulated"),
    "temperature": Parameter("mapped", "By model.", _sampling("temperature", "temperature")),
    "text": Parameter("mapped", "responseMimeType, responseJsonSchema.", _text),
    "tool_choice": Parameter("mapped", "toolConfig."),
    "tools": Parameter(
        "mapped",
        "Functions; custom, shell, patch and client search tools are emulated as functions; "
        "web_search is googleSearch, code_interpreter is codeExecution.",
    ),
    "top_logprobs": Parameter("mapped", "responseLogprobs, logprobs.", _top_logprobs),
    "top_p": Parameter("mapped", "topP, by model.", _sampling("top_p", "topP")),
    "truncation": Parameter("emulated", "auto: the oldest turns are left out when the input is too long."),
    "user": Parameter("ignored"),
}

_OURS: Final = KNOWN | {"contents", "generationConfig", "systemInstruction", "toolConfig", "continuationToken"}
"""Names that cannot be forwarded."""

_IN_CONFIG: Final = {"top_k": "topK", "topK": "topK"}
"""Names that belong into ``generationConfig`` where they are forwarded."""


# --- build


def _record(target: Target) -> dict[str, Any]:
    return capabilities(
        ROWS, model=target.model, base_url=target.base_url, quirks=target.quirks, overrides=target.capabilities
    )


_SILENT: Final = frozenset({"functionDeclarations", "codeExecution"})
"""Tools of which no citations come."""

_VERSIONED: Final = re.compile(r"/v\d[a-z0-9]*$")
_PUBLISHER: Final = "/publishers/google"


def path_of(target: Target, verb: str) -> str:
    """The path of a model's method behind ``base_url``; an address that already ends in a version keeps it."""
    base = target.base_url.rstrip("/")
    kind, model = "models", target.model
    for prefix in ("models", "tunedModels"):
        if model.startswith(prefix + "/"):
            kind, model = prefix, model[len(prefix) + 1 :]
    if base.endswith(_PUBLISHER):
        before = ""
    elif "aiplatform.googleapis.com" in base:
        before = _PUBLISHER if "/v" in base else f"/v1{_PUBLISHER}"
    else:
        before = "" if _VERSIONED.search(base) else "/v1beta"
    return f"{before}/{kind}/{quote(model, safe='')}:{verb}"


def _extras(build: Build, target: Target) -> None:
    """What the operator lets through and adds (decision 13)."""
    for name in dict.fromkeys(target.forward):
        value = build.request.body.get(name)
        if value is not None and name in _IN_CONFIG:
            build.config.setdefault(_IN_CONFIG[name], value)
        elif value is not None and name not in _OURS:
            build.body.setdefault(name, value)
    for name, value in target.extra_body.items():
        ours = build.body.get(name)
        if isinstance(ours, dict) and isinstance(value, dict):
            build.body[name] = {**value, **ours}
        elif name != "contents":
            build.body.setdefault(name, value)


def _build(request: Request, target: Target, media: Mapping[str, Media], repairs: frozenset[str]) -> UpstreamRequest:
    warnings = Warnings(request)
    record = _record(target)
    warn_unheeded(request, warnings, target.forward)
    build = Build(request, record, warnings, repairs)
    contents = Contents(record, media, warnings, repairs)
    groups = contents.read(request, target.model)
    keys = [tool.key for tool in request.tools.tools]
    keys += [key_of_call(call) for group in groups if isinstance(group, Assist) for call in group.calls]
    names = wire_names(keys, record["tool_name"], record["tool_name_limit"])
    offer_hosted(build)
    tools = offer_functions(build, names)
    apply_parameters(PARAMETERS, request, build, warnings, target.upstream)
    put_tools(build, names)
    reasoning = request.params.get("reasoning") or {}
    contents.render(groups, names, forget_before=reasoning.get("context") == "current_turn")
    instructions = request.params.get("instructions")
    system = [text for text in (instructions, *build.system, *contents.system) if text]
    build.body["contents"] = contents.contents
    if system:
        build.body["systemInstruction"] = {"parts": [{"text": text} for text in system]}
    if build.config:
        build.body["generationConfig"] = build.config
    _extras(build, target)
    context = Context(
        model=target.model,
        searches=any(set(tool) - _SILENT for tool in build.body.get("tools", ())),
        logprobs=bool(build.config.get("responseLogprobs")),
        include=frozenset(request.params.get("include") or ()),
        limit_tokens=request.params.get("max_output_tokens"),
        schema=build.schema,
    )
    return UpstreamRequest(
        path_of(target, "streamGenerateContent?alt=sse"),
        exact(encoded(build.body)),
        tools=tools,
        warnings=tuple(warnings.entries),
        transformations=tuple(contents.transformations),
        context=context,
    )


# --- the provider


class GeminiProvider:
    """Gemini generateContent."""

    name: Final = "gemini"
    native: Final = False
    parameters: Final = PARAMETERS

    def media_needed(self, request: Request, target: Target) -> list[str]:
        """Every image and file by URL: this upstream fetches nothing itself."""
        return media_urls(request, {"input_image": "image_url", "input_file": "file_url", "input_audio": "audio_url"})

    def cut_schemas(self, request: Request, target: Target) -> Iterator[None]:
        """Cut the schemas of tools, one with each step."""
        return cut_ahead(request.tools, lambda tool: (GEMINI_TOOL,))

    def build(
        self, request: Request, target: Target, media: Mapping[str, Media], repairs: frozenset[str]
    ) -> UpstreamRequest:
        """The upstream call. Raises: RelayError naming the parameter that cannot be said."""
        return _build(request, target, media, repairs)

    def count(self, request: Request, target: Target, media: Mapping[str, Media]) -> Count | None:
        """``:countTokens`` over the same contents, system instruction and tools."""
        built = orjson.loads(_build(request, target, media, frozenset()).body)
        asked = {name: built[name] for name in ("contents", "systemInstruction", "tools") if name in built}
        if _record(target)["call_ids"]:  # the developer API takes a whole request, Vertex its members
            model = target.model if "/" in target.model else f"models/{target.model}"
            asked = {"generateContentRequest": {"model": model, **asked}}
        return Count(UpstreamRequest(path_of(target, "countTokens"), orjson.dumps(asked), stream=False), _tokens)

    def translator(self, upstream_request: UpstreamRequest, voice: Voice) -> GeminiTranslator:
        """A translator for the answer."""
        return GeminiTranslator(voice, upstream_request)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> RelayError:
        """An error answer as ours; ``repair`` names what ``build`` could do differently."""
        return http_error(status, headers, body)


def _tokens(answer: JSON) -> int | None:
    tokens = answer.get("totalTokens")
    return tokens if isinstance(tokens, int) else None


PROVIDER: Final = GeminiProvider()
