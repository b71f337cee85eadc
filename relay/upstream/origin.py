"""Where an upstream is: scheme, host and port, or a Unix socket; read out of a URL once, then a key of the pool.

Source: RFC 3986 (URLs), RFC 9110 §7.2 (Host), design.md §3 (``base_url``, ``ca_file``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

_PORTS: Final = {"http": 80, "https": 443}
_UNIX: Final = "unix:"
_UNIX_BASE_PATH: Final = "/v1"  # what local inference servers serve under; ``unix:/run/x.sock:/`` says otherwise
_SAFE: Final = "/%:@!$&'()*+,;=-._~?"  # what a request target keeps as it is


@dataclass(frozen=True, slots=True)
class Origin:
    """A place to connect to. ``unix`` is a path and then ``host`` is only a name; ``ca_file`` replaces the system's."""

    scheme: str
    host: str
    port: int
    unix: str | None = None
    ca_file: str | None = None

    @property
    def tls(self) -> bool:
        return self.scheme == "https"

    @property
    def host_header(self) -> str:
        """The value of ``Host``: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.unix is not None or self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"unix:{self.unix}" if self.unix is not None else f"{self.scheme}://{self.host_header}"


def parse_base_url(url: str, ca_file: str | None = None) -> tuple[Origin, str]:
    """The origin, and the path (no slash at its end) that ``/chat/completions`` and the like are appended to.

    ``http(s)://host[:port][/path]``, ``unix:/run/x.sock`` (path ``/v1``) or ``unix:/run/x.sock:/path``.
    Raises: ValueError, in words that hold nothing of the URL's user, password or query.
    """
    if url.startswith(_UNIX):
        return _parse_unix(url)
    parts, origin = _parse(url, ca_file)
    if parts.query or parts.fragment:
        raise ValueError("a base_url has no query and no fragment")
    return origin, quote(parts.path.rstrip("/"), safe=_SAFE)


def parse_url(url: str, ca_file: str | None = None) -> tuple[Origin, str]:
    """The origin and the request target (path and query) of an ``http`` or ``https`` URL; its fragment is left out.

    Raises: ValueError.
    """
    parts, origin = _parse(url, ca_file)
    target = (parts.path or "/") + ("?" + parts.query if parts.query else "")
    return origin, quote(target, safe=_SAFE)


def _parse(url: str, ca_file: str | None) -> tuple[SplitResult, Origin]:
    if any(character <= " " or character == "\x7f" for character in url):
        raise ValueError("a URL holds no spaces and no control characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("the URL's host or port cannot be read") from None
    if parts.scheme not in _PORTS:
        raise ValueError("a URL begins with http://, https:// or unix:/")
    if "@" in parts.netloc:
        raise ValueError("a URL holds no user and no password; keys belong into api_key")
    if not parts.hostname:
        raise ValueError("the URL names no host")
    if port == 0:
        raise ValueError("port 0 cannot be connected to")
    host = _ascii_host(parts.hostname)
    return parts, Origin(parts.scheme, host, port or _PORTS[parts.scheme], None, ca_file)


def _ascii_host(host: str) -> str:
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError("the URL's host name has an empty or overlong part, or cannot be written in IDNA") from None


def _parse_unix(url: str) -> tuple[Origin, str]:
    path, colon, base_path = url[len(_UNIX) :].partition(":/")
    if path.startswith("//"):  # unix:///run/x.sock
        path = path[2:]
    if not path.startswith("/") or "\0" in path:
        raise ValueError("a Unix socket is written unix:/absolute/path.sock or unix:/absolute/path.sock:/v1")
    base = "/" + base_path.strip("/") if colon else _UNIX_BASE_PATH
    return Origin("http", "localhost", 80, path), quote(base.rstrip("/"), safe=_SAFE)
