"""Items as Gemini contents, with what the model must see again put back on the exact part.

Source: translation.md §2.1–2.6, column C; decisions 14, 22, 25; pain.md 9, 15, 37. A content depends on its turn and
what came before it, never on what follows, so that a longer conversation begins with the same contents.

Blocks of an envelope of the family ``gemini``: ``{"k":"thought","text","sig"}`` a signed thought part;
``{"k":"fc","for","sig"}`` the signature of the call with that id; ``{"k":"text","sig","from","to"}`` that of a part of
the message before it, in characters; ``{"k":"part","part","item"}`` a native part that stands for the item with that
id; ``{"k":"image","item","sig"}`` the signature of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from relay.errors import RelayError
from relay.providers.base import Media, Warnings, path_of_part
from relay.providers.capabilities import capabilities
from relay.providers.capabilities.gemini import ROWS
from relay.providers.gemini_failures import INVALID_SIGNATURE, MISSING_SIGNATURE
from relay.providers.gemini_seals import FAMILY
from relay.providers.media import (
    TEXT_TYPES,
    audio,
    audio_url,
    data_url,
    file_type,
    inlined,
    is_base64,
    typed,
)
from relay.providers.turns import NOTHING_SAID, OPENING, Assist, Results, Say, last_asked, text_of, turns
from relay.responses.envelope import Envelope, Shapes, shaped, unseal
from relay.responses.json import loads
from relay.responses.request import Request
from relay.responses.tools import JSON, arguments_of_call, call_id_of, is_call, key_of_call, output_of

SENTINEL: Final = "skip_thought_signature_validator"
MARKER: Final = "Operator note (not from the user): "
CONTINUE: Final = "Continue."

_IMAGE_TYPES: Final = frozenset({"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"})
_MEDIA_TYPES: Final = ("audio/", "video/", "application/pdf", "text/")
_NAMES: Final = {"audio/mpeg": "audio/mp3"}
_RESOLUTIONS: Final = {
    "low": "MEDIA_RESOLUTION_LOW",
    "high": "MEDIA_RESOLUTION_HIGH",
    "original": "MEDIA_RESOLUTION_HIGH",
}
_NATIVE_TYPES: Final = frozenset({"code_interpreter_call", "web_search_call"})
_STOOD_FOR: Final[JSON] = {"type": "web_search_call"}  # nothing in the rendering; keeps the places of the others
_SHAPES: Final[Shapes] = {
    "thought": {"text": str, "sig": str},
    "fc": {"for": str, "sig": str},
    "text": {"sig": str, "from": int, "to": int},
    "part": {"part": dict},
    "image": {"item": str, "sig": str},
}
_IS_SOUND: Final = shaped(_SHAPES)


class Contents:
    """Renders items for one capability record. ``system`` holds the texts of ``systemInstruction``."""

    __slots__ = (
        "_blocks",
        "_items",
        "_media",
        "_names",
        "_record",
        "_repairs",
        "contents",
        "system",
        "transformations",
        "warnings",
    )

    def __init__(
        self,
        record: Mapping[str, Any],
        media: Mapping[str, Media],
        warnings: Warnings,
        repairs: frozenset[str] = frozenset(),
    ) -> None:
        self._record = record
        self._media = media
        self._repairs = repairs
        self._names: Mapping[str, str] = {}
        self._blocks: dict[int, list[JSON]] = {}
        self._items: list[JSON] = []
        self.warnings = warnings
        self.system: list[str] = []
        self.contents: list[JSON] = []
        self.transformations: list[JSON] = []

    def read(self, request: Request, model: str) -> list[Say | Assist | Results]:
        """The turns of a request, with the envelopes of reasoning items opened. Raises: RelayError."""
        items = self._items = request.items
        standing: set[str] = set()
        for item in items:
            if item["type"] == "reasoning":
                self._open(item, model, standing)
        shown = [_STOOD_FOR if item.get("id") in standing and item["type"] in _NATIVE_TYPES else item for item in items]
        if self._record["image_output"]:
            shown = [_image_message(item) if _is_image(item) else item for item in shown]
        return turns(shown, request, self.warnings)

    def render(
        self, groups: list[Say | Assist | Results], names: Mapping[str, str], *, forget_before: bool = False
    ) -> None:
        """Fill ``contents``. ``names``: tool names by key; ``forget_before``: only the last turn keeps its reasoning.

        Raises: RelayError naming what cannot be said.
        """
        self._names = names
        at = 0
        while at < len(groups):
            group = groups[at]
            if not isinstance(group, Say) or group.role == "user":
                break
            self.system.append(text_of(group.parts))
            at += 1
        current = last_asked(groups)
        for number in range(at, len(groups)):
            group = groups[number]
            if isinstance(group, Say):
                self._say(group)
            elif isinstance(group, Assist):
                self._assist(group, remember=not forget_before or number > current)
            else:
                self._results(group)
        if not self.contents:
            self.warnings.add(*NOTHING_SAID)
            self._add("user", [{"text": OPENING}])
        if self.contents[-1]["role"] == "model":
            # the other repair at the end of the list: the model continues only what a user asks it to
            self.warnings.add("input", "the input ends with the assistant; the model was asked to continue")
            self._add("user", [{"text": CONTINUE}])

    def _add(self, role: str, parts: list[JSON]) -> None:
        if not parts:
            return
        if not self.contents and role == "model":
            self.contents.append({"role": "user", "parts": [{"text": OPENING}]})
        if self.contents and self.contents[-1]["role"] == role:
            self.contents[-1]["parts"].extend(parts)
        else:
            self.contents.append({"role": role, "parts": parts})

    # --- who speaks

    def _say(self, say: Say) -> None:
        if say.role == "user":
            parts = self._parts(say.parts)
            self._add("user", parts if any(part.get("text", "x").strip() for part in parts) else [])
        else:
            text = text_of(say.parts)
            self._add("user", [{"text": MARKER + text}] if text.strip() else [])

    def _assist(self, assist: Assist, *, remember: bool) -> None:
        parts: list[JSON] = []
        blocks = [self._blocks.get(id(item), []) for item in assist.items]
        signatures = {block["for"]: block["sig"] for found in blocks for block in found if block["k"] == "fc"}
        images = {block["item"]: block["sig"] for found in blocks for block in found if block["k"] == "image"}
        called = False
        for number, item in enumerate(assist.items):
            if item["type"] == "reasoning":
                if remember:
                    after_text = number > 0 and _is_text(assist.items[number - 1])
                    parts.extend(_native(blocks[number], after_text=after_text))
            elif is_call(item):
                part = self._call(item)
                signature = signatures.get(call_id_of(item))
                if signature is None and (not called or MISSING_SIGNATURE in self._repairs):
                    signature = self._lost_signature()
                if signature is not None:
                    part["thoughtSignature"] = signature
                called = True
                parts.append(part)
            else:
                after = blocks[number + 1] if remember and number + 1 < len(blocks) else []
                marks = [block for block in after if block["k"] == "text"]
                parts.extend(self._message(item, marks, images))
        if not all(part.get("thought") or part.get("text") == "" for part in parts):
            self._add("model", parts)

    def _message(self, item: JSON, marks: list[JSON], images: Mapping[str, str]) -> list[JSON]:
        parts = item["content"]
        if not _is_text(item):
            part: JSON = {
                "inlineData": {"mimeType": typed("image/png", parts[0]["result"]), "data": parts[0]["result"]}
            }
            signature = images.get(item["id"])
            return [part if signature is None else {**part, "thoughtSignature": signature}]
        if any(part["type"] not in ("output_text", "refusal") for part in parts):
            return self._parts(parts)
        return _signed(text_of(parts), marks)

    # --- what is called, and what comes back

    def _call(self, item: JSON) -> JSON:
        call: JSON = {"name": self._names[key_of_call(item)], "args": _arguments(item)}
        if self._record["call_ids"]:
            call["id"] = call_id_of(item)
        return {"functionCall": call}

    def _lost_signature(self) -> str | None:
        """What a call that needs a signature carries when its own is lost."""
        if not self._record["signatures"] and not self._repairs & {MISSING_SIGNATURE, INVALID_SIGNATURE}:
            return None
        self.warnings.add("input", "the thought signature of a call is lost")
        return SENTINEL

    def _results(self, results: Results) -> None:
        parts: list[JSON] = []
        attached: list[JSON] = []
        for call, output in results.pairs:
            said = output_of(output, self._names)
            media: list[JSON] = []
            if not isinstance(said, str):
                rendered = self._parts(said)
                media = [part for part in rendered if "text" not in part]
                said = "".join(part.get("text", "") for part in rendered)
            key = "error" if output.get("status") == "incomplete" else "output"
            response: JSON = {"name": self._names[key_of_call(call)], "response": {key: said}}
            if self._record["call_ids"]:
                response["id"] = call_id_of(call)
            if media and self._record["function_response_parts"]:
                response["parts"] = [{"inlineData": part["inlineData"]} for part in media]
            else:
                attached.extend(media)
            parts.append({"functionResponse": response})
        self._add("user", [*parts, *attached])

    # --- content parts

    def _parts(self, parts: list[JSON]) -> list[JSON]:
        rendered: list[JSON] = []
        for part in parts:
            try:
                found = _PARTS[part["type"]](self, part)
            except RelayError as error:
                error.param = path_of_part(self._items, part)
                raise
            if found is not None:
                rendered.append(found)
        return rendered

    def _text_part(self, part: JSON) -> JSON | None:
        text = str(part.get("text") or part.get("refusal") or "")
        return {"text": text} if text else None

    def _image_part(self, part: JSON) -> JSON:
        url = part.get("image_url")
        if not isinstance(url, str):
            raise RelayError("unsupported_parameter", "An image needs its image_url.", param="input")
        content_type, data = self._inlined(url)
        if content_type not in _IMAGE_TYPES:
            message = f"This upstream takes no images of the type {content_type[:64]}."
            raise RelayError("unsupported_image", message, param="input")
        rendered = _blob(content_type, data, "invalid_base64_image", "An image")
        level = _RESOLUTIONS.get(str(part.get("detail")))
        if level is not None and self._record["media_resolution"]:
            rendered["mediaResolution"] = {"level": level}
        return rendered

    def _audio_part(self, part: JSON) -> JSON:
        content_type, data = audio(part, self._media) or self._inlined(audio_url(part))
        return _blob(content_type, data, "invalid_value", "A recording")

    def _file_part(self, part: JSON) -> JSON:
        data = part.get("file_data")
        if not isinstance(data, str):
            content_type, data = self._inlined(str(part.get("file_url") or ""))
        else:
            content_type, data = data_url(data) or (typed("", data), data)
        content_type = file_type(content_type, str(part.get("filename") or ""))
        if content_type.startswith("application/") and content_type.startswith(TEXT_TYPES):
            content_type = "text/plain"
        if not content_type.startswith(_MEDIA_TYPES) and content_type not in _IMAGE_TYPES:
            message = f"This upstream takes no files of the type {content_type[:64]}."
            raise RelayError("unsupported_value", message, param="input")
        return _blob(content_type, data, "invalid_value", "file_data")

    def _inlined(self, url: str) -> tuple[str, str]:
        """The type and base64 of a URL's content: its own, or what the app fetched."""
        found = inlined(self._media[url]) if url in self._media else data_url(url)
        if found is None:
            kind = "failed_to_download_image" if url.startswith(("http://", "https://")) else "invalid_image_url"
            raise RelayError(kind, f"'{url[:200]}' could not be fetched.", param="input")
        return found

    # --- reasoning

    def _open(self, item: JSON, model: str, standing: set[str]) -> None:
        """Keep the blocks of a reasoning item, where they may be said to this model again."""
        sealed = item.get("encrypted_content")
        if not sealed:
            return
        envelope = unseal(sealed)
        if envelope is None or envelope.family != FAMILY or not self._fits(envelope, model):
            self.transformations.append(
                {"id": item.get("id"), "type": "reasoning", "action": "removed", "reason": "model_mismatch"}
            )
            return
        blocks = [block for block, _ in envelope.opened(_IS_SOUND)]
        self._blocks[id(item)] = blocks
        standing.update(
            block["item"] for block in blocks if block["k"] == "part" and isinstance(block.get("item"), str)
        )

    def _fits(self, envelope: Envelope, model: str) -> bool:
        if INVALID_SIGNATURE in self._repairs:
            return False
        if envelope.model == model:
            return True
        other = capabilities(ROWS, model=envelope.model, base_url="", quirks=None, overrides={})
        return bool(other["signatures"] and self._record["signatures"])


def _blob(content_type: str, data: str, kind: str, what: str) -> JSON:
    if not is_base64(data):
        raise RelayError(kind, f"{what} is no base64.", param="input")
    return {"inlineData": {"mimeType": _NAMES.get(content_type, content_type), "data": data}}


def _native(blocks: list[JSON], *, after_text: bool) -> list[JSON]:
    """The parts that the blocks of a reasoning item stand for where it stands.

    A text's signature is put back by its message; it stands alone only where the client has cut that message out.
    """
    parts: list[JSON] = []
    for block in blocks:
        if block["k"] == "thought":
            parts.append({"text": block["text"], "thought": True, "thoughtSignature": block["sig"]})
        elif block["k"] == "part":
            parts.append(block["part"])
        elif block["k"] == "text" and not after_text:
            parts.append({"text": "", "thoughtSignature": block["sig"]})
    return parts


def _signed(text: str, marks: list[JSON]) -> list[JSON]:
    """A message's text, cut where its signed parts began and ended."""
    parts: list[JSON] = []
    at = 0
    for mark in marks:
        start, end = (max(0, min(mark[name], len(text))) for name in ("from", "to"))
        if start > at:
            parts.append({"text": text[at:start]})
        parts.append({"text": text[max(start, at) : end], "thoughtSignature": mark["sig"]})
        at = max(at, end)
    if text[at:]:
        parts.append({"text": text[at:]})
    return parts


def _arguments(item: JSON) -> Any:
    """The arguments as an object, in the very bytes in which the model wrote them where they are one."""
    text = arguments_of_call(item)
    if not text.strip():
        return {}
    try:
        value = loads(text)
    except ValueError:
        return {"_raw": text}
    if not isinstance(value, dict):
        return {"_raw": text}
    try:
        orjson.loads(text)
    except ValueError:  # what only the standard library reads
        return value
    return orjson.Fragment(text)


def _is_image(item: JSON) -> bool:
    return item["type"] == "image_generation_call" and isinstance(item.get("result"), str)


def _is_text(item: JSON) -> bool:
    """Whether an item is a message, and not an image that is said as one."""
    content = item.get("content")
    return item["type"] == "message" and not (content and content[0]["type"] == "image_generation_call")


def _image_message(item: JSON) -> JSON:
    """An image that the model made, as something that it said."""
    part = {"type": "image_generation_call", "result": item["result"]}
    return {"type": "message", "role": "assistant", "id": item.get("id"), "content": [part]}


_PARTS: Final[Mapping[str, Callable[[Contents, JSON], JSON | None]]] = {
    "input_text": Contents._text_part,
    "output_text": Contents._text_part,
    "refusal": Contents._text_part,
    "input_image": Contents._image_part,
    "input_audio": Contents._audio_part,
    "input_file": Contents._file_part,
}
