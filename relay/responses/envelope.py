"""``encrypted_content`` that the relay makes: an upstream's opaque reasoning, tagged and checked, not encrypted.

Source: decision 22. ``relay1.`` + base64url of ``{"v":1,"f":family,"m":model,"b":[source text, …],"c":crc32}``. A block
is kept as the source text of its JSON, so that it goes back byte for byte.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Final, NamedTuple

import orjson

from relay.responses.json import mended_text

_TAG: Final = "relay1."


class Envelope(NamedTuple):
    """What one reasoning item carries: who made it, and its blocks as JSON source text."""

    family: str
    model: str
    blocks: tuple[str, ...]


def _check(family: str, model: str, blocks: list[str]) -> int:
    return zlib.crc32("\x00".join([family, model, *blocks]).encode("utf-8", "surrogatepass"))


def seal(family: str, model: str, blocks: list[str]) -> str:
    """The text of ``encrypted_content`` for ``blocks`` (each the JSON source text of one upstream block)."""
    family, model, *blocks = map(mended_text, (family, model, *blocks))
    content = {"v": 1, "f": family, "m": model, "b": blocks, "c": _check(family, model, blocks)}
    return _TAG + base64.urlsafe_b64encode(orjson.dumps(content)).decode("ascii").rstrip("=")


def unseal(text: object) -> Envelope | None:
    """The envelope, or None for whatever is not ours: foreign, damaged, a later version."""
    if not isinstance(text, str) or not text.startswith(_TAG):
        return None
    encoded = text[len(_TAG) :]
    try:
        content = orjson.loads(base64.b64decode(encoded + "=" * (-len(encoded) % 4), b"-_", validate=True))
    except (ValueError, binascii.Error):
        return None
    match content:
        case {"v": 1, "f": str() as family, "m": str() as model, "b": [*blocks], "c": int() as check}:
            if all(isinstance(block, str) for block in blocks) and check == _check(family, model, blocks):
                return Envelope(family, model, tuple(blocks))
    return None
