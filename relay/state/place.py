"""Whether the file that is open is still the one under its path, and nobody else has written into it.

Source: sqlite.org/howtocorrupt.html §4.4, sqlite.org/fileformat2.html §4.1 (the head of the log). What is asked
around a commit costs twice three stat(2) and a read of 32 bytes, some 60 µs. Only a checkpoint writes into the database
file itself: whoever makes one says in ``.checkpoint`` how it left the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from relay.state.locks import claim
from relay.state.schema import Files, beside, files_of, stamp_of

_BUSY: Final = b"busy"
_MAGICS: Final = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")


class Moved(Exception):
    """The file under the path, or its log, is not the one that is open, or was written over.

    ``committed``: what was to be committed is, into what is open. ``overwritten``: what somebody else wrote into.
    """

    def __init__(self, *, committed: bool = False, overwritten: str = "") -> None:
        self.committed = committed
        self.overwritten = overwritten


class Place:
    """What a connection was opened on: made after it has read; for one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: Files = files_of(path)
        self._names = str(path), str(beside(path, "-wal")), str(beside(path, "-shm"))
        self._stamp = stamp_of(path)
        self._log: int | None = None
        try:
            # Closing a descriptor of the log drops nobody's locks: they are on the two other files.
            self._log = os.open(beside(path, "-wal"), os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError:
            pass

    def close(self) -> None:
        """Let go of the log."""
        if self._log is not None:
            os.close(self._log)
            self._log = None

    def check(self, *, committed: bool = False) -> None:
        """hot: twice a commit. Raises: ``Moved``."""
        database, log, shared = self._names
        try:
            main, beside_it, index = os.stat(database), os.stat(log), os.stat(shared)
        except OSError:
            raise Moved(committed=committed) from None
        found = (
            (main.st_dev, main.st_ino),
            (beside_it.st_dev, beside_it.st_ino),
            (index.st_dev, index.st_ino),
        )
        if found != self.files:
            raise Moved(committed=committed)
        if (main.st_mtime_ns, main.st_size) != self._stamp:
            self._check_writer(committed=committed)
        if committed:
            self._check_log()

    @contextmanager
    def checkpoint(self) -> Iterator[bool]:
        """Around a checkpoint; false if another process is at one, and none is to be made."""
        descriptor = claim(beside(self.path, ".checkpoint"))
        if descriptor is None:
            yield False
            return
        try:
            self._check_record(descriptor, committed=False)
            _write(descriptor, _BUSY)
            yield True
            self._stamp = stamp_of(self.path)
            _write(descriptor, self._stamp.written() if self._stamp else _BUSY)
        finally:
            os.close(descriptor)

    def _check_writer(self, *, committed: bool) -> None:
        """The file was written: by a checkpoint of ours, of another process that said so, or by somebody else?"""
        descriptor = claim(beside(self.path, ".checkpoint"))
        if descriptor is None:
            return  # a checkpoint is being made: the next commit asks again
        try:
            self._check_record(descriptor, committed=committed)
        finally:
            os.close(descriptor)

    def _check_record(self, descriptor: int, *, committed: bool) -> None:
        now, record = stamp_of(self.path), os.pread(descriptor, 64, 0)
        # who left ``busy`` died at it
        if now != self._stamp and record != _BUSY and (now is None or record != now.written()):
            raise Moved(committed=committed, overwritten="it")
        self._stamp = now

    def _check_log(self) -> None:
        """A log in which anything was written has a head: else it was cut off, or written over."""
        if self._log is None:
            return
        head = os.pread(self._log, 32, 0)
        if head and (len(head) < 32 or head[:4] not in _MAGICS):
            raise Moved(committed=True, overwritten="its log")


def _write(descriptor: int, content: bytes) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, content, 0)
