"""The OpenAI Responses API in front of any model.

Layout (each layer may import only those below it; ``tests/test_layers.py`` keeps this true):

    cli         the command line: settings, demo, server and app put together
    server/     our ASGI 3 server: HTTP/1.1, WebSocket, flow control, workers
    app/        the ASGI application: routes, handlers, the exchange of one turn
    upstream/   sockets to inference servers: connection, pool
    state/      what is remembered: responses, chains, event logs
    providers/  one file per upstream dialect, pure
    responses/  the protocol: request, items, events, emitter, sinks, pure
    wire/       bytes <-> messages: SSE, HTTP/1.1, WebSocket frames, pure
    errors, ids, shares, places, config
"""

__version__ = "0.1.0"
