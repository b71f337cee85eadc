"""The chat/completions translator: chunks in, verbs out.

Source: translation.md §3.3, §4.1; decisions 2, 3, 18, 23, 24; design.md §4.12 (an unknown stop reason is no success).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import orjson

from relay.errors import RelayError
from relay.providers.base import Done
from relay.providers.chat_calls import LEGACY, Calls
from relay.providers.chat_citations import SOURCES, annotations_of, citation
from relay.providers.chat_failures import error_of
from relay.providers.chat_reasoning import Thinking
from relay.providers.chat_think import SAID_BEFORE, ThinkSplitter
from relay.providers.endings import ending_of, last_events, no_stream, reason_of, wait_after_reason
from relay.providers.failures import is_error
from relay.providers.media import data_url
from relay.providers.splice import Spliced
from relay.providers.usage import chat_usage
from relay.responses.emitter import Voice
from relay.responses.json import encoded, loads
from relay.responses.tools import JSON
from relay.responses.usage import count_of, overlaid
from relay.wire.sse import Event

TIERS: Final = {
    **{name: name for name in ("default", "flex", "priority", "scale", "fast")},
    "standard": "default",
    "on_demand": "default",
    "performance": "priority",
}
"""``service_tier`` of an answer -> ours."""

_CONTENT: Final = b'"content"'
_OUTPUT: Final = ("content", "reasoning_details", "refusal", "images", "tool_calls", "function_call")


@dataclass(frozen=True, slots=True)
class Context:
    """What the translator needs to know of its request."""

    model: str = ""
    reasoning_fields: tuple[str, ...] = ("reasoning_content", "reasoning", "thinking")
    keep_reasoning: bool = False
    think_tags: bool = False
    late_annotations: bool = True
    logprobs: bool = False
    limit_tokens: int | None = None
    folded: bool = False
    """Whether the client sees nothing before the end."""


class ChatTranslator(Spliced):
    """One chat/completions answer, spoken to one voice."""

    __slots__ = (
        "_accounted",
        "_annotations",
        "_begun",
        "_calls",
        "_context",
        "_finish",
        "_flowing",
        "_on_literals",
        "_output_tokens",
        "_sources",
        "_splitter",
        "_spoke",
        "_straight",
        "_text_open",
        "_thinking",
        "_usage",
        "_voice",
        "_whole",
    )

    ready: Final = True

    def __init__(self, voice: Voice, context: Context) -> None:
        super().__init__()
        self._voice = voice
        self._on_literals = voice.literals
        self._context = context
        self._thinking = Thinking(voice, context.model, keep=context.keep_reasoning)
        self._calls = Calls(voice, self._thinking)
        self._splitter = ThinkSplitter(keep=context.folded) if context.think_tags else None
        self._straight = self._splitter is None
        self._annotations: list[JSON] = []
        self._sources: JSON = {}
        self._finish: str | None = None
        self._usage: JSON = {}
        self._accounted = self._usage
        self._output_tokens = 0
        self._begun = False
        self._flowing = False
        """Whether nothing is known yet of the end: most events are then pieces of output."""
        self._spoke = False
        self._text_open = False
        self._whole = False
        voice.late_annotations = context.late_annotations

    # --- input

    def _on_events(self, events: list[Event]) -> None:
        try:
            self._hear(events)
        finally:
            self._account()

    def _hear(self, events: list[Event]) -> None:
        plain_event: tuple[bytes | None, bytes, str] | None = None
        for name, payload in events:
            # hot: bench/test_translators.py; one choice whose delta is a piece of text, and nothing else
            if payload.startswith(b"[DONE]"):
                self.ended = True
                return
            try:
                chunk = orjson.loads(payload)
            except ValueError:
                chunk = _read(name, payload)
            if name == b"error":
                raise error_of(chunk)
            try:
                (choice,) = chunk["choices"]
                delta = choice["delta"]
                plain = (
                    choice.get("finish_reason") is None
                    and delta.__class__ is dict
                    and chunk.get("usage") is None
                    and not choice.get("index")
                    and "error" not in chunk
                    and "citations" not in chunk
                    and "search_results" not in chunk
                    and "error" not in choice
                    and self._flowing
                )
            except (KeyError, TypeError, ValueError, AttributeError):
                plain = False
            if not plain:
                self._on_chunk(chunk)
                continue
            text = delta.get("content")
            if (
                text
                and text.__class__ is str
                and (len(delta) == 1 or (len(delta) == 2 and "role" in delta))
                and self._straight
                and not self._thinking.pending
                and choice.get("logprobs") is None
            ):
                self._text_open = True
                self._voice.text(text)
                plain_event = (name, payload, text)
            elif "message" in choice or "text" in choice:
                self._on_choice(choice)
            else:
                self._on_delta(delta, choice.get("logprobs"))
        if plain_event is not None:
            name, payload, text = plain_event
            self._splice.learn(name, payload, _CONTENT, text)
        self._splice.held = self._thinking.pending or self.wait is not None

    def from_body(self, body: JSON) -> None:
        """A whole answer. Raises: RelayError."""
        self.ended = True
        try:
            self._on_chunk(body)
        finally:
            self._account()
        if not self._said_something:
            raise RelayError("upstream_bad_response", "The upstream sent an empty response.")

    @property
    def _said_something(self) -> bool:
        return self._spoke or self._text_open

    def close(self) -> Done:
        """The input is over. Raises: RelayError where the upstream did not say so, or said that it failed."""
        if not self.ended:
            self._on_events(last_events(self._decoder, self.wait))
            if not self._begun and self._decoder.stray:
                raise no_stream()
        if self._splitter is not None:
            self._say(self._splitter.close())
        done = self._ending()
        self._calls.close()
        self._thinking.close()
        if self._text_open:
            for annotation in annotations_of(self._annotations, self._sources, self._voice.text_so_far):
                self._voice.annotation(annotation)
        if self._calls.any:
            self._voice.message_end()
        return done

    def _ending(self) -> Done:
        finish = self._finish
        if finish is not None:
            done = ending_of(finish)
            if done is None:
                raise RelayError("upstream_error", f"The upstream stopped with the reason '{finish[:64]}'.")
            return done
        if not self.ended:
            raise RelayError("upstream_ended_early", "The upstream's stream ended before its answer was complete.")
        if not self._said_something:
            raise RelayError("upstream_bad_response", "The upstream sent an empty response.")
        limit = self._context.limit_tokens
        if limit is not None and self._output_tokens >= limit:
            return Done("incomplete", "max_output_tokens")
        if self._calls.cut:  # nobody said that it ended (decision 44)
            raise RelayError("upstream_ended_early", "The upstream's answer ended inside a tool call.")
        return Done("completed")

    # --- one chunk

    def _on_chunk(self, chunk: Any) -> None:
        if chunk.__class__ is not dict:
            raise RelayError("upstream_bad_response", "The upstream sent an event that is no object.")
        choices = chunk.get("choices")
        choice = _first(choices) if choices else None
        usage = chunk.get("usage") or (choice.get("usage") if choice else None) or _groq_usage(chunk)
        if usage.__class__ is dict:
            self._usage = overlaid(self._usage, usage)
        if chunk.get("error") or ((not choices or "base_resp" in chunk) and is_error(chunk)):
            raise error_of(chunk)
        if choice is not None and _failed(choice):
            raise error_of(choice.get("error") or {"message": "The upstream's answer ended with an error."})
        if not chunk:
            return
        if not self._begun:
            self._begun = True
            self._voice.begin()
        tier = chunk.get("service_tier")
        if tier.__class__ is str and tier in TIERS:
            self._voice.emitter.tier(TIERS[tier])
        for field in SOURCES:
            if chunk.get(field):
                self._sources[field] = chunk[field]
        if choice is not None:
            self._on_choice(choice)
        self._flowing = self.wait is None

    def _on_choice(self, choice: JSON) -> None:
        delta = self._delta(choice)
        spoke, says = self._said_something, False
        if delta.__class__ is dict:
            says = self._says(delta)
            self._on_delta(delta, choice.get("logprobs"))
        self._whole = False
        finish = choice.get("finish_reason")
        finish = reason_of(finish) if finish.__class__ is str else None
        if finish is not None:
            self._finish = finish
            self._spoke = True
            if says or self.wait is None:
                self.wait = wait_after_reason(self.wait, spoke=spoke)
        elif says:
            self.wait = None

    def _delta(self, choice: JSON) -> Any:
        """What a choice adds: its ``delta``, or what its ``message`` has beyond what was said (decision 49)."""
        delta, message = choice.get("delta"), choice.get("message")
        if message.__class__ is not dict:
            text = choice.get("text")  # as /completions has it
            return {"content": text} if not delta and text.__class__ is str else delta
        told = delta.__class__ is dict and self._says(delta)
        if told and not (self.ended and self._says(message)):
            return delta
        if not self._said_something:
            self._whole = True
            return message
        return self._beyond(message)

    def _beyond(self, message: JSON) -> JSON:
        """Servers repeat in each chunk, or in the last, all that they said; what is told otherwise was said."""
        more: JSON = {} if self._calls.any else {"tool_calls": message.get("tool_calls")}
        self._whole = True
        text, said = message.get("content"), self._voice.text_so_far()
        if text.__class__ is str and self._splitter is None and bool(said) == self._text_open and text.startswith(said):
            more["content"] = text[len(said) :]
        return more

    def _says(self, delta: JSON) -> bool:
        """Whether there is output in a delta: what may follow the reason for the end is none."""
        says = _saying(self._context.reasoning_fields)
        return any(value and field in says for field, value in delta.items())

    def _on_delta(self, delta: JSON, logprobs: Any) -> None:
        # hot: one key is what most deltas have
        if len(delta) == 1:
            ((field, value),) = delta.items()
            handler = _HANDLERS.get(field)
            if handler is not None and value:
                handler(self, value)
                return
            if value and value.__class__ is str and field in self._context.reasoning_fields:
                self._spoke = True
                self._thinking.raw(field, value)
                return
        # the order of these is the order of one chunk's output, whatever the order of its keys
        details = delta.get("reasoning_details")
        if details and details.__class__ is list:
            self._spoke = True
            self._thinking.details(details)
        else:
            for field in self._context.reasoning_fields:
                text = delta.get(field)
                if text and text.__class__ is str:
                    self._spoke = True
                    self._thinking.raw(field, text)
                    break
        content = delta.get("content")
        if content:
            if content.__class__ is str:
                self._on_text(content, logprobs)
            elif content.__class__ is list and _are_parts(content):
                self._on_parts(content)
            else:
                self._on_text(encoded(content).decode(), None)
        for field, handler in _HANDLERS.items():
            value = delta.get(field)
            if value:
                handler(self, value)

    def _on_text(self, text: str, logprobs: Any) -> None:
        if self._splitter is not None:
            self._spoke = True
            self._say(self._splitter.feed(text))
            return
        self._before_text()
        entries = logprobs.get("content") if self._context.logprobs and isinstance(logprobs, dict) else None
        if entries:
            self._voice.logprobs(text, _logprobs(entries))
        else:
            self._voice.text(text)

    def _say(self, pieces: list[tuple[bool, str]]) -> None:
        for piece in pieces:
            thought, text = piece
            if piece is SAID_BEFORE:
                self._voice.message_end()
            elif thought:
                self._spoke = True
                self._thinking.raw("think", text)
            else:
                self._before_text()
                self._voice.text(text)

    def _on_parts(self, parts: list[Any]) -> None:
        for part in parts:
            if not isinstance(part, dict):
                continue
            if part.get("type") == "thinking":
                thinking = part.get("thinking")
                text = thinking if isinstance(thinking, str) else _joined(thinking)
                if text:
                    self._spoke = True
                    self._thinking.raw("thinking", text)
            elif isinstance(part.get("text"), str) and part["text"]:
                self._before_text()
                self._voice.text(part["text"])

    def _before_others(self) -> None:
        """Something other than text is said: what is kept back comes first."""
        if self._splitter is not None:
            self._say(self._splitter.settle())

    def _before_text(self) -> None:
        self._text_open = True
        if self._thinking.pending:
            self._thinking.before_output()

    def _on_refusal(self, refusal: Any) -> None:
        if isinstance(refusal, str):
            self._before_others()
            self._spoke = True
            if self._thinking.pending:
                self._thinking.before_output()
            self._voice.refusal(refusal)

    def _on_tool_calls(self, fragments: Any) -> None:
        if isinstance(fragments, list):
            self._before_others()
            self._spoke = True
            (self._calls.whole if self._whole else self._calls.feed)(fragments)

    def _on_function_call(self, function: Any) -> None:
        if isinstance(function, dict):
            self._before_others()
            self._spoke = True
            self._calls.fragment({"function": function}, LEGACY)

    def _on_images(self, images: Any) -> None:
        for image in images if isinstance(images, list) else []:
            inner = image.get("image_url") if isinstance(image, dict) else None
            url = inner.get("url") if isinstance(inner, dict) else inner
            found = data_url(url) if isinstance(url, str) else None
            if found is None:
                self._voice.emitter.warn("output", "an image that the upstream sent as a link was left out")
                continue
            self._before_others()
            self._spoke = True
            if self._thinking.pending:
                self._thinking.before_output()
            item = self._voice.hosted("image_generation_call", {"status": "in_progress", "result": None})
            self._voice.hosted_end(item, {"status": "completed", "result": found.data})

    def _on_annotations(self, told: Any) -> None:
        for one in told if isinstance(told, list) else []:
            inner = one.get("url_citation") if isinstance(one, dict) else None
            if isinstance(inner, dict) and isinstance(inner.get("url"), str):
                self._annotations.append(
                    citation(inner, count_of(inner.get("start_index")), count_of(inner.get("end_index")))
                )

    def _on_audio(self, audio: Any) -> None:
        self._voice.emitter.warn("output", "audio that the upstream sent was left out")

    def _account(self) -> None:
        """Say what was used; each event tells the sum so far, so that the last of a read is enough."""
        usage = self._usage
        if usage is not self._accounted:
            self._accounted = usage
            counted = chat_usage(usage)
            self._output_tokens = counted["output_tokens"]
            self._voice.usage(counted)


_HANDLERS: Final[Mapping[str, Callable[[ChatTranslator, Any], None]]] = {
    "refusal": ChatTranslator._on_refusal,
    "images": ChatTranslator._on_images,
    "tool_calls": ChatTranslator._on_tool_calls,
    "function_call": ChatTranslator._on_function_call,
    "annotations": ChatTranslator._on_annotations,
    "audio": ChatTranslator._on_audio,
}


def _read(name: bytes | None, payload: bytes) -> Any:
    """What orjson refused: lone surrogates (decision 24), an error in plain words, garbage."""
    try:
        return loads(payload)
    except ValueError:
        if name == b"error":
            return {"message": payload.decode("utf-8", "replace")}
        if not payload.strip():
            return {}
        raise RelayError("upstream_bad_response", "The upstream sent an event that is no JSON.") from None


@cache
def _saying(reasoning_fields: tuple[str, ...]) -> frozenset[str]:
    """The members of a delta that say something; of each row of capabilities there is one."""
    return frozenset((*_OUTPUT, *reasoning_fields))


def _failed(choice: JSON) -> bool:
    """OpenRouter says ``stop`` of what its provider ended with an error (OleksandrChekhovskyi/hax#15)."""
    words = ("error", "ERROR", "Error")
    return (
        bool(choice.get("error")) or choice.get("finish_reason") in words or choice.get("native_finish_reason") in words
    )


def _first(choices: Any) -> JSON | None:
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and not choice.get("index"):
            return choice
    return None


def _groq_usage(chunk: JSON) -> Any:
    groq = chunk.get("x_groq")
    return groq.get("usage") if isinstance(groq, dict) else None


def _are_parts(content: list[Any]) -> bool:
    """Whether a list is one of content parts; another one is an answer that is JSON, as an object is (decision 49)."""
    return any(isinstance(part, dict) and isinstance(part.get("type", part.get("text")), str) for part in content)


def _joined(thinking: Any) -> str:
    pieces = thinking if isinstance(thinking, list) else []
    return "".join(str(piece.get("text") or "") for piece in pieces if isinstance(piece, dict))


def _logprobs(entries: Any) -> list[JSON]:
    """Tokens with their likelihoods, as far as they are told."""
    return [
        {**_logprob(one), "top_logprobs": [*map(_logprob, _objects(one.get("top_logprobs")))]}
        for one in _objects(entries)
    ]


def _objects(value: Any) -> list[JSON]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _logprob(entry: JSON) -> JSON:
    number, bytes_ = entry.get("logprob"), entry.get("bytes")
    return {
        "token": str(entry.get("token", "")),
        "logprob": number if isinstance(number, int | float) else 0.0,
        "bytes": bytes_ if isinstance(bytes_, list) else [],
    }
