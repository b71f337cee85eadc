"""The emitter: numbers, orders and closes what one or several upstream calls say, as Responses events.

Rules (responses-api.md §4.5, translation.md §3.1):

1. ``created`` then ``in_progress`` come first; ``start()`` is idempotent and every verb implies it. ``in_progress`` may
   come again as a sign of life.
2. ``sequence_number`` counts from 0 without a gap; ``output_index`` is given at ``output_item.added``, once.
3. Items of one voice end in the order in which they began: an item told to end waits for those before it.
4. Exactly one terminal event; its ``output`` equals the done items in ``output_index`` order.
5. Every event is encoded once; a sink only frames it.

Exceptions: an emulated shell or patch call takes its ``output_index`` when its arguments are whole; a native Responses
upstream numbers and orders its own stream (``forward``), and only its lifecycle events are written here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from relay.errors import RelayError
from relay.responses.json import encoded, mended_text
from relay.responses.output import Call, CustomCall, EmulatedCall, Hosted, Item, Message, Reasoning, RenamedCall
from relay.responses.sinks import Sink
from relay.responses.tools import Tool, tool_name

OUTPUT_LIMIT_BYTES: Final = 32 * 1024 * 1024
"""Decision 7: what one response retains for its final object."""

LARGE_BYTES: Final = 256 * 1024
LARGE_ITEMS: Final = 64
"""A response with more than either of these takes long to walk over (decision 61): up to 5 ms below."""

LEFT_OUT_LIMIT: Final = 8
"""How many things that an answer held and nobody could show are told apart in its warnings."""

OPENINGS: Final = (("response.created", "in_progress"), ("response.in_progress", "in_progress"))
QUEUED: Final = (("response.created", "queued"), ("response.queued", "queued"), OPENINGS[1])
"""The events that begin a response, each with the status in its Response."""

_NAMES: Final = {"cancelled": "failed"}
"""Status -> the terminal event's name, where they differ: there is no ``response.cancelled`` (outliving.md 30)."""

_HOSTED_PREFIXES: Final = {
    "web_search_call": "ws",
    "code_interpreter_call": "ci",
    "image_generation_call": "ig",
    "file_search_call": "fs",
    "mcp_call": "mcp",
    "mcp_list_tools": "mcpl",
    "mcp_approval_request": "mcpr",
    "compaction": "cmp",
}

Usage = dict[str, Any]
"""``{input_tokens, input_tokens_details: {cached_tokens, cache_write_tokens}, output_tokens,
output_tokens_details: {reasoning_tokens}, total_tokens}`` (responses-api.md §2.7)."""


def usage_of(
    input_tokens: int, output_tokens: int, *, cached: int = 0, cache_write: int = 0, reasoning: int = 0
) -> Usage:
    """A usage object; ``input_tokens`` includes cached and cache-write tokens, ``output_tokens`` includes reasoning."""
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": min(cached, input_tokens), "cache_write_tokens": cache_write},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": input_tokens + output_tokens,
    }


def _sum(one: Usage | None, other: Usage | None) -> Usage | None:
    if one is None or other is None:
        return other if one is None else one
    return usage_of(
        one["input_tokens"] + other["input_tokens"],
        one["output_tokens"] + other["output_tokens"],
        cached=one["input_tokens_details"]["cached_tokens"] + other["input_tokens_details"]["cached_tokens"],
        cache_write=one["input_tokens_details"]["cache_write_tokens"]
        + other["input_tokens_details"]["cache_write_tokens"],
        reasoning=one["output_tokens_details"]["reasoning_tokens"] + other["output_tokens_details"]["reasoning_tokens"],
    )


class Emitter:
    """One response. ``response`` is the Response object being built (see ``responses.response.template``)."""

    __slots__ = (
        "_hide",
        "_left_out",
        "_limit",
        "_outputs",
        "_retained",
        "_tier",
        "_voices",
        "call_ids",
        "concluded",
        "new_id",
        "now",
        "openings",
        "response",
        "sequence_number",
        "show_summary",
        "sink",
        "started",
        "transformations",
        "warnings",
        "write",
    )

    def __init__(
        self,
        response: dict[str, Any],
        sink: Sink,
        new_id: Callable[[str], str],
        now: Callable[[], int],
        *,
        show_summary: bool = False,
        limit_bytes: int = OUTPUT_LIMIT_BYTES,
        hide: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.response = response
        self._hide = hide
        self.sink = sink
        self.write = sink.write
        self.new_id = new_id
        self.now = now
        self.show_summary = show_summary
        self.started = False
        self.openings: Sequence[tuple[str, str]] = OPENINGS
        self._tier: str | None = None
        self.concluded = False
        self.sequence_number = 0
        self.call_ids: set[str] = set()
        self.warnings: list[tuple[str, str]] = []
        self.transformations: list[dict[str, Any]] = []
        self._outputs: list[Item] = []
        self._voices: list[Voice] = []
        self._retained = 0
        self._left_out: set[str] = set()
        self._limit = limit_bytes

    # --- what the exchange calls

    def voice(self, tools: Mapping[str, Tool]) -> Voice:
        """A voice for one upstream call; ``tools`` maps the names the upstream uses to the client's tools."""
        voice = Voice(self, tools)
        self._voices.append(voice)
        return voice

    def start(self) -> None:
        """Write ``openings``, once."""
        if not self.started:
            self.started = True
            if self._hide is not None:
                self._hide(self.response)
            self._tier = self.response.get("service_tier")
            for name, status in self.openings:
                self.opening(name, status)

    def opening(self, name: str, status: str) -> None:
        """An event that shows the response before its output."""
        self.response["status"] = status
        self.lifecycle(name)

    def alive(self) -> None:
        """A sign of life: ``response.in_progress`` as the first was, under the next number (decision 59)."""
        self.event("response.in_progress", {"response": {**self.response, "service_tier": self._tier}})

    def conclude(self, status: str, *, reason: str | None = None, error: RelayError | None = None) -> dict[str, Any]:
        """End every item, complete ``response`` and return it; ``terminal()`` then writes the terminal event.

        ``status``: ``completed``, ``incomplete`` (with ``reason``) or ``failed`` (with ``error``).
        """
        self.start()
        for voice in self._voices:
            voice.end(cut=status != "completed")
        response = self.response
        response["status"] = status
        response["completed_at"] = self.now() if status == "completed" else None
        response["incomplete_details"] = {"reason": reason} if reason is not None else None
        response["error"] = error.stream_error() if error is not None else None
        response["output"] = self.output
        response["usage"] = self.usage_so_far()
        self._finish_response()
        return response

    def conclude_with(self, response: dict[str, Any]) -> dict[str, Any]:
        """End with a Response that a native upstream made (already merged with our echoes)."""
        self.start()
        self.response = response
        self._finish_response()
        return response

    @property
    def large(self) -> bool:
        """Whether to walk over it takes long."""
        return self._retained > LARGE_BYTES or len(self._outputs) > LARGE_ITEMS

    @property
    def output(self) -> list[dict[str, Any]]:
        """The items so far, in ``output_index`` order."""
        return [output.item for output in self._outputs]

    def usage_so_far(self) -> Usage | None:
        """The sum over all voices, as far as the upstreams have said; after the terminal event, the response's."""
        if not self._voices:
            done: Usage | None = self.response.get("usage")
            return done
        usage: Usage | None = None
        for voice in self._voices:
            usage = _sum(usage, voice.total_usage())
        return usage

    def terminal(self) -> None:
        """Write the one terminal event and end the sink."""
        status = str(self.response["status"])
        self.lifecycle("response." + _NAMES.get(status, status))
        self.sink.end()
        self.let_go()

    def let_go(self) -> None:
        """Nothing more is said: voices and items hold the emitter, and without the circle all go at once."""
        self._voices = []
        while self._outputs:  # a few at a time: others may turn between
            del self._outputs[-LARGE_ITEMS:]

    # --- what translators and items call

    def warn(self, param: str, reason: str) -> None:
        """A warning of decision 9; one a (param, reason)."""
        if (param, reason) not in self.warnings:
            self.warnings.append((param, reason))

    def left_out(self, what: str) -> None:
        """A warning that ``what`` (an unknown type's name in it) came from the upstream and could not be shown."""
        if len(self._left_out) < LEFT_OUT_LIMIT:
            self._left_out.add(what)
            self.warn("output", f"{mended_text(what[:128])} that the upstream sent was left out")

    def transformation(self, entry: dict[str, Any]) -> None:
        """An entry of ``input_transformations``: ``{id, type, action, reason}`` (responses-api.md §3.6)."""
        self.transformations.append(entry)

    def tier(self, service_tier: str) -> None:
        """The service tier that was really used."""
        self.response["service_tier"] = service_tier

    def lifecycle(self, name: str) -> None:
        """An event that carries the whole Response."""
        self.event(name, {"response": self.response})

    def event(self, name: str, fields: dict[str, Any]) -> None:
        """Any event; ``type`` and ``sequence_number`` are added."""
        payload = encoded({"type": name, **fields, "sequence_number": self.sequence_number})
        self.sequence_number += 1
        self.write(name.encode(), payload)

    def forward(self, name: bytes, payload: bytes) -> None:
        """An event of a native upstream in its own bytes, which already carry the next number."""
        self.sequence_number += 1
        self.write(name, payload)

    def forward_framed(self, block: bytes, skip: int, count: int) -> None:
        """``count`` events of a native upstream in their own bytes, framed as we do (``Sink.write_framed``)."""
        self.sequence_number += count
        self.sink.write_framed(block, skip)

    def retain(self, count: int) -> None:
        """Account ``count`` bytes of output. Raises: RelayError ``output_too_large``."""
        if self._retained + count > self._limit:
            raise RelayError("output_too_large", f"The output grew over {self._limit} bytes.")
        self._retained += count

    def open_item(self, item: Item) -> int:
        """Give ``item`` its ``output_index`` and write ``output_item.added``."""
        self.start()
        index = len(self._outputs)
        self._outputs.append(item)
        self.event("response.output_item.added", {"output_index": index, "item": item.item})
        return index

    def adopt(self, item: Item) -> int:
        """Take an item that a native upstream opened; its translator writes its events. Returns its index."""
        self._outputs.append(item)
        return len(self._outputs) - 1

    def call_id(self, proposed: str | None) -> str:
        """``proposed`` where it is usable and unused in this conversation, else a fresh one (translation.md §3.2)."""
        if not proposed or proposed in self.call_ids or len(proposed) > 64:
            proposed = self.new_id("call")
        self.call_ids.add(proposed)
        return proposed

    def _finish_response(self) -> None:
        self.concluded = True
        response = self.response
        if self.warnings:
            response["x_relay_warnings"] = [{"param": param, "reason": reason} for param, reason in self.warnings]
        if self.transformations:
            response["input_transformations"] = self.transformations
        if response.get("service_tier") in (None, "auto"):
            response["service_tier"] = "default"


class Voice:
    """What one upstream call says. It opens and closes items; several voices share one emitter (decision 11).

    ``late_annotations``: citations may come after the text, so a message stays open while calls follow it.
    ``hold_reasoning``: a signature may come after the text began, so a reasoning item stays open until the end.
    """

    __slots__ = (
        "_hops",
        "_message",
        "_open",
        "_reasoning",
        "_usage",
        "emitter",
        "hold_reasoning",
        "late_annotations",
        "tools",
    )

    def __init__(self, emitter: Emitter, tools: Mapping[str, Tool]) -> None:
        self.emitter = emitter
        self.tools = tools
        self.late_annotations = False
        self.hold_reasoning = False
        self._message: Message | None = None
        self._reasoning: Reasoning | None = None
        self._open: OrderedDict[Item, None] = OrderedDict()  # a dict would walk over its deleted front
        self._usage: Usage | None = None
        self._hops: Usage | None = None

    def begin(self) -> None:
        """The first meaningful event has come (decision 3)."""
        if not self.emitter.started:
            self.emitter.start()

    # --- text

    def text(self, delta: str) -> None:
        """Visible text."""
        # hot: bench/test_emitter.py
        message = self._message
        if message is None or message.suspended:
            message = self._open_message()
        run = message.text_run or message.open_text(self.emitter)
        run.add(self.emitter, delta)

    def literals(self, literals: list[bytes]) -> None:
        """At least one piece of visible text, each the inside of a JSON string as orjson writes it; none is empty."""
        # hot: bench/test_emitter.py
        message = self._message
        if message is None or message.suspended:
            message = self._open_message()
        run = message.text_run or message.open_text(self.emitter)
        run.add_literals(self.emitter, literals)

    def logprobs(self, delta: str, logprobs: list[dict[str, Any]]) -> None:
        """Visible text with its log probabilities."""
        message = self._message
        if message is None or message.suspended:
            message = self._open_message()
        message.text_with_logprobs(self.emitter, delta, logprobs)

    def refusal(self, delta: str) -> None:
        """Text of a refusal."""
        message = self._message
        if message is None or message.suspended:
            message = self._open_message()
        message.refusal(self.emitter, delta)

    def annotation(self, annotation: dict[str, Any]) -> None:
        """A citation of the open message (a ``url_citation``, ``file_citation`` …)."""
        message = self._message or self._open_message()
        message.annotation(self.emitter, annotation)

    def text_length(self) -> int:
        """Characters of the open text part: the base of annotation offsets."""
        return self._message.text_length(self.emitter) if self._message is not None else 0

    def text_so_far(self) -> str:
        """The text of the open text part."""
        return self._message.text_so_far(self.emitter) if self._message is not None else ""

    def message_end(self) -> None:
        """The message is over; later text opens another."""
        if self._message is not None:
            message, self._message = self._message, None
            self._close(message)

    # --- reasoning

    def reasoning(self, delta: str) -> None:
        """Raw chain of thought of an open model."""
        item = self._reasoning or self._open_reasoning()
        item.text(self.emitter, delta)

    def summary(self, delta: str) -> None:
        """Summarised thinking; not shown unless the request asked for a summary."""
        if self.emitter.show_summary:
            item = self._reasoning or self._open_reasoning()
            item.summary(self.emitter, delta)

    def summary_end(self) -> None:
        """The summary part is over; the next delta opens another part of the same item."""
        if self._reasoning is not None:
            self._reasoning.close_part(self.emitter)

    def envelope(self, encrypted_content: str) -> None:
        """Opaque reasoning: kept in the open reasoning item, or in a new one with an empty summary."""
        item = self._reasoning or self._open_reasoning(keep_message=self.late_annotations)
        self.emitter.retain(len(encrypted_content))
        item.item["encrypted_content"] = encrypted_content

    def reasoning_end(self) -> None:
        """The reasoning item is over."""
        if self._reasoning is not None:
            reasoning, self._reasoning = self._reasoning, None
            self._close(reasoning)

    @property
    def reasoning_open(self) -> bool:
        """Whether a reasoning item could still take an envelope."""
        return self._reasoning is not None

    # --- calls

    def call(self, call_id: str | None, wire_name: str) -> Item:
        """A call of the tool that the upstream knows as ``wire_name``; give the result to ``arguments`` and ``end``."""
        self._end_reasoning_before_output()
        if self._message is not None:
            if self.late_annotations:
                self._message.suspended = True
            else:
                self.message_end()
        emitter = self.emitter
        identifier = emitter.call_id(call_id)
        tool = self.tools.get(wire_name)
        if tool is None:
            wire_name = tool_name(wire_name, self.tools) or wire_name
            tool = self.tools.get(wire_name)
        item: Item
        if tool is None:
            item = Call(emitter, identifier, wire_name)
        elif tool.item_type == "function_call" and tool.renamed:
            item = RenamedCall(emitter, identifier, tool)
        elif tool.item_type == "function_call":
            item = Call(emitter, identifier, tool.name, tool.namespace)
        elif tool.item_type == "custom_tool_call":
            item = CustomCall(emitter, identifier, tool.name, tool.namespace, wrapped=not tool.native)
        else:
            item = EmulatedCall(emitter, identifier, tool)
        self._open[item] = None
        return item

    def arguments(self, item: Item, fragment: str) -> None:
        """A fragment of the arguments of an open call."""
        if fragment:
            item.arguments(self.emitter, fragment)  # type: ignore[attr-defined]

    def call_end(self, item: Item) -> None:
        """The call is whole."""
        self._close(item)

    # --- hosted tools

    def hosted(self, kind: str, fields: dict[str, Any], *, step: str | None = "in_progress") -> Hosted:
        """Open an item of a tool that the upstream runs, and write its first step."""
        self._end_reasoning_before_output()
        if not self.late_annotations:
            self.message_end()
        elif self._message is not None:
            self._message.suspended = True
        item = Hosted(self.emitter, kind, _HOSTED_PREFIXES.get(kind, "item"), fields)
        self._open[item] = None
        if step is not None:
            item.step(self.emitter, step)
        return item

    def hosted_step(self, item: Hosted, step: str, fields: dict[str, Any] | None = None) -> None:
        """The next step of a hosted item: ``searching``, ``interpreting``, ``completed`` …"""
        item.step(self.emitter, step, fields)

    def hosted_delta(self, item: Hosted, field: str, delta: str) -> None:
        """A delta of a hosted item's ``code`` or ``arguments``."""
        item.delta(self.emitter, field, delta)

    def hosted_delta_end(self, item: Hosted) -> None:
        """The ``code`` or ``arguments`` are whole."""
        item.delta_done(self.emitter)

    def hosted_end(self, item: Hosted, fields: dict[str, Any], *, step: str | None = "completed") -> None:
        """Complete a hosted item with ``fields`` and write its last step."""
        item.delta_done(self.emitter)
        item.item.update(fields)
        self.emitter.retain(len(encoded(fields)))
        if step is not None:
            item.step(self.emitter, step)
        self._close(item)

    # --- items of a native upstream

    def adopt(self, item: Item) -> int:
        """An item that the upstream opened itself; the voice closes it if the upstream does not. Returns its index."""
        self._open[item] = None
        return self.emitter.adopt(item)

    def release(self, item: Item) -> None:
        """The upstream closed the item itself."""
        del self._open[item]

    # --- accounts and endings

    def usage(self, usage: Usage) -> None:
        """What this upstream call has used so far; a later call replaces it."""
        self._usage = usage

    def next_hop(self) -> None:
        """Another upstream call goes on with this voice (decision 19): its usage is added."""
        self._hops = _sum(self._hops, self._usage)
        self._usage = None

    def total_usage(self) -> Usage | None:
        """The sum over the hops."""
        return _sum(self._hops, self._usage)

    def end(self, *, cut: bool) -> None:
        """Close everything, in order; ``cut`` marks what was still open as incomplete."""
        for item in self._open:
            if cut and not item.closing:
                item.status = "incomplete"
            item.closing = True
        self._message = self._reasoning = None
        self._flush()

    # --- inside

    def _open_message(self) -> Message:
        self._end_reasoning_before_output()
        self.message_end()
        self._message = Message(self.emitter)
        self._open[self._message] = None
        return self._message

    def _open_reasoning(self, *, keep_message: bool = False) -> Reasoning:
        if keep_message and self._message is not None:
            self._message.suspended = True
        else:
            self.message_end()
        self._reasoning = Reasoning(self.emitter)
        self._open[self._reasoning] = None
        return self._reasoning

    def _end_reasoning_before_output(self) -> None:
        if self._reasoning is None:
            return
        if self.hold_reasoning:
            self._reasoning.close_part(self.emitter)
        else:
            self.reasoning_end()

    def _close(self, item: Item) -> None:
        item.closing = True
        if self._open and next(iter(self._open)).closing:
            self._flush()

    def _flush(self) -> None:
        waiting = self._open
        while waiting:
            item = next(iter(waiting))
            if not item.closing:
                return
            del waiting[item]
            item.done(self.emitter)
