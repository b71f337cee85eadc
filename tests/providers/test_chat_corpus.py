"""Every recorded chat/completions answer, and the golden pairs, in every split, judged by the oracle.

`tests/golden/chat/<case>.in` is an upstream's stream, `<case>.out` the client's. After a change that is meant:
`RELAY_WRITE_GOLDENS=1 pytest tests/providers/test_chat_corpus.py`, and read the difference.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from relay.errors import RelayError
from relay.providers.chat import PROVIDER
from relay.providers.chat_stream import ChatTranslator, Context
from relay.responses.envelope import unseal
from relay.responses.sinks import SSESink
from relay.responses.tools import Tool
from tests import corpus, mutations, oracle
from tests.providers.chat_support import Heard, emitter_for, hear

GOLDENS = sorted((Path(__file__).parent.parent / "golden" / "chat").glob("*.in"))
ANSWERS = [exchange for exchange in corpus.exchanges("openai-chat") if exchange.status == 200]
REFUSALS = [exchange for exchange in corpus.exchanges("openai-chat") if exchange.status != 200]


# --- recordings


def hear_recorded(exchange: corpus.Exchange, pieces: Any, *, check: bool) -> Heard:
    expected = corpus.expect(exchange)
    request = exchange.request if isinstance(exchange.request, dict) else {}
    context = Context(
        model=exchange.model,
        think_tags=expected.think,
        limit_tokens=request.get("max_completion_tokens") or request.get("max_tokens"),
    )
    return hear(pieces, context=context, request_body={"reasoning": {"summary": "auto"}}, check=check)


def faults(exchange: corpus.Exchange, heard: Heard) -> list[str]:
    expected = corpus.expect(exchange)
    if expected.ending == "error":
        return [] if heard.error is not None and not heard.started else [f"started, or no error: {heard.error}"]
    found = corpus.differences(expected, heard.final)
    if expected.ending == "failed" and heard.error is None:
        found.append("no error")
    parts = [part for item in heard.items("message") for part in item["content"]]
    notes = [note for part in parts for note in part.get("annotations", [])]
    if [(note["url"], note["title"]) for note in notes] != expected.citations:
        found.append(f"citations {notes}")
    if len(heard.items("image_generation_call")) != expected.images:
        found.append("images")
    envelopes = [unseal(item.get("encrypted_content")) for item in heard.items("reasoning")]
    kept = json.dumps([json.loads(block) for envelope in envelopes if envelope for block in envelope.blocks])
    found += [f"signature {sign[:40]} is lost" for sign in expected.signatures if json.dumps(sign) not in kept]
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
    # JSON in a message is shown as what it says
    assert expected[:40] in error.message or error.message in expected or error.kind.startswith("upstream")
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

OPTIONS: dict[str, dict[str, Any]] = {
    "reasoning_then_calls": {
        "context": Context(model="m", keep_reasoning=True),
        "tools": {"patch": Tool("patch", "patch", "custom_tool_call"), "lookup": Tool("lookup", "lookup")},
    },
    "logprobs_and_refusal": {"context": Context(model="m", logprobs=True)},
    "think_tags": {"context": Context(model="m", think_tags=True)},
}


def spoken(pieces: list[bytes], context: Context | None = None, tools: dict[str, Tool] | None = None) -> bytes:
    """The client's bytes, as the exchange makes them."""
    sink = SSESink()
    emitter = emitter_for({}, sink)
    translator = ChatTranslator(emitter.voice(tools or {}), context or Context(model="m"))
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
    assert len(GOLDENS) >= 10
