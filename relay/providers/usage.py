"""Usage in the words of chat/completions, as OpenAI, xAI, DeepSeek, Moonshot, Mistral and gateways tell it.

Source: translation.md §3.3 (usage), decision 51; what is in a total is decided by its sum, not by who sent it.
"""

from __future__ import annotations

from relay.responses.emitter import Usage, usage_of
from relay.responses.tools import JSON
from relay.responses.usage import count_of


def chat_usage(usage: JSON) -> Usage:
    """Our shape of it: one code path for all servers."""
    prompt = _details(usage, "prompt_tokens_details", "prompt_token_details", "input_tokens_details")
    completion = _details(usage, "completion_tokens_details", "output_tokens_details")
    given = _first(usage, "prompt_tokens", "input_tokens")
    made = _first(usage, "completion_tokens", "output_tokens")
    total = count_of(usage.get("total_tokens"))
    inside = _first(prompt, "cached_tokens")
    beside = _first(usage, "prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens", "cache_read_input_tokens")
    cached = inside or beside
    written = _first(prompt, "cache_write_tokens") or _first(usage, "cache_creation_input_tokens")
    thought = _first(completion, "reasoning_tokens") or _first(usage, "reasoning_tokens")
    if total and total != given + made:
        if total in (given + made + thought, given + made + thought + cached):
            made += thought  # xAI: what was thought is not in completion_tokens
        if total == given + made + cached:
            given += cached  # xAI: what was cached is not in prompt_tokens
        given, made = _shared_out(total, given, made)
    elif not total and inside > given:
        given += inside
    elif not total and "prompt_tokens" not in usage:
        # Anthropic's names, and so its sums
        given += _first(usage, "cache_read_input_tokens") + _first(usage, "cache_creation_input_tokens")
    return usage_of(given, made, cached=cached, cache_write=written, reasoning=thought)


def _shared_out(total: int, given: int, made: int) -> tuple[int, int]:
    """A side of which nothing was told is what the total leaves."""
    if not given:
        return max(total - made, 0), made
    return given, made or max(total - given, 0)


def _first(source: JSON, *names: str) -> int:
    for name in names:
        value = source.get(name)
        if value:  # hot: most servers tell one of the names
            count = count_of(value)
            if count:
                return count
    return 0


def _details(usage: JSON, *names: str) -> JSON:
    for name in names:
        found = usage.get(name)
        if isinstance(found, dict):
            return found
    return {}
