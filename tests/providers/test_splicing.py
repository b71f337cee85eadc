"""Splicing and runs on and off give the same bytes: over every recorded stream, in every feeding."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest

from relay.errors import RelayError
from relay.providers.base import Target
from relay.providers.openai_run import Run
from relay.providers.registry import PROVIDERS
from relay.providers.splice import Splice
from relay.responses.emitter import Emitter
from relay.responses.request import parse
from relay.responses.response import template
from relay.responses.sinks import SSESink
from tests.app.upstreams import first, token
from tests.corpus import Exchange, exchanges, needed, splits

APIS = {"chat": "openai-chat", "anthropic": "anthropic-messages"}
NATIVE = {"responses": "openai-responses"}


def told(dialect: str, pieces: Iterable[bytes]) -> tuple[bytes, str]:
    """The client's bytes, and how it ended."""
    request = parse({"model": "m", "input": "hi", "stream": True, "reasoning": {"summary": "auto"}})
    provider = PROVIDERS[dialect]
    call = provider.build(request, Target("u", "some-model", "http://127.0.0.1:9/v1"), {}, frozenset())
    counter = itertools.count()
    sink = SSESink()
    emitter = Emitter(
        template(request, "resp_0", 1), sink, lambda p: f"{p}_{next(counter):024x}", lambda: 2, show_summary=True
    )
    translator = provider.translator(call, emitter.voice(call.tools))
    try:
        for piece in pieces:
            translator.feed(piece)
        ending = str(translator.close())
        emitter.conclude("completed")
    except RelayError as error:
        ending = f"{error.kind}: {error.message}"
    return sink.take(), ending


def parse_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on every event is parsed whole."""
    monkeypatch.setattr(Splice, "learn", lambda *_: None)
    monkeypatch.setattr(Run, "learn", lambda *_: None)


RECORDED = [(dialect, exchange) for dialect, api in (APIS | NATIVE).items() for exchange in exchanges(api, stream=True)]


@needed
@pytest.mark.parametrize(("dialect", "exchange"), RECORDED, ids=lambda value: getattr(value, "name", str(value))[-60:])
def test_recorded_streams(dialect: str, exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    if dialect not in PROVIDERS:
        pytest.skip(f"{dialect} is not in the registry")
    # byte by byte nothing is spliced but what the decoder puts together: the shorter recordings show it
    feedings = [pieces for how, pieces in splits(exchange) if how != "bytes" or len(exchange.body) < 30_000]
    spliced = [told(dialect, pieces) for pieces in feedings]
    parse_all(monkeypatch)
    parsed = [told(dialect, pieces) for pieces in feedings]
    assert spliced == parsed


@pytest.mark.parametrize("dialect", sorted(APIS))
@pytest.mark.parametrize("batch", [1, 2, 64])
def test_a_plain_stream_is_really_spliced(dialect: str, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if dialect not in PROVIDERS:
        pytest.skip(f"{dialect} is not in the registry")
    texts = [f'token {number} "é"\n' if number % 3 else "" for number in range(256)]
    tokens = [token(dialect, text, number) for number, text in enumerate(texts)]
    reads = [first(dialect), *(b"".join(tokens[at : at + batch]) for at in range(0, len(tokens), batch))]
    hits = []
    literals = Splice.literals

    def counted(self: Splice, block: bytes) -> list[bytes] | None:
        found = literals(self, block)
        hits.append(found is not None)
        return found

    monkeypatch.setattr(Splice, "literals", counted)
    spliced = told(dialect, reads)
    assert sum(hits) >= len(reads) - 4
    parse_all(monkeypatch)
    assert told(dialect, reads) == spliced


@pytest.mark.parametrize("dialect", sorted(APIS))
def test_pieces_without_text_say_nothing(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone, and in a large read that ends with what is no text."""
    empty = b"".join(token(dialect, "", number) for number in range(100))
    reads = [first(dialect), token(dialect, "said", 0), empty, empty + b"event: ping\ndata: {}\n\n"]
    spliced = told(dialect, reads)
    assert spliced[0].count(b'"delta":') == 1
    parse_all(monkeypatch)
    assert told(dialect, reads) == spliced


def test_what_follows_the_end_in_one_read_is_not_said() -> None:
    late = b"".join(token("chat", f"late {number}", number) for number in range(256))
    stop = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    wire, ending = told("chat", [first("chat") + token("chat", "said", 0) + stop + late])
    assert b'"text":"said"' in wire
    assert b"late" not in wire
    assert "completed" in ending
