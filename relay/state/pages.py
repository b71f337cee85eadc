"""Rows of a damaged file from its leaf pages, where the tree above them cannot be read any more.

Source: sqlite.org/fileformat2.html §1.5 to §2.1 (pages, cells, overflow, records) and §4 (the log). Which table a row
belongs to is told by its shape. Free pages hold nothing old: the store writes with ``secure_delete``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, TypeAlias

PAGE_BYTES: Final = 4_096  # what SQLite gives a new file; other sizes are not looked at
_LEAF: Final = 0x0D
_LARGEST: Final = PAGE_BYTES - 35  # of a payload that lies in its cell whole
_LEAST: Final = (PAGE_BYTES - 12) * 32 // 255 - 23
_OVERFLOW: Final = PAGE_BYTES - 4
_SIZES: Final = (0, 1, 2, 3, 4, 6, 8)  # of an integer by its serial type

Row: TypeAlias = tuple[int, list[Any]]
Reader: TypeAlias = Callable[[int], bytes]


class Garbled(Exception):
    """Not what a page of a table is made of."""


def leaf_rows(file: BinaryIO, log: BinaryIO | None) -> Iterator[list[Row]]:
    """For each page its rows; those that cannot be read are left out."""
    frames = _frames(log) if log is not None else {}
    file.seek(0, 2)
    count = max(file.tell() // PAGE_BYTES, max(frames, default=0))

    def read(number: int) -> bytes:
        source, at = (
            (log, frames[number]) if log is not None and number in frames else (file, (number - 1) * PAGE_BYTES)
        )
        source.seek(at)
        page = source.read(PAGE_BYTES)
        if number < 1 or len(page) < PAGE_BYTES:
            raise Garbled
        return page

    for number in range(2, count + 1):
        try:
            yield _rows_of(read(number), read)
        except Garbled:
            yield []


def _frames(log: BinaryIO) -> dict[int, int]:
    """Page number → where its last committed image lies in the log."""
    frames: dict[int, int] = {}
    waiting: dict[int, int] = {}
    log.seek(0)
    salt = log.read(32)[16:24]
    at = 32
    while len(head := log.read(24)) == 24 and head[8:16] == salt:
        number, size = struct.unpack_from(">II", head)
        waiting[number] = at + 24
        if size:  # the last of a transaction
            frames.update(waiting)
            waiting.clear()
        at += 24 + PAGE_BYTES
        log.seek(at)
    return frames


def _rows_of(page: bytes, read: Reader) -> list[Row]:
    if page[0] != _LEAF:
        return []
    (count,) = struct.unpack_from(">H", page, 3)
    if 8 + 2 * count > PAGE_BYTES:
        raise Garbled
    found: list[Row] = []
    for at in struct.unpack_from(f">{count}H", page, 8):
        try:
            found.append(_cell(page, at, read))
        except (Garbled, IndexError, struct.error, UnicodeDecodeError):
            continue
    return found


def _cell(page: bytes, at: int, read: Reader) -> Row:
    size, at = _varint(page, at)
    rowid, at = _varint(page, at)
    local = size
    if size > _LARGEST:
        local = _LEAST + (size - _LEAST) % _OVERFLOW
        local = local if local <= _LARGEST else _LEAST
    payload = page[at : at + local]
    if len(payload) < local:
        raise Garbled
    if size > local:
        parts = [payload]
        (following,) = struct.unpack_from(">I", page, at + local)
        left = size - local
        while left > 0:
            further = read(following)
            (following,) = struct.unpack_from(">I", further)
            parts.append(further[4 : 4 + left])
            left -= _OVERFLOW
        payload = b"".join(parts)
    return rowid - (1 << 64) if rowid >> 63 else rowid, _record(payload)


def _record(payload: bytes) -> list[Any]:
    end, at = _varint(payload, 0)
    kinds: list[int] = []
    while at < end:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    values: list[Any] = []
    for kind in kinds:
        value, at = _value(payload, at, kind)
        values.append(value)
    if at != len(payload):
        raise Garbled
    return values


def _value(payload: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind < len(_SIZES):
        end = at + _SIZES[kind]
        return (int.from_bytes(payload[at:end], "big", signed=True) if kind else None), end
    if kind == 7:
        return struct.unpack_from(">d", payload, at)[0], at + 8
    if kind in (8, 9):
        return kind - 8, at
    if kind < 12:
        raise Garbled
    end = at + (kind - 12) // 2
    blob = payload[at:end]
    return (blob.decode() if kind % 2 else blob), end


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(at, at + 8):
        value = value << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return value, place + 1
    return value << 8 | data[at + 8], at + 9


_TYPES: Final = {"TEXT": (str,), "INTEGER": (int,), "BLOB": (bytes,), "REAL": (float, int)}


class Column(NamedTuple):
    """What a table says of one; ``may_lack``: it was added later, and earlier rows end before it."""

    kind: str
    is_needed: bool
    is_rowid: bool
    may_lack: bool


def fits(values: list[Any], columns: list[Column]) -> bool:
    """Whether a record is one of a table of these columns."""
    if len(values) > len(columns) or not all(column.may_lack for column in columns[len(values) :]):
        return False
    for value, (kind, is_needed, is_rowid, _) in zip(values, columns, strict=False):
        if value is None or is_rowid:
            if value is not None or (is_needed and not is_rowid):
                return False
        elif not isinstance(value, _TYPES.get(kind, (object,))):
            return False
    return True


def open_log(aside: Path) -> BinaryIO | None:
    """The log of a file that was set aside, whatever became of its name."""
    for suffix in ("-wal", "-unread-wal"):
        log = aside.with_name(aside.name + suffix)
        if log.exists():
            return log.open("rb")
    return None
