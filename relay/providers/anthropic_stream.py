"""The Anthropic translator: events in, verbs out.

Source: translation.md §3.4, §4.2; decisions 2, 3, 18, 19, 22–24, 44, 49, 51; design.md §4.12 (an unknown stop reason is
no success). The content is ``anthropic_content``. Unknown events are ignored, unknown blocks and deltas are left out
with a warning, for the version policy allows new ones at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from relay.errors import RelayError
from relay.providers.anthropic_blocks import Block, blocks_of, echoed, whole
from relay.providers.anthropic_content import ON_TEXT, Content, Context, key_of
from relay.providers.anthropic_failures import error_of
from relay.providers.anthropic_notes import anthropic_usage, dicts
from relay.providers.base import Continue, Done, UpstreamRequest
from relay.providers.endings import ending_of, last_events, no_stream, reason_of, wait_after_reason
from relay.providers.failures import is_error
from relay.providers.schema import mismatch
from relay.responses.emitter import Voice
from relay.responses.json import loads
from relay.responses.tools import JSON
from relay.responses.usage import overlaid
from relay.wire.sse import Event

TIERS: Final = {"standard": "default", "batch": "default", "priority": "priority"}
"""``usage.service_tier`` -> ours."""

TRANSFORMATIONS: Final = {
    "model_binding_mismatch": "model_mismatch",
    "prefix_binding_mismatch": "prefix_mismatch",
    "organization_binding_mismatch": "organization_mismatch",
    "end_user_binding_mismatch": "end_user_mismatch",
}
"""``input_transformations[].reason`` -> ours."""


class AnthropicTranslator(Content):
    """One Anthropic answer, spoken to one voice."""

    __slots__ = ("_message", "_reason", "_refusal", "_request", "_usage")

    ready: Final = True

    def __init__(self, voice: Voice, request: UpstreamRequest) -> None:
        super().__init__(voice, request.context or Context())
        self._request = request
        self._message: JSON | None = None
        self._usage: JSON = {}
        self._reason: str | None = None
        self._refusal = ""

    # --- input

    def _on_literals(self, literals: list[bytes]) -> None:
        assert self._text_block is not None  # it has the template
        self._text_block.pieces.append(b"".join(literals))
        self._moved = True
        self.voice.literals(literals)

    def _on_events(self, events: list[Event]) -> None:
        blocks = self._blocks
        said: tuple[bytes | None, bytes, Block | None, Any] | None = None
        for name, payload in events:
            # hot: bench/test_translators.py; nearly every event is a piece of text of an open block
            try:
                event = orjson.loads(payload)
            except ValueError:
                event = self._read(name, payload)
            if name == b"error":
                raise error_of(event)
            kind = event.get("type") if event.__class__ is dict else None
            if kind is None and name in NAMES and event.__class__ is dict and not is_error(event):
                kind = NAMES[name]  # a server that says it in one place only
            if kind == "content_block_delta":
                delta, index = event.get("delta"), event.get("index")
                block = blocks.get(index if index.__class__ is int else key_of(index))
                kind = delta.get("type") if delta.__class__ is dict else None
                handler = block.deltas.get(kind) if block is not None and kind.__class__ is str else None
                if handler is None:
                    self._on_odd_delta(key_of(index), delta)
                    continue
                handler(self, block, delta)
                if handler is ON_TEXT:
                    said = (name, payload, block, delta.get("text"))
                if self.wait is not None:
                    self._on_more(delta)
                continue
            self._on_event(kind, event, payload)
            if self.ended:
                return
        if said is not None and not self._splice.ready and self._text is None and self.wait is None:
            self._learn(*said)

    def _learn(self, name: bytes | None, payload: bytes, block: Block | None, text: Any) -> None:
        """The next pieces of this block's text may go on unparsed, until a block begins or ends."""
        if isinstance(text, str) and block in self._blocks.values():
            self._text_block = block
            self._splice.learn(name, payload, _TEXT, text)

    def _on_event(self, kind: Any, event: Any, payload: bytes) -> None:
        handler = EVENTS.get(kind) if kind.__class__ is str else None
        if handler is not None:
            handler(self, event, payload)
        elif event.__class__ is dict and (event.get("error") or (kind is None and is_error(event))):
            raise error_of(event)

    def _read(self, name: bytes | None, payload: bytes) -> Any:
        """What orjson refused: lone surrogates (decision 24), an error in plain words, garbage."""
        self._odd = True
        try:
            return loads(payload)
        except ValueError:
            if name == b"error":
                return {"error": payload.decode("utf-8", "replace")}
            if payload.strip() in (b"", b"[DONE]"):
                return {}
            raise RelayError("upstream_bad_response", "The upstream sent an event that is no JSON.") from None

    def from_body(self, body: JSON) -> None:
        """A whole answer. Raises: RelayError."""
        if body.get("type") == "error" or ("content" not in body and is_error(body)):
            raise error_of(body)
        content = body.get("content", 0)
        if not isinstance(content, list | str | dict | None) or not (content or body.get("stop_reason")):
            raise RelayError("upstream_bad_response", "The upstream sent no message.")
        self._on_message_start({"message": body}, b"")
        self._on_message_delta({"delta": body}, b"")
        self._on_message_stop({}, b"")

    def close(self) -> Done | Continue:
        """The input is over. Raises: RelayError where the upstream did not say so, or said that it failed."""
        if not self.ended:
            self._on_events(last_events(self._decoder, self.wait))
            if not self._begun and self._decoder.stray:
                raise no_stream()
        if not self.ended:
            if self.wait is None:
                raise _cut()
            self._on_message_stop({}, b"")
        done = self._ending()
        if self._unended and (done is None or done.status == "completed"):
            raise RelayError("upstream_ended_early", "The upstream's answer ended inside a content block.")
        if done is None:
            return Continue(self._next_hop())
        if self._refusal:
            self.voice.refusal(self._refusal)
        if done.reason != "max_output_tokens":
            for item in self._cut_calls:
                self.voice.call_end(item)
        for use in self._uses.values():
            if use.item is not None:  # it waits for something that this response does not hold
                self.voice.hosted_end(use.item, {"status": "incomplete"})
        if self._text is not None and done.status == "completed":
            self._check("".join(self._text))
        return done

    def _ending(self) -> Done | None:
        """How the response ends; None where another call goes on with it. Raises: RelayError for an unknown reason.

        What paused for a compaction goes on once: a request that asks for nothing else would ask for it each time.
        """
        reason = self._reason
        if not reason:
            return self._without_reason()
        if reason == "pause_turn" or (reason == "compaction" and self._context.base is None):
            return None
        done = Done("completed") if reason == "compaction" else ending_of(reason)
        if done is None:
            raise RelayError("upstream_error", f"The upstream stopped with the reason '{reason:.64}'.")
        return done

    def _without_reason(self) -> Done:
        limit = self._context.limit_tokens
        made = self._usage.get("output_tokens")
        reached = limit is not None and isinstance(made, int) and made >= limit
        return Done("incomplete", "max_output_tokens") if reached else Done("completed")

    def _check(self, text: str) -> None:
        """What nobody enforced is checked, and said where it is not so (§1.5)."""
        try:
            found = mismatch(loads(text), self._context.schema)
        except ValueError:
            found = "it is no JSON" if self._cut_or_said(text) else None
        if found is not None:
            self.voice.emitter.warn("text.format", f"the answer does not match the schema ({found[:200]})")

    def _cut_or_said(self, text: str) -> bool:
        return bool(text) or not self.voice.emitter.output

    def _next_hop(self) -> UpstreamRequest:
        """The same request with what was said so far as the assistant's message (decision 19)."""
        context = self._context
        base = context.base or self._request.body
        said = (*context.said, *((block.kind, whole(block)) for block in self._kept))
        message = '{"role":"assistant","content":[' + ",".join(echoed(list(said))) + "]}"
        return replace(
            self._request,
            body=base[:-2] + b"," + message.encode() + b"]}" if said else base,
            context=replace(
                context,
                base=base,
                said=said,
                text=tuple(self._text or ()),
                uses=tuple(self._uses.items()),
                container=self.container,
            ),
        )

    # --- the message

    def _on_message_start(self, event: JSON, payload: bytes) -> None:
        message = event.get("message")
        if not isinstance(message, dict):
            raise RelayError("upstream_bad_response", "The upstream sent a message that is no object.")
        if self._message is not None:
            if self._opened or message.get("id") != self._message.get("id"):
                raise RelayError("upstream_bad_response", "The upstream began a message inside another.")
            return
        self._message = {"id": message.get("id")}
        self._begin()
        self._count(message.get("usage"))
        self._note_container(message.get("container"))
        for entry in dicts(message.get("input_transformations")):
            self._transformed(entry)
        for block in blocks_of(message.get("content")):
            self._open(None, block, None)
            self._end(None)

    def _on_message_delta(self, event: JSON, payload: bytes) -> None:
        self._count(event.get("usage"))
        delta = event.get("delta")
        if not isinstance(delta, dict):
            return
        self._note_container(delta.get("container"))
        for entry in dicts(event.get("input_transformations")):  # those of the model that took over
            self._transformed(entry)
        reason = reason_of(delta.get("stop_reason"))
        if reason is not None:
            self._reason = reason
        if reason and self.wait is None:
            self._splice.ready = False
            self.wait = wait_after_reason(None, spoke=self._spoke)
        details = delta.get("stop_details")
        if isinstance(details, dict) and isinstance(details.get("explanation"), str):
            self._refusal = details["explanation"]

    def _on_message_stop(self, event: JSON, payload: bytes) -> None:
        if not self._begun:
            raise RelayError("upstream_bad_response", "The upstream ended a message that it never began.")
        self._count(event.get("usage"))
        self._settle()
        self.ended = True

    def _on_error(self, event: JSON, payload: bytes) -> None:
        raise error_of(event)

    def _count(self, usage: Any) -> None:
        if isinstance(usage, dict):
            self._usage = overlaid(self._usage, usage)
            self.voice.usage(anthropic_usage(self._usage))
            tier = "priority" if usage.get("speed") == "fast" else TIERS.get(str(usage.get("service_tier")))
            if tier is not None:
                self.voice.emitter.tier(tier)

    def _note_container(self, container: Any) -> None:
        if isinstance(container, dict) and isinstance(container.get("id"), str):
            self.container = container["id"]

    def _transformed(self, entry: JSON) -> None:
        reason = TRANSFORMATIONS.get(str(entry.get("reason")))
        identifier = self._context.paths.get(str(entry.get("path")))
        if self._context.base is not None or reason is None or identifier is None:
            return
        removed = {"id": identifier, "type": "reasoning", "action": "removed", "reason": reason}
        if removed not in self.voice.emitter.transformations:
            self.voice.emitter.transformation(removed)


Translate = AnthropicTranslator
_TEXT: Final = b'"text"'

EVENTS: Final[Mapping[str, Callable[[Translate, JSON, bytes], None]]] = {
    "message_start": Translate._on_message_start,
    "content_block_start": Translate._on_block_start,
    "content_block_stop": Translate._on_block_stop,
    "message_delta": Translate._on_message_delta,
    "message_stop": Translate._on_message_stop,
    "error": Translate._on_error,
}


NAMES: Final[Mapping[bytes | None, str]] = {name.encode(): name for name in (*EVENTS, "content_block_delta")}
"""Names of events -> their types."""


def _cut() -> RelayError:
    return RelayError("upstream_ended_early", "The upstream's stream ended before its answer was complete.")
