"""Keys out of what clients and the log are told: upstreams repeat in their errors what they were sent (decision 28)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from relay.errors import RelayError

HIDDEN: Final = "[redacted]"
_SHORTEST: Final = 8  # a shorter secret would blank ordinary words


class Redactor:
    """Knows every configured secret; a caller's own key is given with the call."""

    __slots__ = ("_known",)

    def __init__(self, secrets: Iterable[str]) -> None:
        # the longest first: a secret may begin with another
        known = sorted((one for one in secrets if len(one) >= _SHORTEST), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def text(self, text: str, client_key: str | None = None) -> str:
        """``text`` without the secrets."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        if client_key is not None and len(client_key) >= _SHORTEST:
            text = text.replace(client_key, HIDDEN)
        return text

    def error(self, error: RelayError, client_key: str | None = None) -> RelayError:
        """The same error, said without them."""
        error.message = self.text(error.message, client_key)
        error.args = (error.message,)
        for name in ("detail", "code", "param", "type"):
            value = getattr(error, name)
            if value is not None:
                setattr(error, name, self.text(value, client_key))
        return error
