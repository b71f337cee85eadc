"""What a medium is: its first bytes say it, its label only where they do not (decision 58). One place for all dialects.

Source: RFC 2397 (data URLs), RFC 4648; the signatures are those of https://mimesniff.spec.whatwg.org §6 and of the
formats' own specifications (ISO/IEC 14496-12 §4.3 for the brands of ``ftyp``, RFC 9639, RFC 3533).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from relay.providers.base import Media
from relay.responses.tools import JSON

UNKNOWN: Final = "application/octet-stream"
HEAD_BYTES: Final = 64
"""As many first bytes as ``media_type`` looks at."""


class DataURL(NamedTuple):
    """A ``data:`` URL taken apart; ``data`` is base64, as it came where it came so."""

    content_type: str
    data: str


# --- by bytes

_SIGNATURES: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"%PDF-", "application/pdf"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"#!AMR", "audio/amr"),
    (b"\x1aE\xdf\xa3", "video/webm"),
)
_RIFF: Final = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_BRANDS: Final = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "image/heic"),
    **dict.fromkeys((b"mif1", b"msf1"), "image/heif"),
    **dict.fromkeys((b"avif", b"avis"), "image/avif"),
    **dict.fromkeys((b"M4A ", b"M4B ", b"M4P "), "audio/mp4"),
    b"qt  ": "video/quicktime",
}
_ENVELOPES: Final = {
    "video/mp4": frozenset({"video/quicktime", "video/3gpp", "video/3gpp2", "video/x-m4v", "audio/3gpp"}),
    "video/webm": frozenset({"video/x-matroska", "audio/x-matroska", "video/matroska", "audio/matroska"}),
    "audio/ogg": frozenset({"audio/opus", "audio/vorbis", "audio/speex", "audio/x-opus+ogg"}),
}
"""Formats that hold sound or pictures, and what else begins so: of these a label may say which."""


def _by_bytes(head: bytes) -> str | None:
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "video/mp4")
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "audio/aiff"
    if head[:2] == b"BM" and head[6:10] == bytes(4):  # reserved members of BITMAPFILEHEADER
        return "image/bmp"
    if head[:1] == b"\xff" and len(head) > 3:  # a frame of MPEG audio: eleven bits of sync, then version and layer
        if head[1] & 0xF6 == 0xF0:
            return "audio/aac"  # ADTS: layer 0
        if head[1] & 0xE6 == 0xE2 and head[2] & 0xF0 not in (0x00, 0xF0) and head[2] & 0x0C != 0x0C:
            return "audio/mpeg"
    return "application/pdf" if head.lstrip(b"\xef\xbb\xbf\x00\t\n\x0c\r ").startswith(b"%PDF-") else None


# --- by label

_ALIASES: Final = {
    "": UNKNOWN,
    "binary/octet-stream": UNKNOWN,
    "application/binary": UNKNOWN,
    "application/unknown": UNKNOWN,
    "application/x-pdf": "application/pdf",
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "image/x-ms-bmp": "image/bmp",
    "audio/mp3": "audio/mpeg",
    "audio/x-mp3": "audio/mpeg",
    "audio/x-mpeg": "audio/mpeg",
    "audio/mpga": "audio/mpeg",
    "audio/wave": "audio/wav",
    "audio/x-wav": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/x-flac": "audio/flac",
    "audio/m4a": "audio/mp4",
    "audio/x-m4a": "audio/mp4",
    "audio/x-aiff": "audio/aiff",
    "audio/x-aac": "audio/aac",
}


def media_type(label: str, head: bytes) -> str:
    """The type of what begins with ``head``; ``label`` may have parameters, and counts only where the bytes say
    nothing, or name a format that holds sound as well as pictures."""
    named = label.partition(";")[0].strip().lower()
    named = _ALIASES.get(named, named)
    found = _by_bytes(head)
    if found is None or named in _ENVELOPES.get(found, ()):
        return named
    kind = named.partition("/")[0]
    return f"{kind}/{found.partition('/')[2]}" if found in _ENVELOPES and kind in ("audio", "video") else found


def typed(label: str, data: str) -> str:
    """``media_type`` of what is base64."""
    text = "".join(data[: 4 * HEAD_BYTES].split())[: HEAD_BYTES // 3 * 4].translate(_STANDARD)
    try:
        head = binascii.a2b_base64(text[: len(text) // 4 * 4])
    except ValueError:
        head = b""
    return media_type(label, head)


_STANDARD: Final = str.maketrans("-_", "+/")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_\-\s]+")


def is_base64(data: str) -> bool:
    """Whether ``data`` is base64 of either alphabet, with or without padding and blanks. One pass: nothing overlaps."""
    return _BASE64.fullmatch(data.rstrip().removesuffix("=").removesuffix("=")) is not None


# --- data URLs

_LABEL: Final = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)


def data_url(url: str) -> DataURL | None:
    """The type, by its bytes, and the content of a ``data:`` URL; None for any other URL. Linear."""
    if url[:5].lower() != "data:":
        return None
    header, comma, body = url[5:].partition(",")
    if not comma:
        return None
    label, *parameters = (part.strip().lower() for part in header.split(";"))
    if not _LABEL.fullmatch(label):
        label = ""
    if "base64" not in parameters:
        body = base64.b64encode(unquote_to_bytes(body)).decode()
        label = label or "text/plain"
    elif "%" in body:
        body = unquote_to_bytes(body).decode("latin-1")
    return DataURL(typed(label, body), body)


def inlined(media: Media) -> DataURL:
    """What the app fetched, as if it had stood in the request."""
    kind = media_type(media.content_type, media.data[:HEAD_BYTES])
    return DataURL(kind, base64.b64encode(media.data).decode())


def shown(result: str) -> str | None:
    """A picture (base64, or a ``data:`` URL) as the ``data:`` URL of a type that every model that sees takes; None for
    others."""
    given = data_url(result)
    kind, result = given if given is not None else (typed("image/png", result), result)
    return f"data:{kind};base64,{result}" if kind in _SEEN_TYPES and is_base64(result) else None


_SEEN_TYPES: Final = frozenset({"image/png", "image/jpeg", "image/webp"})

# --- parts

TEXT_TYPES: Final = ("text/", "application/json", "application/xml", "application/yaml", "application/javascript")
_TEXT_ENDINGS: Final = (
    *(".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yml", ".yaml", ".toml", ".ini", ".html", ".css"),
    *(".js", ".ts", ".py", ".rb", ".go", ".rs", ".c", ".h", ".cpp", ".java", ".kt", ".sh", ".sql", ".log", ".diff"),
    ".patch",
)


def file_type(content_type: str, name: str) -> str:
    """The type of a file: as found, else by its name, else the one that most files have that nobody labels."""
    if content_type != UNKNOWN:
        return content_type
    return "text/plain" if name.lower().endswith(_TEXT_ENDINGS) else "application/pdf"


def audio(part: JSON, fetched: Mapping[str, Media]) -> DataURL | None:
    """The content of an ``input_audio`` part, whether given or by URL; None for a URL that nobody fetched."""
    given = part.get("input_audio")
    if isinstance(given, dict):
        data = str(given["data"])
        return data_url(data) or DataURL(typed(f"audio/{given['format']}", data), data)
    url = audio_url(part)
    return inlined(fetched[url]) if url in fetched else data_url(url)


def audio_url(part: Mapping[str, Any]) -> str:
    """The ``audio_url`` of a part, in either form; empty where it has none."""
    url = part.get("audio_url")
    if isinstance(url, dict):
        url = url.get("url")
    return url if isinstance(url, str) else ""
