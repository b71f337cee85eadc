"""Input items: shorthand made explicit, shapes checked, calls paired with their outputs.

Source: responses-api.md §3; translation.md §2.1; decisions 10, 14, 52, 57.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from relay.errors import RelayError
from relay.responses.tools import (
    CALL_TYPES,
    OUTPUT_TYPES,
    WITH_PARTS,
    call_id_of,
    is_call,
    is_output,
    key_of,
    key_of_call,
)

JSON = dict[str, Any]

ROLES: Final = frozenset({"user", "assistant", "system", "developer"})
_TEXT_PARTS: Final = frozenset({"input_text", "output_text", "text", "summary_text"})
_ALIASES: Final = {"compaction_summary": "compaction"}


def normalise(value: object, path: str = "input", later: Later | None = None) -> list[JSON]:
    """The items of ``input``: a string, an array of items, or None.

    Messages come out with ``type``, ``role`` and a list of parts; other items as they are, checked for what the relay
    reads. What a chat-like upstream cannot be told, but a native one may know (decision 57), goes to ``later`` where
    that is given. Raises: RelayError naming the path.
    """
    if value is None:
        return []
    if isinstance(value, str):
        return [_message("user", value, path, later)]
    if not isinstance(value, list):
        raise RelayError("invalid_type", f"{path} must be a string or an array of items.", param=path)
    return [checked_item(item, f"{path}[{index}]", later) for index, item in enumerate(value)]


Later = list[RelayError]
"""Takes what only matters to an upstream that is translated to; the first is what it would have been told."""


def object_to(error: RelayError, later: Later | None) -> None:
    """Raise an error, or keep it until it is known who answers."""
    if later is None:
        raise error
    if not later:
        later.append(error)


def checked_item(item: object, path: str, later: Later | None) -> JSON:
    """One item, as ``normalise`` has it. Raises: RelayError naming the path."""
    if isinstance(item, str):
        return _message("user", item, path, later)
    if not isinstance(item, dict):
        raise RelayError("invalid_type", f"{path} must be an object.", param=path)
    kind = item.get("type")
    if kind is None:
        if "role" in item:
            kind = "message"
        elif "id" in item:
            kind = "item_reference"
    if not isinstance(kind, str):
        raise RelayError("missing_parameter", f"{path}.type is missing.", param=f"{path}.type")
    for name in _NAMES:
        if name in item and not isinstance(item[name], str | None):
            raise RelayError("invalid_type", f"{path}.{name} must be a string.", param=f"{path}.{name}")
    kind = _ALIASES.get(kind, kind)
    if kind == "message":
        return {**item, **_message(item.get("role"), item.get("content"), path, later)}
    if kind == "item_reference" and item.get("id") is None:
        raise RelayError("invalid_type", f"{path}.id must be a string.", param=f"{path}.id")
    if kind in WITH_PARTS and isinstance(item.get("output"), list):
        item["output"] = checked_parts(item["output"], f"{path}.output", "user", later)
    check = _CHECKS.get(kind)
    if check is not None:
        try:
            check(item, path)
        except RelayError as error:
            object_to(error, later)
    return item if item.get("type") == kind else {**item, "type": kind}


_NAMES: Final = ("id", "call_id", "name")


def _message(role: object, content: object, path: str, later: Later | None) -> JSON:
    if not isinstance(role, str) or role not in ROLES:
        expected = ", ".join(sorted(ROLES))
        error = RelayError("invalid_value", f"{path}.role must be one of {expected}.", param=f"{path}.role")
        object_to(error, later if isinstance(role, str) else None)
    if content is None:
        content = []
    if isinstance(content, str):
        content = [{"type": "output_text" if role == "assistant" else "input_text", "text": content}]
    elif isinstance(content, list):
        content = checked_parts(content, f"{path}.content", str(role), later)
    else:
        message = f"{path}.content must be a string or an array."
        object_to(RelayError("invalid_type", message, param=f"{path}.content"), later)
    return {"type": "message", "role": role, "content": content}


def checked_parts(parts: list[Any], path: str, role: str, later: Later | None) -> list[JSON]:
    """The content parts of a message, or of an output. Raises: RelayError naming the path."""
    return [_part(part, f"{path}[{index}]", role, later) for index, part in enumerate(parts)]


def _part(part: object, path: str, role: str, later: Later | None) -> JSON:
    if isinstance(part, str):
        return {"type": "output_text" if role == "assistant" else "input_text", "text": part}
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise RelayError("invalid_type", f"{path} must be an object with a string 'type'.", param=path)
    kind = part["type"]
    try:
        if kind in _TEXT_PARTS:
            if not isinstance(part.get("text"), str):
                raise RelayError("invalid_type", f"{path}.text must be a string.", param=f"{path}.text")
            # the role decides what a text part is called; both names are accepted (responses-api.md §3.2)
            wanted = "output_text" if role == "assistant" else "input_text"
            return part if kind == wanted else {**part, "type": wanted}
        check = _PART_CHECKS.get(kind)
        if check is None:
            message = f"{path}.type '{kind}' is not a known content part."
            raise RelayError("invalid_value", message, param=f"{path}.type")
        check(part, path)
    except RelayError as error:
        object_to(error, later)
    return part


def _no_file_id(part: JSON, path: str) -> None:
    if part.get("file_id") is not None:
        raise RelayError(
            "unsupported_parameter",
            f"{path}.file_id needs a Files API, which the relay does not have: send the content itself or a URL.",
            param=f"{path}.file_id",
        )


def _image(part: JSON, path: str) -> None:
    url = part.get("image_url")
    if url is None and part.get("file_id") is not None:
        return
    if isinstance(url, dict) and isinstance(url.get("url"), str):  # the chat form
        part["detail"] = part.get("detail") or url.get("detail") or "auto"
        part["image_url"] = url = url["url"]
    if not isinstance(url, str):
        raise RelayError("invalid_type", f"{path}.image_url must be a string.", param=f"{path}.image_url")


def _file(part: JSON, path: str) -> None:
    if not any(isinstance(part.get(key), str) for key in ("file_data", "file_url", "file_id")):
        message = f"{path} needs one of file_data, file_url and file_id."
        raise RelayError("missing_parameter", message, param=path)


def _audio(part: JSON, path: str) -> None:
    audio = part.get("input_audio")
    url = part.get("audio_url")
    if isinstance(url.get("url") if isinstance(url, dict) else url, str):  # Codex sends its recordings so
        return
    if (
        not isinstance(audio, dict)
        or not isinstance(audio.get("data"), str)
        or not isinstance(audio.get("format"), str)
    ):
        message = f"{path} needs audio_url, or input_audio as an object with the strings 'data' and 'format'."
        raise RelayError("invalid_type", message, param=f"{path}.input_audio")


def _refusal(part: JSON, path: str) -> None:
    if not isinstance(part.get("refusal"), str):
        raise RelayError("invalid_type", f"{path}.refusal must be a string.", param=f"{path}.refusal")


def _sealed(part: JSON, path: str) -> None:
    if not isinstance(part.get("encrypted_content"), str):
        param = f"{path}.encrypted_content"
        raise RelayError("invalid_type", f"{param} must be a string.", param=param)


_PART_CHECKS: Final[dict[str, Callable[[JSON, str], None]]] = {
    "encrypted_content": _sealed,
    "input_image": _image,
    "input_file": _file,
    "input_audio": _audio,
    "refusal": _refusal,
}


def _string_field(name: str) -> Callable[[JSON, str], None]:
    def check(item: JSON, path: str) -> None:
        if not isinstance(item.get(name), str):
            raise RelayError("invalid_type", f"{path}.{name} must be a string.", param=f"{path}.{name}")

    return check


def _call(item: JSON, path: str) -> None:
    identifier = call_id_of(item)
    if not identifier:
        raise RelayError("missing_parameter", f"{path}.call_id must be a non-empty string.", param=f"{path}.call_id")
    if item["type"] in ("function_call", "custom_tool_call"):
        _string_field("name")(item, path)
    if item["type"] == "function_call" and not isinstance(item.get("arguments"), str):
        raise RelayError("invalid_type", f"{path}.arguments must be a JSON string.", param=f"{path}.arguments")
    for name in ("action", "operation"):
        if not isinstance(item.get(name), dict | None):
            raise RelayError("invalid_type", f"{path}.{name} must be an object.", param=f"{path}.{name}")


def _output(item: JSON, path: str) -> None:
    if item["type"] in WITH_PARTS and not isinstance(item.get("output"), str | list):
        message = f"{path}.output must be a string or an array of content parts."
        raise RelayError("invalid_type", message, param=f"{path}.output")


def _reasoning(item: JSON, path: str) -> None:
    for name in ("summary", "content"):
        if item.get(name) is not None and not isinstance(item[name], list):
            raise RelayError("invalid_type", f"{path}.{name} must be an array.", param=f"{path}.{name}")


_CHECKS: Final[dict[str, Callable[[JSON, str], None]]] = {
    **dict.fromkeys(CALL_TYPES, _call),
    **dict.fromkeys(OUTPUT_TYPES, _output),
    "reasoning": _reasoning,
    "compaction": _string_field("encrypted_content"),
}


class Pairing(NamedTuple):
    """Which output answers which call, by their places in the list."""

    calls: dict[int, int]
    """Place of an output -> place of the call that it answers."""
    orphans: dict[int, str]
    """Place of a call without its output or an output without its call -> which of both, in words."""


def pairing(items: list[JSON]) -> Pairing:
    """Pair calls and outputs (translation.md §2.1; decision 52).

    An output answers the oldest open call with its id, among those of the assistant's last turn that has one: some
    models begin anew with the ids of their calls, and what was left open before is then lost. An output without an id
    answers the oldest open call of the tool that it names, or of any tool where it names none.
    """
    calls: dict[int, int] = {}
    orphans: dict[int, str] = {}
    lines: dict[tuple[str, str], deque[int]] = {}
    turn = 0
    for index, item in enumerate(items):
        if is_call(item):
            identifier = call_id_of(item) or ""
            before = lines.get(("id", identifier))
            if before and before[-1] < turn:
                before.clear()
            for line in (("id", identifier), ("name", key_of_call(item)), _ANY):
                lines.setdefault(line, deque()).append(index)
            orphans[index] = f"no output answers the call '{identifier[:64]}'"
        elif is_output(item):
            turn = index
            waiting = lines.get(_line_of(item), deque())
            while waiting and waiting[0] not in orphans:
                waiting.popleft()
            if waiting:
                calls[index] = waiting.popleft()
                del orphans[calls[index]]
            else:
                orphans[index] = f"it answers no open call ('{(call_id_of(item) or '')[:64]}')"
        elif item.get("type") == "message" and item.get("role") != "assistant":
            turn = index
    return Pairing(calls, orphans)


_ANY: Final = ("any", "")


def _line_of(output: JSON) -> tuple[str, str]:
    """Where the calls wait that an output may answer: those of its id, of the tool that it names, or all."""
    identifier, name = call_id_of(output), output.get("name")
    if identifier:
        return "id", identifier
    return ("name", key_of(name, output.get("namespace"))) if isinstance(name, str) else _ANY


def sound(items: list[JSON], *, native: bool) -> Told:
    """Items of earlier turns, which nobody checked where a native upstream said them; what makes no sense is left out.

    ``native``: only what the relay itself reads must make sense (decision 57).
    """
    kept: list[JSON] = []
    left_out: list[tuple[JSON, str, str]] = []
    for item in items:
        try:
            checked = checked_item({**item}, "it", [] if native else None)
        except RelayError as error:
            left_out.append((item, "", f"{error.message} It was left out."))
        else:
            kept.append(item if checked == item else checked)
    return Told(kept, left_out)


# --- what agents of one client say to each other


class Told(NamedTuple):
    """Items as they are said, and what was left out of them: ``(item, path inside it, reason)``."""

    items: list[JSON]
    left_out: list[tuple[JSON, str, str]]
    altered: Mapping[int, JSON] = {}
    """``id`` of an item that is said otherwise -> how."""


def told(items: list[JSON], *, sealed: bool) -> Told:
    """``agent_message`` items as user messages; unless the upstream may read them (``sealed``), sealed parts as text.

    Codex puts words that nobody sealed into ``encrypted_content`` (https://github.com/openai/codex/issues/37197): what
    can be read there is text; what cannot is left out. Raises: RelayError naming a part that is none.
    """
    left_out: list[tuple[JSON, str, str]] = []
    result: list[JSON] = []
    altered: dict[int, JSON] = {}
    for index, item in enumerate(items):
        said: JSON | None = item
        if item["type"] == "agent_message":
            said = _agent_message(item, f"input[{index}]", left_out)
        elif not sealed and any(_is_sealed_part(part) for part in _parts_of(item)):
            field = "output" if item["type"] in WITH_PARTS else "content"
            said = {**item, field: _opened(item, field, item[field], left_out)}
        if said is not None:
            result.append(said)
            if said is not item:
                altered[id(item)] = said
    return Told(result if altered or len(result) < len(items) else items, left_out, altered)


def _parts_of(item: JSON) -> list[Any]:
    field = "output" if item["type"] in WITH_PARTS else "content" if item["type"] == "message" else ""
    parts = item.get(field)
    return parts if isinstance(parts, list) else []


def _is_sealed_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "encrypted_content" and "encrypted_content" in part


def _agent_message(item: JSON, path: str, left_out: list[tuple[JSON, str, str]]) -> JSON | None:
    message = _message("user", item.get("content"), path, None)
    parts = _opened(item, "content", message["content"], left_out)
    author, recipient = item.get("author"), item.get("recipient")
    texts = [part["text"] for part in parts if part["type"] == "input_text"]
    if texts and isinstance(author, str) and not any(author in text for text in texts):
        to = f" to {recipient}" if isinstance(recipient, str) else ""
        parts.insert(0, {"type": "input_text", "text": f"Message from {author}{to}:\n"})
    if all(part["type"] == "input_text" for part in parts):
        parts = [{"type": "input_text", "text": "".join(part["text"] for part in parts)}] if parts else []
    return {**message, "content": parts} if parts else None


def _opened(item: JSON, field: str, parts: list[JSON], left_out: list[tuple[JSON, str, str]]) -> list[JSON]:
    """Parts with the sealed ones as text, or left out."""
    opened: list[JSON] = []
    for index, part in enumerate(parts):
        if not _is_sealed_part(part):
            opened.append(part)
        elif _SEALED_TEXT.fullmatch(part["encrypted_content"]):
            left_out.append((item, f".{field}[{index}]", "it is sealed and cannot be read here: it was left out"))
        else:
            opened.append({"type": "input_text", "text": part["encrypted_content"]})
    return opened


_SEALED_TEXT: Final = re.compile(r"gAAA[\w=-]*|[\w+/=-]{128,}", re.ASCII)
"""What is no text: a token of https://github.com/fernet/spec (its version byte and a time before 2106), or any long
run of base64."""


def check_file_ids(items: list[JSON]) -> None:
    """Refuse ``file_id`` anywhere in the items (decision 14). Raises: RelayError naming the path."""
    for index, item in enumerate(items):
        for field in ("content", "output"):
            parts = item.get(field)
            if isinstance(parts, list):
                for number, part in enumerate(parts):
                    if isinstance(part, dict):
                        _no_file_id(part, f"input[{index}].{field}[{number}]")
