"""``relay check``: is the configuration sound, and is every upstream there?"""

from __future__ import annotations

import argparse
import asyncio
import os

from relay.app.listing import probe
from relay.app.names import capability_names, quirk_names
from relay.app.routing import Router
from relay.cli.arguments import complain
from relay.config import ConfigError, Settings, UpstreamSettings, load
from relay.errors import RelayError


def settings_of(options: argparse.Namespace) -> Settings:
    """File, flags and environment. Raises: ConfigError."""
    flags = ("host", "port", "uds", "workers", "http", "ssl_certfile", "ssl_keyfile", "log_level")
    server = {flag: getattr(options, flag, None) for flag in flags}
    settings = load(
        options.config,
        environ=os.environ,
        server=server,
        upstreams=options.upstream,
        capability_rows=capability_names(),
        quirks=quirk_names(),
    )
    if settings.server.default_model and settings.upstreams:
        try:
            Router(settings).resolve(None)
        except RelayError as error:
            raise ConfigError(f"{options.config}: [server] default_model: {error.message}") from None
    return settings


def check(options: argparse.Namespace) -> int:
    """One line an upstream; 1 if one of them fails."""
    settings = settings_of(options)
    if not settings.upstreams:
        print("No upstream is configured; relay serve would use its demo model (see relay --help).")
        return 0
    answers = asyncio.run(probe(settings))
    lines = [_line(one, answer, bool(settings.keys)) for one, answer in zip(settings.upstreams, answers, strict=True)]
    width = [max(len(cells[column]) for cells, _ in lines) for column in range(3)]
    for cells, fine in lines:
        padded = (cell.ljust(size) for cell, size in zip(cells, width, strict=False))
        print("ok    " if fine else "FAILED", *padded, cells[3], sep="  ")
    failed = sum(not fine for _, fine in lines)
    if failed:
        return complain(f"{failed} of {len(lines)} upstreams failed")
    return 0


def _line(
    upstream: UpstreamSettings, answer: tuple[str, ...] | RelayError, has_keys: bool
) -> tuple[tuple[str, str, str, str], bool]:
    """Name, dialect, address (one with a key in it was refused when read), how it is; and whether that is fine."""
    head = (upstream.name, upstream.dialect, upstream.base_url)
    if not isinstance(answer, RelayError):
        return (*head, "1 model" if len(answer) == 1 else f"{len(answer)} models"), True
    if answer.kind == "upstream_authentication" and not upstream.api_key and not has_keys:
        return (*head, "is there; it lists its models only to clients, who bring their key"), True
    return (*head, answer.message), False
