"""The registry: every dialect by the name it has in the configuration."""

from __future__ import annotations

from typing import Final

from relay.providers import chat, openai
from relay.providers.base import Provider

PROVIDERS: Final[dict[str, Provider]] = {"chat": chat.PROVIDER, "responses": openai.PROVIDER}
