"""relay's own ASGI 3 server: HTTP/1.1 by httptools or h11, WebSocket by wsproto, limits, graceful stop, workers.

    http        one connection: bytes to requests, time limits, leaving
    request     one request and its response: the ASGI callables
    parsers     httptools and h11 behind one seam
    websocket   what takes a connection over after an upgrade (the seam is ``upgrade``)
    server      one process: lifespan, accepting, graceful stop
    process     one serving process, and the signals that end it
    workers     several, and the parent that keeps them alive
    heartbeat   whether a worker's loop still turns
    forwarded   what a trusted proxy says of a request's client and scheme
    context, limits, lifespan, sockets

What a client may send is judged by ``relay.wire.http1`` before a parser sees it.
"""

from relay.server.lifespan import StartupError
from relay.server.limits import Limits
from relay.server.process import Built
from relay.server.server import Server
from relay.server.workers import serve

__all__ = ["Built", "Limits", "Server", "StartupError", "serve"]
