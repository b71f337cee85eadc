"""A create request read and checked, and the upstream's request built, by the length of its history."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from bench.data import DIALECTS, SIZES, body, request, target
from relay.providers.registry import PROVIDERS
from relay.responses.json import loads
from relay.responses.request import parse


@pytest.mark.parametrize("size", SIZES)
def test_parse(benchmark: Any, size: str) -> None:
    raw = orjson.dumps(body(SIZES[size]))
    assert benchmark(lambda: parse(loads(raw))).model == "demo"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_build(benchmark: Any, dialect: str, size: str) -> None:
    asked = request(SIZES[size])
    built = benchmark(PROVIDERS[dialect].build, asked, target(dialect), {}, frozenset())
    assert len(built.body) > SIZES[size] * 0.8
