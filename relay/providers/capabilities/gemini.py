"""What Gemini models can do, by model pattern and address.

Source: translation.md §0.2, §0.3 (6), §1.4 column C, §1.5, §1.6. Unlisted models behave as the newest Gemini 3.
"""

from __future__ import annotations

import re
from typing import Any, Final

from relay.providers.capabilities import Row

Efforts = dict[str, tuple[str | None, Any, bool]]
"""``reasoning.effort`` -> (field of ``thinkingConfig`` or None for nothing, value, whether that is a warning)."""


def _levels(*values: str) -> Efforts:
    """Levels for none, minimal, low, medium, high, xhigh, max; ``!`` marks what is not what was asked for."""
    names = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
    return {
        name: ("thinkingLevel", value.rstrip("!"), value.endswith("!"))
        for name, value in zip(names, values, strict=True)
    }


def _budgets(**values: tuple[int, bool]) -> Efforts:
    return {name: ("thinkingBudget", value, warned) for name, (value, warned) in values.items()}


_LEVELS: Final = _levels("LOW!", "LOW", "LOW", "MEDIUM", "HIGH", "HIGH!", "HIGH!")
_MINIMAL_LEVELS: Final = _levels("MINIMAL!", "MINIMAL", "LOW", "MEDIUM", "HIGH", "HIGH!", "HIGH!")
_FIRST_PRO_LEVELS: Final = _levels("LOW!", "LOW", "LOW", "HIGH!", "HIGH", "HIGH!", "HIGH!")
_PRO_BUDGETS: Final = _budgets(
    none=(128, True),
    minimal=(128, False),
    low=(1024, False),
    medium=(8192, False),
    high=(24576, False),
    xhigh=(32768, False),
    max=(32768, False),
)
_FLASH_BUDGETS: Final = _budgets(
    none=(0, False),
    minimal=(1024, False),
    low=(1024, False),
    medium=(8192, False),
    high=(24576, False),
    xhigh=(24576, True),
    max=(24576, True),
)
_NO_THINKING: Final[Efforts] = {
    name: (None, None, name != "none") for name in ("none", "minimal", "low", "medium", "high", "xhigh", "max")
}

ROWS: Final[tuple[Row, ...]] = (
    Row(
        {
            "tool_name": re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]*"),
            "tool_name_limit": 64,
            "efforts": _LEVELS,
            "sampling": "full",  # none: the model ignores temperature and top_p
            "penalties": True,
            "signatures": True,  # a replayed call without its thought signature is refused
            "json_with_tools": True,
            "builtin_plus_functions": True,
            "validated_mode": True,
            "function_response_parts": True,  # media inside a functionResponse
            "media_resolution": True,
            "call_ids": True,
            "server_side_invocations": True,
            "image_output": False,
            "url_context": False,  # true: web_search also offers urlContext
        }
    ),
    # thinking
    Row(
        {"efforts": _MINIMAL_LEVELS},
        models=(
            "*gemini-3-flash*",
            "*gemini-3.[0-6]-flash*",
            "*gemini-3*-flash-lite*",
        ),
    ),
    Row({"efforts": _FIRST_PRO_LEVELS}, models=("*gemini-3-pro*", "*gemini-3.0-pro*")),
    # sampling
    Row({"sampling": "none"}, models=("*gemini-3.5-flash-lite*", "*gemini-3.[678]-flash*")),
    # Gemini 2.5 and what is older
    Row(
        {
            "signatures": False,
            "json_with_tools": False,
            "builtin_plus_functions": False,
            "function_response_parts": False,
            "media_resolution": False,
            "penalties": False,
            "efforts": _PRO_BUDGETS,
        },
        models=("*gemini-2.5-*",),
    ),
    Row({"efforts": _FLASH_BUDGETS}, models=("*gemini-2.5-flash*",)),
    Row({"efforts": {**_FLASH_BUDGETS, **_budgets(minimal=(512, False))}}, models=("*gemini-2.5-flash-lite*",)),
    Row(
        {
            "signatures": False,
            "json_with_tools": False,
            "builtin_plus_functions": False,
            "function_response_parts": False,
            "media_resolution": False,
            "validated_mode": False,
            "efforts": _NO_THINKING,
        },
        models=("*gemini-1*", "*gemini-2.0-*", "*gemma-*"),
    ),
    # images out
    Row({"image_output": True}, models=("*gemini-*-image*",)),
    # Vertex differs by address and a few fields
    Row(
        {"penalties": True, "call_ids": False, "server_side_invocations": False},
        hosts=("aiplatform.googleapis.com", "/publishers/google"),
        quirks=("vertex",),
    ),
)
