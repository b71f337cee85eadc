"""An MCP server over stdio whose tools have schemas that upstreams refuse; each call's arguments go to a file.

python mcp_server.py LOG — JSON-RPC 2.0, a message a line (modelcontextprotocol.io, "Transports").
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TOOLS: list[dict[str, Any]] = [
    {
        "name": "root_union",
        "description": "Finds a route or a file.",
        "inputSchema": {
            "type": "object",
            "properties": {"route": {"type": "string"}, "file": {"type": "string"}},
            "anyOf": [{"required": ["route"]}, {"required": ["file"]}],
        },
    },
    {
        "name": "odd-names.v1",
        "description": "Sets what it is given.",
        "inputSchema": {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "properties": {
                "$filter": {"type": "string"},
                "größe in cm": {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
                "k" * 70: {"type": "boolean"},
            },
            "required": ["$filter", "nowhere"],
        },
    },
    {
        "name": "pairs",
        "description": "Takes pairs.",
        "inputSchema": {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "properties": {
                "pair": {"type": "array", "items": [{"type": "string"}, {"type": "number"}], "additionalItems": False},
            },
        },
    },
    {
        "name": "gaps",
        "description": "Leaves things open.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "list": {"type": "array"},
                "mode": {"type": "string", "enum": ["", "fast"]},
                "none": {"type": "null"},
                "open": True,
            },
        },
    },
    {"name": "nothing", "description": "Takes nothing.", "inputSchema": {"type": "object"}},
]


def answer(method: str, params: dict[str, Any], log: Path) -> dict[str, Any]:
    """The result of one request."""
    if method == "initialize":
        return {
            "protocolVersion": params.get("protocolVersion", "2025-06-18"),
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "awkward", "version": "1"},
        }
    if method == "tools/list":
        return {"tools": TOOLS}
    if method == "tools/call":
        with log.open("a") as file:
            file.write(json.dumps([params["name"], params.get("arguments")]) + "\n")
        return {"content": [{"type": "text", "text": f"{params['name']} is done"}]}
    return {}


def main() -> None:
    log = Path(sys.argv[1])
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message and "method" in message:
            result = answer(message["method"], message.get("params") or {}, log)
            print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)


if __name__ == "__main__":
    main()
