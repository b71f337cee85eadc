"""The rows of the configuration, their words, and the README's table made of them."""

from __future__ import annotations

from typing import Any, Final, NamedTuple


class Setting(NamedTuple):
    """One row: where it stands, how it is read (a row of ``READERS``), its default, one sentence, its bounds."""

    section: str
    key: str
    type: str
    default: Any
    doc: str
    limits: tuple[Any, ...] = ()  # lowest and highest number, or the choices
    shown: str = ""  # what the README shows as default, where it is derived


REQUIRED: Final = "required"  # as a default: there is none
DIALECTS: Final = ("chat", "responses", "anthropic", "gemini")

TABLE: Final[tuple[Setting, ...]] = (
    Setting("server", "host", "text", "127.0.0.1", "Address to listen on; beyond loopback `[keys]` are needed."),
    Setting("server", "port", "integer", 8000, "Port to listen on; 0 takes a free one.", (0, 65_535)),
    Setting("server", "uds", "path", None, "Listen on this Unix socket instead of host and port."),
    Setting(
        "server",
        "uds_mode",
        "mode",
        "0660",
        "Who may connect to that socket, as chmod has it: its owner and group. Set before it can be reached.",
    ),
    Setting("server", "workers", "integer", 1, "Processes that serve.", (1, 256)),
    Setting("server", "http", "choice", "auto", "HTTP parser; auto takes httptools.", ("auto", "httptools", "h11")),
    Setting(
        "server",
        "auth",
        "choice",
        "",
        "`keys`: a client needs one of `[keys]`. `passthrough`: its bearer belongs to the upstream; beyond loopback "
        "this must be said.",
        ("keys", "passthrough"),
        "`keys` where there are `[keys]`, else `passthrough`",
    ),
    Setting(
        "server",
        "allowed_origins",
        "origins",
        (),
        'Web pages that may call the relay; any other Origin gets 403. `"*"` (every page) and `"null"` (files, '
        'sandboxed frames) only with `[keys]` or `auth = "passthrough"`.',
    ),
    Setting("server", "allowed_hosts", "hosts", (), "Host names accepted without `[keys]`, besides loopback's."),
    Setting(
        "server",
        "trusted_proxies",
        "networks",
        (),
        "Peers whose `X-Forwarded-For` and `X-Forwarded-Proto` give the client and scheme of a request's ASGI scope; "
        "never that of a Unix socket, which has no address.",
    ),
    Setting("server", "default_model", "text", None, "Model of a request that names none."),
    Setting("server", "strict", "boolean", False, "Refuse what would be a warning."),
    Setting("server", "websocket", "boolean", True, "Serve WebSocket connections."),
    Setting("server", "ssl_certfile", "file", None, "TLS certificate chain, PEM."),
    Setting("server", "ssl_keyfile", "file", None, "TLS key, PEM."),
    Setting("server", "drain_timeout_s", "number", 25.0, "Time for running responses when stopping.", (0, 86_400)),
    Setting(
        "server",
        "drain_delay_s",
        "number",
        0.0,
        "On SIGTERM, time in which `/readyz` is 503 already and connections are still accepted; not on SIGINT.",
        (0, 3_600),
    ),
    Setting(
        "server",
        "hang_timeout_s",
        "number",
        20.0,
        "A worker whose loop did not turn for so long is killed and started again; 0: never. Needs `workers` over 1.",
        (0, 3_600),
    ),
    Setting("server", "max_body_bytes", "integer", 32 << 20, "Largest request body or message.", (1 << 10, 1 << 30)),
    Setting(
        "server",
        "max_values",
        "integer",
        500_000,
        "Most JSON values of a request: every string, number, object, … counts.",
        (1_000, 10_000_000),
    ),
    Setting(
        "server",
        "max_items",
        "integer",
        100_000,
        "Most items of an input, and most parts of one of its items.",
        (100, 10_000_000),
    ),
    Setting(
        "server",
        "max_connections",
        "integer",
        10_000,
        "Client connections of one worker; lowered, with a warning, where the system grants too few descriptors.",
        (1, 1_000_000),
    ),
    Setting("server", "log_level", "choice", "info", "Least level logged.", ("debug", "info", "warning", "error")),
    Setting("server", "log_format", "choice", "text", "Form of the log.", ("text", "json")),
    Setting("keys", "NAME", "key", REQUIRED, "A client's key; its NAME owns what is stored. Any one: all need one."),
    Setting("upstreams.NAME", "dialect", "choice", REQUIRED, "What the inference server speaks.", DIALECTS),
    Setting(
        "upstreams.NAME",
        "base_url",
        "address",
        REQUIRED,
        "Where it is: chat and responses append `/chat/completions` and `/responses`, anthropic `/v1/messages`, "
        "gemini `/v1beta/models/…`. After `unix:PATH` a second colon starts the path (default `/v1`).",
    ),
    Setting("upstreams.NAME", "api_key", "secret", None, "Its key; without one it gets the client's, if no `[keys]`."),
    Setting(
        "upstreams.NAME",
        "auth_header",
        "header",
        "",
        "Header of the key; `authorization` says `Bearer` before it.",
        shown="`authorization`; anthropic `x-api-key`; gemini `x-goog-api-key`",
    ),
    Setting("upstreams.NAME", "headers", "headers", (), "Headers added to every request.", shown="`{}`"),
    Setting(
        "upstreams.NAME",
        "models",
        "texts",
        None,
        "Globs of the models that go here.",
        shown="OpenAI `gpt-*`, `o?-*`; anthropic `claude-*`; gemini `gemini-*`",
    ),
    Setting("upstreams.NAME", "quirks", "text", None, "Row of the dialect table, where base_url does not tell it."),
    Setting(
        "upstreams.NAME",
        "state",
        "choice",
        "",
        "Who keeps responses; `upstream` only for responses.",
        ("upstream", "relay"),
        "OpenAI and Azure with responses `upstream`, else `relay`",
    ),
    Setting(
        "upstreams.NAME",
        "shared_ids",
        "boolean",
        None,
        "Where several clients share its account: let ids pass that the relay has not seen made (files, containers, "
        "vector stores, prompts, responses). Those of another client never pass.",
        shown='`false` with `[keys]` or `auth = "passthrough"`, else `true`',
    ),
    Setting("upstreams.NAME", "allow_ids", "texts", (), "Ids of the operator's objects that pass, or globs of them."),
    Setting("upstreams.NAME", "forward", "names", (), "Parameters of its own that pass as sent."),
    Setting("upstreams.NAME", "extra_body", "table", {}, "Members added to every request body."),
    Setting("upstreams.NAME", "ca_file", "file", None, "Certificates to trust instead of the system's, PEM."),
    Setting("upstreams.NAME", "connect_timeout_s", "number", 5.0, "Time to connect.", (0.001, 86_400)),
    Setting("upstreams.NAME", "first_byte_timeout_s", "number", 600.0, "Time to the first byte.", (0.001, 86_400)),
    Setting("upstreams.NAME", "idle_timeout_s", "number", 300.0, "Longest silence between bytes.", (0.001, 86_400)),
    Setting(
        "upstreams.NAME",
        "dead_peer_timeout_s",
        "number",
        30.0,
        "Time after which a host that acknowledges nothing is taken for gone, however long an answer may take; on "
        "other systems than Linux only where nothing is being sent. 0: never.",
        (0, 86_400),
    ),
    Setting("upstreams.NAME", "max_connections", "integer", 1_000, "Connections of one worker.", (1, 1_000_000)),
    Setting("upstreams.NAME", "fetch_hosts", "hosts", (), "Private hosts that media may be fetched from."),
    Setting("models", "PATTERN", "targets", REQUIRED, "Alias or glob = `UPSTREAM/model`, or a list; `*` is kept."),
    Setting('capabilities."GLOB"', "ROW", "any", REQUIRED, "Overrides a row of the capability table for these models."),
    Setting("prompts.ID", "version", "version", "1", "Version that `prompt.version` asks for."),
    Setting("prompts.ID", "text", "text", None, "Instructions, with `{{name}}` for variables; or:"),
    Setting("prompts.ID", "messages", "messages", (), "Messages, each with role and content."),
    Setting("prompts.ID", "variables", "strings", {}, "Defaults of variables."),
    Setting("store", "kind", "choice", "sqlite", "Engine; memory serves one worker only.", ("sqlite", "memory")),
    Setting("store", "path", "path", None, "Database file.", shown="the user's data directory"),
    Setting("store", "max_age_days", "number", 30.0, "Responses older than this are forgotten.", (0.001, 36_500)),
    Setting("store", "max_bytes", "integer", 10 << 30, "Bound of the store; the oldest go first.", (1 << 20, 1 << 50)),
)

ROWS: Final[dict[str, dict[str, Setting]]] = {}
for _row in TABLE:
    ROWS.setdefault(_row.section, {})[_row.key] = _row

# What an operator reads as "expected …"; the braces are filled from the row's limits.
WORDS: Final[dict[str, str]] = {
    "integer": "a whole number from {0:,} to {1:,}",
    "number": "a number from {0:,} to {1:,}",
    "boolean": "true or false",
    "choice": "one of {choices}",
    "text": "a string that is not empty",
    "texts": "a list of strings",
    "path": "a path",
    "mode": 'an octal mode in a string such as "0660"',
    "file": "the path of a file",
    "strings": "a table of strings",
    "table": "a table",
    "any": "a value",
    "version": "a string or a whole number",
    "key": '"env:VARIABLE" or "file:PATH"',
    "secret": '"env:VARIABLE", "file:PATH" or the key itself',
    "address": '"http://HOST[:PORT]/PATH", "https://…" or "unix:/PATH.sock"',
    "header": "the name of a header",
    "headers": "a table of strings",
    "origins": 'a list of origins such as "https://example.com"',
    "hosts": 'a list of host names or addresses without a port, such as "example.com"',
    "networks": 'a list of IP addresses or networks such as "10.0.0.0/8"',
    "names": "a list of parameter names",
    "targets": '"UPSTREAM/model" or a list of these',
    "messages": "a list of tables, each with role and content",
}


def default(section: str, key: str) -> Any:
    """The default that the table gives to a key."""
    return ROWS[section][key].default


def words(row: Setting) -> str:
    """What is expected of a value, as an operator reads it."""
    choices = ", ".join(f'"{one}"' for one in row.limits)
    return WORDS[row.type].format(*row.limits, choices=choices)


# Parameters that the relay itself maps; ``forward`` must not name them (decision 13).
# fmt: off
MAPPED_NAMES: Final = frozenset({
    "model", "input", "messages", "instructions", "previous_response_id", "conversation", "store", "background",
    "stream", "stream_options", "include", "max_output_tokens", "max_tokens", "max_completion_tokens",
    "max_tool_calls", "metadata", "parallel_tool_calls", "temperature", "top_p", "presence_penalty",
    "frequency_penalty", "top_logprobs", "logprobs", "text", "response_format", "tools", "tool_choice",
    "truncation", "reasoning", "reasoning_effort", "verbosity", "service_tier", "safety_identifier",
    "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "prompt", "context_management",
    "moderation", "image", "access_programs", "user", "n", "stop", "seed", "logit_bias", "generate", "stream_id",
    "client_metadata", "type",
})
# fmt: on
# The same for members that the relay writes itself in one dialect's requests.
WRITTEN_NAMES: Final[dict[str, frozenset[str]]] = {
    "chat": frozenset({"functions", "function_call"}),
    "responses": frozenset(),
    "anthropic": frozenset({"system", "thinking", "output_config", "stop_sequences"}),
    "gemini": frozenset({"contents", "generationConfig", "systemInstruction", "toolConfig"}),
}

# Environment variable, upstream, dialect, address; the first of an upstream's variables that is set counts.
ENVIRONMENT_UPSTREAMS: Final = (
    ("OPENAI_API_KEY", "openai", "responses", "https://api.openai.com/v1"),
    ("OPENROUTER_API_KEY", "openrouter", "chat", "https://openrouter.ai/api/v1"),
    ("ANTHROPIC_API_KEY", "anthropic", "anthropic", "https://api.anthropic.com"),
    ("GEMINI_API_KEY", "gemini", "gemini", "https://generativelanguage.googleapis.com"),
    ("GOOGLE_API_KEY", "gemini", "gemini", "https://generativelanguage.googleapis.com"),
)


def markdown_table() -> str:
    """The README's table: one line a row."""
    lines = ["| section | key | value | default | |", "|---|---|---|---|---|"]
    section = ""
    for row in TABLE:
        shown = f"`[{row.section}]`" if row.section != section else ""
        section = row.section
        cells = (shown, f"`{row.key}`", words(row).replace("|", "\\|"), _shown_default(row), row.doc)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _shown_default(row: Setting) -> str:
    if row.shown:
        return row.shown
    if row.default is REQUIRED:
        return "required" if row.key.islower() else ""  # NAME, PATTERN and ROW are for the reader to choose
    if row.default is None:
        return ""
    if isinstance(row.default, bool):
        return f"`{str(row.default).lower()}`"
    if isinstance(row.default, str):
        return f'`"{row.default}"`'
    if isinstance(row.default, tuple):
        return "`[]`"
    if isinstance(row.default, dict):
        return "`{}`"
    return _number(row.default)


def _number(value: float) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if value >= size and value % size == 0:
            return (
                f"`{value:g}` ({value // size:g} {unit})"
                if value < 1e6
                else f"`{int(value)}` ({value // size:g} {unit})"
            )
    return f"`{int(value)}`" if value == int(value) else f"`{value}`"
