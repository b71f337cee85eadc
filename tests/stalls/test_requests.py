"""What clients ask, whatever it is, holds the worker for no longer than decision 61 says, accepted or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.stalls.harness import DIALECTS, Input, Stage, check

VALUES, ITEMS = 500_000, 100_000

Make = Callable[[], dict[str, Any] | bytes]


def _call(number: int) -> list[dict[str, Any]]:
    identifier = f"call_{number}"
    return [
        {"type": "function_call", "call_id": identifier, "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": identifier, "output": "done"},
    ]


def _schema(members: int) -> dict[str, Any]:
    return {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(members)}}


def _tool(number: int, members: int = 50) -> dict[str, Any]:
    return {"type": "function", "name": f"tool_{number}", "description": "", "parameters": _schema(members)}


# accepted within the limits, up to 1 MiB: 50 ms
SMALL: dict[str, Make] = {
    "300,000 values that nobody reads": lambda: {"unread": [[] for _ in range(300_000)]},
    "empty items": lambda: {"input": ["" for _ in range(ITEMS)]},
    "messages": lambda: {"input": [{"role": "user", "content": ""} for _ in range(30_000)]},
    "parts of one message": lambda: {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": ""} for _ in range(25_000)]}]
    },
    "calls": lambda: {"input": [item for number in range(6_000) for item in _call(number)]},
    "calls without outputs": lambda: {"input": [_call(number)[0] for number in range(10_000)]},
    "outputs without calls": lambda: {"input": [*_call(0), *(_call(number)[1] for number in range(1, 10_000))]},
    "unknown items": lambda: {"input": ["hi", *({"type": f"x{number}"} for number in range(40_000))]},
    "references": lambda: {"input": [{"id": f"msg_{number}"} for number in range(30_000)]},
    "ids of items": lambda: {
        "input": [{"role": "user", "content": "", "id": f"msg_{number}", "type": "message"} for number in range(14_000)]
    },
    "ids of files": lambda: {
        "input": [
            {"role": "user", "content": [{"type": "input_file", "file_id": f"file_{at}"} for at in range(first, 100)]}
            for first in range(100)
            for _ in range(4)
        ]
    },
    "reasoning": lambda: {"input": ["hi", *({"type": "reasoning", "summary": []} for _ in range(20_000))]},
    "tools": lambda: {"tools": [_tool(number) for number in range(128)]},
    "tools in items": lambda: {
        "input": ["hi", *({"type": "additional_tools", "tools": [_tool(number)]} for number in range(200))]
    },
    "one schema": lambda: {"tools": [_tool(0, 9_000)]},
    "metadata": lambda: {"metadata": {f"k{number}": "v" for number in range(50_000)}},
    "messages of chat": lambda: {"input": None, "messages": [{"role": "user", "content": ""} for _ in range(20_000)]},
    "one string": lambda: {"input": "a, [b] {c}\n" * 90_000},
    "surrogates": lambda: b'{"model":"MODEL","store":false,"input":"' + b"\\ud800a" * 130_000 + b'"}',
    "nested": lambda: b'{"model":"MODEL","input":"hi","x":' + b"[" * 500_000 + b"]" * 500_000 + b"}",
    "no JSON": lambda: b'{"model":"MODEL","input":[' + b'"",' * 300_000 + b"}",
    "no end": lambda: b'{"model":"MODEL","input":"' + b"\\" * 900_000,
}

# at the limits, accepted or refused: 120 ms
LARGE: dict[str, Make] = {
    "items over the limit": lambda: {"input": ["" for _ in range(2_800_000)]},
    "values over the limit": lambda: {"unread": [[] for _ in range(9_000_000)]},
    "values at the limit": lambda: {"unread": [[] for _ in range(VALUES - 100)]},
    "messages at the limit": lambda: {"input": [{"role": "user", "content": "x" * 200} for _ in range(ITEMS)]},
    "parts over the limit": lambda: {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": ""} for _ in range(ITEMS + 1)]}]
    },
    "one string": lambda: {"input": "a, [b] {c}\n" * 2_800_000},
    "long texts": lambda: {"input": [{"role": "user", "content": "x" * 300_000} for _ in range(100)]},
    "surrogates": lambda: b'{"model":"MODEL","store":false,"input":"' + b"\\ud800a" * 4_000_000 + b'"}',
    "no JSON": lambda: b'{"model":"MODEL","input":["' + b"x" * 32_000_000 + b"}",
}


def _input(name: str, make: Make, dialect: str, transport: str) -> Input:
    def request() -> dict[str, Any] | bytes:
        made = make()
        if isinstance(made, bytes):
            body = made.replace(b"MODEL", f"{dialect}-m".encode())
            return body.replace(b"{", b'{"type":"response.create",', 1) if transport == "ws" else body
        return made

    return Input(name, request=request, dialect=dialect, transport=transport)


def _rows(table: dict[str, Make], dialects: tuple[str, ...], transports: tuple[str, ...]) -> list[Input]:
    return [_input(name, make, d, t) for name, make in table.items() for d in dialects for t in transports]


WALKED = ("empty items", "messages", "calls", "tools", "one schema", "outputs without calls", "unknown items")
"""What each dialect walks over in its own way."""

ROWS = [
    *_rows(SMALL, ("chat",), ("sse",)),
    *_rows({name: SMALL[name] for name in ("messages", "surrogates", "no JSON")}, ("chat",), ("ws",)),
    *_rows({name: SMALL[name] for name in WALKED}, tuple(d for d in DIALECTS if d != "chat"), ("json",)),
    *_rows({name: SMALL[name] for name in ("ids of items", "ids of files", "references")}, ("responses",), ("json",)),
    *_rows(LARGE, ("chat",), ("json",)),
    *_rows({name: LARGE[name] for name in ("messages at the limit", "no JSON")}, ("chat",), ("ws",)),
    *_rows({name: LARGE[name] for name in ("messages at the limit", "long texts")}, ("anthropic",), ("sse",)),
]


@pytest.mark.parametrize("one", ROWS, ids=str)
def test_others_are_served_meanwhile(stage: Stage, one: Input) -> None:
    check(stage, one)
