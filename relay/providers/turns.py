"""Items in the order in which every chat-like upstream wants them: who speaks, what it calls, what came back.

Source: translation.md §2.1, §2.4, §2.5; pain.md 9; decisions 25 and 52. The grouping looks only backwards, so that the
groups of turn n, except its last, are the first groups of turn n+1. The one exception: a call whose output comes a turn
late was left out before, and stands in its place from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from relay.errors import RelayError
from relay.providers.base import Warnings
from relay.providers.media import shown
from relay.responses.items import pairing
from relay.responses.json import encoded
from relay.responses.request import Request, named
from relay.responses.tools import JSON, call_id_of, is_call, is_output

OPENING: Final = "(The conversation begins with the assistant.)"
"""What a user says where an upstream needs a user's turn and there is none: in front of an assistant's message, and
alone (decision 56). The same text in both places, so that what follows stands behind the same bytes (decision 25)."""

NOTHING_SAID: Final = ("input", "no user says anything in it: a neutral text stands in")
"""The warning for it."""


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


def turns(items: list[JSON], request: Request, warnings: Warnings) -> list[Turn]:
    """Group items; outputs stand directly behind the calls they answer. ``request``: whose places warnings name.

    What a chat-like upstream cannot be told is left out with a warning: items that nobody knows, calls without output,
    outputs without call (decision 52). Raises: RelayError in strict mode, and as ``_warn`` says.
    """
    pairs = pairing(items)
    groups = _Groups()
    rounds: dict[int, Results] = {}
    left_out: list[tuple[JSON, str, str]] = []
    for index, item in enumerate(items):
        if index in pairs.orphans:
            left_out.append((item, "", f"{pairs.orphans[index]}: it was left out"))
        elif is_output(item):
            call = pairs.calls[index]
            groups.answer(rounds[call], items[call], item)
        elif is_call(item):
            rounds[index] = groups.assist(item)
        elif (known := _known(item)) is None:
            kind = item["type"][:64]
            left_out.append((item, ".type", f"'{kind}' is not known to this upstream: the item was left out"))
        else:
            groups.show(known, _pictures(item))
    if left_out:
        _warn(left_out, request, warnings)
    return groups.ordered()


def _warn(left_out: list[tuple[JSON, str, str]], request: Request, warnings: Warnings) -> None:
    """Say what was left out; a continuation of which that leaves nothing is no continuation.

    Raises: RelayError for outputs alone that answer no call of the response that they continue, in OpenAI's words (the
    Open Responses suite asks for it: ``websocket-failed-continuation-evicts-cache``).
    """
    lost = {id(item) for item, _, _ in left_out if is_output(item)}
    if request.resolved and request.own and all(id(item) in lost for item in request.own):
        identifier = (call_id_of(request.own[0]) or "")[:64]
        message = f"No tool call found for function call output with call_id {identifier}."
        raise RelayError("invalid_request", message, param="input")
    for param, reason in named(request, left_out):
        warnings.add(param, reason)


def last_asked(turns: list[Turn]) -> int:
    """The place of the user's last message, 0 where there is none."""
    asked = (n for n, one in enumerate(turns) if isinstance(one, Say) and one.role == "user")
    return max((n for n in asked if not isinstance(turns[n], Seen)), default=0)


class _Groups:
    """Turns as they come: behind each ``Assist`` stand its ``Results`` and what was ``Seen`` of it."""

    __slots__ = ("_assist", "_results", "_seen", "_turns")

    def __init__(self) -> None:
        self._turns: list[Turn] = []
        self._assist: Assist | None = None
        self._results = Results()
        self._seen = Seen("user", [])

    def show(self, items: list[JSON], pictures: list[JSON]) -> None:
        """Messages, reasoning, or a call with its output behind it; and pictures in them."""
        for item in items:
            kind = item["type"]
            if kind == "message" and item["role"] != "assistant":
                self._assist = None
                self._turns.append(Say(item["role"], item["content"]))
            elif is_output(item):
                self.answer(self._results, items[0], item)
            else:
                self.assist(item)
        self._seen.parts.extend(pictures)

    def assist(self, item: JSON) -> Results:
        """Something that the assistant does; the outputs of its calls go to what is returned."""
        if self._assist is None:
            self._assist, self._results, self._seen = Assist(), Results(), Seen("user", [])
            self._turns += (self._assist, self._results, self._seen)
        self._assist.items.append(item)
        return self._results

    def answer(self, results: Results, call: JSON, output: JSON) -> None:
        """The output of a call."""
        self._assist = None
        results.pairs.append((call, output))

    def ordered(self) -> list[Turn]:
        """The turns, outputs in the order of their calls, without those in which nothing came back or was seen."""
        for before, turn in pairwise(self._turns):
            if isinstance(before, Assist) and isinstance(turn, Results):
                order = {id(call): position for position, call in enumerate(before.items)}
                turn.pairs.sort(key=lambda pair: order[id(pair[0])])
        return [turn for turn in self._turns if _matters(turn)]


def _matters(turn: Turn) -> bool:
    if isinstance(turn, Results):
        return bool(turn.pairs)
    return bool(turn.parts) if isinstance(turn, Seen) else True


# --- items that have no slot of their own in a chat


def _known(item: JSON) -> list[JSON] | None:
    """An item as items that a chat has; None for one that nobody knows."""
    if item["type"] in _PLAIN:
        return [item]
    show = _HISTORY.get(item["type"])
    return None if show is None else show(item)


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


def _outputs(item: JSON) -> list[JSON]:
    outputs = item.get("outputs")
    return [output for output in outputs if isinstance(output, dict)] if isinstance(outputs, list) else []


def _code_interpreter_call(item: JSON) -> list[JSON]:
    logs = [str(output.get("logs", "")) for output in _outputs(item)]
    arguments = encoded({"code": item.get("code") or ""}).decode()
    return _pair("code_interpreter", arguments, "\n".join(logs), item)


def _image_generation_call(item: JSON) -> list[JSON]:
    text = "[generated image]" if item.get("result") else "[image generation failed]"
    return [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}]


def _pictures(item: JSON) -> list[JSON]:
    """What the items of ``_HISTORY`` show: a generated image, and the plots that code made."""
    made = [item.get("result")] if item["type"] == "image_generation_call" else []
    if item["type"] == "code_interpreter_call":
        made = [output.get("url") for output in _outputs(item) if output.get("type") == "image"]
    urls = (shown(one) for one in made if isinstance(one, str) and one)
    return [{"type": "input_image", "image_url": url} for url in urls if url is not None]


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
