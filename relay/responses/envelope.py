"""``encrypted_content`` that the relay makes: an upstream's opaque reasoning, tagged and checked, not encrypted.

Source: decision 22. ``relay1.`` + base64url of ``{"v":1,"f":family,"m":model,"b":[source text, …],"c":crc32}``. A block
is kept as the source text of its JSON, so that it goes back byte for byte.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import orjson

from relay.errors import RelayError
from relay.responses.json import encoded, loads, mended_text

JSON = dict[str, Any]

_TAG: Final = "relay1."


class Envelope(NamedTuple):
    """What one reasoning item carries: who made it, and its blocks as JSON source text."""

    family: str
    model: str
    blocks: tuple[str, ...]

    def opened(self, is_sound: Callable[[JSON], bool]) -> list[tuple[JSON, str]]:
        """The blocks as ``(object, source text)``; what ``is_sound`` does not know as made by a translator is left out.

        An envelope has been in the client's hands, and anybody can make one: no block is used before it was here.
        """
        return [(block, text) for text in self.blocks if (block := _object(text)) is not None and is_sound(block)]


Shapes = Mapping[Any, Mapping[str, type]]
"""Kinds of blocks (their member ``k``), each with the members that it must have."""


def shaped(shapes: Shapes) -> Callable[[JSON], bool]:
    """For ``Envelope.opened``: whether a block has the members of its kind."""

    def is_sound(block: JSON) -> bool:
        kind = block.get("k")
        fields = shapes.get(kind) if isinstance(kind, str) else None
        return fields is not None and all(isinstance(block.get(name), kind) for name, kind in fields.items())

    return is_sound


def _object(text: str) -> JSON | None:
    """The object that a text is; None where it is none, or one that could not be written into a request again."""
    try:
        block = loads(text)
        encoded([[[[[[[[block]]]]]]]])
    except (ValueError, RelayError):
        return None
    return block if isinstance(block, dict) else None


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
