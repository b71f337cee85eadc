"""The lists of models, as each vendor writes them.

Source: the vendors' API references (models) and their SDKs' types.
"""

from __future__ import annotations

from typing import Any, Final

LISTED: Final = (
    "demo",
    "demo-think",
    "demo-parallel",
    "demo-tokens-1000",
    "demo-refuse",
    "demo-cite",
    "demo-fail-429",
    "demo-error-5",
    "demo-cut-5",
    "demo-stall-5",
)


def openai_models(names: tuple[str, ...], many: bool) -> dict[str, Any]:
    """``GET /v1/models`` as OpenAI has it; one row of it when not ``many``."""
    rows = [{"id": name, "object": "model", "created": 1_767_225_600, "owned_by": "relay-demo"} for name in names]
    return {"object": "list", "data": rows} if many else rows[0]


def anthropic_models(names: tuple[str, ...], many: bool) -> dict[str, Any]:
    """``GET /v1/models`` as Anthropic has it."""
    rows = [{"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"} for name in names]
    page = {"data": rows, "has_more": False, "first_id": names[0], "last_id": names[-1]}
    return page if many else rows[0]


def gemini_models(names: tuple[str, ...], many: bool) -> dict[str, Any]:
    """``GET /v1beta/models`` as Google has it."""
    methods = ["generateContent", "countTokens"]
    limits = {"inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536}
    rows = [
        {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": methods, **limits}
        for name in names
    ]
    return {"models": rows} if many else rows[0]
