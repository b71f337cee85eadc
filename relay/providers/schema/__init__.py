"""A client's schemas: cut to what a target takes, and answers checked against what was asked for.

    budget    what both may cost
    rules     one row a target
    reduce    the cut: ``clean`` (2020-12), ``flat`` (roots, allOf), ``shape`` (types, enums, tuples), ``names``
    check     the check: ``patterns``; ``pointers`` are what both follow
    tools     the schemas of tools, remembered

Source: decisions 55 and 61.
"""

from relay.providers.schema.check import mismatch
from relay.providers.schema.reduce import Reduced, reduced
from relay.providers.schema.rules import (
    ANTHROPIC,
    ANTHROPIC_STRICT_TOOL,
    ANTHROPIC_TOOL,
    CHAT_TOOLS,
    GEMINI,
    GEMINI_TOOL,
    Rules,
)
from relay.providers.schema.tools import back, cut_ahead, cut_tools, tool_schema

__all__ = [
    "ANTHROPIC",
    "ANTHROPIC_STRICT_TOOL",
    "ANTHROPIC_TOOL",
    "CHAT_TOOLS",
    "GEMINI",
    "GEMINI_TOOL",
    "Reduced",
    "Rules",
    "back",
    "cut_ahead",
    "cut_tools",
    "mismatch",
    "reduced",
    "tool_schema",
]
