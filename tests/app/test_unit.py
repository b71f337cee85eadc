"""Parts of the application that need no socket: the reasoning cache, the guard, truncation, compaction, prompts, lines.

Source: decisions 9, 22, 28-30; responses-api.md §3.10, §5.11; translation.md §1.1, §2.8.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.app.compaction import compaction_fields, estimated_tokens, expand_compactions, threshold
from relay.app.guard import Guard
from relay.app.prepare import prompt_items
from relay.app.reasoning import ReasoningCache
from relay.app.redaction import HIDDEN, Redactor
from relay.app.replies import encoded
from relay.app.truncation import without_oldest_turns
from relay.app.turn import TurnRecord, warnings_header
from relay.config import PromptSettings, ServerSettings
from relay.errors import RelayError
from relay.responses.envelope import seal
from relay.responses.items import pairing
from relay.responses.request import parse

Item = dict[str, Any]


def reasoning(sealed: str | None, **fields: Any) -> Item:
    item: Item = {"type": "reasoning", "id": "rs_1", "summary": [], **fields}
    return item if sealed is None else {**item, "encrypted_content": sealed}


def call(identifier: str = "call_1", name: str = "f", arguments: str = "{}", **fields: Any) -> Item:
    return {"type": "function_call", "call_id": identifier, "name": name, "arguments": arguments, **fields}


def output(identifier: str = "call_1") -> Item:
    return {"type": "function_call_output", "call_id": identifier, "output": "ok"}


def message(role: str, text: str = "x") -> Item:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}


# --- the reasoning cache (decision 22)

WHO = ("owner", "up", "model")


def restored(cache: ReasoningCache, items: list[Item], who: tuple[str, str, str] = WHO) -> list[str | None]:
    """The sealed reasoning that comes back, in the order of the items."""
    return [item["encrypted_content"] for item in cache.restore(*who, items) if item["type"] == "reasoning"]


def test_reasoning_comes_back_in_front_of_its_call() -> None:
    cache = ReasoningCache()
    cache.remember(*WHO, [reasoning("one"), call(), call("call_2")])
    items = [message("user"), call(), call("call_2"), output(), output("call_2"), message("user")]
    kinds = [item["type"] for item in cache.restore(*WHO, items)]
    assert kinds[:4] == ["message", "reasoning", "function_call", "function_call"]
    assert restored(cache, items) == ["one"]


def test_reasoning_that_the_client_kept_is_not_doubled() -> None:
    cache = ReasoningCache()
    cache.remember(*WHO, [reasoning("one"), call()])
    items = [message("user"), reasoning("one"), call(), output()]
    assert cache.restore(*WHO, items) == items


def test_each_turn_is_asked_for_its_own() -> None:
    cache = ReasoningCache()
    cache.remember(*WHO, [reasoning("one"), call()])
    cache.remember(*WHO, [reasoning("two"), call("call_2")])
    assert restored(cache, [call(), output(), call("call_2"), output("call_2")]) == ["one", "two"]
    assert restored(cache, [reasoning("one"), call(), output(), call("call_2")]) == ["one", "two"]


@pytest.mark.parametrize(
    "said",
    [
        [reasoning("a"), message("assistant"), call()],
        [message("assistant"), reasoning("a"), call()],
        [reasoning("a"), message("assistant"), reasoning("b"), message("assistant"), call()],
        [reasoning("a"), reasoning("b"), call()],
    ],
)
def test_reasoning_stands_where_it_stood_among_the_messages(said: list[Item]) -> None:
    cache = ReasoningCache()
    cache.remember(*WHO, said)
    left = [item for item in said if item["type"] != "reasoning"]
    before = [message("user"), message("assistant"), message("user")]
    assert cache.restore(*WHO, [*before, *left, output()]) == [*before, *said, output()]
    # a client that dropped the messages too gets it at the beginning of the turn, not in the turn before
    assert [item["type"] for item in cache.restore(*WHO, [*before, call(), output()])][:3] == ["message"] * 3


@pytest.mark.parametrize(
    ("who", "asked"),
    [
        (("other", "up", "model"), call()),
        (("owner", "other", "model"), call()),
        (("owner", "up", "other"), call()),
        (WHO, call("call_9")),
        (WHO, call(name="g")),
        (WHO, call(arguments='{"a":1}')),
        (WHO, call(namespace="ns")),
        (WHO, {"type": "custom_tool_call", "call_id": "call_1", "name": "f", "input": "{}"}),
    ],
)
def test_every_part_of_the_key_counts(who: tuple[str, str, str], asked: Item) -> None:
    cache = ReasoningCache()
    cache.remember(*WHO, [reasoning("one"), call()])
    assert restored(cache, [asked], who) == []
    assert restored(cache, [call()]) == ["one"]


def test_only_sealed_reasoning_is_kept() -> None:
    cache = ReasoningCache()
    cache.remember(*WHO, [reasoning(None), call()])
    cache.remember(*WHO, [reasoning("one"), message("assistant")])
    cache.remember(*WHO, [call(), {"id": "of an unknown kind, without a type"}])
    assert cache.size_bytes == 0


def test_two_values_under_one_key_evict_both_and_a_third_is_not_trusted() -> None:
    cache = ReasoningCache()
    for sealed in ("one", "one"):
        cache.remember(*WHO, [reasoning(sealed), call()])
    assert restored(cache, [call()]) == ["one"]
    for sealed in ("two", "three", "three"):
        cache.remember(*WHO, [reasoning(sealed), call()])
        assert restored(cache, [call()]) == []


def test_age_is_bounded() -> None:
    now = [0.0]
    cache = ReasoningCache(limit_s=10, clock=lambda: now[0])
    cache.remember(*WHO, [reasoning("one"), call()])
    now[0] = 10
    assert restored(cache, [call()]) == ["one"]
    now[0] = 10.5
    cache.remember(*WHO, [reasoning("new"), call()])  # what is too old conflicts with nothing
    assert restored(cache, [call()]) == ["new"]
    now[0] = 21
    assert restored(cache, [call()]) == []
    assert cache.size_bytes == 0


def test_bytes_are_bounded_and_the_oldest_goes() -> None:
    cache = ReasoningCache(limit_bytes=10_000)
    for number in range(50):
        cache.remember(*WHO, [reasoning("x" * 1000, content=[{"text": "y" * 1000}]), call(f"call_{number}")])
        assert cache.size_bytes <= 10_000
    kept = [number for number in range(50) if restored(cache, [call(f"call_{number}")])]
    assert kept == list(range(50 - len(kept), 50))
    assert 2 <= len(kept) <= 5  # what is shown of the reasoning counts as well
    cache.remember(*WHO, [reasoning("x" * 20_000), call("huge")])
    assert restored(cache, [call("call_49")])  # one that cannot be kept evicts nobody
    assert not restored(cache, [call("huge")])


# --- the guard (decisions 28-30; its behaviour over HTTP is in test_door)


def test_owners() -> None:
    guard = Guard(ServerSettings(), {"me": "secret-one", "you": "secret-two"})
    assert guard.caller({b"authorization": b"Bearer secret-two"}) == ("you", None)
    assert guard.caller({b"authorization": b"bearer  secret-one "}) == ("me", None)
    for wrong in (b"", b"Bearer", b"Bearer ", b"Bearer secret-on", b"Bearer secret-one2", b"secret-one", b"\xff \xfe"):
        with pytest.raises(RelayError) as caught:
            guard.caller({b"authorization": wrong})
        assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")
        assert "secret" not in caught.value.message
    with pytest.raises(RelayError):
        guard.caller({})


def test_without_keys_the_bearer_is_the_owner_and_goes_on() -> None:
    guard = Guard(ServerSettings(), {})
    assert guard.caller({}) == ("anonymous", None)
    assert guard.caller({b"authorization": b"Basic abc"}) == ("anonymous", None)
    caller = guard.caller({b"authorization": b"Bearer sk-mine"})
    assert caller == (hashlib.sha256(b"sk-mine").hexdigest(), "sk-mine")


@pytest.mark.parametrize(
    ("host", "good"),
    [
        (b"localhost", True),
        (b"LOCALHOST:8000", True),
        (b"127.0.0.1:8000", True),
        (b"[::1]", True),
        (b"[::1]:8000", True),
        (b"box.lan", True),
        (b"BOX.lan:99", True),
        (b"", False),
        (b"0.0.0.0:8000", False),
        (b"169.254.169.254", False),
        (b"127.0.0.1.evil.example", False),
        (b"localhost@evil.example", False),
        (b"evil.example", False),
    ],
)
def test_hosts(host: bytes, good: bool) -> None:
    guard = Guard(ServerSettings(allowed_hosts=("Box.lan",)), {})
    headers = {b"host": host, b"content-type": b"application/json"}
    if good:
        guard.check_browser(headers, "POST")
    else:
        with pytest.raises(RelayError) as caught:
            guard.check_browser(headers, "POST")
        assert caught.value.status == 403


def test_a_unix_socket_needs_no_host() -> None:
    guard = Guard(ServerSettings(uds="/run/relay.sock"), {})
    guard.check_browser({}, "GET")
    with pytest.raises(RelayError):
        guard.check_browser({b"host": b"evil.example"}, "GET")


def test_origins_have_no_slash_at_their_end_and_any_case() -> None:
    guard = Guard(ServerSettings(allowed_origins=("https://App.example/",)), {})
    assert guard.allowed_origin({b"origin": b"https://app.example"}) == b"https://app.example"
    assert guard.allowed_origin({}) is None
    for wrong in (b"https://app.example.evil", b"http://app.example", b"null", b""):
        with pytest.raises(RelayError) as caught:
            guard.allowed_origin({b"origin": wrong})
        assert caught.value.status == 403


# --- truncation


@st.composite
def conversations(draw: Any) -> list[Item]:
    """Paired items as clients send them: outputs anywhere after their calls, developers in between."""
    items: list[Item] = []
    waiting: list[str] = []
    for number in range(draw(st.integers(0, 25))):
        kind = draw(
            st.sampled_from(["user", "user", "assistant", "developer", "system", "call", "output", "reasoning"])
        )
        if kind == "call":
            waiting.append(f"call_{number}")
            items.append(call(waiting[-1]))
        elif kind == "output":
            if waiting:
                items.append(output(waiting.pop(draw(st.integers(0, len(waiting) - 1)))))
        elif kind == "reasoning":
            items.append(reasoning(str(number)))
        else:
            if kind == "user" and draw(st.booleans()):
                items += [output(waiting.pop(0)) for _ in range(len(waiting))]
            items.append(message(kind, str(number)))
    return [*items, *(output(identifier) for identifier in waiting)]


@given(conversations())
def test_truncation_never_splits_a_pair_and_always_ends(items: list[Item]) -> None:
    assert not pairing(items).orphans
    users = [item for item in items if item.get("role") == "user"]
    steps = 0
    while (shorter := without_oldest_turns(items)) is not None:
        assert not pairing(shorter).orphans
        assert len(shorter) < len(items)
        stays = [item for item in items if item.get("role") in ("system", "developer")]
        assert [item for item in shorter if item.get("role") in ("system", "developer")] == stays
        remaining = iter(items)
        assert all(any(item is other for other in remaining) for item in shorter), "the order is kept"
        items = shorter
        steps += 1
    assert steps <= 25
    if users:
        assert users[-1] in items


def test_half_of_the_turns_go() -> None:
    items = [message("system"), *(message(role, str(n)) for n in range(4) for role in ("user", "assistant"))]
    shorter = without_oldest_turns(items)
    assert shorter == [items[0], *items[5:]]
    assert without_oldest_turns([message("user"), message("user"), message("assistant")]) is None
    assert without_oldest_turns([]) is None


# --- compaction


def test_what_a_compaction_sums_up_is_not_said_again() -> None:
    compacted = compaction_fields("m", 'so "far" \u2028 so good')
    items = [message("user", "a"), message("assistant", "b"), call(), output(), compacted, message("user", "c")]
    expanded = expand_compactions(items)
    assert [item["role"] for item in expanded] == ["user", "user", "user"]
    assert expanded[1]["content"][0]["text"].endswith('so "far" \u2028 so good')
    assert expanded[0] is items[0]
    assert expanded[2] is items[-1]
    assert expand_compactions(items[:2]) == items[:2]


def test_only_the_last_of_several_compactions_counts() -> None:
    one, two = compaction_fields("m", "first"), compaction_fields("m", "second")
    expanded = expand_compactions([one, message("user", "a"), two, message("user", "b")])
    texts = [item["content"][0]["text"] for item in expanded]
    assert texts[0] == "a"
    assert texts[1].endswith("second")
    assert texts[2] == "b"


@pytest.mark.parametrize(
    "sealed",
    [
        "gAAAA-of-somebody-else",
        "",
        seal("chat", "m", ['"x"']),
        seal("compaction", "m", []),
        seal("compaction", "m", ['"x"', '"y"']),
        seal("compaction", "m", ["no json"]),
        seal("compaction", "m", ["{}"]),
        compaction_fields("m", "cut off")["encrypted_content"][:-8],
    ],
)
def test_a_compaction_of_somebody_else_is_named(sealed: str) -> None:
    with pytest.raises(RelayError) as caught:
        expand_compactions([message("user"), {"type": "compaction", "encrypted_content": sealed}])
    assert (caught.value.status, caught.value.param) == (400, "input[1].encrypted_content")


def test_thresholds() -> None:
    assert threshold(None) is None
    assert threshold([{"type": "other"}, {"type": "compaction", "compact_threshold": 5}]) == 5
    assert threshold([{"type": "compaction"}]) is None
    for wrong in (0, -1, 1.5, "5", True):
        with pytest.raises(RelayError) as caught:
            threshold([{"type": "compaction", "compact_threshold": wrong}])
        assert caught.value.param == "context_management[0].compact_threshold"


def test_the_estimate_grows_with_the_text() -> None:
    assert estimated_tokens([message("user", "x" * 4000)]) - estimated_tokens([message("user", "")]) == 1000


# --- prompts

TEXT = PromptSettings("greet", "2", "Say {{ word }} to {{name}}.", variables={"word": "hello"})
MESSAGES = PromptSettings(
    "talk",
    messages=(
        {"role": "system", "content": "Be {{mood}}."},
        {"role": "user", "content": [{"type": "input_text", "text": "{{mood}}"}]},
    ),
)
PROMPTS = {"greet": TEXT, "talk": MESSAGES}


def applied(prompt: Any) -> list[Item]:
    return prompt_items(parse({"model": "m", "input": "hi", "prompt": prompt}), PROMPTS)


def test_a_prompt_comes_first_with_its_variables() -> None:
    items = applied({"id": "greet", "version": "2", "variables": {"name": {"type": "input_text", "text": "{{word}}"}}})
    assert [item["role"] for item in items] == ["developer"]
    assert items[0]["content"][0]["text"] == "Say hello to {{word}}."  # what is filled in is not filled again
    items = applied({"id": "greet", "variables": {"name": "you", "word": "bye"}})
    assert items[0]["content"][0]["text"] == "Say bye to you."
    items = applied({"id": "talk", "variables": {"mood": "kind"}})
    assert [item["role"] for item in items] == ["system", "user"]
    assert items[0]["content"][0]["text"] == "Be kind."
    assert prompt_items(parse({"model": "m", "input": "hi"}), PROMPTS) == []


@pytest.mark.parametrize(
    ("prompt", "status", "param"),
    [
        ({"id": "none"}, 404, "prompt.id"),
        ({"id": ["greet"]}, 404, "prompt.id"),
        ({}, 404, "prompt.id"),
        ({"id": "greet", "version": "1"}, 404, "prompt.version"),
        ({"id": "greet"}, 400, "prompt.variables.name"),
        ({"id": "greet", "variables": []}, 400, "prompt.variables.name"),
        ({"id": "greet", "variables": {"name": 5}}, 400, "prompt.variables.name"),
        ({"id": "greet", "variables": "x"}, 400, "prompt.variables"),
    ],
)
def test_prompts_that_do_not_fit(prompt: Any, status: int, param: str) -> None:
    with pytest.raises(RelayError) as caught:
        applied(prompt)
    assert (caught.value.status, caught.value.param) == (status, param)


# --- headers, lines, bodies


@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=300)), max_size=30))
def test_thewarnings_header_is_cut_at_a_whole_entry(warnings: list[tuple[str, str]]) -> None:
    value = warnings_header(warnings)
    assert len(value) < 2048
    ((_, raw),) = encoded([("x-relay-warnings", value)])
    assert all(0x20 <= byte < 0x7F for byte in raw)
    if value:
        entries = value.split(", ")
        assert all(":" in entry for entry in entries)
        assert len(entries) <= len(warnings)


def test_thewarnings_header_holds_all_that_fits() -> None:
    warnings = [(f"tools[{number}]", "a, b") for number in range(10)]
    assert warnings_header(warnings) == ", ".join(f"tools[{number}]:a; b" for number in range(10))
    many = [(f"p{number:03}", "x" * 95) for number in range(40)]
    shown = warnings_header(many).split(", ")
    assert shown == [f"p{number:03}:{'x' * 95}" for number in range(len(shown))]
    assert len(shown) == 20  # 20 entries of 102 bytes are the last under 2 KB


def record(**fields: Any) -> TurnRecord:
    values: dict[str, Any] = {
        "response_id": "resp_1",
        "owner": "f" * 64,
        "upstream": "up",
        "model": "m",
        "transport": "http",
        "end": "completed",
        "attempts": 1,
        "first_s": 0.0123,
        "total_s": 1.5,
        "usage": {"input_tokens": 3, "output_tokens": 4},
    }
    return TurnRecord(**{**values, **fields})


def test_the_access_log_has_one_line_a_turn() -> None:
    line = record().line()
    expected = "http resp_1 model=m upstream=up owner=ffffffffffffffff end=completed attempts=1 in=3 out=4"
    assert line == f"{expected} first_ms=12.3 total_ms=1500.0"
    assert "in=- out=- first_ms=- " in record(usage=None, first_s=None, end="cancelled").line()


def test_a_models_name_cannot_forge_the_access_log() -> None:
    line = record(model="m end=completed\r\nhttp resp_2 \x1b[31m\u2028x").line()
    assert line.isprintable()
    assert Counter(word.split("=")[0] for word in line.split(" ") if "=" in word)["end"] == 1


def test_a_redactor_blanks_every_secret_in_every_word() -> None:
    redactor = Redactor(["relay-secret", "relay-secret-longer", "short"])
    error = RelayError("invalid_request", "not relay-secret-longer, relay-secret", detail="mine-is-this-one", code="x")
    redactor.error(error, "mine-is-this-one")
    assert error.envelope()["error"]["message"] == f"not {HIDDEN}, {HIDDEN}"
    assert str(error) == error.message
    assert error.detail == HIDDEN
    assert Redactor([]).text("short words stay") == "short words stay"
    assert redactor.text("short words stay", "words") == "short words stay"
