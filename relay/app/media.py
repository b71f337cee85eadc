"""Documents and images that an upstream cannot fetch, fetched for it within limits.

Source: translation.md §2.3; issue 3 part 6: 20 MB, 10 s, content types; never private, loopback, link-local or metadata
addresses unless ``fetch_hosts`` names the host, checked after name resolution and at each redirect.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final
from urllib.parse import urljoin

from relay.app.services import Services, Upstream
from relay.errors import RelayError
from relay.providers.base import Media
from relay.providers.media import HEAD_BYTES, media_type
from relay.responses.request import Request
from relay.responses.tools import JSON
from relay.upstream import Answer, Timeouts, parse_url
from relay.upstream.addresses import is_public

LIMIT_BYTES: Final = 20 * 1024 * 1024
LIMIT_S: Final = 10.0
URLS_LIMIT: Final = 32
REDIRECTS_LIMIT: Final = 3

_TIMEOUTS: Final = Timeouts(LIMIT_S, LIMIT_S, LIMIT_S)
_TYPES: Final = ("image/", "application/pdf", "text/", "audio/", "application/json", "application/octet-stream")
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_URL_FIELDS: Final = ("image_url", "file_url", "audio_url")


async def fetch_media(
    services: Services, upstream: Upstream, request: Request, urls: list[str], owner: str
) -> dict[str, Media]:
    """What ``build`` needs, by URL; ``FETCHES_LIMIT`` requests fetch at once, in equal shares of their owners.

    Raises: RelayError ``failed_to_download_image`` naming neither key nor address.
    """
    if len(urls) > URLS_LIMIT:
        raise RelayError("invalid_value", f"At most {URLS_LIMIT} URLs can be fetched for one request.", param="input")
    fetched: dict[str, Media] = {}
    total = 0
    url = ""
    try:
        async with asyncio.timeout(LIMIT_S * 2), services.fetching.held(owner):
            for url in urls:
                fetched[url] = await _fetch(upstream, url, owner)
                total += len(fetched[url].data)
                if total > 2 * LIMIT_BYTES:
                    raise RelayError("image_too_large", f"The fetched media are over {2 * LIMIT_BYTES} bytes together.")
    except TimeoutError:
        message = "The media could not be downloaded in time."
        raise RelayError("failed_to_download_image", message, param=_path_of(request.items, url)) from None
    except RelayError as error:
        error.param = _path_of(request.items, url)
        raise
    return fetched


def _path_of(items: list[JSON], url: str) -> str:
    """Where in the input a URL stands."""
    for index, item in enumerate(items):
        for name in ("content", "output"):
            parts = item.get(name)
            for number, part in enumerate(parts if isinstance(parts, list) else []):
                for field in _URL_FIELDS:
                    if isinstance(part, dict) and part.get(field) == url:
                        return f"input[{index}].{name}[{number}].{field}"
    return "input"


async def _fetch(upstream: Upstream, url: str, owner: str) -> Media:
    try:
        async with asyncio.timeout(LIMIT_S):
            return await _follow(upstream, url, owner)
    except TimeoutError:
        raise RelayError("failed_to_download_image", f"Downloading {_shown(url)} took over {LIMIT_S:g} s.") from None


async def _follow(upstream: Upstream, url: str, owner: str) -> Media:
    """Redirects are followed here, so that each address is looked at. Errors show the first URL only."""
    shown = _shown(url)
    for _ in range(REDIRECTS_LIMIT + 1):
        answer = await _ask(upstream, url, shown, owner)
        try:
            if answer.status not in _REDIRECTS:
                return await _media(answer, shown)
            location = answer.header(b"location")
            if location is None:
                break
            url = urljoin(url, location.decode("latin-1"))
        except ValueError:  # of urljoin, for a Location that is no URL
            break
        finally:
            answer.close()
    raise RelayError("failed_to_download_image", f"{shown} redirects too often or nowhere.")


async def _ask(upstream: Upstream, url: str, shown: str, owner: str) -> Answer:
    try:
        origin, path = parse_url(url)
    except ValueError as error:
        raise RelayError("invalid_image_url", f"{shown} is no URL that can be fetched: {error}.") from None
    allowed = origin.host in (host.lower() for host in upstream.settings.fetch_hosts)
    guard = None if allowed else _refuse_private
    headers = [("accept", "*/*")]
    try:
        return await upstream.client.request(
            origin, "GET", path, headers, b"", _TIMEOUTS, address_guard=guard, owner=owner
        )
    except RelayError as error:
        if error.kind == "forbidden":
            raise RelayError("invalid_image_url", f"{shown} is not at a public address.") from None
        raise _not_downloaded(shown, error) from None


async def _media(answer: Answer, shown: str) -> Media:
    if answer.status != 200:
        message = f"{shown} could not be downloaded: status {answer.status}."
        raise RelayError("failed_to_download_image", message)
    content_type = (answer.header(b"content-type") or b"application/octet-stream").decode("latin-1")
    content = bytearray()
    try:
        while data := await answer.read():
            begins = len(content) < HEAD_BYTES
            content += data
            if begins and len(content) >= HEAD_BYTES:
                _check_type(content_type, content, shown)  # the rest of what is refused is not waited for
            if len(content) > LIMIT_BYTES:
                raise RelayError("image_too_large", f"{shown} is larger than {LIMIT_BYTES} bytes.")
    except RelayError as error:
        ours = error.kind in ("image_too_large", "unsupported_image")
        raise error if ours else _not_downloaded(shown, error) from None
    return Media(_check_type(content_type, content, shown), bytes(content))


def _check_type(label: str, content: bytearray, shown: str) -> str:
    """The type of what was downloaded, by its first bytes (decision 58). Raises: RelayError."""
    kind = media_type(label, bytes(content[:HEAD_BYTES]))
    if not kind.startswith(_TYPES) or kind == "text/html":
        raise RelayError("unsupported_image", f"{shown} has the content type {kind[:64]}.")
    return kind


def _not_downloaded(shown: str, cause: RelayError) -> RelayError:
    return RelayError("failed_to_download_image", f"{shown} could not be downloaded.", detail=str(cause))


def _refuse_private(address: str) -> None:
    """Called with each resolved address before it is connected to. Raises: RelayError ``forbidden``."""
    if not is_public(address):
        raise RelayError("forbidden", "not a public address")


def _shown(url: str) -> str:
    """A URL as it may be shown: without user, password and query, cut."""
    return re.sub(r"//[^/]*@", "//", re.split(r"[?#]", url)[0])[:200]
