"""The configuration: what is read, what is derived, and every complaint, word for word (expectations by hand)."""

# ruff: noqa: E501  messages stand here as they are printed

from __future__ import annotations

import dataclasses
import pickle
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from relay.config import (
    ConfigError,
    Secret,
    ServerSettings,
    Settings,
    UpstreamSettings,
    is_loopback,
    load,
    markdown_table,
)
from relay.config.readers import READERS
from relay.config.table import TABLE, WORDS

LOCAL = '[upstreams.local]\ndialect = "chat"\nbase_url = "http://127.0.0.1:8001/v1"\n'
CANARY = "canary-5f1d2c"


def read(tmp_path: Path, text: str, environ: dict[str, str] | None = None, **more: Any) -> Settings:
    path = tmp_path / "relay.toml"
    path.write_text(text, encoding="utf-8")
    return load(str(path), environ={"HOME": "/home/me", **(environ or {})}, **more)


def refusal(tmp_path: Path, text: str, environ: dict[str, str] | None = None, **more: Any) -> str:
    """The complaint without the folder of the file, one line, and without the canary secret."""
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text, environ, **more)
    message = str(caught.value)
    assert "\n" not in message
    assert CANARY not in message
    return message.replace(f"{tmp_path}/", "")


# ------------------------------------------------------------------------------------------------ what is read


def test_every_key_of_the_design_is_read(tmp_path: Path) -> None:
    for name in ("cert.pem", "key.pem", "ca.pem"):
        (tmp_path / name).write_text("x")
    (tmp_path / "bob.key").write_text("sk-bob-long-key\n")
    settings = read(
        tmp_path,
        """
        [server]
        host = "0.0.0.0"
        port = 9000
        uds = "relay.sock"
        workers = 4
        http = "h11"
        auth = "keys"
        allowed_origins = ["https://Example.com", "http://localhost:3000"]
        allowed_hosts = ["relay.internal", "10.1.2.3", "::1"]
        trusted_proxies = ["10.0.0.0/8", "::1"]
        default_model = "fast"
        strict = true
        websocket = false
        ssl_certfile = "cert.pem"
        ssl_keyfile = "key.pem"
        drain_timeout_s = 5
        max_body_bytes = 2048
        max_connections = 7
        log_level = "debug"
        log_format = "json"
        [keys]
        alice = "env:ALICE"
        bob = "file:bob.key"
        [upstreams.one]
        dialect = "responses"
        base_url = "https://api.openai.com/v1/"
        api_key = "sk-literal"
        auth_header = "X-Key"
        headers = { "X-Title" = "relay" }
        models = ["gpt-5*"]
        quirks = "openai"
        state = "relay"
        forward = ["top_k"]
        extra_body = { provider = { order = ["a"] } }
        ca_file = "ca.pem"
        connect_timeout_s = 1.5
        first_byte_timeout_s = 2
        idle_timeout_s = 3
        max_connections = 4
        fetch_hosts = ["files.internal"]
        [models]
        fast = "one/gpt-5-mini"
        "old-*" = ["one/gpt-5-*", "one/gpt-5"]
        [capabilities."gpt-5*"]
        sampling = "none"
        [prompts.greet]
        version = 2
        text = "Say {{what}}."
        variables = { what = "hello" }
        [prompts.chat]
        messages = [{ role = "developer", content = "Be short." }]
        [store]
        kind = "sqlite"
        path = "relay.db"
        max_age_days = 0.5
        max_bytes = 1048576
        """,
        {"ALICE": "sk-alice-long"},
    )
    assert settings.server == ServerSettings(
        host="0.0.0.0",
        port=9000,
        uds=str(tmp_path / "relay.sock"),
        workers=4,
        http="h11",
        auth="keys",
        allowed_origins=("https://example.com", "http://localhost:3000"),
        allowed_hosts=("relay.internal", "10.1.2.3", "::1"),
        trusted_proxies=(ip_network("10.0.0.0/8"), ip_network("::1/128")),
        default_model="fast",
        strict=True,
        websocket=False,
        ssl_certfile=str(tmp_path / "cert.pem"),
        ssl_keyfile=str(tmp_path / "key.pem"),
        drain_timeout_s=5.0,
        max_body_bytes=2048,
        max_connections=7,
        log_level="debug",
        log_format="json",
    )
    assert settings.keys == {"alice": "sk-alice-long", "bob": "sk-bob-long-key"}
    assert settings.upstreams == (
        UpstreamSettings(
            name="one",
            dialect="responses",
            base_url="https://api.openai.com/v1",
            api_key="sk-literal",
            auth_header="x-key",
            headers=(("x-title", "relay"),),
            models=("gpt-5*",),
            quirks="openai",
            state="relay",
            forward=("top_k",),
            extra_body={"provider": {"order": ["a"]}},
            ca_file=str(tmp_path / "ca.pem"),
            connect_timeout_s=1.5,
            first_byte_timeout_s=2.0,
            idle_timeout_s=3.0,
            max_connections=4,
            fetch_hosts=("files.internal",),
        ),
    )
    assert list(settings.models.items()) == [
        ("fast", ("one/gpt-5-mini",)),
        ("old-*", ("one/gpt-5-*", "one/gpt-5")),
    ]
    assert settings.capabilities == {"gpt-5*": {"sampling": "none"}}
    greet = settings.prompts["greet"]
    assert (greet.id, greet.version, greet.text, greet.variables) == ("greet", "2", "Say {{what}}.", {"what": "hello"})
    chat = settings.prompts["chat"]
    assert (chat.version, chat.text) == ("1", None)
    assert chat.messages == ({"role": "developer", "content": "Be short."},)
    store = settings.store
    assert (store.kind, store.path, store.max_age_days, store.max_bytes) == (
        "sqlite",
        str(tmp_path / "relay.db"),
        0.5,
        1048576,
    )


def test_defaults_are_those_of_the_design(tmp_path: Path) -> None:
    settings = read(tmp_path, LOCAL)
    server = dataclasses.asdict(settings.server)
    assert server == {
        "host": "127.0.0.1",
        "port": 8000,
        "uds": None,
        "uds_mode": "0660",
        "workers": 1,
        "http": "auto",
        "auth": "passthrough",
        "allowed_origins": (),
        "allowed_hosts": (),
        "trusted_proxies": (),
        "default_model": None,
        "strict": False,
        "websocket": True,
        "ssl_certfile": None,
        "ssl_keyfile": None,
        "drain_timeout_s": 25,
        "drain_delay_s": 0,
        "max_values": 500_000,
        "max_items": 100_000,
        "hang_timeout_s": 20,
        "max_body_bytes": 33554432,
        "max_connections": 10000,
        "log_level": "info",
        "log_format": "text",
    }
    assert settings.server == ServerSettings()
    (local,) = settings.upstreams
    assert (local.connect_timeout_s, local.first_byte_timeout_s, local.idle_timeout_s) == (5, 600, 300)
    assert (local.max_connections, local.fetch_hosts, local.forward, local.extra_body) == (1000, (), (), {})
    assert (settings.store.kind, settings.store.max_age_days, settings.store.max_bytes) == ("sqlite", 30, 10737418240)
    assert settings.keys == settings.models == settings.capabilities == settings.prompts == {}


@pytest.mark.parametrize(
    ("platform", "environ", "path"),
    [
        ("linux", {"HOME": "/home/me"}, "/home/me/.local/share/relay/responses.sqlite"),
        ("linux", {"HOME": "/home/me", "XDG_DATA_HOME": "/data"}, "/data/relay/responses.sqlite"),
        ("darwin", {"HOME": "/Users/me"}, "/Users/me/Library/Application Support/relay/responses.sqlite"),
        ("win32", {"HOME": "/c/me", "LOCALAPPDATA": "/c/local"}, "/c/local/relay/responses.sqlite"),
    ],
)
def test_the_store_is_in_the_data_directory(
    monkeypatch: pytest.MonkeyPatch, platform: str, environ: dict[str, str], path: str
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    assert load(None, environ=environ).store.path == path


def test_a_store_in_memory_has_no_path(tmp_path: Path) -> None:
    assert read(tmp_path, LOCAL + '[store]\nkind = "memory"\n').store.path is None


@pytest.mark.parametrize(
    ("dialect", "base_url", "auth_header", "state", "models"),
    [
        ("responses", "https://api.openai.com/v1", "authorization", "upstream", ("gpt-*", "o?-*")),
        ("responses", "https://eu.api.openai.com/v1", "authorization", "upstream", ("gpt-*", "o?-*")),
        ("responses", "https://me.openai.azure.com/openai/v1", "authorization", "upstream", ("gpt-*", "o?-*")),
        ("responses", "https://api.openai.com.evil.example/v1", "authorization", "relay", ()),
        ("responses", "https://notapi.openai.com/v1", "authorization", "relay", ()),
        ("responses", "unix:/run/vllm.sock", "authorization", "relay", ()),
        ("chat", "https://api.openai.com/v1", "authorization", "relay", ("gpt-*", "o?-*")),
        ("chat", "http://127.0.0.1:8001/v1", "authorization", "relay", ()),
        ("anthropic", "https://api.anthropic.com", "x-api-key", "relay", ("claude-*",)),
        ("gemini", "https://generativelanguage.googleapis.com", "x-goog-api-key", "relay", ("gemini-*",)),
    ],
)
def test_what_dialect_and_address_tell(
    tmp_path: Path, dialect: str, base_url: str, auth_header: str, state: str, models: tuple[str, ...]
) -> None:
    (one,) = read(tmp_path, f'[upstreams.one]\ndialect = "{dialect}"\nbase_url = "{base_url}"\n').upstreams
    assert (one.auth_header, one.state, one.models) == (auth_header, state, models)
    direct = UpstreamSettings("one", dialect, base_url)
    assert (direct.auth_header, direct.state) == (auth_header, state)


def test_no_globs_where_the_file_says_so(tmp_path: Path) -> None:
    text = '[upstreams.one]\ndialect = "anthropic"\nbase_url = "https://api.anthropic.com"\nmodels = []\n'
    assert read(tmp_path, text).upstreams[0].models == ()


@pytest.mark.parametrize(
    "address",
    ["http://h", "https://h:1/a/b", "http://[::1]:8/v1", "unix:/run/vllm.sock", "unix:/run/vllm.sock:/api"],
)
def test_addresses(tmp_path: Path, address: str) -> None:
    (one,) = read(tmp_path, f'[upstreams.one]\ndialect = "chat"\nbase_url = "{address}"\n').upstreams
    assert one.base_url == address


# ------------------------------------------------------------------------------------------------ where upstreams come from


def test_keys_in_the_environment_define_upstreams() -> None:
    environ = {
        "OPENAI_API_KEY": "sk-a",
        "OPENROUTER_API_KEY": "sk-b",
        "ANTHROPIC_API_KEY": "sk-c",
        "GOOGLE_API_KEY": "sk-e",
    }
    found = [(u.name, u.dialect, u.base_url, u.api_key, u.state) for u in load(None, environ=environ).upstreams]
    assert found == [
        ("openai", "responses", "https://api.openai.com/v1", "sk-a", "upstream"),
        ("openrouter", "chat", "https://openrouter.ai/api/v1", "sk-b", "relay"),
        ("anthropic", "anthropic", "https://api.anthropic.com", "sk-c", "relay"),
        ("gemini", "gemini", "https://generativelanguage.googleapis.com", "sk-e", "relay"),
    ]


def test_gemini_key_before_google_key_and_an_empty_one_is_none() -> None:
    environ = {"GEMINI_API_KEY": "sk-d", "GOOGLE_API_KEY": "sk-e", "OPENAI_API_KEY": " "}
    assert [(u.name, u.api_key) for u in load(None, environ=environ).upstreams] == [("gemini", "sk-d")]


def test_file_and_flags_stand_before_the_environment(tmp_path: Path) -> None:
    environ = {"OPENAI_API_KEY": "sk-a"}
    assert [u.name for u in read(tmp_path, LOCAL, environ).upstreams] == ["local"]
    flagged = load(None, environ=environ, upstreams=["chat=http://127.0.0.1:8001/v1"])
    assert [u.name for u in flagged.upstreams] == ["chat"]
    assert [u.name for u in read(tmp_path, "[server]\nport = 1\n", environ).upstreams] == ["openai"]


def test_flags_add_to_the_file_and_replace_by_name(tmp_path: Path) -> None:
    flags = ["local:anthropic=https://api.anthropic.com", "chat=unix:/run/vllm.sock"]
    found = [(u.name, u.dialect, u.base_url, u.models) for u in read(tmp_path, LOCAL, upstreams=flags).upstreams]
    assert found == [
        ("local", "anthropic", "https://api.anthropic.com", ("claude-*",)),
        ("chat", "chat", "unix:/run/vllm.sock", ()),
    ]


def test_nothing_at_all_leaves_the_upstreams_empty() -> None:
    assert load(None, environ={}).upstreams == ()


def test_server_flags_win_over_the_file(tmp_path: Path) -> None:
    server = read(tmp_path, LOCAL + '[server]\nport = 1\nhttp = "h11"\n', server={"port": 2, "host": None}).server
    assert (server.port, server.http, server.host) == (2, "h11", "127.0.0.1")


# ------------------------------------------------------------------------------------------------ secrets


def test_secrets_are_in_no_repr(tmp_path: Path) -> None:
    text = f'[keys]\nme = "env:ME"\n[upstreams.one]\ndialect = "chat"\nbase_url = "http://h"\napi_key = "{CANARY}-2"\n'
    text += f'headers = {{ x-token = "{CANARY}-3" }}\nextra_body = {{ token = "{CANARY}-4" }}\n'
    settings = read(tmp_path, text, {"ME": f"{CANARY}-1"})
    assert CANARY not in repr(settings) + repr(settings.keys) + repr(settings.upstreams) + repr(settings.keys["me"])
    assert settings.secrets() == {f"{CANARY}-1", f"{CANARY}-2", f"{CANARY}-3"}
    assert settings.upstreams[0].api_key == f"{CANARY}-2"


def test_settings_survive_pickling_for_workers(tmp_path: Path) -> None:
    settings = read(tmp_path, LOCAL + '[keys]\nme = "env:ME"\n', {"ME": "sk-me-canary"})
    again = pickle.loads(pickle.dumps(settings))
    assert again == settings
    assert isinstance(again.keys["me"], Secret)


def test_a_key_of_an_upstream_comes_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-file\n")
    for written, key in (("env:K", "sk-env"), ("file:key", "sk-file"), ("sk-itself", "sk-itself")):
        assert read(tmp_path, LOCAL + f'api_key = "{written}"\n', {"K": "sk-env"}).upstreams[0].api_key == key


# ------------------------------------------------------------------------------------------------ complaints

COMPLAINTS = [
    # unknown names
    ("[sever]\n", 'relay.toml: [sever]: unknown section; did you mean "server"?'),
    ("[xyz]\n", "relay.toml: [xyz]: unknown section"),
    ("port = 1\n", "relay.toml: [port]: unknown section"),
    ("[server]\nprot = 1\n", 'relay.toml: [server] prot: unknown key; did you mean "port"?'),
    ("[server]\nPort = 1\n", 'relay.toml: [server] Port: unknown key; did you mean "port"?'),
    ("[server]\nzzz = 1\n", "relay.toml: [server] zzz: unknown key"),
    (LOCAL + 'key = "x"\n', 'relay.toml: [upstreams.local] key: unknown key; did you mean "api_key"?'),
    (LOCAL + 'apikey = "x"\n', 'relay.toml: [upstreams.local] apikey: unknown key; did you mean "api_key"?'),
    ('[prompts."a b"]\ntxt = "x"\n', 'relay.toml: [prompts."a b"] txt: unknown key; did you mean "text"?'),
    ("[store]\nsize = 1\n", "relay.toml: [store] size: unknown key"),
    # missing
    ('[upstreams.a]\ndialect = "chat"\n', "relay.toml: [upstreams.a] base_url: is missing"),
    ('[upstreams.a]\nbase_url = "http://h"\n', "relay.toml: [upstreams.a] dialect: is missing"),
    (
        "[server]\nport = 1\n",
        "relay.toml: no upstream: add [upstreams.NAME] with dialect and base_url, or use --upstream",
    ),
    # types
    ("server = 3\n", "relay.toml: [server]: expected a table, got 3"),
    ("[upstreams]\na = 1\n", "relay.toml: [upstreams.a]: expected a table, got 1"),
    ("[prompts]\na = []\n", "relay.toml: [prompts.a]: expected a table, got a list"),
    ('[capabilities]\n"gpt-*" = "x"\n', 'relay.toml: [capabilities."gpt-*"]: expected a table, got a string'),
    (
        '[server]\nport = "80"\n',
        "relay.toml: [server] port: expected a whole number from 0 to 65,535, got a string",
    ),
    ("[server]\nport = true\n", "relay.toml: [server] port: expected a whole number from 0 to 65,535, got true"),
    ("[server]\nport = 8.5\n", "relay.toml: [server] port: expected a whole number from 0 to 65,535, got 8.5"),
    ("[server]\nport = 65536\n", "relay.toml: [server] port: expected a whole number from 0 to 65,535, got 65536"),
    ("[server]\nport = -1\n", "relay.toml: [server] port: expected a whole number from 0 to 65,535, got -1"),
    (
        "[server]\nport = 1979-05-27\n",
        "relay.toml: [server] port: expected a whole number from 0 to 65,535, got 1979-05-27",
    ),
    ("[server]\nworkers = 0\n", "relay.toml: [server] workers: expected a whole number from 1 to 256, got 0"),
    (
        "[server]\ndrain_timeout_s = nan\n",
        "relay.toml: [server] drain_timeout_s: expected a number from 0 to 86,400, got nan",
    ),
    (
        LOCAL + "idle_timeout_s = 0\n",
        "relay.toml: [upstreams.local] idle_timeout_s: expected a number from 0.001 to 86,400, got 0",
    ),
    (
        LOCAL + "idle_timeout_s = inf\n",
        "relay.toml: [upstreams.local] idle_timeout_s: expected a number from 0.001 to 86,400, got inf",
    ),
    (
        LOCAL + "connect_timeout_s = false\n",
        "relay.toml: [upstreams.local] connect_timeout_s: expected a number from 0.001 to 86,400, got false",
    ),
    ("[server]\nstrict = 1\n", "relay.toml: [server] strict: expected true or false, got 1"),
    ('[server]\nhost = ""\n', "relay.toml: [server] host: expected a string that is not empty, got an empty string"),
    ("[server]\nuds = 1\n", "relay.toml: [server] uds: expected a path, got 1"),
    (
        '[server]\nhttp = "httptool"\n',
        'relay.toml: [server] http: expected one of "auto", "httptools", "h11", got "httptool"; did you mean "httptools"?',
    ),
    *[
        (
            f"[server]\nuds_mode = {mode}\n",
            f'relay.toml: [server] uds_mode: expected an octal mode in a string such as "0660", {got}',
        )
        for mode, got in (
            ("660", "got 660"),
            ('"rw"', "got a string"),
            ('"0o660"', "got a string"),
            ('"1777"', "got a string"),
        )
    ],
    ("[server]\nhttp = 11\n", 'relay.toml: [server] http: expected one of "auto", "httptools", "h11", got 11'),
    (
        '[upstreams.a]\ndialect = "claude"\nbase_url = "http://h"\n',
        'relay.toml: [upstreams.a] dialect: expected one of "chat", "responses", "anthropic", "gemini", got "claude"',
    ),
    (
        '[server]\nallowed_hosts = "a"\n',
        'relay.toml: [server] allowed_hosts: expected a list of host names or addresses without a port, such as "example.com", '
        "got a string",
    ),
    (
        '[server]\nallowed_hosts = ["a:80"]\n',
        'relay.toml: [server] allowed_hosts: expected a list of host names or addresses without a port, such as "example.com", '
        'got "a:80"',
    ),
    (
        '[server]\nallowed_origins = ["example.com"]\n',
        'relay.toml: [server] allowed_origins: expected a list of origins such as "https://example.com", got "example.com"',
    ),
    (
        '[server]\nallowed_origins = ["*"]\n',
        'relay.toml: [server] allowed_origins: "*" lets every web page spend the keys of your upstreams, since nobody else '
        'is asked for one: add [keys], or set auth = "passthrough" if every client brings the upstream\'s key',
    ),
    (
        '[server]\nallowed_origins = ["https://example.com", "Null"]\n',
        'relay.toml: [server] allowed_origins: "null" lets every file and sandboxed frame spend the keys of your upstreams, '
        'since nobody else is asked for one: add [keys], or set auth = "passthrough" if every client brings the '
        "upstream's key",
    ),
    (
        '[server]\nallowed_origins = ["https://*.example.com"]\n',
        'relay.toml: [server] allowed_origins: expected a list of origins such as "https://example.com", '
        'got "https://*.example.com"',
    ),
    (
        '[server]\nallowed_origins = ["https://example.com/"]\n',
        'relay.toml: [server] allowed_origins: expected a list of origins such as "https://example.com", '
        'got "https://example.com/"',
    ),
    (
        '[server]\ntrusted_proxies = ["proxy"]\n',
        'relay.toml: [server] trusted_proxies: expected a list of IP addresses or networks such as "10.0.0.0/8", got "proxy"',
    ),
    (
        '[server]\ntrusted_proxies = ["::1", "10.0.0.0/33"]\n',
        'relay.toml: [server] trusted_proxies: expected a list of IP addresses or networks such as "10.0.0.0/8", '
        'got "10.0.0.0/33"',
    ),
    (LOCAL + 'models = "gpt-*"\n', "relay.toml: [upstreams.local] models: expected a list of strings, got a string"),
    (LOCAL + "models = [1]\n", "relay.toml: [upstreams.local] models: expected a list of strings, got 1 at [0]"),
    (
        LOCAL + 'models = ["a", ""]\n',
        "relay.toml: [upstreams.local] models: expected a list of strings, got an empty string at [1]",
    ),
    (LOCAL + "extra_body = []\n", "relay.toml: [upstreams.local] extra_body: expected a table, got a list"),
    (
        '[prompts.a]\ntext = "x"\nvariables = { n = 1 }\n',
        'relay.toml: [prompts.a] variables: expected a table of strings, got 1 for "n"',
    ),
    ("[prompts.a]\nversion = true\n", "relay.toml: [prompts.a] version: expected a string or a whole number, got true"),
    # files
    ('[server]\nssl_certfile = "no.pem"\n', "relay.toml: [server] ssl_certfile: there is no file no.pem"),
    (LOCAL + 'ca_file = "no.pem"\n', "relay.toml: [upstreams.local] ca_file: there is no file no.pem"),
    # secrets
    (
        f'[keys]\nme = "{CANARY}"\n',
        'relay.toml: [keys] me: expected "env:VARIABLE" or "file:PATH", got the key itself',
    ),
    ("[keys]\nme = 1\n", 'relay.toml: [keys] me: expected "env:VARIABLE" or "file:PATH", got 1'),
    ('[keys]\nme = "env:NOPE"\n', "relay.toml: [keys] me: the environment variable NOPE is not set"),
    ('[keys]\n"a b" = "env:EMPTY"\n', 'relay.toml: [keys] "a b": the environment variable EMPTY is not set'),
    (
        '[keys]\nme = "env:SPACED"\n',
        "relay.toml: [keys] me: the environment variable SPACED holds a space, a line break or a "
        "character that cannot stand in a header",
    ),
    ('[keys]\nme = "file:none"\n', "relay.toml: [keys] me: none cannot be read: No such file or directory"),
    ('[keys]\nme = "file:empty"\n', "relay.toml: [keys] me: empty is empty"),
    (
        LOCAL + f'api_key = "{CANARY} x"\n',
        "relay.toml: [upstreams.local] api_key: the key holds a space, a line break or a character that cannot stand in a "
        "header",
    ),
    (
        LOCAL + 'api_key = "$KEY"\n',
        'relay.toml: [upstreams.local] api_key: variables are written "env:VARIABLE", without a dollar sign',
    ),
    (
        LOCAL + 'api_key = "env:NOPE"\n',
        "relay.toml: [upstreams.local] api_key: the environment variable NOPE is not set",
    ),
    (
        '[keys]\nme = "env:ELEVEN"\n' + LOCAL,
        "relay.toml: [keys] me: is shorter than 12 characters; whoever guesses it is this client",
    ),
    (
        '[keys]\nme = "env:ONE"\nyou = "env:ONE"\n' + LOCAL,
        'relay.toml: [keys] you: is the same key as "me"; an owner must be told by its key',
    ),
    # addresses and headers
    *(
        (
            f'[upstreams.a]\ndialect = "chat"\nbase_url = "{address}"\n',
            'relay.toml: [upstreams.a] base_url: expected "http://HOST[:PORT]/PATH", "https://…" or "unix:/PATH.sock", '
            "got a string",
        )
        for address in ("ftp://h", "h:80", "http://", "http://h:x", "http://h:99999", "http://h/a b", "unix:run.sock")
    ),
    (
        f'[upstreams.a]\ndialect = "chat"\nbase_url = "https://me:{CANARY}@h/v1"\n',
        "relay.toml: [upstreams.a] base_url: a user or key does not belong into an address; use api_key",
    ),
    (
        f'[upstreams.a]\ndialect = "gemini"\nbase_url = "https://h/v1?key={CANARY}"\n',
        "relay.toml: [upstreams.a] base_url: an address with a query or fragment is not supported (Azure: use …/openai/v1)",
    ),
    (
        LOCAL + 'auth_header = "my key"\n',
        "relay.toml: [upstreams.local] auth_header: expected the name of a header, got a string",
    ),
    (LOCAL + 'auth_header = "Host"\n', 'relay.toml: [upstreams.local] auth_header: the relay writes "host" itself'),
    (LOCAL + 'headers = { "a b" = "x" }\n', 'relay.toml: [upstreams.local] headers: "a b" is not the name of a header'),
    (
        LOCAL + "headers = { a = 1 }\n",
        'relay.toml: [upstreams.local] headers: expected a table of strings, got 1 for "a"',
    ),
    (
        LOCAL + f'headers = {{ a = "{CANARY}\\r\\nx: y" }}\n',
        'relay.toml: [upstreams.local] headers: the value of "a" holds a character that cannot stand in a header',
    ),
    (
        LOCAL + 'headers = { "Content-Length" = "1" }\n',
        'relay.toml: [upstreams.local] headers: the relay writes "content-length" itself',
    ),
    (
        LOCAL + f'headers = {{ Authorization = "Bearer {CANARY}" }}\n',
        'relay.toml: [upstreams.local] headers: "authorization" carries the key; use api_key',
    ),
    # upstreams
    (
        '[upstreams."a/b"]\ndialect = "chat"\nbase_url = "http://h"\n',
        'relay.toml: [upstreams."a/b"]: a name is made of letters, digits, dots, - and _',
    ),
    (
        LOCAL + 'state = "upstream"\n',
        'relay.toml: [upstreams.local] state: "upstream" needs dialect = "responses", and dialect is "chat"',
    ),
    (
        LOCAL + 'forward = ["top_k", "temperature"]\n',
        'relay.toml: [upstreams.local] forward: the relay maps "temperature" itself; it cannot be forwarded',
    ),
    (
        '[upstreams.a]\ndialect = "anthropic"\nbase_url = "http://h"\nforward = ["thinking"]\n',
        'relay.toml: [upstreams.a] forward: the relay writes "thinking" itself; it cannot be forwarded',
    ),
    # models
    ("[models]\na = 1\n", 'relay.toml: [models] a: expected "UPSTREAM/model" or a list of these, got 1'),
    ("[models]\na = []\n", 'relay.toml: [models] a: expected "UPSTREAM/model" or a list of these, got an empty list'),
    (
        LOCAL + '[models]\n"a*b*" = "local/*"\n',
        'relay.toml: [models] "a*b*": "*" in "local/*" needs exactly one "*" on both sides',
    ),
    (
        LOCAL + '[models]\n"a*" = "local/*-*"\n',
        'relay.toml: [models] "a*": "*" in "local/*-*" needs exactly one "*" on both sides',
    ),
    (
        LOCAL + '[models]\na = "local/*"\n',
        'relay.toml: [models] a: "*" in "local/*" needs exactly one "*" on both sides',
    ),
    (
        LOCAL + LOCAL.replace("local", "other") + '[models]\na = "locl/x"\n',
        'relay.toml: [models] a: "locl/x" names no upstream; did you mean "local"? (configured: local, other)',
    ),
    (
        LOCAL + LOCAL.replace("local", "other") + '[models]\na = ["local/x", "local"]\n',
        'relay.toml: [models] a: "local" names no upstream; did you mean "local"? (configured: local, other)',
    ),
    # prompts
    ('[prompts.a]\nversion = "1"\n', "relay.toml: [prompts.a]: needs either text or messages"),
    ('[prompts.a]\ntext = "x"\nmessages = []\n', "relay.toml: [prompts.a]: needs either text or messages"),
    (
        '[prompts.a]\nmessages = [{ role = "user" }]\n',
        "relay.toml: [prompts.a] messages: expected a list of tables, each with role and content, got something else at [0]",
    ),
    (
        '[prompts.a]\nmessages = "x"\n',
        "relay.toml: [prompts.a] messages: expected a list of tables, each with role and content, got a string",
    ),
    (
        '[prompts.a]\nmessages = [{ role = "tool", content = "x" }]\n',
        "relay.toml: [prompts.a] messages: [0].role must be one of system, developer, user, assistant",
    ),
    # across sections
    (
        LOCAL + '[server]\nworkers = 2\n[store]\nkind = "memory"\n',
        'relay.toml: [store] kind: "memory" serves one worker, and workers is 2',
    ),
    (LOCAL + '[server]\nssl_keyfile = "empty"\n', "relay.toml: [server] ssl_keyfile: needs ssl_certfile"),
    (LOCAL + '[server]\nauth = "keys"\n', 'relay.toml: [server] auth: "keys" needs at least one entry in [keys]'),
    (
        LOCAL + '[server]\nauth = "passthrough"\n[keys]\nme = "env:ONE"\n',
        'relay.toml: [server] auth: "passthrough" contradicts [keys]',
    ),
    (
        LOCAL + '[server]\nhost = "0.0.0.0"\n',
        "relay.toml: [server] host: 0.0.0.0 can be reached by other machines: add [keys], or set auth = "
        '"passthrough" if every client brings the upstream\'s key',
    ),
    # not TOML
    ("[server\n", "relay.toml: is not TOML: Expected ']' at the end of a table declaration (at line 1, column 8)"),
]


@pytest.mark.parametrize(("text", "message"), COMPLAINTS)
def test_complaints(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "empty").write_text("\n")
    environ = {"EMPTY": "", "ONE": CANARY, "SPACED": f"{CANARY} b", "ELEVEN": "elevenchars"}
    assert refusal(tmp_path, text, environ) == message


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file or directory$"):
        load(str(tmp_path / "none.toml"), environ={})
    (tmp_path / "latin.toml").write_bytes(b'[server]\nhost = "\xe9"\n')
    with pytest.raises(ConfigError, match=r"latin\.toml: is not UTF-8 text$"):
        load(str(tmp_path / "latin.toml"), environ={})


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("chat", "--upstream chat: expected [NAME:]DIALECT=URL, for example chat=http://127.0.0.1:8001/v1"),
        ("=http://h", "--upstream : expected [NAME:]DIALECT=URL, for example chat=http://127.0.0.1:8001/v1"),
        (
            "a/b:chat=http://h",
            "--upstream a/b:chat: expected [NAME:]DIALECT=URL, for example chat=http://127.0.0.1:8001/v1",
        ),
        (":chat=http://h", "--upstream :chat: expected [NAME:]DIALECT=URL, for example chat=http://127.0.0.1:8001/v1"),
        (
            "chta=http://h",
            '--upstream chta: unknown dialect "chta"; did you mean "chat"? (known: chat, responses, anthropic, gemini)',
        ),
        (
            "chat=127.0.0.1",
            '--upstream chat: expected "http://HOST[:PORT]/PATH", "https://…" or "unix:/PATH.sock", got a string',
        ),
        (
            "chat=",
            '--upstream chat: expected "http://HOST[:PORT]/PATH", "https://…" or "unix:/PATH.sock", got an empty string',
        ),
    ],
)
def test_complaints_about_flags(flag: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, environ={}, upstreams=[flag])
    assert str(caught.value) == message


def test_complaints_name_the_flag_or_the_environment() -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, environ={}, server={"port": 70000})
    assert str(caught.value) == "--port: expected a whole number from 0 to 65,535, got 70000"
    with pytest.raises(ConfigError) as caught:
        load(None, environ={}, server={"ssl_certfile": "/no.pem"})
    assert str(caught.value) == "--ssl-certfile: there is no file /no.pem"
    with pytest.raises(ConfigError) as caught:
        load(None, environ={"OPENAI_API_KEY": f"{CANARY} x"})
    assert str(caught.value) == (
        "environment: the environment variable OPENAI_API_KEY holds a space, a line break or a character that cannot "
        "stand in a header"
    )
    with pytest.raises(ConfigError) as caught:
        load(None, environ={}, server={"host": "::"})
    assert str(caught.value).startswith("no configuration file: [server] host: :: can be reached by other machines")


def test_names_that_the_providers_know(tmp_path: Path) -> None:
    assert refusal(tmp_path, LOCAL + 'quirks = "vlm"\n', quirks={"vllm", "ollama"}) == (
        'relay.toml: [upstreams.local] quirks: unknown "vlm"; did you mean "vllm"? (known: ollama, vllm)'
    )
    assert read(tmp_path, LOCAL + 'quirks = "vllm"\n', quirks={"vllm"}).upstreams[0].quirks == "vllm"
    assert refusal(tmp_path, '[capabilities."g*"]\nsampl = 1\n', capability_rows={"sampling"}) == (
        'relay.toml: [capabilities."g*"] sampl: unknown row; did you mean "sampling"?'
    )


@pytest.mark.parametrize(
    "server",
    [
        'host = "localhost"',
        'host = "127.9.9.9"',
        'host = "::1"',
        'host = "0.0.0.0"\nuds = "/run/relay.sock"',
        'host = "0.0.0.0"\nauth = "passthrough"',
    ],
)
def test_without_keys_only_this_machine_is_served_unless_meant(tmp_path: Path, server: str) -> None:
    assert read(tmp_path, LOCAL + f"[server]\n{server}\n").server.auth == "passthrough"


@pytest.mark.parametrize(("host", "answer"), [("LOCALHOST.", True), ("[::1]", True), ("10.0.0.1", False), ("x", False)])
def test_loopback(host: str, answer: bool) -> None:
    assert is_loopback(host) is answer


# ------------------------------------------------------------------------------------------------ the table itself


def test_every_type_of_the_table_has_words_and_a_reader() -> None:
    used = {row.type for row in TABLE}
    assert used == set(READERS) == set(WORDS)


def test_the_tables_keys_are_the_dataclasses_fields() -> None:
    for section, kind, extra in (
        ("server", ServerSettings, set()),
        ("upstreams.NAME", UpstreamSettings, {"name"}),
    ):
        rows = {row.key for row in TABLE if row.section == section}
        assert rows == {one.name for one in dataclasses.fields(kind)} - extra


def test_the_readme_table_has_one_line_a_row() -> None:
    lines = markdown_table().splitlines()
    assert len(lines) == len(TABLE) + 2
    assert {line.count(" | ") for line in lines[2:]} == {4}
    assert lines[3] == (
        "|  | `port` | a whole number from 0 to 65,535 | `8000` | Port to listen on; 0 takes a free one. |"
    )
    assert "`33554432` (32 MiB)" in markdown_table()
    assert "`10737418240` (10 GiB)" in markdown_table()


@pytest.mark.parametrize(
    ("server", "upstream", "shared"),
    [
        ("", "", True),  # one person's relay
        ('auth = "passthrough"', "", False),
        ('auth = "passthrough"', "shared_ids = true", True),
        ("", "shared_ids = false", False),
        ("[keys]\nme = 'env:ME'", "", False),
        ("[keys]\nme = 'env:ME'", "shared_ids = true", True),
        ("auth = 'keys'\n[keys]\nme = 'env:ME'", "", False),
    ],
)
def test_ids_that_nobody_made_here_pass_where_all_clients_are_one_person(
    tmp_path: Path, server: str, upstream: str, shared: bool
) -> None:
    text = f'[server]\n{server}\n{LOCAL}allow_ids = ["vs_1", "file-*"]\n{upstream}\n'
    settings = read(tmp_path, text, {"ME": "sk-me-long-key"})
    (one,) = settings.upstreams
    assert settings.shares_ids(one) is shared
    assert one.allow_ids == ("vs_1", "file-*")
