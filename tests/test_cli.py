"""The command line as an operator meets it: real processes, their words, and their exit codes."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from relay import __version__
from relay.cli import main
from relay.cli.serving import greeting
from relay.config import DIALECTS, ServerSettings, Settings, UpstreamSettings
from relay.providers.registry import PROVIDERS

RELAY = [sys.executable, "-W", "error", "-m", "relay"]
CANARY = "sk-canary-93b1"
DATA = tempfile.TemporaryDirectory(prefix="relay-test-")
atexit.register(DATA.cleanup)
needs_all_dialects = pytest.mark.skipif(set(DIALECTS) != set(PROVIDERS), reason="not every dialect has its provider")
DEMO = UpstreamSettings("demo", "chat", "http://127.0.0.1:1/v1")


def environment(**more: str) -> dict[str, str]:
    """Ours without keys and data of whoever runs the tests."""
    more.setdefault("XDG_DATA_HOME", DATA.name)
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    return kept | more


def said(*arguments: str, **more: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command that ends by itself."""
    done = subprocess.run(
        [*RELAY, *arguments], env=environment(**more), capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


@contextlib.contextmanager
def running(*arguments: str, until: str, **more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A command that serves: the process, and what it printed up to the line that matches ``until``."""
    process = subprocess.Popen(
        [*RELAY, *arguments],
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    printed = ""
    try:
        for line in process.stdout:
            printed += line
            if re.search(until, line):
                break
        else:
            raise AssertionError(f"ended with {process.wait()}: {printed}")
        yield process, printed
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            printed += process.stdout.read()
            assert process.wait(30) == 0, printed
        assert "Traceback" not in printed
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def demo_url() -> Iterator[str]:
    with running("demo", "--port", "0", until="listens on") as (_, printed):
        found = re.search(r"http://127\.0\.0\.1:\d+", printed)
        assert found
        yield found[0]


# ------------------------------------------------------------------------------------------------ words


def test_version() -> None:
    assert said("--version") == (0, f"relay {__version__}\n", "")


def test_version_does_not_wait_for_the_heavy_modules() -> None:
    code = "import sys, relay.cli; print(sorted({'orjson', 'asyncio', 'httptools', 'uvloop'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_help_has_examples_that_parse(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "relay serve --upstream chat=http://127.0.0.1:8001/v1" in text
    for flag in ("config", "host", "port", "uds", "workers", "upstream", "http", "ssl-certfile", "ssl-keyfile"):
        with pytest.raises(SystemExit):
            main(["serve", "--help"])
        assert f"--{flag} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "relay: error: the following arguments are required: COMMAND (see relay --help)\n"),
        (
            ["serve", "--port", "x"],
            "relay: error: argument --port: invalid int value: 'x' (see relay serve --help)\n",
        ),
        (["serve", "--prot", "1"], "relay: error: unrecognized arguments: --prot 1 (see relay --help)\n"),
    ],
)
def test_what_cannot_be_parsed(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err == message


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_configuration_error_is_one_line(command: str, tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_text('[upstreams.a]\ndialect = "chat"\nbase_ulr = "http://h"\n')
    code, out, err = said(command, "--config", str(path))
    assert (code, out) == (1, "")
    assert err == f'relay: error: {path}: [upstreams.a] base_ulr: unknown key; did you mean "base_url"?\n'


def test_flags_are_checked_like_the_file() -> None:
    assert said("serve", "--port", "70000") == (
        1,
        "",
        "relay: error: --port: expected a whole number from 0 to 65,535, got 70000\n",
    )
    assert said("serve", "--upstream", "chta=http://h")[2].startswith("relay: error: --upstream chta: unknown dialect")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('quirks = "vlm"\n', '[upstreams.a] quirks: unknown "vlm"; did you mean "vllm"? (known: '),
        (
            '[capabilities."x*"]\nsamplng = "none"\n',
            '[capabilities."x*"] samplng: unknown row; did you mean "sampling"?',
        ),
    ],
)
def test_names_of_the_capability_tables_are_checked(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_text('[upstreams.a]\ndialect = "chat"\nbase_url = "http://h"\n' + text)
    code, _, err = said("check", "--config", str(path))
    assert code == 1
    assert err.startswith(f"relay: error: {path}: {message}")


def test_the_default_model_must_lead_somewhere(tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    one = '[upstreams.{}]\ndialect = "chat"\nbase_url = "http://h"\n'
    path.write_text('[server]\ndefault_model = "nobody"\n' + one.format("a") + one.format("b"))
    code, _, err = said("check", "--config", str(path))
    assert code == 1
    assert err == (
        f"relay: error: {path}: [server] default_model: The model 'nobody' does not exist here. Configured: a/…, b/….\n"
    )


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, out, err = said("demo", "--port", port)
    assert (code, out) == (1, "")
    assert re.fullmatch(
        rf"relay: error: cannot listen on http://127\.0\.0\.1:{port}: .*[Aa]ddress already in use.*\n", err
    )


# ------------------------------------------------------------------------------------------------ the greeting


def command_of(text: str) -> list[str]:
    """The curl command that a greeting shows, as a shell would split it."""
    found = re.search(r"^ *(curl .*?'\n)", text, re.MULTILINE | re.DOTALL)
    assert found, text
    return shlex.split(found[1].replace("\\\n", " "))


def test_the_greeting_is_short_and_its_command_whole() -> None:
    text = greeting(Settings(upstreams=(DEMO,)), 8000, demo=True)
    assert len(text.splitlines()) <= 9
    assert max(map(len, text.splitlines())) <= 120
    assert "demo model" in text
    *head, body = command_of(text)
    assert head == ["curl", "-N", "http://127.0.0.1:8000/v1/responses", "-H", "content-type: application/json", "-d"]
    assert orjson.loads(body) == {"model": "demo", "input": "Say this again, word by word.", "stream": True}


@pytest.mark.parametrize(
    ("server", "curl"),
    [
        (ServerSettings(uds="/run/r.sock"), "curl -N --unix-socket /run/r.sock http://localhost/v1/responses"),
        (ServerSettings(host="::1"), "curl -N http://[::1]:9/v1/responses"),
        (ServerSettings(ssl_certfile="/c"), "curl -N -k https://127.0.0.1:9/v1/responses"),
    ],
)
def test_the_command_fits_the_address(server: ServerSettings, curl: str) -> None:
    assert curl in greeting(Settings(server=server, upstreams=(DEMO,)), 9, demo=True)


# ------------------------------------------------------------------------------------------------ relay check


def test_check_prints_a_line_an_upstream_and_fails_if_one_does(demo_url: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead = f"http://127.0.0.1:{listener.getsockname()[1]}"
    path = tmp_path / "relay.toml"
    path.write_text(
        f'[upstreams.local]\ndialect = "chat"\nbase_url = "{demo_url}/v1"\napi_key = "env:KEY"\n'
        f'[upstreams.other]\ndialect = "chat"\nbase_url = "{demo_url}/v1"\n'
        f'[upstreams.dead]\ndialect = "chat"\nbase_url = "{dead}/v1"\napi_key = "{CANARY}-2"\n'
        f'[upstreams.aws]\ndialect = "chat"\nbase_url = "https://bedrock-runtime.us-east-1.amazonaws.com"\n'
    )
    code, out, err = said("check", "--config", str(path), KEY=f"{CANARY}-1")
    lines = [re.sub(" +", " ", line) for line in out.splitlines()]
    assert lines[:3] == [
        f"ok local chat {demo_url}/v1 10 models",
        f"ok other chat {demo_url}/v1 10 models",
        f"FAILED dead chat {dead}/v1 The upstream could not be reached: it refused the connection.",
    ]
    assert lines[3].startswith("FAILED aws chat https://bedrock-runtime.us-east-1.amazonaws.com This address needs")
    assert "not supported" in lines[3]
    assert (code, err) == (1, "relay: error: 2 of 4 upstreams failed\n")
    assert CANARY not in out + err


@needs_all_dialects
def test_check_of_flags_alone(demo_url: str) -> None:
    code, out, err = said("check", "--upstream", f"gemini={demo_url}", "--upstream", f"mine:responses={demo_url}/v1")
    assert (code, err) == (0, "")
    assert [line.split()[:4] for line in out.splitlines()] == [
        ["ok", "gemini", "gemini", demo_url],
        ["ok", "mine", "responses", f"{demo_url}/v1"],
    ]


def test_check_without_anything_says_so() -> None:
    code, out, _ = said("check")
    assert code == 0
    assert "demo" in out


# ------------------------------------------------------------------------------------------------ relay demo and serve


def post(url: str, body: object, **headers: str) -> bytes:
    sent = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
    request = urllib.request.Request(url, orjson.dumps(body), sent)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


def test_the_demo_alone(demo_url: str) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}
    answer = orjson.loads(post(f"{demo_url}/v1/chat/completions", body))
    assert answer["choices"][0]["message"]["content"]


def test_a_newcomer_copies_the_command() -> None:
    """No configuration and no key: the printed command, run as printed, streams an answer of the demo model."""
    with running("serve", "--port", "0", until="Ctrl-C") as (process, printed):
        command = command_of(printed)
        if shutil.which("curl"):
            done = subprocess.run(command, capture_output=True, timeout=60, check=True)
            stream = done.stdout
        else:
            stream = post(command[2], orjson.loads(command[-1]))
        events = [line for line in stream.decode().splitlines() if line.startswith("event: ")]
        assert events[0] == "event: response.created"
        assert events[-1] == "event: response.completed"
        assert "event: response.output_text.delta" in events
        children = demo_children(process.pid)
        assert len(children) == 1
    assert not alive(children[0])


@pytest.mark.parametrize("signal_number", [signal.SIGKILL])
def test_the_demo_ends_with_a_relay_that_is_killed(signal_number: int) -> None:
    with running("serve", "--port", "0", until="Ctrl-C") as (process, _):
        (child,) = demo_children(process.pid)
        process.send_signal(signal_number)
        process.wait()
        for _ in range(1_000):
            if not alive(child):
                break
            subprocess.run(["sleep", "0.01"], check=True)
        assert not alive(child)


def demo_children(parent: int) -> list[int]:
    """The processes of the demo that ``parent`` started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent and b"demo" in (status.parent / "cmdline").read_bytes():
                found.append(int(status.parent.name))
    return found


def alive(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_with_workers_one_demo_serves_them_all() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    with running("serve", "--port", port, "--workers", "2", until="Ctrl-C") as (process, printed):
        url = command_of(printed)[2]
        for _ in range(8):
            answer = orjson.loads(post(url, {"model": "demo", "input": "Hi"}))
            assert answer["status"] == "completed"
        assert len(demo_children(process.pid)) == 1


def test_serve_as_configured(demo_url: str, tmp_path: Path) -> None:
    """Keys, an alias and JSON logs; no secret on the terminal."""
    path = tmp_path / "relay.toml"
    path.write_text(
        '[server]\nport = 0\nlog_format = "json"\n[keys]\nme = "env:ME"\n[models]\nfast = "local/demo"\n[store]\n'
        f'path = "relay.sqlite"\n[upstreams.local]\ndialect = "chat"\nbase_url = "{demo_url}/v1"\napi_key = "env:KEY"\n'
    )
    with running(
        "serve", "--config", str(path), "--log-level", "debug", until="listens on", ME=f"{CANARY}-1", KEY=f"{CANARY}-2"
    ) as (process, printed):
        url = re.search(r"http://127\.0\.0\.1:\d+", printed)
        assert url
        assert "Upstreams: local (chat)." in printed
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(f"{url[0]}/v1/responses", {"model": "fast", "input": "Hi"})
        assert refused.value.code == 401
        refused.value.close()
        answer = orjson.loads(
            post(f"{url[0]}/v1/responses", {"model": "fast", "input": "Hi"}, authorization=f"Bearer {CANARY}-1")
        )
        assert (answer["status"], answer["model"]) == ("completed", "fast")
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        printed += process.stdout.read()
        assert process.wait(30) == 0
        assert CANARY not in printed


def test_serve_on_a_unix_socket(demo_url: str, tmp_path: Path) -> None:
    path = tmp_path / "relay.sock"
    with running("serve", "--uds", str(path), "--upstream", f"chat={demo_url}/v1", until="listens on"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            answer = client.recv(1000)
        assert answer.startswith(b"HTTP/1.1 200 ")
    assert not path.exists()


def test_serve_on_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, out, err = said("serve", "--port", port)
    assert (code, out) == (1, "")
    assert re.fullmatch(
        rf"relay: error: cannot listen on http://127\.0\.0\.1:{port}: .*[Aa]ddress already in use.*\n", err
    ), err


def test_too_few_descriptors_are_one_warning_with_both_numbers(demo_url: str) -> None:
    """A hard limit of 2,000: 1,000 are the upstream's, 64 the rest."""
    command = ["sh", "-c", 'ulimit -n 2000 && exec "$@"', "sh", *RELAY]
    arguments = ["serve", "--port", "0", "--workers", "2", "--upstream", f"chat={demo_url}/v1"]
    process = subprocess.Popen(
        [*command, *arguments], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    try:
        printed = ""
        while "listens on" not in printed:
            printed += process.stdout.readline() or pytest.fail(printed)
    finally:
        process.terminate()
        printed += process.stdout.read()
        process.stdout.close()
        process.wait(30)
    assert printed.count("max_connections is lowered from 10000 to 936") == 1
    assert "may open 2000 files" in printed
