"""Tools and their choice as Anthropic has them.

Source: translation.md §1.6, §1.7, column B; decision 12. Which hosted tools are mapped is the table ``HOSTED``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from relay.errors import RelayError
from relay.providers.base import Warnings, nudge
from relay.providers.schema import ANTHROPIC_STRICT_TOOL, ANTHROPIC_TOOL, Reduced, Rules, cut_tools, tool_schema
from relay.responses.tools import JSON, Choice, Tool, ToolSet

NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
NAME_LIMIT: Final = 128
JSON_TOOL: Final = "json_response"
"""The tool that stands for a schema where there is no other way (§1.5)."""


class Hosted:
    """The hosted tools of one request, as the body needs them."""

    __slots__ = ("container", "servers", "tools")

    def __init__(self) -> None:
        self.tools: list[JSON] = []
        self.servers: list[JSON] = []
        self.container: str | None = None


def is_run(tool: JSON) -> bool:
    """Whether the upstream runs this hosted tool; it searches the live web only (Codex offers a cached search)."""
    return hosted_kind(tool["type"]) is not None and tool.get("external_web_access") is not False


def hosted_kind(kind: str) -> str | None:
    """The row of ``HOSTED`` for a tool's type; None where the upstream cannot run it."""
    return next((name for name in HOSTED if kind == name or (name == "web_search" and kind.startswith(name))), None)


def hosted_tools(declared: tuple[tuple[str, JSON], ...], warnings: Warnings, max_uses: int | None) -> Hosted:
    """The hosted tools that Anthropic runs itself. Raises: RelayError naming what it cannot honour."""
    result = Hosted()
    for path, tool in declared:
        kind = hosted_kind(tool["type"])
        if kind is not None and is_run(tool):
            HOSTED[kind](path, tool, result, warnings)
    if max_uses is not None and result.tools:
        limited = [tool for tool in result.tools if "name" in tool]
        if len(result.tools) == len(limited) == 1 and limited[0]["name"] == "web_search":
            limited[0]["max_uses"] = max_uses
        else:
            warnings.add("max_tool_calls", "it can only be honoured for web search alone")
    return result


def _refuse(path: str, name: str, why: str = "is not supported by this upstream") -> RelayError:
    return RelayError("unsupported_parameter", f"{path}.{name} {why}.", param=f"{path}.{name}")


def _web_search(path: str, tool: JSON, result: Hosted, warnings: Warnings) -> None:
    said: JSON = {"type": "web_search_20250305", "name": "web_search"}
    filters = tool.get("filters")
    if isinstance(filters, dict):
        for name in ("allowed_domains", "blocked_domains"):
            if filters.get(name):
                said[name] = filters[name]
    location = tool.get("user_location")
    if isinstance(location, dict):
        known = {name: location[name] for name in ("city", "region", "country", "timezone") if location.get(name)}
        said["user_location"] = {"type": "approximate", **known}
    if not any(one.get("name") == "web_search" for one in result.tools):
        result.tools.append(said)


def _code_interpreter(path: str, tool: JSON, result: Hosted, warnings: Warnings) -> None:
    container = tool.get("container")
    if isinstance(container, str):
        result.container = container
    elif isinstance(container, dict):
        if container.get("file_ids"):
            raise _refuse(f"{path}.container", "file_ids", "needs a Files API, which the relay does not have")
        if container.get("network_policy"):
            raise _refuse(f"{path}.container", "network_policy")
        if container.get("memory_limit"):
            warnings.add(f"{path}.container.memory_limit", "not supported by this upstream")
    result.tools.append({"type": "code_execution_20250825", "name": "code_execution"})


def _mcp(path: str, tool: JSON, result: Hosted, warnings: Warnings) -> None:
    if tool.get("require_approval") != "never":
        raise _refuse(path, "require_approval", "other than 'never' is not supported by this upstream")
    for name in ("connector_id", "tunnel_id"):
        if tool.get(name):
            raise _refuse(path, name)
    url, label = tool.get("server_url"), tool.get("server_label")
    if not isinstance(url, str) or not isinstance(label, str):
        raise RelayError("missing_parameter", f"{path} needs server_label and server_url.", param=path)
    server: JSON = {"type": "url", "name": label, "url": url}
    token = tool.get("authorization")
    for name, value in (tool.get("headers") or {}).items():
        if name.lower() != "authorization":
            raise _refuse(path, "headers", "other than Authorization are not supported by this upstream")
        token = str(value).removeprefix("Bearer ")
    if token:
        server["authorization_token"] = token
    toolset: JSON = {"type": "mcp_toolset", "mcp_server_name": label}
    allowed = tool.get("allowed_tools")
    if isinstance(allowed, dict):
        allowed = allowed.get("tool_names")
    if isinstance(allowed, list):
        toolset["default_config"] = {"enabled": False}
        toolset["configs"] = {str(name): {"enabled": True} for name in allowed}
    result.servers.append(server)
    result.tools.append(toolset)


HOSTED: Final[Mapping[str, Callable[[str, JSON, Hosted, Warnings], None]]] = {
    "web_search": _web_search,
    "code_interpreter": _code_interpreter,
    "mcp": _mcp,
}

HOSTED_NAMES: Final = {"web_search": "web_search", "code_interpreter": "code_execution"}


def rules_of(tool: Tool) -> tuple[Rules, ...]:
    """The rows by which a tool's schema may be cut."""
    return (ANTHROPIC_STRICT_TOOL, ANTHROPIC_TOOL) if tool.strict else (ANTHROPIC_TOOL,)


def schemas(tools: ToolSet, warnings: Warnings) -> dict[str, Reduced]:
    """The schemas of a client's tools, by key: one that must be enforced (``strict``) is cut to what can be."""

    def rules(tool: Tool) -> Rules:
        if not tool.strict:
            return ANTHROPIC_TOOL
        strict = tool_schema(tool.schema, ANTHROPIC_STRICT_TOOL)
        if strict.schema is None:
            warnings.add("tools", f"the schema of '{tool.name}' cannot be enforced: {strict.notes[0]}")
        return ANTHROPIC_TOOL if strict.schema is None else ANTHROPIC_STRICT_TOOL

    return cut_tools(tools, rules, warnings)


def declaration(tool: Tool, name: str, schema: JSON, warnings: Warnings) -> JSON:
    """A client's tool, with its schema as it was cut."""
    if tool.item_type == "custom_tool_call" and tool.format is not None and tool.format.get("type") == "grammar":
        warnings.add("tools", f"the format of the custom tool '{tool.name}' is described, not enforced")
    said: JSON = {"name": name}
    description = tool.function_description
    if description is not None:
        said["description"] = description
    if tool.strict and tool_schema(tool.schema, ANTHROPIC_STRICT_TOOL).schema is not None:
        said["strict"] = True
    said["input_schema"] = schema
    return said


def chosen(
    choice: Choice, names: Mapping[str, str], *, forced: bool, warnings: Warnings
) -> tuple[JSON | None, str | None]:
    """``tool_choice``, and a text for the system prompt where forcing is not possible."""
    mode = choice.allowed_mode if choice.mode == "allowed" else choice.mode
    if mode == "auto":
        return None, None
    if mode == "none":
        return {"type": "none"}, None
    if mode == "hosted":
        name = HOSTED_NAMES.get(hosted_kind(choice.hosted_type or "") or "")
        if name is None:
            warnings.add("tool_choice", "a tool of an MCP server cannot be forced")
            return None, nudge(None)
    else:
        name = names[str(choice.key)] if mode == "named" else None
    if not forced:
        warnings.add("tool_choice", "this model cannot be forced to call a tool: it was asked to")
        return None, nudge(name)
    return ({"type": "any"} if name is None else {"type": "tool", "name": name}), None


def from_history(calls: Mapping[str, None]) -> list[JSON]:
    """Declarations for the tools of a history where the request declares none: tool blocks need them (§2.5)."""
    return [{"name": name, "input_schema": {"type": "object"}} for name in calls]


def is_forced(choice: Any) -> bool:
    """Whether a ``tool_choice`` forces a call."""
    return isinstance(choice, dict) and choice["type"] in ("any", "tool")
