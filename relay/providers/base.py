"""What every dialect is made of: the provider's contract, its values, and the tables they share.

A provider turns a ``Request`` into an ``UpstreamRequest``, and an upstream's bytes into verbs on a ``Voice``. It is
pure: no I/O, no clock, no randomness. What a dialect cannot do is a row of its parameter table; what a model cannot do
is a row of the capability table (``providers.capabilities``); an ``if`` on a name is neither.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from relay.errors import RelayError
from relay.responses.declared import family
from relay.responses.emitter import Voice
from relay.responses.request import Request
from relay.responses.tools import JSON, Tool

VERDICTS: Final = ("mapped", "emulated", "ignored", "warned", "rejected")


@dataclass(frozen=True, slots=True)
class Target:
    """One upstream and one of its models, as the configuration has them."""

    upstream: str
    model: str
    base_url: str = ""
    quirks: str | None = None
    forward: tuple[str, ...] = ()
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    """Overrides of capability rows for this model, from ``[capabilities."GLOB"]``."""
    holds_state: bool = False
    """Whether the upstream keeps responses itself (``state = "upstream"``, decision 21)."""


class Media(NamedTuple):
    """A document or image that the app fetched for a provider."""

    content_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """One call to an upstream, without its address and its key, which the app adds.

    ``path`` is appended to the base URL's path. ``tools`` maps the upstream's tool names to the client's tools.
    ``context`` is what the dialect's translator needs to remember; nobody else looks at it.
    """

    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    stream: bool = True
    tools: Mapping[str, Tool] = field(default_factory=dict)
    warnings: tuple[tuple[str, str], ...] = ()
    transformations: tuple[JSON, ...] = ()
    context: Any = None


REPEATED: Final = frozenset({"malformed_answer"})
"""Repairs that are the same request once more; any other one that changes nothing is none."""


class Count(NamedTuple):
    """A call that counts the tokens of a request, and how to read its answer (None where it cannot be read)."""

    request: UpstreamRequest
    tokens: Callable[[JSON], int | None]


class Done(NamedTuple):
    """The upstream said that it is finished: ``completed``, or ``incomplete`` for ``reason``.

    ``response`` is set by a native Responses upstream only: its own final Response, merged with our echoes.
    """

    status: str
    reason: str | None = None
    response: JSON | None = None


class Continue(NamedTuple):
    """The answer goes on in another upstream call (decision 19): ``pause_turn``, ``CONTINUATION``."""

    request: UpstreamRequest


class Wait(NamedTuple):
    """``seconds`` from now on the input is taken for over, whatever comes; each object is a wait of its own."""

    seconds: float


class Translator(Protocol):
    """One upstream answer, spoken to one voice. Any split of the input gives the same output."""

    @property
    def ended(self) -> bool:
        """Whether the upstream's terminal event was seen: what follows is not read."""
        ...

    @property
    def wait(self) -> Wait | None:
        """Set once nothing is missing but what may come late (decision 44): usage, the end marker, why it failed.

        From then on every way in which the input is over, or breaks off, is an end: ``close`` says which one.
        """
        ...

    @property
    def heavy(self) -> bool:
        """Whether what is fed next may complete a large event, which takes long to work on (decision 61)."""
        ...

    @property
    def thins(self) -> bool:
        """Whether huge members whose names no translator knows may be cut out of what the upstream says."""
        ...

    @property
    def ready(self) -> bool:
        """Whether the response could start now without an event (decision 3: after 10 s of waiting)."""
        ...

    def feed(self, data: bytes) -> None:
        """Bytes of an event stream. Raises: RelayError for an error that the upstream reports, or nonsense."""
        ...

    def from_body(self, body: JSON) -> None:
        """A whole JSON answer in place of a stream. Raises: RelayError."""
        ...

    def close(self) -> Done | Continue:
        """The input is over. Raises: RelayError ``upstream_ended_early`` where the upstream did not say so."""
        ...


class Provider(Protocol):
    """A dialect. All members are required; none does I/O."""

    @property
    def name(self) -> str:
        """As in ``dialect = "…"``."""
        ...

    @property
    def native(self) -> bool:
        """Whether the upstream speaks the Responses API itself, and judges what it is sent (decision 57)."""
        ...

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """The parameter table: a row for every name in ``responses.request.PARAMETERS``."""
        ...

    def media_needed(self, request: Request, target: Target) -> list[str]:
        """URLs that the app must fetch before ``build`` because the upstream cannot."""
        ...

    def cut_schemas(self, request: Request, target: Target) -> Iterator[None]:
        """Cut the schemas of the request's tools for ``build``; a step ahead of each that may cost milliseconds."""
        ...

    def build(
        self, request: Request, target: Target, media: Mapping[str, Media], repairs: frozenset[str]
    ) -> UpstreamRequest:
        """The upstream call for ``request``. Raises: RelayError naming the parameter that cannot be said."""
        ...

    def count(self, request: Request, target: Target, media: Mapping[str, Media]) -> Count | None:
        """The call that counts the tokens of ``request``; None where the upstream has none."""
        ...

    def translator(self, upstream_request: UpstreamRequest, voice: Voice) -> Translator:
        """A translator for the answer to ``upstream_request``."""
        ...

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> RelayError:
        """An error answer (status 400 and up) as ours; ``repair`` names what ``build`` could leave out."""
        ...


class Parameter(NamedTuple):
    """A row of a parameter table: the verdict of translation.md §0.1, how it is mapped, and a note for the README.

    ``apply(build, value)`` is called for ``mapped`` and ``emulated`` rows that have one.
    """

    verdict: str
    note: str = ""
    apply: Callable[[Any, Any], None] | None = None


class Warnings:
    """Collects ``(param, reason)``; in strict mode the first one is a 400 that names the parameter (decision 9)."""

    __slots__ = ("_strict", "entries")

    def __init__(self, request: Request) -> None:
        self._strict = request.strict
        self.entries: list[tuple[str, str]] = []
        for note in request.notes:
            self.add(*note)

    def add(self, param: str, reason: str) -> None:
        """One warning; ``reason`` is a few plain words. Raises: RelayError in strict mode."""
        if self._strict:
            raise RelayError("unsupported_parameter", f"'{param}': {reason}.", param=param)
        if (param, reason) not in self.entries:
            self.entries.append((param, reason))


def apply_parameters(
    table: Mapping[str, Parameter], request: Request, build: Any, warnings: Warnings, upstream: str
) -> None:
    """Run the parameter table over what the request sets, in its order. Raises: RelayError for rejected rows."""
    params = request.params
    for name, row in table.items():
        if name not in params:
            continue
        if row.verdict == "rejected":
            message = f"'{name}' is not supported by the upstream '{upstream}'. {row.note}".rstrip()
            raise RelayError("unsupported_parameter", message, param=name)
        if row.verdict == "warned":
            warnings.add(name, row.note or "not supported by this upstream")
        elif row.apply is not None:
            row.apply(build, params[name])


# --- hosted tools (decision 53)

DROPPED_TOOLS: Final = frozenset(
    {
        "web_search",
        "image_generation",
        "code_interpreter",
        "tool_search",
        "programmatic_tool_calling",
        "shell",
    }
)
"""Families of tools that may be left out where nobody runs them. A ``shell`` here is one in a server's container."""


def drop_hosted_tools(request: Request, warnings: Warnings, kept: Callable[[JSON], bool] = lambda tool: False) -> None:
    """Warn about tools that nobody runs, and about what is said of tools in vain; refuse those that must not vanish.

    ``kept(tool)`` says which ones the dialect maps itself (decision 53).
    Raises: RelayError naming ``tools[i].type`` or ``tool_choice``.
    """
    choice = request.tools.choice
    for path, tool in request.tools.hosted:
        if kept(tool):
            continue
        kind = tool["type"]
        if family(kind) not in DROPPED_TOOLS:
            message = f"{path}.type '{kind}' cannot be run by this upstream."
            raise RelayError("unsupported_value", message, param=f"{path}.type")
        if choice.mode == "hosted" and family(choice.hosted_type or "") == family(kind):
            message = f"tool_choice names '{choice.hosted_type}', which this upstream cannot run."
            raise RelayError("unsupported_value", message, param="tool_choice")
        warnings.add(f"{path}", f"{kind} cannot be run by this upstream and was left out")


UNHEEDED: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("extra_body", "extra_headers", "extra_query"), "an argument of client libraries that has no effect in a body"
    ),
    **dict.fromkeys(("audio", "modalities", "prediction", "web_search_options"), "not supported by the relay"),
}
"""Members of a request that clients count on and that nobody heeds -> why."""


def warn_unheeded(request: Request, warnings: Warnings, forwarded: Iterable[str]) -> None:
    """Warn about what is said in vain of the request and its tools; ``forwarded`` members pass (decisions 9, 13)."""
    for name, reason in UNHEEDED.items():
        value = request.body.get(name)
        if value is not None and value != ["text"] and name not in forwarded:
            warnings.add(name, reason)
    for param, reason in request.tools.notes:
        warnings.add(param, reason)


def warn_cache_options(options: JSON, warnings: Warnings) -> None:
    """Warn about members of ``prompt_cache_options`` that only OpenAI heeds."""
    for name in ("prewarm", "comparison_response_id"):
        if options.get(name):
            warnings.add(f"prompt_cache_options.{name}", "not supported by this upstream")


def nudge(name: str | None) -> str:
    """What a model is told that has to call a tool and cannot be forced; ``name``: the only one that will do."""
    return "You must answer by calling a tool." if name is None else f"You must answer by calling a tool named {name}."


# --- names of tools and ids of calls


def wire_names(keys: Iterable[str], valid: re.Pattern[str], limit: int, reserved: Iterable[str] = ()) -> dict[str, str]:
    """Names that the upstream accepts, by key (translation.md §1.6): valid ones claim themselves first, others are
    rewritten to ``[A-Za-z0-9_-]``, cut to ``limit``, and numbered ``_2``, ``_3`` on a collision, in order.
    """
    ordered = list(dict.fromkeys(keys))
    taken = set(reserved)
    names: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for key in ordered:
        if valid.fullmatch(key) and len(key) <= limit and key not in taken:
            names[key] = key
            taken.add(key)
    for key in ordered:
        if key in names:
            continue
        stem = re.sub(r"[^A-Za-z0-9_-]", "_", key)
        if not valid.fullmatch(stem[:1]):
            stem = "_" + stem
        stem = name = stem[:limit]
        number = numbers.get(stem, 1)  # all numbers before are taken
        while name in taken:
            number += 1
            suffix = f"_{number}"
            name = stem[: limit - len(suffix)] + suffix
        numbers[stem] = number
        names[key] = name
        taken.add(name)
    return names


# --- documents and images in the request


def path_of_part(items: Iterable[JSON], part: JSON) -> str:
    """Where in the input a content part stands, for an error."""
    places = (
        f"input[{index}].{field}[{number}]"
        for index, item in enumerate(items)
        for field in ("content", "output")
        if isinstance(item.get(field), list)
        for number, one in enumerate(item[field])
        if one is part
    )
    return next(places, "input")


def media_urls(
    request: Request, kinds: Mapping[str, str], wanted: Callable[[JSON, str], bool] = lambda part, url: True
) -> list[str]:
    """The http(s) URLs of parts whose type is in ``kinds`` (part type -> field), in order, without repeats; only those
    that are ``wanted(part, url)``.
    """
    urls: dict[str, None] = {}
    for item in request.items:
        for parts in (item.get("content"), item.get("output")):
            for part in parts if isinstance(parts, list) else ():
                kind = part.get("type") if isinstance(part, dict) else None
                url = part.get(kinds.get(kind)) if isinstance(kind, str) else None
                if isinstance(url, str) and url.startswith(("http://", "https://")) and wanted(part, url):
                    urls[url] = None
    return list(urls)
