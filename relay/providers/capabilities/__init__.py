"""The capability table: what a model can do, as data, chosen by dialect, address, model pattern or ``quirks``.

Source: translation.md §0.2. Each dialect's rows are a module beside this one: a tuple of ``Row``s, read top to bottom;
every row that matches adds to the record, later rows win, and the configuration's ``[capabilities."GLOB"]`` wins over
all.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple


class Row(NamedTuple):
    """One row: where it applies (all that is given must match) and what it sets.

    ``models``: globs over the model's name, lower case. ``hosts``: substrings of the base URL. ``quirks``: the value of
    ``quirks`` in the configuration.
    """

    sets: Mapping[str, Any]
    models: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    quirks: tuple[str, ...] = ()


def capabilities(
    rows: tuple[Row, ...], *, model: str, base_url: str, quirks: str | None, overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """The record for one model behind one upstream.

    ``quirks`` given by name replaces recognition by address: a row with ``hosts`` also matches by its ``quirks``.
    """
    # hot: the same few models are asked for in every request
    key = (id(rows), model, base_url, quirks)
    known = _CACHE.get(key)
    if known is None or known[0] is not rows:
        if len(_CACHE) >= _CACHE_LIMIT:
            _CACHE.clear()
        known = _CACHE[key] = (rows, _record(rows, model.lower(), base_url, quirks))
    return {**known[1], **overrides}


_CACHE_LIMIT: Final = 1_024
_CACHE: Final[dict[tuple[int, str, str, str | None], tuple[tuple[Row, ...], dict[str, Any]]]] = {}


def _record(rows: tuple[Row, ...], name: str, base_url: str, quirks: str | None) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for row in rows:
        if row.models and not any(fnmatchcase(name, pattern) for pattern in row.models):
            continue
        if row.quirks or row.hosts:
            by_name = quirks is not None and quirks in row.quirks
            by_host = quirks is None and any(host in base_url for host in row.hosts)
            if not by_name and not by_host:
                continue
        record.update(row.sets)
    return record
