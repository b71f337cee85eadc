"""Every recorded Responses answer, and the golden pairs, in every split, judged by the oracle.

`tests/golden/openai/<case>.in` is an upstream's stream, `<case>.out` the client's. After a change that is meant:
`RELAY_WRITE_GOLDENS=1 pytest tests/providers/test_openai_corpus.py`, and read the difference.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter

from relay.errors import RelayError
from relay.providers.base import Target
from relay.providers.openai import PROVIDER
from relay.responses.request import parse
from tests import corpus, mutations, oracle
from tests.providers.openai_support import Heard

GOLDENS = sorted((Path(__file__).parent.parent / "golden" / "openai").glob("*.in"))
EXCHANGES = corpus.exchanges("openai-responses")
ANSWERS = [exchange for exchange in EXCHANGES if exchange.status == 200]
REFUSALS = [exchange for exchange in EXCHANGES if exchange.status != 200]
REQUESTS = [exchange for exchange in ANSWERS if isinstance(exchange.request, dict) and exchange.request]

# what these servers' own bytes break, and the relay passes on (decision 20)
OWN_WORDS = {
    "azure-web-search-preview-tool-1": {"hosted"},  # done with status "searching", without its last step
    "raw-cot-stream-openrouter": {"done_order"},  # the reasoning ends after the message
    "gpt-5-pro-streaming": {"added_status"},
    "instructions-with-responses-logprobs-streaming": {"done_parts"},  # log probabilities only in the item
}
# ids without OpenAI's prefixes, null members, tools that the SDK does not know
OWN_SHAPES = ("deepseek/", "github-copilot/", "x-search-streaming", "gpt-5-mini-web-search-streaming")


def tolerated(exchange: corpus.Exchange) -> set[str]:
    return set().union(*(rules for name, rules in OWN_WORDS.items() if name in str(exchange)))


def hear(exchange: corpus.Exchange, pieces: list[bytes]) -> Heard:
    """The client asks for a stream whatever was recorded: a body is then said as events."""
    request = exchange.request if isinstance(exchange.request, dict) else {}
    heard = Heard({name: request[name] for name in ("instructions", "text") if name in request})
    return heard.hear(pieces) if exchange.sse is not None else heard.read(json.loads(exchange.body))


def faults(exchange: corpus.Exchange, heard: Heard) -> list[str]:
    expected = corpus.expect(exchange)
    if expected.ending == "error":
        return [] if heard.error is not None and not heard.emitter.started else [f"started, or no error: {heard.error}"]
    usage = heard.final["usage"]
    members = expected.usage or {}
    shown = {name: usage[name] for name in members} if usage else None  # prices and the like may stand beside them
    details = {name: value for name, value in (shown or {}).items() if name.endswith("_details")}
    for name, value in details.items():
        shown = {**(shown or {}), name: {inner: value[inner] for inner in members[name]}}
    found = corpus.differences(expected, {**heard.final, "usage": shown})
    # OpenAI seals a reasoning item anew for the terminal Response: what its own event said counts (translation.md §0.3)
    said = corpus.payloads(exchange) if exchange.sse is not None else []
    done = [one["item"] for one in said if one["type"] == "response.output_item.done"]
    items = [item for item in done if item["type"] == "reasoning"]
    wanted = [item["encrypted_content"] for item in items if item.get("encrypted_content")] or expected.signatures
    signatures = [
        item["encrypted_content"]
        for item in heard.output
        if item["type"] == "reasoning" and item.get("encrypted_content")
    ]
    if signatures != wanted[: len(expected.signatures)]:
        found.append(f"signatures {signatures}")
    return found


@corpus.needed
def test_every_recorded_answer_in_every_split() -> None:
    results, failures = [], []
    for exchange in ANSWERS:
        first: Heard | None = None
        wrong: list[str] = []
        for split, pieces in corpus.splits(exchange):
            heard = hear(exchange, pieces)
            wrong += [f"{split}: {fault}" for fault in faults(exchange, heard)]
            if first is not None and (heard.wire, heard.final) != (first.wire, first.final):
                wrong.append(f"{split}: other bytes than when fed whole")
            first = first or heard
        if first is not None and first.emitter.started:
            try:
                first.check(*tolerated(exchange), vendor=any(name in str(exchange) for name in OWN_SHAPES))
            except oracle.OracleError as refusal:
                wrong.append(f"oracle: {refusal}")
        results.append((exchange.dialect, not wrong))
        failures += [f"{exchange}: {fault}" for fault in wrong]
    corpus.table(results)
    assert failures == [], "\n".join(failures)


@corpus.needed
def test_ordinary_events_go_out_byte_for_byte() -> None:
    """Decision 20, on every recording that numbers its events and leaves nothing out: only the Responses differ."""
    compared = 0
    for exchange in ANSWERS:
        if exchange.sse is None or exchange.dialect not in ("openai", "azure", "xai", "lmstudio"):
            continue
        heard = hear(exchange, [exchange.body])
        if heard.error is not None or "xai-image-generation-tool" in str(exchange):  # an id of over 64 characters
            continue
        ours = heard.wire.split(b"\n\n")
        theirs = exchange.body.replace(b"\r\n", b"\n").split(b"\n\n")
        lifecycle = ("created", "queued", "in_progress", "completed", "incomplete")
        skipped = tuple(f"event: response.{name}\n".encode() for name in lifecycle)
        for mine, given in zip(ours[: len(heard.events)], theirs, strict=False):
            lacking = b"output_text.done" in given and b'"logprobs"' not in given  # xAI: the relay puts it in
            if not given.startswith(skipped) and not lacking:
                assert mine == given, str(exchange)
                compared += 1
    assert compared > 3_000


def explicit(message: dict[str, Any]) -> dict[str, Any]:
    """The short form of a message as OpenAI's reference writes it out."""
    content = message["content"]
    if isinstance(content, str):
        kind = "output_text" if message["role"] == "assistant" else "input_text"
        content = [{"type": kind, "text": content}]
    return {**message, "type": "message", "content": content}


@corpus.needed
@pytest.mark.parametrize("exchange", REQUESTS, ids=str)
@pytest.mark.parametrize(("holds_state", "base_url"), [(False, ""), (True, ""), (True, "https://api.openai.com/v1")])
def test_recorded_requests_are_what_the_sdk_would_send(
    exchange: corpus.Exchange, holds_state: bool, base_url: str
) -> None:
    """What is built validates against the vendor's own parameter types, and says what the client said; a server that
    is not OpenAI's gets the type of each item, which not all of them guess (issue 9, 18)."""
    request = parse(exchange.request)
    call = PROVIDER.build(request, Target("up", "m", base_url, holds_state=holds_state), {}, frozenset())
    body = json.loads(call.body)
    body.pop("stream", None)
    vendor = {"top_k", "provider", "plugins", "reasoning", "include", "tools", "input", "prompt_cache_retention"}
    TypeAdapter(ResponseCreateParamsNonStreaming).validate_python(
        {name: value for name, value in body.items() if name not in vendor}
    )
    said = exchange.request["input"]
    if not base_url and isinstance(said, list):
        said = [item if "type" in item else explicit(item) for item in said]
    assert body["input"] == said
    for name in ("tools", "instructions", "text", "temperature", "tool_choice"):
        if exchange.request.get(name):
            assert body[name] == exchange.request[name]
    assert body.get("store") == (exchange.request.get("store") if holds_state else False)


@corpus.needed
def test_recorded_refusals_map() -> None:
    assert REFUSALS
    for exchange in REFUSALS:
        error = PROVIDER.error(exchange.status, exchange.response_headers, exchange.body)
        assert 400 <= error.status <= 599
        oracle.check_error_body(error.envelope())
        said = (exchange.response or {}).get("error") or {}
        if exchange.status == 400 and said.get("code"):
            assert error.code == said["code"]


# --- goldens


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    """Fed whole, byte by byte and cut at every position: the same bytes."""
    given, expected = path.read_bytes(), path.with_suffix(".out")
    whole = Heard().hear([given])
    if os.environ.get("RELAY_WRITE_GOLDENS"):
        expected.write_bytes(whole.wire)
    assert whole.wire == expected.read_bytes()
    whole.check()
    assert Heard().hear([given[at : at + 1] for at in range(len(given))]).wire == whole.wire
    for at in range(1, len(given)):
        assert Heard().hear([given[:at], given[at:]]).wire == whole.wire, at


def test_there_are_goldens() -> None:
    assert len(GOLDENS) >= 6


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_the_oracle_refuses_broken_goldens(path: Path) -> None:
    events = oracle.parse_sse(path.with_suffix(".out").read_bytes())
    assert mutations.assert_refuses_mutations(events, limit=300) > 50


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_a_broken_upstream_never_breaks_the_client(path: Path) -> None:
    """Each broken copy of a good stream, as an upstream might send it: numbered right, one ending, an error at most."""
    events = oracle.parse_sse(path.with_suffix(".out").read_bytes())
    every: list[tuple[str, list[Any]]] = list(mutations.mutations(events))
    for name, broken in every[:: max(1, len(every) // 400)]:
        body = b"".join(
            b"event: %b\ndata: %b\n\n" % (str(one.get("type", "")).encode(), json.dumps(one).encode()) for one in broken
        )
        heard = Heard().hear([body])
        if not heard.emitter.started:
            assert isinstance(heard.error, RelayError), name
            continue
        said = heard.events
        assert [event["sequence_number"] for event in said] == list(range(len(said))), name
        endings = [
            event for event in said if event["type"] in ("response.completed", "response.incomplete", "response.failed")
        ]
        assert endings == said[-1:], name
        done = [event for event in said if event["type"] == "response.output_item.done"]
        items = [event["item"] for event in sorted(done, key=lambda event: event["output_index"])]
        assert said[-1]["response"]["output"] == items, name
