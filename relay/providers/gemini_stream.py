"""The Gemini translator: generateContent responses in, verbs out.

Source: translation.md §3.5, §4.3; decisions 2, 3, 18, 19, 22, 24; design.md §4.12 (an unknown stop is no success).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from relay.errors import RelayError
from relay.providers.base import Continue, Done, UpstreamRequest, Wait
from relay.providers.endings import ending_of, last_events, no_stream, reason_of, wait_after_reason
from relay.providers.failures import clean, is_error
from relay.providers.gemini_calls import PartialCall
from relay.providers.gemini_failures import MALFORMED, MISSING_SIGNATURE, error_of
from relay.providers.gemini_grounding import Grounding
from relay.providers.gemini_hosted import PARTS, HostedParts
from relay.providers.gemini_seals import Seals
from relay.providers.schema import mismatch
from relay.responses.emitter import Usage, Voice, usage_of
from relay.responses.json import encoded, loads
from relay.responses.tools import JSON
from relay.responses.usage import count_of, overlaid
from relay.wire.sse import Decoder

STOP_REASONS_WITH_OUTPUT: Final[Mapping[str, Done]] = {
    "FINISH_REASON_UNSPECIFIED": Done("completed"),
    "OTHER": Done("incomplete", "content_filter"),
}
"""``finishReason`` -> how the response ends where something was said; a failure where not."""

REPAIRABLE: Final[Mapping[str, str]] = {
    "MISSING_THOUGHT_SIGNATURE": MISSING_SIGNATURE,
    **dict.fromkeys(
        ("MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"), MALFORMED
    ),
}
"""``finishReason`` -> repair, while nothing of the answer was shown."""

GOES_ON: Final = "CONTINUATION"

TIERS: Final = {"standard": "default", "flex": "flex", "priority": "priority"}
"""``serviceTier`` of an answer -> ours."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the translator needs to know of its request. The last three come from the hop before this one."""

    model: str = ""
    searches: bool = False
    """Whether the upstream may look things up, and then cite what it found."""
    logprobs: bool = False
    include: frozenset[str] = frozenset()
    limit_tokens: int | None = None
    schema: JSON | None = None
    """The client's schema where the upstream got a reduced one."""
    said: bool = False
    first: bytes | None = None
    pending: tuple[JSON, ...] = ()


class GeminiTranslator:
    """One generateContent answer, spoken to one voice."""

    __slots__ = (
        "_accounted",
        "_begun",
        "_block",
        "_called",
        "_context",
        "_cut",
        "_decoder",
        "_finish",
        "_finish_message",
        "_grounding",
        "_hosted",
        "_length",
        "_partial",
        "_plain",
        "_request",
        "_said",
        "_seals",
        "_spoke",
        "_token",
        "_usage",
        "_voice",
        "ended",
        "wait",
    )

    ready: Final = True

    def __init__(self, voice: Voice, request: UpstreamRequest) -> None:
        self._voice = voice
        self._request = request
        self._context: Context = request.context or Context()
        self._decoder = Decoder(thins=True)
        self._grounding = Grounding()
        self._seals = Seals(voice, self._context.model, self._context.pending)
        self._hosted = HostedParts(voice, self._seals, self._grounding, self._context.include)
        self._length: int | None = None
        self._partial: PartialCall | None = None
        self._finish: str | None = None
        self._finish_message = ""
        self._token: str | None = None
        self._block: JSON | None = None
        self._usage: JSON = {}
        self._accounted = self._usage
        self._plain = False
        self._begun = False
        self._said = self._context.said
        self._spoke = False
        self._called = False
        self._cut = False
        """Whether a call began that never ended."""
        self.ended = False
        self.wait: Wait | None = None
        voice.late_annotations = self._context.searches

    # --- input

    thins: Final = True

    @property
    def heavy(self) -> bool:
        """Whether what is fed next may complete a large event."""
        return self._decoder.heavy

    def feed(self, data: bytes) -> None:
        """Bytes of the stream. Raises: RelayError for an error that the upstream reports, or nonsense."""
        if not self.ended:
            self._feed(self._decoder.feed(data))

    def _feed(self, events: list[tuple[bytes | None, bytes]]) -> None:
        try:
            for _, payload in events:
                # hot: bench/test_translators.py; most events are one more piece of the text that is open
                try:
                    chunk = orjson.loads(payload)
                except ValueError:
                    if payload.strip() == b"[DONE]":
                        self.ended = True
                        return
                    chunk = _read(payload)
                text = _piece(chunk) if self._plain else None
                if text is None:
                    self._on_chunk(chunk)
                    self._plain = (
                        self._seals.kind == "text"
                        and self._length is None
                        and self.wait is None
                        and not self._context.logprobs
                    )
                else:
                    self._usage = overlaid(self._usage, chunk["usageMetadata"])
                    self._voice.text(text)
        finally:
            self._account()

    def from_body(self, body: Any) -> None:
        """A whole answer, or the array that a stream without SSE is. Raises: RelayError."""
        self.ended = True
        self._on_chunk(body)
        self._account()
        if not self._begun:
            raise RelayError("upstream_bad_response", "The upstream sent an empty response.")
        if self._finish is None and self._block is None and self._said:
            # decision 44: what came whole is no cut answer
            self._finish = "MAX_TOKENS" if self._limit_reached() else "STOP"

    def close(self) -> Done | Continue:
        """The input is over. Raises: RelayError where the upstream did not say so, or said that it failed."""
        if not self.ended:
            self._feed(last_events(self._decoder, self.wait))
            if not self._begun and self._decoder.stray:
                raise no_stream()
        self._cut = self._cut or self._partial is not None
        self._end_partial(whole=False)
        done = self._ending()
        if self._cut and (done is None or done.status == "completed"):
            raise _cut()
        self._hosted.close()
        if done is None:
            return Continue(self._next_request())
        text = self._voice.text_so_far()
        for annotation in self._grounding.annotations(text) if text else ():
            self._voice.annotation(annotation)
        if done.status == "completed" and self._context.schema is not None and not self._called:
            self._check_schema(text, self._context.schema)
        self._seals.flush()
        if self._block is not None and self._finish is None:
            self._refuse(self._block)
        if self._context.searches:
            self._hosted.show_searches()
        self._voice.message_end()
        return done

    # --- one chunk

    def _on_chunk(self, chunk: Any) -> None:
        if chunk.__class__ is list:
            for one in chunk:
                self._on_chunk(one)
            return
        if chunk.__class__ is not dict:
            raise RelayError("upstream_bad_response", "The upstream sent an event that is no object.")
        if chunk.get("error") or ("candidates" not in chunk and is_error(chunk)):
            raise error_of(chunk)
        usage = chunk.get("usageMetadata")
        if usage.__class__ is dict:
            self._usage = overlaid(self._usage, usage)
        feedback = chunk.get("promptFeedback")
        if feedback.__class__ is dict and feedback.get("blockReason"):
            self._block = feedback
            if not self._begun:
                self._begin()
            self._on_reason(says=False)
        candidates = chunk.get("candidates")
        for candidate in [candidates] if candidates.__class__ is dict else _list(chunk, "candidates"):
            if candidate.__class__ is dict and not candidate.get("index"):
                self._on_candidate(candidate)
                break

    def _on_candidate(self, candidate: JSON) -> None:
        parts = _parts(candidate.get("content"))
        finish = reason_of(candidate.get("finishReason"))
        if finish:
            self._finish = finish
            self._finish_message = str(candidate.get("finishMessage") or "")
            if not self._begun and self._finish in REPAIRABLE:
                raise self._failure()
        if candidate.keys() - _PLAIN:
            self._grounding.read(candidate)
            if candidate.get("continuationToken"):
                self._token = str(candidate["continuationToken"])
        if not parts and not finish:
            return
        if not self._begun:
            self._begin()
        says = any(map(_says, parts))
        if finish:
            self._on_reason(says=says)
        elif says:
            self.wait = None
        self._spoke = self._spoke or says
        logprobs = self._logprobs(candidate) if self._context.logprobs else None
        for part in parts:
            text = part.get("text")
            if text.__class__ is dict:
                text = encoded(text).decode()
            if text.__class__ is not str:
                self._on_part(part)
            else:
                logprobs = self._on_text_part(part, text, logprobs)

    def _on_reason(self, *, says: bool) -> None:
        if says or self.wait is None:
            self.wait = wait_after_reason(self.wait, spoke=self._spoke)

    def _begin(self) -> None:
        self._begun = True
        self._voice.begin()

    def _on_part(self, part: JSON) -> None:
        for name, value in part.items():
            if name not in _KINDS or not isinstance(value, dict):
                continue
            if name == "functionCall":
                self._on_function_call(value, part.get("thoughtSignature"))
            elif not part.get("thought"):  # else a draft that the model thought about
                self._said = True
                PARTS[name](self._hosted, part, value)
            return
        unknown = next((name for name, value in part.items() if value and name not in _BESIDE), None)
        if unknown is not None:
            self._voice.emitter.left_out(f"a part of the type '{unknown}'")
        if isinstance(part.get("thoughtSignature"), str):
            self._on_text_part(part, "", None)

    # --- text and thoughts

    def _on_text_part(self, part: JSON, text: str, logprobs: list[JSON] | None) -> list[JSON] | None:
        """Returns the log probabilities that are left for the next text."""
        signature = part.get("thoughtSignature")
        if part.get("thought"):
            self._turn_to("thought")
            if text:
                self._said = True
                self._voice.summary(text)
            if signature:
                self._seals.add("thought", text=text, sig=str(signature))
            return logprobs
        if not text and not signature:
            return logprobs
        self._turn_to("text")
        if self._length is None and signature:
            self._length = self._voice.text_length()
        start = self._length
        if text:
            self._said = True
            if logprobs:
                self._voice.logprobs(text, logprobs)
                logprobs = None
            else:
                self._voice.text(text)
            if self._length is not None:
                self._length += len(text)
        if signature:
            self._seals.add("text", sig=str(signature), **{"from": start, "to": self._length})
        return logprobs

    def _turn_to(self, kind: str) -> None:
        if self._seals.kind != kind:
            self._seals.turn_to(kind)
            self._length = None

    # --- calls

    def _goes_on(self, call: JSON, name: str) -> bool:
        """Whether a call that has a name is a piece of the one that is open."""
        partial = self._partial
        return (
            partial is not None
            and partial.name == name
            and call.get("id") in (None, partial.id)
            and not call.get("args")
            and "partialArgs" in call
        )

    def _on_function_call(self, call: JSON, signature: Any) -> None:
        name = call.get("name")
        if name and isinstance(name, str) and not self._goes_on(call, name):
            self._cut = self._cut or self._partial is not None
            self._end_partial(whole=False)
            signed = signature if isinstance(signature, str) else None
            self._partial = PartialCall(name, call.get("id"), signed, call.get("args"))
        elif self._partial is None:
            if call:
                raise RelayError("upstream_bad_response", "The upstream sent a tool call without a name.")
            return
        self._partial.add(call.get("partialArgs"))
        if not call.get("willContinue"):
            self._end_partial(whole=True)

    def _end_partial(self, *, whole: bool) -> None:
        call, self._partial = self._partial, None
        if call is None:
            return
        self._said = self._called = True
        voice, seals = self._voice, self._seals
        usable = isinstance(call.id, str) and 0 < len(call.id) <= 64 and call.id not in voice.emitter.call_ids
        identifier = call.id if usable else voice.emitter.new_id("call")
        if call.signature is not None:
            seals.add("fc", **{"for": identifier, "sig": call.signature})
        seals.turn_to("call")
        item = voice.call(identifier, call.name)
        voice.arguments(item, call.text())
        if whole:
            voice.call_end(item)

    # --- endings

    def _ending(self) -> Done | None:
        """How the response ends; None where another call goes on with it."""
        finish = self._finish
        if finish is None:
            if self._block is not None:
                return Done("incomplete", "content_filter")
            raise _cut()
        done = ending_of(finish)
        if done is None and self._said:
            done = STOP_REASONS_WITH_OUTPUT.get(finish)
        if done is not None:
            return done
        if finish != GOES_ON:
            raise self._failure()
        if self._token is None or self._limit_reached():
            return Done("incomplete", "max_output_tokens")
        return None

    def _limit_reached(self) -> bool:
        limit, usage = self._context.limit_tokens, self._voice.total_usage()
        return limit is not None and usage is not None and usage["output_tokens"] >= limit

    def _failure(self) -> RelayError:
        repair = REPAIRABLE.get(str(self._finish))
        kind = "translation_error" if repair == MISSING_SIGNATURE else "upstream_error"
        more = f": {clean(self._finish_message)}" if self._finish_message else "."
        return RelayError(kind, f"The upstream stopped with the reason '{str(self._finish)[:64]}'{more}", repair=repair)

    def _next_request(self) -> UpstreamRequest:
        first = self._context.first or self._request.body
        token = encoded(self._token)
        context = replace(self._context, said=self._said, first=first, pending=tuple(self._seals.pending))
        return replace(self._request, body=first[:-1] + b',"continuationToken":' + token + b"}", context=context)

    def _refuse(self, block: JSON) -> None:
        words = block.get("blockReasonMessage") or f"The prompt was blocked: {block['blockReason']}."
        self._voice.refusal(clean(str(words)))

    def _check_schema(self, text: str, schema: JSON) -> None:
        try:
            found = mismatch(loads(text), schema)
        except ValueError:
            found = "it is no JSON"
        if found is not None:
            self._voice.emitter.warn("text.format", f"the answer does not match the schema: {found}")

    def _logprobs(self, candidate: JSON) -> list[JSON] | None:
        result = candidate.get("logprobsResult")
        if not isinstance(result, dict):
            return None
        tops = _list(result, "topCandidates")
        return [
            {**_logprob(chosen), "top_logprobs": _top(tops[at]) if at < len(tops) else []}
            for at, chosen in enumerate(_list(result, "chosenCandidates"))
            if isinstance(chosen, dict)
        ]

    def _account(self) -> None:
        """Say what was used; each event tells the sum so far, so that the last of a read is enough."""
        usage = self._usage
        if usage is not self._accounted:
            self._accounted = usage
            self._voice.usage(gemini_usage(usage))
            tier = usage.get("serviceTier")
            if tier and str(tier).lower() in TIERS:
                self._voice.emitter.tier(TIERS[str(tier).lower()])


def _piece(chunk: Any) -> str | None:
    """The text of an event that says one piece of text and nothing else."""
    try:
        (candidate,) = chunk["candidates"]
        (part,) = candidate["content"]["parts"]
        text = part["text"]
    except (KeyError, TypeError, ValueError):
        return None
    plain = (
        text.__class__ is str
        and text != ""
        and len(part) == 1
        and len(candidate) == (2 if candidate.get("index") == 0 else 1)
        and chunk.get("usageMetadata").__class__ is dict
        and not chunk.keys() & _TELLING
    )
    return text if plain else None


def _cut() -> RelayError:
    return RelayError("upstream_ended_early", "The upstream's stream ended before its answer was complete.")


def _says(part: Any) -> bool:
    """Whether there is output in a part: what may follow the reason for the end is a signature at most."""
    return part.__class__ is dict and any(value for name, value in part.items() if name not in _SILENT)


_SILENT: Final = frozenset({"thought", "thoughtSignature"})
_BESIDE: Final = _SILENT | {"mediaResolution", "partMetadata", "videoMetadata"}
_KINDS: Final = frozenset({"functionCall", *PARTS})
_PLAIN: Final = frozenset({"content", "finishReason", "index", "role"})
_TELLING: Final = frozenset({"error", "promptFeedback"})


def _read(payload: bytes) -> Any:
    """What orjson refused: lone surrogates (decision 24), garbage."""
    try:
        return loads(payload)
    except ValueError:
        if not payload.strip():
            return {}
        raise RelayError("upstream_bad_response", "The upstream sent an event that is no JSON.") from None


def _parts(content: Any) -> list[JSON]:
    """The parts of a content, each of one kind; some servers write one part, or its text, where a list should be."""
    found = content
    if content.__class__ is dict:
        found = content["parts"] if "parts" in content else {k: v for k, v in content.items() if k != "role"}
    parts: list[JSON] = []
    for part in found if found.__class__ is list else [found]:
        if not part:
            continue
        if part.__class__ is dict:
            parts += _one_by_one(part) if len(part) > 1 else [part]
        elif part.__class__ is str:
            parts.append({"text": part})
    return parts


def _one_by_one(part: JSON) -> list[JSON]:
    """A part that says several things as several parts; a signature belongs to the last."""
    kinds = [name for name in part if name == "text" or name in _KINDS]
    if len(kinds) < 2:
        return [part]
    beside = {name: value for name, value in part.items() if name not in kinds and name != "thoughtSignature"}
    parts = [{name: part[name], **beside} for name in kinds]
    if "thoughtSignature" in part:
        parts[-1]["thoughtSignature"] = part["thoughtSignature"]
    return parts


def _list(value: Any, name: str) -> list[Any]:
    found = value.get(name) if value.__class__ is dict else None
    return found if found.__class__ is list else []


def _logprob(one: JSON) -> JSON:
    token = str(one.get("token", ""))
    return {
        "token": token,
        "logprob": one.get("logProbability", 0.0),
        "bytes": list(token.encode("utf-8", "surrogatepass")),
    }


def _top(entry: Any) -> list[JSON]:
    return [_logprob(one) for one in _list(entry, "candidates") if isinstance(one, dict)]


# --- usage


_COUNTS: Final = (
    "promptTokenCount",
    "toolUsePromptTokenCount",
    "candidatesTokenCount",
    "thoughtsTokenCount",
    "totalTokenCount",
    "cachedContentTokenCount",
)


def gemini_usage(usage: JSON) -> Usage:
    """The identities of translation.md §3.5: thoughts are added unless the total says that they are in already."""
    prompt, tools, made, thought, total, cached = [count_of(usage.get(name)) for name in _COUNTS]
    given = prompt + tools
    if thought and total != given + made:
        made += thought
    return usage_of(given, made, cached=cached, reasoning=thought)
