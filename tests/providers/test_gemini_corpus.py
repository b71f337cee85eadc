"""Every recorded generateContent answer, and the golden pairs, in every split, judged by the oracle and google-genai.

`tests/golden/gemini/<case>.in` is an upstream's stream, `<case>.out` the client's. After a change that is meant:
`RELAY_WRITE_GOLDENS=1 pytest tests/providers/test_gemini_corpus.py`, and read the difference.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from google.genai import models, types

from relay.errors import RelayError
from relay.providers.base import UpstreamRequest
from relay.providers.gemini import PROVIDER
from relay.providers.gemini_stream import Context
from relay.responses.envelope import unseal
from relay.responses.sinks import SSESink
from tests import corpus, mutations, oracle
from tests.providers.chat_support import emitter_for
from tests.providers.gemini_support import Heard, Json, hear

GOLDENS = sorted((Path(__file__).parent.parent / "golden" / "gemini").glob("*.in"))
ANSWERS = [exchange for exchange in corpus.exchanges("gemini-generate") if exchange.status == 200]
REFUSALS = [exchange for exchange in corpus.exchanges("gemini-generate") if exchange.status != 200]


# --- recordings


def hear_recorded(exchange: corpus.Exchange, pieces: Any, *, check: bool) -> Heard:
    config = (exchange.request or {}).get("generationConfig") or {}
    context = Context(
        model=exchange.model,
        searches="citations" in exchange.tags,
        logprobs=bool(config.get("responseLogprobs")),
        include=frozenset({"code_interpreter_call.outputs", "web_search_call.action.sources"}),
    )
    return hear(pieces, context=context, request_body={"reasoning": {"summary": "auto"}}, check=check)


def chunks_of(exchange: corpus.Exchange) -> list[Any]:
    if exchange.sse is not None:
        return corpus.payloads(exchange)
    return exchange.response if isinstance(exchange.response, list) else [exchange.response]


def accumulated(exchange: corpus.Exchange) -> Json:
    """What google-genai's own types make of the same payloads."""
    said = ""
    thought = ""
    calls: list[tuple[str, Any]] = []
    signatures: list[bytes] = []
    codes: list[str] = []
    outputs: list[str] = []
    last: types.GenerateContentResponse | None = None
    for payload in chunks_of(exchange):
        read = models._GenerateContentResponse_from_mldev(payload)
        last = types.GenerateContentResponse._from_response(response=read, kwargs={})
        for part in (last.candidates and last.candidates[0].content and last.candidates[0].content.parts) or []:
            signatures += [part.thought_signature] if part.thought_signature else []
            if part.function_call and part.function_call.name:
                calls.append((part.function_call.name, part.function_call.args or {}))
            if part.executable_code:
                codes.append(part.executable_code.code or "")
            if part.code_execution_result:
                outputs.append(part.code_execution_result.output or "")
            if part.thought:
                thought += part.text or ""
            else:
                said += part.text or ""
    assert last is not None
    metadata = last.candidates[0].grounding_metadata if last.candidates else None
    cited = []
    for support in (metadata and metadata.grounding_supports) or []:
        for index in support.grounding_chunk_indices or []:
            assert metadata is not None
            assert metadata.grounding_chunks is not None
            assert support.segment is not None
            web = metadata.grounding_chunks[index].web
            if web:
                cited.append((web.uri, web.title or "", support.segment.text))
    return {
        "text": said,
        "thought": thought,
        "calls": calls,
        "signatures": signatures,
        "codes": codes,
        "outputs": outputs,
        "cited": cited,
    }


def faults(exchange: corpus.Exchange, heard: Heard) -> list[str]:
    expected = corpus.expect(exchange)
    if expected.ending == "failed" and not heard.started:
        # a malformed answer is asked for once more before anything of it is shown
        return [] if heard.error is not None and heard.error.repair is not None else [f"no repair: {heard.error}"]
    if heard.items("message") and heard.items("message")[-1]["content"][-1]["type"] == "refusal":
        expected.refusal = chunks_of(exchange)[0]["promptFeedback"]["blockReasonMessage"]  # our words for a block
    found = corpus.differences(expected, heard.final)
    if "fin:1" in exchange.tags:
        return found  # enums as numbers, which google-genai does not read either
    theirs = accumulated(exchange)
    parts = [part for item in heard.items("message") for part in item["content"]]
    notes = [(note, part["text"]) for part in parts for note in part.get("annotations", [])]
    cited = [(note["url"], note["title"], said[note["start_index"] : note["end_index"]]) for note, said in notes]
    if cited != [one for one in theirs["cited"] if one[2] in heard.text]:
        found.append(f"citations {cited} instead of {theirs['cited']}")
    if heard.text != theirs["text"]:
        found.append("text differs from the SDK's")
    calls = [(item["name"], json.loads(item["arguments"])) for item in heard.items("function_call")]
    if calls != theirs["calls"] and "partialArgs" not in exchange.body.decode():
        found.append(f"calls {calls} instead of {theirs['calls']}")
    codes = heard.items("code_interpreter_call")
    if [item["code"] for item in codes] != theirs["codes"]:
        found.append("code differs from the SDK's")
    if [out["logs"] for item in codes for out in item["outputs"] or []] != theirs["outputs"]:
        found.append("logs differ from the SDK's")
    if heard.items("image_generation_call") and len(heard.items("image_generation_call")) != expected.images:
        found.append("images")
    envelopes = [unseal(item.get("encrypted_content")) for item in heard.items("reasoning")]
    kept = [json.loads(block) for envelope in envelopes if envelope for block in envelope.blocks]
    signed = [block.get("sig") or block["part"].get("thoughtSignature") for block in kept]
    signed = [sign for sign in signed if sign is not None]
    if signed != expected.signatures:
        found.append(f"signatures {[sign[:20] for sign in signed]}")
    if [base64.b64decode(sign.replace("-", "+").replace("_", "/")) for sign in signed] != theirs["signatures"]:
        found.append("signatures differ from the SDK's")
    return found


@corpus.needed
@pytest.mark.parametrize("exchange", ANSWERS, ids=str)
def test_recorded_answers(exchange: corpus.Exchange) -> None:
    if exchange.sse is None:
        assert faults(exchange, hear_recorded(exchange, exchange.response, check=True)) == []
        return
    outputs = set()
    for split, pieces in corpus.splits(exchange):
        heard = hear_recorded(exchange, pieces, check=split == "whole")
        assert faults(exchange, heard) == [], split
        outputs.add(json.dumps(heard.events))
    assert len(outputs) == 1


@corpus.needed
@pytest.mark.parametrize("exchange", REFUSALS, ids=str)
def test_recorded_refusals(exchange: corpus.Exchange) -> None:
    error = PROVIDER.error(exchange.status, exchange.response_headers, exchange.body)
    assert 400 <= error.status < 600
    expected = corpus.expect(exchange).reason
    assert expected
    assert expected[:40] in error.message or error.kind.startswith("upstream")
    oracle.check_error_body(error.envelope())


@corpus.needed
def test_the_table_of_dialects(capsys: pytest.CaptureFixture[str]) -> None:
    results = []
    for exchange in ANSWERS:
        pieces = [exchange.sse] if exchange.sse is not None else exchange.response
        results.append((exchange.dialect, faults(exchange, hear_recorded(exchange, pieces, check=False)) == []))
    with capsys.disabled():
        corpus.table(results)
    assert all(passed for _, passed in results)


@corpus.needed
def test_a_wrong_translation_of_a_recording_is_seen() -> None:
    exchange = next(exchange for exchange in ANSWERS if exchange.sse is not None and corpus.expect(exchange).text)
    assert exchange.sse is not None
    heard = hear_recorded(exchange, [exchange.sse], check=False)
    message = next(item for item in heard.output if item["type"] == "message")
    message["content"][0]["text"] += "!"
    assert faults(exchange, heard)


# --- golden pairs

OPTIONS: dict[str, Context] = {
    "grounding": Context(model="m", searches=True, include=frozenset({"web_search_call.action.sources"})),
    "code": Context(model="m", include=frozenset({"code_interpreter_call.outputs"})),
    "logprobs": Context(model="m", logprobs=True),
    "server_tools": Context(model="m", searches=True),
}


def spoken(pieces: list[bytes], context: Context | None = None) -> bytes:
    """The client's bytes, as the exchange makes them."""
    sink = SSESink()
    emitter = emitter_for({}, sink)
    request = UpstreamRequest("/", b"{}", context=context or Context(model="m"))
    translator = PROVIDER.translator(request, emitter.voice({}))
    try:
        for piece in pieces:
            translator.feed(piece)
        done = translator.close()
    except RelayError as error:
        emitter.conclude("failed", error=error)
    else:
        assert not hasattr(done, "request")
        emitter.conclude(done.status, reason=done.reason)
    emitter.terminal()
    return sink.take()


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_goldens_in_every_split(path: Path) -> None:
    body = path.read_bytes()
    context = OPTIONS.get(path.stem)
    out = path.with_suffix(".out")
    if os.environ.get("RELAY_WRITE_GOLDENS"):
        out.write_bytes(spoken([body], context))
    expected = out.read_bytes()
    assert spoken([body], context) == expected
    assert spoken([body[at : at + 1] for at in range(len(body))], context) == expected
    for at in range(1, len(body)):
        assert spoken([body[:at], body[at:]], context) == expected, at
    oracle.check_stream(oracle.parse_sse(expected))


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_broken_goldens_are_refused(path: Path) -> None:
    events = oracle.parse_sse(path.with_suffix(".out").read_bytes())
    assert mutations.assert_refuses_mutations(events, limit=150) > 50


def test_there_are_goldens() -> None:
    assert len(GOLDENS) >= 10
