"""Upstream errors as ours: one table of conditions for every dialect.

Source: translation.md §5.1 (shapes), §5.2 (table), §5.4 (headers). A provider takes its own shape apart and asks
``classify``; the app then says ``for_client_key`` where the key was the client's own (BYOK).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from relay.errors import RelayError
from relay.responses.json import loads

MESSAGE_LIMIT: Final = 2_000
"""Characters of an upstream's message that are shown."""


class Condition(NamedTuple):
    """A row: all of what is given must match. ``codes`` are looked for among the upstream's code, type and status."""

    kind: str
    statuses: tuple[int, ...] = ()
    codes: frozenset[str] = frozenset()
    text: re.Pattern[str] | None = None
    generic: str | None = None
    """Shown in place of the upstream's words, where these may name keys, hosts or organisations."""


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_UNREADY: Final = "The upstream is overloaded. Please try again later."

CONDITIONS: Final[tuple[Condition, ...]] = (
    Condition(
        "context_length_exceeded",
        text=_words(
            r"maximum context length",
            r"context[_ ]length[_ ]exceeded",
            r"prompt is too long",
            r"exceeds? (the |model'?s? )?(maximum )?context",
            r"input token count.{0,40}exceeds",
            r"exceed_context_size",
            r"exceeds the available context size",
            r"input is too long",
            r"too many tokens",
        ),
        statuses=(400, 413, 422, 500),
    ),
    Condition("context_length_exceeded", codes=frozenset({"context_length_exceeded", "exceed_context_size_error"})),
    Condition(
        "upstream_billing",
        codes=frozenset(
            {"insufficient_quota", "billing_error", "billing_hard_limit_reached", "credit_balance_exhausted"}
        ),
        generic="The upstream refused the request for reasons of billing or quota.",
    ),
    Condition("upstream_billing", (402,), generic="The upstream refused the request for reasons of billing or quota."),
    Condition(
        "upstream_authentication",
        (400, 401, 403),
        text=_words(r"api[ _-]?key not valid", r"invalid (x-)?api[ _-]?key", r"incorrect api key"),
        generic="The upstream did not accept the API key.",
    ),
    Condition("upstream_authentication", (401,), generic="The upstream did not accept the API key."),
    Condition(
        "upstream_authentication",
        codes=frozenset({"authentication_error", "UNAUTHENTICATED", "invalid_api_key"}),
        generic="The upstream did not accept the API key.",
    ),
    Condition(
        "content_policy",
        codes=frozenset({"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation", "moderation"}),
    ),
    Condition("invalid_prompt", codes=frozenset({"invalid_prompt"})),
    Condition("rate_limited", (429,)),
    Condition("rate_limited", codes=frozenset({"rate_limit_error", "rate_limit_exceeded", "RESOURCE_EXHAUSTED"})),
    Condition("upstream_forbidden", (403,), generic="The upstream does not permit this request with the key it has."),
    Condition(
        "upstream_forbidden",
        codes=frozenset({"permission_error", "PERMISSION_DENIED", "permission_denied"}),
        generic="The upstream does not permit this request with the key it has.",
    ),
    Condition("model_not_found", (404,)),
    Condition("model_not_found", codes=frozenset({"model_not_found", "not_found_error", "NOT_FOUND", "NotFoundError"})),
    Condition("upstream_timeout", (408, 504), generic="The upstream timed out."),
    Condition(
        "upstream_timeout", codes=frozenset({"timeout_error", "DEADLINE_EXCEEDED"}), generic="The upstream timed out."
    ),
    Condition("conflict", (409,)),
    Condition("request_too_large", (413,)),
    Condition("request_too_large", codes=frozenset({"request_too_large"})),
    Condition("overloaded", (498, 499, 502, 503, 529), generic=_UNREADY),
    Condition(
        "overloaded",
        codes=frozenset({"overloaded_error", "UNAVAILABLE", "server_is_overloaded", "server_overloaded", "slow_down"}),
        generic=_UNREADY,
    ),
    Condition(
        "failed_to_download_image",
        (400, 422),
        text=_words(r"(failed|unable|could not|error).{0,20}(download|fetch).{0,40}(image|url|file)"),
    ),
    Condition("image_parse_error", (400, 422), text=_words(r"could not process image", r"invalid image data")),
    Condition("invalid_request", (400, 405, 415, 422)),
    Condition(
        "invalid_request",
        codes=frozenset({"invalid_request_error", "INVALID_ARGUMENT", "BadRequestError", "FAILED_PRECONDITION"}),
    ),
)


def classify(
    status: int,
    *,
    codes: tuple[object, ...] = (),
    message: str = "",
    param: str | None = None,
    code: str | None = None,
    text: str = "",
    retry_after_s: float | None = None,
    repair: str | None = None,
) -> RelayError:
    """The RelayError of an upstream's error.

    ``codes``: the upstream's code, type and status words. ``text``: more of its words to look at, not to show.
    ``code``: the upstream's own code, shown where the row has none. Whatever no row knows is ``upstream_error``.
    """
    given = {str(value) for value in codes if value is not None}
    searched = f"{message}\n{text}"
    for row in CONDITIONS:
        if row.statuses and status not in row.statuses:
            continue
        if row.codes and not row.codes & given:
            continue
        if row.text is not None and not row.text.search(searched):
            continue
        shown = row.generic or clean(message) or f"The upstream answered with status {status}."
        named = code if row.kind in ("invalid_request",) else None
        return RelayError(
            row.kind,
            shown,
            param=param,
            code=named,
            retry_after_s=retry_after_s,
            repair=repair,
            detail=f"upstream status {status}: {message[:500]}",
        )
    if 300 <= status < 400:
        kind, shown = "upstream_misconfigured", "The upstream answered with a redirect: its base_url is wrong."
    else:
        kind, shown = "upstream_error", "The upstream had an error while processing the request."
    return RelayError(
        kind, shown, retry_after_s=retry_after_s, repair=repair, detail=f"upstream status {status}: {message[:500]}"
    )


_CLIENT_KEY: Final = {
    "upstream_authentication": ("invalid_api_key", "The API key was not accepted by the upstream."),
    "upstream_billing": ("insufficient_quota", "The upstream refused the request for reasons of billing or quota."),
    "upstream_forbidden": ("permission_denied", "The upstream does not permit this request with this API key."),
}


def for_client_key(error: RelayError) -> RelayError:
    """The same error where the key was the client's own: what concerns the key is then the client's affair."""
    row = _CLIENT_KEY.get(error.kind)
    if row is None:
        return error
    return RelayError(row[0], row[1], retry_after_s=error.retry_after_s, detail=error.detail, repair=error.repair)


_SECRETS: Final = re.compile(r"\b(sk-|sk_|gsk_|xai-|AIza|Bearer\s+)[A-Za-z0-9_\-*.]{6,}|\borg-[A-Za-z0-9]{6,}")


def clean(message: str) -> str:
    """An upstream's words without keys, organisation ids and control characters, cut to ``MESSAGE_LIMIT``."""
    text = _SECRETS.sub("[redacted]", message)
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text[:MESSAGE_LIMIT]).strip()


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by ``retry-after-ms`` or ``retry-after``; None for a date, which needs a clock, and nonsense."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * scale
        except (KeyError, ValueError):
            continue
        if 0 <= seconds < 86_400:
            return seconds
    return None


def parse_body(body: bytes) -> Any:
    """An error body as JSON; None where it is no JSON (an HTML page, nothing, garbage)."""
    try:
        return loads(body)
    except ValueError:
        return None
