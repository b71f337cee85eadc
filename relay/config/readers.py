"""One function a type of row: from a TOML value to ours, or a complaint that names file, key and what was expected."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from relay.config.table import MAPPED_NAMES, Setting, words
from relay.config.values import Network, Secret


class ConfigError(Exception):
    """The configuration cannot be used; the message is one line that names file, key and what was expected."""


class Place(NamedTuple):
    """What a reader knows besides the value: how the key is called, the folder of relative paths, the environment."""

    where: str
    folder: Path
    environ: Mapping[str, str]

    def error(self, problem: str) -> ConfigError:
        """``problem``, said about this place."""
        return ConfigError(f"{self.where}: {problem}")


class _UnexpectedError(Exception):
    """The value is not what the row expects; the argument, if any, says what it is instead."""


def read(value: Any, row: Setting, place: Place) -> Any:
    """The checked value of ``row``. Raises: ConfigError."""
    try:
        return READERS[row.type](value, row, place)
    except _UnexpectedError as error:
        got = error.args[0] if error.args else shape(value)
        raise place.error(f"expected {words(row)}, got {got}") from None


def shape(value: Any) -> str:
    """What kind of value it is; numbers are shown, strings are not, for they may be secrets in the wrong place."""
    if isinstance(value, bool):
        return str(value).lower()
    for kind, said in ((str, "a string" if value else "an empty string"), (list, "a list"), (dict, "a table")):
        if isinstance(value, kind):
            return said
    return str(value)


def nearest(name: str, names: Collection[str]) -> str:
    """``; did you mean "…"?`` where one of ``names`` is near, else nothing."""
    near = difflib.get_close_matches(name.lower(), [*names], 1, 0.6)
    return f'; did you mean "{near[0]}"?' if near else ""


# ------------------------------------------------------------------------------------------------ plain values


def _integer(value: Any, row: Setting, place: Place) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not row.limits[0] <= value <= row.limits[1]:
        raise _UnexpectedError
    return value


def _number(value: Any, row: Setting, place: Place) -> float:
    # Not a number (nan) compares false with both bounds.
    if isinstance(value, bool) or not isinstance(value, int | float) or not row.limits[0] <= value <= row.limits[1]:
        raise _UnexpectedError
    return float(value)


def _boolean(value: Any, row: Setting, place: Place) -> bool:
    if not isinstance(value, bool):
        raise _UnexpectedError
    return value


def _text(value: Any, row: Setting, place: Place) -> str:
    if not isinstance(value, str) or not value:
        raise _UnexpectedError
    return value


def _choice(value: Any, row: Setting, place: Place) -> str:
    if not isinstance(value, str):
        raise _UnexpectedError
    if value not in row.limits:
        raise _UnexpectedError(f'"{value}"{nearest(value, row.limits)}')
    return value


def _version(value: Any, row: Setting, place: Place) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value, row, place)


def _table(value: Any, row: Setting, place: Place) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _UnexpectedError
    return value


def _any(value: Any, row: Setting, place: Place) -> Any:
    return value


def _strings(value: Any, row: Setting, place: Place) -> dict[str, str]:
    table = _table(value, row, place)
    for key, text in table.items():
        if not isinstance(text, str):
            raise _UnexpectedError(f'{shape(text)} for "{key}"')
    return table


def _texts(value: Any, row: Setting, place: Place) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _UnexpectedError
    for index, text in enumerate(value):
        if not isinstance(text, str) or not text:
            raise _UnexpectedError(f"{shape(text)} at [{index}]")
    return tuple(value)


def _path(value: Any, row: Setting, place: Place) -> str:
    return str(place.folder / Path(_text(value, row, place)).expanduser())


def _mode(value: Any, row: Setting, place: Place) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value):
        raise _UnexpectedError
    return value


def _file(value: Any, row: Setting, place: Place) -> str:
    path = _path(value, row, place)
    if not Path(path).is_file():
        raise place.error(f"there is no file {path}")
    return path


# ------------------------------------------------------------------------------------------------ secrets


def _key(value: Any, row: Setting, place: Place) -> Secret:
    if not isinstance(value, str) or not value.startswith(("env:", "file:")):
        raise _UnexpectedError("the key itself" if isinstance(value, str) and value else shape(value))
    return _secret(value, row, place)


def _secret(value: Any, row: Setting, place: Place) -> Secret:
    """Whatever is wrong with a secret, the message holds no part of it."""
    text = _text(value, row, place)
    if text.startswith("env:"):
        variable = text.removeprefix("env:")
        secret, source = place.environ.get(variable, "").strip(), f"the environment variable {variable}"
        if not secret:
            raise place.error(f"{source} is not set")
    elif text.startswith("file:"):
        source = str(place.folder / Path(text.removeprefix("file:")).expanduser())
        try:
            secret = Path(source).read_text(encoding="utf-8", errors="replace").strip()
        except OSError as error:
            raise place.error(f"{source} cannot be read: {error.strerror}") from None
        if not secret:
            raise place.error(f"{source} is empty")
    elif text.startswith("$"):
        raise place.error('variables are written "env:VARIABLE", without a dollar sign')
    else:
        secret, source = text, "the key"
    if not re.fullmatch(r"[\x21-\x7e]+", secret):
        raise place.error(f"{source} holds a space, a line break or a character that cannot stand in a header")
    return Secret(secret)


# ------------------------------------------------------------------------------------------------ addresses and headers


def _address(value: Any, row: Setting, place: Place) -> str:
    text = _text(value, row, place)
    if text.startswith("unix:"):
        if not re.fullmatch(r"unix:(//)?/[^:?#\s]+(:/[^:?#\s]*)?", text):
            raise _UnexpectedError
        return text
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound or re.search(r"[\s\x00-\x1f\x7f]", text):
        raise _UnexpectedError
    if "@" in parts.netloc:
        raise place.error("a user or key does not belong into an address; use api_key")
    if parts.query or parts.fragment:
        raise place.error("an address with a query or fragment is not supported (Azure: use …/openai/v1)")
    return text.rstrip("/")


_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Headers that the relay writes for each request itself; a second copy would contradict it.
_OWN_HEADERS: Final = frozenset(
    {"host", "content-length", "content-type", "content-encoding", "transfer-encoding", "connection", "accept"}
    | {"accept-encoding", "expect", "te", "trailer", "upgrade", "keep-alive"}
)


def _header(value: Any, row: Setting, place: Place) -> str:
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise _UnexpectedError
    return _free_header(value, place)


def _free_header(name: str, place: Place) -> str:
    if name.lower() in _OWN_HEADERS:
        raise place.error(f'the relay writes "{name.lower()}" itself')
    return name.lower()


def _headers(value: Any, row: Setting, place: Place) -> tuple[tuple[str, str], ...]:
    headers = _strings(value, row, place)
    for name, text in headers.items():
        if not _TOKEN.fullmatch(name):
            raise place.error(f'"{name}" is not the name of a header')
        if not re.fullmatch(r"[\t\x20-\x7e]*", text):
            raise place.error(f'the value of "{name}" holds a character that cannot stand in a header')
    return tuple((_free_header(name, place), text.strip()) for name, text in headers.items())


def _origins(value: Any, row: Setting, place: Place) -> tuple[str, ...]:
    for text in _texts(value, row, place):
        if not re.fullmatch(r"null|\*|[a-z][a-z0-9+.-]*://[^/?#@*\s]+", text, re.IGNORECASE):
            raise _UnexpectedError(f'"{text}"')
    return tuple(text.lower() for text in value)


def _hosts(value: Any, row: Setting, place: Place) -> tuple[str, ...]:
    for text in _texts(value, row, place):
        if not re.fullmatch(r"[a-z0-9._-]+|\[?[0-9a-f:]*:[0-9a-f:.]*]?", text, re.IGNORECASE) or _has_port(text):
            raise _UnexpectedError(f'"{text}"')
    return tuple(text.lower() for text in value)


def _has_port(text: str) -> bool:
    return text.count(":") == 1


def _networks(value: Any, row: Setting, place: Place) -> tuple[Network, ...]:
    networks = []
    for text in _texts(value, row, place):
        try:
            networks.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            raise _UnexpectedError(f'"{text}"') from None
    return tuple(networks)


# ------------------------------------------------------------------------------------------------ models and prompts


def _names(value: Any, row: Setting, place: Place) -> tuple[str, ...]:
    names = _texts(value, row, place)
    for name in names:
        if name in MAPPED_NAMES:
            raise place.error(f'the relay maps "{name}" itself; it cannot be forwarded')
    return names


def _targets(value: Any, row: Setting, place: Place) -> tuple[str, ...]:
    targets = (value,) if isinstance(value, str) and value else _texts(value, row, place)
    if not targets:
        raise _UnexpectedError("an empty list")
    return targets


_ROLES: Final = ("system", "developer", "user", "assistant")


def _messages(value: Any, row: Setting, place: Place) -> tuple[dict[str, Any], ...]:
    if not isinstance(value, list):
        raise _UnexpectedError
    for index, message in enumerate(value):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str | list):
            raise _UnexpectedError(f"something else at [{index}]")
        if message.get("role") not in _ROLES:
            raise place.error(f"[{index}].role must be one of {', '.join(_ROLES)}")
    return tuple(value)


READERS: Final[dict[str, Callable[[Any, Setting, Place], Any]]] = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "choice": _choice,
    "text": _text,
    "texts": _texts,
    "path": _path,
    "mode": _mode,
    "file": _file,
    "strings": _strings,
    "table": _table,
    "any": _any,
    "version": _version,
    "key": _key,
    "secret": _secret,
    "address": _address,
    "header": _header,
    "headers": _headers,
    "origins": _origins,
    "hosts": _hosts,
    "networks": _networks,
    "names": _names,
    "targets": _targets,
    "messages": _messages,
}
