"""The models that an upstream offers, asked of the upstream itself: for ``/v1/models`` and for ``relay check``.

Source: issue 2 point 2, issue 3 part 1; the vendors' list endpoints (OpenAI ``GET /models``, Anthropic
``GET /v1/models``, Gemini ``GET /v1beta/models``). Keys go into headers, never into a URL (translation.md §1.2).
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final, NamedTuple

import orjson

from relay.app.services import Upstream, make_upstreams
from relay.config import Settings, UpstreamSettings
from relay.errors import RelayError
from relay.upstream import Timeouts, parse_base_url

_LIMIT_BYTES: Final = 16 << 20  # OpenRouter's list, the longest known, has about one
_LIMIT_S: Final = 15.0
_LIMIT: Final = 10_000  # models
_PATHS: Final = {
    "chat": ("", "/models"),
    "responses": ("", "/models"),
    "anthropic": ("/v1", "/models?limit=1000"),
    "gemini": ("/v1beta", "/models?pageSize=1000"),
}
_HEADERS: Final = {"anthropic": (("anthropic-version", "2023-06-01"),)}


class _Signed(NamedTuple):
    """Addresses that take only requests signed in a way that we do not do; some do with a key instead."""

    host: re.Pattern[str]
    dialects: frozenset[str]  # that need it even with a key
    problem: str


_SIGNED: Final = (
    _Signed(
        re.compile(r"bedrock-runtime[a-z-]*\.[a-z0-9-]+\.amazonaws\.com(\.cn)?"),
        frozenset({"anthropic", "gemini"}),
        "this address needs requests signed by AWS (SigV4), which is not supported; dialect chat or responses with a "
        "Bedrock API key as api_key, or a bedrock-mantle address, does without",
    ),
    _Signed(
        re.compile(r"([a-z0-9-]+-)?aiplatform\.googleapis\.com"),
        frozenset(),
        "signing in to Vertex with a service account is not supported; give a Google access token as api_key, with "
        'auth_header = "authorization"',
    ),
)


def unsupported(upstream: UpstreamSettings) -> str | None:
    """Why this upstream cannot work as it is configured, in plain words; None if nothing speaks against it."""
    if upstream.base_url.startswith("unix:"):
        return None
    host = parse_base_url(upstream.base_url)[0].host
    for row in _SIGNED:
        if row.host.fullmatch(host) and (not upstream.api_key or upstream.dialect in row.dialects):
            return row.problem
    return None


async def model_ids(upstream: Upstream, client_key: str | None = None) -> tuple[str, ...]:
    """The ids that the upstream lists, in its order. Raises: RelayError, in words fit for a terminal."""
    settings, base_path = upstream.settings, upstream.base_path
    version, path = _PATHS[settings.dialect]
    if re.search(r"/v\d[a-z0-9]*$", base_path):
        version = ""  # an address that already ends in a version keeps it
    headers, _ = upstream.headers(client_key, _HEADERS.get(settings.dialect, ()))
    timeouts = Timeouts(settings.connect_timeout_s, _LIMIT_S, _LIMIT_S)
    target = base_path + version + path
    try:
        async with asyncio.timeout(_LIMIT_S):
            answer = await upstream.client.request(upstream.origin, "GET", target, headers, b"", timeouts)
            try:
                body = await answer.body(_LIMIT_BYTES)
            finally:
                answer.close()
    except TimeoutError:
        raise RelayError("upstream_timeout", f"It did not list its models within {_LIMIT_S:g} s.") from None
    if answer.status != 200:
        raise _refused(answer.status, target, has_key=bool(settings.api_key or client_key))
    return _ids(body)


async def probe(settings: Settings) -> list[tuple[str, ...] | RelayError]:
    """For each upstream what it lists, or why it does not; all are asked at once."""
    upstreams = make_upstreams(settings).values()
    try:
        return await asyncio.gather(*(_probe(one) for one in upstreams))
    finally:
        for one in upstreams:
            await one.client.aclose()


async def _probe(upstream: Upstream) -> tuple[str, ...] | RelayError:
    if problem := unsupported(upstream.settings):
        return RelayError("upstream_misconfigured", f"{problem[0].upper()}{problem[1:]}.")
    try:
        return await model_ids(upstream)
    except RelayError as error:
        return error


def _refused(status: int, path: str, has_key: bool) -> RelayError:
    if status in (401, 403):
        words = f"It refused the key ({status})." if has_key else f"It wants a key ({status}), and api_key is not set."
        return RelayError("upstream_authentication", words)
    path = path.partition("?")[0]
    if status in (404, 405):
        return RelayError("upstream_misconfigured", f"It has no {path} ({status}); check base_url and dialect.")
    return RelayError("upstream_bad_response", f"It answered {path} with status {status}.")


def _ids(body: bytes) -> tuple[str, ...]:
    """``{"data": [{"id"}]}``, ``{"models": [{"name": "models/…"}]}``, or a bare list (Together)."""
    try:
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise RelayError("upstream_bad_response", "Its list of models is not JSON; check base_url.") from None
    rows = document
    if isinstance(document, dict):
        rows = document.get("data", document.get("models"))
    if rows is None and isinstance(document, dict) and document.keys() & {"data", "models"}:
        rows = []  # Ollama without models: {"data": null}
    if not isinstance(rows, list):
        raise RelayError("upstream_bad_response", "Its list of models has a form that is not known; check dialect.")
    named = (row.get("id") or row.get("name") for row in rows if isinstance(row, dict))
    return tuple(name.removeprefix("models/") for name in named if isinstance(name, str))[:_LIMIT]
