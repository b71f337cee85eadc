"""The Response object: one template for every body and every lifecycle event.

Source: responses-api.md §2.3 (fields, which may be null), translation.md §1.1 note (b) (echoes are what was asked for).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relay.responses.tools import JSON

if TYPE_CHECKING:
    from relay.responses.request import Request


def template(request: Request, identifier: str, created_at: int) -> JSON:
    """The Response of a request that has just begun: status ``in_progress``, ``output`` empty."""
    params = request.params
    response: JSON = {
        "id": identifier,
        "object": "response",
        "created_at": created_at,
        "completed_at": None,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": params.get("instructions"),
        "max_output_tokens": params.get("max_output_tokens"),
        "max_tool_calls": params.get("max_tool_calls"),
        "model": request.model,
        "output": [],
        "parallel_tool_calls": params.get("parallel_tool_calls", True),
        "presence_penalty": params.get("presence_penalty", 0),
        "frequency_penalty": params.get("frequency_penalty", 0),
        "previous_response_id": request.previous_response_id,
        "prompt_cache_key": params.get("prompt_cache_key"),
        "prompt_cache_retention": params.get("prompt_cache_retention"),
        "reasoning": _reasoning(params.get("reasoning")),
        "safety_identifier": params.get("safety_identifier"),
        "service_tier": params.get("service_tier", "auto"),
        "store": request.store,
        "temperature": params.get("temperature", 1),
        "text": _text(params.get("text")),
        "tool_choice": params.get("tool_choice", "auto"),
        "tools": [_tool(tool) for tool in params.get("tools", [])],
        "top_logprobs": params.get("top_logprobs", 0),
        "top_p": params.get("top_p", 1),
        "truncation": params.get("truncation", "disabled"),
        "usage": None,
        "user": params.get("user"),
        "metadata": params.get("metadata", {}),
    }
    for name in ("prompt", "prompt_cache_options"):
        if name in params:
            response[name] = params[name]
    return response


def echoes(request: Request) -> JSON:
    """The fields of a native upstream's Response that say what this client sent, not what the relay sent."""
    ours = template(request, "", 0)
    names = ("model", "store", "metadata", "user", "safety_identifier", "prompt_cache_key", "instructions", "tools")
    return {name: ours[name] for name in names}


def _reasoning(reasoning: Any) -> JSON:
    given = reasoning if isinstance(reasoning, dict) else {}
    summary = given.get("summary", given.get("generate_summary"))
    return {**given, "effort": given.get("effort"), "summary": summary}


def _text(text: Any) -> JSON:
    given = text if isinstance(text, dict) else {}
    result = {**given, "format": given.get("format") or {"type": "text"}}
    if result.get("verbosity") is None:
        result["verbosity"] = "medium"
    return result


def _tool(tool: Any) -> Any:
    """A function's echo has all its keys (responses-api.md §2.5: the key must exist, null is fine)."""
    if not isinstance(tool, dict) or tool.get("type") not in ("function", "namespace"):
        return tool
    if tool["type"] == "namespace":
        inner_tools = tool.get("tools")
        return {
            "description": "",
            **tool,
            "tools": [_tool(one) for one in inner_tools] if isinstance(inner_tools, list) else inner_tools,
        }
    return {"description": None, "parameters": None, "strict": None, **tool}
