"""Requests to Anthropic Messages, checked as Anthropic checks them.

Source: platform.claude.com (Messages API, tool use, extended thinking) and the wording of its 400 answers;
translation.md §0.3 and §2.6. Seals are bound to the text of the thought and to the conversation before
it, as on the 5.5 models.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from relay.demo.behaviour import behaviour_of
from relay.demo.script import Conversation, Refusal, Tool, Turn, call_problem, seal_fits

_NAME: Final = re.compile(r"^[a-zA-Z0-9_-]{1,128}$")
_KNOWN: Final = frozenset(
    re.findall(
        r"\w+",
        """
    model messages max_tokens system stream tools tool_choice thinking output_config temperature top_p top_k
    stop_sequences metadata service_tier container mcp_servers cache_control context_management inference_geo
    speed diagnostics fallbacks betas
    """,
    )
)


def read_messages(body: dict[str, Any]) -> Turn:
    """Check a request as Anthropic would.

    Raises:
        Refusal: in Anthropic's words.
    """
    for key in ("model", "messages", "max_tokens"):
        if body.get(key) is None:
            raise Refusal(f"{key}: Field required")
    for key in body:
        if key not in _KNOWN:
            raise Refusal(f"{key}: Extra inputs are not permitted")
    behaviour = behaviour_of(body["model"])
    limit = body["max_tokens"]
    if not isinstance(limit, int) or limit < 1:
        raise Refusal("max_tokens: Input should be greater than or equal to 1")
    thinking = _thinking(body, limit)
    tools = _tools(body.get("tools"))
    choice, parallel = _choice(body, tools, thinking, behaviour.noforce)
    messages = _merged(body["messages"])
    talk = Conversation()
    for text in _system_texts(body.get("system")):
        talk.system(text)
    walk = _Messages(talk, behaviour.strict)
    walk.read(messages)
    last = messages[-1]
    searched = sum(block.get("type") == "server_tool_use" for block in last["content"] if last["role"] == "assistant")
    if last["role"] == "assistant" and not searched:
        raise Refusal(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
    output = body.get("output_config") or {}
    return Turn(
        model=body["model"],
        behaviour=behaviour,
        stream=body.get("stream") is True,
        body=body,
        talk=talk,
        call_prefix="toolu_",
        tools=tools,
        choice=choice,
        parallel=parallel,
        schema=_schema(output.get("format")),
        reason=thinking,
        show_reason=(body.get("thinking") or {}).get("display") != "omitted",
        limit=limit,
        stops=tuple(body.get("stop_sequences") or ()),
        pauses_left=max(0, (behaviour.pause or 0) - searched),
    )


def _thinking(body: dict[str, Any], limit: int) -> bool:
    thinking = body.get("thinking")
    if thinking is None:
        return False
    kind = thinking.get("type")
    if kind not in ("enabled", "adaptive", "disabled", "between_tools"):
        raise Refusal(f"thinking: Input tag '{kind}' found using 'type' does not match any of the expected tags")
    if kind == "enabled":
        budget = thinking.get("budget_tokens")
        if not isinstance(budget, int):
            raise Refusal("thinking.enabled.budget_tokens: Field required")
        if budget < 1024:
            raise Refusal("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
        if budget >= limit:
            raise Refusal("`max_tokens` must be greater than `thinking.budget_tokens`")
    elif "budget_tokens" in thinking:
        raise Refusal(f"thinking.{kind}.budget_tokens: Extra inputs are not permitted")
    if kind in ("enabled", "adaptive") and body.get("temperature") not in (None, 1):
        raise Refusal("`temperature` may only be set to 1 when thinking is enabled")
    return kind in ("enabled", "adaptive")


def _schema(asked: Any) -> Any:
    if asked is None:
        return None
    if asked.get("type") != "json_schema" or not isinstance(asked.get("schema"), dict):
        raise Refusal("output_config.format.schema: Field required")
    if asked["schema"].get("type") == "object" and asked["schema"].get("additionalProperties") is not False:
        message = "For 'object' type, 'additionalProperties' must be explicitly set to false"
        raise Refusal(f"output_config.format.schema: {message}")
    return asked["schema"]


def _system_texts(system: Any) -> list[str]:
    if system is None or isinstance(system, str):
        return [system] if system else []
    for at, block in enumerate(system):
        if block.get("type") != "text" or not block.get("text"):
            raise Refusal(f"system.{at}: text content blocks must be non-empty")
    return [block["text"] for block in system]


def _tools(offered: Any) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    names: set[str] = set()
    for at, tool in enumerate(offered or ()):
        name = tool.get("name")
        if tool.get("type") not in (None, "custom"):
            continue  # the server's own tools
        if not isinstance(name, str) or not _NAME.match(name):
            raise Refusal(f"tools.{at}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
        if name in names:
            raise Refusal("tools: Tool names must be unique.")
        schema = tool.get("input_schema")
        if not isinstance(schema, dict) or schema.get("type") != "object":
            raise Refusal(f"tools.{at}.custom.input_schema.type: Field required")
        names.add(name)
        tools.append(Tool(name, schema))
    return tuple(tools)


def _choice(body: dict[str, Any], tools: tuple[Tool, ...], thinking: bool, noforce: bool) -> tuple[str, bool]:
    asked = body.get("tool_choice")
    if asked is None:
        return "auto", True
    if not body.get("tools"):
        raise Refusal("tool_choice: tool_choice may only be specified while providing tools.")
    kind = asked.get("type")
    if kind not in ("auto", "any", "tool", "none"):
        raise Refusal(f"tool_choice: Input tag '{kind}' found using 'type' does not match any of the expected tags")
    if kind in ("any", "tool"):
        if noforce:
            raise Refusal("tool_choice: forced tool use is not supported by this model.")
        if thinking:
            raise Refusal("Thinking may not be enabled when tool_choice forces tool use.")
    parallel = asked.get("disable_parallel_tool_use") is not True
    if kind == "tool":
        if asked.get("name") not in {tool.get("name") for tool in body["tools"]}:
            raise Refusal(f"tool_choice: Tool '{asked.get('name')}' not found in provided tools")
        return str(asked["name"]), parallel
    return {"any": "required"}.get(kind, kind), parallel


def _merged(messages: Any) -> list[dict[str, Any]]:
    """Messages with content as lists, neighbours of one role joined, as the API joins them."""
    if not isinstance(messages, list) or not messages:
        raise Refusal("messages: at least one message is required")
    merged: list[dict[str, Any]] = []
    for at, message in enumerate(messages):
        role, content = message.get("role"), message.get("content")
        if role not in ("user", "assistant"):
            raise Refusal(f"messages.{at}.role: Input should be 'user' or 'assistant'")
        if isinstance(content, str):
            content = [{"type": "text", "text": content}] if content else []
        if not isinstance(content, list):
            raise Refusal(f"messages.{at}.content: Field required")
        if not content:
            raise Refusal(f"messages.{at}: all messages must have non-empty content")
        if merged and merged[-1]["role"] == role:
            merged[-1]["content"] = [*merged[-1]["content"], *content]
        else:
            merged.append({"role": role, "content": content})
    if merged[0]["role"] != "user":
        raise Refusal('messages: first message must use the "user" role')
    return merged


@dataclass(slots=True)
class _Messages:
    """The walk over the merged messages: pairs of calls and results, and (strict) the seals."""

    talk: Conversation
    strict: bool
    open: list[str] = field(default_factory=list)
    round: list[str] = field(default_factory=list)
    seal: str | None = None
    begun: bool = False  # something other than a tool result was seen in this message

    def read(self, messages: list[dict[str, Any]]) -> None:
        """Raises: Refusal."""
        for at, message in enumerate(messages):
            role = message["role"]
            self.begun, self.seal, self.round = False, None, []
            if role == "user":
                answered = {b.get("tool_use_id") for b in message["content"] if b.get("type") == "tool_result"}
                self._all_answered(answered, at)
            for number, block in enumerate(message["content"]):
                handler = _HANDLERS.get((role, block.get("type")))
                if handler is not None:
                    handler(self, block, f"messages.{at}.content.{number}")
                elif block.get("type") not in _SILENT[role]:
                    tag = block.get("type")
                    message_text = f"Input tag '{tag}' found using 'type' does not match any of the expected tags"
                    raise Refusal(f"messages.{at}.content.{number}: {message_text}")
            if self.round:
                self.talk.calls(*self.round)
            self.open = self.round if role == "assistant" else []
        self._all_answered(set(), len(messages))

    def _all_answered(self, answered: set[Any], at: int) -> None:
        missing = [call_id for call_id in self.open if call_id not in answered]
        if missing:
            raise Refusal(
                f"messages.{at - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in "
                "the next message."
            )

    def _on_text(self, block: dict[str, Any], path: str) -> None:
        if not isinstance(block.get("text"), str) or not block["text"]:
            raise Refusal("messages: text content blocks must be non-empty")
        self.begun = True
        self.talk.user(block["text"])

    def _on_result(self, block: dict[str, Any], path: str) -> None:
        call_id = block.get("tool_use_id")
        if call_id not in self.open:
            raise Refusal(
                f"{path}: unexpected `tool_use_id` found in `tool_result` blocks: {call_id}. Each `tool_result` block "
                "must have a corresponding `tool_use` block in the previous message."
            )
        if self.begun:
            raise Refusal(f"{path}: `tool_result` blocks must come first in the content of a message.")
        self.open.remove(str(call_id))
        content = block.get("content")
        if isinstance(content, list):
            texts = [one.get("text") or "" for one in content if one.get("type") == "text"]
            content = texts[-1] if texts else ""
        self.talk.result(str(call_id), content or "")

    def _on_said(self, block: dict[str, Any], path: str) -> None:
        if not isinstance(block.get("text"), str) or not block["text"].strip():
            raise Refusal("messages: text content blocks must contain non-whitespace text")
        self.talk.assistant(block["text"])

    def _on_call(self, block: dict[str, Any], path: str) -> None:
        call_id, name = block.get("id"), block.get("name")
        if not isinstance(call_id, str) or not isinstance(block.get("input"), dict):
            raise Refusal(f"{path}.tool_use.input: Input should be a valid dictionary")
        if not isinstance(name, str) or not _NAME.match(name):
            raise Refusal(f"{path}.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
        if call_id in self.round:
            raise Refusal(f"{path}: `tool_use` ids must be unique")
        problem = call_problem(call_id, "toolu_", self.seal, len(self.round)) if self.strict else None
        if problem is not None:
            raise Refusal(
                f"{path}.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`: the thinking block of "
                f"this turn is {problem}."
            )
        self.round.append(call_id)

    def _on_thinking(self, block: dict[str, Any], path: str) -> None:
        redacted = block["type"] == "redacted_thinking"
        key = "data" if redacted else "signature"
        seal, text = block.get(key), "" if redacted else block.get("thinking")
        if not isinstance(seal, str) or not isinstance(text, str):
            raise Refusal(f"{path}.{block['type']}.{key}: Field required")
        if self.strict and not seal_fits(seal, text, self.talk.prefix()):
            raise Refusal(f"{path}: Invalid `{key}` in `{block['type']}` block")
        self.seal = seal

    def _on_attachment(self, block: dict[str, Any], path: str) -> None:
        if not isinstance(block.get("source"), dict):
            raise Refusal(f"{path}.{block['type']}.source: Field required")
        self.begun = True


_SILENT: Final = {
    "user": frozenset(("search_result", "container_upload")),
    "assistant": frozenset(
        (
            "server_tool_use",
            "web_search_tool_result",
            "web_fetch_tool_result",
            "code_execution_tool_result",
            "bash_code_execution_tool_result",
            "text_editor_code_execution_tool_result",
            "mcp_tool_use",
            "mcp_tool_result",
            "tool_search_tool_result",
            "container_upload",
        )
    ),
}
_HANDLERS: Final[dict[tuple[str, Any], Callable[[_Messages, dict[str, Any], str], None]]] = {
    ("user", "text"): _Messages._on_text,
    ("user", "tool_result"): _Messages._on_result,
    ("user", "image"): _Messages._on_attachment,
    ("user", "document"): _Messages._on_attachment,
    ("assistant", "text"): _Messages._on_said,
    ("assistant", "tool_use"): _Messages._on_call,
    ("assistant", "thinking"): _Messages._on_thinking,
    ("assistant", "redacted_thinking"): _Messages._on_thinking,
}
