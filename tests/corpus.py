"""Recorded traffic and what a right answer to it holds, worked out from the raw payloads without the relay's code.

Source: `$RELAY_CORPUS` (its README); translation.md §3.3–§3.5 and §4 for what each payload means. Everything here looks
at a whole recording at once, on purpose: the relay works piece by piece, and the two must agree.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

Json = dict[str, Any]
Test = TypeVar("Test", bound=Callable[..., Any])
FOLDER = os.environ.get("RELAY_CORPUS")
marks = [
    pytest.mark.corpus,
    pytest.mark.skipif(not FOLDER, reason="RELAY_CORPUS does not name the folder of recorded traffic"),
]
"""For a module's ``pytestmark``; ``pytest -m corpus`` runs what has them and nothing else."""


def needed(test: Test) -> Test:
    """Marks a test that reads the corpus."""
    for mark in marks:
        test = mark(test)
    return test


@dataclass(frozen=True, slots=True)
class Exchange:
    """One recorded request and its answer; ``sse`` is the body of a stream, ``response`` that of a JSON answer."""

    path: Path
    api: str
    dialect: str
    model: str
    stream: bool
    request: Any
    request_path: str
    status: int
    response_headers: dict[str, str]
    sse: bytes | None
    response: Any
    network_chunks: tuple[int, ...]
    tags: frozenset[str]
    response_text: str | None = None

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(".json").removesuffix(".sse")

    @property
    def body(self) -> bytes:
        """The answer's bytes, as the server sent them."""
        if self.sse is not None:
            return self.sse
        return (self.response_text or json.dumps(self.response)).encode()

    def __str__(self) -> str:
        return f"{self.dialect}/{self.name}"


@dataclass(slots=True)
class Expectation:
    """What a translation must hold. ``ending``: completed, incomplete, failed (after something was said), error (before
    anything was), continue (the provider asks for another request).

    Texts are concatenated over the response; ``reasoning`` holds raw and summarised text alike; ``signatures`` are the
    opaque strings that must survive a round trip; ``citations`` are (url, title); usage has the Responses API's names.
    ``think`` is true where the text begins with a ``<think>`` that a tag splitter may move to the reasoning.
    """

    text: str = ""
    refusal: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    reasoning: str = ""
    signatures: list[str] = field(default_factory=list)
    citations: list[tuple[str, str]] = field(default_factory=list)
    images: int = 0
    usage: Json | None = None
    ending: str = "completed"
    reason: str | None = None

    @property
    def think(self) -> bool:
        return self.text.lstrip().startswith("<think>")

    def without_think(self) -> tuple[str, str]:
        """(text, reasoning) with a leading ``<think>…</think>`` moved, surrounding blanks removed from both."""
        inside, _, after = self.text.lstrip().removeprefix("<think>").partition("</think>")
        return after.strip(), (self.reasoning + inside).strip()


@functools.cache
def _all() -> tuple[Exchange, ...]:
    if not FOLDER:
        return ()
    found = []
    for path in sorted(Path(FOLDER).glob("*/*/*.json")):
        data = json.loads(path.read_bytes())
        found.append(
            Exchange(
                path=path,
                api=data["api"],
                dialect=data["dialect"],
                model=data["model"] or "",
                stream=bool(data["stream"]),
                request=data["request"],
                request_path=data["request_path"],
                status=data["status"],
                response_headers=data["response_headers"] or {},
                sse=data["sse"].encode() if "sse" in data else None,
                response=data.get("response"),
                network_chunks=tuple(data.get("network_chunks") or ()),
                tags=frozenset(data["tags"]),
                response_text=data.get("response_text"),
            )
        )
    return tuple(found)


def exchanges(api: str | None = None, stream: bool | None = None) -> list[Exchange]:
    """The corpus, or one API of it; ``stream`` picks SSE bodies or JSON bodies. Empty without RELAY_CORPUS."""
    return [
        exchange for exchange in _all() if api in (None, exchange.api) and stream in (None, exchange.sse is not None)
    ]


def splits(exchange: Exchange) -> Iterator[tuple[str, list[bytes]]]:
    """The body in pieces: whole, byte by byte, and as the network delivered it where that was recorded."""
    body = exchange.body
    yield "whole", [body]
    yield "bytes", [body[at : at + 1] for at in range(len(body))]
    if exchange.network_chunks:
        pieces, at = [], 0
        for length in exchange.network_chunks:
            pieces.append(body[at : at + length])
            at += length
        yield "network", [*pieces, body[at:]] if at < len(body) else pieces


@dataclass(frozen=True, slots=True)
class Frame:
    """One SSE event as recorded: its name, its data, and an `error:` line if it has one."""

    event: str
    data: str
    error: str = ""


def frames(body: bytes) -> list[Frame]:
    """The events of a whole SSE body; comments vanish; any line end; an unterminated last event counts."""
    text = body.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    found = []
    for block in text.split("\n\n"):
        fields: dict[str, list[str]] = defaultdict(list)
        for line in block.split("\n"):
            name, colon, value = line.partition(":")
            if line and name:
                fields[name].append(value.removeprefix(" ") if colon else "")
        if fields:
            found.append(Frame("".join(fields["event"]), "\n".join(fields["data"]), "\n".join(fields["error"])))
    return [frame for frame in found if frame.data or frame.error]


def payloads(exchange: Exchange) -> list[Any]:
    """The JSON payloads of a stream in order, without `[DONE]`; a bare `error:` line becomes ``{"error": …}``."""
    found: list[Any] = []
    for frame in frames(exchange.body):
        if frame.error:
            found.append({"error": json.loads(frame.error)})
        elif frame.data.strip() == "[DONE]":
            break
        else:
            found.append(json.loads(frame.data))
    return found


def expect(exchange: Exchange) -> Expectation:
    """What the relay must make of this exchange."""
    if exchange.status != 200:
        return Expectation(ending="error", reason=_error_text(exchange.response))
    if exchange.sse is not None:
        bodies, whole = payloads(exchange), False
        if not bodies and exchange.sse.strip():
            bodies, whole = [json.loads(exchange.sse)], True
    else:
        bodies, whole = [exchange.response], True
    return EXTRACTORS[exchange.api](exchange, bodies, whole)


def _error_text(body: Any) -> str:
    """The human words inside any provider's error body."""
    if isinstance(body, list):
        return _error_text(body[0]) if body else ""
    if not isinstance(body, dict):
        return str(body)
    for name in ("error", "message", "detail"):
        if body.get(name):
            return body[name] if isinstance(body[name], str) else _error_text(body[name])
    return json.dumps(body)


def _tokens(source: Any, *paths: str) -> int:
    """The first of the dotted paths that holds a number, else 0."""
    for path in paths:
        node = source
        for name in path.split("."):
            node = node.get(name) if isinstance(node, dict) else None
        if isinstance(node, int | float):
            return int(node)
    return 0


def _usage(given: int, cached: int, written: int, made: int, reasoned: int) -> Json:
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": reasoned},
        "total_tokens": given + made,
    }


# --- chat/completions (translation.md §3.3, §4.1) -------------------------------------------------------------------

CHAT_ENDINGS = {
    **dict.fromkeys(
        ("stop", "eos", "eos_token", "stop_sequence", "COMPLETE", "tool_calls", "function_call"), ("completed", None)
    ),
    **dict.fromkeys(("length", "max_tokens", "model_length"), ("incomplete", "max_output_tokens")),
    **dict.fromkeys(
        ("content_filter", "sensitive", "refusal", "guardrail_intervened"), ("incomplete", "content_filter")
    ),
    **dict.fromkeys(("error", "network_error", "abort", "insufficient_system_resource"), ("failed", None)),
}


def _chat_error(chunk: Json) -> Any:
    choice: Json = next(iter(chunk.get("choices") or []), {})
    if chunk.get("object") == "error":
        return chunk
    return chunk.get("error") or choice.get("error") or (chunk if choice.get("finish_reason") == "error" else None)


def chat_usage(found: Json) -> Json:
    """The usage table of translation.md §3.3."""
    given = _tokens(found, "prompt_tokens")
    cached = _tokens(
        found,
        "prompt_tokens_details.cached_tokens",
        "prompt_cache_hit_tokens",
        "cached_tokens",
        "num_cached_tokens",
        "prompt_token_details.cached_tokens",
    )
    reasoned = _tokens(found, "completion_tokens_details.reasoning_tokens", "reasoning_tokens")
    made = _tokens(found, "completion_tokens")
    if reasoned and given + made + reasoned == _tokens(found, "total_tokens"):
        made += reasoned
    if cached > given:
        given += cached
    return _usage(given, cached, _tokens(found, "prompt_tokens_details.cache_write_tokens"), made, reasoned)


def _chat_calls(fragments: Iterable[Json]) -> list[tuple[str, str]]:
    """The key rule: an id seen before, else a new id is a new call, else the index, else the latest call."""
    calls: list[Json] = []
    for fragment in fragments:
        ident, index, function = fragment.get("id"), fragment.get("index"), fragment.get("function") or {}
        if ident:
            call = next((call for call in calls if call["id"] == ident), None)
        elif index is not None:
            call = next((call for call in reversed(calls) if call["index"] == index), None)
        else:
            call = calls[-1] if calls else None
        if call is None:
            call = {"id": ident, "index": index, "name": "", "arguments": ""}
            calls.append(call)
        call["name"] = call["name"] or function.get("name") or (fragment.get("custom") or {}).get("name") or ""
        arguments = function.get("arguments", (fragment.get("custom") or {}).get("input"))
        if isinstance(arguments, dict | list):
            arguments = json.dumps(arguments)
        call["arguments"] += arguments or ""
    return [(call["name"], call["arguments"] or "{}") for call in calls]


def _chat_reasoning(delta: Json, found: Expectation) -> None:
    if isinstance(delta.get("reasoning_details"), list) and delta["reasoning_details"]:
        for detail in delta["reasoning_details"]:
            found.reasoning += detail.get("text") or detail.get("summary") or ""
            found.signatures += [detail[name] for name in ("signature", "data") if detail.get(name)]
        return
    names = ("reasoning", "reasoning_content", "thinking")
    found.reasoning += next((delta[name] for name in names if isinstance(delta.get(name), str) and delta[name]), "")


def _chat_content(content: Any, found: Expectation) -> None:
    if isinstance(content, str):
        found.text += content
    for part in content if isinstance(content, list) else []:
        if part.get("type") == "text":
            found.text += part["text"]
        elif part.get("type") == "thinking":
            found.reasoning += "".join(piece.get("text", "") for piece in part["thinking"])


def chat(exchange: Exchange, chunks: list[Any], whole: bool) -> Expectation:
    """Chat/completions, a stream's chunks or one whole body."""
    found = Expectation()
    fragments: list[Json] = []
    finish, error, said = None, None, False
    sources: list[Json] = []
    for chunk in chunks:
        choice: Json = next((choice for choice in chunk.get("choices") or [] if not choice.get("index")), {})
        sources = [{"url": url} for url in chunk.get("citations") or []] + (
            chunk.get("search_results") or []
        ) or sources
        for usage in (chunk.get("usage"), (chunk.get("x_groq") or {}).get("usage"), choice.get("usage")):
            found.usage = chat_usage(usage) if usage else found.usage
        error = _chat_error(chunk)
        if error:
            break
        said = True
        delta = (choice.get("message") if whole else choice.get("delta")) or {}
        _chat_reasoning(delta, found)
        _chat_content(delta.get("content"), found)
        found.refusal += delta.get("refusal") or ""
        found.images += len(delta.get("images") or [])
        fragments += delta.get("tool_calls") or []
        if delta.get("function_call"):
            fragments.append({"id": "legacy", "function": delta["function_call"]})
        for note in delta.get("annotations") or []:
            if note.get("type") == "url_citation":
                found.citations.append((note["url_citation"]["url"], note["url_citation"].get("title") or ""))
        finish = choice.get("finish_reason") or finish
    for url in dict.fromkeys(source["url"] for source in sources):
        title = next((source["title"] for source in sources if source["url"] == url and source.get("title")), "")
        found.citations.append((url, title))
    found.calls = _chat_calls(fragments)
    found.signatures += [
        fragment["extra_content"]["google"]["thought_signature"]
        for fragment in fragments
        if ((fragment.get("extra_content") or {}).get("google") or {}).get("thought_signature")
    ]
    _chat_ending(exchange, found, error, said, finish, whole)
    return found


def _chat_ending(exchange: Exchange, found: Expectation, error: Any, said: bool, finish: Any, whole: bool) -> None:
    output = found.text or found.calls or found.reasoning or found.refusal
    if error:
        found.ending, found.reason = ("failed" if said else "error"), _error_text(error)
    elif finish is not None:
        # an unknown stop reason is never a success (design.md §4.12)
        found.ending, found.reason = CHAT_ENDINGS.get(finish, ("failed", None))
    elif whole or not (b"[DONE]" in exchange.body and output):
        found.ending = "failed"
    else:
        request = exchange.request if isinstance(exchange.request, dict) else {}
        cap = request.get("max_completion_tokens") or request.get("max_tokens")
        if cap and found.usage and found.usage["output_tokens"] >= cap:
            found.ending, found.reason = "incomplete", "max_output_tokens"


# --- Responses (the terminal object speaks for itself) --------------------------------------------------------------


def responses(exchange: Exchange, events: list[Any], whole: bool) -> Expectation:
    """Native Responses: the terminal Response, its items filled in from the done events where it has none."""
    if whole:
        response, items = events[0], events[0].get("output") or []
    else:
        # one recording holds several streams, one after the other: the first one counts
        ends = [at for at, event in enumerate(events) if event.get("type") in RESPONSES_ENDINGS]
        events = events[: ends[0] + 1] if ends else events
        response = events[-1].get("response") if ends else None
        done = [event["item"] for event in events if event.get("type") == "response.output_item.done"]
        items = (response or {}).get("output") or done
    found = Expectation()
    for item in items:
        _responses_item(item, found)
    if response is None:
        said = any(event.get("type") not in {"error", *RESPONSES_OPENINGS} for event in events)
        found.ending = "failed" if said else "error"
        return found
    usage = response.get("usage")
    if usage:
        found.usage = _usage(
            _tokens(usage, "input_tokens"),
            _tokens(usage, "input_tokens_details.cached_tokens"),
            _tokens(usage, "input_tokens_details.cache_write_tokens"),
            _tokens(usage, "output_tokens"),
            _tokens(usage, "output_tokens_details.reasoning_tokens"),
        )
    found.ending = response["status"]
    found.reason = (response.get("incomplete_details") or {}).get("reason") or (response.get("error") or {}).get("code")
    if found.ending == "failed" and not whole:
        said = any(event.get("type") not in {"error", "response.failed", *RESPONSES_OPENINGS} for event in events)
        found.ending = "failed" if said else "error"
    return found


RESPONSES_ENDINGS = ("response.completed", "response.incomplete", "response.failed")
RESPONSES_OPENINGS = ("response.created", "response.queued", "response.in_progress")


def _responses_item(item: Json, found: Expectation) -> None:
    kind = item["type"]
    if kind == "message":
        for part in item["content"]:
            found.text += part.get("text") or ""
            found.refusal += part.get("refusal") or ""
            notes = [note for note in part.get("annotations") or [] if note["type"] == "url_citation"]
            found.citations += [(note["url"], note.get("title") or "") for note in notes]
    elif kind in ("function_call", "custom_tool_call"):
        found.calls.append((item["name"], item.get("arguments") or item.get("input") or ""))
    elif kind == "reasoning":
        found.reasoning += "".join(
            part["text"] for part in [*(item.get("summary") or []), *(item.get("content") or [])]
        )
        found.signatures += [item["encrypted_content"]] if item.get("encrypted_content") else []
    elif kind == "image_generation_call":
        found.images += 1


# --- Anthropic Messages (translation.md §3.4, §4.2) -----------------------------------------------------------------

ANTHROPIC_ENDINGS: dict[str | None, tuple[str, str | None]] = {
    **dict.fromkeys(["end_turn", "stop_sequence", "tool_use", None], ("completed", None)),
    **dict.fromkeys(("max_tokens", "model_context_window_exceeded"), ("incomplete", "max_output_tokens")),
    "refusal": ("incomplete", "content_filter"),
    "pause_turn": ("continue", None),
}


def anthropic(exchange: Exchange, events: list[Any], whole: bool) -> Expectation:
    """Anthropic Messages, a stream's events or one whole message."""
    found = Expectation()
    error, message, blocks, stopped = None, dict[str, Any](), dict[int, Json](), whole
    if whole:
        message = events[0]
        error = message.get("error") if message.get("type") == "error" else None
        blocks = dict(enumerate(message.get("content") or []))
    for event in [] if whole else events:
        kind = event.get("type")
        if kind == "error" or (kind is None and event.get("error")):
            error = event["error"]
            break
        if kind == "message_start":
            message = {**event["message"]}
        elif kind == "content_block_start":
            blocks[event["index"]] = {**event["content_block"], "json": "", "citations": []}
        elif kind == "content_block_delta":
            _anthropic_delta(blocks[event["index"]], event["delta"])
        elif kind == "message_delta":
            message |= {name: value for name, value in event["delta"].items() if value is not None}
            given = {name: value for name, value in (event.get("usage") or {}).items() if value is not None}
            message["usage"] = {**(message.get("usage") or {}), **given}
        elif kind == "message_stop":
            stopped = True
            break  # one recording holds several streams, one after the other: the first one counts
    for _, block in sorted(blocks.items()):
        _anthropic_block(block, found)
    usage = message.get("usage")
    if usage:
        read, written = _tokens(usage, "cache_read_input_tokens"), _tokens(usage, "cache_creation_input_tokens")
        reasoned = _tokens(usage, "output_tokens_details.thinking_tokens")
        found.usage = _usage(
            _tokens(usage, "input_tokens") + read + written, read, written, _tokens(usage, "output_tokens"), reasoned
        )
    if error:
        found.ending, found.reason = ("failed" if message and not whole else "error"), _error_text(error)
    elif not stopped:
        found.ending = "failed"
    else:
        found.ending, found.reason = ANTHROPIC_ENDINGS.get(message.get("stop_reason"), ("failed", None))
        found.refusal = (message.get("stop_details") or {}).get("explanation") or ""
    return found


def _anthropic_delta(block: Json, delta: Json) -> None:
    kind = delta["type"]
    if kind == "text_delta":
        block["text"] = block.get("text", "") + delta["text"]
    elif kind == "thinking_delta":
        block["thinking"] = block.get("thinking", "") + delta["thinking"]
    elif kind == "signature_delta":
        block["signature"] = delta["signature"]
    elif kind == "input_json_delta":
        block["json"] += delta["partial_json"]
    elif kind == "citations_delta":
        block["citations"].append(delta["citation"])


def _anthropic_block(block: Json, found: Expectation) -> None:
    kind = block["type"]
    if kind == "text":
        found.text += block.get("text") or ""
        for note in block.get("citations") or []:
            url = note.get("url") or note.get("source")
            if note["type"] == "web_search_result_location" or (url or "").startswith("http"):
                found.citations.append((url or "", note.get("title") or ""))
    elif kind == "thinking":
        found.reasoning += block.get("thinking") or ""
        found.signatures += [block["signature"]] if block.get("signature") else []
    elif kind == "redacted_thinking":
        found.signatures += [block["data"]] if block.get("data") else []
    elif kind == "tool_use":
        found.calls.append((block["name"], block.get("json") or json.dumps(block.get("input") or {})))


# --- Gemini generateContent (translation.md §3.5, §4.3) -------------------------------------------------------------

GEMINI_FILTERED = frozenset(
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
    )
)


def gemini(exchange: Exchange, chunks: list[Any], whole: bool) -> Expectation:
    """Gemini, a stream's chunks, one whole body, or the JSON array form of a stream."""
    found = Expectation()
    if len(chunks) == 1 and isinstance(chunks[0], list):
        chunks = chunks[0]
    finish, error, block = None, None, None
    usage: Json = {}
    said = False
    for chunk in chunks:
        error = chunk.get("error")
        if error:
            break
        usage = chunk.get("usageMetadata") or usage
        block = (chunk.get("promptFeedback") or {}).get("blockReason") or block
        candidate: Json = next((one for one in chunk.get("candidates") or [] if not one.get("index")), {})
        said = True
        finish = candidate.get("finishReason") or finish
        for part in (candidate.get("content") or {}).get("parts") or []:
            _gemini_part(part, found)
        for note in (candidate.get("groundingMetadata") or {}).get("groundingChunks") or []:
            if note.get("web"):
                found.citations.append((note["web"].get("uri") or "", note["web"].get("title") or ""))
    if usage:
        found.usage = gemini_usage(usage)
    output = bool(found.text or found.calls or found.images)
    if error:
        found.ending, found.reason = ("failed" if said else "error"), _error_text(error)
    elif block and not finish:
        found.ending, found.reason = "incomplete", "content_filter"
    else:
        found.ending, found.reason = _gemini_ending(finish, output, found)
    return found


def _gemini_ending(finish: str | None, output: bool, found: Expectation) -> tuple[str, str | None]:
    if finish == "STOP" or (finish == "FINISH_REASON_UNSPECIFIED" and output):
        return "completed", None
    if finish == "MAX_TOKENS":
        return "incomplete", "max_output_tokens"
    if finish in GEMINI_FILTERED or (finish == "OTHER" and output):
        return "incomplete", "content_filter"
    return ("continue" if finish == "CONTINUATION" else "failed"), None


def gemini_usage(found: Json) -> Json:
    """The usage rule of translation.md §3.5."""
    given = _tokens(found, "promptTokenCount") + _tokens(found, "toolUsePromptTokenCount")
    made, thought = _tokens(found, "candidatesTokenCount"), _tokens(found, "thoughtsTokenCount")
    if not (thought and _tokens(found, "totalTokenCount") == given + made):
        made += thought
    return _usage(given, _tokens(found, "cachedContentTokenCount"), 0, made, thought)


def _gemini_part(part: Json, found: Expectation) -> None:
    signature = part.get("thoughtSignature")
    found.signatures += [signature] if signature else []
    if "functionCall" in part:
        _gemini_call(part["functionCall"], found)
    elif part.get("thought"):
        found.reasoning += part.get("text") or ""
    elif "text" in part:
        found.text += part["text"]
    elif (part.get("inlineData") or {}).get("mimeType", "").startswith("image/"):
        found.images += 1


def _gemini_call(call: Json, found: Expectation) -> None:
    """A call with a name begins; one without a name goes on with the call before it (Vertex's partial arguments)."""
    if call.get("name"):
        found.calls.append((call["name"], json.dumps(call.get("args") or {})))
    name, arguments = found.calls[-1][0], json.loads(found.calls[-1][1])
    for partial in call.get("partialArgs") or []:
        value = next((partial[kind] for kind in ("stringValue", "numberValue", "boolValue") if kind in partial), None)
        steps = [word or int(number) for word, number in re.findall(r"\.([^.\[]+)|\[(\d+)\]", partial["jsonPath"])]
        _put(arguments, steps, value)
    found.calls[-1] = (name, json.dumps(arguments))


def _put(node: Any, steps: list[Any], value: Any) -> None:
    """Set (a text: append) the value at a path, making lists and objects on the way."""
    for step, after in itertools.pairwise([*steps, None]):
        if isinstance(node, list) and len(node) <= step:
            node.append(None)
        there = node[step] if isinstance(node, list) else node.get(step)
        if after is None:
            node[step] = there + value if isinstance(there, str) and isinstance(value, str) else value
        else:
            node[step] = ([] if isinstance(after, int) else {}) if there is None else there
        node = node[step]


EXTRACTORS = {
    "openai-chat": chat,
    "openai-responses": responses,
    "anthropic-messages": anthropic,
    "gemini-generate": gemini,
}


# --- comparing ------------------------------------------------------------------------------------------------------


def from_response(response: Json) -> Expectation:
    """The relay's own final Response in the same terms."""
    found = Expectation(ending=response["status"], usage=response.get("usage"))
    for item in response["output"]:
        _responses_item(item, found)
    found.reason = (response.get("incomplete_details") or {}).get("reason")
    return found


def same_arguments(left: str, right: str) -> bool:
    """Equal, or equal as JSON (whole bodies carry objects whose spacing nobody owns)."""
    if left == right:
        return True
    try:
        return bool(json.loads(left) == json.loads(right))
    except ValueError:
        return False


def differences(expected: Expectation, response: Json) -> list[str]:
    """Where the relay's final Response says something else than the recording; signatures and citations are the
    caller's (their form differs by provider). A leading ``<think>`` may have moved to the reasoning.
    """
    actual = from_response(response)
    found = []
    texts = {(expected.text, expected.reasoning)} | ({expected.without_think()} if expected.think else set())
    seen = (actual.text, actual.reasoning)
    if seen not in texts and (not expected.think or (seen[0].strip(), seen[1].strip()) not in texts):
        found.append(f"text and reasoning {seen!r:.300} instead of {(expected.text, expected.reasoning)!r:.300}")
    if actual.refusal != expected.refusal:
        found.append(f"refusal {actual.refusal!r} instead of {expected.refusal!r}")
    names = [name for name, _ in actual.calls] == [name for name, _ in expected.calls]
    if not names or not all(same_arguments(a, b) for (_, a), (_, b) in zip(actual.calls, expected.calls, strict=True)):
        found.append(f"calls {actual.calls!r:.300} instead of {expected.calls!r:.300}")
    if expected.usage is not None and actual.usage != expected.usage:
        found.append(f"usage {actual.usage} instead of {expected.usage}")
    if (actual.ending, actual.reason) != (expected.ending, None if expected.ending == "failed" else expected.reason):
        found.append(f"ends {(actual.ending, actual.reason)} instead of {(expected.ending, expected.reason)}")
    return found


def table(results: Iterable[tuple[str, bool]]) -> str:
    """Print and return passed/total by dialect, from (dialect, passed) pairs."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for dialect, passed in results:
        for name in (dialect, "total"):
            counts[name][0] += passed
            counts[name][1] += 1
    rows = sorted(counts.items(), key=lambda row: (row[0] == "total", row[0]))
    text = "\n".join(f"{name:24} {passed:4} / {every}" for name, (passed, every) in rows)
    print(f"\n{text}")
    return text
