"""Envelopes: what a client changed in one, or made itself, is left out block by block (decision 22)."""

from __future__ import annotations

import pytest

from relay.responses.envelope import seal, shaped, unseal

SHAPES = {"text": {"text": str}, "part": {"part": dict}, "mark": {}}
GOOD = '{"k":"text","text":"a"}'


@pytest.mark.parametrize(
    "block",
    [
        *("", "x", "[]", "7", "null", '"k"', "{", '{"k":"text"}', '{"k":"text","text":5}', '{"k":["text"],"text":""}'),
        *('{"k":{}}', '{"text":"a"}', '{"k":"other","text":"a"}', '{"k":"part","part":[]}', "[" * 300 + "]" * 300),
        '{"k":"mark","deep":' + "[" * 250 + "]" * 250 + "}",  # could be read, and not be written into a request again
        '{"k":"mark","deep":' + "[" * 5_000 + "]" * 5_000 + "}",
    ],
)
def test_what_no_translator_sealed_is_left_out(block: str) -> None:
    envelope = unseal(seal("f", "m", [GOOD, block, GOOD]))
    assert envelope is not None
    assert envelope.opened(shaped(SHAPES)) == [({"k": "text", "text": "a"}, GOOD)] * 2


def test_what_one_sealed_comes_out_as_it_was() -> None:
    blocks = ['{"k":"part","part":{"x":1e2}}', '{"k":"mark"}', '{ "k": "text", "text": "\\ud800" }']
    envelope = unseal(seal("f", "m", blocks))
    assert envelope is not None
    assert [text for _, text in envelope.opened(shaped(SHAPES))] == blocks
