"""One Anthropic request being built, and what of it depends on the model: thinking, effort, structured output.

Source: translation.md §1.4 (column B), §1.5; decision 9.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from relay.providers.anthropic_messages import encoded
from relay.providers.anthropic_tools import JSON_TOOL, is_forced
from relay.providers.base import Target, Warnings
from relay.providers.capabilities.anthropic import Effort
from relay.providers.schema import ANTHROPIC, ANTHROPIC_TOOL, reduced, tool_schema
from relay.responses.request import Request
from relay.responses.tools import JSON

BETAS: Final = {
    "compaction": "compact-2026-01-12",
    "fallback": "server-side-fallback-2026-07-01",
    "mcp": "mcp-client-2025-11-20",
    "binding": "thinking-binding-controls-2026-08-01",
    "interleaved": "interleaved-thinking-2025-05-14",
    "speed": "fast-mode-2026-02-01",
}
"""What needs an ``anthropic-beta``: exactly the ones that the body needs are sent."""

LEAST_BUDGET: Final = 1024


class Build:
    """One request being built: ``body`` is what is sent, ``system`` the texts of ours behind the client's own."""

    __slots__ = ("betas", "body", "effort", "record", "repairs", "request", "schema", "system", "target", "warnings")

    def __init__(
        self, request: Request, target: Target, record: Mapping[str, Any], warnings: Warnings, repairs: frozenset[str]
    ) -> None:
        self.request = request
        self.target = target
        self.record = record
        self.warnings = warnings
        self.repairs = repairs
        self.body: JSON = {"model": target.model, "max_tokens": record["max_output"]}
        self.system: list[str] = []
        self.betas: set[str] = set()
        self.effort: str | None = None
        """``reasoning.effort``, a level that the record knows."""
        self.schema: JSON | None = None
        """What the answer is checked against, where nothing enforces it whole."""

    def configure(self, **fields: Any) -> None:
        """Members of ``output_config``."""
        self.body.setdefault("output_config", {}).update(fields)


# --- thinking


def think(build: Build, called: bool) -> None:
    """``thinking`` and ``output_config.effort`` by the model's column of §1.4, and what goes with neither."""
    request, record, body, warnings = build.request, build.record, build.body, build.warnings
    reasoning = request.params.get("reasoning") or {}
    level = build.effort
    effort = Effort() if level is None else Effort(*record["efforts"][level])
    if "effort" in build.repairs:
        warnings.add("reasoning.effort", f"'{level}' is not supported by this model")
        effort = Effort()
    if effort.warning is not None:
        warnings.add("reasoning.effort", effort.warning)
    if effort.level is not None:
        build.configure(effort=effort.level)
    thinking = _thinking_form(build, effort)
    bound = record["block_binding"] and (
        request.params.get("truncation") == "auto" or reasoning.get("context") == "current_turn"
    )
    if thinking is None and record["thinks"] and level != "none" and (request.show_summary or bound):
        thinking = {"type": "adaptive"}
    if thinking is not None and thinking["type"] in ("adaptive", "enabled"):
        if is_forced(body.get("tool_choice")):
            if not record["thinks"]:
                warnings.add("reasoning.effort", "a forced tool choice cannot be combined with thinking")
            return
        if request.show_summary:
            thinking["display"] = "summarized"
        if bound and thinking["type"] == "adaptive":
            thinking["block_binding"] = {"prefix_mismatch_behavior": "drop_block"}
            build.betas.add(BETAS["binding"])
        if thinking["type"] == "enabled" and record["interleaved"] and called:
            build.betas.add(BETAS["interleaved"])
        for name, least in (("temperature", 1), ("top_p", 0.95)):
            if body.get(name, 1) < least:
                warnings.add(name, "it cannot be combined with thinking")
                del body[name]
    if thinking is not None:
        body["thinking"] = thinking


def _thinking_form(build: Build, effort: Effort) -> JSON | None:
    if not isinstance(effort.thinking, int):
        return None if effort.thinking is None else {"type": effort.thinking}
    cap = build.body["max_tokens"]
    if cap <= LEAST_BUDGET:
        build.warnings.add("reasoning.effort", f"thinking needs more than {LEAST_BUDGET} output tokens")
        return None
    if "thinking" in build.repairs:
        return None  # a turn with calls must begin with its thinking, which was left out
    budget = max(LEAST_BUDGET, min(effort.thinking, cap - max(LEAST_BUDGET, cap // 4)))
    return {"type": "enabled", "budget_tokens": budget}


# --- structured output


def shape(build: Build) -> None:
    """``text.format`` (§1.5): natively, else as a forced tool, else in words."""
    form = build.request.format
    if form is None:
        return
    if form["type"] == "json_object":
        build.warnings.add("text.format", "this upstream has no JSON mode: the model was asked for a JSON object")
        build.system.append("Answer with one JSON object and nothing else.")
        build.schema = {"type": "object"}
        return
    schema: JSON = form["schema"]
    if build.record["json_schema"] and "format" not in build.repairs:
        native = reduced(schema, ANTHROPIC)
        if native.schema is not None:
            described = {"title": form["name"]} | (
                {"description": form["description"]} if form.get("description") else {}
            )
            build.configure(format={"type": "json_schema", "schema": {**described, **native.schema}})
            build.schema = schema if native.notes else None
            return
    build.schema = schema
    body = build.body
    free = build.record["forced_tool_choice"] and "tools" not in body and "thinking" not in body
    free = free and "tool_choice" not in build.repairs and schema.get("type") == "object"
    cut = tool_schema(schema, ANTHROPIC_TOOL) if free else None
    if cut is not None and cut.schema is not None and not cut.names:
        description = form.get("description") or "Gives the answer."
        body["tools"] = [{"name": JSON_TOOL, "description": description, "input_schema": cut.schema}]
        body["tool_choice"] = {"type": "tool", "name": JSON_TOOL}
        return
    build.warnings.add("text.format", "the schema is given to the model as text and not enforced")
    text = encoded(schema).decode()
    build.system.append(f"Answer with JSON that matches this JSON schema, and nothing else:\n{text}")
