"""The frozen values that the rest of the relay sees, and what can be told from an address alone."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from relay.config.table import default

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_AUTH_HEADERS: Final = {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}
_GLOBS: Final = {"openai": ("gpt-*", "o?-*"), "anthropic": ("claude-*",), "gemini": ("gemini-*",)}
_VENDOR_HOSTS: Final = {
    "openai": ("api.openai.com",),
    "azure": ("openai.azure.com", "services.ai.azure.com", "cognitiveservices.azure.com"),
}


class Secret(str):
    """A string whose ``repr`` says nothing, so that no log line or traceback shows it by accident."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(…)"


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """``[server]``."""

    host: str = default("server", "host")
    port: int = default("server", "port")
    uds: str | None = None
    uds_mode: str = default("server", "uds_mode")
    workers: int = default("server", "workers")
    http: str = default("server", "http")
    auth: str = "passthrough"
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[Network, ...] = ()
    default_model: str | None = None
    strict: bool = default("server", "strict")
    websocket: bool = default("server", "websocket")
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    drain_timeout_s: float = default("server", "drain_timeout_s")
    drain_delay_s: float = default("server", "drain_delay_s")
    hang_timeout_s: float = default("server", "hang_timeout_s")
    max_body_bytes: int = default("server", "max_body_bytes")
    max_values: int = default("server", "max_values")
    max_items: int = default("server", "max_items")
    max_connections: int = default("server", "max_connections")
    log_level: str = default("server", "log_level")
    log_format: str = default("server", "log_format")


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """``[upstreams.NAME]``; ``auth_header`` and ``state`` are filled in by dialect and address where they are empty."""

    name: str
    dialect: str
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    auth_header: str = ""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    models: tuple[str, ...] = ()
    quirks: str | None = None
    state: str = ""
    shared_ids: bool | None = None
    allow_ids: tuple[str, ...] = ()
    forward: tuple[str, ...] = ()
    extra_body: Mapping[str, Any] = field(default_factory=dict, repr=False)
    ca_file: str | None = None
    connect_timeout_s: float = default("upstreams.NAME", "connect_timeout_s")
    first_byte_timeout_s: float = default("upstreams.NAME", "first_byte_timeout_s")
    idle_timeout_s: float = default("upstreams.NAME", "idle_timeout_s")
    dead_peer_timeout_s: float = default("upstreams.NAME", "dead_peer_timeout_s")
    max_connections: int = default("upstreams.NAME", "max_connections")
    fetch_hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.auth_header:
            object.__setattr__(self, "auth_header", _AUTH_HEADERS.get(self.dialect, "authorization"))
        if not self.state:
            keeps = self.dialect == "responses" and vendor(self.base_url) in ("openai", "azure")
            object.__setattr__(self, "state", "upstream" if keeps else "relay")


@dataclass(frozen=True, slots=True)
class PromptSettings:
    """``[prompts.ID]``: ``text`` or ``messages``; ``variables`` holds defaults."""

    id: str
    version: str = default("prompts.ID", "version")
    text: str | None = None
    messages: tuple[Mapping[str, Any], ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """``[store]``; without ``path`` the caller puts it into ``data_directory``."""

    kind: str = default("store", "kind")
    path: str | None = None
    max_age_days: float = default("store", "max_age_days")
    max_bytes: int = default("store", "max_bytes")


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it. ``keys`` maps a client's name to its secret; ``models`` keeps the order of the file."""

    server: ServerSettings = field(default_factory=ServerSettings)
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    upstreams: tuple[UpstreamSettings, ...] = ()
    models: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    capabilities: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    prompts: Mapping[str, PromptSettings] = field(default_factory=dict)
    store: StoreSettings = field(default_factory=StoreSettings)

    def shares_ids(self, upstream: UpstreamSettings) -> bool:
        """Whether ids that nobody is known to own pass to an upstream: where all clients are one person's."""
        if upstream.shared_ids is not None:
            return upstream.shared_ids
        return not self.keys

    def secrets(self) -> frozenset[str]:
        """Every configured secret, for whoever must keep them out of what is written. A header may well be a key."""
        upstream = [one.api_key for one in self.upstreams if one.api_key]
        headers = [value for one in self.upstreams for _, value in one.headers]
        return frozenset(map(str, (*self.keys.values(), *upstream, *headers)))

    def secret_headers(self) -> frozenset[str]:
        """The names of the headers that carry them."""
        return frozenset(name for one in self.upstreams for name in (one.auth_header, *dict(one.headers)))


def vendor(base_url: str) -> str:
    """Whose servers these are, as far as a default depends on it."""
    host = (urlsplit(base_url).hostname or "") if base_url.startswith("http") else ""
    for name, hosts in _VENDOR_HOSTS.items():
        if any(host == one or host.endswith("." + one) for one in hosts):
            return name
    return ""


def default_globs(dialect: str, base_url: str) -> tuple[str, ...]:
    """Models that are known to live at an upstream (decision 17)."""
    maker = dialect if dialect in _GLOBS else vendor(base_url).replace("azure", "openai")
    return _GLOBS.get(maker, ())


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address: ``localhost``, 127.0.0.0/8, ``::1``."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def data_directory(environ: Mapping[str, str]) -> Path:
    """Where this user's programs keep their data, by the platform's custom."""
    home = Path(environ.get("HOME") or Path.home())
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "relay"
    if sys.platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "relay"
    return Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "relay"
