"""Binding: one socket for all workers, or on Linux one SO_REUSEPORT socket for each; and how much is not yet sent."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import stat
import struct
import sys
import termios
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relay.config import ServerSettings


def bind(settings: ServerSettings) -> socket.socket:
    """A bound socket that does not listen yet.

    Raises: OSError.
    """
    if settings.uds:
        return _bind_path(settings.uds, int(settings.uds_mode, 8))
    return _bind_port(settings.host, settings.port)


def bind_for_workers(settings: ServerSettings, workers: int) -> list[socket.socket]:
    """A socket for each worker: on Linux with a fixed TCP port each its own, so that the kernel spreads connections;
    else all the same.

    Raises: OSError.
    """
    if settings.uds or not settings.port or not sys.platform.startswith("linux"):
        return [bind(settings)] * workers
    # Without SO_REUSEPORT, so that another process's port is an error and not shared by accident.
    _bind_port(settings.host, settings.port).close()
    return [bind_again(settings) for _ in range(workers)]


def bind_again(settings: ServerSettings) -> socket.socket:
    """One more socket of the port that a process of ours has. Raises: OSError."""
    return _bind_port(settings.host, settings.port, shared=True)


def _bind_port(host: str, port: int, *, shared: bool = False) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setblocking(False)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_path(path: str, mode: int) -> socket.socket:
    """Bind a Unix socket; one that a dead server left behind is removed, a living one is an error.

    It gets its mode before it listens: until then nobody can connect to it, whatever the umask gave it.
    """
    if os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                remove_path(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(path)
        os.chmod(path, mode)
    except BaseException:
        sock.close()
        raise
    return sock


def unsent_bytes(transport: asyncio.Transport) -> int:
    """What was written and the client has not taken yet, in our buffer and, where the kernel says so, in its own.

    The kernel's part counts: it holds megabytes, and takes from us again only when a third of them is gone, for which a
    slow client may need minutes.
    """
    size = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        try:
            size += struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0]
        except OSError:
            pass
    return size


def remove_path(path: str) -> None:
    """Remove a Unix socket's name, if it is there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
