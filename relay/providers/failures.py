"""Upstream errors as ours: one reader of what an error says, wherever it says it, for every dialect.

Source: translation.md §5.1 (shapes), §5.2 (table), §5.4 (headers); decision 46 (where a reason is looked for). The
tables are ``conditions`` and ``delays``. A provider adds its own repairs; the app then says ``settled`` with its clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from relay.errors import RelayError
from relay.providers import delays
from relay.providers.conditions import BILLING, LIMITED, MODEL, OVERLOADED, SEARCH_LIMIT, kind_of, missing
from relay.providers.delays import LONGEST_S, Delay, delay_of
from relay.responses.json import loads
from relay.responses.tools import JSON

MESSAGE_LIMIT: Final = 2_000
"""Characters of an upstream's message that are shown."""
NODES_LIMIT: Final = 64
"""Objects, lists and texts of an error that are looked at."""
DEPTH_LIMIT: Final = 8

_BILLED: Final = "The upstream refused the request for reasons of billing or quota."
_GENERIC: Final[Mapping[str, str]] = {
    BILLING: _BILLED,
    "upstream_authentication": "The upstream did not accept the API key.",
    "upstream_forbidden": "The upstream does not permit this request with the key it has.",
    "upstream_timeout": "The upstream timed out.",
    OVERLOADED: "The upstream is overloaded. Please try again later.",
    "upstream_error": "The upstream had an error while processing the request.",
}
"""Shown in place of the upstream's words, which may name keys, hosts or organisations."""


# --- reading

_CODES: Final = ("code", "type", "status", "error_type", "error_code", "errorCode", "__type", "reason")
_MESSAGES: Final = (
    "message",
    "msg",
    "Message",
    "error_message",
    "errorMessage",
    "error_msg",
    "status_msg",
    "error",
    "detail",
    "details",
    "description",
    "error_description",
    "raw",
)
_STATUSES: Final = ("status_code", "statusCode", "http_code", "http_status", "httpStatus", "code", "status")
_INSIDE: Final = (
    *_MESSAGES,
    "errors",
    "innererror",
    "inner_error",
    "metadata",
    "value",
    "base_resp",
    "response",
    "cause",
    "data",
    "body",
    "Output",
)
_DELAYS: Final = (
    ("retry_after_ms", 0.001),
    ("retryDelay", 1.0),
    ("retry_after", 1.0),
    ("retryAfter", 1.0),
    ("retry_after_seconds", 1.0),
)
_COMPLETE: Final = ("output", "choices", "candidates", "content", "metadata")
"""Members of what holds an error beside much else, which is the client's or the model's."""

_PAIR: Final = re.compile(r"""["'](?:code|type|status|error_type)\\{0,8}["']\s?:\s?\\{0,8}["']?([\w.]{2,64})""")
"""A code in JSON that stands in a text, also cut, escaped or written by Python."""
_NUMBERED: Final = re.compile(r"\((\d{4})\)\s*$")
"""MiniMax ends its words with its code: ``insufficient balance (1008)``."""
_ECHO: Final = re.compile(r"""input_value=|["']input["']\s?:""")
"""Where pydantic begins to repeat what it was given (vLLM, FastAPI): those are the client's words."""
_SAID_STATUS: Final = re.compile(r"(?:error|status)[ _]?code\W{1,3}([45]\d\d)\b")


@dataclass(slots=True)
class Said:
    """What an error says: codes in the order of their weight, its words, and the first ones to show."""

    codes: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    shown: str = ""
    status: int | None = None
    wait: Delay | None = None
    headers: dict[str, str] = field(default_factory=dict)
    param: str | None = None
    code: str | None = None
    shaped: bool = False
    """Whether it looks like an API's error."""
    left: int = NODES_LIMIT

    @property
    def text(self) -> str:
        """What is searched."""
        return "\n".join(self.words)[:SEARCH_LIMIT].lower()

    # --- collecting

    def read(self, value: Any, depth: int = DEPTH_LIMIT) -> None:
        """Take in a value of any shape."""
        self.left -= 1
        if self.left < 0 or depth <= 0:
            return
        if isinstance(value, str):
            self._text(value, depth)
        elif isinstance(value, list):
            for one in value[:8]:
                self.read(one, depth - 1)
        elif isinstance(value, dict):
            self._object(value, depth)

    def _object(self, value: JSON, depth: int) -> None:
        whole = isinstance(value.get("error"), dict) and any(value.get(name) for name in _COMPLETE)
        if not whole:
            self._marks(value)
        for name in ("error", "base_resp") if whole else _INSIDE:
            inside = value.get(name)
            if inside and not (name == "message" and isinstance(inside, dict) and "role" in inside):
                self.read(inside, depth - 1)

    def _marks(self, value: JSON) -> None:
        numbered = "minimax" if "status_msg" in value else ""
        for name in (*_CODES, "status_code") if numbered else _CODES:
            self._code(value.get(name), numbered)
        if self.status is None:
            found = (status_in(value.get(name)) for name in _STATUSES)
            self.status = next((one for one in found if one is not None), None)
        if self.wait is None:
            told = (delay_of(value.get(name), scale) for name, scale in _DELAYS)
            self.wait = next((one for one in told if one is not None), None)
        if value.get("reasons"):  # OpenRouter's metadata
            self.codes.append("moderation")
        headers = value.get("headers")
        if isinstance(headers, dict) and not self.headers:  # OpenRouter's metadata
            self.headers = {str(name).lower(): str(one) for name, one in list(headers.items())[:32]}
        if self.param is None and isinstance(value.get("param"), str):
            self.param = value["param"]
        if self.code is None and isinstance(value.get("code"), str) and status_in(value["code"]) is None:
            self.code = value["code"]

    def _code(self, value: Any, numbered: str = "") -> None:
        if isinstance(value, bool) or not isinstance(value, str | int):
            return
        text = str(value)[:128]
        self.codes.append(f"{numbered}{text}" if text.isdecimal() else text)

    def _text(self, text: str, depth: int) -> None:
        cut = text[:SEARCH_LIMIT]
        if not self.shown:
            self.shown = text
        inner = nested(cut)
        echo = _ECHO.search(cut)
        cut = cut[: echo.start()] if echo is not None else cut
        self.words.append(cut)
        if inner is not None:
            if self.shown is text and cut.lstrip().startswith("{"):
                self.shown = ""
            self.read(inner, depth - 1)
            self.shown = self.shown or text
        elif "{" in cut:
            self.codes += _PAIR.findall(cut)
        number = _NUMBERED.search(cut)
        if number is not None:
            self.codes.append(f"minimax{number[1]}")
        status = _SAID_STATUS.search(cut.lower()) if self.status is None else None
        if status is not None:
            self.status = int(status[1])


def nested(text: str) -> Any:
    """The JSON object that stands in a text, behind whatever words; None where there is none."""
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        return None
    try:
        return orjson.loads(text[start : end + 1])
    except orjson.JSONDecodeError:
        return None


def status_in(value: Any) -> int | None:
    """An HTTP status of a failure, as a number or as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599 else None


def said(value: JSON | list[Any]) -> Said:
    """What an error says, in any vendor's shape."""
    found = Said(shaped=isinstance(value, list) or bool(value.get("error") or value.get("object") == "error"))
    complaints = value.get("detail") if isinstance(value, dict) else None
    if isinstance(complaints, list):
        found.shown = "; ".join(_complaints(complaints))
    found.read(value)
    return found


def _complaints(detail: list[Any]) -> Iterator[str]:
    """FastAPI's complaints, each with its place."""
    for one in detail[:8]:
        if isinstance(one, dict):
            place = one.get("loc")
            steps = ".".join(str(step) for step in place) if isinstance(place, list) else ""
            yield f"{steps}: {one.get('msg', '')}".removeprefix(": ")
        else:
            yield str(one)


_TELLTALE: Final = frozenset(
    {"error", "errors", "success", "base_resp", "code", "status", "status_code", "__type", "detail"}
    | {"error_code", "error_msg"}
)
"""An object with none of these members tells no error, but by what it says that it is."""


def is_error(value: JSON) -> bool:
    """Whether a body or an event that is no answer of its dialect says what went wrong."""
    if _TELLTALE.isdisjoint(value):
        return value.get("object") == "error"
    if value.get("error") or value.get("object") == "error" or value.get("errors") or value.get("success") is False:
        return True
    base = value.get("base_resp")
    if isinstance(base, dict) and base.get("status_code"):
        return True
    named = any(value.get(name) for name in ("code", "status", "status_code", "__type"))
    words = (value.get(name) for name in ("message", "msg", "Message"))
    return any(value.get(name) for name in ("error_code", "error_msg", "detail")) or (
        named and any(isinstance(one, str) and one for one in words)
    )


# --- classifying

_LYING: Final = frozenset({402, 408, 413, 429, 503, 529})


def _true_status(status: int, inner: int | None) -> int:
    """A status inside an error wins over one that says nothing, or says ``bad request`` of what is none."""
    if inner is None:
        return status
    return inner if status in (200, 500) or (status == 400 and inner in _LYING) else status


def classify(
    status: int,
    found: Said,
    *,
    wait: Delay | None = None,
    repair: str | None = None,
    param: str | None = None,
) -> RelayError:
    """The RelayError of what an upstream's error says. Whatever no row knows is ``upstream_error``."""
    status = _true_status(status, found.status)
    text = found.text
    kind = kind_of(status, tuple(found.codes), text)
    if kind is None:
        kind = "upstream_misconfigured" if 300 <= status < 400 else "upstream_error"
    return _made(kind, status, found, wait=wait, repair=repair, param=param)


def _made(
    kind: str, status: int, found: Said, *, wait: Delay | None, repair: str | None, param: str | None
) -> RelayError:
    shown = _GENERIC.get(kind) or clean(found.shown) or f"The upstream answered with status {status}."
    if kind == "upstream_misconfigured":
        shown = _misconfigured(status, clean(found.shown))
    if kind == BILLING:
        wait = None
    elif wait is None:
        wait = found.wait or delays.told(found.headers)
        if wait is None and kind in (LIMITED, OVERLOADED):
            wait = delays.spoken(found.text) or delays.reset(found.headers)
    seconds = wait.seconds if wait is not None else None
    return RelayError(
        kind,
        shown,
        param=param,
        code=found.code if kind == "invalid_request" else None,
        retry_after_s=seconds if seconds is not None and seconds < LONGEST_S else None,
        retry_at_s=wait.at if wait is not None else None,
        repair=repair,
        detail=f"upstream status {status}: {found.shown[:500]}",
    )


def _misconfigured(status: int, words: str) -> str:
    if 300 <= status < 400:
        return "The upstream answered with a redirect: its base_url is wrong."
    said_so = f' ("{words}")' if words else ""
    return f"The upstream knows no such path{said_so}: its base_url is wrong, or it speaks another dialect."


def refused(
    status: int, headers: Mapping[str, str], body: bytes, found: Said, *, repairs: Mapping[str, re.Pattern[str]]
) -> RelayError:
    """An HTTP answer that is an error, ``found`` what its body says; ``repairs``: repair -> what a 400 or 422 says when
    it is of use.
    """
    wait = found.wait or delays.told(headers)
    if status == 429 and wait is None:
        wait = delays.spoken(found.text) or delays.reset(headers)
    lost = not_there(status, found, body)
    if lost is not None:
        return _made(lost, status, found, wait=wait, repair=None, param=found.param)
    return classify(status, found, wait=wait, repair=repair_of(status, found, repairs), param=top_level(found.param))


def said_in(body: bytes) -> Said:
    """What an error body says: JSON of any shape, or a text that is no page (looked at, not shown)."""
    parsed = parse_body(body)
    if isinstance(parsed, dict | list):
        return said(parsed)
    found = Said()
    if not page(body):
        found.read(body[: SEARCH_LIMIT * 4].decode("utf-8", "replace"))
        found.shown = ""
    return found


def page(body: bytes) -> bool:
    """Whether a body is a page for people."""
    return body.lstrip()[:1] == b"<"


_TLS: Final = ("plain http request was sent to https port", "http request to an https server")


def not_there(status: int, found: Said, body: bytes) -> str | None:
    """The kind of an answer by somebody who does not know the path, or of a 404 about something; else None."""
    if status == 405 or (status == 501 and not found.shown):
        return "upstream_misconfigured"
    if status == 400 and any(one in body[:SEARCH_LIMIT].lower().decode("utf-8", "replace") for one in _TLS):
        return "upstream_misconfigured"
    if status != 404:
        return None
    kind = missing(tuple(found.codes), found.text, found.param)
    return kind or (MODEL if found.shaped else "upstream_misconfigured")


def cannot_count(status: int, body: bytes) -> bool:
    """Whether a refusal means that the server has no such call: 405, 501, and a 404 that does not name the model."""
    if status in (405, 501):
        return True
    if status != 404:
        return False
    found = said_in(body)
    return missing(tuple(found.codes), found.text, found.param) in (None, "upstream_misconfigured")


def repair_of(status: int, found: Said, repairs: Mapping[str, re.Pattern[str]]) -> str | None:
    """The name of the repair that a refusal asks for."""
    if status not in (400, 422):
        return None
    text = "\n".join((*found.words, str(found.param)))[: SEARCH_LIMIT * 2]
    return next((name for name, pattern in repairs.items() if pattern.search(text)), None)


def top_level(param: str | None) -> str | None:
    """A parameter that may be told: a path into the upstream's own request means nothing to the client."""
    return param if param is not None and "[" not in param and "." not in param else None


# --- keys, clocks

_CLIENT_KEY: Final = {
    "upstream_authentication": ("invalid_api_key", "The API key was not accepted by the upstream."),
    BILLING: ("insufficient_quota", _BILLED),
    "upstream_forbidden": ("permission_denied", "The upstream does not permit this request with this API key."),
}


def settled(error: RelayError, now: float, *, client_key: bool) -> RelayError:
    """The same error with the clock (seconds since 1970) read; where the key was the client's own (BYOK), what concerns
    the key is the client's affair.
    """
    if error.retry_at_s is not None and error.retry_after_s is None:
        wait = max(0.0, error.retry_at_s - now)
        error.retry_after_s = wait if wait < LONGEST_S else None
    row = _CLIENT_KEY.get(error.kind) if client_key else None
    if row is None:
        return error
    return RelayError(
        row[0],
        row[1],
        retry_after_s=error.retry_after_s,
        detail=error.detail,
        repair=error.repair,
        headers=error.headers,
    )


_SECRETS: Final = re.compile(r"\b(sk-|sk_|gsk_|xai-|AIza|Bearer\s+)[A-Za-z0-9_\-*.]{6,}|\borg-[A-Za-z0-9]{6,}")


def clean(message: str) -> str:
    """An upstream's words without keys, organisation ids and control characters, cut to ``MESSAGE_LIMIT``."""
    text = _SECRETS.sub("[redacted]", message[: MESSAGE_LIMIT * 4])
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text[:MESSAGE_LIMIT]).strip()


def parse_body(body: bytes) -> Any:
    """An error body as JSON; None where it is no JSON (an HTML page, nothing, garbage)."""
    try:
        return loads(body)
    except ValueError:
        return None
