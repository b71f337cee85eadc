"""The registry: every dialect by the name it has in the configuration."""

from __future__ import annotations

from typing import Final

from relay.providers import anthropic, chat, gemini, openai
from relay.providers.base import Provider

PROVIDERS: Final[dict[str, Provider]] = {
    "chat": chat.PROVIDER,
    "responses": openai.PROVIDER,
    "anthropic": anthropic.PROVIDER,
    "gemini": gemini.PROVIDER,
}
