"""Whether the host at the other end of a connection is still there.

Source: fleet.md 47; RFC 9293 §3.8.4 (keep-alive), tcp(7) (TCP_KEEPIDLE, TCP_INFO), Linux include/uapi/linux/tcp.h.

A host that vanished says nothing, and neither does one that thinks. The kernel asks an idle connection by itself
(keep-alive), but not while something that was sent is unacknowledged: then it only sends that again, for a quarter of
an hour. So while that is so, TCP_INFO is looked at. TCP_USER_TIMEOUT would end both, but also a server that lives, and
acknowledges, and has no room yet for a large request.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios
from typing import Any, Final, NamedTuple

PROBES: Final = 4
CHECKS: Final = 10  # within the limit
_REUSED: Final = 2 / 3  # of the limit: there a fresh connection is tried, which takes its own time

# Linux' name for the idle time is macOS' TCP_KEEPALIVE.
_IDLE: Final[int | None] = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))
_INTERVAL: Final[int | None] = getattr(socket, "TCP_KEEPINTVL", None)
_COUNT: Final[int | None] = getattr(socket, "TCP_KEEPCNT", None)
_INFO: Final[int | None] = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
# struct tcp_info: retransmits and probes are its third and fourth octet, last_ack_recv (ms) the thirteenth of the
# 32-bit numbers that begin behind the eighth.
_FIELDS: Final = struct.Struct("=2xBB52xI")


class Sent(NamedTuple):
    """What the kernel says of what was sent on one connection."""

    unacknowledged: bool
    repeated: bool
    """It is being sent again, or room for it is being asked for, without an answer."""
    unheard_s: float
    """Since the last acknowledgement of anything."""


def keep_alive(sock: socket.socket, limit_s: float) -> None:
    """Have the kernel end an idle connection whose host has been silent for ``limit_s`` (whole seconds, 0: never)."""
    if not limit_s or sock.family == getattr(socket, "AF_UNIX", None):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    values = ((_IDLE, limit_s / 3), (_INTERVAL, limit_s * 2 / 3 / PROBES), (_COUNT, PROBES))
    for option, value in values:
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, max(1, round(value)))


def sent(sock: Any) -> Sent | None:
    """None where the system does not say, or the socket is not TCP, or closed. ``sock``: what a transport gives."""
    if _INFO is None or sock is None or sock.family == socket.AF_UNIX or sock.fileno() < 0:
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _INFO, _FIELDS.size)
        queued = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")  # sent or not, and unacknowledged
    except OSError:
        return None
    retransmits, probes, last_ack_ms = _FIELDS.unpack(info)
    return Sent(queued != b"\0\0\0\0", retransmits > 0 or probes > 0, last_ack_ms / 1000)


def is_gone(state: Sent, waited_s: float, limit_s: float, *, reused: bool) -> bool:
    """``waited_s``: since the request was sent; before it nothing had to be acknowledged."""
    limit_s *= _REUSED if reused else 1.0
    return state.repeated and min(state.unheard_s, waited_s) >= limit_s
