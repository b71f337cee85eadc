"""The README says what the code does: its generated parts, its commands, its Python."""

from __future__ import annotations

import re
import tomllib

import pytest

from relay.app import create_app
from relay.config import load
from relay.state import open_store
from tests.app.support import relaying
from tests.readme import README, written
from tests.support import run

TEXT = README.read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_generated_parts_are_up_to_date() -> None:
    assert written(TEXT) == TEXT, "run: python -m tests.readme"


def test_the_two_commands_are_what_ci_runs() -> None:
    ci = (README.parent / ".ci" / "run").read_text()
    command = re.search(r"command='(.*)'", ci)
    assert command is not None
    assert command[1] in TEXT


def test_its_toml_is_toml_and_its_configuration_loads(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    codex, sidecar = blocks("toml")
    assert tomllib.loads(codex)["model_providers"]["relay"]["wire_api"] == "responses"
    path = f"{tmp_path}/relay.toml"
    with open(path, "w") as file:
        file.write(sidecar)
    settings = load(path, environ={"RELAY_KEY": "secret-of-the-team"})
    assert settings.server.host == "0.0.0.0"
    assert settings.upstreams[0].quirks == "vllm"
    create_app(settings, store=open_store("memory", None))


def test_its_python_runs() -> None:
    (code,) = blocks("python")

    async def execute() -> str:
        import asyncio
        import contextlib
        import io

        out = io.StringIO()
        async with relaying() as relay:
            here = code.replace("http://127.0.0.1:8000/v1", relay.base_url)

            def sync() -> None:
                with contextlib.redirect_stdout(out):
                    scope: dict[str, object] = {}
                    exec(compile(here, "README", "exec"), scope)  # the README's own code
                    scope["client"].close()  # type: ignore[attr-defined]

            await asyncio.to_thread(sync)
        return out.getvalue()

    assert run(execute()) == "Say hello.\nSay hello."


def test_every_file_it_names_exists() -> None:
    for name in re.findall(r"`((?:relay|tests|bench)/[\w./]+\.(?:py|md))`", TEXT):
        if "NAME" not in name:
            assert (README.parent / name).exists(), name
