"""Forty failures of other relays (pain.md, by its numbers): each is shown not to be ours, here or where a table says.

Through a whole relay on real sockets, over every dialect; the oracle (openai-python's own models and accumulator)
judges the streams.
"""

from __future__ import annotations

import ast
import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from relay.app.turn import TurnRecord
from relay.providers.registry import PROVIDERS
from tests.app.sockets import connected
from tests.app.support import PATHS, Relay, fronting, post, relaying
from tests.app.upstreams import HEAD, Upstream, chunk, first, token, upstream
from tests.oracle import Event, check_error_body, check_response, check_stream, parse_sse
from tests.server.support import Answer, Client
from tests.support import run, until

PAIN = {
    4: "tests/app/test_node_clients.py::test_the_vercel_ai_sdk",
    6: "tests/providers/test_openai_stream.py::test_pain_6_private_events_are_dropped_and_the_rest_renumbered",
    9: "tests/providers/test_chat_request.py::test_pain_9_adjacent_calls_are_one_turn",
    12: "tests/providers/test_chat_request.py::test_pain_12_one_name_map_for_tools_choice_and_history",
    13: "tests/providers/test_anthropic_relay.py::test_a_tool_loop_over_five_turns_keeps_every_signature",
    14: "tests/providers/test_anthropic_messages.py::test_thoughts_go_back_byte_for_byte_in_their_place",
    15: "tests/providers/test_gemini_relay.py::test_five_turns_of_tools_with_signatures",
    16: "tests/providers/test_openai_request.py::test_reasoning_that_the_relay_sealed_for_another_upstream_is_removed",
    17: "tests/responses/test_emitter.py::test_cached_tokens_never_exceed_the_input",
    24: "tests/app/test_leaving.py::test_the_upstream_is_left_at_once",
    25: "tests/app/test_leaving.py::test_the_upstream_is_left_at_once",
    26: "tests/app/test_session.py::test_a_warm_up_is_local_and_its_input_counts",
    27: "tests/app/test_session.py::test_a_warm_up_is_local_and_its_input_counts",
    28: "tests/app/test_codex.py::test_a_large_frame_with_pictures",
    29: "tests/app/test_codex.py::test_a_server_without_websockets_answers_426_and_http_works",
    30: "tests/app/test_session.py::test_at_the_deadline_turns_fail_and_what_waits_is_refused",
    31: "tests/upstream/test_client.py::test_only_a_reused_connection_that_died_untouched_is_retried",
    32: "tests/app/test_codex.py::test_errors_that_codex_tells_apart",
    33: "tests/app/test_session.py::test_the_door",
    34: "tests/app/test_state.py::test_what_cannot_be_continued",
    35: "tests/state/test_store.py::test_size_is_bounded_and_the_oldest_go_first",
    36: "tests/app/test_upstream_state.py::test_a_replay_streams",
    39: "tests/app/test_linearity.py::test_a_whole_turn",
    40: "tests/app/test_state.py::test_nobody_reaches_what_another_made",
}
"""The numbers that other tests show."""

MORE = (
    "tests/app/test_promptness.py::test_each_token_arrives_before_the_next_is_written",  # 39
    "tests/app/test_leaving.py::test_a_client_that_stops_reading_holds_the_upstream",  # 39
    "tests/app/test_state.py::test_what_is_retrieved_is_what_was_answered",  # 36
    "tests/app/test_state.py::test_what_cannot_be_retrieved",  # 36
    "tests/providers/test_gemini_request.py::test_pain_9_parallel_calls_are_one_content_and_their_outputs_too",
    "tests/providers/test_chat_request.py::test_case_40_foreign_reasoning_is_dropped_and_told",  # 16
    "tests/providers/test_openai_request.py::test_vllm_refuses_the_status_of_calls",  # an extra
    "tests/app/test_door.py::test_models_are_listed_under_both_names",  # an extra
    "tests/app/test_door.py::test_default_model",  # an extra
)
REASONS = {
    36: "event logs of background responses come with background mode; a native upstream's replay is passed on",
    40: "hash-pinned dependencies are the installation's; five runtime dependencies are the package's",
}
"""What no test shows, and why."""

EVERY = pytest.mark.parametrize("dialect", sorted(PROVIDERS))
TOOLS = [
    {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}},
    {"type": "function", "name": "now", "parameters": {"type": "object", "properties": {}}},
]
Json = dict[str, Any]


def test_every_number_is_shown_somewhere() -> None:
    here = Path(__file__)
    names = {node.name for node in ast.parse(here.read_text()).body if isinstance(node, ast.FunctionDef)}
    mine = {int(name.split("_")[2]) for name in names if name.startswith("test_pain_")}
    assert mine | set(PAIN) == set(range(1, 41))
    for place in (*PAIN.values(), *MORE):
        file, _, name = place.partition("::")
        tree = ast.parse((here.parents[2] / file).read_text())
        assert any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body), place
    for number, reason in REASONS.items():
        print(f"pain {number}: {reason}")


# --- asking


async def told(port: int, **body: Any) -> Answer:
    client = await Client.connect(port)
    client.write(post({"model": "demo", "input": "One two three.", **body}))
    answer = await client.answer()
    client.leave()
    assert answer.whole
    return answer


async def streamed(port: int, **body: Any) -> list[Event]:
    """The events of a streamed turn, judged by the oracle."""
    answer = await told(port, stream=True, **body)
    assert answer.status == 200, answer.body
    events = parse_sse(answer.body)
    check_stream(events)
    return events


async def created(port: int, **body: Any) -> Json:
    answer = await told(port, **body)
    assert answer.status == 200, answer.body
    response: Json = orjson.loads(answer.body)
    check_response(response)
    return response


def without_ids(value: Any) -> Any:
    """A Response as far as two runs of one request agree."""
    if isinstance(value, dict):
        skipped = ("id", "call_id", "created_at", "completed_at", "encrypted_content")
        return {name: without_ids(inner) for name, inner in value.items() if name not in skipped}
    return [without_ids(inner) for inner in value] if isinstance(value, list) else value


# --- A. order and shape

SHAPES: list[tuple[str, Json]] = [
    ("demo", {}),
    ("demo-nodone", {}),
    ("demo-nousage", {}),
    ("demo-crlf-ping", {}),
    ("demo-trickle", {}),
    ("demo-json", {}),
    ("demo-think", {"reasoning": {"effort": "low", "summary": "auto"}}),
    ("demo-refuse", {}),
    ("demo-cite", {}),
    ("demo-parallel", {"tools": TOOLS}),
    ("demo-think-parallel", {"tools": TOOLS, "reasoning": {"effort": "low", "summary": "auto"}}),
    ("demo-tokens-100", {"max_output_tokens": 16}),
]


@EVERY
@pytest.mark.parametrize(("model", "body"), SHAPES, ids=[model for model, _ in SHAPES])
def test_pain_01_every_stream_announces_and_ends_all_it_says(dialect: str, model: str, body: Json) -> None:
    """1-3 and 5: the oracle holds order, numbers, indexes and ids; the JSON answer is the stream's final Response."""

    async def ask() -> None:
        async with relaying(dialect) as relay:
            events = await streamed(relay.port, model=model, **body)
            final = events[-1]["response"]
            assert without_ids(await created(relay.port, model=model, **body)) == without_ids(final)
            names = [event["type"] for event in events]
            assert names[:2] == ["response.created", "response.in_progress"]
            assert [event["sequence_number"] for event in events] == list(range(len(events)))

    run(ask())


@EVERY
def test_pain_02_items_are_done_in_the_order_of_their_indexes(dialect: str) -> None:
    async def ask() -> None:
        async with relaying(dialect) as relay:
            events = await streamed(relay.port, model="demo-think-parallel", tools=TOOLS)
            done = [event for event in events if event["type"] == "response.output_item.done"]
            assert [event["output_index"] for event in done] == list(range(len(done)))
            assert [event["item"] for event in done] == events[-1]["response"]["output"]
            assert len(done) >= 3

    run(ask())


@EVERY
def test_pain_03_an_id_is_minted_once(dialect: str) -> None:
    async def ask() -> None:
        async with relaying(dialect) as relay:
            for model in ("demo-think", "demo-parallel"):
                events = await streamed(relay.port, model=model, tools=TOOLS)
                ids: dict[int, set[str]] = {}
                for event in events:
                    if "output_index" in event:
                        ids.setdefault(event["output_index"], set()).add(event.get("item_id") or event["item"]["id"])
                assert all(len(found) == 1 for found in ids.values())
                assert len(set.union(*ids.values())) == len(ids)

    run(ask())


@EVERY
def test_pain_05_a_native_streams_numbers_have_no_gaps(dialect: str) -> None:
    """Also where events of the upstream are dropped and inserted: its numbers jump here."""

    async def speak(one: Upstream) -> None:
        parts = first(dialect) + token(dialect, "a", 3) + token(dialect, "b", 7) + token(dialect, "c", 7)
        one.write(HEAD + chunk(parts) + chunk(ENDS[dialect]) + b"0\r\n\r\n")

    async def ask() -> None:
        async with scripted(dialect, speak) as relay:
            events = await streamed(relay.port)
            assert [event["sequence_number"] for event in events] == list(range(len(events)))
            deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
            assert "".join(deltas) == "abc"

    run(ask())


# --- scripted upstreams


def _sse(name: str | None, content: Json) -> bytes:
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + orjson.dumps(content) + b"\n\n"


def _chat(delta: Json, finish: str | None = None) -> bytes:
    return _sse(None, {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


_COMPLETED = {"id": "resp_up", "object": "response", "status": "completed", "output": [], "usage": None}
ENDS = {
    "chat": _chat({}, "stop") + b"data: [DONE]\n\n",
    "responses": _sse(None, {"type": "response.completed", "response": _COMPLETED, "sequence_number": 999}),
    "anthropic": _sse("content_block_stop", {"type": "content_block_stop", "index": 0})
    + _sse(
        "message_delta", {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}
    )
    + _sse("message_stop", {"type": "message_stop"}),
    "gemini": _sse(None, {"candidates": [{"content": {"parts": []}, "finishReason": "STOP", "index": 0}]}),
}


@asynccontextmanager
async def scripted(dialect: str, speak: Callable[[Upstream], Any], **options: Any) -> AsyncIterator[Relay]:
    """A relay whose upstream does what ``speak`` says, once."""
    async with upstream() as one:
        url = f"http://127.0.0.1:{one.port}{PATHS[dialect]}"
        async with fronting(dialect, url, **options) as relay:

            async def wait() -> None:
                await one.asked.wait()
                await speak(one)

            waiting = asyncio.create_task(wait())
            try:
                yield relay
            finally:
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)


@pytest.mark.parametrize("dialect", sorted(set(PROVIDERS) - {"gemini"}))  # gemini's end is that of its connection
@pytest.mark.parametrize("stream", [True, False])
def test_pain_07_the_terminal_event_ends_the_turn(stream: bool, dialect: str) -> None:
    """The upstream says its last and then nothing: no end of the body, no FIN."""

    async def speak(one: Upstream) -> None:
        one.write(HEAD + chunk(first(dialect) + token(dialect, "Hi", 0) + ENDS[dialect]))

    async def ask() -> None:
        async with scripted(dialect, speak) as relay:
            async with asyncio.timeout(2):
                answer = await told(relay.port, stream=stream)
            assert answer.status == 200
            assert b'"status":"completed"' in answer.body

    run(ask())


# --- B. tools


def test_pain_08_several_calls_in_one_chunk() -> None:
    """Two entries in one chunk, one of them without arguments."""
    one_call = {"index": 0, "id": "call_a", "type": "function", "function": {"name": "look", "arguments": '{"at":"x"}'}}
    other = {"index": 1, "id": "call_b", "type": "function", "function": {"name": "now", "arguments": ""}}

    async def speak(one: Upstream) -> None:
        calls = _chat({"role": "assistant", "tool_calls": [one_call, other]}) + _chat({}, "tool_calls")
        one.write(HEAD + chunk(calls + b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async def ask() -> None:
        async with scripted("chat", speak) as relay:
            events = await streamed(relay.port, tools=TOOLS)
            output = events[-1]["response"]["output"]
            assert [(item["call_id"], item["name"], item["arguments"]) for item in output] == [
                ("call_a", "look", '{"at":"x"}'),
                ("call_b", "now", "{}"),
            ]

    run(ask())


@EVERY
def test_pain_08_parallel_calls_of_every_dialect(dialect: str) -> None:
    async def ask() -> None:
        async with relaying(dialect) as relay:
            model = "demo-parallel-sameindex" if dialect == "chat" else "demo-parallel"
            output = (await streamed(relay.port, model=model, tools=TOOLS))[-1]["response"]["output"]
            calls = [item for item in output if item["type"] == "function_call"]
            assert [call["name"] for call in calls] == ["look", "now"]
            assert len({call["call_id"] for call in calls}) == 2
            assert all(isinstance(orjson.loads(call["arguments"]), dict) for call in calls)

    run(ask())


@EVERY
def test_pain_09_parallel_calls_go_back_as_one_turn(dialect: str) -> None:
    """The demo upstreams check what their vendors check: each call answered, right behind the turn that made them."""

    async def ask() -> None:
        async with relaying(dialect) as relay:
            asked = {"model": "demo-parallel", "tools": TOOLS}
            one = await created(relay.port, input="Look.", **asked)
            calls = [item for item in one["output"] if item["type"] == "function_call"]
            outputs = [{"type": "function_call_output", "call_id": c["call_id"], "output": "seen"} for c in calls]
            window = [{"role": "user", "content": "Look."}, *one["output"], *reversed(outputs)]
            two = await created(relay.port, input=window, **asked)
            assert two["output"][-1]["type"] == "message"

    run(ask())


def test_pain_10_a_late_fragment_goes_to_its_own_call() -> None:
    """The tail of a call comes after reasoning and text have begun."""
    start = {"index": 0, "id": "call_a", "type": "function", "function": {"name": "look", "arguments": '{"at":'}}
    chunks = [
        _chat({"reasoning_content": "Hm."}),
        _chat({"tool_calls": [start]}),
        _chat({"reasoning_content": " Well."}),
        _chat({"content": "Looking."}),
        _chat({"tool_calls": [{"index": 0, "function": {"arguments": '"x"}'}}]}),
        _chat({"content": " Done."}),
        _chat({}, "tool_calls"),
    ]

    async def speak(one: Upstream) -> None:
        one.write(HEAD + b"".join(map(chunk, chunks)) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async def ask() -> None:
        async with scripted("chat", speak) as relay:
            events = await streamed(relay.port, tools=TOOLS)
            output = events[-1]["response"]["output"]
            (call,) = (item for item in output if item["type"] == "function_call")
            assert (call["call_id"], call["arguments"]) == ("call_a", '{"at":"x"}')
            said = [part["text"] for item in output if item["type"] == "message" for part in item["content"]]
            assert "".join(said) == "Looking. Done."

    run(ask())


PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "x"'},
}


@EVERY
def test_pain_11_a_custom_tool_stays_one(dialect: str) -> None:
    async def ask() -> None:
        async with relaying(dialect) as relay:
            events = await streamed(relay.port, tools=[PATCH], tool_choice={"type": "custom", "name": "apply_patch"})
            (call,) = (item for item in events[-1]["response"]["output"] if item["type"].endswith("_call"))
            assert (call["type"], call["name"]) == ("custom_tool_call", "apply_patch")
            deltas = [e["delta"] for e in events if e["type"] == "response.custom_tool_call_input.delta"]
            assert "".join(deltas) == call["input"] != ""
            assert not any(e["type"].startswith("response.function_call") for e in events)
            output = {"type": "custom_tool_call_output", "call_id": call["call_id"], "output": "applied"}
            window = [{"role": "user", "content": "Patch."}, call, output]
            after = await created(relay.port, tools=[PATCH], input=window)
            assert after["output"][-1]["type"] == "message"

    run(ask())


# --- D. usage


@EVERY
def test_pain_17_cached_tokens_are_part_of_the_input(dialect: str) -> None:
    async def ask() -> None:
        async with relaying(dialect) as relay:
            usage = (await created(relay.port, input="word " * 500))["usage"]
            assert usage["input_tokens_details"]["cached_tokens"] <= usage["input_tokens"]
            assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
            assert usage["input_tokens"] > 0

    run(ask())


@EVERY
def test_pain_18_each_turn_is_accounted_on_both_transports(dialect: str) -> None:
    records: list[TurnRecord] = []

    async def ask() -> None:
        async with relaying(dialect, on_record=records.append) as relay:
            final = (await streamed(relay.port))[-1]["response"]
            async with connected(relay.port) as socket:
                shown = await socket.completed(model="demo", input="One two three.")
            await until(lambda: len(records) == 2)
            assert [record.transport for record in records] == ["http", "websocket"]
            assert records[0].usage == final["usage"]
            assert records[1].usage == shown["usage"]
            assert all(record.usage is not None and record.usage["output_tokens"] > 0 for record in records)

    run(ask())


@pytest.mark.parametrize("dialect", sorted(set(PROVIDERS) & {"anthropic", "gemini"}))
def test_pain_19_a_client_that_leaves_costs_what_is_known(dialect: str) -> None:
    """Anthropic and Gemini count while they speak."""
    records: list[TurnRecord] = []

    async def ask() -> None:
        async with relaying(dialect, on_record=records.append) as relay:
            client = await Client.connect(relay.port)
            client.write(post({"model": "demo-stall-3", "input": "One two three four five.", "stream": True}))
            await client.reader.readuntil(b"response.output_text.delta")
            client.reset()
            await until(lambda: records)
            assert records[0].end == "cancelled"
            assert records[0].usage is not None
            assert records[0].usage["input_tokens"] > 0

    run(ask())


# --- E. errors and endings

FAILING = ["demo-error-2-pace-200", "demo-cut-2-pace-200", "demo-nofinish"]


@EVERY
@pytest.mark.parametrize("model", FAILING)
def test_pain_20_a_failure_inside_is_one_response_failed(dialect: str, model: str) -> None:
    """20-22: the response's id, the next number, no ``error`` event, the text so far; the oracle holds the rest."""

    async def ask() -> None:
        async with relaying(dialect) as relay:
            events = await streamed(relay.port, model=model, input="one two three four five six")
            last = events[-1]
            assert last["type"] == "response.failed"
            assert last["response"]["id"] == events[0]["response"]["id"]
            assert last["response"]["status"] == "failed"
            assert last["response"]["error"]["message"]
            assert "error" not in {event["type"] for event in events}
            said = "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
            kept = [part["text"] for item in last["response"]["output"] for part in item.get("content", [])]
            assert "".join(kept) == said != ""
            if (dialect, model) != ("responses", "demo-nofinish"):  # a body of a native upstream has no end to miss
                answer = await told(relay.port, model=model)
                assert answer.status >= 500
                check_error_body(orjson.loads(answer.body))

    run(ask())


@EVERY
def test_pain_21_on_a_socket_too(dialect: str) -> None:
    async def ask() -> None:
        async with relaying(dialect) as relay, connected(relay.port) as socket:
            for model in FAILING:
                last = await socket.turn(model=model, input="one two three four five six")
                assert last["type"] == "response.failed"
            await socket.completed(model="demo", input="Still there?")

    run(ask())


NOTHING = [
    "demo-cut",
    "demo-error",
    "demo-empty",
    "demo-garbage",
    "demo-html",
    "demo-overload200",
    "demo-fail-500",
    "demo-fail-429",
    "demo-fail-400",
]


@EVERY
@pytest.mark.parametrize("model", NOTHING)
@pytest.mark.parametrize("stream", [True, False])
def test_pain_22_no_failure_becomes_an_empty_success(dialect: str, model: str, stream: bool) -> None:
    async def ask() -> None:
        async with relaying(dialect) as relay:
            answer = await told(relay.port, model=model, stream=stream)
            if answer.status == 200:
                events = parse_sse(answer.body)
                check_stream(events)
                assert events[-1]["type"] == "response.failed"
            else:
                assert answer.status >= 400
                check_error_body(orjson.loads(answer.body))
                assert b"Traceback" not in answer.body

    run(ask())


FILTERED = {
    "chat": _chat({}, "content_filter") + b"data: [DONE]\n\n",
    "responses": _sse(
        None,
        {
            "type": "response.incomplete",
            "response": {**_COMPLETED, "status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            "sequence_number": 999,
        },
    ),
    "anthropic": ENDS["anthropic"].replace(b"end_turn", b"refusal"),
    "gemini": ENDS["gemini"].replace(b"STOP", b"SAFETY"),
}
CUT = {
    "chat": _chat({}, "length") + b"data: [DONE]\n\n",
    "responses": FILTERED["responses"].replace(b"content_filter", b"length"),
    "anthropic": ENDS["anthropic"].replace(b"end_turn", b"max_tokens"),
    "gemini": ENDS["gemini"].replace(b"STOP", b"MAX_TOKENS"),
}


@EVERY
@pytest.mark.parametrize(("ends", "reason"), [(FILTERED, "content_filter"), (CUT, "max_output_tokens")])
def test_pain_23_incomplete_says_why(dialect: str, ends: dict[str, bytes], reason: str) -> None:
    async def speak(one: Upstream) -> None:
        one.write(HEAD + chunk(first(dialect) + token(dialect, "Hi", 0) + ends[dialect]) + b"0\r\n\r\n")

    async def ask() -> None:
        async with scripted(dialect, speak) as relay:
            last = (await streamed(relay.port))[-1]
            assert last["type"] == "response.incomplete"
            assert last["response"]["status"] == "incomplete"
            assert last["response"]["incomplete_details"] == {"reason": reason}

    run(ask())


# --- I. multimodal and structured

PDF = "data:application/pdf;base64,JVBERi0xLjQKY2FuYXJ5"
PNG = "data:image/png;base64,iVBORw0KGgoAY2FuYXJ5"


@EVERY
@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_file", "filename": "a.pdf", "file_data": PDF},
        {"type": "input_image", "image_url": PNG, "detail": "auto"},
        {"type": "input_image", "image_url": "gs://bucket/a.png", "detail": "auto"},
        {"type": "input_audio", "input_audio": {"data": "Y2FuYXJ5Y2FuYXJ5", "format": "wav"}},
        {"type": "input_file", "file_id": "file-1"},
    ],
    ids=["file", "image", "gs", "audio", "file_id"],
)
@pytest.mark.parametrize("place", ["message", "output"])
def test_pain_37_a_part_arrives_or_is_refused_by_its_name(dialect: str, part: Json, place: str) -> None:
    async def ask() -> None:
        async with relaying(dialect) as relay:
            text = {"type": "input_text", "text": "See:"}
            window: list[Json] = [{"role": "user", "content": [text, part] if place == "message" else "Go."}]
            if place == "output":
                call = {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"}
                window += [call, {"type": "function_call_output", "call_id": "call_1", "output": [text, part]}]
            answer = await told(relay.port, input=window, tools=TOOLS)
            if answer.status == 200:
                content = part.get("file_data") or part.get("image_url") or part.get("file_id") or "Y2FuYXJ5Y2FuYXJ5"
                assert content.rpartition(",")[2].encode() in relay.demo.requests[-1].body
            else:
                error = orjson.loads(answer.body)["error"]
                assert answer.status == 400
                assert error["param"].startswith("input[0].content[1]" if place == "message" else "input[2].output[1]")

    run(ask())


@EVERY
@pytest.mark.parametrize("strict", [True, False, None])
def test_pain_38_a_schema_reaches_the_model(dialect: str, strict: bool | None) -> None:
    schema = {
        "type": "object",
        "properties": {"canary": {"type": "string"}},
        "required": ["canary"],
        "additionalProperties": False,
    }
    form: Json = {"type": "json_schema", "name": "shape", "schema": schema}
    if strict is not None:
        form["strict"] = strict

    async def ask() -> None:
        async with relaying(dialect) as relay:
            response = await created(relay.port, text={"format": form})
            assert set(orjson.loads(response["output"][-1]["content"][0]["text"])) == {"canary"}
            body = orjson.loads(relay.demo.requests[-1].body)
            assert b"canary" in relay.demo.requests[-1].body
            if dialect == "chat":
                assert body["response_format"]["json_schema"].get("strict") == strict
            if dialect == "responses":
                assert body["text"]["format"].get("strict") == strict

    run(ask())


# --- the extras


@EVERY
def test_pain_40_what_a_strict_decoder_would_refuse_is_tolerated(dialect: str) -> None:
    """Codex's private fields, follow-ups without a model."""

    async def ask() -> None:
        async with relaying(dialect, server={"default_model": "demo"}) as relay:
            private = {"client_metadata": {"x": 1}, "unknown_field": [1, 2], "prompt_cache_key": "k"}
            response = await created(relay.port, **private)
            assert response["status"] == "completed"
            client = await Client.connect(relay.port)
            client.write(post({"input": "hi"}))
            assert (await client.answer()).status == 200
            client.leave()

    run(ask())
