"""The tools that a request declares: flattened, merged with those that its items bring, and what is chosen of them.

Source: responses-api.md §2.5-2.6; translation.md §1.6-1.7; decisions 53, 54; hosted-tools.md H57-H61. Errors are raised
for translated upstreams only (decision 57): a native one is told what the client said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from relay.errors import RelayError
from relay.responses.emulations import EMULATIONS
from relay.responses.forms import flat_tool
from relay.responses.tools import JSON, Choice, Tool, ToolSet, key_of

Identity = tuple[str, str]
Entry = Tool | JSON
"""A tool that the client runs, or the declaration of one that it does not."""


# --- declarations


class Declared(NamedTuple):
    """A tool (or one of a namespace), where it stands, what was said of it, and whether a search has loaded it."""

    path: str
    entry: Entry
    raw: JSON
    loaded: bool = False

    @property
    def is_callable(self) -> bool:
        """Whether the model itself may call it: nobody runs programs here that could."""
        callers = self.raw.get("allowed_callers")
        return not isinstance(callers, list) or not callers or "direct" in callers


def parse_tools(declared: list[tuple[str, Any]], brought: list[tuple[str, Any, bool]], choice: object) -> ToolSet:
    """Flatten, check and merge ``(path, tool)`` of the request, and ``(path, tool, loaded by a search)`` of its items.

    What the request declares beats what its items bring; of these the later beats the earlier, in the earlier's place
    (decision 54). Raises: RelayError naming ``tools[i]…`` or ``tool_choice``.
    """
    known: dict[Identity, Declared] = {}
    for path, value in declared:
        for one in _read(path, value):
            identity = _identity(one)
            if identity in known:
                if identity[0] != "type":
                    message = f"Two tools have the name '{identity[1]}'."
                    raise RelayError("invalid_value", message, param="tools")
                identity = ("type", one.path)  # what becomes of two is the dialect's affair
            known[identity] = one
    fixed = frozenset(known)
    for path, value, loaded in brought:
        for one in _read(path, value, loaded=loaded):
            identity, twin = _identity(one), _twin(one.entry)
            if identity not in fixed and twin not in fixed:
                known.pop(twin, None)
                known[identity] = one
    offered = [one for one in known.values() if one.is_callable]
    tools = tuple(one.entry for one in offered if isinstance(one.entry, Tool))
    hosted = tuple((one.path, one.entry) for one in offered if not isinstance(one.entry, Tool))
    return ToolSet(tools, hosted, _parse_choice(choice, tools, hosted), _notes(known.values()))


def _notes(declared: Iterable[Declared]) -> tuple[tuple[str, str], ...]:
    """What has no effect, as ``(param, reason)``: each member once, at the first tool that has it."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in declared:
        if not one.is_callable:
            found.setdefault(("", "only programs may call it, and nobody runs them: it was left out"), []).append(
                one.path
            )
            continue
        for member, (counts, reason) in _UNHEEDED.items():
            if counts(one.raw.get(member)) and not (one.loaded and member == "defer_loading"):
                found.setdefault((f".{member}", reason), []).append(one.path)
    return tuple(
        (paths[0] + member, reason if len(paths) == 1 else f"{reason} (and {len(paths) - 1} more)")
        for (member, reason), paths in found.items()
    )


_FOR_PROGRAMS: Final = "only programs may call it, and nobody runs them here: it was left out"
_UNHEEDED: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "async": (lambda value: value is True, "the model waits for the output of a call here"),
    "defer_loading": (lambda value: value is True, "the tool was loaded at once"),
    "allowed_callers": (lambda value: isinstance(value, list) and set(map(str, value)) > {"direct"}, "no programs run"),
    "environment": (lambda value: isinstance(value, dict) and bool(value.get("skills")), "its skills are not told"),
    "output_schema": (lambda value: value is not None, "not supported by this upstream"),
}
"""Members of a tool that no translated upstream knows: whether a value says anything, and what comes of it."""


def _read(path: str, value: Any, namespace: str | None = None, *, loaded: bool = False) -> Iterator[Declared]:
    """Each tool that a declaration holds."""
    value = flat_tool(value)
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise RelayError("invalid_type", f"{path} must be an object with a string 'type'.", param=path)
    kind = value["type"]
    if kind in ("function", "custom"):
        yield Declared(path, _named_tool(path, value, namespace), value, loaded)
    elif kind == "namespace":
        if namespace is not None:
            raise RelayError("invalid_value", f"{path}: a namespace cannot hold another.", param=path)
        inside = _name(path, value)
        inner = value.get("tools")
        if not isinstance(inner, list):
            raise RelayError("invalid_type", f"{path}.tools must be an array.", param=f"{path}.tools")
        for index, tool in enumerate(inner):
            yield from _read(f"{path}.tools[{index}]", tool, inside, loaded=loaded)
    elif kind in EMULATIONS and EMULATIONS[kind].runs_here(value):
        yield Declared(path, _emulated_tool(path, value, namespace), value, loaded)
    else:
        for name in _OBJECTS:
            _member(path, value, name, dict, "an object")
        yield Declared(path, value, value, loaded)


_OBJECTS: Final = ("filters", "headers")
"""Members of tools that a server runs in which dialects look further."""


def _identity(declared: Declared) -> Identity:
    """What two declarations of one tool have in common (hosted-tools.md H60)."""
    entry = declared.entry
    if isinstance(entry, Tool):
        return "name", entry.key
    label = entry.get("server_label")
    if entry["type"] == "mcp":
        return "label", label if isinstance(label, str) else declared.path
    return "type", family(entry["type"])


def _twin(entry: Entry) -> Identity:
    """The identity of the same tool where a server runs it and not the client, or the other way round."""
    return ("type", entry.key) if isinstance(entry, Tool) else ("name", family(entry["type"]))


_DATED: Final = re.compile(r"_(\d{4}_\d{2}_\d{2}|\d{8})$")
_FAMILIES: Final = ("web_search", "computer")


def family(kind: str) -> str:
    """A hosted tool's type without its date and its age: ``web_search_preview_2025_03_11`` is ``web_search``."""
    return next((name for name in _FAMILIES if kind.startswith(name)), _DATED.sub("", kind))


def _name(path: str, value: JSON) -> str:
    name = value.get("name")
    if not isinstance(name, str) or not name:
        raise RelayError("missing_parameter", f"{path}.name must be a non-empty string.", param=f"{path}.name")
    if len(name) > 256:
        raise RelayError("invalid_value", f"{path}.name is over 256 characters.", param=f"{path}.name")
    return name


def _member(path: str, value: JSON, name: str, kind: type, expected: str) -> Any:
    found = value.get(name)
    if found is not None and not isinstance(found, kind):
        raise RelayError("invalid_type", f"{path}.{name} must be {expected}.", param=f"{path}.{name}")
    return found


def _named_tool(path: str, value: JSON, namespace: str | None) -> Tool:
    name = _name(path, value)
    form, strict = value.get("format"), value.get("strict")
    return Tool(
        key_of(name, namespace),
        name,
        "function_call" if value["type"] == "function" else "custom_tool_call",
        namespace,
        _member(path, value, "description", str, "a string"),
        _member(path, value, "parameters", dict, "an object"),
        strict if isinstance(strict, bool) else None,
        form if isinstance(form, dict) else None,
    )


def _emulated_tool(path: str, value: JSON, namespace: str | None) -> Tool:
    kind = value["type"]
    return Tool(
        key_of(kind, namespace),
        kind,
        EMULATIONS[kind].item_type,
        namespace,
        _member(path, value, "description", str, "a string"),
        _member(path, value, "parameters", dict, "an object"),
    )


# --- the choice


def _parse_choice(choice: object, tools: tuple[Tool, ...], hosted: tuple[tuple[str, JSON], ...]) -> Choice:
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
    keys = {tool.key: tool for tool in tools}
    if kind == "allowed_tools":
        return _allowed(choice, keys)
    if kind in ("function", "custom"):
        return Choice("named", _chosen(choice, keys))
    if kind in EMULATIONS:
        named = _emulated_key(choice, keys)
        if named is not None:
            return Choice("named", named)
    if not any(family(kind) == family(declared["type"]) for _, declared in hosted):
        raise RelayError("invalid_value", f"tool_choice names '{kind}', which is not in tools.", param="tool_choice")
    return Choice("hosted", hosted_type=kind)


def _emulated_key(named: JSON, keys: Mapping[str, Tool]) -> str | None:
    """The key of the emulated tool that a reference by its type names; None where there is none."""
    found = [key for key, tool in keys.items() if tool.item_type == EMULATIONS[named["type"]].item_type]
    return found[0] if found else None


def _key_of_named(named: JSON, keys: Mapping[str, Tool]) -> str | None:
    name, namespace = named.get("name"), named.get("namespace")
    key = key_of(str(name), namespace if isinstance(namespace, str) else None)
    if key in keys:
        return key
    # a bare name of a namespaced tool, where only one has it (pain.md 12)
    suffixed = [candidate for candidate in keys if candidate.endswith(f"__{name}")]
    return suffixed[0] if len(suffixed) == 1 else None


def _chosen(named: JSON, keys: Mapping[str, Tool]) -> str:
    name = named.get("name")
    if not isinstance(name, str):
        raise RelayError("missing_parameter", "tool_choice.name must be a string.", param="tool_choice.name")
    key = _key_of_named(named, keys)
    if key is None:
        message = f"tool_choice names the tool '{name}', which is not in tools."
        raise RelayError("invalid_value", message, param="tool_choice")
    return key


def _allowed(choice: JSON, keys: Mapping[str, Tool]) -> Choice:
    listed = choice.get("tools")
    mode = choice.get("mode", "auto")
    if mode not in ("auto", "required"):
        raise RelayError("invalid_value", "tool_choice.mode must be auto or required.", param="tool_choice.mode")
    if not isinstance(listed, list) or not listed:
        raise RelayError("invalid_type", "tool_choice.tools must be a non-empty array.", param="tool_choice.tools")
    references = [one for one in listed if isinstance(one, dict) and isinstance(one.get("type"), str | None)]
    named = [keys_ for one in references if (keys_ := _keys_of(one, keys)) is not None]
    allowed = tuple(dict.fromkeys(key for some in named for key in some))
    if named and not allowed:
        raise RelayError("invalid_value", "tool_choice.tools names no tool of this request.", param="tool_choice.tools")
    return Choice("allowed", keys=allowed, allowed_mode=mode)


def _keys_of(reference: JSON, keys: Mapping[str, Tool]) -> list[str] | None:
    """The tools that an entry of ``allowed_tools`` means; None where it means one that a server runs."""
    kind = reference.get("type")
    if kind in EMULATIONS:
        key = _emulated_key(reference, keys)
    elif isinstance(reference.get("name"), str) and kind != "mcp":
        if kind == "namespace":
            return [key for key, tool in keys.items() if tool.namespace == reference["name"]]
        key = _key_of_named(reference, keys)
    else:
        return None
    return [key] if key is not None else []
