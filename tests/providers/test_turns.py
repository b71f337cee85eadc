"""What the grouping of items does with items that a chat has no slot for (translation.md §2.4)."""

from __future__ import annotations

import pytest

from relay.errors import RelayError
from relay.providers.turns import Results, turns
from relay.responses.emitter import Emitter
from relay.responses.items import normalise
from relay.responses.sinks import NullSink


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"output": "done"}, "done"),
        ({"error": "went wrong"}, "went wrong"),
        ({"error": {"code": 5}}, '{"code":5}'),
    ],
)
def test_an_mcp_call_becomes_a_call_and_its_output(fields: dict[str, object], said: str) -> None:
    item = {"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "t", "arguments": "{}", **fields}
    *_, results = turns([*normalise("hi"), item])
    assert isinstance(results, Results)
    ((call, output),) = results.pairs
    assert (call["name"], output["output"]) == ("s__t", said)


def test_an_unknown_item_names_its_place() -> None:
    with pytest.raises(RelayError) as caught:
        turns([*normalise("hi"), {"type": "future_thing"}])
    assert caught.value.param == "input[1].type"


def test_log_probabilities_may_follow_text_and_each_other() -> None:
    emitter = Emitter({"id": "resp_1"}, NullSink(), lambda prefix: prefix + "_1", lambda: 1)
    voice = emitter.voice({})
    voice.text("a")
    voice.logprobs("b", [])
    voice.logprobs("c", [])
    assert voice.text_so_far() == "abc"
