"""A WebSocket session by its rules: lanes, limits, memory, warm-ups, messages, endings (decisions 30-38)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from relay.app.session import SocketLimits
from tests.app.gated import Gated, gated
from tests.app.sockets import TERMINAL, Socket, connected, text_of
from tests.app.support import Relay, relaying
from tests.server.support import Client, serving
from tests.support import run, until

SERVERS = ["ours", "uvicorn"]
EVERY = pytest.mark.parametrize("server", SERVERS)
ORPHAN = [{"type": "function_call_output", "call_id": "call_missing", "output": "x"}]


def on_socket(body: Callable[[Socket, Relay], Awaitable[None]], *, server: str = "ours", **options: Any) -> None:
    """``body`` on a fresh session of a fresh relay before the demo."""

    async def served() -> None:
        async with relaying(foreign=server == "uvicorn", **options) as relay, connected(relay.port) as socket:
            await body(socket, relay)

    run(served())


def on_gate(body: Callable[[Socket, Relay, Gated], Awaitable[None]], *, server: str = "ours") -> None:
    async def served() -> None:
        async with gated(foreign=server == "uvicorn") as (relay, gate), connected(relay.port) as socket:
            await body(socket, relay, gate)

    run(served())


async def is_there(socket: Socket, identifier: str, **fields: Any) -> bool:
    """Whether a response can be continued; asked from a lane of its own, so that asking evicts nothing."""
    last = await socket.turn(input="There?", previous_response_id=identifier, stream_id="probe", **fields)
    if last["type"] == "response.completed":
        return True
    assert last["error"]["code"] == "previous_response_not_found"
    assert last["status"] == 400
    assert last["error"]["param"] == "previous_response_id"
    assert last["error"]["type"] == "invalid_request_error"
    assert identifier in last["error"]["message"]
    return False


# ------------------------------------------------------------------------------------------------ turns


@EVERY
def test_a_conversation_sends_only_what_is_new(server: str) -> None:
    async def talk(socket: Socket, relay: Relay) -> None:
        first = await socket.completed(input="The code word is plum.")
        second = await socket.completed(input="Again?", previous_response_id=first["id"])
        assert second["previous_response_id"] == first["id"]
        third = await socket.completed(input="And again?", previous_response_id=second["id"])
        assert text_of(third) == "And again?"
        asked = orjson.loads(relay.demo.requests[-1].body)["messages"]
        assert [message["content"] for message in asked] == [
            "The code word is plum.",
            "The code word is plum.",
            "Again?",
            "Again?",
            "And again?",
        ]

    on_socket(talk, server=server)


@EVERY
def test_events_are_numbered_per_response_and_there_is_no_done(server: str) -> None:
    async def follow(socket: Socket, relay: Relay) -> None:
        for _ in range(2):
            await socket.create(input="One two three.")
            events = await socket.events()
            assert [event["sequence_number"] for event in events] == list(range(len(events)))
            assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
            assert "stream_id" not in events[0]

    on_socket(follow, server=server)


@EVERY
def test_what_clients_send_too_is_ignored(server: str) -> None:
    """responses-api.md §5.3: Codex and openai-agents say ``stream: true``, and more."""

    async def ask(socket: Socket, relay: Relay) -> None:
        extra = {
            "stream": True,
            "stream_options": {"reasoning_summary_delivery": "sequential_cutoff"},
            "client_metadata": {"x-codex-turn-metadata": "{}"},
            "background": False,
            "whatever": {"is": "new"},
        }
        response = await socket.completed(input="Hello there.", **extra)
        assert text_of(response) == "Hello there."
        await socket.send({"type": "response.processed", "response_id": response["id"]})
        await socket.completed(input="Next.")

    on_socket(ask, server=server)


@pytest.mark.parametrize(
    ("fields", "param"), [({"background": True}, "background"), ({"conversation": "conv_1"}, "conversation")]
)
def test_what_this_round_does_not_have(fields: dict[str, Any], param: str) -> None:
    async def ask(socket: Socket, relay: Relay) -> None:
        error = await socket.refused(input="Hello.", **fields)
        assert (error["status"], error["code"], error["param"]) == (400, "unsupported_parameter", param)
        await socket.completed(input="Hello.")

    on_socket(ask)


@EVERY
@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "invalid_json"),
        ("", "invalid_json"),
        ("[]", "invalid_type"),
        ('"response.create"', "invalid_type"),
        ("{}", "invalid_type"),
        ('{"type": 5}', "invalid_type"),
        ('{"type": "response.append", "input": []}', "unknown_event_type"),
        ('{"type": "response.cancel"}', "unknown_event_type"),
        (b"\x00\x01", "invalid_message"),
        (b'{"type": "response.create"}', "invalid_message"),
        ('{"type": "response.create", "input": "hi", "model": 5}', "invalid_type"),
        ('{"type": "response.create", "input": "hi"}', "missing_required_parameter"),
        ('{"type": "response.create", "model": "demo"}', "missing_required_parameter"),
        ('{"type": "response.create", "model": "demo", "input": "hi", "temperature": 9}', "invalid_value"),
    ],
)
def test_what_is_wrong_gets_the_envelope_and_the_socket_stays(message: str | bytes, code: str, server: str) -> None:
    async def ask(socket: Socket, relay: Relay) -> None:
        await socket.connection.send(message)
        answer = await socket.event()
        assert answer["type"] == "error"
        assert answer["status"] == 400
        assert answer["error"]["code"] == code
        assert answer["error"]["type"] == "invalid_request_error"
        assert isinstance(answer["error"]["message"], str)
        assert "stream_id" not in answer
        await socket.completed(input="Hello.")

    on_socket(ask, server=server)


def test_an_upstreams_refusal_is_one_envelope() -> None:
    async def ask(socket: Socket, relay: Relay) -> None:
        last = await socket.turn(input="Hello.", model="demo-fail-429", stream_id="a")
        assert (last["type"], last["status"], last["stream_id"]) == ("error", 429, "a")
        assert last["error"]["code"] == "rate_limit_exceeded"
        assert last["headers"] == last["error"]["headers"]
        assert last["headers"]["retry-after"] == "1"
        last = await socket.turn(input="Hello.", model="demo-error-2")
        assert last["type"] == "response.failed"
        assert last["response"]["error"]["code"]
        await socket.completed(input="Hello.")

    on_socket(ask)


def test_pings_are_answered_while_a_turn_runs() -> None:
    async def ping(socket: Socket, relay: Relay) -> None:
        await socket.create(input="Hello.", model="demo-stall-headers")
        await until(lambda: relay.demo.active)
        async with asyncio.timeout(1):
            await (await socket.connection.ping())

    on_socket(ping)


# ------------------------------------------------------------------------------------------------ lanes


@EVERY
def test_lanes_run_side_by_side_and_name_their_events(server: str) -> None:
    async def talk(socket: Socket, relay: Relay, gate: Gated) -> None:
        for lane in ("a", "b", None):
            fields = {} if lane is None else {"stream_id": lane}
            await socket.create(input=f"hold {lane}", **fields)
        await until(lambda: gate.running == {"hold a", "hold b", "hold None"})
        gate.open("hold b")
        ends = []
        while len(ends) < 3:
            event = await socket.event()
            if event["type"] == "response.completed":
                text = text_of(event["response"])
                ends.append(text)
                assert event.get("stream_id", "None") == text.split()[1]
                assert ("stream_id" in event) == (event.get("stream_id") is not None)
                gate.open("hold None" if len(ends) == 1 else "hold a")
        assert ends == ["hold b ", "hold None ", "hold a "]

    on_gate(talk, server=server)


@EVERY
def test_a_lane_is_first_in_first_out(server: str) -> None:
    async def talk(socket: Socket, relay: Relay, gate: Gated) -> None:
        for number in range(4):
            await socket.create(input=f"hold {number}", stream_id="a")
        await socket.create(input="in between", stream_id="b")
        for number in range(4):
            await until(lambda: gate.running)
            assert gate.running == {f"hold {number}"}
            ended = f"hold {number}"
            gate.open(ended)
            await until(lambda ended=ended: ended not in gate.running)  # type: ignore[misc]
        texts = []
        while len(texts) < 5:
            event = await socket.event()
            if event["type"] == "response.completed":
                texts.append(text_of(event["response"]))
        assert [text for text in texts if text.startswith("hold")] == [f"hold {number} " for number in range(4)]

    on_gate(talk, server=server)


def test_sixteen_run_and_the_seventeenth_waits() -> None:
    async def talk(socket: Socket, relay: Relay, gate: Gated) -> None:
        for number in range(18):
            await socket.create(input=f"silent {number}", stream_id=f"l{number}")
        await until(lambda: len(gate.running) == 16)
        await (await socket.connection.ping())  # all creates were read
        assert len(gate.running) == 16
        gate.open("silent 7")
        last = (await socket.events())[-1]
        assert last["stream_id"] == "l7"
        await until(lambda: "silent 16" in gate.running)
        gate.open("silent 0")
        await until(lambda: "silent 17" in gate.running)
        assert gate.most == 16

    on_gate(talk)


def test_thirty_two_names() -> None:
    async def talk(socket: Socket, relay: Relay) -> None:
        for number in range(32):
            await socket.completed(input="Hi.", stream_id=f"l{number}")
        last = await socket.turn(input="Hi.", stream_id="l32")
        assert last["error"]["code"] == "websocket_stream_limit_reached"
        assert (last["status"], last["error"]["param"], last["stream_id"]) == (400, "stream_id", "l32")
        await socket.completed(input="Hi.", stream_id="l31")
        await socket.completed(input="Hi.")

    on_socket(talk)


@pytest.mark.parametrize("name", ["", "a b", "x" * 257, 5, None, ["a"]])
def test_a_wrong_name_is_not_echoed(name: Any) -> None:
    async def talk(socket: Socket, relay: Relay) -> None:
        last = await socket.turn(input="Hi.", stream_id=name)
        assert (last["error"]["code"], last["error"]["param"], last["status"]) == (
            "invalid_stream_id",
            "stream_id",
            400,
        )
        assert "stream_id" not in last
        await socket.completed(input="Hi.")

    on_socket(talk)


def test_sixty_four_wait() -> None:
    async def talk(socket: Socket, relay: Relay, gate: Gated) -> None:
        for number in range(66):
            await socket.create(input=f"silent {number}", stream_id="a")
        last = (await socket.events())[-1]
        assert (last["status"], last["error"]["code"], last["stream_id"]) == (429, "websocket_queue_full", "a")
        await socket.create(input="meanwhile", stream_id="b")
        assert text_of((await socket.events())[-1]["response"]) == "meanwhile "
        gate.open(*(f"silent {number}" for number in range(65)))
        for number in range(65):
            assert text_of((await socket.events())[-1]["response"]) == f"silent {number} "

    on_gate(talk)


def test_one_body_limit_of_bytes_waits() -> None:
    async def talk(socket: Socket, relay: Relay) -> None:
        await socket.create(input="Hello.", model="demo-stall-headers")
        await until(lambda: relay.demo.active)
        for _ in range(2):
            await socket.create(input="x" * 30_000)
        assert (await socket.event())["error"]["code"] == "websocket_queue_full"

    async def served() -> None:
        async with relaying(server={"max_body_bytes": 50_000}) as relay, connected(relay.port) as socket:
            await talk(socket, relay)
            await socket.create(input="x" * 60_000)
            assert await socket.closed() == 1009

    run(served())


def test_one_lanes_error_leaves_the_others_alone() -> None:
    async def talk(socket: Socket, relay: Relay, gate: Gated) -> None:
        await socket.create(input="hold me", stream_id="a")
        await until(lambda: gate.running)
        last = await socket.turn(input="Hi.", stream_id="b", temperature=9)
        while last["type"] != "error":
            last = await socket.event()
        assert last["stream_id"] == "b"
        gate.open("hold me")
        assert (await socket.events())[-1]["stream_id"] == "a"

    on_gate(talk)


# ------------------------------------------------------------------------------------------------ memory


@EVERY
def test_only_the_last_response_of_a_lane(server: str) -> None:
    async def talk(socket: Socket, relay: Relay) -> None:
        first = await socket.completed(input="One.")
        second = await socket.completed(input="Two.", previous_response_id=first["id"])
        assert not await is_there(socket, first["id"])
        assert await is_there(socket, second["id"])
        await socket.completed(input="A fresh start.")
        assert not await is_there(socket, second["id"])

    on_socket(talk, server=server)


FILE = [{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]
FAILURES = [
    ("an output without its call", {"input": ORPHAN}, True),
    ("the upstream's 400", {"model": "demo-fail-400"}, True),
    ("the upstream's 429", {"model": "demo-fail-429"}, True),
    ("the upstream's 500", {"model": "demo-fail-500"}, True),
    ("a stream that breaks", {"model": "demo-cut-2"}, True),
    ("an error in the stream", {"model": "demo-error-2"}, True),
    ("an invalid field", {"temperature": 9}, False),
    ("an item that is none", {"input": [{"type": "message", "role": "nobody", "content": "x"}]}, False),
    ("a field that the upstream cannot have", {"background": True}, False),
    ("a file id, found after the parent", {"input": FILE}, False),
    ("a tool that no upstream runs", {"tools": [{"type": "mcp", "server_label": "x"}]}, False),
    ("an item that is not there", {"input": [{"type": "item_reference", "id": "msg_missing"}]}, False),
    ("a warm-up", {"input": ORPHAN, "generate": False}, False),
]  # fmt: skip


@EVERY
@pytest.mark.parametrize(("name", "fields", "gone"), FAILURES, ids=[row[0] for row in FAILURES])
def test_what_a_failed_continuation_costs(name: str, fields: dict[str, Any], gone: bool, server: str) -> None:
    async def talk(socket: Socket, relay: Relay) -> None:
        parent = (await socket.completed(input="One."))["id"]
        last = await socket.turn(**{"input": "Two.", "previous_response_id": parent, **fields})
        assert last["type"] in ("error", "response.failed")
        again = await socket.turn(input="Three.", previous_response_id=parent)
        if gone:
            assert again["error"]["code"] == "previous_response_not_found"
        else:
            assert again["type"] == "response.completed"

    on_socket(talk, server=server)


@pytest.mark.parametrize(("name", "fields", "gone"), FAILURES, ids=[row[0] for row in FAILURES])
def test_a_failed_fork_costs_nothing(name: str, fields: dict[str, Any], gone: bool) -> None:
    async def talk(socket: Socket, relay: Relay) -> None:
        parent = (await socket.completed(input="One."))["id"]
        last = await socket.turn(**{"input": "Two.", "previous_response_id": parent, "stream_id": "fork", **fields})
        assert last["type"] in ("error", "response.failed")
        await socket.completed(input="Three.", previous_response_id=parent)

    on_socket(talk)


def test_a_key_that_the_upstream_refuses_costs_nothing() -> None:
    """401, where the key is the client's own."""

    async def talk() -> None:
        async with relaying(upstream={"api_key": None}) as relay, connected(relay.port, key="mine") as socket:
            parent = (await socket.completed(input="One."))["id"]
            error = await socket.refused(input="Two.", previous_response_id=parent, model="demo-fail-401")
            assert error["status"] == 401
            await socket.completed(input="Three.", previous_response_id=parent)

    run(talk())


def test_a_full_queue_costs_nothing() -> None:
    async def talk(socket: Socket, relay: Relay, gate: Gated) -> None:
        await socket.create(input="one")
        parent = (await socket.events())[-1]["response"]["id"]
        for number in range(66):
            await socket.create(input=f"silent {number}", stream_id="a", previous_response_id=parent)
        assert (await socket.events())[-1]["error"]["code"] == "websocket_queue_full"
        await socket.completed(input="two", previous_response_id=parent)

    on_gate(talk)


def test_incomplete_is_kept_and_failed_is_not() -> None:
    async def talk(socket: Socket, relay: Relay) -> None:
        last = await socket.turn(input="One two three four five.", max_output_tokens=2)
        assert last["type"] == "response.incomplete"
        assert await is_there(socket, last["response"]["id"])
        last = await socket.turn(input="One.", model="demo-error-2")
        assert last["type"] == "response.failed"
        assert not await is_there(socket, last["response"]["id"])

    on_socket(talk)


@EVERY
def test_a_queued_fork_pins_its_parent(server: str) -> None:
    async def talk(socket: Socket, relay: Relay, gate: Gated) -> None:
        await socket.create(input="the beginning", stream_id="a")
        parent = (await socket.events())[-1]["response"]["id"]
        await socket.create(input="silent b", stream_id="b")
        await socket.create(input="the fork", stream_id="b", previous_response_id=parent)
        await until(lambda: gate.running)
        await socket.create(input="the trunk", stream_id="a", previous_response_id=parent)
        trunk = (await socket.events())[-1]
        assert trunk["stream_id"] == "a"
        gate.open("silent b")
        assert (await socket.events())[-1]["stream_id"] == "b"
        fork = (await socket.events())[-1]
        assert fork["response"]["previous_response_id"] == parent
        assert gate.texts("the fork")[0] == "the beginning"
        assert not await is_there(socket, parent)
        await socket.completed(input="on and on", stream_id="a", previous_response_id=trunk["response"]["id"])

    on_gate(talk, server=server)


def test_a_running_id_is_looked_up_when_its_turn_comes() -> None:
    async def talk(socket: Socket, relay: Relay, gate: Gated) -> None:
        await socket.create(input="hold a", stream_id="a")
        created = await socket.event()
        running = created["response"]["id"]
        await socket.create(input="too early", stream_id="c", previous_response_id=running)
        await socket.create(input="silent b", stream_id="b")
        await socket.create(input="in time", stream_id="b", previous_response_id=running)
        ends: dict[str, Any] = {}
        while "c" not in ends:
            event = await socket.event()
            if event["type"] == "error":
                ends[event["stream_id"]] = event["error"]["code"]
        assert ends["c"] == "previous_response_not_found"
        gate.open("hold a")
        await socket.events()
        gate.open("silent b")
        await socket.events()
        last = (await socket.events())[-1]
        assert last["response"]["previous_response_id"] == running
        assert gate.texts("in time")[0] == "hold a"

    on_gate(talk)


def test_a_fork_may_follow_the_end_at_once() -> None:
    """The parent is there before the message that ends its turn, in whatever lane the client goes on."""

    async def talk(socket: Socket, relay: Relay) -> None:
        parent = (await socket.completed(input="One.", stream_id="a"))["id"]
        for number in range(20):
            parent = (await socket.completed(input="More.", stream_id=f"l{number}", previous_response_id=parent))["id"]

    on_socket(talk)


@asynccontextmanager
async def behind(relay: Relay, around: Callable[[Any], Any]) -> AsyncIterator[int]:
    """The same application behind another server, whose ``send`` is what ``around`` makes of it; its port."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        # without the extensions: every message goes through ``send``
        await relay.app({**scope, "extensions": {}}, receive, around(send))

    async with serving(app, lifespan=False) as server:
        yield server.port


@pytest.mark.parametrize("end", ["completed", "refused here", "refused there", "failed"])
def test_the_end_is_settled_before_it_is_told(end: str) -> None:
    """A client that has read the end may go on while the relay still waits for the server's ``send``."""

    def around(send: Any) -> Any:
        async def slow(message: Any) -> None:
            await send(message)
            if any(f'"type":"{kind}"' in message.get("text", "") for kind in TERMINAL):
                await asyncio.sleep(0.01)

        return slow

    async def talk() -> None:
        async with relaying() as relay, behind(relay, around) as port, connected(port) as socket:
            parent = (await socket.completed(input="One.", stream_id="a"))["id"]
            if end == "completed":
                await socket.completed(input="Two.", stream_id="b", previous_response_id=parent)
                return
            fields = {
                "refused here": {"input": ORPHAN},
                "refused there": {"input": "x", "model": "demo-fail-500"},
                "failed": {"input": "x y z", "model": "demo-error-2"},
            }
            await socket.turn(**fields[end], stream_id="a", previous_response_id=parent)
            last = await socket.turn(input="Two.", stream_id="b", previous_response_id=parent)
            assert last["error"]["code"] == "previous_response_not_found"

    run(talk())


def test_a_send_that_fails_ends_the_turn_quietly(caplog: pytest.LogCaptureFixture) -> None:
    """ASGI servers raise OSError where the client has left: no reason of our own, and nobody answers any more."""
    gone = False

    def around(send: Any) -> Any:
        async def lost(message: Any) -> None:
            if gone:
                raise ConnectionResetError
            await send(message)

        return lost

    async def talk() -> None:
        nonlocal gone
        async with gated() as (relay, gate), behind(relay, around) as port, connected(port) as socket:
            await socket.create(input="hold one", stream_id="a")
            await socket.create(input="hold two", stream_id="b")
            await until(lambda: len(gate.running) == 2)
            while "delta" not in await socket.event():
                pass
            gone = True
            gate.open("hold one", "hold two")
            await until(lambda: not relay.app.services.turns)
            await socket.send({"type": "nonsense"})
            await socket.create(input="more", generate=False)
            await socket.create(input="more", temperature=9)
            await (await socket.connection.ping())

    with caplog.at_level("ERROR"):
        run(talk())
    assert not caplog.records


def test_a_create_that_is_being_prepared_at_the_deadline_is_refused() -> None:
    async def talk(socket: Socket, relay: Relay) -> None:
        stored = await socket.completed(input="One.", store=True)
        store = relay.app.services.store
        load, waiting, gate = store.load_chain, asyncio.Event(), asyncio.Event()

        async def slow(*arguments: Any) -> Any:
            waiting.set()
            await gate.wait()
            return await load(*arguments)

        store.load_chain = slow  # type: ignore[method-assign]
        async with connected(relay.port) as other:
            await other.create(input="Two.", previous_response_id=stored["id"])
            await waiting.wait()
            await relay.app.on_deadline()
            gate.set()
            assert (await other.events())[-1]["error"]["code"] == "server_overloaded"
            assert len(relay.demo.requests) == 1

    on_socket(talk)


def test_memory_is_bounded() -> None:
    async def talk(socket: Socket, relay: Relay) -> None:
        relay.app.socket_limits = SocketLimits(memory_bytes=14_000)
        async with connected(relay.port) as other:
            first = (await other.completed(input="x" * 2_000, stream_id="a"))["id"]
            second = (await other.completed(input="x" * 2_000, stream_id="b"))["id"]
            assert await is_there(other, first)  # the probe's own response is 4,000 bytes more
            assert not await is_there(other, first)
            assert await is_there(other, second)

    on_socket(talk)


def test_stored_parents_survive_the_socket_and_others_do_not() -> None:
    async def talk(socket: Socket, relay: Relay) -> None:
        forgotten = await socket.completed(input="One.")
        stored = await socket.completed(input="Two.", previous_response_id=forgotten["id"], store=True)
        async with connected(relay.port) as other:
            assert not await is_there(other, forgotten["id"])
            response = await other.completed(input="Three.", previous_response_id=stored["id"])
            assert response["store"] is False
            asked = orjson.loads(relay.demo.requests[-1].body)["messages"]
            # what only the first socket remembered went into the store with its child
            assert [message["content"] for message in asked] == ["One.", "One.", "Two.", "Two.", "Three."]
            assert await is_there(other, stored["id"])

    on_socket(talk)


def test_an_evicted_parent_that_is_stored_is_read_from_the_store() -> None:
    async def talk(socket: Socket, relay: Relay) -> None:
        stored = await socket.completed(input="One.", store=True)
        await socket.refused(input=ORPHAN, previous_response_id=stored["id"])
        await socket.completed(input="Two.", previous_response_id=stored["id"])

    on_socket(talk)


def test_item_references_see_what_the_socket_remembers() -> None:
    async def talk(socket: Socket, relay: Relay) -> None:
        first = await socket.completed(input="The code word is plum.")
        (message,) = first["output"]
        reference = {"type": "item_reference", "id": message["id"]}
        await socket.completed(
            input=[{"role": "user", "content": "Hi."}, reference, {"role": "user", "content": "Go."}]
        )
        asked = orjson.loads(relay.demo.requests[-1].body)["messages"]
        assert [one["content"] for one in asked] == ["Hi.", "The code word is plum.", "Go."]
        async with connected(relay.port) as other:
            error = await other.refused(input=[reference])
            assert (error["status"], error["param"]) == (404, "input[0].id")

    on_socket(talk)


def test_several_answers_are_not_continued() -> None:
    async def talk(socket: Socket, relay: Relay) -> None:
        several = await socket.completed(input="One.", n=2)
        assert len(several["output"]) == 2
        assert not await is_there(socket, several["id"])
        several = await socket.completed(input="One.", n=2, store=True)
        error = await socket.refused(input="Two.", previous_response_id=several["id"])
        assert (error["status"], error["param"]) == (400, "previous_response_id")

    on_socket(talk)


# ------------------------------------------------------------------------------------------------ warm-ups, steering


@EVERY
def test_a_warm_up_is_local_and_its_input_counts(server: str) -> None:
    async def talk(socket: Socket, relay: Relay) -> None:
        await socket.create(input="The code word is plum.", generate=False, instructions="Be brief.")
        events = await socket.events()
        assert [event["type"] for event in events] == [
            "response.created",
            "response.in_progress",
            "response.completed",
        ]
        warm = events[-1]["response"]
        assert (warm["status"], warm["output"], warm["usage"]) == ("completed", [], None)
        assert not relay.demo.requests
        response = await socket.completed(input=[], previous_response_id=warm["id"])
        assert text_of(response) == "The code word is plum."
        further = await socket.completed(input="More.", previous_response_id=response["id"], generate=False)
        await socket.completed(input="Now.", previous_response_id=further["id"])
        asked = orjson.loads(relay.demo.requests[-1].body)["messages"]
        assert [one["content"] for one in asked] == [
            "The code word is plum.",
            "The code word is plum.",
            "More.",
            "Now.",
        ]

    on_socket(talk, server=server)


def test_a_warm_up_is_checked_like_a_create_and_may_be_empty() -> None:
    async def talk(socket: Socket, relay: Relay) -> None:
        assert (await socket.refused(input="Hi.", generate=False, temperature=9))["param"] == "temperature"
        assert (await socket.refused(input="Hi.", generate=False, tools=[{"type": "mcp"}]))["param"] == "tools[0].type"
        empty = await socket.completed(input=[], generate=False)
        await socket.completed(input=[], previous_response_id=empty["id"])
        again = await socket.completed(input=[], generate=False)
        await socket.completed(input="Hi.", previous_response_id=again["id"])

    on_socket(talk)


def test_a_stored_warm_up_is_there_for_others() -> None:
    async def talk(socket: Socket, relay: Relay) -> None:
        warm = await socket.completed(input="The code word is plum.", generate=False, store=True)
        async with connected(relay.port) as other:
            response = await other.completed(input=[], previous_response_id=warm["id"])
            assert text_of(response) == "The code word is plum."

    on_socket(talk)


def test_steering_is_refused_with_the_input_given_back() -> None:
    async def talk(socket: Socket, relay: Relay, gate: Gated) -> None:
        await socket.create(input="hold me")
        running = (await socket.event())["response"]["id"]
        await socket.send({"type": "response.steer", "previous_response_id": running, "input": "Left!"})
        event = await socket.event()
        while event["type"] != "response.steer.failed":
            event = await socket.event()
        assert event["sequence_number"] == 0
        assert event["steer"] == {"previous_response_id": running, "input": "Left!"}
        assert event["error"]["code"] == "steering_not_supported"
        gate.open("hold me")
        last = (await socket.events())[-1]
        assert last["type"] == "response.completed"
        assert last["sequence_number"] == 9  # the steer was not counted

    on_gate(talk)


# ------------------------------------------------------------------------------------------------ the door


async def upgrade(relay: Relay, target: str = "/v1/responses", **headers: str) -> Any:
    client = await Client.connect(relay.port)
    fields = {
        "upgrade": "websocket",
        "connection": "upgrade",
        "sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ==",
        "sec_websocket_version": "13",
        "host": "127.0.0.1",
        **headers,
    }
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    client.write(f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode())
    status, answered, _ = await client.head()
    if status == 101:
        client.leave()
        return status, None, answered
    body = await client.reader.readexactly(int(answered["content-length"])) if "content-length" in answered else b""
    client.leave()
    return status, orjson.loads(body)["error"] if body else None, answered


DOOR = [
    ("nothing special", {}, {}, {}, 101, None),
    ("any beta", {}, {"openai_beta": "responses_websockets=2026-02-06"}, {}, 101, None),
    ("a content type, as the suite sends it", {}, {"content_type": "application/json"}, {}, 101, None),
    ("switched off", {"server": {"websocket": False}}, {}, {}, 426, "upgrade_required"),
    ("no key", {"settings": {"keys": {"me": "secret"}}}, {}, {}, 401, "invalid_api_key"),
    (
        "a wrong key",
        {"settings": {"keys": {"me": "secret"}}},
        {"authorization": "Bearer x"},
        {},
        401,
        "invalid_api_key",
    ),
    ("the key", {"settings": {"keys": {"me": "secret"}}}, {"authorization": "Bearer secret"}, {}, 101, None),
    ("another page", {}, {"origin": "https://evil.example"}, {}, 403, "forbidden"),
    (
        "a page that may",
        {"server": {"allowed_origins": ("https://good.example",)}},
        {"origin": "https://good.example"},
        {},
        101,
        None,
    ),
    ("another host", {}, {"host": "evil.example"}, {}, 403, "forbidden"),
    ("another path", {}, {}, {"target": "/v1/realtime"}, 404, "not_found"),
    ("a slash too many", {}, {}, {"target": "/v1/responses/"}, 101, None),
    ("a query", {}, {}, {"target": "/v1/responses?model=x"}, 101, None),
]


@EVERY
@pytest.mark.parametrize(
    ("name", "options", "headers", "more", "status", "code"), DOOR, ids=[row[0].replace(" ", "-") for row in DOOR]
)
def test_the_door(name: str, options: Any, headers: Any, more: Any, status: int, code: str | None, server: str) -> None:
    async def knock() -> None:
        async with relaying(foreign=server == "uvicorn", **options) as relay:
            answered, error, fields = await upgrade(relay, **more, **headers)
            assert answered == status
            if code is not None:
                assert error["code"] == code
                assert set(error) == {"message", "type", "param", "code"}
                assert fields["content-type"] == "application/json"
                assert fields["x-request-id"]
            if status == 426:
                assert fields["upgrade"] == "websocket"

    run(knock())


# ------------------------------------------------------------------------------------------------ the end


LATE = "websocket_connection_limit_reached"


def test_an_idle_socket_ends_after_its_time() -> None:
    async def age() -> None:
        async with relaying() as relay:
            relay.app.socket_limits = SocketLimits(age_s=0.05)
            async with connected(relay.port) as socket:
                event = await socket.event()
                assert (event["type"], event["status"], event["error"]["code"]) == ("error", 400, LATE)
                assert "stream_id" not in event
                assert await socket.closed() == 1001

    run(age())


def test_what_runs_and_what_waits_is_finished_after_the_time() -> None:
    async def age() -> None:
        async with gated() as (relay, gate):
            relay.app.socket_limits = SocketLimits(age_s=0.05)
            async with connected(relay.port) as socket:
                await socket.create(input="silent one")
                await socket.create(input="silent two")
                (session,) = relay.app.sessions
                await until(lambda: session._expired)
                error = await socket.refused(input="too late")
                assert error["code"] == LATE
                gate.open("silent one", "silent two")
                assert text_of((await socket.events())[-1]["response"]) == "silent one "
                assert text_of((await socket.events())[-1]["response"]) == "silent two "
                assert (await socket.event())["error"]["code"] == LATE
                assert await socket.closed() == 1001

    run(age())


def test_draining_closes_idle_sockets_and_lets_turns_finish() -> None:
    async def drain() -> None:
        async with gated() as (relay, gate):
            assert relay.server is not None
            async with connected(relay.port) as idle, connected(relay.port) as busy:
                await busy.create(input="hold me")
                await busy.create(input="and then")
                await until(lambda: gate.running)
                stopping = asyncio.create_task(relay.server.stop(5.0))
                assert await idle.closed() == 1001
                await until(lambda: relay.app.services.draining)
                await busy.create(input="no more")
                events = [await busy.event()]
                while events[-1]["type"] != "error":
                    events.append(await busy.event())
                assert (events[-1]["status"], events[-1]["error"]["code"]) == (503, "server_overloaded")
                gate.open("hold me")
                assert text_of((await busy.events())[-1]["response"]) == "hold me "
                assert text_of((await busy.events())[-1]["response"]) == "and then "
                assert await busy.closed() == 1001
                await stopping

    run(drain())


def test_at_the_deadline_turns_fail_and_what_waits_is_refused() -> None:
    async def drain() -> None:
        async with gated() as (relay, gate):
            assert relay.server is not None
            async with connected(relay.port) as socket:
                await socket.create(input="hold me", stream_id="a")
                await socket.create(input="silent b", stream_id="b")
                await socket.create(input="never", stream_id="a")
                await until(lambda: len(gate.running) == 2)
                stopping = asyncio.create_task(relay.server.stop(0.05))
                ends = {}
                while len(ends) < 3:
                    event = await socket.event()
                    if event["type"] in ("response.failed", "error"):
                        ends[event["stream_id"], event["type"]] = event
                assert set(ends) == {("a", "response.failed"), ("b", "error"), ("a", "error")}
                failed = ends["a", "response.failed"]["response"]
                assert failed["error"]["code"] == "server_is_overloaded"
                assert text_of(failed).startswith("hold")
                assert await socket.closed() == 1001
                await stopping
                assert "never" not in gate.asked

    run(drain())


def test_a_client_that_only_makes_errors_and_never_reads_is_closed() -> None:
    async def flood() -> None:
        async with relaying() as relay:
            client = await Client.connect(relay.port, receive_buffer=2048)
            key = "dGhlIHNhbXBsZSBub25jZQ=="
            head = f"host: 127.0.0.1\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-key: {key}\r\n"
            client.write(f"GET /v1/responses HTTP/1.1\r\n{head}sec-websocket-version: 13\r\n\r\n".encode())
            await client.reader.readuntil(b"\r\n\r\n")
            (session,) = relay.app.sessions
            most = 0
            async with asyncio.timeout(15):
                while relay.app.sessions and not client.writer.is_closing():
                    client.write(b"\x81\x82\x00\x00\x00\x00{}" * 1_000)
                    await asyncio.sleep(0)
                    most = max(most, session._replies, len(session._tasks))
            assert most <= 66
            client.reset()

    run(flood(), 30)


def test_many_mistakes_in_one_packet_are_all_answered() -> None:
    """A client that reads may make as many as it likes."""

    async def burst(socket: Socket, relay: Relay) -> None:
        for _ in range(500):
            await socket.connection.send("{}")
        for _ in range(500):
            assert (await socket.event())["type"] == "error"
        await socket.completed(input="Hello.")

    on_socket(burst)
