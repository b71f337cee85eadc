"""``tool_choice`` as chat/completions servers take it, and what stands in for it where they do not.

Source: translation.md §1.7, column A; decision 19. How a model that thinks takes a forced choice is the field
``forced_choice`` of ``providers.capabilities.chat``; the repair ``tool_choice`` is for those of which no row knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from relay.providers.base import Warnings, nudge
from relay.responses.tools import JSON, Choice

REPAIR: Final = "tool_choice"


def put_choice(
    body: JSON, choice: Choice, references: Mapping[str, JSON], record: Mapping[str, Any], *, given: bool
) -> None:
    """Set ``tool_choice``. ``references``: how each tool that is offered is named in it, by ``Tool.key``."""
    if choice.mode == "named":
        body["tool_choice"] = references[str(choice.key)]
    elif choice.mode == "allowed" and record["allowed_tools"]:
        allowed = [references[key] for key in choice.keys if key in references]
        body["tool_choice"] = {
            "type": "allowed_tools",
            "allowed_tools": {"mode": choice.allowed_mode, "tools": allowed},
        }
    elif choice.mode == "allowed":
        body["tool_choice"] = choice.allowed_mode
    elif given:
        body["tool_choice"] = choice.mode


def reconcile(
    body: JSON, choice: Choice, name: str | None, record: Mapping[str, Any], warnings: Warnings, *, refused: bool
) -> str | None:
    """Make a choice bearable for a model that thinks; the words that ask for a call where it cannot be forced.

    ``name``: the chosen tool's, as the upstream knows it. ``refused``: the upstream did not take the choice before.
    """
    way = "words" if refused else record["forced_choice"]
    if refused and choice.mode == "none":
        body.pop("tools")  # what is not offered is not called
    if refused and not choice.forces:
        body.pop("tool_choice", None)
    if not choice.forces or way == "native" or body.get("thinking") == _STILL:
        return None
    if way == "still":
        asked = "reasoning_effort" in body or "thinking" in body
        warnings.add("reasoning.effort" if asked else "tool_choice", "this model does not think when forced to a call")
        body.pop("reasoning_effort", None)
        body["thinking"] = dict(_STILL)
        return None
    if way == "required":
        if name is not None:
            warnings.add("tool_choice", "this model can be forced to call a tool, but not which: it was asked to")
            body["tool_choice"] = "required"
            return nudge(name)
        return None
    warnings.add("tool_choice", "this model cannot be forced to call a tool: it was asked to")
    del body["tool_choice"]
    return nudge(name)


_STILL: Final = {"type": "disabled"}
