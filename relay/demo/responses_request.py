"""Requests to the Responses API, checked as OpenAI checks them.

Source: OpenAI's API reference, responses-api.md §2.1 and §3, and the wording of OpenAI's 400 answers. The demo is
stateless: a ``previous_response_id`` is never found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from relay.demo.behaviour import behaviour_of
from relay.demo.chat import new_id
from relay.demo.script import Conversation, Refusal, Tool, Turn, call_problem, seal_fits

_PREFIXES: Final = {
    "message": "msg",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "reasoning": "rs",
}
_PARTS: Final = {
    "user": ("input_text", "input_image", "input_file", "input_audio"),
    "system": ("input_text", "input_image", "input_file"),
    "developer": ("input_text", "input_image", "input_file"),
    "assistant": ("output_text", "refusal"),
}
_OUTPUTS: Final = {"function_call": "function_call_output", "custom_tool_call": "custom_tool_call_output"}
_HOSTED: Final = frozenset(
    (
        "web_search",
        "web_search_preview",
        "file_search",
        "code_interpreter",
        "image_generation",
        "mcp",
        "local_shell",
        "shell",
        "apply_patch",
        "computer",
        "computer_use_preview",
        "tool_search",
    )
)


def read_responses(body: dict[str, Any]) -> Turn:
    """Check a request as OpenAI would.

    Raises:
        Refusal: in OpenAI's words.
    """
    model = body.get("model")
    if not isinstance(model, str):
        raise Refusal("Missing required parameter: 'model'.", param="model", code="missing_required_parameter")
    behaviour = behaviour_of(model)
    if (previous := body.get("previous_response_id")) is not None:
        message = f"Previous response with id '{previous}' not found."
        raise Refusal(message, param="previous_response_id", code="previous_response_not_found")
    given = body.get("input")
    if given is None or given == []:
        raise Refusal("Missing required parameter: 'input'.", param="input", code="missing_required_parameter")
    talk = Conversation()
    if isinstance(body.get("instructions"), str):
        talk.system(body["instructions"])
    if isinstance(given, str):
        talk.user(given)
    else:
        _Items(talk, behaviour.strict).read(given)
    tools = _tools(body.get("tools") or ())
    reasoning = body.get("reasoning") or {}
    return Turn(
        model=model,
        behaviour=behaviour,
        stream=body.get("stream") is True,
        body=body,
        talk=talk,
        call_prefix="call_",
        tools=tools,
        choice=_choice(body.get("tool_choice"), body.get("tools") or (), tools),
        parallel=body.get("parallel_tool_calls") is not False,
        schema=_schema(body),
        reason=reasoning.get("effort") not in (None, "none") or reasoning.get("summary") is not None,
        show_reason=reasoning.get("summary") is not None,
        limit=body.get("max_output_tokens"),
        response_id=new_id("resp_"),
    )


def _schema(body: dict[str, Any]) -> Any:
    asked = (body.get("text") or {}).get("format") or {"type": "text"}
    if asked.get("type") == "json_schema":
        for key in ("name", "schema"):
            if asked.get(key) is None:
                path = f"text.format.{key}"
                raise Refusal(f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter")
        return asked["schema"]
    if asked.get("type") == "json_object":
        return {"type": "object", "properties": {"answer": {"type": "string"}}}
    if asked.get("type") != "text":
        supported = "'text', 'json_object', and 'json_schema'"
        message = f"Invalid value: '{asked.get('type')}'. Supported values are: {supported}."
        raise Refusal(message, param="text.format.type", code="invalid_value")
    return None


def _tools(offered: Any, namespace: str | None = None) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    for at, tool in enumerate(offered):
        kind = tool.get("type")
        if kind == "namespace":
            tools += _tools(tool.get("tools") or (), tool.get("name"))
        elif kind in ("function", "custom"):
            if not isinstance(tool.get("name"), str):
                path = f"tools[{at}].name"
                raise Refusal(f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter")
            schema = tool.get("parameters") or {"type": "object", "properties": {}}
            tools.append(Tool(tool["name"], schema, kind == "custom", namespace))
        elif kind not in _HOSTED:
            raise Refusal(f"Invalid value: '{kind}'.", param=f"tools[{at}].type", code="invalid_value")
    return tuple(tools)


def _choice(asked: Any, offered: Any, tools: tuple[Tool, ...]) -> str:
    if asked is None or asked in ("none", "auto"):
        return asked or "auto"
    if asked == "required":
        if not offered:
            raise Refusal("Tool choice 'required' must be specified with 'tools' parameter.", param="tool_choice")
        return "required"
    if not isinstance(asked, dict):
        supported = "'none', 'auto', and 'required'"
        raise Refusal(f"Invalid value: '{asked}'. Supported values are: {supported}.", param="tool_choice")
    kind = asked.get("type")
    if kind == "allowed_tools":
        return str(asked.get("mode", "auto"))
    if kind in ("function", "custom"):
        if asked.get("name") not in {tool.name for tool in tools}:
            message = f"Tool choice '{kind}' '{asked.get('name')}' not found in 'tools' parameter."
            raise Refusal(message, param="tool_choice")
        return str(asked["name"])
    return "auto"


@dataclass(slots=True)
class _Items:
    """The walk over the input items: pairs of calls and outputs, prefixes of ids, and (strict) the seals."""

    talk: Conversation
    strict: bool
    open: dict[str, str] = field(default_factory=dict)  # call_id → type of its call
    asked: set[str] = field(default_factory=set)
    round: list[str] = field(default_factory=list)
    seal: str | None = None

    def read(self, items: Any) -> None:
        """Raises: Refusal."""
        if not isinstance(items, list):
            raise Refusal("Invalid type for 'input': expected one of a string or array of input items.", param="input")
        for at, item in enumerate(items):
            if not isinstance(item, dict):
                raise Refusal(f"Invalid type for 'input[{at}]': expected an input item.", param=f"input[{at}]")
            kind = item.get("type") or "message"
            self._check_id(item, kind, at)
            if kind != "function_call" and kind != "custom_tool_call":
                self._end_round()
            handler = _HANDLERS.get(kind)
            if handler is not None:
                handler(self, item, at)
        self._end_round()
        for call_id, kind in self.open.items():
            word = "function call" if kind == "function_call" else "custom tool call"
            raise Refusal(f"No tool output found for {word} {call_id}.", param="input")

    def _check_id(self, item: dict[str, Any], kind: str, at: int) -> None:
        item_id, prefix = item.get("id"), _PREFIXES.get(kind)
        if kind == "message" and item.get("role") != "assistant":
            return
        if item_id is None or prefix is None:
            return
        path = f"input[{at}].id"
        if not str(item_id).startswith(prefix):
            message = f"Invalid '{path}': '{item_id}'. Expected an ID that begins with '{prefix}'."
            raise Refusal(message, param=path, code="invalid_value")
        if len(str(item_id)) > 64:
            message = f"Invalid '{path}': string too long. Expected a string with maximum length 64."
            raise Refusal(message, param=path, code="string_above_max_length")

    def _end_round(self) -> None:
        if self.round:
            self.talk.calls(*self.round)
            self.round = []

    def _on_message(self, item: dict[str, Any], at: int) -> None:
        role = item.get("role")
        allowed = _PARTS.get(str(role))
        if allowed is None:
            supported = "'assistant', 'system', 'developer', and 'user'"
            message = f"Invalid value: '{role}'. Supported values are: {supported}."
            raise Refusal(message, param=f"input[{at}].role", code="invalid_value")
        text = _text(item.get("content"), allowed, f"input[{at}].content")
        if role == "user":
            self.talk.user(text)
            self.seal = None
        elif role == "assistant":
            self.talk.assistant(text)
        else:
            self.talk.system(text)

    def _on_call(self, item: dict[str, Any], at: int) -> None:
        call_id, kind = item.get("call_id"), item["type"]
        text = item.get("arguments" if kind == "function_call" else "input")
        if not isinstance(call_id, str) or not isinstance(item.get("name"), str) or not isinstance(text, str):
            raise Refusal(f"Missing required parameter: 'input[{at}].call_id'.", param=f"input[{at}]")
        problem = call_problem(call_id, "call_", self.seal, len(self.round)) if self.strict else None
        if problem is not None:
            message = (
                f"Item '{item.get('id', call_id)}' of type '{kind}' was provided without its required 'reasoning' item"
            )
            raise Refusal(f"{message}: it is {problem}.", param="input")
        self.open[call_id] = kind
        self.asked.add(call_id)
        self.round.append(call_id)

    def _on_output(self, item: dict[str, Any], at: int) -> None:
        call_id = item.get("call_id")
        if call_id not in self.asked:
            raise Refusal(f"No tool call found for function call output with call_id {call_id}.", param="input")
        if _OUTPUTS.get(self.open.pop(str(call_id), "")) not in (item["type"], None):
            raise Refusal(f"The output of call {call_id} has the wrong type '{item['type']}'.", param="input")
        allowed = ("input_text", "input_image", "input_file")
        self.talk.result(str(call_id), _text(item.get("output"), allowed, f"input[{at}].output"))
        self.seal = None

    def _on_reasoning(self, item: dict[str, Any], at: int) -> None:
        seal = item.get("encrypted_content")
        if not isinstance(item.get("summary"), list):
            raise Refusal(f"Missing required parameter: 'input[{at}].summary'.", param=f"input[{at}].summary")
        if self.strict and seal is not None:
            shown = "".join(part.get("text", "") for part in item["summary"])
            if not seal_fits(seal, shown):
                message = f"The encrypted content for item {item.get('id')} could not be verified."
                raise Refusal(message, param=f"input[{at}]", code="invalid_encrypted_content")
        self.seal = seal


_HANDLERS: Final[dict[str, Callable[[_Items, dict[str, Any], int], None]]] = {
    "message": _Items._on_message,
    "function_call": _Items._on_call,
    "custom_tool_call": _Items._on_call,
    "function_call_output": _Items._on_output,
    "custom_tool_call_output": _Items._on_output,
    "reasoning": _Items._on_reasoning,
}


def _text(content: Any, allowed: tuple[str, ...], path: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise Refusal(f"Invalid type for '{path}': expected a string or an array of content parts.", param=path)
    last = ""
    for at, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in allowed:
            supported = " and ".join(f"'{one}'" for one in allowed)
            message = f"Invalid value: '{kind}'. Supported values are: {supported}."
            raise Refusal(message, param=f"{path}[{at}]", code="invalid_value")
        if kind in ("input_text", "output_text", "refusal"):
            last = part.get("refusal" if kind == "refusal" else "text") or ""
    return last
