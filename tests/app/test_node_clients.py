"""The real Codex CLI, openai-node and the Vercel AI SDK, where they are installed; nothing is installed from here.

RELAY_NODE_MODULES=/path/to/node_modules with what ``clients/package.json`` names has all of them: ``.ci/run`` sets it
up. Codex may also be on PATH as ``codex``, or be RELAY_CODEX=/path/to/codex. Node 20 or newer.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from relay.providers.registry import PROVIDERS
from tests.app.support import Relay, relaying
from tests.support import run


def _node() -> str | None:
    found = shutil.which("node")
    said = subprocess.run([found, "--version"], capture_output=True, text=True).stdout if found else ""
    return found if said.startswith("v") and int(said[1:].split(".")[0]) >= 20 else None


MODULES = os.environ.get("RELAY_NODE_MODULES")
CODEX = (
    os.environ.get("RELAY_CODEX")
    or shutil.which("codex")
    or (shutil.which("codex", path=f"{MODULES}/.bin") if MODULES else None)
)
NODE = _node() if MODULES else None
LIMIT_S = 60.0

needs_codex = pytest.mark.skipif(not CODEX, reason="no Codex CLI: set RELAY_CODEX or put codex on PATH")
needs_openai = pytest.mark.skipif(
    not (NODE and MODULES and (Path(MODULES) / "openai").is_dir()),
    reason="no openai-node: node and RELAY_NODE_MODULES with openai in it are needed",
)
needs_ai = pytest.mark.skipif(
    not (NODE and MODULES and (Path(MODULES) / "@ai-sdk" / "openai").is_dir()),
    reason="no Vercel AI SDK: node and RELAY_NODE_MODULES with ai and @ai-sdk/openai in it are needed",
)

CONFIG = """
model = "demo"
model_provider = "relay"
approval_policy = "never"
sandbox_mode = "read-only"

[model_providers.relay]
name = "relay"
base_url = "{base_url}"
wire_api = "responses"
env_key = "RELAY_KEY"
supports_websockets = {websockets}
request_max_retries = 0
stream_max_retries = 1
"""


async def output_of(*command: str, folder: Path, **environment: str) -> bytes:
    """What a program says that ends well."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            said, complained = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, (said + complained).decode()
    return said


async def codex(
    relay: Relay, home: Path, work: Path, prompt: str, *, websockets: bool, more: str = ""
) -> list[dict[str, Any]]:
    """One run of ``codex exec``; its events."""
    config = CONFIG.format(base_url=relay.base_url, websockets=str(websockets).lower())
    (home / "config.toml").write_text(config.replace('env_key = "RELAY_KEY"\n', "") + more if more else config)
    command = [str(CODEX), "exec", "--skip-git-repo-check", "--json", prompt]
    said = await output_of(*command, folder=work, CODEX_HOME=str(home), RELAY_KEY="key", NO_PROXY="127.0.0.1")
    return [orjson.loads(line) for line in said.splitlines() if line.startswith(b"{")]


@needs_codex
@pytest.mark.parametrize("dialect", sorted(PROVIDERS))
@pytest.mark.parametrize("how", ["websocket", "http", "426"])
def test_codex_runs_a_tool_and_answers(how: str, dialect: str, tmp_path: Path) -> None:
    async def work() -> None:
        transports = []
        options: dict[str, Any] = {"server": {"websocket": False}} if how == "426" else {}
        home, folder = tmp_path / "home", tmp_path / "work"
        home.mkdir()
        folder.mkdir()
        async with relaying(dialect, on_record=lambda record: transports.append(record.transport), **options) as relay:
            events = await codex(relay, home, folder, "Say hello there.", websockets=how != "http")
        kinds = [event["item"]["type"] for event in events if event["type"] == "item.completed"]
        assert "agent_message" in kinds, events
        # Codex shows no item for some of its tools; the demo model says what came back to it
        said = str(events)
        assert "command_execution" in kinds or "tools answered 1 times" in said, events
        assert events[-1]["type"] == "turn.completed"
        assert events[-1]["usage"]["input_tokens"] > 0
        assert set(transports) == {"websocket" if how == "websocket" else "http"}
        assert len(transports) >= 2

    run(work(), LIMIT_S + 20)


@needs_codex
def test_codex_reads_the_list_of_models(tmp_path: Path) -> None:
    """It asks for its catalogue where a command gives it the key, and keeps what it could read."""

    async def work() -> None:
        home, folder = tmp_path / "home", tmp_path / "work"
        home.mkdir()
        folder.mkdir()
        more = '\n[model_providers.relay.auth]\ncommand = "echo"\nargs = ["key"]\n'
        async with relaying(settings={"models": {"fast": ("demo/demo",)}}) as relay:
            await codex(relay, home, folder, "Say hello there.", websockets=True, more=more)
        models = orjson.loads((home / "models_cache.json").read_bytes())["models"]
        assert [model["slug"] for model in models][:2] == ["fast", "demo/demo"]

    run(work(), LIMIT_S + 20)


@needs_ai
@pytest.mark.parametrize("dialect", sorted(PROVIDERS))
def test_the_vercel_ai_sdk(dialect: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with relaying(dialect) as relay:
            script = Path(__file__).with_name("vercel.mjs")
            said = await output_of(str(NODE), str(script), relay.base_url, str(MODULES), folder=tmp_path)
        found = orjson.loads(said.splitlines()[-1])
        assert found["calls"] == 1
        assert "18 degrees and sunny" in found["deltas"]
        assert found["finish"] == "stop"
        assert found["usage"] > 0
        assert (found["second"], found["replayed"]) == ("Again.", "Once more.")
        assert isinstance(found["object"]["population"], int)

    run(work(), LIMIT_S + 20)


@needs_openai
@pytest.mark.parametrize("dialect", sorted(PROVIDERS))
def test_openai_node(dialect: str, tmp_path: Path) -> None:
    """Its ``responses.cancel`` sends neither a body nor a content type."""

    async def work() -> None:
        async with relaying(dialect) as relay:
            script = Path(__file__).with_name("openai_node.mjs")
            said = await output_of(str(NODE), str(script), relay.base_url, str(MODULES), folder=tmp_path)
        found = orjson.loads(said.splitlines()[-1])
        assert (found["text"], found["read"], found["items"]) == ("Hello.", "Hello.", ["message"])
        assert found["cancelled"]["status"] == 400
        assert "cancel" in found["cancelled"]["message"].lower()
        assert found["last"] == "response.completed"

    run(work(), LIMIT_S + 20)
