"""Input items: shorthand made explicit, shapes checked, calls paired with their outputs.

Source: responses-api.md §3; translation.md §2.1; decisions 10, 14, 27.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from relay.errors import RelayError
from relay.responses.tools import CALL_TYPES, OUTPUT_TYPES, call_id_of, is_call, is_output

JSON = dict[str, Any]

ROLES: Final = frozenset({"user", "assistant", "system", "developer"})
_TEXT_PARTS: Final = frozenset({"input_text", "output_text", "text", "summary_text"})
_ALIASES: Final = {"compaction_summary": "compaction"}


def normalise(value: object, path: str = "input") -> list[JSON]:
    """The items of ``input``: a string, an array of items, or None.

    Messages come out with ``type``, ``role`` and a list of parts; other items as they are, checked for what the relay
    reads. Raises: RelayError naming the path.
    """
    if value is None:
        return []
    if isinstance(value, str):
        return [_message("user", value, path)]
    if not isinstance(value, list):
        raise RelayError("invalid_type", f"{path} must be a string or an array of items.", param=path)
    return [_item(item, f"{path}[{index}]") for index, item in enumerate(value)]


def _item(item: object, path: str) -> JSON:
    if isinstance(item, str):
        return _message("user", item, path)
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
    kind = _ALIASES.get(kind, kind)
    if kind == "message":
        return {**item, **_message(item.get("role"), item.get("content"), path)}
    check = _CHECKS.get(kind)
    if check is not None:
        check(item, path)
    return item if item.get("type") == kind else {**item, "type": kind}


def _message(role: object, content: object, path: str) -> JSON:
    if role not in ROLES:
        expected = ", ".join(sorted(ROLES))
        raise RelayError("invalid_value", f"{path}.role must be one of {expected}.", param=f"{path}.role")
    if content is None:
        content = []
    if isinstance(content, str):
        content = [{"type": "output_text" if role == "assistant" else "input_text", "text": content}]
    if not isinstance(content, list):
        raise RelayError("invalid_type", f"{path}.content must be a string or an array.", param=f"{path}.content")
    parts = [_part(part, f"{path}.content[{index}]", str(role)) for index, part in enumerate(content)]
    return {"type": "message", "role": role, "content": parts}


def _part(part: object, path: str, role: str) -> JSON:
    if isinstance(part, str):
        return {"type": "output_text" if role == "assistant" else "input_text", "text": part}
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise RelayError("invalid_type", f"{path} must be an object with a string 'type'.", param=path)
    kind = part["type"]
    if kind in _TEXT_PARTS:
        if not isinstance(part.get("text"), str):
            raise RelayError("invalid_type", f"{path}.text must be a string.", param=f"{path}.text")
        # the role decides what a text part is called: both names are accepted in both places (responses-api.md §3.2)
        wanted = "output_text" if role == "assistant" else "input_text"
        return part if kind == wanted else {**part, "type": wanted}
    check = _PART_CHECKS.get(kind)
    if check is None:
        raise RelayError("invalid_value", f"{path}.type '{kind}' is not a known content part.", param=f"{path}.type")
    check(part, path)
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


_PART_CHECKS: Final[dict[str, Callable[[JSON, str], None]]] = {
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


def _output(item: JSON, path: str) -> None:
    if not call_id_of(item):
        raise RelayError("missing_parameter", f"{path}.call_id must be a non-empty string.", param=f"{path}.call_id")
    output = item.get("output")
    if item["type"] in ("function_call_output", "custom_tool_call_output"):
        if isinstance(output, list):
            item["output"] = [_part(part, f"{path}.output[{index}]", "user") for index, part in enumerate(output)]
        elif not isinstance(output, str):
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
    "item_reference": _string_field("id"),
    "compaction": _string_field("encrypted_content"),
}


def check_pairing(items: list[JSON]) -> None:
    """Every output has its call before it, every call its output after it, once (decision 27; translation.md §2.1).

    Raises: RelayError ``invalid_request`` with param ``input``.
    """
    open_calls: set[str] = set()
    answered: set[str] = set()
    for item in items:
        if is_call(item):
            identifier = call_id_of(item) or ""
            if identifier in open_calls:
                raise RelayError("invalid_request", f"Two open calls have the call_id {identifier}.", param="input")
            open_calls.add(identifier)
            answered.discard(identifier)
        elif is_output(item):
            identifier = call_id_of(item) or ""
            if identifier in open_calls:
                open_calls.discard(identifier)
                answered.add(identifier)
            elif identifier in answered:
                message = f"Two outputs answer the call with call_id {identifier}."
                raise RelayError("invalid_request", message, param="input")
            else:
                message = f"No tool call found for function call output with call_id {identifier}."
                raise RelayError("invalid_request", message, param="input")
    if open_calls:
        identifier = min(open_calls)
        raise RelayError("invalid_request", f"No tool output found for function call {identifier}.", param="input")


def check_file_ids(items: list[JSON]) -> None:
    """Refuse ``file_id`` anywhere in the items (decision 14). Raises: RelayError naming the path."""
    for index, item in enumerate(items):
        for field in ("content", "output"):
            parts = item.get(field)
            if isinstance(parts, list):
                for number, part in enumerate(parts):
                    if isinstance(part, dict):
                        _no_file_id(part, f"input[{index}].{field}[{number}]")


# --- chat messages (decision 10)


def from_messages(messages: object) -> list[JSON]:
    """Chat ``messages`` as items. Raises: RelayError naming ``messages[i]…``."""
    if not isinstance(messages, list):
        raise RelayError("invalid_type", "messages must be an array.", param="messages")
    items: list[JSON] = []
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        if not isinstance(message, dict):
            raise RelayError("invalid_type", f"{path} must be an object.", param=path)
        if message.get("role") == "tool":
            output: JSON = {
                "type": "function_call_output",
                "call_id": message.get("tool_call_id"),
                "output": _chat_content(message.get("content"), "user") or "",
            }
            _output(output, path)
            items.append(output)
            continue
        role = message.get("role")
        content = _chat_content(message.get("content"), str(role))
        if isinstance(message.get("refusal"), str):
            content = [{"type": "refusal", "refusal": message["refusal"]}]
        if content or not message.get("tool_calls"):
            items.append(_message(role, content, path))
        items.extend(_chat_calls(message.get("tool_calls"), path))
    return items


def _chat_content(content: object, role: str) -> Any:
    if not isinstance(content, list):
        return content
    parts: list[Any] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "image_url":
            parts.append({"type": "input_image", "image_url": part.get("image_url")})
        elif kind == "file":
            parts.append({"type": "input_file", **(part.get("file") or {})})
        else:
            parts.append(part)
    return parts


def _chat_calls(calls: object, path: str) -> list[JSON]:
    items: list[JSON] = []
    for number, call in enumerate(calls if isinstance(calls, list) else []):
        place = f"{path}.tool_calls[{number}]"
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise RelayError("invalid_type", f"{place}.function must be an object.", param=f"{place}.function")
        item = {
            "type": "function_call",
            "call_id": call.get("id"),
            "name": function.get("name"),
            "arguments": function.get("arguments") or "",
        }
        _call(item, place)
        items.append(item)
    return items
