"""The real Codex CLI, 0.171 or newer: awkward MCP tools, several agents, another model, and a stream that is silent.

``codex`` on PATH, or RELAY_CODEX=/path/to/codex (npm i @openai/codex); where it is missing these tests are skipped, and
``.ci/run`` installs it. Each run must end with exit code 0, without a retry (openai/codex, ``codex exec --json``).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from relay.config import ServerSettings, UpstreamSettings
from relay.demo.schema import example
from relay.demo.script import Turn
from tests.app.directed import Director, Do, Hush, Say, directed
from tests.app.support import PATHS, Relay, relaying
from tests.app.test_node_clients import CODEX, LIMIT_S, needs_codex, output_of
from tests.support import run

pytestmark = needs_codex

DIALECTS = pytest.mark.parametrize("dialect", ["chat", "anthropic"])
SERVER = Path(__file__).with_name("mcp_server.py")
CONFIG = """
model = "demo"
model_provider = "relay"
approval_policy = "never"
sandbox_mode = "danger-full-access"

[model_providers.relay]
name = "relay"
base_url = "{base_url}"
wire_api = "responses"
env_key = "RELAY_KEY"
supports_websockets = {websockets}
request_max_retries = 0
stream_max_retries = 0
stream_idle_timeout_ms = {idle_ms}
{more}
"""


class Codex:
    """A Codex with a home of its own. ``events`` are those of the last run."""

    def __init__(
        self, relay: Relay, folder: Path, more: str = "", *, websockets: bool = True, idle_ms: int = 30_000
    ) -> None:
        self._home, self._work = folder / "home", folder / "work"
        self._home.mkdir()
        self._work.mkdir()
        text = CONFIG.format(base_url=relay.base_url, websockets=str(websockets).lower(), idle_ms=idle_ms, more=more)
        (self._home / "config.toml").write_text(text)
        self.events: list[dict[str, Any]] = []

    async def run(self, *arguments: str) -> str:
        """One ``codex exec``, which must end well; what it said at last."""
        command = [str(CODEX), "exec", *arguments[:-1], "--skip-git-repo-check", "--json", arguments[-1]]
        said = await output_of(
            *command, folder=self._work, CODEX_HOME=str(self._home), RELAY_KEY="key", NO_PROXY="127.0.0.1"
        )
        self.events = [orjson.loads(line) for line in said.splitlines() if line.startswith(b"{")]
        assert self.events[-1]["type"] == "turn.completed", self.events
        complaints = [item["message"] for item in self.items("error")]
        assert all(
            words.startswith(("Model metadata for", "This session was recorded with model")) for words in complaints
        ), complaints
        return str(self.items("agent_message")[-1]["text"])

    def items(self, kind: str) -> list[dict[str, Any]]:
        return [
            event["item"]
            for event in self.events
            if event["type"] == "item.completed" and event["item"]["type"] == kind
        ]

    @property
    def thread(self) -> str:
        return str(self.events[0]["thread_id"])


def staged(
    dialect: str,
    play: Callable[[Turn], Sequence[Say | Do | Hush]],
    scene: Callable[[Relay, Director], Any],
    **services: Any,
) -> None:
    """Play a scene in front of a directed upstream."""

    async def work() -> None:
        async with directed(dialect, play, **services) as (relay, director):
            await scene(relay, director)

    run(work(), LIMIT_S + 20)


# --- tools of an MCP server


@DIALECTS
@pytest.mark.parametrize("websockets", [True, False])
def test_tools_whose_schemas_are_awkward(dialect: str, websockets: bool, tmp_path: Path) -> None:
    log = tmp_path / "log"
    more = f'[mcp_servers.awkward]\ncommand = "{sys.executable}"\nargs = ["{SERVER}", "{log}"]\n'

    def play(turn: Turn) -> list[Say | Do | Hush]:
        if turn.talk.results:
            return [Say("All is done: " + "; ".join(turn.talk.results))]
        return [Do(tool.name, example(tool.schema)) for tool in turn.tools if "awkward" in tool.name]

    async def scene(relay: Relay, director: Director) -> None:
        codex = Codex(relay, tmp_path, more, websockets=websockets)
        said = await codex.run("Use the tools.")
        assert director.refused == []
        called = dict(orjson.loads(line) for line in log.read_bytes().splitlines())
        assert set(called) >= {"root_union", "odd-names.v1", "gaps", "nothing"}, said  # Codex itself leaves "pairs" out
        assert set(called["odd-names.v1"]) >= {"$filter"}
        assert set(called["odd-names.v1"]) <= {"$filter", "größe in cm", "k" * 70, "nowhere"}
        assert called["root_union"].keys() & {"route", "file"} or called["root_union"] == {}
        calls = codex.items("mcp_tool_call")
        assert {call["status"] for call in calls} == {"completed"}, calls
        assert all(f"{name} is done" in said for name in called)

    staged(dialect, play, scene)


# --- several agents


@DIALECTS
def test_two_agents(dialect: str, tmp_path: Path) -> None:
    """``multi_agent``: ids of agents come back as outputs, and a notice when one is done."""

    def play(turn: Turn) -> list[Say | Do | Hush]:
        names = {tool.name.rpartition("__")[2]: tool.name for tool in turn.tools}
        if turn.talk.text == "Count the words.":
            return [Say("There are three.")]
        found = re.search(r'"agent_id"\s*:\s*"([^"]+)"', " ".join(turn.talk.results))
        if found is not None:
            return [Do(names["wait_agent"], {"targets": [found[1]], "timeout_ms": 30_000})]
        if turn.talk.results or turn.talk.text != "Ask another.":
            return [Say("It said: " + " ".join([*turn.talk.results, turn.talk.text]))]
        return [Do(names["spawn_agent"], {"message": "Count the words."})]

    async def scene(relay: Relay, director: Director) -> None:
        codex = Codex(relay, tmp_path)
        said = await codex.run("Ask another.")
        assert "There are three." in said
        assert any(turn.talk.text == "Count the words." for turn in director.turns)

    staged(dialect, play, scene)


@DIALECTS
def test_two_agents_that_write_to_each_other(dialect: str, tmp_path: Path) -> None:
    """``multi_agent_v2``: what agents tell each other comes as ``agent_message`` items."""

    def play(turn: Turn) -> list[Say | Do | Hush]:
        names = {tool.name.rpartition("__")[2]: tool.name for tool in turn.tools}
        heard = orjson.dumps(turn.body["messages"]).decode()
        if "Count the words." in turn.talk.text:
            return [Say("There are three.")]
        if "There are three." in heard:
            return [Say("It said: There are three.")]
        if turn.talk.results:
            return [Do(names["wait_agent"], {"timeout_ms": 30_000})]
        return [Do(names["spawn_agent"], {"message": "Count the words.", "task_name": "count"})]

    async def scene(relay: Relay, director: Director) -> None:
        codex = Codex(relay, tmp_path, "[features]\nmulti_agent_v2 = true\n")
        assert await codex.run("Ask another.") == "It said: There are three."

    staged(dialect, play, scene)


# --- another model


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("chat/demo-think", "anthropic/demo-think-strict"),
        ("anthropic/demo-think-strict", "chat/demo-think"),
        ("anthropic/demo-think-strict", "anthropic/demo-redacted"),
        ("chat/demo-details", "chat/demo-vllm-think"),
    ],
)
def test_a_session_goes_on_under_another_model(first: str, second: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with relaying("chat") as front:
            upstreams = tuple(
                UpstreamSettings(name, name, f"http://127.0.0.1:{front.demo_port}{PATHS[name]}", api_key="canary")
                for name in ("chat", "anthropic")
            )
            async with relaying(settings={"upstreams": upstreams, "server": ServerSettings(port=0)}) as relay:
                codex = Codex(relay, tmp_path)
                await codex.run("-m", first, "Say hello there.")
                assert codex.items("command_execution")
                thread = codex.thread
                await codex.run("resume", thread, "-m", second, "And again.")
                assert codex.thread == thread
            last = list(front.demo.requests)[-1]
            assert b"Say hello there." in last.body
            assert b"And again." in last.body

    run(work(), 2 * LIMIT_S + 20)


# --- silence


@DIALECTS
@pytest.mark.parametrize("websockets", [True, False])
def test_a_stream_that_is_silent_for_longer_than_codex_waits(
    dialect: str, websockets: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decision 59, ten times as fast: silence of 4.5 s, a limit of 2.5 s, and a sign of life every 1.5 s."""
    monkeypatch.setattr("relay.app.turn.HEARTBEAT_S", 1.5)
    monkeypatch.setattr("relay.app.services.PULSE_S", 0.1)

    def play(turn: Turn) -> list[Say | Do | Hush]:
        return [Hush(4.5), Say("Here I am again.")]

    async def scene(relay: Relay, director: Director) -> None:
        codex = Codex(relay, tmp_path, websockets=websockets, idle_ms=2500)
        assert await codex.run("Think about it.") == "Here I am again."
        assert len(director.turns) == 1

    staged(dialect, play, scene)
