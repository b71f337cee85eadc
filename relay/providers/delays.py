"""When to come back: every form in which an upstream says so, and the limits that it tells of.

Source: translation.md §5.4; RFC 9110 §10.2.3 (Retry-After), §5.6.7 (dates); RFC 3339; google.rpc.RetryInfo;
openrouter.ai/docs "Limits" (X-RateLimit-Reset); platform.openai.com "Rate limits" (durations such as ``6m0s``);
platform.claude.com "Rate limits" (``anthropic-ratelimit-*``).

There is no clock here: a wait is a number of seconds from now, or a time, which the caller subtracts its clock from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple

LONGEST_S: Final = 86_400.0
"""A longer wait is nonsense, or of no use to a client."""
VALUE_LIMIT: Final = 128
"""Characters of a header's value that are believed."""


class Delay(NamedTuple):
    """``seconds`` from now, or ``at`` a time in seconds since 1970."""

    seconds: float | None = None
    at: float | None = None


_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_UNIT: Final = r"(?:ms|milli(?:second)?s?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)(?![a-z])"
_AMOUNT: Final = r"\d{1,12}(?:\.\d{1,12})?"
_PIECE: Final = re.compile(rf"({_AMOUNT})\s?({_UNIT})")
_DURATION: Final = re.compile(rf"(?:{_AMOUNT}\s?{_UNIT},?\s?(?:and )?){{1,5}}")
_NUMBER: Final = re.compile(r"\d{1,15}(?:\.\d{1,12})?")
_SPOKEN: Final = re.compile(
    r"(?:try again|retry|retrying|wait|available again|resets?)(?: again)?"
    r"(?: in| after| for)?:? (?:about |approximately )?"
    rf"({_DURATION.pattern})"
)


def _length(text: str) -> float:
    """Seconds of a duration such as ``1h2m3.5s``, ``20ms`` or ``12 seconds``."""
    total = 0.0
    for number, unit in _PIECE.findall(text):
        total += float(number) * _UNITS["ms" if unit.startswith(("ms", "milli")) else unit[0]]
    return total


def delay_of(value: Any, scale: float = 1.0) -> Delay | None:
    """A number of seconds (times ``scale``), a duration, an epoch in s or ms, a date; None for everything else."""
    if isinstance(value, dict):  # google.protobuf.Duration, spelled out
        value = value.get("seconds")
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    text = str(value).strip()[:VALUE_LIMIT]
    if _NUMBER.fullmatch(text):
        number = float(text)
        if number >= 1e11:
            return Delay(at=number / 1_000)
        return Delay(at=number) if number >= 1e9 else Delay(seconds=number * scale)
    if _DURATION.fullmatch(text.lower()):
        return Delay(seconds=_length(text.lower()))
    return _date(text)


def _date(text: str) -> Delay | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(text)
        except (ValueError, TypeError, IndexError):
            continue
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return Delay(at=moment.timestamp())
    return None


def spoken(text: str) -> Delay | None:
    """The wait that words name: ``Please try again in 6m0s`` (in lower case)."""
    found = _SPOKEN.search(text)
    return Delay(seconds=_length(found[1])) if found else None


_TOLD: Final = (
    ("retry-after-ms", 0.001),
    ("x-ms-retry-after-ms", 0.001),
    ("retry-after", 1.0),
)


def told(headers: Mapping[str, str]) -> Delay | None:
    """What ``retry-after-ms`` or ``retry-after`` says."""
    for name, scale in _TOLD:
        wait = delay_of(headers[name], scale) if name in headers else None
        if wait is not None and (wait.seconds is None or wait.seconds < LONGEST_S):
            return wait
    return None


_USED_UP: Final = re.compile(r"\br=0\b.{0,64}?\bt=(\d{1,12})\b")
"""``RateLimit: "default";r=0;t=30`` (draft-ietf-httpapi-ratelimit-headers-10, section 4)."""


def reset(headers: Mapping[str, str]) -> Delay | None:
    """When a limit that is used up starts anew, by the headers of limits: a bare one, or those with nothing left."""
    limits = {name: str(value) for name, value in headers.items() if "ratelimit" in name}
    for name in ("x-ratelimit-reset", "ratelimit-reset"):
        wait = delay_of(limits.get(name))
        if wait is not None:
            return wait
    used_up = _USED_UP.search(limits.get("ratelimit", "")[:VALUE_LIMIT])
    if used_up is not None:
        return delay_of(used_up[1])
    spent = [
        delay_of(value)
        for name, value in limits.items()
        if "reset" in name and limits.get(name.replace("reset", "remaining"), "0").strip() == "0"
    ]
    delays = [wait for wait in spent if wait is not None]
    return max(delays, key=lambda wait: (wait.at or 0, wait.seconds or 0), default=None)


_LIMIT: Final = re.compile(r"x-ratelimit-(?:limit|remaining|reset)[a-z0-9-]{0,40}")
_ANTHROPIC: Final = re.compile(r"anthropic-ratelimit-([a-z-]{1,40})-(limit|remaining|reset)")
_HARMLESS: Final = re.compile(r"[\d.,:;=wTZmshd +-]{1,64}")
"""Numbers, durations, times: no room for a key."""


def limits(headers: Mapping[str, str], now: float) -> tuple[tuple[str, str], ...]:
    """The limits of a client's own key as it may be told of them: ``x-ratelimit-*`` as they are, Anthropic's under
    those names, with a duration for the time of their reset. Values that are none do not pass.
    """
    found = []
    for name, value in headers.items():
        theirs = _ANTHROPIC.fullmatch(name)
        if not (theirs or _LIMIT.fullmatch(name)) or not _HARMLESS.fullmatch(value):
            continue
        if theirs is not None:
            name = f"x-ratelimit-{theirs[2]}-{theirs[1]}"
            wait = delay_of(value) if theirs[2] == "reset" else None
            value = duration(wait.at - now) if wait is not None and wait.at is not None else value
        found.append((name, value))
    return tuple(found[:32])


def duration(seconds: float) -> str:
    """As OpenAI writes it: ``6m0s``, ``1s``, ``0s`` for what is over."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest}s"
