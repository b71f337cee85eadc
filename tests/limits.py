"""The bounds that a user can meet, with the numbers that the code runs on: the README's table of limits.

A row: what is bounded, its value, what happens beyond it, and its key in the configuration or why it has none.
"""

from __future__ import annotations

from typing import NamedTuple

from relay.app import lanes, media, memory, reading, reasoning, services, session, stored, turn
from relay.config.values import ServerSettings, UpstreamSettings
from relay.providers import failures
from relay.responses import emitter
from relay.server import Limits, websocket
from relay.state import store, writer
from relay.upstream import connection, names
from relay.wire import sse

SERVER, UPSTREAM, LIMITS = ServerSettings(), UpstreamSettings("name", "chat", "http://host"), Limits()


class Row(NamedTuple):
    what: str
    value: str
    beyond: str
    key: str


def size(count: int) -> str:
    for unit, one in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= one and count % one == 0:
            return f"{count // one:,} {unit}"
    return f"{count:,} bytes"


def seconds(value: float) -> str:
    return f"{value:,g} s"


def of(name: str) -> str:
    return f"`[server] {name}`"


def per(name: str) -> str:
    return f"`[upstreams.NAME] {name}`"


PROTOCOL = "as OpenAI's own"
SAFETY = "–"

ROWS = [
    Row("a request's body, a WebSocket message", size(SERVER.max_body_bytes), "413; 1009", of("max_body_bytes")),
    Row("JSON values of a request", f"{SERVER.max_values:,}", "413 that names the member", of("max_values")),
    Row("items of an input, parts of an item", f"{SERVER.max_items:,}", "400 that names it", of("max_items")),
    Row(
        "request bodies that are being received, together",
        f"{services.BODIES_AT_ONCE} × `max_body_bytes`",
        "503 for owners that hold more than their share",
        of("max_body_bytes"),
    ),
    Row(
        "what compressed messages of a WebSocket become",
        f"`max_body_bytes` at once, then {size(websocket.INFLATED_BYTES_A_S)} a second",
        "the socket is read later",
        SAFETY,
    ),
    Row("a request's line and headers", size(LIMITS.head_bytes), "431", SAFETY),
    Row("client connections of a worker", f"{SERVER.max_connections:,}", "503", of("max_connections")),
    Row("time for a request's headers", seconds(LIMITS.head_s), "408", SAFETY),
    Row(
        "a body that comes slowly",
        f"{size(LIMITS.body_window_bytes)} in {seconds(LIMITS.body_window_s)}",
        "408",
        SAFETY,
    ),
    Row("a connection between requests", seconds(LIMITS.idle_s), "closed", SAFETY),
    Row("a client that takes nothing of its answer", seconds(LIMITS.stall_s), "it has left: its turn ends", SAFETY),
    Row("what is sent ahead of an answer (pipelining)", size(LIMITS.pipelined_bytes), "closed", SAFETY),
    Row("running responses of a WebSocket", f"{lanes.RUNNING_LIMIT}", "the next ones wait", PROTOCOL),
    Row("waiting requests of a WebSocket", f"{lanes.QUEUE_LIMIT}", "429 `websocket_queue_full`", PROTOCOL),
    Row(
        "what waiting, and waiting and running requests of a WebSocket hold",
        "once, twice `max_body_bytes`",
        "429 `websocket_queue_full`",
        of("max_body_bytes"),
    ),
    Row("named streams of a WebSocket", f"{lanes.NAMES_LIMIT}", "400 `websocket_stream_limit_reached`", PROTOCOL),
    Row("what a WebSocket remembers", size(memory.LIMIT_BYTES), "the oldest idle stream is forgotten", SAFETY),
    Row("a WebSocket's age", seconds(session.AGE_LIMIT_S), "400 `websocket_connection_limit_reached`", PROTOCOL),
    Row("errors that wait for a client that does not read", f"{session.REPLIES_LIMIT}", "closed with 1008", SAFETY),
    Row("connecting to an upstream", seconds(UPSTREAM.connect_timeout_s), "502", per("connect_timeout_s")),
    Row("an upstream's first byte", seconds(UPSTREAM.first_byte_timeout_s), "504", per("first_byte_timeout_s")),
    Row("silence between its bytes", seconds(UPSTREAM.idle_timeout_s), "504", per("idle_timeout_s")),
    Row("a host that has vanished", seconds(UPSTREAM.dead_peer_timeout_s), "502", per("dead_peer_timeout_s")),
    Row(
        "connections to an upstream",
        f"{UPSTREAM.max_connections:,}",
        "requests wait, in equal shares of their owners",
        per("max_connections"),
    ),
    Row("an upstream's headers", size(connection.MAX_HEAD_BYTES), "502", SAFETY),
    Row("one event of an upstream", size(sse.EVENT_LIMIT_BYTES), "502 or `response.failed`", SAFETY),
    Row("an upstream's JSON answer", size(reading.BODY_LIMIT_BYTES), "502", SAFETY),
    Row("the output of one response", size(emitter.OUTPUT_LIMIT_BYTES), "`response.failed`", SAFETY),
    Row("upstream calls of one response", f"{turn.HOPS_LIMIT}", "`response.incomplete`", SAFETY),
    Row("an upstream's words that a client is shown", f"{failures.MESSAGE_LIMIT:,} characters", "cut", SAFETY),
    Row("URLs fetched for one request", f"{media.URLS_LIMIT}", "400", SAFETY),
    Row("a fetched document or image", size(media.LIMIT_BYTES), "400 `image_too_large`", SAFETY),
    Row("fetching it", seconds(media.LIMIT_S), "400 `failed_to_download_image`", SAFETY),
    Row("requests whose media are fetched at once", f"{services.FETCHES_LIMIT}", "the next ones wait", SAFETY),
    Row("look-ups of names at once", f"{names.CONFIGURED_LIMIT}", "the next ones wait", SAFETY),
    Row("of names that clients give", f"{names.CLIENT_LIMIT}", "the next ones wait", SAFETY),
    Row("a commit to the store", seconds(store.LIMIT_S), "the answer says `store: false`", SAFETY),
    Row("a conversation's chain", size(store.CHAIN_LIMIT_BYTES), "400", SAFETY),
    Row("what waits for the store", size(writer.QUEUE_LIMIT_BYTES), "the answer says `store: false`", SAFETY),
    Row("a response kept by an upstream", size(stored.LIMIT_BYTES), "502", SAFETY),
    Row(
        "reasoning kept for clients that drop it",
        f"{size(reasoning.LIMIT_BYTES)}, {seconds(reasoning.LIMIT_S)}",
        "the oldest is forgotten",
        SAFETY,
    ),
    Row("running responses when stopping", seconds(SERVER.drain_timeout_s), "`response.failed`", of("drain_timeout_s")),
    Row("a worker whose loop does not turn", seconds(SERVER.hang_timeout_s), "started again", of("hang_timeout_s")),
]


def table() -> str:
    """The rows as Markdown."""
    lines = ["| what | at most | beyond it | key |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {row.what} | {row.value} | {row.beyond} | {row.key} |" for row in ROWS)]) + "\n"
