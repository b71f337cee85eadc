"""Levels of the API that a request names in words nobody knows: which known one is nearest (decision 57).

Vendors and clients invent levels faster than they agree on them (``ultra``, ``xxhigh``, ``tiny``). The rule: spelling
aside (case, blanks, ``-``, ``_``), a known word is itself; a word with a meaning is the level that it means, of which
the tables below hold the ones seen and their like, first match first; a word that says nothing is the middle.
"""

from __future__ import annotations

import re
from typing import Final

from relay.providers.base import Warnings
from relay.responses.tools import JSON

EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

_Words = tuple[tuple[str, re.Pattern[str]], ...]

_EFFORT_WORDS: Final[_Words] = (
    ("none", re.compile(r"no|off|false|zero|never|disabled?|nothinking|nothink|nonthinking")),
    ("minimal", re.compile(r"(very|ultra|extra|super|x+)low|lowest|min.*|tiny.*|nano|micro|least|instant")),
    ("low", re.compile(r".*low.*|light.*|small.*|little|fast.*|quick.*|short|brief|less")),
    (
        "max",
        re.compile(r".*ultra.*|.*max.*|x{2,}high|(very){2,}high|.*extreme.*|highest|hyper.*|mega.*|full|unlimited"),
    ),
    ("xhigh", re.compile(r"(x|extra|very|super|higher).*|.*xhigh|huge|deepest|intense|heavy")),
    ("high", re.compile(r".*high.*|big|large|hard.*|deep.*|strong|long|more|thorough|on|true|enabled?")),
)
_VERBOSITY_WORDS: Final[_Words] = (
    ("low", re.compile(r".*low.*|min.*|none|off|terse|concise|short|brief|compact|quiet|tiny|less")),
    ("high", re.compile(r".*high.*|.*max.*|.*ultra.*|verbose|detailed|long|full|extreme|more")),
)


def _nearest(word: str, known: tuple[str, ...], words: _Words) -> str:
    plain = re.sub(r"[\s_-]", "", word[:64]).lower()
    if plain in known:
        return plain
    return next((level for level, pattern in words if pattern.fullmatch(plain)), "medium")


def effort(reasoning: JSON, known: object, warnings: Warnings) -> str | None:
    """``reasoning.effort`` as one of ``EFFORTS`` (or of ``known``, a table by level); None where it is not given.

    What else a translated upstream cannot be told of ``reasoning`` is warned about here too.
    """
    if reasoning.get("mode") not in (None, "standard", "default"):
        warnings.add("reasoning.mode", "not supported by this upstream")
    if reasoning.get("context") not in (None, "auto", "current_turn", "all_turns"):
        warnings.add("reasoning.context", "it must be auto, current_turn or all_turns: it was read as auto")
    for name in ("summary", "generate_summary"):
        if reasoning.get(name) not in (None, "auto", "concise", "detailed"):
            warnings.add(f"reasoning.{name}", "it must be auto, concise or detailed: it was read as auto")
    word = reasoning.get("effort")
    if word is None or word in EFFORTS or (isinstance(known, dict) and word in known):
        return word
    level = _nearest(word, EFFORTS, _EFFORT_WORDS)
    warnings.add("reasoning.effort", f"'{word[:32]}' is not known here: it was read as '{level}'")
    return level


def verbosity(text: JSON, warnings: Warnings) -> str | None:
    """``text.verbosity`` as low, medium or high; None where it is not given."""
    word = text.get("verbosity")
    if word is None or word in ("low", "medium", "high"):
        return word
    level = _nearest(word, ("low", "medium", "high"), _VERBOSITY_WORDS)
    warnings.add("text.verbosity", f"'{word[:32]}' is not known here: it was read as '{level}'")
    return level
