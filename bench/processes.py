"""Everything that a run needs, as child processes on free ports that end with us, however we end."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import orjson

from bench.proc import family

ROOT: Final = Path(__file__).parent.parent
MOST_CONNECTIONS: Final = 30_000
_ASIDE_CONNECTIONS: Final = 100
_START_S: Final = 20.0
_LITELLM_START_S: Final = 90.0
_STOP_S: Final = 5.0
_PR_SET_PDEATHSIG: Final = 1
_LITELLM_ENVIRONMENT: Final = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # the one it brings: it asks the network for a newer one at each start
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # nobody else here asks for a key
}

UPSTREAMS: Final = {"chat": "/v1", "responses": "/v1", "anthropic": "", "gemini": ""}
"""Dialect -> path of its base URL at the demo."""

_NGINX: Final = """\
daemon off;
master_process off;
worker_processes 1;
error_log stderr error;
pid {folder}/nginx.pid;
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000;
  client_max_body_size 0;
  client_body_buffer_size 4m;
  upstream demo {{ server 127.0.0.1:{demo}; keepalive 1024; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://demo;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 3600s;
    }}
  }}
}}
"""
_LITELLM: Final = """\
model_list:
  - model_name: "*"
    litellm_params: {{model: "openai/*", api_base: "http://127.0.0.1:{demo}/v1", api_key: "none"}}
"""


def _end_with_parent() -> None:
    # between fork and exec: the kernel ends this child when the thread that made it ends
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """A process of ours; its words go to ``log``."""

    def __init__(self, name: str, command: Sequence[str], log: Path, **options: Any) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as out:
            options = {"stdout": out, "stdin": subprocess.DEVNULL, **options}
            self.process = subprocess.Popen(
                command, stderr=out, cwd=ROOT, preexec_fn=_end_with_parent, start_new_session=True, **options
            )

    @property
    def pids(self) -> list[int]:
        """The process and its children."""
        return family(self.process.pid)

    def wait_for(self, words: bytes, limit_s: float = _START_S) -> bytes:
        """The line of the log that holds ``words``. Raises: RuntimeError where it ends before, or is too slow."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline and self.process.poll() is None:
            for line in self.log.read_bytes().splitlines():
                if words in line:
                    return line
            time.sleep(0.01)
        raise RuntimeError(f"{self.name} did not start: {self.tail()}")

    def wait_for_port(self, port: int, limit_s: float = _START_S) -> None:
        """Until ``port`` takes connections. Raises: RuntimeError."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline and self.process.poll() is None:
            with socket.socket() as sock:
                if not sock.connect_ex(("127.0.0.1", port)):
                    return
            time.sleep(0.01)
        raise RuntimeError(f"{self.name} did not start: {self.tail()}")

    def tail(self) -> str:
        """The last of what it said."""
        return self.log.read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """End it, by force if need be."""
        with self.process:  # which closes its pipes, and waits
            if self.process.poll() is None:
                self.process.terminate()
                try:
                    self.process.wait(_STOP_S)
                except subprocess.TimeoutExpired:
                    self.process.kill()


def litellm_command() -> str | None:
    """What ``LITELLM`` names (its dependencies are better off in an environment of their own), or what is found."""
    if named := os.environ.get("LITELLM"):
        return shutil.which(named)
    return shutil.which("litellm") or shutil.which("litellm", path=os.path.dirname(sys.executable))


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def _port_in(line: bytes) -> int:
    return int(line.split(b"http://127.0.0.1:")[1].split(b".")[0].split(b"/")[0])


def configuration(folder: Path, ports: dict[str, int], dialects: Sequence[str]) -> Path:
    """The relay's configuration: an upstream a dialect, named like it, and ``aside``, a chat upstream of its own."""
    # as many as the descriptors allow: the relay would lower what is more, and say so
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(MOST_CONNECTIONS, (descriptors - 2 * _ASIDE_CONNECTIONS) // (len(dialects) + 1))
    lines = [
        "[server]",
        'log_level = "warning"',
        f"max_connections = {most}",
        "drain_timeout_s = 0.5",
        "[store]",
        f'path = "{folder / "relay.sqlite"}"',
    ]
    rows = [(dialect, dialect, "demo") for dialect in dialects]
    for name, dialect, demo in [*rows, ("aside", "chat", "aside")]:
        lines += [
            f"[upstreams.{name}]",
            f'dialect = "{dialect}"',
            f'base_url = "http://127.0.0.1:{ports[demo]}{UPSTREAMS[dialect]}"',
            'api_key = "bench-upstream-key"',
            f"max_connections = {_ASIDE_CONNECTIONS if name == 'aside' else most}",
            "connect_timeout_s = 60",  # as nginx's: a machine that is full is not what is measured
        ]
    path = folder / "relay.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


class Stack:
    """Demo (twice: ``aside`` answers what is not measured), relay, nginx, LiteLLM and the generator, all fresh.

    ``ports`` and ``pids`` are by name; what cannot be started is missing there, and named in ``absent``.
    """

    def __init__(self, dialects: Sequence[str], servers: Collection[str] = ("nginx", "litellm")) -> None:
        self.ports: dict[str, int] = {}
        self.absent: dict[str, str] = {}
        self._dialects = dialects
        self._servers = servers
        self._children: dict[str, Child] = {}
        self._exit = ExitStack()

    def __enter__(self) -> Stack:
        try:
            self.folder = Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="relay-bench-")))
            for name in ("demo", "aside"):
                self._demo(name)
            self.configuration = configuration(self.folder, self.ports, self._dialects)
            relay = self._child("relay", [*RELAY, "serve", "--config", str(self.configuration), "--port", "0"])
            self.ports["relay"] = _port_in(relay.wait_for(b"listens on"))
            for name, start in (("nginx", self._nginx), ("litellm", self._litellm)):
                if name in self._servers:
                    start()
            self._generator = self._child(
                "generator",
                [sys.executable, "-m", "bench.generator"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    @property
    def pids(self) -> dict[str, list[int]]:
        """What to watch, by name."""
        return {name: child.pids for name, child in self._children.items() if name != "generator"}

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Have the generator do a job; ``failed`` in the result says why it did not."""
        pipe = self._generator.process
        assert pipe.stdin is not None
        assert pipe.stdout is not None
        pipe.stdin.write(orjson.dumps(job) + b"\n")
        pipe.stdin.flush()
        line = pipe.stdout.readline()
        if not line:
            raise RuntimeError(f"the load generator ended: {self._generator.tail()}")
        result: dict[str, Any] = orjson.loads(line)
        return result

    def complaints(self) -> str:
        """What the relay had to say: nothing, if all is well."""
        lines = self._children["relay"].tail().splitlines()
        return "\n".join(line for line in lines if "listens on" not in line)

    def _child(self, name: str, command: Sequence[str], **options: Any) -> Child:
        child = self._children[name] = Child(name, command, self.folder / f"{name}.log", **options)
        self._exit.callback(child.stop)
        return child

    def _demo(self, name: str) -> None:
        demo = self._child(name, [*RELAY, "demo", "--port", "0", "--log-level", "warning"])
        self.ports[name] = _port_in(demo.wait_for(b"listens on"))

    def _nginx(self) -> None:
        command = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin:/usr/local/sbin")
        if command is None:
            self.absent["nginx"] = "nginx is not installed: no ratios"
            return
        port = free_port()
        text = _NGINX.format(folder=self.folder, connections=MOST_CONNECTIONS, demo=self.ports["demo"], port=port)
        path = self.folder / "nginx.conf"
        path.write_text(text)
        nginx = self._child("nginx", [command, "-p", str(self.folder), "-e", "stderr", "-c", str(path)])
        nginx.wait_for_port(port)
        self.ports["nginx"] = port

    def _litellm(self) -> None:
        command = litellm_command()
        if command is None:
            self.absent["litellm"] = "LiteLLM was not found (LITELLM can name it): no new rows of it"
            return
        port = free_port()
        path = self.folder / "litellm.yaml"
        path.write_text(_LITELLM.format(demo=self.ports["demo"]))
        litellm = self._child(
            "litellm",
            [command, "--config", str(path), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"],
            env={**os.environ, **_LITELLM_ENVIRONMENT},
        )
        try:
            litellm.wait_for_port(port, _LITELLM_START_S)
        except RuntimeError as error:  # only a comparison: the others' rows do not depend on it
            del self._children["litellm"]
            self.absent["litellm"] = f"no new rows of LiteLLM: {error}"
            return
        self.ports["litellm"] = port


RELAY: Final = (sys.executable, "-m", "relay")
