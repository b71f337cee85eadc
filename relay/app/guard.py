"""Who may ask: keys, owners, and what a browser on another page may not do.

Source: decisions 28 (keys), 29 (owner), 30 (Origin, Host, content type).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final, NamedTuple

from relay.app.replies import Scope
from relay.config import ServerSettings, is_loopback
from relay.errors import RelayError

Headers = Mapping[bytes, bytes]
"""Lowercase names; of a repeated header the last."""


class Caller(NamedTuple):
    """Who asks: the owner of what is stored, and the key that goes to upstreams without one of their own."""

    owner: str
    key: str | None = None


_ANONYMOUS: Final = Caller("anonymous")


def take_place(scope: Scope) -> None:
    """Tell our server that a request is let in; where it has no place for it: RelayError ``overloaded``."""
    admit = (scope.get("extensions") or {}).get("relay.admit")
    if admit is not None and not admit():
        raise RelayError("overloaded", "The relay has too many connections.", retry_after_s=1)


class Guard:
    """The rules of one configuration."""

    def __init__(self, settings: ServerSettings, keys: Mapping[str, str]) -> None:
        self._names = {hashlib.sha256(secret.encode()).digest(): name for name, secret in keys.items()}
        self._origins = frozenset(origin.lower().rstrip("/") for origin in settings.allowed_origins)
        self._any_origin = "*" in self._origins
        self._hosts = frozenset(host.lower() for host in settings.allowed_hosts)
        self._unix = settings.uds is not None

    def allowed_origin(self, headers: Headers) -> bytes | None:
        """The request's Origin, if it has one. Raises: RelayError ``forbidden`` where it is not allowed."""
        origin = headers.get(b"origin")
        if origin is None:
            return None
        if not self._any_origin and origin.decode("latin-1").lower() not in self._origins:
            raise RelayError("forbidden", "This Origin is not in [server] allowed_origins.")
        return origin

    def check_browser(self, headers: Headers, method: str, *, bodiless: bool = False) -> None:
        """Without keys, nothing that a web page can send across origins gets through. Raises: RelayError.

        ``bodiless``: where nothing is expected to be posted, a missing content type is none of a form; a page that
        posts across origins is told by its Origin, which browsers add to every POST (WHATWG Fetch §3.2).
        """
        if self._names:
            return
        if headers.get(b"sec-fetch-site") == b"cross-site" and b"origin" not in headers:
            # A GET for an image, a script or a link has no Origin; an Origin that is there has been looked at.
            raise RelayError("forbidden", "A page of another site asks for this, and the relay has no [keys].")
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if not (is_loopback(name) or host in self._hosts or name in self._hosts or (self._unix and not host)):
            message = "This Host is neither a loopback name nor in [server] allowed_hosts, and the relay has no [keys]."
            raise RelayError("forbidden", message)
        content_type = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if method == "POST" and content_type != b"application/json" and (content_type or not bodiless):
            raise RelayError("unsupported_media_type", "The Content-Type of a POST must be application/json.")

    def caller(self, headers: Headers) -> Caller:
        """Who asks. Raises: RelayError ``invalid_api_key`` where the relay has keys and this is none of them."""
        token = _bearer(headers)
        if self._names:
            digest = hashlib.sha256(token).digest()
            for known, name in self._names.items():
                if hmac.compare_digest(known, digest):
                    return Caller(name)
            words = (
                "Incorrect API key provided." if token else "You did not provide an API key: Authorization: Bearer KEY."
            )
            raise RelayError("invalid_api_key", words)
        if not token:
            return _ANONYMOUS
        return Caller(hashlib.sha256(token).hexdigest(), token.decode("latin-1"))


def _bearer(headers: Headers) -> bytes:
    """The client's key: its bearer, else Azure's ``api-key``, which counts as one (decision 28)."""
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    token = token.strip() if scheme.lower() == b"bearer" else b""
    return token or headers.get(b"api-key", b"").strip()
