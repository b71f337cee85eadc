"""Images and documents as Anthropic blocks.

Source: translation.md §2.3, column B; decision 14; pain.md 37. What the upstream can fetch itself (https images, PDF
by URL) goes as a URL, the rest as what the app fetched.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from relay.errors import RelayError
from relay.providers.base import Media, media_urls
from relay.providers.media import TEXT_TYPES, data_url, file_type, inlined, typed
from relay.responses.request import Request
from relay.responses.tools import JSON

IMAGE_TYPES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})


def needed(request: Request) -> list[str]:
    """URLs that the upstream cannot fetch itself, in order, without repeats."""
    return media_urls(request, _URL_FIELDS, lambda part, url: not _fetched_there(part, url))


_URL_FIELDS: Final = {"input_image": "image_url", "input_file": "file_url"}


def _fetched_there(part: JSON, url: str) -> bool:
    if not url.startswith("https://"):
        return False
    return part["type"] == "input_image" or urlsplit(url).path.lower().endswith(".pdf")


def image_block(part: JSON, media: Mapping[str, Media]) -> JSON:
    """An ``input_image`` part. Raises: RelayError."""
    url = part.get("image_url")
    if not isinstance(url, str):
        raise RelayError("unsupported_parameter", "An image needs its image_url.", param="input")
    found = inlined(media[url]) if url in media else data_url(url)
    if found is not None:
        return _image(*found)
    if url.startswith("https://"):
        return {"type": "image", "source": {"type": "url", "url": url}}
    raise RelayError("invalid_image_url", f"'{url[:200]}' is no https or data URL of an image.", param="input")


def _image(content_type: str, data: str) -> JSON:
    if content_type not in IMAGE_TYPES:
        message = f"This upstream takes images as JPEG, PNG, GIF or WebP, not as {content_type}."
        raise RelayError("unsupported_image", message, param="input")
    if not _decoded(data):
        raise RelayError("invalid_base64_image", "An image's data is no base64.", param="input")
    return {"type": "image", "source": {"type": "base64", "media_type": content_type, "data": data}}


def document_block(part: JSON, media: Mapping[str, Media]) -> JSON:
    """An ``input_file`` part. Raises: RelayError."""
    name = part.get("filename")
    url = part.get("file_url")
    data = part.get("file_data")
    given = data_url(data if isinstance(data, str) else str(url))
    if given is not None:
        content_type, encoded = given
    elif isinstance(data, str):
        content_type, encoded = typed("", data), data
    elif isinstance(url, str) and url in media:
        content_type, encoded = inlined(media[url])
        name = name or urlsplit(url).path.rpartition("/")[2]
    elif isinstance(url, str) and url.startswith("https://"):
        return _titled({"type": "document", "source": {"type": "url", "url": url}}, name)
    else:
        raise RelayError("unsupported_parameter", "A file needs its file_data or its file_url.", param="input")
    return _document(file_type(content_type, str(name or "")), encoded, name)


def _document(content_type: str, data: str, name: Any) -> JSON:
    if content_type.startswith("image/"):
        return _image(content_type, data)
    content = _decoded(data)
    if content is None:
        raise RelayError("invalid_value", "file_data is no base64.", param="input")
    if content_type == "application/pdf":
        source = {"type": "base64", "media_type": content_type, "data": data}
    elif content_type.startswith(TEXT_TYPES):
        source = {"type": "text", "media_type": "text/plain", "data": content.decode("utf-8", "replace")}
    else:
        message = f"This upstream takes PDF, text and images, not {content_type}."
        raise RelayError("unsupported_value", message, param="input")
    return _titled({"type": "document", "source": source}, name)


def _titled(block: JSON, name: Any) -> JSON:
    return {**block, "title": name[:255]} if isinstance(name, str) and name else block


def _decoded(data: str) -> bytes | None:
    try:
        return binascii.a2b_base64(data)
    except (binascii.Error, ValueError):
        return None
