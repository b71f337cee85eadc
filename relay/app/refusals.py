"""An upstream's answer that is an error, as ours: headers, words, the clock, and whose key it was."""

from __future__ import annotations

from typing import Final

from relay.app.services import Upstream
from relay.errors import RelayError
from relay.providers import delays
from relay.providers.conditions import LIMITED, OVERLOADED
from relay.providers.failures import settled
from relay.upstream import Answer

ERROR_LIMIT_BYTES: Final = 1024 * 1024

Pairs = tuple[tuple[str, str], ...]


def headers_of(answer: Answer) -> dict[str, str]:
    """An answer's headers; of those that repeat the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.headers}


def limits_of(answer: Answer, now: float, *, client_key: bool) -> Pairs:
    """``x-ratelimit-*`` of a client's own key; those of the relay's key are nobody's business (translation.md §5.4)."""
    if not client_key or not any(b"ratelimit" in name for name, _ in answer.headers):
        return ()
    return delays.limits(headers_of(answer), now)


def inside(answer: Answer, error: RelayError, now: float, *, client_key: bool) -> RelayError:
    """The error that an answer of 200 held: its headers may say when to come back where it does not itself."""
    if error.kind in (LIMITED, OVERLOADED) and error.retry_after_s is None and error.retry_at_s is None:
        wait = delays.told(headers_of(answer))
        if wait is not None:
            error.retry_after_s, error.retry_at_s = wait.seconds, wait.at
    return settled(error, now, client_key=client_key)


def refusal(upstream: Upstream, answer: Answer, body: bytes, now: float, *, client_key: bool) -> RelayError:
    """The error of an answer that is not 200; ``now`` in seconds since 1970."""
    headers = headers_of(answer)
    error = upstream.provider.error(answer.status, headers, body)
    told = limits_of(answer, now, client_key=client_key)
    should_retry = headers.get("x-should-retry")
    if should_retry is not None:
        told = (*told, ("x-should-retry", should_retry[:8]))
    error.headers = (*error.headers, *told)
    return settled(error, now, client_key=client_key)
