"""The limits of the server that are not settings: sizes in bytes, times in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Every bound of a client's connection besides ``max_body_bytes`` and ``max_connections``, which are settings."""

    head_bytes: int = 32 * 1024  # request line and headers; also trailers: 431
    pipelined_bytes: int = 64 * 1024  # beyond the running request: the connection is closed
    body_buffer_bytes: int = 64 * 1024  # of a body that the app has not taken; then reading pauses
    write_high_bytes: int = 64 * 1024  # written and not sent; then ``send`` waits
    write_low_bytes: int = 32 * 1024
    head_s: float = 10.0  # from a head's first byte to its last: 408; also the TLS handshake
    body_s: float = 30.0  # of silence while more of a body must come: 408
    body_window_s: float = 30.0  # in each of which, the first apart, a body brings at least ``body_window_bytes``: 408
    body_window_bytes: int = 1024
    idle_s: float = 75.0  # between requests
    stall_s: float = 60.0  # in which a client takes none of what waits for it: it has left
    linger_s: float = 2.0  # in which a client may still read an answer that came before its request had ended
    ping_s: float = 20.0  # without a sign of a WebSocket's client, before it is asked for one
    pong_s: float = 20.0  # for its answer
    close_s: float = 5.0  # for a WebSocket's closing handshake
    leave_s: float = 5.0  # for the app to end by itself after a WebSocket's end, before its task is cancelled
    queued_messages: int = 256  # of a WebSocket that the app has not taken; then reading pauses
    deflate_from_bytes: int | None = None  # WebSocket messages from here on are sent compressed, where the client can
    startup_s: float = 60.0  # of the lifespan protocol, each way
    grace_s: float = 1.0  # when stopping: for a request on a connection that was accepted or kept open before
    deadline_s: float = 10.0  # for ``on_deadline``
    flush_s: float = 1.0  # after ``on_deadline``, before running requests are cancelled
    head_places: int = 64  # beyond ``max_connections``, for probes and for whom a place is found (``door``)
    backlog: int = 2048
    restart_s: float = 0.1  # before a crashed worker's first restart; doubled each time
    restart_max_s: float = 30.0
    restart_reset_s: float = 30.0  # a worker that lived this long begins at ``restart_s`` again
