"""Claude models: which sampling, thinking, effort, tool choice, limits and schemas each takes.

Source: translation.md §0.3, §1.3, §1.4 (column B), §2.2. The first row is the newest family, which unknown names get.

A record holds: ``max_output``; ``sampling``: ``full``, ``one`` (temperature or top_p, not both) or ``none``;
``efforts``: level -> ``Effort``; ``thinks``: whether the model thinks when nothing is said; ``forced_tool_choice``;
``mid_system``: ``native`` or ``user_marker``; ``json_schema``: whether ``output_config.format`` is there;
``block_binding``: whether thinking is bound to the conversation before it; ``speed``: whether ``speed: fast`` is there;
``interleaved``: whether thinking between calls needs a beta; ``vertex``: Google's addresses; ``forward`` and
``extra_body``: defaults of these settings.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from relay.providers.capabilities import Row


class Effort(NamedTuple):
    """What one level of ``reasoning.effort`` becomes: ``thinking`` (a type, or a budget in tokens), the level that is
    sent, and a warning."""

    thinking: str | int | None = None
    level: str | None = None
    warning: str | None = None


def _efforts(none: Effort, thinking: str | None, **changed: Effort) -> dict[str, Effort]:
    levels = {level: Effort(thinking, level) for level in ("low", "medium", "high", "xhigh", "max")}
    return {"none": none, "minimal": Effort(thinking, "low"), **levels, **changed}


_ALWAYS: Final = _efforts(Effort(None, "low", "this model always thinks: effort 'low' was sent"), None)
_BETWEEN: Final = _efforts(Effort("between_tools"), None)
_SWITCHED: Final = _efforts(Effort("disabled"), "adaptive")
_ASKED: Final = _efforts(Effort(), "adaptive")
_ASKED_TO_HIGH: Final = _efforts(
    Effort(), "adaptive", xhigh=Effort("adaptive", "high", "effort 'xhigh' was sent as 'high'")
)
_BUDGET: Final = {
    "none": Effort(),
    "minimal": Effort(1024),
    "low": Effort(2048),
    "medium": Effort(8192),
    "high": Effort(16384),
    "xhigh": Effort(24576),
    "max": Effort(32768),
}
_THOUGHTLESS: Final = {
    "none": Effort(),
    **{level: Effort(warning="this model does not think") for level in list(_BUDGET)[1:]},
}


def _named(*names: str) -> tuple[str, ...]:
    """Globs for a model by name: alone, with a date, with anything that is no further version number."""
    dotted = [f"{name[:-2]}.{name[-1]}" if name[-2] == "-" else name for name in names]  # opus-4.5
    every = dict.fromkeys((*names, *dotted))
    return tuple(
        glob for name in every for glob in (f"*{name}", f"*{name}[!-.0-9]*", f"*{name}-[!0-9]*", f"*{name}-20*")
    )


_NEWEST: Final[dict[str, Any]] = {
    "max_output": 128_000,
    "sampling": "none",
    "efforts": _ALWAYS,
    "thinks": True,
    "forced_tool_choice": False,
    "mid_system": "native",
    "json_schema": True,
    "block_binding": True,
    "speed": False,
    "interleaved": False,
    "vertex": False,
    "forward": (),
    "extra_body": {},
}
_OPUS_4: Final[dict[str, Any]] = {
    "efforts": _ASKED,
    "thinks": False,
    "forced_tool_choice": True,
    "mid_system": "user_marker",
    "block_binding": False,
}
_BUDGETED: Final[dict[str, Any]] = {
    **_OPUS_4,
    "max_output": 64_000,
    "sampling": "one",
    "efforts": _BUDGET,
    "interleaved": True,
}
_OLD: Final[dict[str, Any]] = {**_BUDGETED, "sampling": "full", "json_schema": False}

ROWS: Final[tuple[Row, ...]] = (
    Row(_NEWEST),
    Row({"efforts": _BETWEEN}, models=_named("sonnet-5-5")),
    Row({"efforts": _SWITCHED, "forced_tool_choice": True}, models=_named("haiku-5-5")),
    Row(
        {"efforts": _SWITCHED, "forced_tool_choice": True, "block_binding": False, "speed": True},
        models=_named("opus-5"),
    ),
    Row(
        {"efforts": _SWITCHED, "forced_tool_choice": True, "block_binding": False, "mid_system": "user_marker"},
        models=_named("sonnet-5"),
    ),
    Row({"forced_tool_choice": True, "block_binding": False}, models=_named("fable-5")),
    Row({**_OPUS_4, "mid_system": "native", "speed": True}, models=_named("opus-4-8")),
    Row({**_OPUS_4, "speed": True}, models=_named("opus-4-7")),
    Row({**_OPUS_4, "sampling": "one", "efforts": _ASKED_TO_HIGH}, models=_named("opus-4-6", "sonnet-4-6")),
    Row({"speed": True}, models=_named("opus-4-6")),
    Row(_BUDGETED, models=_named("opus-4-5", "sonnet-4-5", "haiku-4-5")),
    Row({**_OLD, "max_output": 64_000}, models=_named("sonnet-4", "sonnet-4-0")),
    Row(
        {**_OLD, "max_output": 32_000},
        models=_named("opus-4", "opus-4-0", "opus-4-1"),
    ),
    Row(
        {**_OLD, "max_output": 4_096, "efforts": _THOUGHTLESS},
        models=("*claude-3-*", "*claude-2*", "*claude-instant*", "*claude-3.*"),
    ),
    Row({"max_output": 8_192}, models=_named("3-5-sonnet", "3-5-haiku")),
    Row({"max_output": 64_000, "efforts": _BUDGET, "interleaved": False}, models=_named("3-7-sonnet")),
    Row(
        {"mid_system": "user_marker"},
        hosts=("aiplatform.googleapis.com", "amazonaws.com", "api.aws", "services.ai.azure.com"),
        quirks=("vertex", "bedrock", "foundry"),
    ),
    Row({"vertex": True}, hosts=("aiplatform.googleapis.com",), quirks=("vertex",)),
    Row(
        # other makers' models behind this wire format
        {**_OLD, "max_output": 32_000, "efforts": _BUDGET, "interleaved": False},
        quirks=("compatible",),
    ),
)
