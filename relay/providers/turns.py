"""Items in the order in which every chat-like upstream wants them: who speaks, what it calls, what came back.

Source: translation.md §2.1, §2.4, §2.5; pain.md 9; decision 25. The grouping looks only backwards, so that the groups
of turn n, except its last, are the first groups of turn n+1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from relay.errors import RelayError
from relay.providers.media import shown
from relay.responses.json import encoded
from relay.responses.tools import JSON, call_id_of, is_call, is_output


@dataclass(slots=True)
class Say:
    """A message of a user, a system or a developer. ``parts`` are its content parts."""

    role: str
    parts: list[JSON]


@dataclass(slots=True)
class Seen(Say):
    """Pictures that the assistant made: no assistant may say one, so they stand behind its calls and their outputs."""


@dataclass(slots=True)
class Assist:
    """What the assistant did in one go: reasoning items, messages and call items, in order."""

    items: list[JSON] = field(default_factory=list)

    @property
    def calls(self) -> list[JSON]:
        """The call items among them."""
        return [item for item in self.items if is_call(item)]


@dataclass(slots=True)
class Results:
    """The outputs of the calls of the ``Assist`` before it, as ``(call, output)`` in the order of the calls."""

    pairs: list[tuple[JSON, JSON]] = field(default_factory=list)


Turn = Say | Assist | Results


def turns(items: list[JSON]) -> list[Turn]:
    """Group checked items (``responses.items.check_pairing``). Outputs stand directly behind the calls they answer.

    Raises: RelayError naming ``input[i].type`` for an item that cannot be said to a chat-like upstream.
    """
    result: list[Turn] = []
    assist: Assist | None = None
    seen = Seen("user", [])
    results: dict[str, Results] = {}
    calls: dict[str, JSON] = {}
    for index, item in enumerate(items):
        for one in _shown(item, index):
            kind = one["type"]
            if kind == "message" and one["role"] != "assistant":
                assist = None
                result.append(Say(one["role"], one["content"]))
            elif is_output(one):
                assist = None
                identifier = call_id_of(one) or ""
                results[identifier].pairs.append((calls[identifier], one))
            else:
                if assist is None:
                    assist = Assist()
                    result.append(assist)
                    answers = Results()
                    seen = Seen("user", [])
                    result.extend((answers, seen))
                assist.items.append(one)
                seen.parts.extend(_pictures(item))
                if is_call(one):
                    identifier = call_id_of(one) or ""
                    calls[identifier] = one
                    results[identifier] = answers
    return [
        _in_call_order(turn, before) for before, turn in zip([None, *result], result, strict=False) if _matters(turn)
    ]


def _matters(turn: Turn) -> bool:
    if isinstance(turn, Results):
        return bool(turn.pairs)
    return bool(turn.parts) if isinstance(turn, Seen) else True


def last_asked(turns: list[Turn]) -> int:
    """The place of the user's last message, 0 where there is none."""
    asked = (n for n, one in enumerate(turns) if isinstance(one, Say) and one.role == "user")
    return max((n for n in asked if not isinstance(turns[n], Seen)), default=0)


def _in_call_order(turn: Turn, before: Turn | None) -> Turn:
    if isinstance(turn, Results) and isinstance(before, Assist):
        order = {id(call): position for position, call in enumerate(before.items)}
        turn.pairs.sort(key=lambda pair: order[id(pair[0])])
    return turn


# --- items that have no slot of their own in a chat


def _shown(item: JSON, index: int) -> list[JSON]:
    kind = item["type"]
    if kind in _PLAIN or is_call(item) or is_output(item):
        return [item]
    show = _HISTORY.get(kind)
    if show is None:
        message = f"input[{index}].type '{kind}' is not known to this upstream."
        raise RelayError("unsupported_value", message, param=f"input[{index}].type")
    return show(item)


_PLAIN: Final = frozenset({"message", "reasoning"})


def _nothing(item: JSON) -> list[JSON]:
    return []


def _pair(name: str, arguments: str, output: str, item: JSON) -> list[JSON]:
    identifier = str(item.get("id") or "call_" + name)
    return [
        {"type": "function_call", "call_id": identifier, "name": name, "arguments": arguments},
        {"type": "function_call_output", "call_id": identifier, "output": output},
    ]


def _mcp_call(item: JSON) -> list[JSON]:
    name = f"{item.get('server_label', 'mcp')}__{item.get('name', 'call')}"
    output = item.get("output")
    if output is None:
        error = item.get("error")
        output = error if isinstance(error, str) else encoded(error).decode() if error is not None else ""
    return _pair(name, str(item.get("arguments") or "{}"), str(output), item)


def _code_interpreter_call(item: JSON) -> list[JSON]:
    logs = [str(output.get("logs", "")) for output in item.get("outputs") or [] if isinstance(output, dict)]
    arguments = orjson.dumps({"code": item.get("code") or ""}).decode()
    return _pair("code_interpreter", arguments, "\n".join(logs), item)


def _image_generation_call(item: JSON) -> list[JSON]:
    text = "[generated image]" if item.get("result") else "[image generation failed]"
    return [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}]


def _pictures(item: JSON) -> list[JSON]:
    result = item.get("result") if item["type"] == "image_generation_call" else None
    url = shown(result) if isinstance(result, str) and result else None
    return [] if url is None else [{"type": "input_image", "image_url": url}]


_HISTORY: Final[Mapping[str, Callable[[JSON], list[JSON]]]] = {
    "web_search_call": _nothing,  # the text that follows it holds what was found (translation.md §2.4)
    "file_search_call": _nothing,
    "tool_search_call": _nothing,  # a server's: one of the client is a call like any other
    "tool_search_output": _nothing,  # its tools are merged into the request's
    "additional_tools": _nothing,
    "configuration_update": _nothing,  # applied to the request before it comes here
    "mcp_list_tools": _nothing,
    "mcp_approval_request": _nothing,
    "mcp_approval_response": _nothing,
    "mcp_call": _mcp_call,
    "code_interpreter_call": _code_interpreter_call,
    "image_generation_call": _image_generation_call,
}


def text_of(parts: list[JSON]) -> str:
    """The text of a list of content parts, concatenated."""
    return "".join(str(part.get("text") or part.get("refusal") or "") for part in parts)
