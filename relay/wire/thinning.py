"""An upstream's JSON without the huge members that nobody reads, cut out before anything is made of them.

Source: decision 61 (an answer is never refused for its number of values; a member that nobody reads is let go). 31 MiB
of ``{},{},…`` in such a member are ten million objects: a gigabyte, and seconds in one call that lets nobody in.

Only what is absurd is cut: a member of over ``HUGE_VALUES`` values whose name no translator knows becomes null.
Brackets are matched at C speed, in steps that yield to other threads; what is not well-formed stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from relay.wire import values

HUGE_VALUES: Final = 100_000
_WINDOW_BYTES: Final = 256 * 1024
_DEPTH: Final = 8  # levels of members that are looked into

INTO: Final = frozenset(b"candidates choices delta error errors message response".split())
"""Names of members that are looked into, in any dialect."""

KEPT: Final = frozenset(
    b"annotations args arguments audio citationMetadata citations content content_block custom function functionCall "
    b"function_call groundingMetadata images input input_json item items logprobs logprobsResult messages output "
    b"parsed part parts partial_json reasoning reasoning_content reasoning_details refusal search_results text "
    b"thinking thinking_blocks tool_calls top_logprobs usage usageMetadata web_search_results".split()
)
"""Names of members that may hold very many values and are read: whatever stands in them stays."""

_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT: Final = re.compile(
    rb'(?:[^][{}"]++|' + _STRING + rb'|\[[^][{}"]*+\]|\{[^][{}"]*+\}){1,4096}+', re.DOTALL
)  # whole values and what stands between them
_MEMBER: Final = re.compile(rb"[\s,]*+(" + _STRING + rb")\s*+:\s*+", re.DOTALL)
_BLANK: Final = re.compile(rb"[\s,]*+")
_SCALAR: Final = re.compile(_STRING + rb'|[^][{}",\s]++', re.DOTALL)


def huge(data: bytes) -> bool:
    """Whether a text may hold more than ``HUGE_VALUES`` values."""
    total = 0
    for at in range(0, len(data), _WINDOW_BYTES):
        total += values.most(data[at : at + _WINDOW_BYTES])
        if total > HUGE_VALUES:
            return True
    return False


def thinned(data: bytes) -> bytes:
    """The text without such members; the text itself where there are none."""
    if len(data) <= HUGE_VALUES or not huge(data):
        return data
    start = data.find(b"{")
    try:
        cuts = list(_cuts(data, start, _DEPTH)) if start >= 0 else []
    except ValueError:
        return data
    pieces, at = [], 0
    for begin, end in cuts:
        pieces += [data[at:begin], b"null"]
        at = end
    return b"".join([*pieces, data[at:]]) if cuts else data


def _cuts(data: bytes, start: int, depth: int) -> Iterator[tuple[int, int]]:
    """The values to leave out of the object or array that begins at ``start``. Raises: ValueError."""
    in_object, at = data[start] == 0x7B, start + 1
    while True:
        at = _blank(data, at)
        if data[at : at + 1] in (b"}", b"]", b""):
            return
        name = b""
        if in_object:
            member = _MEMBER.match(data, at)
            if member is None:
                raise ValueError("no member")
            name, at = member[1][1:-1], member.end()
        end = _end(data, at)
        if end - at > HUGE_VALUES and huge(data[at:end]):
            if in_object and name not in INTO and name not in KEPT:
                yield at, end
            elif depth and name not in KEPT and data[at] in b"{[":
                yield from _cuts(data, at, depth - 1)
        at = end


def _blank(data: bytes, at: int) -> int:
    match = _BLANK.match(data, at)
    return match.end() if match is not None else at


def _end(data: bytes, at: int) -> int:
    """Where the value that begins at ``at`` ends. Raises: ValueError."""
    if data[at : at + 1] not in (b"{", b"["):
        scalar = _SCALAR.match(data, at)
        if scalar is None:
            raise ValueError("no value")
        return scalar.end()
    depth = 0
    while True:
        sign = data[at : at + 1]
        if sign in (b"{", b"["):
            depth += 1
        elif sign in (b"}", b"]"):
            depth -= 1
        else:
            raise ValueError("no end")
        at += 1
        if not depth:
            return at
        while (flat := _flat(data, at)) is not None:
            at = flat.end()


def _flat(data: bytes, at: int) -> re.Match[bytes] | None:
    """Values that stand at ``at``: some at a time, but a string is matched as a whole."""
    flat = _FLAT.match(data, at, at + _WINDOW_BYTES)
    return _SCALAR.match(data, at) if flat is None and data[at : at + 1] == b'"' else flat
