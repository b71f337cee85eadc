"""A client's ``pattern``: run only where its form bounds what it can cost.

Python's ``re`` goes back over what it matched, so a pattern of a few characters can take longer than anyone waits
(CWE-1333). What runs has at most one quantifier of variable length (two behind ``^``; ``{n}`` is free), no group that
is repeated, no look-around, no back reference, few ways through its alternatives, and 256 characters, as has the text;
what these can cost at most is known before, and paid for in steps. Every other pattern is not checked, silently.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from relay.providers.schema.budget import Budget

LENGTH: Final = 256
"""Characters of a pattern, and of a text that it is tried on."""

WAYS: Final = 16
"""Ways through the alternatives of a pattern, one chosen for each ``|``."""

_COMPILING: Final = 2_000
_CHARACTERS_PER_STEP: Final = 32
_DEAREST: Final = 50_000
_GROUPS: Final = 32
_REPEAT: Final = re.compile(r"\{(\d*)(,?)(\d*)\}")
_SETS: Final = ("[[", "--", "&&", "||", "~~")  # of which Python warns that they may get a meaning


class Bound(NamedTuple):
    """What a match costs: about ``ways`` × ``width`` × length of the text to the power of ``power``."""

    power: int
    ways: int
    width: int


class _Open:
    """A group being read: ways through the branches before, and through this one."""

    __slots__ = ("here", "ways")

    def __init__(self) -> None:
        self.ways = 0
        self.here = 1


def bound(pattern: str) -> Bound | None:
    """The bound of a pattern; None where its form has none. Linear."""
    if len(pattern) > LENGTH:
        return None
    opened = [_Open()]
    anchored = pattern.startswith("^")
    variable = width = at = 0
    repeatable = False  # whether a quantifier may stand here
    while at < len(pattern):
        sign = pattern[at]
        quantifier = _quantifier(pattern, at)
        if quantifier is not None:
            times, at = quantifier
            if not repeatable:
                return None
            variable += times is None
            width += min(times or 1, LENGTH)
            repeatable = False
            continue
        width += 1
        repeatable = True
        if sign == "\\":
            if pattern[at + 1 : at + 2] in ("", *"123456789kgpP"):
                return None
            at += 2
        elif sign == "[":
            end = _end_of_set(pattern, at)
            if end is None:
                return None
            at = end
        elif sign == "(":
            at += 1
            if pattern[at : at + 1] == "?":
                if pattern[at + 1 : at + 2] != ":":
                    return None
                at += 2
            opened.append(_Open())
            repeatable = False
            if len(opened) > _GROUPS:
                return None
        elif sign == ")":
            if len(opened) == 1:
                return None
            group = opened.pop()
            opened[-1].here *= group.ways + group.here
            repeatable = False
            at += 1
        else:
            if sign == "|":
                anchored = anchored and len(opened) > 1
                opened[-1].ways += opened[-1].here
                opened[-1].here = 1
            repeatable = sign not in "|^$"
            at += 1
    ways = opened[0].ways + opened[0].here
    if len(opened) > 1 or ways > WAYS or variable > (2 if anchored else 1):
        return None
    return Bound(variable + (not anchored), ways, width)


def _quantifier(pattern: str, at: int) -> tuple[int | None, int] | None:
    """How often what stands before is repeated (None: it depends), and where the pattern goes on."""
    if pattern[at] in "*+?":
        times, end = None, at + 1
    else:
        found = _REPEAT.match(pattern, at) if pattern[at] == "{" else None
        if found is None or not (found[1] or found[3]):
            return None
        times, end = (None if found[2] else int(found[1])), found.end()
    return times, end + (times is None and pattern[end : end + 1] == "?")


def _end_of_set(pattern: str, at: int) -> int | None:
    """Where the set that begins at ``at`` is over; None where there is doubt."""
    at += 2 if pattern[at + 1 : at + 2] == "^" else 1
    begun = at
    while at < len(pattern):
        if pattern[at] == "]":
            return at + 1 if at > begun else None
        if pattern[at - 1 : at + 1] in _SETS or pattern[at] == "[":
            return None
        at += 2 if pattern[at] == "\\" else 1
    return None


class Patterns:
    """Patterns of one schema, each looked at once."""

    __slots__ = ("_budget", "_known")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._known: dict[str, tuple[re.Pattern[str], Bound] | None] = {}

    def matches(self, text: Any, pattern: Any) -> bool:
        """Whether ``pattern`` is found in ``text``; true where nobody tries. Raises: SpentError."""
        if not isinstance(text, str) or not isinstance(pattern, str) or len(text) > LENGTH:
            return True
        if pattern not in self._known:
            self._known[pattern] = self._looked_at(pattern)
        known = self._known[pattern]
        if known is None:
            return True
        compiled, (power, ways, width) = known
        cost = (len(text) + 1) ** power * ways * width // _CHARACTERS_PER_STEP
        if cost > _DEAREST:
            return True
        self._budget.spend(cost + 1)
        return compiled.search(text) is not None

    def _looked_at(self, pattern: str) -> tuple[re.Pattern[str], Bound] | None:
        limits = bound(pattern)
        if limits is None:
            return None
        self._budget.spend(_COMPILING)
        try:
            return re.compile(pattern), limits
        except (re.error, OverflowError, RecursionError):
            return None
