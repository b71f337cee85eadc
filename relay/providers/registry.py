"""The registry: every dialect by the name it has in the configuration; its module is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Final

from relay.providers.base import Provider

_MODULES: Final = {"chat": "chat", "responses": "openai", "anthropic": "anthropic", "gemini": "gemini"}


class _Registry(Mapping[str, Provider]):
    """A start waits for no dialect that no upstream speaks: each takes 20 to 50 ms to import."""

    def __getitem__(self, dialect: str) -> Provider:
        provider: Provider = import_module(f"relay.providers.{_MODULES[dialect]}").PROVIDER
        return provider

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


PROVIDERS: Final[Mapping[str, Provider]] = _Registry()
