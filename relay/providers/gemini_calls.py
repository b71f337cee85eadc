"""Arguments that come in pieces: ``partialArgs`` of Vertex, which the relay never asks for, put together by JSON path.

Source: translation.md §3.5; ``google.genai.types.PartialArg``; the recordings of ``corpus/gemini-generate/vertex``.
"""

from __future__ import annotations

import re
from typing import Any, Final

from relay.errors import RelayError
from relay.responses.json import encoded, loads
from relay.responses.tools import JSON

DEPTH_LIMIT: Final = 64
GAP_LIMIT: Final = 64
"""How many places of a list one path may leave out."""

_STEP: Final = re.compile(r"\.([^.\[]+)|\[(\d{1,9})\]|\[['\"]([^'\"]*)['\"]\]")
_VALUES: Final = ("stringValue", "numberValue", "boolValue")


class _Text(list[str]):
    """A string in the making."""


class PartialCall:
    """A call whose arguments are still coming."""

    __slots__ = ("_arguments", "_words", "id", "name", "signature")

    def __init__(self, name: str, identifier: Any, signature: str | None, arguments: Any) -> None:
        self.name = name
        self.id = identifier
        self.signature = signature
        given = _given(arguments)
        self._arguments: JSON = dict(given) if isinstance(given, dict) else {}
        self._words = "" if isinstance(given, dict) or not given else given

    def add(self, partial: Any) -> None:
        """The ``partialArgs`` of one part. Raises: RelayError for a path that nobody could mean."""
        for one in partial if isinstance(partial, list) else ():
            path = str(one.get("jsonPath", "")) if isinstance(one, dict) else ""
            steps: list[str | int] = [
                int(number) if number else name or quoted for name, number, quoted in _STEP.findall(path)
            ]
            if not steps or isinstance(steps[0], int) or len(steps) > DEPTH_LIMIT:
                raise RelayError("upstream_bad_response", "The upstream sent arguments with a path of no use.")
            _put(self._arguments, steps, next((one[kind] for kind in _VALUES if kind in one), None))

    def text(self) -> str:
        """The JSON text of the arguments; what is no object stays as the upstream wrote it."""
        return self._words or encoded(self.arguments()).decode()

    def arguments(self) -> JSON:
        """The arguments as they are now."""
        return {name: _settled(value) for name, value in self._arguments.items()}


def _given(arguments: Any) -> JSON | str | None:
    """Whole arguments: an object, or its text, as servers of other dialects write it."""
    if not arguments or isinstance(arguments, dict):
        return arguments or None
    if not isinstance(arguments, str):
        return encoded(arguments).decode()
    try:
        read = loads(arguments)
    except ValueError:
        return arguments.strip()
    return read if isinstance(read, dict) else arguments


def _put(node: Any, steps: list[str | int], value: Any) -> None:
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        if isinstance(step, int) != isinstance(node, list) or isinstance(node, _Text):
            raise RelayError("upstream_bad_response", "The upstream sent arguments that contradict each other.")
        if isinstance(step, int):
            if step > len(node) + GAP_LIMIT:
                raise RelayError("upstream_bad_response", "The upstream sent arguments with a path of no use.")
            node.extend([None] * (step + 1 - len(node)))
            there = node[step]
        else:
            there = node.get(step)
        if after is not None:
            if not isinstance(there, list | dict):
                node[step] = there = [] if isinstance(after, int) else {}
            node = there
        elif isinstance(value, str):
            if isinstance(there, _Text):
                there.append(value)
            else:
                node[step] = _Text([value])
        else:
            node[step] = value


def _settled(node: Any) -> Any:
    if isinstance(node, _Text):
        return "".join(node)
    if isinstance(node, dict):
        return {name: _settled(value) for name, value in node.items()}
    if isinstance(node, list):
        return [_settled(value) for value in node]
    return node
