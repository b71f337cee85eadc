"""The provider's contract, over the registry: a new dialect is tested before its author writes a test."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import RelayError
from relay.providers.base import VERDICTS, Provider, Target, Translator
from relay.providers.registry import PROVIDERS
from relay.responses.emitter import Emitter
from relay.responses.request import PARAMETERS, parse
from relay.responses.response import template
from relay.responses.sinks import SSESink
from relay.wire.sse import HEAVY_BYTES

EVERY = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
TARGET = Target("up", "some-model", "http://127.0.0.1:9/v1")


def translator(provider: Provider, **body: Any) -> tuple[Translator, Emitter]:
    request = parse({"model": "m", "input": "hi", "stream": True, **body})
    call = provider.build(request, TARGET, {}, frozenset())
    counter = itertools.count()
    emitter = Emitter(template(request, "resp_0", 1), SSESink(), lambda p: f"{p}_{next(counter):024x}", lambda: 2)
    return provider.translator(call, emitter.voice(call.tools)), emitter


@EVERY
def test_every_parameter_has_a_row_with_a_verdict(provider: Provider) -> None:
    assert set(provider.parameters) == set(PARAMETERS)
    for name, row in provider.parameters.items():
        assert row.verdict in VERDICTS, name
        if row.verdict in ("warned", "rejected"):
            assert row.apply is None, name


@EVERY
def test_the_name_is_the_configurations(provider: Provider) -> None:
    assert PROVIDERS[provider.name] is provider


@EVERY
def test_building_is_pure(provider: Provider) -> None:
    request = parse({"model": "m", "input": "hi", "tools": [{"type": "function", "name": "f"}], "temperature": 0.5})
    one, two = (provider.build(request, TARGET, {}, frozenset()) for _ in range(2))
    assert (one.path, one.body, one.headers, one.warnings) == (two.path, two.body, two.headers, two.warnings)


@EVERY
def test_a_body_takes_no_more_memory_than_its_bytes(provider: Provider) -> None:
    """It is kept while its stream is open."""
    request = parse({"model": "m", "input": "hi", "stream": True})
    provider.build(request, TARGET, {}, frozenset())
    tracemalloc.start()
    try:
        bodies = [provider.build(request, TARGET, {}, frozenset()).body for _ in range(100)]
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < sum(len(body) + 200 for body in bodies)


@EVERY
def test_a_large_event_is_announced(provider: Provider) -> None:
    """What is fed next may complete it, and is worked on beside the loop (decision 61)."""
    one, _ = translator(provider)
    one.feed(b": ping\n\ndata: {")
    assert not one.heavy
    one.feed(b'"a":"' + b"x" * HEAVY_BYTES)
    assert one.heavy
    with contextlib.suppress(RelayError):
        one.feed(b'"}\n\n')
    assert not one.heavy


GARBAGE = [
    b"",
    b"\n\n",
    b": ping\n\n",
    b"data: [DONE]\n\n",
    b"data: {\n\n",
    b"data: nope\n\n",
    b"data: 5\n\n",
    b"data: []\n\n",
    b"data: null\n\n",
    b'data: "x"\n\n',
    b"data: {}\n\n",
    b"<html><body>502</body></html>",
    b"\x00\xff\xfe\n\n",
    b'data: {"type": 5}\n\n',
    b'data: {"choices": 5}\n\n',
    b'data: {"choices": [5]}\n\n',
    b'data: {"candidates": 5}\n\n',
    b'event: error\ndata: {"error": "x"}\n\n',
    b"error: broken\n\n",
]


@EVERY
@pytest.mark.parametrize("data", GARBAGE)
def test_nonsense_is_never_a_success(provider: Provider, data: bytes) -> None:
    one, _ = translator(provider)
    with pytest.raises(RelayError) as caught:
        _drive(one, data)
    assert caught.value.status >= 400


def _drive(one: Translator, data: bytes) -> object:
    one.feed(data)
    return one.close()


def _drive_body(one: Translator, body: dict[str, Any]) -> object:
    one.from_body(body)
    return one.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type", "choices", "delta", "content", "message", "tool_calls", "function", "index", "id", "error",
                    "usage", "finish_reason", "candidates", "parts", "text", "content_block", "response", "item",
                    "output", "status", "name", "arguments", "stop_reason", "functionCall", "usageMetadata",
                    "output_index", "item_id", "sequence_number", "part", "annotation", "logprobs", "code",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)  # fmt: skip


@EVERY
@given(
    events=st.lists(JSON, max_size=3), names=st.lists(st.sampled_from(["message_start", "error", "response.created"]))
)
def test_any_json_ends_or_raises_our_error(provider: Provider, events: list[Any], names: list[str]) -> None:
    """Whatever an upstream sends, nothing but RelayError comes out."""
    one, _ = translator(provider)
    stream = b""
    for number, event in enumerate(events):
        if isinstance(event, dict) and number < len(names):
            event = {**event, "type": names[number]}
        stream += b"data: " + json.dumps(event).encode() + b"\n\n"
    try:
        _drive(one, stream)
    except RelayError:
        pass


@EVERY
@given(
    body=st.dictionaries(
        st.sampled_from(["choices", "content", "candidates", "output", "error", "type", "status"]), JSON
    )
)
def test_any_body_ends_or_raises_our_error(provider: Provider, body: dict[str, Any]) -> None:
    one, _ = translator(provider)
    try:
        one.from_body(body)
        one.close()
    except RelayError:
        pass


@EVERY
def test_an_empty_body_is_never_a_success(provider: Provider) -> None:
    one, _ = translator(provider)
    with pytest.raises(RelayError):
        _drive_body(one, {})


BODIES = [
    b"",
    b"<html>",
    b"null",
    b"5",
    b"[]",
    b'"x"',
    b"{}",
    b'{"error": null}',
    b'{"error": "words"}',
    b'{"error": {"message": "words"}}',
    b'{"error": {"message": 5, "code": [], "type": {}}}',
    b'[{"error": {"code": 429, "message": "words", "status": "RESOURCE_EXHAUSTED"}}]',
    b'{"type": "error", "error": {"type": "overloaded_error", "message": "words"}}',
    b'{"detail": [{"loc": ["body", "x"], "msg": "words"}]}',
    b'{"object": "error", "message": "words"}',
    b'{"message": "words"}',
]
STATUSES = {
    400: {400},
    401: {502},
    402: {503},
    403: {502, 400},
    404: {404, 502},
    408: {504},
    409: {409},
    413: {413, 400},
    422: {400},
    429: {429, 503},
    500: {500, 503, 502},
    502: {503},
    503: {503},
    504: {504, 503},
    529: {503},
    302: {502},
}


@EVERY
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("body", BODIES)
def test_every_error_body_maps(provider: Provider, status: int, body: bytes) -> None:
    error = provider.error(status, {"retry-after": "7"}, body)
    expected = (
        STATUSES[status] | ({429} if b"RESOURCE" in body else set()) | ({503} if b"overloaded" in body else set())
    )
    assert error.status in expected, (error.kind, error.message)
    assert error.message
    assert "<html" not in error.message


@EVERY
def test_keys_in_an_upstreams_words_are_not_passed_on(provider: Provider) -> None:
    words = b"bad field; key sk-abcdefghijklmnop of org-ABCDEFGHIJ"
    body = b'{"error": {"message": "%b", "type": "invalid_request_error"}}' % words
    assert "abcdefghijklmnop" not in provider.error(400, {}, body).message


@EVERY
def test_retry_after_is_kept(provider: Provider) -> None:
    assert provider.error(429, {"retry-after": "7"}, b"{}").retry_after_s == 7
    assert provider.error(429, {"retry-after-ms": "1500"}, b"{}").retry_after_s == 1.5


@EVERY
def test_file_ids_and_unknown_hosted_tools_are_refused_by_path(provider: Provider) -> None:
    if provider.name == "responses":
        pytest.skip("a native upstream knows its own hosted tools")
    request = parse({"model": "m", "input": "hi", "tools": [{"type": "file_search", "vector_store_ids": ["v"]}]})
    with pytest.raises(RelayError) as caught:
        provider.build(request, TARGET, {}, frozenset())
    assert (caught.value.status, caught.value.param) == (400, "tools[0].type")
