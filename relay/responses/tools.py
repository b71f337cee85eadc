"""The client's tools: flattened, named, and the emulation of those that only OpenAI knows as functions.

Source: responses-api.md §2.5-2.6, §3.4-3.7; translation.md §1.6-1.7, §2.7; decision 12.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from relay.errors import RelayError
from relay.responses.json import encoded

JSON = dict[str, Any]

EMPTY_SCHEMA: Final[JSON] = {"type": "object", "properties": {}}

_STRING: Final[JSON] = {"type": "string"}
_INPUT_SCHEMA: Final[JSON] = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The raw text that the tool is given."}},
    "required": ["input"],
    "additionalProperties": False,
}
_SHELL_SCHEMA: Final[JSON] = {
    "type": "object",
    "properties": {
        "commands": {"type": "array", "items": _STRING, "description": "Shell commands, run in order."},
        "timeout_ms": {"type": "integer", "description": "Time limit in milliseconds."},
        "max_output_length": {"type": "integer", "description": "Characters of output to keep."},
    },
    "required": ["commands"],
    "additionalProperties": False,
}
_LOCAL_SHELL_SCHEMA: Final[JSON] = {
    "type": "object",
    "properties": {
        "command": {"type": "array", "items": _STRING, "description": "The program and its arguments."},
        "working_directory": _STRING,
        "timeout_ms": {"type": "integer", "description": "Time limit in milliseconds."},
        "env": {"type": "object", "additionalProperties": _STRING},
    },
    "required": ["command"],
    "additionalProperties": False,
}
_PATCH_SCHEMA: Final[JSON] = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
        "path": {"type": "string", "description": "The file, relative to the workspace."},
        "diff": {"type": "string", "description": "A V4A diff; left out for delete_file."},
    },
    "required": ["type", "path"],
    "additionalProperties": False,
}


def _shell_fields(arguments: JSON) -> JSON | None:
    commands = arguments.get("commands")
    if not isinstance(commands, list) or not all(isinstance(command, str) for command in commands):
        return None
    action = {
        "commands": commands,
        "max_output_length": _whole(arguments.get("max_output_length")),
        "timeout_ms": _whole(arguments.get("timeout_ms")),
    }
    return {"action": action, "environment": {"type": "local"}}


def _local_shell_fields(arguments: JSON) -> JSON | None:
    command = arguments.get("command")
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        return None
    environment = arguments.get("env")
    action: JSON = {"type": "exec", "command": command, "env": environment if isinstance(environment, dict) else {}}
    timeout_ms = _whole(arguments.get("timeout_ms"))
    if timeout_ms is not None:
        action["timeout_ms"] = timeout_ms
    if isinstance(arguments.get("working_directory"), str):
        action["working_directory"] = arguments["working_directory"]
    return {"action": action}


def _patch_fields(arguments: JSON) -> JSON | None:
    kind, path, diff = arguments.get("type"), arguments.get("path"), arguments.get("diff")
    if kind not in ("create_file", "update_file", "delete_file") or not isinstance(path, str):
        return None
    if kind == "delete_file":
        return {"operation": {"type": kind, "path": path}}
    return {"operation": {"type": kind, "path": path, "diff": diff}} if isinstance(diff, str) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


class _Emulation:
    """How one OpenAI-only tool is a function: its schema, its items, and the way back from a history item."""

    __slots__ = ("arguments", "description", "fields", "item_type", "prefix", "schema")

    def __init__(
        self,
        item_type: str,
        prefix: str,
        description: str,
        schema: JSON,
        fields: Callable[[JSON], JSON | None],
        arguments: Callable[[JSON], JSON],
    ) -> None:
        self.item_type = item_type
        self.prefix = prefix
        self.description = description
        self.schema = schema
        self.fields = fields
        self.arguments = arguments


EMULATIONS: Final[Mapping[str, _Emulation]] = {
    "shell": _Emulation(
        "shell_call",
        "sh",
        "Runs shell commands on the user's machine and returns their output.",
        _SHELL_SCHEMA,
        _shell_fields,
        lambda item: {key: value for key, value in (item.get("action") or {}).items() if value is not None},
    ),
    "local_shell": _Emulation(
        "local_shell_call",
        "lsh",
        "Runs one program on the user's machine and returns its output.",
        _LOCAL_SHELL_SCHEMA,
        _local_shell_fields,
        lambda item: {
            key: value for key, value in (item.get("action") or {}).items() if key != "type" and value is not None
        },
    ),
    "apply_patch": _Emulation(
        "apply_patch_call",
        "apc",
        "Creates, updates or deletes one file of the workspace.",
        _PATCH_SCHEMA,
        _patch_fields,
        lambda item: dict(item.get("operation") or {}),
    ),
}

_EMULATED_ITEMS: Final = {emulation.item_type: name for name, emulation in EMULATIONS.items()}


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

    @property
    def id_prefix(self) -> str:
        """Prefix of the ids of its call items."""
        return EMULATIONS[_EMULATED_ITEMS[self.item_type]].prefix

    def item_fields(self, arguments: JSON) -> JSON | None:
        """The fields of an emulated call's item; None where the arguments are not what its schema says."""
        return EMULATIONS[_EMULATED_ITEMS[self.item_type]].fields(arguments)

    @property
    def schema(self) -> JSON:
        """The JSON schema of the function that stands for this tool; never None."""
        if self.item_type == "custom_tool_call":
            return _INPUT_SCHEMA
        if self.item_type in _EMULATED_ITEMS:
            return EMULATIONS[_EMULATED_ITEMS[self.item_type]].schema
        return self.parameters if self.parameters is not None else EMPTY_SCHEMA

    @property
    def function_description(self) -> str | None:
        """The description for a function; a custom tool's grammar is appended to it."""
        if self.item_type in _EMULATED_ITEMS:
            return self.description or EMULATIONS[_EMULATED_ITEMS[self.item_type]].description
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


@dataclass(frozen=True, slots=True)
class ToolSet:
    """What a request offers: ``tools`` that the client runs, ``hosted`` ones as ``(path, declaration)``, the choice."""

    tools: tuple[Tool, ...] = ()
    hosted: tuple[tuple[str, JSON], ...] = ()
    choice: Choice = field(default_factory=Choice)

    def by_key(self) -> dict[str, Tool]:
        """Tools by ``key``."""
        return {tool.key: tool for tool in self.tools}


def key_of(name: str, namespace: str | None) -> str:
    """The flat name of a namespaced tool (translation.md §1.6)."""
    return f"{namespace}__{name}" if namespace else name


# --- declarations


def parse_tools(declared: list[tuple[str, Any]], choice: object) -> ToolSet:
    """Flatten and check ``(path, tool)`` pairs. Raises: RelayError naming ``tools[i]…`` or ``tool_choice``."""
    tools: list[Tool] = []
    hosted: list[tuple[str, JSON]] = []
    for path, value in declared:
        _parse_tool(path, value, tools, hosted)
    seen: set[str] = set()
    for tool in tools:
        if tool.key in seen:
            raise RelayError("invalid_value", f"Two tools have the name '{tool.key}'.", param="tools")
        seen.add(tool.key)
    return ToolSet(tuple(tools), tuple(hosted), _parse_choice(choice, seen, [tool["type"] for _, tool in hosted]))


def _parse_tool(path: str, value: Any, tools: list[Tool], hosted: list[tuple[str, JSON]]) -> None:
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise RelayError("invalid_type", f"{path} must be an object with a string 'type'.", param=path)
    kind = value["type"]
    if kind in ("function", "custom"):
        tools.append(_named_tool(path, value, None))
    elif kind == "namespace":
        namespace = _name(path, value)
        inner = value.get("tools")
        if not isinstance(inner, list):
            raise RelayError("invalid_type", f"{path}.tools must be an array.", param=f"{path}.tools")
        for index, tool in enumerate(inner):
            place = f"{path}.tools[{index}]"
            if not isinstance(tool, dict) or tool.get("type") not in ("function", "custom"):
                raise RelayError("invalid_value", f"{place} must be a function or custom tool.", param=place)
            tools.append(_named_tool(place, tool, namespace))
    elif kind in EMULATIONS:
        tools.append(Tool(kind, kind, EMULATIONS[kind].item_type, description=value.get("description")))
    else:
        hosted.append((path, value))


def _name(path: str, value: JSON) -> str:
    name = value.get("name")
    if not isinstance(name, str) or not name:
        raise RelayError("missing_parameter", f"{path}.name must be a non-empty string.", param=f"{path}.name")
    if len(name) > 256:
        raise RelayError("invalid_value", f"{path}.name is over 256 characters.", param=f"{path}.name")
    return name


def _named_tool(path: str, value: JSON, namespace: str | None) -> Tool:
    # a chat-shaped declaration {"type":"function","function":{…}} is accepted: many clients send it
    inner = value.get("function") if value["type"] == "function" and "name" not in value else None
    declared: JSON = inner if isinstance(inner, dict) else value
    name = _name(path, declared)
    parameters = declared.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise RelayError("invalid_type", f"{path}.parameters must be an object.", param=f"{path}.parameters")
    description = declared.get("description")
    if description is not None and not isinstance(description, str):
        raise RelayError("invalid_type", f"{path}.description must be a string.", param=f"{path}.description")
    form = declared.get("format")
    strict = declared.get("strict")
    return Tool(
        key_of(name, namespace),
        name,
        "function_call" if value["type"] == "function" else "custom_tool_call",
        namespace,
        description,
        parameters,
        strict if isinstance(strict, bool) else None,
        form if isinstance(form, dict) else None,
    )


def _parse_choice(choice: object, keys: set[str], hosted: list[str]) -> Choice:
    if choice is None:
        return Choice()
    if isinstance(choice, str):
        if choice not in ("auto", "none", "required"):
            raise RelayError(
                "invalid_value", "tool_choice must be auto, none, required or an object.", param="tool_choice"
            )
        return Choice(choice)
    if not isinstance(choice, dict) or not isinstance(choice.get("type"), str):
        raise RelayError("invalid_type", "tool_choice must be a string or an object with 'type'.", param="tool_choice")
    kind = choice["type"]
    if kind == "allowed_tools":
        return _allowed(choice, keys)
    if kind in ("function", "custom"):
        inner = choice.get("function")
        named = inner if isinstance(inner, dict) and "name" not in choice else choice
        return Choice("named", _chosen(named, keys))
    if kind in EMULATIONS and kind in keys:
        return Choice("named", kind)
    if not any(_same_hosted(kind, declared) for declared in hosted):
        raise RelayError("invalid_value", f"tool_choice names '{kind}', which is not in tools.", param="tool_choice")
    return Choice("hosted", hosted_type=kind)


def _same_hosted(chosen: str, declared: str) -> bool:
    return chosen == declared or (chosen.startswith("web_search") and declared.startswith("web_search"))


def _chosen(named: JSON, keys: set[str]) -> str:
    name = named.get("name")
    if not isinstance(name, str):
        raise RelayError("missing_parameter", "tool_choice.name must be a string.", param="tool_choice.name")
    namespace = named.get("namespace")
    key = key_of(name, namespace if isinstance(namespace, str) else None)
    if key in keys:
        return key
    # a bare name of a namespaced tool, where only one has it (pain.md 12)
    suffixed = [candidate for candidate in keys if candidate.endswith("__" + name)]
    if len(suffixed) == 1:
        return suffixed[0]
    raise RelayError(
        "invalid_value", f"tool_choice names the tool '{name}', which is not in tools.", param="tool_choice"
    )


def _allowed(choice: JSON, keys: set[str]) -> Choice:
    listed = choice.get("tools")
    mode = choice.get("mode", "auto")
    if mode not in ("auto", "required"):
        raise RelayError("invalid_value", "tool_choice.mode must be auto or required.", param="tool_choice.mode")
    if not isinstance(listed, list) or not listed:
        raise RelayError("invalid_type", "tool_choice.tools must be a non-empty array.", param="tool_choice.tools")
    names = [
        key_of(t["name"], t.get("namespace")) for t in listed if isinstance(t, dict) and isinstance(t.get("name"), str)
    ]
    allowed = tuple(name for name in names if name in keys)
    if names and not allowed:
        raise RelayError("invalid_value", "tool_choice.tools names no tool of this request.", param="tool_choice.tools")
    return Choice("allowed", keys=allowed, allowed_mode=mode)


# --- items of calls and outputs

CALL_TYPES: Final = frozenset({"function_call", "custom_tool_call", *_EMULATED_ITEMS})
OUTPUT_TYPES: Final = frozenset(
    {"function_call_output", "custom_tool_call_output", *(item_type + "_output" for item_type in _EMULATED_ITEMS)}
)


def call_id_of(item: JSON) -> str | None:
    """The ``call_id`` of a call or output item; a local shell output carries it as ``id``."""
    call_id = item.get("call_id")
    if call_id is None and item.get("type") == "local_shell_call_output":
        call_id = item.get("id")
    return call_id if isinstance(call_id, str) else None


def key_of_call(item: JSON) -> str:
    """The ``Tool.key`` that a call item is a call of."""
    if item["type"] in _EMULATED_ITEMS:
        return _EMULATED_ITEMS[item["type"]]
    return key_of(str(item.get("name", "")), item.get("namespace"))


def arguments_of_call(item: JSON) -> str:
    """The JSON text of a call item's arguments, as the emulating function has them."""
    if item["type"] == "function_call":
        return str(item.get("arguments") or "")
    if item["type"] == "custom_tool_call":
        return encoded({"input": item.get("input", "")}).decode()
    return encoded(EMULATIONS[_EMULATED_ITEMS[item["type"]]].arguments(item)).decode()


def output_of(item: JSON) -> str | list[JSON]:
    """What an output item says: a string, or content parts."""
    output = item.get("output")
    if item["type"] == "shell_call_output" and isinstance(output, list):
        return orjson.dumps(output).decode()
    if item["type"] == "apply_patch_call_output":
        return str(output) if output else str(item.get("status", ""))
    if isinstance(output, list):
        return output
    return output if isinstance(output, str) else ""
