"""OpenAI-only tools that the client runs, as functions: their schemas, their items, and the way back from history.

Source: responses-api.md §3.5-3.7; translation.md §2.7; decision 53; hosted-tools.md H18, H57, H61.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from relay.responses.json import loads

JSON = dict[str, Any]

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
_SEARCH_SCHEMA: Final[JSON] = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "description": "What the tool that is needed should do."},
        "limit": {"type": "integer", "description": "How many tools to return at most."},
    },
    "required": ["query"],
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


def _search_fields(arguments: JSON) -> JSON | None:
    return {"execution": "client", "arguments": arguments}


def _search_arguments(item: JSON) -> JSON:
    arguments = item.get("arguments")
    if isinstance(arguments, str):  # as a function call has them
        try:
            arguments = loads(arguments)
        except ValueError:
            return {}
    return arguments if isinstance(arguments, dict) else {}


def _always(tool: JSON) -> bool:
    return True


def _in_no_container(tool: JSON) -> bool:
    environment = tool.get("environment")
    return environment is None or (isinstance(environment, dict) and environment.get("type") == "local")


@dataclass(frozen=True, slots=True)
class Emulation:
    """How one OpenAI-only tool is a function: its schema, its items, and the way back from a history item."""

    item_type: str
    prefix: str
    """Of the ids of its items."""
    description: str
    schema: JSON
    fields: Callable[[JSON], JSON | None]
    """A call's arguments as members of its item; None where they are not what the schema says."""
    arguments: Callable[[JSON], JSON]
    """The arguments again, from an item of the history."""
    runs_here: Callable[[JSON], bool] = _always
    """Whether the client runs the tool that is declared so; else it is a server's (decision 53)."""
    blank: Mapping[str, Any] = field(default_factory=dict)
    """Members of the item while it is only announced, where they differ."""


def _members(item: JSON, name: str) -> JSON:
    """What a call item says in a member; nothing where that is no object: a native upstream may have other forms."""
    value = item.get(name)
    return value if isinstance(value, dict) else {}


EMULATIONS: Final[Mapping[str, Emulation]] = {
    "shell": Emulation(
        "shell_call",
        "sh",
        "Runs shell commands on the user's machine and returns their output.",
        _SHELL_SCHEMA,
        _shell_fields,
        lambda item: {key: value for key, value in _members(item, "action").items() if value is not None},
        _in_no_container,
    ),
    "local_shell": Emulation(
        "local_shell_call",
        "lsh",
        "Runs one program on the user's machine and returns its output.",
        _LOCAL_SHELL_SCHEMA,
        _local_shell_fields,
        lambda item: {
            key: value for key, value in _members(item, "action").items() if key != "type" and value is not None
        },
    ),
    "apply_patch": Emulation(
        "apply_patch_call",
        "apc",
        "Creates, updates or deletes one file of the workspace.",
        _PATCH_SCHEMA,
        _patch_fields,
        lambda item: dict(_members(item, "operation")),
    ),
    "tool_search": Emulation(
        "tool_search_call",
        "tsc",
        "Searches for further tools; those that it finds can be called afterwards.",
        _SEARCH_SCHEMA,
        _search_fields,
        _search_arguments,
        lambda tool: tool.get("execution") == "client",
        {"arguments": {}},
    ),
}

EMULATED_ITEMS: Final = {emulation.item_type: name for name, emulation in EMULATIONS.items()}
"""Type of the call item -> type of the tool."""
