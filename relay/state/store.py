"""The protocol of what is remembered, its values and its two ways of failing.

Source: design.md §3 "Store", decisions 21, 29 and 39 to 42. Nothing here assumes SQL: two engines implement it
(``sqlite``, ``memory``) and run under one test suite; ``relay.state.open_store`` makes one.

Words: a *turn* is a response with the input items that it added. A *chain* is a turn with all its ancestors. An owner
is a string that is compared and never read (decision 29). A response of another owner is the same as no response.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from relay.errors import RelayError

Json: TypeAlias = dict[str, Any]

LIMIT_S: Final = 5.0  # decision 41: no caller waits longer
CHAIN_LIMIT_BYTES: Final = 256 << 20  # of one chain; far over what any model reads
EVENTS_LIMIT: Final = 1_000  # of one ``read_events``
EVENTS_LIMIT_BYTES: Final = 16 << 20  # of one ``read_events``, passed by at most one event


class StoreError(RelayError):
    """The store did not do it, now: disk full, read-only, damaged, locked or slow; 503 ``store_unavailable``."""

    def __init__(self, message: str, *, detail: str | None = None) -> None:
        super().__init__("store_unavailable", message, detail=detail)


class StoreBroken(StoreError):
    """The file itself is at fault: damaged, being made anew, or of a newer relay; nothing is tried meanwhile."""


class StoreUnusable(Exception):
    """The store as configured never works (newer schema, another program's file): said at start, which ends."""


def chain_too_long() -> RelayError:
    """What every engine answers to a chain over ``CHAIN_LIMIT_BYTES``."""
    return RelayError(
        "context_length_exceeded",
        f"The conversation is longer than {CHAIN_LIMIT_BYTES >> 20} MiB.",
        param="previous_response_id",
    )


def too_many_items() -> RelayError:
    """What every engine answers to references to more than ``CHAIN_LIMIT_BYTES``."""
    return RelayError(
        "context_length_exceeded",
        f"The items that the input refers to stand in responses of more than {CHAIN_LIMIT_BYTES >> 20} MiB.",
        param="input",
    )


def does_not_follow(id: str, first: int, following: int) -> RelayError:
    """What every engine answers to events that would leave a gap in a log, or rewrite it."""
    return RelayError("conflict", f"Event {first} of '{id}' does not follow: the next is {following}.")


def already_there(id: str) -> RelayError:
    """What every engine answers to a commit under another owner's id."""
    return RelayError("conflict", f"Response '{id}' exists.")


@dataclass(frozen=True, slots=True)
class Stored:
    """A response as it was committed; ``extra`` is what the application asked to keep beside it."""

    response: Json
    created_at: int
    extra: Json | None = None


class Objects(NamedTuple):
    """Ids of things that an upstream keeps: items, containers, files."""

    upstream: str
    ids: Sequence[str] = ()


class Store(Protocol):
    """Every method raises ``StoreError`` after at most ``LIMIT_S`` and may be cancelled: a write goes on all the same.

    Opened after a fork, used from any event loop of its process.
    """

    @property
    def healthy(self) -> bool:
        """False while the last write failed for a reason of the store's own (decision 41); never blocks.

        Asking is what lets it recover: a bad store is probed behind the question, at most once a second.
        """

    @property
    def ready(self) -> bool:
        """False while the file is damaged, being repaired, or a newer relay's; never blocks. Asking looks."""

    async def commit(
        self,
        response: Json,
        items: list[Json],
        owner: str,
        *,
        parent: str | None = None,
        extra: Json | None = None,
        objects: Objects | None = None,
    ) -> None:
        """Keep a turn: on return it survives kill -9 of every process and every worker sees it.

        ``items`` are the input items of this turn only, ids included; the output is read from ``response``. ``parent``
        is the stored response that it continues; where that one was never stored (``store: false``, a socket's own
        memory) there is none and ``items`` is the full input. A parent that went away during the turn leaves a turn
        that can be read and not continued. A second commit under one id replaces the first (a background response
        that was stored as running) and keeps its parent; under another owner's id it is a ``conflict``. After a
        ``StoreError`` the turn is not there, nor will it be. ``objects`` are noted with it.
        """

    async def get(self, id: str, owner: str) -> Stored | None:
        """The response, whatever its status."""

    async def load_chain(self, id: str, owner: str) -> list[Json] | None:
        """Input and output of each ancestor and then of the response itself, oldest first.

        None if it is not there or one of its ancestors was deleted. The status is the caller's question.
        Raises: ``context_length_exceeded`` over ``CHAIN_LIMIT_BYTES``.
        """

    async def input_items(self, id: str, owner: str) -> list[Json] | None:
        """The full effective input, oldest first: the chain of the parent, and the turn's own input."""

    async def find_items(self, ids: Collection[str], owner: str) -> dict[str, Json]:
        """The items that were stored last under these ids, as input or output, by this owner. One read.

        Raises: ``context_length_exceeded`` where the turns that hold them are over ``CHAIN_LIMIT_BYTES``.
        """

    async def delete(self, id: str, owner: str) -> bool:
        """Forget a response with its items and events, or an upstream's id; false if there was neither.

        What descends from it can be read, not continued (decision 42).
        """

    async def remember_upstream(self, objects: Objects, owner: str, response_id: str | None = None) -> None:
        """Note what an upstream keeps for an owner, and the response among it (decision 21); durable on return."""

    async def find_upstream(self, id: str, owner: str) -> str | None:
        """The name of the upstream that keeps this response."""

    async def whose(self, ids: Collection[str], owner: str) -> dict[str, str | None]:
        """Of these ids those that somebody has: where ``owner`` has it, None where only others do.

        Where is the name of the upstream, or empty for a response that is kept here. One read, whatever their number.
        """

    async def append_events(self, id: str, first: int, blobs: Sequence[bytes]) -> None:
        """Add events numbered ``first``, ``first + 1``, … to the log of a response; durable on return.

        A log has no gaps and is never rewritten. Raises: ``conflict`` if ``first`` is not the next number. Logs
        have no owner: ask ``get`` first. They go with their response, or by age where there is none.
        """

    async def read_events(self, id: str, after: int) -> list[tuple[int, bytes]]:
        """Events numbered above ``after`` (-1: all), in order, at most ``EVENTS_LIMIT`` and about 16 MiB a call."""

    async def acquire(self, key: str, owner: str, ttl_s: float) -> bool:
        """Take a lease, or extend one's own; false while another's runs. ``owner`` names the worker, not a client."""

    async def release(self, key: str, owner: str) -> bool:
        """Give one's own lease back; false if it was no longer one's own."""

    async def close(self) -> None:
        """Finish what is queued and let go; everything after raises ``StoreError``."""
