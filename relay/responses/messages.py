"""Chat ``messages`` as items (decision 10), also those of the first chat API (``function_call``, role ``function``).

Source: platform.openai.com, chat/completions ``messages``; ``reasoning_content`` as DeepSeek, Kimi and vLLM have it
(platform.kimi.ai/docs/guide/use-thinking-models: it goes back with its calls), ``reasoning`` as OpenRouter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from relay.errors import RelayError
from relay.responses.items import Later, checked_item, checked_parts
from relay.responses.json import encoded

JSON = dict[str, Any]


def from_messages(messages: object, later: Later | None = None, places: list[str] | None = None) -> list[JSON]:
    """The items of ``messages`` (``later`` as in ``normalise``); ``places`` takes the path of each.

    Raises: RelayError naming ``messages[i]…``.
    """
    if not isinstance(messages, list):
        raise RelayError("invalid_type", "messages must be an array.", param="messages")
    reader = _Reader(later)
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        if not isinstance(message, dict):
            raise RelayError("invalid_type", f"{path} must be an object.", param=path)
        for place, item in reader.read(message, path, index):
            reader.items.append(checked_item(item, place, later))
            if places is not None:
                places.append(place)
    return reader.items


class _Reader:
    """Messages, one after the other; what was called before says what an answer is."""

    __slots__ = ("_custom", "_later", "_named", "items")

    def __init__(self, later: Later | None) -> None:
        self.items: list[JSON] = []
        self._later = later
        self._custom: set[str] = set()
        self._named: dict[str, str] = {}

    def read(self, message: JSON, path: str, index: int) -> Iterator[tuple[str, JSON]]:
        """The items of one message, each with the path that errors name."""
        role = message.get("role")
        if role in ("tool", "function"):
            yield path, self._output(message, path)
            return
        thought = message.get("reasoning_content") or message.get("reasoning")
        if role == "assistant" and isinstance(thought, str) and thought:
            part = {"type": "reasoning_text", "text": thought}
            yield path, {"type": "reasoning", "id": f"rs_{index}", "summary": [], "content": [part]}
        content = _content(message.get("content"), path)
        if isinstance(message.get("refusal"), str):
            content = [{"type": "refusal", "refusal": message["refusal"]}]
        calls = message.get("tool_calls")
        old = message.get("function_call")
        if content or not (calls or old):
            yield path, {"type": "message", "role": role, "content": content}
        for number, call in enumerate(calls if isinstance(calls, list) else []):
            place = f"{path}.tool_calls[{number}]"
            yield place, self._call(call, place)
        if old is not None:
            place = f"{path}.function_call"
            call_id = f"call_{index}"
            item = {"type": "function_call", "call_id": call_id, **_function(old, place)}
            self._named[str(item["name"])] = call_id
            yield place, item

    def _output(self, message: JSON, path: str) -> JSON:
        said = _content(message.get("content"), path) or ""
        output: JSON = {
            "type": "function_call_output",
            "output": checked_parts(said, f"{path}.content", "user", self._later) if isinstance(said, list) else said,
        }
        call_id, name = message.get("tool_call_id"), message.get("name")
        if call_id is None and isinstance(name, str):
            # what nobody called stays named, and is told apart by its name
            call_id = self._named.pop(name, None)
            output |= {"name": name} if call_id is None else {}
        if call_id is not None:
            output["call_id"] = call_id
        if isinstance(call_id, str) and call_id in self._custom:
            output["type"] = "custom_tool_call_output"
        return output

    def _call(self, call: Any, place: str) -> JSON:
        custom = call.get("custom") if isinstance(call, dict) else None
        if isinstance(custom, dict):
            item = {"type": "custom_tool_call", "call_id": call.get("id"), "name": custom.get("name")}
            self._custom.add(str(call.get("id")))
            return {**item, "input": str(custom.get("input") or "")}
        function = call.get("function") if isinstance(call, dict) else None
        return {"type": "function_call", **_function(function, f"{place}.function"), "call_id": call.get("id")}


def _function(function: Any, place: str) -> JSON:
    if not isinstance(function, dict):
        raise RelayError("invalid_type", f"{place} must be an object.", param=place)
    arguments = function.get("arguments") or ""
    if isinstance(arguments, dict):  # as Ollama has them
        arguments = encoded(arguments).decode()
    return {"name": function.get("name"), "arguments": arguments}


def _content(content: object, path: str) -> Any:
    if not isinstance(content, list):
        return content
    parts: list[Any] = []
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "image_url":
            parts.append({"type": "input_image", "image_url": part.get("image_url")})
        elif kind == "file":
            file = part.get("file") or {}
            if not isinstance(file, dict):
                place = f"{path}.content[{index}].file"
                raise RelayError("invalid_type", f"{place} must be an object.", param=place)
            parts.append({"type": "input_file", **file})
        else:
            parts.append(part)
    return parts
