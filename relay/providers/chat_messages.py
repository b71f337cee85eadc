"""Items as chat/completions messages.

Source: translation.md §2.1–2.6, column A; decisions 14, 22, 25; pain.md 9, 37. Messages depend on their turn and what
came before it, never on what follows, so that a longer conversation begins with the same messages.
"""

from __future__ import annotations

import base64
import hashlib
import string
from collections.abc import Callable, Mapping
from typing import Any, Final

from relay.errors import RelayError
from relay.providers.base import Media, Warnings, path_of_part
from relay.providers.chat_reasoning import FAMILY
from relay.providers.media import TEXT_TYPES, audio, audio_url, data_url, file_type, inlined, typed
from relay.providers.turns import NOTHING_SAID, OPENING, Assist, Results, Say, Seen, Turn, last_asked, text_of
from relay.responses.envelope import Envelope, Shapes, shaped, unseal
from relay.responses.json import loads
from relay.responses.request import Request
from relay.responses.tools import JSON, arguments_of_call, call_id_of, is_call, key_of_call, output_of

MARKER: Final = "Operator note (not from the user): "
ATTACHED: Final = "See the attached content in the next message."

_AUDIO_FORMATS: Final = {
    "audio/wav": "wav",
    "audio/mpeg": "mp3",
    "audio/flac": "flac",
    "audio/ogg": "ogg",
    "audio/mp4": "m4a",
    "audio/aac": "aac",
    "audio/webm": "webm",
}


class Messages:
    """Renders items for one capability record. ``native`` holds the keys of tools that the upstream knows as custom."""

    __slots__ = ("_items", "_media", "_names", "_native", "_record", "_warnings", "transformations")

    def __init__(
        self,
        record: Mapping[str, Any],
        names: Mapping[str, str],
        native: frozenset[str],
        media: Mapping[str, Media],
        warnings: Warnings,
    ) -> None:
        self._record = record
        self._names = names
        self._native = native
        self._media = media
        self._warnings = warnings
        self._items: list[JSON] = []
        self.transformations: list[JSON] = []

    def render(self, request: Request, groups: list[Turn], leading: list[str], model: str) -> list[JSON]:
        """The messages. ``groups``: the request's items (``providers.turns``); ``leading``: system texts of ours.

        Raises: RelayError naming what cannot be said.
        """
        self._items = request.items
        reasoning = request.params.get("reasoning") or {}
        forget_before = reasoning.get("context") == "current_turn"
        messages: list[JSON] = []
        merged = self._record["mid_system"] != "native"
        system = list(leading)
        at = 0
        while merged and at < len(groups):
            group = groups[at]
            if not isinstance(group, Say) or group.role == "user":
                break
            system.append(text_of(group.parts))
            at += 1
        role = self._record["system_role"]
        if merged and system:
            messages.append({"role": role, "content": "\n\n".join(text for text in system if text)})
        else:
            messages.extend({"role": role, "content": text} for text in system)
        current = last_asked(groups)
        for number in range(at, len(groups)):
            group = groups[number]
            if isinstance(group, Seen) and not self._record["sees"]:
                continue
            if isinstance(group, Say):
                self._say(group, messages)
            elif isinstance(group, Assist):
                self._assist(group, messages, model, remember=not forget_before or number > current)
            else:
                self._results(group, messages)
        return self._with_a_user(messages)

    def _with_a_user(self, messages: list[JSON]) -> list[JSON]:
        """Where a server needs it a user begins, behind the system (decision 56): where nobody else does, a neutral
        text, whoever speaks after it (decision 25)."""
        at = next((n for n, one in enumerate(messages) if one["role"] != self._record["system_role"]), len(messages))
        if messages and (not self._record["needs_user"] or _is_said(messages[at : at + 1])):
            return messages
        rest = messages[at + 1 :] if messages[at : at + 1] and messages[at]["role"] == "user" else messages[at:]
        if not rest:
            self._warnings.add(*NOTHING_SAID)
        return [*messages[:at], {"role": "user", "content": OPENING}, *rest]

    # --- who speaks

    def _say(self, say: Say, messages: list[JSON]) -> None:
        if say.role == "user":
            self._user(say.parts, messages)
        elif self._record["mid_system"] == "user_marker":
            self._user([{"type": "input_text", "text": MARKER + text_of(say.parts)}], messages)
        else:
            role = self._record["system_role"]
            messages.append({"role": role, "content": self._content(say.parts)})

    def _user(self, parts: list[JSON], messages: list[JSON]) -> None:
        content = self._content(parts)
        before = messages[-1] if messages else None
        if self._record["alternate"] and before is not None and before["role"] == "user":
            before["content"] = _merged(before["content"], content)
        else:
            messages.append({"role": "user", "content": content})

    def _assist(self, assist: Assist, messages: list[JSON], model: str, *, remember: bool) -> None:
        texts: list[str] = []
        refusals: list[str] = []
        calls: list[JSON] = []
        thoughts = _Thoughts()
        for item in assist.items:
            if item["type"] == "reasoning":
                self._remember(item, thoughts, model)
            elif is_call(item):
                calls.append(self._call(item, thoughts.take_signature()))
            else:
                self._assistant_text(item["content"], texts, refusals)
        content = "\n\n".join(texts)
        if not content and not calls and not refusals:
            return
        message: JSON = {"role": "assistant"}
        empty = self._record["empty_content"] if calls or refusals else ""
        if content:
            message["content"] = content
        elif empty != "omit":
            message["content"] = empty
        if refusals:
            message["refusal"] = "".join(refusals)
        if calls:
            message["tool_calls"] = calls
        if remember:
            self._replay_thoughts(message, thoughts, bool(calls))
        messages.append(message)

    def _assistant_text(self, parts: list[JSON], texts: list[str], refusals: list[str]) -> None:
        said = "".join(str(part.get("text") or "") for part in parts if part["type"] != "refusal")
        refused = "".join(str(part["refusal"]) for part in parts if part["type"] == "refusal")
        if refused and self._record["refusal_field"]:
            refusals.append(refused)
        else:
            said += refused
        if said:
            texts.append(said)

    # --- what is called, and what comes back

    def _call(self, item: JSON, signature: str | None) -> JSON:
        key = key_of_call(item)
        name = self._names[key]
        call: JSON = {"id": self._call_id(item)}
        if key in self._native and item["type"] == "custom_tool_call":
            call.update(type="custom", custom={"name": name, "input": str(item.get("input", ""))})
        else:
            call.update(type="function", function={"name": name, "arguments": self._arguments(item)})
        if signature is not None:
            call["extra_content"] = {"google": {"thought_signature": signature}}
        return call

    def _arguments(self, item: JSON) -> str:
        arguments = arguments_of_call(item)
        if not arguments.strip():
            return "{}"
        if self._record["json_arguments"]:
            try:
                loads(arguments)
            except ValueError:
                self._warnings.add("input", "the arguments of a call are no JSON and were replaced by {}")
                return "{}"
        return arguments

    def _call_id(self, item: JSON) -> str:
        identifier = call_id_of(item) or ""
        form = CALL_ID_FORMS.get(self._record["call_id_form"])
        return identifier if form is None else form(identifier)

    def _results(self, results: Results, messages: list[JSON]) -> None:
        attached: list[JSON] = []
        for call, output in results.pairs:
            said = output_of(output, self._names)
            mark = "[incomplete] " if output.get("status") == "incomplete" else ""
            content = mark + said if isinstance(said, str) else self._result(said, mark, attached)
            messages.append({"role": "tool", "tool_call_id": self._call_id(call), "content": content})
        if attached:
            self._user(attached, messages)

    def _result(self, parts: list[JSON], mark: str, attached: list[JSON]) -> str | list[JSON]:
        media = [part for part in parts if part["type"] not in ("input_text", "refusal")]
        text = mark + text_of([part for part in parts if part["type"] in ("input_text", "refusal")])
        if not media:
            return text
        if self._record["tool_result_media"]:
            rendered = [self._part(part) for part in media]
            return [{"type": "text", "text": text}, *rendered] if text else rendered
        attached.extend(media)
        return f"{text}\n\n{ATTACHED}" if text else ATTACHED

    # --- content parts

    def _content(self, parts: list[JSON]) -> str | list[JSON]:
        plain = all(part["type"] == "input_text" for part in parts)
        marked = self._record["cache_marks"] is not None and any(part.get("prompt_cache_breakpoint") for part in parts)
        if plain and not marked and (len(parts) <= 1 or self._record["text_only_content"]):
            return "\n\n".join(part["text"] for part in parts)
        return [self._part(part) for part in parts]

    def _part(self, part: JSON) -> JSON:
        result = _PARTS[part["type"]](self, part)
        marks = _CACHE_MARKS.get(self._record["cache_marks"])
        if marks is not None and part.get("prompt_cache_breakpoint"):
            result.update(marks(part["prompt_cache_breakpoint"]))
        return result

    def _text_part(self, part: JSON) -> JSON:
        return {"type": "text", "text": str(part.get("text") or part.get("refusal") or "")}

    def _image_part(self, part: JSON) -> JSON:
        url = part.get("image_url")
        if not isinstance(url, str):
            message = "An image needs its image_url."
            raise RelayError("missing_parameter", message, param=path_of_part(self._items, part))
        image: JSON = {"url": self._image_url(url, part)}
        detail = part.get("detail")
        if detail == "original" and not self._record["image_detail_original"]:
            self._warnings.add(f"{path_of_part(self._items, part)}.detail", "'original' was sent as 'high'")
            detail = "high"
        if detail is not None:
            image["detail"] = detail
        return {"type": "image_url", "image_url": image}

    def _image_url(self, url: str, part: JSON) -> str:
        found = data_url(url)
        if found is not None:
            label = f"data:{found.content_type};base64,"
            return url if url.startswith(label) else label + found.data
        return url if self._record["image_url_fetch"] else self._fetched(url, part)

    def _audio_part(self, part: JSON) -> JSON:
        if not self._record["audio"]:
            message = "This upstream takes no audio."
            raise RelayError("unsupported_value", message, param=path_of_part(self._items, part))
        found = audio(part, self._media)
        if found is None:
            raise self._unfetched(audio_url(part), part)
        given = part.get("input_audio")
        form = _AUDIO_FORMATS.get(found.content_type)
        if form is None:
            form = str(given["format"]) if isinstance(given, dict) else found.content_type.rpartition("/")[2]
        return {"type": "input_audio", "input_audio": {"data": found.data, "format": form}}

    def _file_part(self, part: JSON) -> JSON:
        name = str(part.get("filename") or "file")
        content_type, data = self._file_content(part)
        content_type = file_type(content_type, name)
        if content_type.startswith(TEXT_TYPES):
            text = self._decoded(data, part).decode("utf-8", "replace")
            return {"type": "text", "text": f"File {name}:\n\n{text}"}
        if not self._record["files"]:
            message = f"This upstream takes no files of the type {content_type}."
            raise RelayError("unsupported_value", message, param=path_of_part(self._items, part))
        return {"type": "file", "file": {"filename": name, "file_data": f"data:{content_type};base64,{data}"}}

    def _file_content(self, part: JSON) -> tuple[str, str]:
        data = part.get("file_data")
        if not isinstance(data, str):
            data = self._fetched(str(part.get("file_url") or ""), part)
        return data_url(data) or (typed("", data), data)

    def _fetched(self, url: str, part: JSON) -> str:
        """A URL's content as a ``data:`` URL, from what the app fetched."""
        if url.startswith("data:"):
            return url
        if url not in self._media:
            raise self._unfetched(url, part)
        found = inlined(self._media[url])
        return f"data:{found.content_type};base64,{found.data}"

    def _unfetched(self, url: str, part: JSON) -> RelayError:
        message = f"'{url[:200]}' could not be fetched."
        return RelayError("failed_to_download_image", message, param=path_of_part(self._items, part))

    def _decoded(self, data: str, part: JSON) -> bytes:
        try:
            return base64.b64decode(data)
        except ValueError:
            message = "file_data is no base64."
            raise RelayError("invalid_value", message, param=f"{path_of_part(self._items, part)}.file_data") from None

    # --- reasoning

    def _remember(self, item: JSON, thoughts: _Thoughts, model: str) -> None:
        sealed = item.get("encrypted_content")
        envelope = unseal(sealed)
        shown = "".join(str(part.get("text") or "") for part in item.get("content") or [] if isinstance(part, dict))
        if envelope is not None and envelope.family == FAMILY:
            thoughts.add(envelope, same_model=envelope.model == model)
            if not envelope.blocks:
                thoughts.texts.append(shown)
            return
        if sealed:
            self.transformations.append(
                {"id": item.get("id"), "type": "reasoning", "action": "removed", "reason": "model_mismatch"}
            )
        if shown:
            thoughts.texts.append(shown)

    def _replay_thoughts(self, message: JSON, thoughts: _Thoughts, calls: bool) -> None:
        replay = self._record["must_replay"]
        if replay == "details":
            if thoughts.details:
                message[self._record["reasoning_in_field"]] = thoughts.details
        elif replay == "always" or (replay == "tool_turns" and calls):
            text = "".join(thoughts.texts)
            if text:
                message[self._record["reasoning_in_field"]] = text
            elif calls and self._record["misses_reasoning"]:
                self._warnings.add("input", "the reasoning of a turn with tool calls is lost")
                message[self._record["reasoning_in_field"]] = " "


class _Thoughts:
    """The blocks of the reasoning items of one turn."""

    __slots__ = ("details", "signature", "texts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.details: list[JSON] = []
        self.signature: str | None = None

    def add(self, envelope: Envelope, *, same_model: bool) -> None:
        for block, _ in envelope.opened(_IS_SOUND):
            kind = block["k"]
            if kind == "rc":
                self.texts.append(block["text"])
            elif kind == "rd":
                self.details.append(block["v"])
                self.texts.append(str(block["v"].get("text") or ""))
            elif kind == "fc" and same_model:
                self.signature = block["sig"]

    def take_signature(self) -> str | None:
        signature, self.signature = self.signature, None
        return signature


_PARTS: Final[Mapping[str, Callable[[Messages, JSON], JSON]]] = {
    "input_text": Messages._text_part,
    "output_text": Messages._text_part,
    "refusal": Messages._text_part,
    "input_image": Messages._image_part,
    "input_audio": Messages._audio_part,
    "input_file": Messages._file_part,
}

_CACHE_MARKS: Final[Mapping[str | None, Callable[[Any], JSON]]] = {
    "openai": lambda mark: {"prompt_cache_breakpoint": mark},
    "anthropic": lambda mark: {"cache_control": {"type": "ephemeral"}},
}


def _is_said(messages: list[JSON]) -> bool:
    """Whether a user says anything in the first of these."""
    if not messages or messages[0]["role"] != "user":
        return False
    content = messages[0]["content"]
    if isinstance(content, str):
        return bool(content.strip())
    return any(part["type"] != "text" or part["text"].strip() for part in content)


def _merged(before: str | list[JSON], content: str | list[JSON]) -> str | list[JSON]:
    if isinstance(before, str) and isinstance(content, str):
        return f"{before}\n\n{content}"
    return [*_as_parts(before), *_as_parts(content)]


def _as_parts(content: str | list[JSON]) -> list[JSON]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


_ALPHABET: Final = string.digits + string.ascii_letters


def nine(identifier: str) -> str:
    """Mistral's form of a call id: nine letters and digits, the same ones for the same id."""
    if len(identifier) == 9 and identifier.isascii() and identifier.isalnum():
        return identifier
    number = int.from_bytes(hashlib.sha256(identifier.encode("utf-8", "surrogatepass")).digest()[:8])
    letters = []
    for _ in range(9):
        number, digit = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[digit])
    return "".join(letters)


CALL_ID_FORMS: Final[Mapping[str | None, Callable[[str], str]]] = {"nine": nine}


_SHAPES: Final[Shapes] = {"rc": {"text": str}, "rd": {"v": dict}, "fc": {"sig": str}}
"""Blocks of this family (``chat_reasoning``)."""
_IS_SOUND: Final = shaped(_SHAPES)
