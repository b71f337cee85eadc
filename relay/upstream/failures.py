"""The one table from what sockets, TLS, DNS and the parser raise to what a client is told.

Source: translation.md §5.2 (rows DNS/TCP/TLS, timeouts), decisions 6. No host, path or key gets into a message: those
are in ``detail``, for the log.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import Final, NamedTuple

import httptools

from relay.errors import RelayError
from relay.upstream.origin import Origin


class _Row(NamedTuple):
    cause: type[BaseException]
    kind: str
    words: str


# The first row that fits counts: gaierror, SSLError, TimeoutError and the others are all OSErrors.
_ROWS: Final = (
    _Row(socket.gaierror, "upstream_unreachable", "its name could not be resolved"),
    _Row(ssl.SSLCertVerificationError, "upstream_unreachable", "its certificate was not accepted"),
    _Row(ssl.SSLError, "upstream_unreachable", "TLS could not be agreed on"),
    _Row(TimeoutError, "upstream_timeout", "the connection timed out"),
    _Row(ConnectionRefusedError, "upstream_unreachable", "it refused the connection"),
    _Row(ConnectionError, "upstream_unreachable", "it closed the connection"),
    _Row(FileNotFoundError, "upstream_unreachable", "its Unix socket does not exist"),
    _Row(PermissionError, "upstream_unreachable", "the system does not permit connecting to it"),
    _Row(OSError, "upstream_unreachable", "there is no way to it"),
    _Row(httptools.HttpParserError, "upstream_bad_response", "its answer is not valid HTTP/1.1"),
)

_TIMEOUTS: Final = {
    "connect_timeout_s": "The upstream did not accept a connection within {:g} s (connect_timeout_s).",
    "first_byte_timeout_s": "The upstream sent no first byte within {:g} s (first_byte_timeout_s).",
    "idle_timeout_s": "The upstream sent nothing for {:g} s (idle_timeout_s).",
    "dead_peer_timeout_s": "The upstream's host has not answered for {:g} s (dead_peer_timeout_s).",
    "queue": "No connection to the upstream became free within {:g} s (first_byte_timeout_s, max_connections).",
}

_OPENINGS: Final = {
    "upstream_unreachable": "The upstream could not be reached",
    "upstream_timeout": "The upstream could not be reached in time",
    "upstream_bad_response": "The upstream answered badly",
    "upstream_ended_early": "The upstream's answer ended early",
}

FOREIGN: Final = (OSError, httptools.HttpParserError)  # what ``converted`` takes


def converted(error: BaseException, origin: Origin) -> RelayError:
    """The table, applied to one of ``FOREIGN``."""
    detail = f"{origin}: {type(error).__name__}: {error}"
    if _without_descriptors(error):
        return RelayError("overloaded", "The relay is out of file descriptors.", detail=detail, retry_after_s=1)
    row = next(row for row in _ROWS if isinstance(error, row.cause))
    return failure(row.kind, row.words, detail)


def _without_descriptors(error: BaseException) -> bool:
    """EMFILE and ENFILE; a resolver that finds none says only that the system failed (EAI_SYSTEM)."""
    if not isinstance(error, OSError):
        return False
    if isinstance(error, socket.gaierror) and error.errno == getattr(socket, "EAI_SYSTEM", None):
        try:
            os.close(os.dup(2))
        except OSError as reason:
            error = reason
    return error.errno in (errno.EMFILE, errno.ENFILE) and not isinstance(error, socket.gaierror)


def failure(kind: str, words: str, detail: str | None = None) -> RelayError:
    """An error of ours in the same form: what happened, then why."""
    return RelayError(kind, f"{_OPENINGS[kind]}: {words}.", detail=detail)


def timed_out(which: str, limit_s: float, origin: Origin) -> RelayError:
    """``which`` is the setting that ran out, or ``queue``."""
    return RelayError("upstream_timeout", _TIMEOUTS[which].format(limit_s), detail=f"{origin}: {which}")
