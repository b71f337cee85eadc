"""The import table of design.md §1 holds for every file of relay/."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "relay").rglob("*.py"))
IMPURE = {"asyncio", "socket", "time", "random", "uuid", "logging", "secrets", "ssl", "threading", "selectors"}
PURE = {"wire", "responses", "providers", "shares"}
RUNTIME = {"uvloop", "httptools", "orjson", "h11", "wsproto"}
ALL_BUT_ENDS = {"errors", "ids", "shares", "places", "config", "wire", "responses", "providers", "upstream", "state"}
# layer → what of ours it may import besides itself; "" is relay/__init__.py, which says the version
MAY_IMPORT: dict[str, set[str]] = {
    "": set(),
    "errors": set(),
    "ids": set(),
    "shares": set(),
    "places": {"shares"},
    "config": {"errors"},
    "wire": {"errors"},
    "responses": {"wire", "errors"},
    "providers": {"responses", "wire.sse", "errors"},
    "upstream": {"wire", "errors", "ids", "shares", "places", "config"},
    "state": {"responses", "errors", "ids", "config"},
    "app": ALL_BUT_ENDS,
    "server": {"wire", "errors", "config"},
    "demo": {"wire", "errors"},
    "cli": {"app", "server", "config", "demo", "errors", "ids"},
    "__main__": {"cli"},
}
SHARED_BY_PROVIDERS = {
    "base",
    "turns",
    "endings",
    "usage",
    "levels",
    "failures",
    "media",
    "conditions",
    "delays",
    "schema",
    "splice",
    "capabilities",
}  # a provider imports these, never a sibling


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, dotted and absolute; `from a import b` counts as `a.b`."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            base = ".".join((*above, *([node.module] if node.module else [])))
            yield from (f"{base}.{name.name}" for name in node.names)


def faults(path: Path, modules: Iterator[str] | list[str]) -> list[str]:
    place = path.relative_to(ROOT / "relay").with_suffix("").parts
    layer = place[0] if place != ("__init__",) else ""
    found = []
    for module in modules:
        top, _, rest = module.partition(".")
        target = rest.partition(".")[0]
        if top != "relay":
            if layer in PURE and top in IMPURE:
                found.append(f"{path.name}: a pure layer imports {top}")
        elif target == "__version__" or not target:
            continue
        elif target == layer:
            dialect = place[-1].partition("_")[0]  # chat_stream.py is a part of chat.py
            sibling = layer == "providers" and place[-1] not in {"__init__", "registry"}
            name = rest.split(".")[1] if "." in rest else ""
            shared = name in SHARED_BY_PROVIDERS or name.partition("_")[0] == dialect
            if sibling and not shared and (ROOT / "relay" / "providers" / f"{name}.py").exists():
                found.append(f"{path.name}: a provider imports its sibling {name}")
        elif not any(rest == one or rest.startswith(one + ".") for one in MAY_IMPORT[layer]):
            found.append(f"{path.name}: {layer or 'relay'} imports {module}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_stay_in_their_layer(path: Path) -> None:
    assert faults(path, imports(path)) == []


@pytest.mark.parametrize(
    ("place", "module"),
    [
        ("wire/sse.py", "asyncio"),
        ("responses/emitter.py", "relay.ids.new_id"),
        ("providers/chat.py", "relay.wire.http1.check"),
        ("providers/chat.py", "relay.upstream.Client"),
        ("providers/chat_stream.py", "relay.providers.registry.PROVIDERS"),
        ("server/http.py", "relay.app.application"),
        ("upstream/pool.py", "relay.providers.chat"),
        ("state/store.py", "relay.providers.base"),
        ("errors.py", "relay.ids.now"),
    ],
)
def test_a_breach_is_seen(place: str, module: str) -> None:
    assert faults(ROOT / "relay" / place, [module])


def test_only_app_joins_providers_and_upstream() -> None:
    both = [layer for layer, allowed in MAY_IMPORT.items() if {"providers", "upstream"} <= allowed]
    assert both == ["app"]


def test_runtime_dependencies_are_the_five() -> None:
    import sys

    foreign = {module.partition(".")[0] for path in FILES for module in imports(path)} - sys.stdlib_module_names
    assert foreign - {"relay"} <= RUNTIME
