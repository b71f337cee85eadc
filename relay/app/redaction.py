"""Keys out of what clients and the log are told: upstreams repeat in their errors what they were sent (decision 28).

Rules. A secret of eight characters and more is hidden wherever it stands, and so is its beginning: a text that was cut
may end inside it (issue 10 point 7). A shorter one (local servers take any word) only where it can be nothing else:
after ``Bearer``, or as the value of a header for keys; hidden everywhere it would spoil answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import orjson

from relay.errors import RelayError
from relay.responses.json import encoded, loads
from relay.responses.tools import JSON

HIDDEN: Final = "[redacted]"
SHORTEST: Final = 8  # characters of a secret that is hidden wherever it stands, and of a beginning of one
_SHORTEST_END: Final = 4  # characters of a beginning at the end of a text that may have been cut
_CUT_FROM: Final = 64  # characters of such a text
_SAID: Final = ("output", "x_relay_warnings")
_HEADERS: Final = r"authorization|(?:[\w-]+-)?key"


class Redactor:
    """Knows every configured secret; a caller's own key is given with the call."""

    __slots__ = ("_encoded", "_heads", "_hidden", "_long", "_short")

    def __init__(self, secrets: Iterable[str], hidden: str = HIDDEN, headers: Iterable[str] = ()) -> None:
        """``headers``: names of those that carry secrets, beside the usual ones."""
        known = {form for one in secrets if one for form in (one, orjson.dumps(one)[1:-1].decode())}
        self._hidden = hidden
        self._long = tuple(sorted(one.lower() for one in known if len(one) >= SHORTEST))
        heads = sorted({one[:SHORTEST] for one in self._long})
        self._heads = re.compile("|".join(map(re.escape, heads)), re.IGNORECASE) if heads else None
        short = sorted((re.escape(one) for one in known if len(one) < SHORTEST), key=len, reverse=True)
        names = "|".join([_HEADERS, *map(re.escape, sorted(headers))])
        places = rf"(?:\bbearer\s+|\b(?:{names})[\"']?\s*[:=]\s*[\"']?(?:bearer\s+)?)"
        self._short = re.compile(rf"({places})(?:{'|'.join(short)})(?![\w.-])", re.IGNORECASE) if short else None
        self._encoded = tuple(one.encode() for one in sorted(known, key=len, reverse=True) if len(one) >= SHORTEST)

    def text(self, text: str, client_key: str | None = None) -> str:
        """``text`` without the secrets."""
        if client_key is not None and len(client_key) >= SHORTEST:
            text = Redactor((client_key,), self._hidden).text(text)
        if self._heads is not None:
            text = self._without_long(text, self._heads)
        if self._short is not None:
            text = self._short.sub(lambda match: match[1] + self._hidden, text)
        return text

    def data(self, data: bytes) -> bytes:
        """A body that is an answer, at the same length; whole secrets only, since nobody has cut it."""
        return _blanked(data, self._encoded)

    def answer(self, response: JSON, client_key: str | None = None, *, native: bool = True) -> None:
        """Whole secrets out of a Response, in place: before it is kept, and before an event shows it.

        ``native``: all of it may be an upstream's words, else only what is said in it.
        """
        own = (client_key.encode(),) if client_key is not None and len(client_key) >= SHORTEST else ()
        if self._encoded or own:
            told = response if native else {name: response[name] for name in _SAID if name in response}
            said = encoded(told)
            hidden = _blanked(said, (*self._encoded, *own))
            if hidden is not said:
                response.update(loads(hidden))

    def stream(self) -> Hiding:
        """For a body that is passed on in pieces."""
        return Hiding(self._encoded)

    def _without_long(self, text: str, heads: re.Pattern[str]) -> str:
        pieces: list[str] = []
        at = 0
        while (found := heads.search(text, at)) is not None:
            pieces += (text[at : found.start()], self._hidden)
            at = found.start() + max(_common(text, found.start(), one) for one in self._long)
        rest = text[at:]
        if len(text) >= _CUT_FROM:
            for size in range(min(SHORTEST - 1, len(rest)), _SHORTEST_END - 1, -1):
                if any(one.startswith(rest[-size:].lower()) for one in self._long):
                    rest = rest[:-size] + self._hidden
                    break
        return "".join([*pieces, rest])

    def error(self, error: RelayError, client_key: str | None = None) -> RelayError:
        """The same error, said without them."""
        error.message = self.text(error.message, client_key)
        error.args = (error.message,)
        for name in ("detail", "code", "param", "type"):
            value = getattr(error, name)
            if value is not None:
                setattr(error, name, self.text(value, client_key))
        return error


def _blanked(data: bytes, secrets: Iterable[bytes]) -> bytes:
    """The same object where it holds none of them."""
    for secret in secrets:
        if secret in data:
            data = data.replace(secret, b"*" * len(secret))
    return data


class Hiding:
    """``Redactor.data`` piece by piece: of what came only the end is held back that a secret may begin with."""

    __slots__ = ("_held", "_secrets")

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        self._secrets = secrets
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can go out now; ``data`` is empty at the end."""
        whole = _blanked(self._held + data, self._secrets)
        held = max((_begun(whole, secret) for secret in self._secrets), default=0) if data else 0
        self._held = whole[len(whole) - held :]
        return whole[: len(whole) - held]


def _begun(data: bytes, secret: bytes) -> int:
    """How many bytes at the end of ``data`` ``secret`` may begin with."""
    return next((size for size in range(min(len(secret) - 1, len(data)), 0, -1) if data.endswith(secret[:size])), 0)


def _common(text: str, start: int, secret: str) -> int:
    """How much of ``secret``, in lower case, stands in ``text`` from ``start`` on."""
    size = 0
    for expected, found in zip(secret, text[start : start + len(secret)], strict=False):
        if found.lower() != expected:
            break
        size += 1
    return size
