"""The two HTTP/1.1 parsers behind one seam: httptools, and h11 where that is missing or asked for.

Either is fed only what ``wire.http1.Scanner`` let through, message by message, and calls back while it is fed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final, Protocol

import h11

from relay.errors import RelayError
from relay.wire.http1 import Head

httptools: Any
try:
    httptools = importlib.import_module("httptools")
except ImportError:  # no wheel for this machine: h11 is pure Python
    httptools = None


class Events(Protocol):
    """What a parser calls; none of these may raise."""

    def on_head(self, head: Head) -> None: ...
    def on_body(self, data: bytes) -> None: ...
    def on_end(self) -> None: ...


class Parser(Protocol):
    """Turns one message after the other into calls of ``Events``."""

    def feed(self, data: bytes) -> None:
        """Parse one piece of the scanner's.

        Raises: RelayError(bad_request).
        """

    def close(self) -> None:
        """Nothing follows: let go of what holds ``Events``, which would be a circle."""


def _refused() -> RelayError:
    return RelayError("bad_request", "The HTTP request is malformed.")


class HttptoolsParser:
    """llhttp; one parser for all of a connection's messages.

    The exception: httptools takes a message that offers an upgrade for ended at its head, though a client that offers
    h2c may send a body, so such a message is h11's.
    """

    def __init__(self, events: Events) -> None:
        self._events = events
        self.on_body: Callable[[bytes], None] = events.on_body
        self._begin()

    def _begin(self) -> None:
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._stand_in: H11Parser | None = None
        self._parser: Any = httptools.HttpRequestParser(self)

    def feed(self, data: bytes) -> None:
        if self._stand_in is not None:
            self._stand_in.feed(data)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._stand_in = H11Parser(self._events, self._begin)
            self._stand_in.feed(data)
        except httptools.HttpParserError as error:
            raise _refused() from error

    def close(self) -> None:
        self._stand_in = self._parser = None
        del self.on_body, self._events

    def on_url(self, data: bytes) -> None:
        self._target += data

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        parser = self._parser
        if not parser.should_upgrade():
            method = parser.get_method().decode("ascii")
            self._events.on_head(Head(method, self._target, parser.get_http_version(), self._headers))

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():
            return
        self._target = b""
        self._headers = []
        self._events.on_end()


class H11Parser:
    """h11, of which only the receiving half is used: one h11 connection a message."""

    def __init__(self, events: Events, on_end: Callable[[], None] | None = None) -> None:
        self._events = events
        self._on_end = on_end  # called before the events' own
        self._parser: h11.Connection | None = None

    def feed(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            # The scanner has bounded heads already.
            parser = self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=len(data) + 65_536)
        try:
            parser.receive_data(data)
            while (event := parser.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Request):
                    self._on_request(event)
                elif isinstance(event, h11.Data):
                    self._events.on_body(bytes(event.data))
                else:  # EndOfMessage, the only other one without the end of the input
                    self._parser = None
                    if self._on_end is not None:
                        self._on_end()
                    self._events.on_end()
                    return
        except h11.RemoteProtocolError as error:
            raise _refused() from error

    def close(self) -> None:
        self._parser = self._on_end = None
        del self._events

    def _on_request(self, event: h11.Request) -> None:
        method, version = event.method.decode("ascii"), event.http_version.decode("ascii")
        self._events.on_head(Head(method, event.target, version, [(name, value) for name, value in event.headers]))


PARSERS: Final[dict[str, Callable[[Events], Parser]]] = {
    "auto": H11Parser if httptools is None else HttptoolsParser,
    "httptools": HttptoolsParser,
    "h11": H11Parser,
}
