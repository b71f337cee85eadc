"""``relay serve``: settings, application and server put together; and ``relay demo``, the demo upstream alone.

Where nothing is configured the demo upstream answers, in a child process on a loopback port of its own: a process,
because the workers of the relay are forked from this one, and a fork wants no threads and no loop.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from relay import __version__
from relay.app.redaction import SHORTEST
from relay.cli import logs
from relay.cli.arguments import complain
from relay.cli.checking import settings_of
from relay.cli.lines import LinesHandler
from relay.config import ServerSettings, Settings, UpstreamSettings

_FAREWELL_S: Final = 5.0

_GREETING: Final = """\
relay {version} listens on {address}.
Nothing is configured and the environment holds no API key, so a built-in demo model answers. Try it:

  {curl} -H 'content-type: application/json' \\
    -d '{{"model": "demo", "input": "Say this again, word by word.", "stream": true}}'

For a real model set OPENAI_API_KEY, or name a server: relay serve --upstream chat=http://127.0.0.1:8001/v1
Ctrl-C stops it.
"""


def serve(options: argparse.Namespace) -> int:
    """Serve until a signal; the demo upstream answers where nothing is configured."""
    settings = settings_of(options)
    server = settings.server
    log = logs.configure(server.log_level, server.log_format, settings.secrets(), settings.secret_headers())
    settings = _fitted(settings)
    for warning in _doubts(settings):
        logging.getLogger("relay.config").warning("%s", warning)
    if settings.upstreams:
        return _serve(settings, log, demo=False)
    with _demo_upstream() as upstream:
        return _serve(replace(settings, upstreams=(upstream,)), log, demo=True)


def _doubts(settings: Settings) -> Iterator[str]:
    """What works and is probably not meant."""
    short = [one.name for one in settings.upstreams if one.api_key and len(one.api_key) < SHORTEST]
    short += [one.name for one in settings.upstreams for _, value in one.headers if 0 < len(value) < SHORTEST]
    if short:
        names = ", ".join(dict.fromkeys(short))
        yield (
            f"a key or header of {names} has fewer than {SHORTEST} characters: it is kept out of the log and of errors "
            "only where it stands as a bearer or as the value of a header for keys"
        )
    open_to_all = [origin for origin in ("*", "null") if origin in settings.server.allowed_origins]
    own = [one.name for one in settings.upstreams if one.api_key]
    if open_to_all and own and not settings.keys:
        pages = " and ".join(f'"{origin}"' for origin in open_to_all)
        yield f"allowed_origins has {pages} and there are no [keys]: any web page can spend the key of {', '.join(own)}"


def _fitted(settings: Settings) -> Settings:
    """The settings with as many connections as there are descriptors for; one warning where those are fewer."""
    from relay.server.descriptors import SPARE, fitting_connections, raise_limit

    limit, server = raise_limit(), settings.server
    upstreams = sum(one.max_connections for one in settings.upstreams)
    fitting = fitting_connections(server.max_connections, upstreams, limit)
    if fitting == server.max_connections:
        return settings
    logging.getLogger("relay.server").warning(
        "max_connections is lowered from %d to %d: a process may open %d files here (ulimit -n), of which %d are kept "
        "for upstreams and %d for the rest",
        server.max_connections,
        fitting,
        limit,
        upstreams,
        SPARE,
    )
    return replace(settings, server=replace(server, max_connections=fitting))


def _serve(settings: Settings, log: LinesHandler, demo: bool) -> int:
    from relay.app import create_app
    from relay.server import Built
    from relay.server import serve as run

    def build() -> Built:
        log.start()
        app = create_app(settings)
        return Built(app, app.on_drain, app.on_deadline, app.on_unready)

    def on_ready(port: int) -> None:
        print(greeting(settings, port, demo), flush=True)

    return _listening(settings.server, lambda: run(build, settings.server, on_ready=on_ready))


def _listening(server: ServerSettings, run: Callable[[], int]) -> int:
    """The exit code of ``run``; an address that cannot be had, or a start that fails, is one line."""
    from relay.server import StartupError

    try:
        return run()
    except StartupError as error:
        return complain(str(error))
    except ssl.SSLError as error:
        return complain(f"the certificate or its key cannot be used: {error.reason or error}")
    except OSError as error:
        address = f"unix:{server.uds}" if server.uds else _url(server, server.port)
        return complain(f"cannot listen on {address}: {error.strerror or error}")


def greeting(settings: Settings, port: int, demo: bool) -> str:
    """What stands on the terminal once the relay listens; with the demo model a command that works."""
    server = settings.server
    address = f"unix:{server.uds}" if server.uds else _url(server, port)
    if not demo:
        names = ", ".join(f"{one.name} ({one.dialect})" for one in settings.upstreams)
        return f"relay {__version__} listens on {address}. Upstreams: {names}."
    curl = "curl -N"
    if server.uds:
        curl += f" --unix-socket {server.uds} http://localhost"
    else:
        curl += f" {'-k ' if server.ssl_certfile else ''}{address}"
    return _GREETING.format(version=__version__, address=address, curl=f"{curl}/v1/responses").rstrip("\n")


def _url(server: ServerSettings, port: int) -> str:
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"{'https' if server.ssl_certfile else 'http'}://{host}:{port}"


# ------------------------------------------------------------------------------------------------ the demo upstream


@contextlib.contextmanager
def _demo_upstream() -> Iterator[UpstreamSettings]:
    """The demo in a child that ends with us, for it watches a pipe of ours; Ctrl-C does not reach it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:  # listens at once: nobody has to wait for the child
        port = listener.getsockname()[1]
        command = [sys.executable, "-m", "relay", "demo", "--inherit", str(listener.fileno()), "--log-level", "warning"]
        child = subprocess.Popen(  # noqa: S603  our own interpreter, no words of others
            command, stdin=subprocess.PIPE, pass_fds=(listener.fileno(),), start_new_session=True
        )
    try:
        yield UpstreamSettings("demo", "chat", f"http://127.0.0.1:{port}/v1")
    finally:
        assert child.stdin is not None
        child.stdin.close()  # which is what it waits for
        try:
            child.wait(_FAREWELL_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def demo(options: argparse.Namespace) -> int:
    """The demo upstream alone."""
    logs.configure(options.log_level, "text").start()
    settings = ServerSettings(host=options.host, port=options.port, max_body_bytes=64 << 20, drain_timeout_s=1.0)
    sock = None if options.inherit is None else socket.socket(fileno=options.inherit)

    def run() -> int:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_demo(settings, sock))
        return 0

    return _listening(settings, run)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _demo(settings: ServerSettings, sock: socket.socket | None) -> None:
    from relay.demo import app
    from relay.server import Server

    server = Server(app, settings)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_parents_end() -> None:
        loop.remove_reader(0)
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    await server.start(sock)
    if sock is not None:
        # The pipe ends when the process that holds its other end does, however that dies.
        loop.add_reader(0, on_parents_end)
    else:
        address = _url(settings, server.port)
        print(f"The demo upstream listens on {address}. Chat and Responses: {address}/v1, model demo.", flush=True)
    await stopped.wait()
    await server.stop()
