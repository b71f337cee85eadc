"""One Gemini request being built, and the tools that it offers.

Source: translation.md §1.5 (schemas), §1.6, §1.7, column C; decision 12.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from relay.errors import RelayError
from relay.providers.base import Warnings, drop_hosted_tools
from relay.providers.schema import GEMINI, GEMINI_TOOL, Reduced, cut_tools, reduced
from relay.responses.request import Request
from relay.responses.tools import JSON, Tool


class Build:
    """One request being built: ``body`` is what is sent, ``config`` its ``generationConfig``."""

    __slots__ = (
        "body",
        "config",
        "functions",
        "hosted",
        "record",
        "repairs",
        "request",
        "schema",
        "system",
        "warnings",
    )

    def __init__(
        self, request: Request, record: Mapping[str, Any], warnings: Warnings, repairs: frozenset[str]
    ) -> None:
        self.request = request
        self.record = record
        self.warnings = warnings
        self.repairs = repairs
        self.body: JSON = {"contents": []}
        self.config: JSON = {}
        self.system: list[str] = []
        self.functions: list[JSON] = []
        self.hosted: list[JSON] = []
        self.schema: JSON | None = None


def reduced_format(build: Build, schema: JSON) -> Reduced:
    """The schema of an answer as the upstream takes it; an empty one where it takes none."""
    result = reduced(schema, GEMINI)
    if result.schema is None:
        build.warnings.add("text.format", f"the schema was left out: {result.notes[0]}")
        return result._replace(schema={})
    return result


def _search(build: Build, path: str, tool: JSON) -> list[JSON]:
    if (tool.get("filters") or {}).get("allowed_domains"):
        message = f"{path}.filters.allowed_domains is not supported by this upstream."
        raise RelayError("unsupported_parameter", message, param=f"{path}.filters.allowed_domains")
    if tool.get("user_location"):
        build.warnings.add(f"{path}.user_location", "not supported by this upstream")
    offered: list[JSON] = [{"googleSearch": {}}]
    if build.record["url_context"]:
        offered.append({"urlContext": {}})
    return offered


def _code(build: Build, path: str, tool: JSON) -> list[JSON]:
    container = tool.get("container")
    settings = container if isinstance(container, dict) else {}
    if isinstance(container, str) or settings.get("file_ids"):
        message = f"{path}.container: this upstream has no containers and takes no files for them."
        raise RelayError("unsupported_parameter", message, param=f"{path}.container")
    return [{"codeExecution": {}}]


def _images(build: Build, path: str, tool: JSON) -> list[JSON]:
    build.config["responseModalities"] = ["TEXT", "IMAGE"]
    return []


HOSTED: Final[tuple[tuple[str, Callable[[Build, str, JSON], list[JSON]]], ...]] = (
    ("web_search", _search),
    ("code_interpreter", _code),
    ("image_generation", _images),
)
"""Responses tool (by the beginning of its type) -> what is offered in its place."""


def offer_hosted(build: Build) -> None:
    """Tools that the upstream runs. Raises: RelayError for what it cannot run (decision 12)."""
    request, record = build.request, build.record
    combined = record["builtin_plus_functions"] or not request.tools.tools

    def kept(tool: JSON) -> bool:
        if tool["type"].startswith("image_generation"):
            return bool(record["image_output"])
        live = tool.get("external_web_access") is not False  # Codex offers a cached search, which is not to be had here
        return combined and live and tool["type"].startswith(("web_search", "code_interpreter"))

    drop_hosted_tools(request, build.warnings, kept)
    for path, tool in request.tools.hosted:
        if kept(tool):
            offer = next(offer for kind, offer in HOSTED if tool["type"].startswith(kind))
            for one in offer(build, path, tool):
                if one not in build.hosted:
                    build.hosted.append(one)
    if request.tools.choice.mode == "hosted":
        build.warnings.add("tool_choice", "a hosted tool cannot be forced here: the model chooses")


def offer_functions(build: Build, names: Mapping[str, str]) -> dict[str, Tool]:
    """Declare the client's tools; the tools by wire name."""
    request = build.request
    choice = request.tools.choice
    cut = cut_tools(request.tools, lambda tool: GEMINI_TOOL, build.warnings)
    for tool in request.tools.tools:
        if choice.mode == "allowed" and choice.allowed_mode == "auto" and tool.key not in choice.keys:
            continue
        if tool.key not in cut:
            continue
        if tool.item_type == "custom_tool_call" and tool.format is not None:
            build.warnings.add("tools", f"the format of the custom tool '{tool.name}' is described, not enforced")
        said: JSON = {"name": names[tool.key]}
        description = tool.function_description
        if description:
            said["description"] = description
        if tool.item_type != "function_call" or tool.parameters:
            said["parametersJsonSchema"] = cut[tool.key].schema
        build.functions.append(said)
    return {names[tool.key]: tool for tool in request.tools.tools}


MODES: Final[Mapping[str, str]] = {"auto": "AUTO", "none": "NONE", "required": "ANY", "named": "ANY", "hosted": "AUTO"}
"""``tool_choice`` -> mode of ``functionCallingConfig``; allowed tools go by their own mode."""


def put_tools(build: Build, names: Mapping[str, str]) -> None:
    request, record = build.request, build.record
    choice = request.tools.choice
    if build.functions:
        mode = MODES["required" if choice.allowed_mode == "required" else "auto"]
        if choice.mode != "allowed":
            mode = MODES[choice.mode]
        config: JSON = {}
        strict = any(tool.strict for tool in request.tools.tools)
        if mode == "AUTO" and record["validated_mode"] and (strict or build.hosted):
            mode = "VALIDATED"
        if mode != "AUTO" or "tool_choice" in request.params:
            config["mode"] = mode
        if choice.mode == "named":
            config["allowedFunctionNames"] = [names[str(choice.key)]]
        elif choice.mode == "allowed" and mode == "ANY":
            offered = {said["name"] for said in build.functions}
            config["allowedFunctionNames"] = [names[key] for key in choice.keys if names[key] in offered]
        if config:
            build.body["toolConfig"] = {"functionCallingConfig": config}
        if build.hosted and record["server_side_invocations"]:
            build.body.setdefault("toolConfig", {})["includeServerSideToolInvocations"] = True
    tools = [*build.hosted, *([{"functionDeclarations": build.functions}] if build.functions else [])]
    if tools:
        build.body["tools"] = tools
