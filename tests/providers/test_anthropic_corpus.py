"""Every recorded Anthropic answer, and the golden pairs, in every split, judged by the oracle and the vendor's SDK.

`tests/golden/anthropic/<case>.in` is an upstream's stream, `<case>.out` the client's. After a change that is meant:
`RELAY_WRITE_GOLDENS=1 pytest tests/providers/test_anthropic_corpus.py`, and read the difference.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import MessageCreateParams
from anthropic.types.beta.message_create_params import MessageCreateParams as BetaMessageCreateParams
from pydantic import TypeAdapter

from relay.errors import RelayError
from relay.providers.anthropic import PROVIDER
from relay.providers.anthropic_content import Context
from relay.providers.base import Continue, Media, Target, UpstreamRequest
from relay.responses.envelope import unseal
from relay.responses.items import check_file_ids, pairing
from relay.responses.request import parse
from relay.responses.sinks import SSESink
from relay.responses.tools import Tool
from tests import corpus, mutations, oracle
from tests.providers.anthropic_support import Heard, emitter_for, hear

GOLDENS = sorted((Path(__file__).parent.parent / "golden" / "anthropic").glob("*.in"))
ANSWERS = [exchange for exchange in corpus.exchanges("anthropic-messages") if exchange.status == 200]
REFUSALS = [exchange for exchange in corpus.exchanges("anthropic-messages") if exchange.status != 200]
STREAMS = [exchange for exchange in ANSWERS if exchange.sse is not None]
PARAMS: TypeAdapter[Any] = TypeAdapter(MessageCreateParams)
BETA_PARAMS: TypeAdapter[Any] = TypeAdapter(BetaMessageCreateParams)
MODELS = ("claude-opus-5-5", "claude-haiku-5-5", "claude-opus-4-7", "claude-sonnet-4-5", "claude-3-haiku-20240307")


# --- recordings


def hear_recorded(exchange: corpus.Exchange, pieces: Any, *, check: bool) -> Heard:
    return hear(
        pieces,
        context=Context(model=exchange.model, sources=True, outputs=True),
        request_body={"reasoning": {"summary": "auto"}},
        check=check,
    )


def faults(exchange: corpus.Exchange, heard: Heard) -> list[str]:
    expected = corpus.expect(exchange)
    if expected.ending == "error":
        return [] if heard.error is not None and not heard.started else [f"started, or no error: {heard.error}"]
    if expected.ending == "continue":
        assert isinstance(heard.done, Continue)
        expected.ending, expected.reason = "incomplete", "max_output_tokens"  # the test has no next hop
    found = corpus.differences(expected, {**heard.final, "output": [i for i in heard.output if not _sealed_tool(i)]})
    if expected.ending == "failed" and heard.error is None:
        found.append("no error")
    parts = [part for item in heard.items("message") for part in item["content"]]
    notes = [note for part in parts for note in part.get("annotations", []) if note["type"] == "url_citation"]
    if [(note["url"], note["title"]) for note in notes] != expected.citations:
        found.append(f"citations {notes}")
    kept = json.dumps(_blocks(heard))
    found += [f"signature {sign[:40]} is lost" for sign in expected.signatures if json.dumps(sign) not in kept]
    return found


def _blocks(heard: Heard) -> list[Any]:
    envelopes = [unseal(item.get("encrypted_content")) for item in heard.items("reasoning")]
    return [json.loads(one) for envelope in envelopes if envelope for one in envelope.blocks]


def _sealed_tool(item: Any) -> bool:
    """A reasoning item that only carries the blocks of a hosted tool."""
    envelope = unseal(item.get("encrypted_content"))
    return envelope is not None and '_tool_result"' in envelope.blocks[-1]


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
@pytest.mark.parametrize("exchange", STREAMS, ids=str)
def test_recordings_fold_into_what_the_sdk_makes_of_them(exchange: corpus.Exchange) -> None:
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in corpus.payloads(exchange):
        snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
        if event["type"] == "message_stop":
            break  # one recording holds several streams
    heard = hear_recorded(exchange, [exchange.sse], check=False)
    assert heard.text == "".join(block.text for block in snapshot.content if block.type == "text")
    calls = [(block.id, block.name, block.input) for block in snapshot.content if block.type == "tool_use"]
    assert [(i["call_id"], i["name"], json.loads(i["arguments"])) for i in heard.items("function_call")] == calls
    thoughts = [block for block in snapshot.content if block.type in ("thinking", "redacted_thinking")]
    kept = [block.to_dict() for block in thoughts if getattr(block, "signature", "whole")]
    assert [block for block in _blocks(heard) if block["type"] in ("thinking", "redacted_thinking")] == kept
    results = [block for block in snapshot.content if block.type.endswith("_tool_result")]
    assert len([block for block in _blocks(heard) if block["type"].endswith("_tool_result")]) == len(results)
    usage = heard.final["usage"]
    assert usage["output_tokens"] == snapshot.usage.output_tokens
    cached = snapshot.usage.cache_read_input_tokens or 0
    assert usage["input_tokens"] == snapshot.usage.input_tokens + cached + (
        snapshot.usage.cache_creation_input_tokens or 0
    )


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
    exchange = next(exchange for exchange in STREAMS if corpus.expect(exchange).text)
    assert exchange.sse is not None
    heard = hear_recorded(exchange, [exchange.sse], check=False)
    message = next(item for item in heard.output if item["type"] == "message")
    message["content"][0]["text"] += "!"
    assert faults(exchange, heard)


# --- requests


def validated(call: UpstreamRequest) -> None:
    """The body is what the SDK's types say, of the beta API where the request asks for betas."""
    body = json.loads(call.body)
    adapter = BETA_PARAMS if "anthropic-beta" in dict(call.headers) else PARAMS
    adapter.validate_python(body, strict=False)
    for message in body["messages"]:
        assert set(message) == {"role", "content"}


@corpus.needed
@pytest.mark.parametrize("exchange", corpus.exchanges("openai-responses"), ids=str)
def test_recorded_requests_become_what_the_sdk_takes(exchange: corpus.Exchange) -> None:
    if not isinstance(exchange.request, dict):
        pytest.skip("the recording has no request")
    body = {**exchange.request, "model": "m"}
    try:
        request = parse(body)
        request = request.with_items([item for item in request.items if item["type"] != "item_reference"])
        assert not pairing(request.items).orphans
        check_file_ids(request.items)
    except RelayError as error:
        pytest.skip(f"no whole request: {error}")
    for model in MODELS:
        target = Target("up", model, "https://api.anthropic.com")
        media = {url: Media("application/pdf", b"%PDF-1.4") for url in PROVIDER.media_needed(request, target)}
        refused = None
        try:
            validated(PROVIDER.build(request, target, media, frozenset()))
        except RelayError as error:
            refused = error
        assert refused is None or (refused.status == 400 and refused.param)


# --- golden pairs

OPTIONS: dict[str, dict[str, Any]] = {
    "thinking_then_calls": {
        "tools": {"patch": Tool("patch", "patch", "custom_tool_call"), "lookup": Tool("lookup", "lookup")}
    },
    "web_search_and_citations": {"context": Context(model="m", sources=True)},
    "code_and_mcp": {"context": Context(model="m", outputs=True)},
    "json_tool": {"context": Context(model="m", json_tool="json_response", schema={"type": "object"})},
}


def spoken(pieces: list[bytes], context: Context | None = None, tools: dict[str, Tool] | None = None) -> bytes:
    """The client's bytes, as the exchange makes them."""
    sink = SSESink()
    emitter = emitter_for({}, sink)
    call = UpstreamRequest("", b'{"messages":[{}]}', context=context or Context(model="m"))
    translator = PROVIDER.translator(call, emitter.voice(tools or {}))
    try:
        for piece in pieces:
            translator.feed(piece)
        done = translator.close()
    except RelayError as error:
        emitter.conclude("failed", error=error)
    else:
        assert not isinstance(done, Continue)
        emitter.conclude(done.status, reason=done.reason)
    emitter.terminal()
    return sink.take()


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_goldens_in_every_split(path: Path) -> None:
    body = path.read_bytes()
    options = OPTIONS.get(path.stem, {})
    out = path.with_suffix(".out")
    if os.environ.get("RELAY_WRITE_GOLDENS"):
        out.write_bytes(spoken([body], **options))
    expected = out.read_bytes()
    assert spoken([body], **options) == expected
    assert spoken([body[at : at + 1] for at in range(len(body))], **options) == expected
    for at in range(1, len(body)):
        assert spoken([body[:at], body[at:]], **options) == expected, at
    oracle.check_stream(oracle.parse_sse(expected))


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_broken_goldens_are_refused(path: Path) -> None:
    events = oracle.parse_sse(path.with_suffix(".out").read_bytes())
    assert mutations.assert_refuses_mutations(events, limit=150) > 50


def test_there_are_goldens() -> None:
    assert len(GOLDENS) >= 8
