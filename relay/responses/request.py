"""A create request: every parameter checked by one table, aliases resolved, items and tools normalised.

Source: responses-api.md §2.1-2.6; decisions 9, 10, 11, 15, 16, 57. Unknown fields are ignored, or
refused in strict mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from relay.errors import RelayError
from relay.responses.declared import parse_tools
from relay.responses.forms import flat_choice, flat_tool, old_choice, old_functions
from relay.responses.items import Later, Told, normalise, object_to, sound, told
from relay.responses.messages import from_messages
from relay.responses.tools import JSON, ToolSet

Check = Callable[[Any, str], Any]
"""``check(value, path) -> value to use``; raises RelayError naming the path."""


def _wrong(path: str, expected: str, kind: str = "invalid_type") -> RelayError:
    return RelayError(kind, f"{path} must be {expected}.", param=path)


def _boolean(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(path, "a boolean")
    return value


def _string(limit: int | None = None) -> Check:
    def check(value: Any, path: str) -> str:
        if not isinstance(value, str):
            raise _wrong(path, "a string")
        if limit is not None and len(value) > limit:
            raise _wrong(path, f"at most {limit} characters long", "invalid_value")
        return value

    return check


def _integer(low: int, high: int | None = None) -> Check:
    bounds = f"an integer from {low} to {high}" if high is not None else f"an integer of at least {low}"

    def check(value: Any, path: str) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong(path, bounds)
        if value < low or (high is not None and value > high):
            raise _wrong(path, bounds, "invalid_value")
        return value

    return check


def _number(low: float, high: float) -> Check:
    bounds = f"a number from {low:g} to {high:g}"

    def check(value: Any, path: str) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise _wrong(path, bounds)
        if not low <= value <= high:
            raise _wrong(path, bounds, "invalid_value")
        return value

    return check


def _one_of(*values: str) -> Check:
    expected = "one of " + ", ".join(values)

    def check(value: Any, path: str) -> str:
        if value not in values:
            raise _wrong(path, expected, "invalid_value")
        return str(value)

    return check


def _object(value: Any, path: str) -> JSON:
    if not isinstance(value, dict):
        raise _wrong(path, "an object")
    return value


def _array(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(path, "an array")
    return value


def _strings(value: Any, path: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _wrong(path, "an array of strings")
    return value


def _stop(value: Any, path: str) -> list[str]:
    return [value] if isinstance(value, str) else _strings(value, path)


def _metadata(value: Any, path: str) -> JSON:
    pairs = _object(value, path)
    if len(pairs) > 16:
        raise _wrong(path, "an object of at most 16 pairs", "invalid_value")
    for key, text in pairs.items():
        if len(key) > 64:
            raise _wrong(f"{path}.{key[:64]}", "a key of at most 64 characters", "invalid_value")
        _string(512)(text, f"{path}.{key}")
    return pairs


def _reasoning(value: Any, path: str) -> JSON:
    """Words that are not known are read as the nearest ones (``providers.levels``)."""
    reasoning = _object(value, path)
    for name in ("effort", "summary", "generate_summary", "context", "mode"):
        if reasoning.get(name) is not None:
            _string()(reasoning[name], f"{path}.{name}")
    return reasoning


def _text(value: Any, path: str) -> JSON:
    text = _object(value, path)
    if text.get("verbosity") is not None:
        _string()(text["verbosity"], f"{path}.verbosity")
    if text.get("format") is not None:
        return {**text, "format": _format(text["format"], f"{path}.format")}
    return text


def _format(value: Any, path: str) -> JSON:
    form = _object(value, path)
    kind = _one_of("text", "json_object", "json_schema")(form.get("type"), f"{path}.type")
    if kind != "json_schema":
        return form
    _object(form.get("schema"), f"{path}.schema")
    _string(64)(form.get("name"), f"{path}.name")
    if form.get("strict") is not None:
        _boolean(form["strict"], f"{path}.strict")
    return form


def _stream_options(value: Any, path: str) -> JSON:
    options = _object(value, path)
    if options.get("include_obfuscation") is not None:
        _boolean(options["include_obfuscation"], f"{path}.include_obfuscation")
    return options


PARAMETERS: Final[dict[str, Check]] = {
    "background": _boolean,
    "context_management": _array,
    "conversation": lambda value, path: value,
    "frequency_penalty": _number(-2, 2),
    "generate": _boolean,
    "image": _object,
    "include": _strings,
    "instructions": _string(),
    "logit_bias": _object,
    "max_output_tokens": _integer(1),
    "max_tool_calls": _integer(1),
    "metadata": _metadata,
    "moderation": _object,
    "n": _integer(1, 8),
    "parallel_tool_calls": _boolean,
    "presence_penalty": _number(-2, 2),
    "previous_response_id": _string(),
    "prompt": _object,
    "prompt_cache_key": _string(),
    "prompt_cache_options": _object,
    "prompt_cache_retention": _string(),
    "reasoning": _reasoning,
    "safety_identifier": _string(),
    "seed": _integer(-(2**63), 2**63),
    "service_tier": _string(),
    "stop": _stop,
    "store": _boolean,
    "stream": _boolean,
    "stream_options": _stream_options,
    "temperature": _number(0, 2),
    "text": _text,
    "tool_choice": lambda value, path: flat_choice(value),
    "tools": lambda value, path: [flat_tool(tool) for tool in _array(value, path)],
    "top_logprobs": _integer(0, 20),
    "top_p": _number(0, 1),
    "truncation": _one_of("auto", "disabled"),
    "user": _string(),
    "access_programs": _object,
}
"""Every parameter that the relay knows, and its check. ``model``, ``input`` and the aliases below are apart."""


@dataclass(frozen=True, slots=True)
class Request:
    """One create request, checked. ``params`` holds the parameters that were set (null means not set)."""

    body: JSON
    model: str
    params: JSON
    items: list[JSON]
    strict: bool = False
    resolved: bool = False
    """Whether ``items`` begin with the window of ``previous_response_id``: then no upstream needs to know that id."""
    own: list[JSON] = field(default_factory=list)
    """The items of this request's own ``input``: what warnings name their places in."""
    retold: bool = False
    """Whether ``own`` is said otherwise than it was sent."""
    places: list[str] | None = None
    """The path of each of these where it came from ``messages``, of which one may be several items."""
    objections: tuple[RelayError, ...] = ()
    """Where it was not known who answers (``parse(judged=False)``): what a translated upstream could not be told."""
    notes: tuple[tuple[str, str], ...] = ()
    """Warnings, ``(param, reason)``, that whatever upstream is asked gives."""
    _tools: list[ToolSet] = field(default_factory=list, compare=False)
    """``tools``, from when they are first asked for."""

    @property
    def tools(self) -> ToolSet:
        """The tools of the request and of its items. Raises: RelayError for declarations that make no sense.

        They are read when a dialect asks for them: a native upstream judges its own (decision 57).
        """
        if not self._tools:
            self._tools.append(_tools(self.params, self.items))
        return self._tools[0]

    @property
    def stream(self) -> bool:
        """Whether the client asked for events."""
        return bool(self.params.get("stream", False))

    @property
    def n(self) -> int:
        """How many answers (decision 11)."""
        return int(self.params.get("n", 1))

    @property
    def store(self) -> bool:
        """Whether the response is kept; true by default."""
        return bool(self.params.get("store", True))

    @property
    def previous_response_id(self) -> str | None:
        """The response that this one continues."""
        return self.params.get("previous_response_id")

    @property
    def show_summary(self) -> bool:
        """Whether the client asked for reasoning summaries."""
        reasoning = self.params.get("reasoning") or {}
        return (reasoning.get("summary") or reasoning.get("generate_summary")) is not None

    @property
    def format(self) -> JSON | None:
        """``text.format`` where it is not plain text."""
        form = (self.params.get("text") or {}).get("format")
        return form if form is not None and form["type"] != "text" else None

    def with_window(self, before: list[JSON], items: list[JSON]) -> Request:
        """The same request over ``items`` and the window of the response that it continues."""
        return replace(self.with_items([*before, *items]), resolved=True, own=items)

    def with_items(self, items: list[JSON]) -> Request:
        """The same request over other items; tools that items bring are merged."""
        return self if items is self.items else replace(self, items=items, _tools=[])

    def without_tools(self) -> Request:
        """The same request, which offers nothing, whatever its items bring."""
        return replace(self, _tools=[ToolSet()])

    def judged(self) -> Request:
        """The same request for an upstream that is translated to. Raises: RelayError that it cannot be told."""
        for error in self.objections:
            raise error
        return self

    def sound(self, *, native: bool) -> Request:
        """The same request without items of earlier turns that make no sense (``responses.items.sound``)."""
        return self if self.items is self.own else self._of(sound(self.items, native=native))

    def told(self, *, sealed: bool) -> Request:
        """The same request with what agents said to each other as messages (``responses.items.told``)."""
        return self._of(told(self.items, sealed=sealed))

    def _of(self, result: Told) -> Request:
        items, left_out, altered = result
        request = self.with_items(items)
        if altered:
            request = replace(request, own=[altered.get(id(item), item) for item in self.own], retold=True)
        return replace(request, notes=(*self.notes, *named(self, left_out))) if left_out else request

    def with_params(self, **params: Any) -> Request:
        """The same request with other parameters; None takes one out."""
        if all(self.params.get(name) == value for name, value in params.items()):
            return self
        merged = {**self.params, **params}
        return replace(self, params={name: value for name, value in merged.items() if value is not None}, _tools=[])


def named(request: Request, left_out: list[tuple[JSON, str, str]]) -> list[tuple[str, str]]:
    """Warnings for what was left out: ``(item, path inside it, reason)``. Items of earlier responses have no place in
    this request; of very many only the first are named."""
    paths = request.places or [f"input[{index}]" for index in range(len(request.own))]
    places = {id(item): path for item, path in zip(request.own, paths, strict=False)}
    notes = [
        (places[id(item)] + path, reason)
        if id(item) in places
        else ("input", f"an item of an earlier response: {reason}")
        for item, path, reason in left_out[:_NAMED_LIMIT]
    ]
    rest = len(left_out) - _NAMED_LIMIT
    return [*notes, ("input", f"{rest} more were left out")] if rest > 0 else notes


_NAMED_LIMIT: Final = 32


def parse(
    body: Any,
    *,
    default_model: str | None = None,
    strict: bool = False,
    judged: bool = True,
    max_items: int = 100_000,
) -> Request:
    """Check a decoded body; unless ``judged``, only for what the relay itself reads (decision 57), and the rest is in
    ``objections``. ``max_items`` bounds the items of the input and the parts of each (decision 61).

    Raises: RelayError naming the parameter and what was expected.
    """
    if not isinstance(body, dict):
        raise RelayError("invalid_type", "The request body must be a JSON object.")
    model = body.get("model")
    if model is None:
        model = default_model
    if model is None:
        raise RelayError("missing_parameter", "Missing required parameter: 'model'.", param="model")
    if not isinstance(model, str) or not model:
        raise _wrong("model", "a non-empty string")
    later: Later | None = None if judged else []
    params = {
        name: _checked(name, value, later) for name, value in body.items() if name in PARAMETERS and value is not None
    }
    _resolve_aliases(body, params)
    for name in ("input", "messages"):
        _bounded(body.get(name), name, max_items)
    places: list[str] | None = None
    if body.get("messages") is not None:
        if body.get("input") is not None:
            raise RelayError("invalid_value", "Give input or messages, not both.", param="messages")
        places = []
        items = from_messages(body["messages"], later, places)
    else:
        items = normalise(body.get("input"), later=later)
    if params.get("conversation") is not None and params.get("previous_response_id") is not None:
        message = "previous_response_id and conversation cannot be used together."
        raise RelayError("invalid_value", message, param="conversation")
    return Request(body, model, params, items, strict, own=items, places=places, objections=tuple(later or ()))


def _bounded(items: Any, path: str, limit: int) -> None:
    if not isinstance(items, list):
        return
    if len(items) > limit:
        raise _wrong(path, f"an array of at most {limit} items ([server] max_items)", "invalid_value")
    for index, item in enumerate(items):
        if isinstance(item, dict):
            for name in _PARTS & item.keys():
                parts = item[name]
                if isinstance(parts, list) and len(parts) > limit:
                    expected = f"an array of at most {limit} parts ([server] max_items)"
                    raise _wrong(f"{path}[{index}].{name}", expected, "invalid_value")


_PARTS: Final = frozenset({"content", "output", "summary", "tools", "tool_calls"})


def _checked(name: str, value: Any, later: Later | None) -> Any:
    try:
        return PARAMETERS[name](value, name)
    except RelayError as error:
        if later is None or name in _READ_WHOLE:
            raise
        if name in _READ:
            _READ[name](value, name)
        object_to(error, later)
        return value


_READ_WHOLE: Final = frozenset(
    {"background", "context_management", "generate", "include", "n", "previous_response_id", "store", "stream"}
)
"""Parameters that the relay acts on itself, whoever answers."""

_READ: Final[dict[str, Check]] = {
    "image": _object,
    "prompt": _object,
    "reasoning": _object,
    "stream_options": _object,
    "text": _object,
    "tools": _array,
}
"""Parameters whose members it reads; what they may be is the upstream's to say."""


def check_known(request: Request, forwarded: tuple[str, ...] = ()) -> None:
    """In strict mode, refuse what nobody knows; ``forwarded`` names pass (decisions 9, 13). Raises: RelayError."""
    if request.strict:
        for name in request.body:
            if name not in KNOWN and name not in forwarded:
                raise RelayError("unknown_parameter", f"Unknown parameter: '{name}'.", param=name)


def _unread(value: Any, path: str) -> Any:
    return value


def _alias(parameter: str, member: str | None = None, read: Check = _unread) -> Alias:
    """Another word for a parameter, or for a member of one, which counts where that is not given itself."""

    def apply(name: str, value: Any, params: JSON) -> None:
        value = read(value, name)
        if member is not None:
            known = params.get(parameter) or {}
            if known.get(member) is None:
                params[parameter] = PARAMETERS[parameter]({**known, member: value}, parameter)
        elif parameter not in params:
            params[parameter] = PARAMETERS[parameter](value, name)

    return apply


def _asked_logprobs(name: str, value: Any, params: JSON) -> None:
    wanted = params.get("include", [])
    if _boolean(value, name) and _LOGPROBS not in wanted:
        params["include"] = [*wanted, _LOGPROBS]


def _response_format(value: Any, path: str) -> JSON:
    form = _object(value, path)
    inner = form.get("json_schema")
    if form.get("type") == "json_schema" and isinstance(inner, dict):
        form = {"type": "json_schema", **inner}
    return _format(form, path)


Alias = Callable[[str, Any, JSON], None]
"""``alias(name, value, params)`` sets in ``params`` what the name stands for."""

_LOGPROBS: Final = "message.output_text.logprobs"
_ALIASES: Final[dict[str, Alias]] = {
    "max_completion_tokens": _alias("max_output_tokens"),
    "max_tokens": _alias("max_output_tokens"),
    "reasoning_effort": _alias("reasoning", "effort", _string()),
    "verbosity": _alias("text", "verbosity", _string()),
    "response_format": _alias("text", "format", _response_format),
    "functions": _alias("tools", None, lambda value, path: old_functions(_array(value, path))),
    "function_call": _alias("tool_choice", None, lambda value, path: old_choice(value)),
    "logprobs": _asked_logprobs,
}
"""Names of chat/completions: the first of two for one parameter wins."""

ALIASES: Final = frozenset({"messages", *_ALIASES})
KNOWN: Final = frozenset({*PARAMETERS, *ALIASES, "model", "input", "type", "stream_id", "client_metadata"})


def _resolve_aliases(body: JSON, params: JSON) -> None:
    for name, apply in _ALIASES.items():
        if body.get(name) is not None:
            apply(name, body[name], params)


def _tools(params: JSON, items: list[JSON]) -> ToolSet:
    declared = [(f"tools[{index}]", tool) for index, tool in enumerate(params.get("tools", []))]
    brought = [
        (f"input[{index}].tools[{number}]", tool, item["type"] == "tool_search_output")
        for index, item in enumerate(items)
        if item.get("type") in ("additional_tools", "tool_search_output") and isinstance(item.get("tools"), list)
        for number, tool in enumerate(item["tools"])
    ]
    choice = params.get("tool_choice")
    if not (declared or brought) and choice is None:
        return _NO_TOOLS  # hot: bench short
    return parse_tools(declared, brought, choice)


_NO_TOOLS: Final = ToolSet()
