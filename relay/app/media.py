"""Documents and images that an upstream cannot fetch, fetched for it within limits.

Source: translation.md §2.3; issue 3 part 6: 20 MB, 10 s, content types; never private, loopback, link-local or metadata
addresses unless ``fetch_hosts`` names the host, checked after name resolution and at each redirect.
"""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Final
from urllib.parse import urljoin

from relay.app.services import Services, Upstream
from relay.errors import RelayError
from relay.providers.base import Media, Target
from relay.responses.request import Request
from relay.upstream import Timeouts, parse_url

LIMIT_BYTES: Final = 20 * 1024 * 1024
LIMIT_S: Final = 10.0
URLS_LIMIT: Final = 32
REDIRECTS_LIMIT: Final = 3

_TIMEOUTS: Final = Timeouts(LIMIT_S, LIMIT_S, LIMIT_S)
_TYPES: Final = ("image/", "application/pdf", "text/", "audio/", "application/json", "application/octet-stream")


async def fetch_media(services: Services, upstream: Upstream, request: Request, target: Target) -> dict[str, Media]:
    """What ``build`` needs, by URL. Raises: RelayError ``failed_to_download_image`` naming neither key nor address."""
    urls = upstream.provider.media_needed(request, target)
    if not urls:
        return {}
    if len(urls) > URLS_LIMIT:
        raise RelayError("invalid_value", f"At most {URLS_LIMIT} URLs can be fetched for one request.", param="input")
    fetched: dict[str, Media] = {}
    total = 0
    try:
        async with asyncio.timeout(LIMIT_S * 2):
            for url in urls:
                fetched[url] = await _fetch(upstream, url)
                total += len(fetched[url].data)
                if total > 2 * LIMIT_BYTES:
                    raise RelayError("image_too_large", f"The fetched media are over {2 * LIMIT_BYTES} bytes together.")
    except TimeoutError:
        raise RelayError("failed_to_download_image", "The media could not be downloaded in time.") from None
    return fetched


async def _fetch(upstream: Upstream, url: str) -> Media:
    try:
        async with asyncio.timeout(LIMIT_S):
            return await _follow(upstream, url)
    except TimeoutError:
        raise RelayError("failed_to_download_image", f"Downloading {_shown(url)} took over {LIMIT_S:g} s.") from None


async def _follow(upstream: Upstream, url: str) -> Media:
    shown = _shown(url)
    for _ in range(REDIRECTS_LIMIT + 1):
        try:
            origin, path = parse_url(url)
        except ValueError as error:
            raise RelayError("invalid_image_url", f"{shown} is no URL that can be fetched: {error}.") from None
        guard = None if origin.host in upstream.settings.fetch_hosts else _refuse_private
        try:
            answer = await upstream.client.request(
                origin, "GET", path, [("accept", "*/*")], b"", _TIMEOUTS, address_guard=guard
            )
        except RelayError as error:
            if error.kind == "forbidden":
                raise RelayError("invalid_image_url", f"{shown} is not at a public address.") from None
            raise RelayError(
                "failed_to_download_image", f"{shown} could not be downloaded.", detail=str(error)
            ) from None
        try:
            if answer.status in (301, 302, 303, 307, 308):
                location = answer.header(b"location")
                if location is None:
                    break
                url = urljoin(url, location.decode("latin-1"))
                continue
            if answer.status != 200:
                message = f"{shown} could not be downloaded: status {answer.status}."
                raise RelayError("failed_to_download_image", message)
            content_type = (answer.header(b"content-type") or b"application/octet-stream").decode("latin-1")
            content_type = content_type.split(";")[0].strip().lower()
            if not content_type.startswith(_TYPES) or content_type == "text/html":
                raise RelayError("unsupported_image", f"{shown} has the content type {content_type[:64]}.")
            try:
                return Media(content_type, await answer.body(LIMIT_BYTES))
            except RelayError as error:
                if "larger than" in error.message:
                    raise RelayError("image_too_large", f"{shown} is larger than {LIMIT_BYTES} bytes.") from None
                raise RelayError("failed_to_download_image", f"{shown} could not be downloaded.") from None
        finally:
            answer.close()
    raise RelayError("failed_to_download_image", f"{shown} redirects too often or nowhere.")


def _refuse_private(address: str) -> None:
    """Called with each resolved address before it is connected to. Raises: RelayError ``forbidden``."""
    ip = ipaddress.ip_address(address.split("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    if mapped is not None:
        ip = mapped
    if not ip.is_global or ip.is_multicast:
        raise RelayError("forbidden", "not a public address")


def _shown(url: str) -> str:
    """A URL as it may be shown: without its query, cut."""
    return url.split("?")[0].split("#")[0][:200]
