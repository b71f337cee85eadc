"""What native Responses servers take and refuse, as rows.

Source: translation.md §0.3.8, §1.1 (column D), §1.4, §3.6 ("per upstream"); pain.md "Extra"; decisions 10, 13, 21.

``openai``: the parameters that only OpenAI knows pass; ``obfuscation``: it pads its deltas unless told not to;
``encrypted_reasoning``: reasoning comes encrypted when asked for; ``takes``: chat-style parameters that it knows;
``strips``: parameters left out silently (they are hints, or only echoed), ``drops``: those left out with a warning;
``item_strips``: item type -> members left out; ``tool_strips``: beginning of a tool's type -> members left out;
``efforts``: levels of ``reasoning.effort`` that become others.
"""

from __future__ import annotations

from typing import Any, Final

from relay.providers.capabilities import Row

_OURS: Final = {"function_call": ("encrypted_function_args",)}
"""What calls of translated upstreams carry for Codex (``responses.output.Call``), and other servers do not know."""

_DEFAULT: Final[dict[str, Any]] = {
    "openai": False,
    "obfuscation": False,
    "encrypted_reasoning": True,
    "takes": frozenset({"presence_penalty", "frequency_penalty"}),
    "strips": frozenset({"client_metadata"}),
    "drops": frozenset(),
    "item_strips": _OURS,
    "tool_strips": {},
    "efforts": {},
}

_ENGINES: Final = frozenset({"presence_penalty", "frequency_penalty", "stop", "seed", "logit_bias"})
_OPENAI_ONLY: Final = frozenset(
    {"client_metadata", "safety_identifier", "prompt_cache_retention", "prompt_cache_options", "service_tier"}
)

ROWS: Final[tuple[Row, ...]] = (
    Row(_DEFAULT),
    Row(
        {"openai": True, "obfuscation": True, "strips": frozenset(), "item_strips": {}},
        hosts=("api.openai.com",),
        quirks=("openai",),
    ),
    Row(
        {
            "openai": True,
            "obfuscation": True,
            "drops": frozenset({"context_management"}),
            "item_strips": {"reasoning": ("status",), "message": ("status",)},
        },
        hosts=(".openai.azure.com", ".azure.com", ".azure-api.net"),
        quirks=("azure",),
    ),
    Row(
        {"encrypted_reasoning": False},
        models=("gpt-4*", "gpt-3*", "chatgpt-4o*", "openai/gpt-4*", "gpt-5-chat*"),
    ),
    Row(
        {
            "strips": frozenset({"metadata", *_OPENAI_ONLY}),
            "tool_strips": {"code_interpreter": ("container",), "web_search": ("search_context_size",)},
        },
        hosts=("api.x.ai",),
        quirks=("xai",),
    ),
    Row(
        {"strips": frozenset({"client_metadata", "prompt_cache_retention", "prompt_cache_options"})},
        hosts=("openrouter.ai",),
        quirks=("openrouter",),
    ),
    Row(
        {
            "strips": _OPENAI_ONLY,
            "efforts": {"minimal": "low", "medium": "high", "xhigh": "high"},
        },
        hosts=("api.deepseek.com",),
        quirks=("deepseek",),
    ),
    Row(
        {
            "takes": _ENGINES,
            "strips": frozenset({"client_metadata"}),
            "item_strips": {"function_call": ("status", "encrypted_function_args")},
        },
        quirks=("vllm",),
    ),
    Row({"takes": _ENGINES}, quirks=("sglang",)),
    Row(
        {"encrypted_reasoning": False, "strips": _OPENAI_ONLY},
        hosts=("api.perplexity.ai",),
        quirks=("perplexity",),
    ),
    Row(
        {"encrypted_reasoning": False, "strips": _OPENAI_ONLY},
        hosts=("ollama.com", ":11434"),
        quirks=("ollama",),
    ),
    Row({"encrypted_reasoning": False}, hosts=(":1234",), quirks=("lmstudio",)),
)
