"""What every turn of one application shares: settings, upstream client, store, clock; and the upstreams made ready."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from relay import ids
from relay.app.deadline import Clock
from relay.app.heavy import Heavy
from relay.app.lag import Lag
from relay.app.reasoning import ReasoningCache
from relay.app.receiving import Receiving
from relay.app.redaction import Redactor
from relay.app.routing import Router
from relay.config import Glob, Settings, UpstreamSettings
from relay.places import Places
from relay.providers.base import Provider, Target
from relay.providers.registry import PROVIDERS
from relay.state.store import Store
from relay.upstream import Client, Origin, Timeouts, parse_base_url

if TYPE_CHECKING:
    from relay.app.turn import Turn, TurnRecord

access_log = logging.getLogger("relay.access")
log = logging.getLogger("relay.app")

PULSE_S: Final = 1.0
TARGETS_LIMIT: Final = 1_024
BODIES_AT_ONCE: Final = 8  # of the largest that are accepted, as bytes
FETCHES_LIMIT: Final = 16
"""Models of which the table's record is kept; clients name what they like."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """An upstream with all that its configuration means worked out once."""

    settings: UpstreamSettings
    provider: Provider
    origin: Origin
    base_path: str
    timeouts: Timeouts
    client: Client

    def headers(
        self, client_key: str | None, dialect: Iterable[tuple[str, str]] = ()
    ) -> tuple[list[tuple[str, str]], bool]:
        """Headers with the key in them, and whether that key is the client's own (decision 28).

        ``dialect``: what the provider sends. A configured header replaces one of the same name; ``…-beta`` are joined.
        """
        own = self.settings.api_key
        key = own or client_key
        configured = {name.lower(): value for name, value in self.settings.headers}
        given = dict(dialect)
        for name in given.keys() & configured.keys():
            if name.endswith("-beta"):
                configured[name] = f"{configured[name]},{given[name]}"
        headers = [*({**given, **configured}).items()]
        if key is not None:
            name = self.settings.auth_header.lower()
            headers.append((name, f"Bearer {key}" if name == "authorization" else str(key)))
        return headers, own is None and client_key is not None


@dataclass(slots=True)
class Services:
    """One application's parts. ``on_record`` gets each turn's record, once, at its end."""

    settings: Settings
    store: Store
    router: Router
    upstreams: dict[str, Upstream]
    new_id: Callable[[str], str] = ids.new_id
    now: Callable[[], int] = ids.now
    reasoning: ReasoningCache = field(default_factory=ReasoningCache)
    on_record: Callable[[TurnRecord], None] | None = None
    clock: Clock | None = None
    """What the turns' waits go by in place of the event loop's clock."""
    ready: bool = True
    draining: bool = False
    models_cache: dict[str | None, tuple[float, list[dict[str, Any]]]] = field(default_factory=dict)
    turns: set[Turn] = field(default_factory=set)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    heavy: Heavy = field(default_factory=Heavy)
    lag: Lag = field(default_factory=Lag)
    fetching: Places = field(default_factory=lambda: Places(FETCHES_LIMIT))
    """Requests whose media are being fetched."""
    receiving: Receiving = field(init=False)
    """Bodies that are being received."""
    redactor: Redactor = field(init=False)
    _pulse: asyncio.TimerHandle | None = None
    _targets: dict[tuple[str, str], Target] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.receiving = Receiving(BODIES_AT_ONCE * self.settings.server.max_body_bytes)
        self.redactor = Redactor(self.settings.secrets(), headers=self.settings.secret_headers())

    def target(self, upstream: Upstream, model: str) -> Target:
        """The provider's view of one model behind ``upstream``."""
        # hot: the same few models are asked for in every request
        key = (upstream.settings.name, model)
        target = self._targets.get(key)
        if target is None:
            if len(self._targets) >= TARGETS_LIMIT:
                self._targets.clear()
            target = self._targets[key] = self._target(upstream, model)
        return target

    def _target(self, upstream: Upstream, model: str) -> Target:
        settings = upstream.settings
        capabilities: dict[str, Any] = {}
        for glob, overrides in self.settings.capabilities.items():
            if Glob(glob).match(model) is not None:
                capabilities.update(overrides)
        return Target(
            settings.name,
            model,
            settings.base_url,
            settings.quirks,
            settings.forward,
            settings.extra_body,
            capabilities,
            settings.state == "upstream",
        )

    def begin(self, turn: Turn) -> None:
        """A turn lives. One timer for all of them looks for silence (decisions 3 and 59): none of its own per turn."""
        self.turns.add(turn)
        if self._pulse is None:
            self._pulse = asyncio.get_running_loop().call_later(PULSE_S, self._beat)

    def end(self, turn: Turn) -> None:
        """A turn is over."""
        self.turns.discard(turn)

    def spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        """A task that is kept until it is done."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def aclose(self) -> None:
        """Let go of sockets and of the store."""
        if self._pulse is not None:
            self._pulse.cancel()
            self._pulse = None
        self.lag.stop()
        self.heavy.close()
        for upstream in self.upstreams.values():
            await upstream.client.aclose()
        await self.store.close()

    def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for turn in tuple(self.turns):
            if turn.silent_since(now):
                self.spawn(turn.break_silence())
        self._pulse = loop.call_later(PULSE_S, self._beat) if self.turns else None


def make_upstreams(settings: Settings) -> dict[str, Upstream]:
    """The configured upstreams, by name."""
    return {
        one.name: Upstream(
            one,
            PROVIDERS[one.dialect],
            *parse_base_url(one.base_url, one.ca_file),
            Timeouts(one.connect_timeout_s, one.first_byte_timeout_s, one.idle_timeout_s, one.dead_peer_timeout_s),
            Client(max_connections=one.max_connections),
        )
        for one in settings.upstreams
    }
