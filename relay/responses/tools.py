"""The client's tools as the upstream knows them, and the items of their calls and outputs.

Source: responses-api.md §2.5-2.6, §3.4-3.7; translation.md §1.6-1.7, §2.7; decisions 12, 53. Declarations are read by
``responses.declared``; tools that only OpenAI knows are functions by ``responses.emulations``.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from relay.responses.emulations import EMULATED_ITEMS, EMULATIONS, Emulation
from relay.responses.forms import flat_tool
from relay.responses.json import encoded

JSON = dict[str, Any]

EMPTY_SCHEMA: Final[JSON] = {"type": "object", "properties": {}}

_INPUT_SCHEMA: Final[JSON] = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The raw text that the tool is given."}},
    "required": ["input"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool that the client runs. ``key`` is its name for the upstream before any name map: ``ns__name`` or name."""

    key: str
    name: str
    item_type: str = "function_call"
    namespace: str | None = None
    description: str | None = None
    parameters: JSON | None = None
    strict: bool | None = None
    format: JSON | None = None
    native: bool = False
    """A custom tool that the upstream knows as such: its text is not wrapped in an argument."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Property names as the upstream has them -> the client's, where they differ (decision 55)."""

    @property
    def emulation(self) -> Emulation | None:
        """How it is a function where only OpenAI knows it; None for functions and custom tools."""
        kind = EMULATED_ITEMS.get(self.item_type)
        return EMULATIONS[kind] if kind is not None else None

    @property
    def schema(self) -> JSON:
        """The JSON schema of the function that stands for this tool; never None."""
        if self.item_type == "custom_tool_call":
            return _INPUT_SCHEMA
        if self.parameters is not None:
            return self.parameters
        return self.emulation.schema if self.emulation is not None else EMPTY_SCHEMA

    @property
    def function_description(self) -> str | None:
        """The description for a function; a custom tool's grammar is appended to it."""
        if self.emulation is not None:
            return self.description or self.emulation.description
        if self.format is not None and self.format.get("type") == "grammar":
            grammar = f"The input must match this {self.format.get('syntax')} grammar:\n{self.format.get('definition')}"
            return f"{self.description}\n\n{grammar}" if self.description else grammar
        return self.description


@dataclass(frozen=True, slots=True)
class Choice:
    """``tool_choice``. ``mode``: auto, none, required, named (``key``), allowed (``keys``, ``allowed_mode``), hosted
    (``hosted_type``)."""

    mode: str = "auto"
    key: str | None = None
    keys: tuple[str, ...] = ()
    allowed_mode: str = "auto"
    hosted_type: str | None = None

    @property
    def forces(self) -> bool:
        """Whether the model has to call a tool."""
        return self.mode in ("required", "named") or (self.mode == "allowed" and self.allowed_mode == "required")


@dataclass(frozen=True, slots=True)
class ToolSet:
    """What a request offers: ``tools`` that the client runs, ``hosted`` ones as ``(path, declaration)``, the choice."""

    tools: tuple[Tool, ...] = ()
    hosted: tuple[tuple[str, JSON], ...] = ()
    choice: Choice = field(default_factory=Choice)
    notes: tuple[tuple[str, str], ...] = ()
    """Members that no translated upstream heeds, as warnings ``(param, reason)``."""

    def by_key(self) -> dict[str, Tool]:
        """Tools by ``key``."""
        return {tool.key: tool for tool in self.tools}


def key_of(name: str, namespace: str | None) -> str:
    """The flat name of a namespaced tool (translation.md §1.6)."""
    return f"{namespace}__{name}" if namespace else name


# --- items of calls and outputs

CALL_TYPES: Final = frozenset({"function_call", "custom_tool_call", *EMULATED_ITEMS} - {"tool_search_call"})
"""Types that are always calls for the client to answer; see ``is_call`` for the one that is only sometimes."""
OUTPUT_TYPES: Final = frozenset(item_type + "_output" for item_type in CALL_TYPES)

WITH_PARTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})
"""Outputs that may be content parts."""


_MARK: Final = re.compile(r"<[|｜][^<>]*>?")
_RECIPIENT: Final = re.compile(r"(?:.*\bto=)?(?:functions\.)?([^\s:]+)", re.DOTALL)


def tool_name(said: str, tools: Container[str]) -> str:
    """The tool that a model means by ``said``, in which marks of its template may be left (vllm-project/vllm#32587):
    ``f<|channel|>commentary``, ``functions.f``, ``<|channel|>commentary to=functions.f``. Empty: marks only.
    """
    if said in tools:
        return said
    pieces = [piece.strip() for piece in _MARK.split(said) if piece and not piece.isspace()]
    for piece in pieces:
        match = _RECIPIENT.match(piece)
        if match is not None and match[1] in tools:
            return match[1]
    return (pieces[0] if pieces else "") if "<" in said else said


EMPTY_ARGUMENTS: Final = re.compile(r"(?:\s*(?:\{\s*\}|null\b))+\s*")


def are_empty(arguments: str) -> bool:
    """Whether a call's arguments say that there are none: ``{}``, or ``null``."""
    return EMPTY_ARGUMENTS.fullmatch(arguments) is not None


def is_call(item: JSON) -> bool:
    """Whether the item is a call that the client answers. A search for tools is one only where the client ran it."""
    return item.get("type") in CALL_TYPES or (item.get("type") == "tool_search_call" and _is_of_client(item))


def is_output(item: JSON) -> bool:
    """Whether the item is the client's answer to a call (``is_call``)."""
    return item.get("type") in OUTPUT_TYPES or (item.get("type") == "tool_search_output" and _is_of_client(item))


def _is_of_client(item: JSON) -> bool:
    return item.get("execution") != "server" and isinstance(item.get("call_id"), str)


def call_id_of(item: JSON) -> str | None:
    """The ``call_id`` of a call or output item; a local shell output carries it as ``id``."""
    call_id = item.get("call_id")
    if call_id is None and item.get("type") == "local_shell_call_output":
        call_id = item.get("id")
    return call_id if isinstance(call_id, str) else None


def key_of_call(item: JSON) -> str:
    """The ``Tool.key`` that a call item is a call of."""
    name = EMULATED_ITEMS.get(item["type"]) or str(item.get("name", ""))
    return key_of(name, item.get("namespace"))


def arguments_of_call(item: JSON) -> str:
    """The JSON text of a call item's arguments, as the emulating function has them."""
    if item["type"] == "function_call":
        return str(item.get("arguments") or "")
    if item["type"] == "custom_tool_call":
        return encoded({"input": item.get("input", "")}).decode()
    return encoded(EMULATIONS[EMULATED_ITEMS[item["type"]]].arguments(item)).decode()


def output_of(item: JSON, names: Mapping[str, str] | None = None) -> str | list[JSON]:
    """What an output item says: a string, or content parts. ``names``: of tools for the upstream, by ``Tool.key``."""
    output = item.get("output")
    if item["type"] == "tool_search_output":
        return _found(item, names or {})
    if item["type"] == "apply_patch_call_output":
        return str(output) if output else str(item.get("status", ""))
    if isinstance(output, list):
        return output if item["type"] in WITH_PARTS else encoded(output).decode()
    return output if isinstance(output, str) else ""


def _found(item: JSON, names: Mapping[str, str]) -> str:
    """The tools that a search has loaded, a line each (hosted-tools.md H25)."""
    lines = [
        f"{names.get(key, key)}: {about}" if about else names.get(key, key)
        for key, about in _loaded(item.get("tools"), None)
    ]
    return "\n".join(lines) or "No tools found."


def _loaded(tools: Any, namespace: str | None) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for tool in tools if isinstance(tools, list) else []:
        tool = flat_tool(tool)
        if not isinstance(tool, dict):
            continue
        if tool.get("type") == "namespace" and namespace is None:
            found += _loaded(tool.get("tools"), str(tool.get("name")))
        else:
            about = tool.get("description")
            first = about.strip().partition("\n")[0] if isinstance(about, str) else ""
            name = tool.get("name") or tool.get("server_label") or tool.get("type")
            found.append((key_of(str(name), namespace), first))
    return found
