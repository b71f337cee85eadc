"""Streams of native Responses upstreams: ordinary events go out as they came, and what is missing is put in.

Source: decision 20; translation.md §3.6; responses-api.md §4.4-4.5; pain.md 1-7, 20-22. The items' own life is
``openai_items``; the Response object is ``openai_response``.

An event goes out in the upstream's bytes when its number is the next one and it has all its members. A delta that looks
like the one before it but for its text, number and padding (``Run``) is not even parsed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import orjson

from relay.errors import RelayError
from relay.providers.base import Done, Wait
from relay.providers.failures import is_error
from relay.providers.openai_failures import in_band
from relay.providers.openai_items import DELTAS, FILLED, Kind, Part, Passed, announcement, blank, part_kind
from relay.providers.openai_response import Context, finished, started, status_of
from relay.providers.openai_run import Run
from relay.responses.emitter import QUEUED, Emitter, Voice
from relay.responses.json import check_depth, loads, mended
from relay.responses.tools import JSON, tool_name
from relay.wire.sse import Decoder, window

REASON_S: Final = 1.0
"""Decision 46: how long a failure without details waits for the next frame."""

_FAILURES: Final = frozenset({"response.failed", "response.cancelled"})

_WORD: Final = re.compile(r"[A-Za-z0-9_.]+")
_NAME: Final = re.compile(r"response\." + _WORD.pattern)
"""What may stand in a frame's ``event`` line; anything else could be more than a name (CWE-93)."""

_NAMED: Final = frozenset({"function_call", "custom_tool_call", "response.function_call_arguments.done"})
"""What carries the name of a tool that the client runs."""

_MISSES: Final = 8
"""Runs learnt in vain before a stream is no longer asked for another: its deltas differ in more than their text."""


class Event:
    """One parsed event on its way through: ``altered`` once it can no longer go out as it came."""

    __slots__ = ("altered", "content", "framed", "name", "payload")

    def __init__(self, name: str, payload: bytes, content: JSON, altered: bool) -> None:
        self.name = name
        self.payload = payload
        self.content = content
        self.altered = altered
        self.framed = False

    def put(self, member: str, value: Any) -> None:
        """Set a member, unless it has that value already."""
        if member not in self.content or self.content[member] != value:
            self.content[member] = value
            self.altered = True

    def need(self, member: str, value: Any) -> Any:
        """The member, which becomes ``value`` where it is missing or of another type."""
        if not isinstance(self.content.get(member), type(value)):
            self.put(member, value)
        return self.content[member]

    def integer(self, member: str) -> int:
        """An index; 0 where there is none."""
        return int(self.need(member, 0))


class ResponsesTranslator:
    """One native answer. ``ignored`` counts events that are not of the public protocol, or repeat what was said."""

    __slots__ = (
        "_context",
        "_decoder",
        "_delta",
        "_done",
        "_emitter",
        "_failure",
        "_misses",
        "_named",
        "_next_index",
        "_opened",
        "_run",
        "_shift",
        "_tracks",
        "_voice",
        "ended",
        "ignored",
        "ready",
        "wait",
    )

    def __init__(self, context: Context, voice: Voice) -> None:
        self._context = context
        self._voice = voice
        self._emitter: Emitter = voice.emitter
        self._decoder = Decoder()
        self._tracks: dict[int, Passed] = {}
        self._named: dict[str, Passed] = {}
        self._next_index = 0
        self._delta: tuple[Event, bytearray] | None = None
        self._run: Run | None = None
        self._misses = 0
        self._shift = 0
        self._done: Done | None = None
        self._failure: RelayError | None = None
        self._opened: list[tuple[str, str]] = []
        self.ended = False
        self.wait: Wait | None = None
        self.ignored = 0
        # an upstream that keeps its responses names them: until it has, there is no id to start with
        self.ready = not context.holds_state

    thins: Final = False

    @property
    def heavy(self) -> bool:
        """Whether what is fed next may complete a large event."""
        return self._decoder.heavy

    def feed(self, data: bytes) -> None:
        """Bytes of the upstream's stream. Raises: RelayError."""
        emitter = self._emitter
        block = self._decoder.cut(data)
        at = 0
        while at < len(block) and not self.ended:
            if self._delta is not None:
                self._learn(*self._delta, block, at)
                self._delta = None
            run = self._run
            if run is not None:
                # hot: bench/test_translators.py
                ours = emitter.sequence_number
                whole = at == 0 and len(block) <= run.window_bytes
                events = block if whole else window(block, at, run.window_bytes)
                passage = run.passage(events, ours + self._shift, ours)
                if passage is not None:
                    emitter.forward_framed(passage.block, run.skip, passage.events)
                    emitter.retain(passage.kept)
                    at += passage.used
                    continue
                self._misses += not run.proven
                self._run = None
            end = block.find(b"\n\n", at)
            for name, payload in self._decoder.parse(block[at:end]):
                self._on_event(name, payload)
            at = end + 2

    def from_body(self, body: JSON) -> None:
        """A whole Response: said as the events that it sums up. Raises: RelayError."""
        answers = isinstance(body.get("output"), list)
        if not answers and is_error(body):
            raise in_band(body, self._voice)
        status = status_of(body, None, self._context)
        if self._is_failure(status):
            raise self._failed(body, body)
        if not answers:
            raise RelayError("upstream_bad_response", "The upstream's answer is no Response.")
        self._adopt(body)
        self._begin()
        for index, item in enumerate(body["output"]):
            if isinstance(item, dict):
                self._say_item(index, item)
        self._end(status, body)

    def close(self) -> Done:
        """The input is over. Raises: RelayError ``upstream_ended_early``."""
        if not self.ended:
            for name, payload in self._decoder.close():
                self._on_event(name, payload)
        if self._failure is not None:
            raise self._failure
        if self._done is None:
            raise RelayError("upstream_ended_early", "The upstream's stream ended before its response was finished.")
        return self._done

    # --- events

    def _on_event(self, name: bytes | None, payload: bytes) -> None:
        payload = payload.strip()
        if payload == b"[DONE]" and self._failure is not None:
            raise self._failure
        if payload == b"[DONE]" or not payload:
            return
        altered = False
        try:
            content = orjson.loads(payload)
        except orjson.JSONDecodeError:
            content, altered = self._odd(payload), True
        if not isinstance(content, dict):
            raise _nonsense(payload)
        kind = content.get("type")
        if not isinstance(kind, str):
            kind, altered = (name or b"").decode("utf-8", "replace"), True
        if kind == "error" or (not kind.startswith("response.") and _fails(kind, content)):
            raise in_band(content, self._voice)
        if _NAME.fullmatch(kind) is None:
            if self._context.background and self._emitter.started and _WORD.fullmatch(kind):
                self._pass(Event(kind, payload, content, altered))
            else:
                self.ignored += 1
            return
        if self._failure is not None and kind not in _FAILURES:
            raise in_band(content, self._voice) if content.get("error") else self._failure
        event = Event(kind, payload, content, altered)
        event.framed = name is not None
        handler = HANDLERS.get(kind)
        if handler is not None:
            check_depth(payload, content)  # what it holds becomes part of the Response
            handler(self, event)
            return
        delta = DELTAS.get(kind)
        if delta is not None:
            self._on_delta(event, delta)
            return
        filled = FILLED.get(kind)
        if filled is not None:
            self._on_filled(event, filled)
            return
        self._on_other(event)

    def _odd(self, payload: bytes) -> Any:
        """JSON that orjson refuses: lone surrogates, mostly (decision 24)."""
        try:
            content = loads(payload)
        except ValueError:
            raise _nonsense(payload) from None
        # half a surrogate pair at the end of a delta waits for the other half
        halves = isinstance(content, dict) and isinstance(content.get("delta"), str)
        return content if halves else mended(content)

    def _pass(self, event: Event) -> None:
        """Write an event: in its own bytes if it is whole and its number is the next."""
        emitter = self._emitter
        theirs = event.content.get("sequence_number")
        if self._context.background:
            self._keep_number(theirs)
        number = emitter.sequence_number
        self._shift = theirs - number if type(theirs) is int else 0
        if event.altered or theirs != number:
            emitter.event(event.name, event.content)
            return
        payload = event.payload
        # line ends between the tokens of one JSON text are blanks
        emitter.forward(event.name.encode(), payload.replace(b"\n", b" ") if b"\n" in payload else payload)

    def _keep_number(self, theirs: Any) -> None:
        """What an upstream runs by itself can be asked for again by its numbers: none is changed (decision 59)."""
        if type(theirs) is int and theirs > self._emitter.sequence_number:
            self._emitter.sequence_number = theirs

    def _begin(self) -> None:
        """The first meaningful event (decision 3)."""
        self._voice.begin()

    # --- the Response

    def _adopt(self, theirs: JSON) -> None:
        emitter = self._emitter
        if not emitter.started:
            emitter.response = started(emitter.response, theirs, self._context)
        self.ready = True

    def _on_opening(self, event: Event) -> None:
        theirs = event.content.get("response")
        if isinstance(theirs, dict):
            self._adopt(theirs)
        if self._context.background:
            self._open_as(event.name, queued=isinstance(theirs, dict) and theirs.get("status") == "queued")
        elif event.name == "response.queued":
            self._emitter.openings = QUEUED

    def _open_as(self, name: str, *, queued: bool) -> None:
        """What an upstream runs by itself begins as it says, event by event (decision 59)."""
        emitter, status = self._emitter, "queued" if queued or name == "response.queued" else "in_progress"
        if emitter.started:
            emitter.opening(name, status)
        else:
            self._opened.append((name, status))
            emitter.openings = self._opened

    def _on_terminal(self, event: Event) -> None:
        theirs = event.content.get("response")
        if not isinstance(theirs, dict):
            theirs = {}
        named = event.name.removeprefix("response.")
        status = status_of(theirs, "completed" if named == "done" else named, self._context)
        if self._is_failure(status):
            self._on_failure(theirs, event.content)
            return
        self._adopt(theirs)
        self._begin()
        if self._context.background:
            self._keep_number(event.content.get("sequence_number"))
        output = theirs.get("output")
        items = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
        missing = len(items) - len(self._emitter.output)
        if missing > 0:
            known = {track.theirs for track in self._tracks.values()}
            unsaid = [item for item in items if item.get("id") not in known]
            for item in unsaid[-missing:]:
                self._say_item(self._next_index, item)
        self._end(status, theirs)

    def _is_failure(self, status: str) -> bool:
        """What was cancelled is no failure where the upstream runs it by itself (outliving.md 30)."""
        return status == "failed" or (status == "cancelled" and not self._context.background)

    def _failed(self, theirs: JSON, content: JSON) -> RelayError:
        error = in_band(theirs if theirs.get("error") else content, self._voice)
        if error.kind == "upstream_error" and theirs.get("status") == "cancelled" and not _tells(theirs, content):
            return RelayError("upstream_error", "The upstream cancelled its response.")
        return error

    def _on_failure(self, theirs: JSON, content: JSON) -> None:
        """A failure without details may say why in the next frame, as Azure does (decision 46)."""
        self._adopt(theirs)
        error = self._failed(theirs, content)
        if self._failure is not None or _tells(theirs, content):
            raise error
        self._failure, self.wait = error, Wait(REASON_S)
        self._run = None

    def _end(self, status: str, theirs: JSON) -> None:
        self._voice.end(cut=status != "completed")
        response = finished(self._emitter, theirs, status, self._context)
        if response["usage"] is not None:
            self._voice.usage(response["usage"])
        reason = (response["incomplete_details"] or {}).get("reason")
        self._done = Done(status, reason, response)
        self.ended = True

    # --- items

    def _track(self, event: Event, item_type: str) -> Passed | None:
        """The open item that an event belongs to, announced now if the upstream did not; None if it is over."""
        self._begin()
        theirs = event.content.get("output_index")
        index = theirs if type(theirs) is int else max(self._next_index - 1, 0)
        track = self._known(index, event.content.get("item_id"))
        if track is None:
            item: JSON = {"type": item_type}
            if isinstance(event.content.get("item_id"), str):
                item["id"] = event.content["item_id"]
            track = self._open(index, item)
        if track.over:
            self.ignored += 1
            return None
        track.locate(event)
        return track

    def _known(self, index: int, identifier: Any) -> Passed | None:
        """The item with this index; else the open one with this id."""
        found = self._tracks.get(index)
        if found is None and isinstance(identifier, str):
            named = self._named.get(identifier)
            if named is not None and not named.over:
                return named
        return found

    def _open(self, index: int, item: JSON, *, announced: bool = False) -> Passed:
        track = Passed(self._voice, item, own_call_ids=not self._context.holds_state, announced=announced)
        self._tracks[index] = track
        self._next_index = max(self._next_index, index + 1)
        if isinstance(track.theirs, str):
            self._named[track.theirs] = track
        return track

    def _item(self, event: Event) -> tuple[int, Passed | None, JSON] | None:
        """The index, the open item and the item of an event that carries it; None if it says nothing new."""
        self._begin()
        index, item = event.integer("output_index"), event.content.get("item")
        if isinstance(item, dict):
            event.altered = self._named_as_meant(item) or event.altered
            track = self._known(index, item.get("id"))
            if track is None or not (track.over or event.name == "response.output_item.added"):
                return index, track, item
        self.ignored += 1
        return None

    def _named_as_meant(self, call: JSON) -> bool:
        """Whether the name of a call held marks of a template, and was put right (vllm-project/vllm#32587)."""
        said, kind = call.get("name"), call.get("type")
        if not (isinstance(said, str) and isinstance(kind, str) and kind in _NAMED):
            return False
        names = {str(tool.get("name")) for tool in self._context.echoes.get("tools") or () if isinstance(tool, dict)}
        call["name"] = tool_name(said, names) or said
        return bool(call["name"] != said)

    def _on_added(self, event: Event) -> None:
        found = self._item(event)
        if found is None:
            return
        index, _, item = found
        before = dict(item)
        track = self._open(index, blank(item), announced=True)
        event.altered = event.altered or item != before
        event.put("output_index", track.index)
        self._pass(event)

    def _on_item_done(self, event: Event) -> None:
        found = self._item(event)
        if found is None:
            return
        index, track, item = found
        if track is None:
            track = self._open(index, announcement(item))
        before = dict(item)
        held = track.finish(item)
        event.altered = event.altered or item != before
        event.put("output_index", track.index)
        self._pass(event)
        self._voice.release(track)
        self._emitter.retain(max(len(event.payload) - held, 0))

    def _say_item(self, index: int, item: JSON) -> None:
        """A whole item of which nothing was said yet."""
        self._named_as_meant(item)
        track = self._open(index, announcement(item))
        item = dict(item)
        track.finish(item)
        self._emitter.event("response.output_item.done", {"output_index": track.index, "item": item})
        self._voice.release(track)

    # --- parts, arguments, deltas

    def _part(self, event: Event, kind: Kind) -> tuple[Passed, Part] | None:
        """The item and the part that an event belongs to; None, and the event is dropped, if they are over."""
        track = self._track(event, kind.item_type)
        if track is None:
            return None
        part = track.part(kind, event.integer(kind.index_name) if kind.index_name else 0)
        if kind.index_name:
            event.put(kind.index_name, part.index)
        return track, part

    def _on_part_added(self, event: Event) -> None:
        shown = event.content.get("part")
        kind = part_kind(shown)
        if kind is None:
            self._on_other(event)
            return
        track = self._track(event, kind.item_type)
        if track is None:
            return
        number = event.integer(kind.index_name)
        if (kind.place, number) in track.parts:
            self.ignored += 1
            return
        part = track.open_part(kind, number, announced=True)
        event.put(kind.index_name, part.index)
        empty = {kind.member: "", "annotations": []} if kind.name == "output_text" else {kind.member: ""}
        event.put("part", {**event.content["part"], **empty})
        self._pass(event)

    def _on_part_done(self, event: Event) -> None:
        shown = event.content.get("part")
        kind = part_kind(shown)
        if kind is None:
            self._on_other(event)
            return
        found = self._part(event, kind)
        if found is None:
            return
        track, part = found
        if part.state == "done":
            self.ignored += 1
            return
        text = event.content["part"].get(kind.member)
        track.fill(part, text if isinstance(text, str) else None, event.content["part"].get("annotations"))
        part.end(event.content["part"])
        event.put("part", part.final)
        self._pass(event)

    def _on_delta(self, event: Event, kind: Kind) -> None:
        found = self._part(event, kind)
        if found is None:
            return
        _, part = found
        if part.state != "open":
            self.ignored += 1
            return
        before = part.size_bytes()
        said = part.say(event.need("delta", ""))
        event.put("delta", said)
        if kind.name == "output_text":
            event.need("logprobs", [])
        if not said and event.altered:
            self.ignored += 1
            return
        self._pass(event)
        self._emitter.retain(part.size_bytes() - before)  # after it: what is kept was said
        if not event.altered and self._misses < _MISSES and type(event.content.get("sequence_number")) is int:
            self._delta = event, part.said

    def _learn(self, event: Event, said: bytearray, block: bytes, at: int) -> None:
        """A delta may begin a run if an event of its kind follows it, at ``at`` in ``block``."""
        if not event.framed or block.startswith(b"event: %b\n" % event.name.encode(), at):
            number = event.content["sequence_number"]
            self._run = Run.learn(event.name, event.payload, number, event.framed, said)

    def _on_filled(self, event: Event, kind: Kind) -> None:
        found = self._part(event, kind)
        if found is None:
            return
        track, part = found
        if part.state != "open":
            self.ignored += 1
            return
        text = event.content.get(kind.member)
        track.spell(part, text if isinstance(text, str) else None)
        event.altered = self._named_as_meant(event.content) or event.altered
        event.need(kind.member, part.text())
        if kind.name == "output_text":
            event.need("logprobs", [])
        part.state = "filled"
        self._pass(event)

    def _on_annotation(self, event: Event) -> None:
        found = self._part(event, DELTAS["response.output_text.delta"])
        if found is None:
            return
        _, part = found
        event.put("annotation_index", len(part.annotations))
        part.annotations.append(event.content.get("annotation"))
        self._pass(event)

    def _on_other(self, event: Event) -> None:
        """An event that only passes: a step of a hosted tool, or one that is not known here."""
        self._begin()
        theirs = event.content.get("output_index")
        track = self._known(theirs, event.content.get("item_id")) if type(theirs) is int else None
        if track is not None and "item_id" in event.content:
            track.locate(event)
            track.steps.add(event.name.rpartition(".")[2])
        self._pass(event)


def _fails(kind: str, content: JSON) -> bool:
    return bool(content.get("error")) or (not kind and is_error(content))


def _tells(*places: JSON) -> bool:
    """Whether a failure says why: in its words, or in a code that means more than that it failed."""
    errors = [error for place in places for error in (place.get("error"), place)]
    return any(
        (isinstance(error, str) and error)
        or (isinstance(error, dict) and (error.get("message") or error.get("code") not in (None, "", "server_error")))
        for error in errors
    )


def _nonsense(payload: bytes) -> RelayError:
    message = "The upstream sent an event that is no JSON object."
    return RelayError("upstream_bad_response", message, detail=repr(payload[:200]))


Handler = Callable[[ResponsesTranslator, Event], None]

HANDLERS: Final[dict[str, Handler]] = {
    **dict.fromkeys(("response.created", "response.queued", "response.in_progress"), ResponsesTranslator._on_opening),
    **dict.fromkeys(
        ("response.completed", "response.incomplete", "response.failed", "response.cancelled", "response.done"),
        ResponsesTranslator._on_terminal,
    ),
    "response.output_item.added": ResponsesTranslator._on_added,
    "response.output_item.done": ResponsesTranslator._on_item_done,
    "response.content_part.added": ResponsesTranslator._on_part_added,
    "response.content_part.done": ResponsesTranslator._on_part_done,
    "response.reasoning_summary_part.added": ResponsesTranslator._on_part_added,
    "response.reasoning_summary_part.done": ResponsesTranslator._on_part_done,
    "response.output_text.annotation.added": ResponsesTranslator._on_annotation,
}
