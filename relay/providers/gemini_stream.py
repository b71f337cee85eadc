"""The Gemini translator: generateContent responses in, verbs out.

Source: translation.md §3.5, §4.3; decisions 2, 3, 18, 19, 22, 24; design.md §4.12 (an unknown stop is no success).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from relay.errors import RelayError
from relay.providers.base import Continue, Done, UpstreamRequest
from relay.providers.failures import clean
from relay.providers.gemini_calls import PartialCall
from relay.providers.gemini_contents import FAMILY
from relay.providers.gemini_failures import MALFORMED, MISSING_SIGNATURE, error_of
from relay.providers.gemini_grounding import Grounding
from relay.providers.schema import mismatch
from relay.responses.emitter import Usage, Voice, usage_of
from relay.responses.envelope import seal
from relay.responses.json import loads, mended
from relay.responses.output import Hosted
from relay.responses.tools import JSON
from relay.wire.sse import Decoder

STOP_REASONS: Final[Mapping[str, Done]] = {
    "STOP": Done("completed"),
    "MAX_TOKENS": Done("incomplete", "max_output_tokens"),
    **dict.fromkeys(
        (
            "SAFETY",
            "RECITATION",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "LANGUAGE",
            "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT",
            "IMAGE_RECITATION",
            "IMAGE_OTHER",
            "NO_IMAGE",
            "MODEL_ARMOR",
            "ESCALATION",
            "PUP_LIMITED_DISABLED",
        ),
        Done("incomplete", "content_filter"),
    ),
}
"""``finishReason`` -> how the response ends. Any other one that is in none of these tables is a failure."""

STOP_REASONS_WITH_OUTPUT: Final[Mapping[str, Done]] = {
    "FINISH_REASON_UNSPECIFIED": Done("completed"),
    "OTHER": Done("incomplete", "content_filter"),
}
"""Where something was said; a failure where not."""

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
    """One generateContent answer, spoken to one voice.

    ``_pending`` are the blocks of the next envelope. It is written when the kind of output changes: into the reasoning
    item that is open then, else into one of its own that follows what was signed, or precedes the call that was.
    """

    __slots__ = (
        "_begun",
        "_block",
        "_called",
        "_codes",
        "_context",
        "_decoder",
        "_finish",
        "_finish_message",
        "_grounding",
        "_kind",
        "_length",
        "_partial",
        "_pending",
        "_request",
        "_said",
        "_searches",
        "_shown",
        "_token",
        "_voice",
        "ended",
    )

    ready: Final = True

    def __init__(self, voice: Voice, request: UpstreamRequest) -> None:
        self._voice = voice
        self._request = request
        self._context: Context = request.context or Context()
        self._decoder = Decoder()
        self._grounding = Grounding()
        self._pending: list[JSON] = list(self._context.pending)
        self._kind = "text" if self._pending else ""
        self._length: int | None = None
        self._partial: PartialCall | None = None
        self._codes: dict[str, Hosted] = {}
        self._searches: dict[str, tuple[Hosted, JSON]] = {}
        self._finish: str | None = None
        self._finish_message = ""
        self._token: str | None = None
        self._block: JSON | None = None
        self._shown: set[str] = set()
        self._begun = False
        self._said = self._context.said
        self._called = False
        self.ended = False
        voice.late_annotations = self._context.searches

    # --- input

    def feed(self, data: bytes) -> None:
        """Bytes of the stream. Raises: RelayError for an error that the upstream reports, or nonsense."""
        if not self.ended:
            self._feed(self._decoder.feed(data))

    def _feed(self, events: list[tuple[bytes | None, bytes]]) -> None:
        for _, payload in events:
            try:
                chunk = orjson.loads(payload)
            except ValueError:
                if payload.strip() == b"[DONE]":
                    self.ended = True
                    return
                try:
                    chunk = loads(payload)
                except ValueError:
                    message = "The upstream sent an event that is no JSON."
                    raise RelayError("upstream_bad_response", message) from None
            self._on_chunk(chunk)

    def from_body(self, body: Any) -> None:
        """A whole answer, or the array that a stream without SSE is. Raises: RelayError."""
        self.ended = True
        self._on_chunk(body)
        if not self._begun:
            raise RelayError("upstream_bad_response", "The upstream sent an empty response.")

    def close(self) -> Done | Continue:
        """The input is over. Raises: RelayError where the upstream did not say so, or said that it failed."""
        if not self.ended:
            self._feed(self._decoder.close())
            if not self._begun and self._decoder.stray:
                self._on_stray(self._decoder.stray)
        self._end_partial()
        done = self._ending()
        self._end_hosted()
        if done is None:
            return Continue(self._next_request())
        text = self._voice.text_so_far()
        for annotation in self._grounding.annotations(text) if text else ():
            self._voice.annotation(annotation)
        if done.status == "completed" and self._context.schema is not None and not self._called:
            self._check_schema(text, self._context.schema)
        self._flush()
        if self._block is not None and self._finish is None:
            self._refuse(self._block)
        if self._context.searches:
            self._show_searches()
        self._voice.message_end()
        return done

    def _on_stray(self, stray: bytes) -> None:
        """No events, but something: a JSON body in place of the stream, or a page."""
        try:
            body = loads(stray)
        except ValueError:
            raise RelayError("upstream_bad_response", "The upstream's answer is no event stream.") from None
        self.from_body(body)

    # --- one chunk

    def _on_chunk(self, chunk: Any) -> None:
        # hot: bench/test_translators.py
        if chunk.__class__ is list:
            for one in chunk:
                self._on_chunk(one)
            return
        if chunk.__class__ is not dict:
            raise RelayError("upstream_bad_response", "The upstream sent an event that is no object.")
        if chunk.get("error"):
            raise error_of(chunk["error"])
        usage = chunk.get("usageMetadata")
        if usage.__class__ is dict:
            self._on_usage(usage)
        feedback = chunk.get("promptFeedback")
        if feedback.__class__ is dict and feedback.get("blockReason"):
            self._block = feedback
            self._begin()
        for candidate in _list(chunk, "candidates"):
            if candidate.__class__ is dict and not candidate.get("index"):
                self._on_candidate(candidate)
                break

    def _on_candidate(self, candidate: JSON) -> None:
        content = candidate.get("content")
        parts = _list(content, "parts")
        finish = candidate.get("finishReason")
        if finish:
            self._finish = str(finish)
            self._finish_message = str(candidate.get("finishMessage") or "")
            if not self._begun and self._finish in REPAIRABLE:
                raise self._failure()
        if not parts and not finish:
            return
        if not self._begun:
            self._begin()
        logprobs = self._logprobs(candidate) if self._context.logprobs else None
        for part in parts:
            if part.__class__ is not dict:
                continue
            text = part.get("text")
            if text and len(part) == 1 and self._kind == "text" and text.__class__ is str and not logprobs:
                # hot: a piece of text, and nothing else
                self._voice.text(text)
                if self._length is not None:
                    self._length += len(text)
            elif text.__class__ is str:
                logprobs = self._on_text_part(part, text, logprobs)
            else:
                self._on_part(part)
        if len(candidate) > 2:
            self._grounding.read(candidate)
            if candidate.get("continuationToken"):
                self._token = str(candidate["continuationToken"])

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._voice.begin()

    def _on_part(self, part: JSON) -> None:
        for name in part:
            handler = _PARTS.get(name)
            if handler is not None:
                handler(self, part)
                return
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
                self._pending.append({"k": "thought", "text": text, "sig": str(signature)})
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
            self._pending.append({"k": "text", "sig": str(signature), "from": start, "to": self._length})
        return logprobs

    def _turn_to(self, kind: str) -> None:
        """Output of another kind follows: what is pending belongs to what ends here."""
        if self._kind != kind:
            self._flush()
            self._kind = kind
            self._length = None

    def _flush(self) -> None:
        if self._pending:
            blocks = [_source(block) for block in self._pending]
            self._pending = []
            self._voice.envelope(seal(FAMILY, self._context.model, blocks))
            self._voice.reasoning_end()

    # --- calls

    def _on_function_call(self, part: JSON) -> None:
        call, signature = part["functionCall"], part.get("thoughtSignature")
        if not isinstance(call, dict):
            return
        name, open_call = call.get("name"), self._partial
        if name and isinstance(name, str):
            self._end_partial()
            self._partial = PartialCall(
                name, call.get("id"), signature if isinstance(signature, str) else None, call.get("args")
            )
        elif open_call is None:
            if call:
                raise RelayError("upstream_bad_response", "The upstream sent a tool call without a name.")
            return
        if self._partial is not None:
            self._partial.add(call.get("partialArgs"))
            if not call.get("willContinue"):
                self._end_partial()

    def _end_partial(self) -> None:
        call, self._partial = self._partial, None
        if call is None:
            return
        self._said = self._called = True
        voice = self._voice
        known = voice.emitter.call_ids
        usable = isinstance(call.id, str) and 0 < len(call.id) <= 64 and call.id not in known
        identifier = call.id if usable else voice.emitter.new_id("call")
        if call.signature is not None:
            self._pending.append({"k": "fc", "for": identifier, "sig": call.signature})
        self._flush()
        self._kind = "call"
        item = voice.call(identifier, call.name)
        voice.arguments(item, _source(call.arguments()))
        voice.call_end(item)

    # --- what the upstream runs itself

    def _on_code(self, part: JSON) -> None:
        code = part["executableCode"]
        if not isinstance(code, dict):
            return
        self._before_hosted()
        voice = self._voice
        fields = {
            "status": "in_progress",
            "container_id": voice.emitter.new_id("cntr"),
            "code": "",
            "outputs": None,
        }
        item = voice.hosted("code_interpreter_call", fields)
        if code.get("code"):
            voice.hosted_delta(item, "code", str(code["code"]))
        voice.hosted_delta_end(item)
        voice.hosted_step(item, "interpreting")
        self._codes[str(code.get("id"))] = item
        self._pending.append({"k": "part", "part": part, "item": item.id})

    def _on_code_result(self, part: JSON) -> None:
        result = part["codeExecutionResult"]
        if not isinstance(result, dict):
            return
        self._kind = "part"
        item = self._codes.pop(str(result.get("id")), None)
        if item is not None:
            self._end_code(item, str(result.get("output") or ""))
        self._pending.append({"k": "part", "part": part})

    def _end_code(self, item: Hosted, logs: str | None) -> None:
        shown = logs is not None and "code_interpreter_call.outputs" in self._context.include
        outputs = [{"type": "logs", "logs": logs}] if shown else None
        self._voice.hosted_end(item, {"status": "completed", "outputs": outputs})

    def _on_tool_call(self, part: JSON) -> None:
        call = part["toolCall"]
        if not isinstance(call, dict):
            return
        self._before_hosted()
        block: JSON = {"k": "part", "part": part}
        arguments = call.get("args")
        action = _ACTIONS.get(str(call.get("toolType")))
        if action is not None:
            shown = action(arguments if isinstance(arguments, dict) else {})
            item = self._open_search(shown)
            self._searches[str(call.get("id"))] = (item, shown)
            block["item"] = item.id
        self._pending.append(block)

    def _on_tool_response(self, part: JSON) -> None:
        response = part["toolResponse"]
        if not isinstance(response, dict):
            return
        self._kind = "part"
        found = self._searches.get(str(response.get("id")))
        # its sources come with the grounding, at the end
        if found is not None and not self._wants_sources:
            self._end_search(*self._searches.pop(str(response.get("id"))))
        self._pending.append({"k": "part", "part": part})

    def _before_hosted(self) -> None:
        self._said = True
        self._flush()
        self._kind = "part"

    @property
    def _wants_sources(self) -> bool:
        return "web_search_call.action.sources" in self._context.include

    def _open_search(self, action: JSON) -> Hosted:
        self._shown.add(action["type"])
        item = self._voice.hosted("web_search_call", {"status": "in_progress", "action": action})
        self._voice.hosted_step(item, "searching")
        return item

    def _end_search(self, item: Hosted, action: JSON) -> None:
        if self._wants_sources and action["type"] == "search":
            action = {**action, "sources": self._grounding.sources()}
        self._voice.hosted_end(item, {"status": "completed", "action": action})

    def _on_inline_data(self, part: JSON) -> None:
        data = part["inlineData"]
        if not isinstance(data, dict) or part.get("thought"):
            return  # a draft that the model thought about
        kind = str(data.get("mimeType") or "")
        if not kind.startswith("image/"):
            self._voice.emitter.warn("output", f"content of the type {kind[:64]} that the upstream sent was left out")
            return
        self._before_hosted()
        item = self._voice.hosted("image_generation_call", {"status": "in_progress", "result": None})
        self._voice.hosted_end(item, {"status": "completed", "result": str(data.get("data") or "")})
        if isinstance(part.get("thoughtSignature"), str):
            self._pending.append({"k": "image", "item": item.id, "sig": part["thoughtSignature"]})

    # --- endings

    def _ending(self) -> Done | None:
        """How the response ends; None where another call goes on with it."""
        finish = self._finish
        if finish is None:
            if self._block is not None:
                return Done("incomplete", "content_filter")
            raise RelayError("upstream_ended_early", "The upstream's stream ended before its answer was complete.")
        done = STOP_REASONS.get(finish)
        if done is None and self._said:
            done = STOP_REASONS_WITH_OUTPUT.get(finish)
        if done is not None:
            return done
        if finish != GOES_ON:
            raise self._failure()
        limit, usage = self._context.limit_tokens, self._voice.total_usage()
        spent = usage["output_tokens"] if usage is not None else 0
        if self._token is None or (limit is not None and spent >= limit):
            return Done("incomplete", "max_output_tokens")
        return None

    def _failure(self) -> RelayError:
        repair = REPAIRABLE.get(str(self._finish))
        kind = "translation_error" if repair == MISSING_SIGNATURE else "upstream_error"
        more = f": {clean(self._finish_message)}" if self._finish_message else "."
        return RelayError(kind, f"The upstream stopped with the reason '{str(self._finish)[:64]}'{more}", repair=repair)

    def _next_request(self) -> UpstreamRequest:
        first = self._context.first or self._request.body
        token = orjson.dumps(self._token)
        context = replace(self._context, said=self._said, first=first, pending=tuple(self._pending))
        return replace(self._request, body=first[:-1] + b',"continuationToken":' + token + b"}", context=context)

    def _end_hosted(self) -> None:
        for item in self._codes.values():
            self._end_code(item, None)
        for search in self._searches.values():
            self._end_search(*search)
        self._codes, self._searches = {}, {}

    def _show_searches(self) -> None:
        """Searches and pages of which only the metadata tells."""
        if "search" not in self._shown and self._grounding.queries:
            action = _searched({"queries": self._grounding.queries})
            self._end_search(self._open_search(action), action)
        if "open_page" not in self._shown:
            for url in self._grounding.pages:
                action = _opened({"urls": [url]})
                self._end_search(self._open_search(action), action)

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

    def _on_usage(self, usage: JSON) -> None:
        self._voice.usage(gemini_usage(usage))
        tier = TIERS.get(str(usage.get("serviceTier")).lower())
        if tier is not None:
            self._voice.emitter.tier(tier)


_PARTS: Final[Mapping[str, Callable[[GeminiTranslator, JSON], None]]] = {
    "functionCall": GeminiTranslator._on_function_call,
    "executableCode": GeminiTranslator._on_code,
    "codeExecutionResult": GeminiTranslator._on_code_result,
    "toolCall": GeminiTranslator._on_tool_call,
    "toolResponse": GeminiTranslator._on_tool_response,
    "inlineData": GeminiTranslator._on_inline_data,
}


def _searched(arguments: JSON) -> JSON:
    queries = [query for query in _list(arguments, "queries") if isinstance(query, str) and query]
    return {"type": "search", "query": queries[0] if queries else "", "queries": queries}


def _opened(arguments: JSON) -> JSON:
    urls = [url for url in _list(arguments, "urls") if isinstance(url, str)]
    return {"type": "open_page", "url": urls[0] if urls else None}


_ACTIONS: Final[Mapping[str, Callable[[JSON], JSON]]] = {"GOOGLE_SEARCH_WEB": _searched, "URL_CONTEXT": _opened}
"""Tools of the upstream that are shown as ``web_search_call``; others are only kept for the next turn."""


def _list(value: Any, name: str) -> list[Any]:
    found = value.get(name) if value.__class__ is dict else None
    return found if found.__class__ is list else []


def _source(value: JSON) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return orjson.dumps(mended(value)).decode()


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


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def gemini_usage(usage: JSON) -> Usage:
    """The identities of translation.md §3.5: thoughts are added unless the total says that they are in already."""
    given = _count(usage.get("promptTokenCount")) + _count(usage.get("toolUsePromptTokenCount"))
    made, thought = _count(usage.get("candidatesTokenCount")), _count(usage.get("thoughtsTokenCount"))
    if thought and _count(usage.get("totalTokenCount")) != given + made:
        made += thought
    cached = _count(usage.get("cachedContentTokenCount"))
    return usage_of(given, made, cached=cached, reasoning=thought)
