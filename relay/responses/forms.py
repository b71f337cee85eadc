"""Forms that other APIs give to tools and their choice, as the Responses API has them.

Source: platform.openai.com, chat/completions ``tools``, ``tool_choice``, ``functions``; platform.claude.com,
``tool_choice``; decision 10.
"""

from __future__ import annotations

from typing import Any, Final

JSON = dict[str, Any]


def flat_tool(tool: Any) -> Any:
    """A tool in the form of chat/completions, whose members stand one level deeper, as the Responses API has it."""
    inner = _inner(tool)
    if inner is None:
        return tool
    form = inner.get("format")
    grammar = form.get("grammar") if isinstance(form, dict) else None
    if isinstance(grammar, dict):
        inner = {**inner, "format": {"type": "grammar", **grammar}}
    return {"type": tool["type"], **{name: value for name, value in tool.items() if name != tool["type"]}, **inner}


def _inner(tool: Any) -> JSON | None:
    kind = tool.get("type") if isinstance(tool, dict) else None
    inner = tool.get(kind) if kind in ("function", "custom") else None
    return inner if isinstance(inner, dict) and "name" not in tool else None


_WORDS: Final = {"any": "required"}
"""Words of other APIs for a choice."""


def flat_choice(choice: Any) -> Any:
    """``tool_choice`` in any of the forms that clients send, as the Responses API has it.

    ``{"type": "auto"}``, ``any``, ``{"type": "tool", "name"}`` (Anthropic), and the nested forms of chat/completions.
    """
    if isinstance(choice, str):
        return _WORDS.get(choice, choice)
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind in ("auto", "none", "required", "any"):
        return _WORDS.get(kind, kind)
    if kind == "tool":
        return {**choice, "type": "function"}
    if kind == "allowed_tools":
        inner = choice.get("allowed_tools")
        choice = {"type": kind, **inner} if isinstance(inner, dict) else choice
        listed = choice.get("tools")
        return {**choice, "tools": [flat_tool(tool) for tool in listed]} if isinstance(listed, list) else choice
    return flat_tool(choice)


def old_functions(functions: list[Any]) -> list[Any]:
    """``functions`` of the first chat API as ``tools``."""
    return [{"type": "function", **one} if isinstance(one, dict) else one for one in functions]


def old_choice(choice: Any) -> Any:
    """``function_call`` of the first chat API as ``tool_choice``."""
    return {"type": "function", "name": choice.get("name")} if isinstance(choice, dict) else choice
