"""File, flags and environment put together into ``Settings``, and checked against each other."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from relay.config.globs import Glob
from relay.config.readers import ConfigError, Place, nearest, read, shape
from relay.config.table import DIALECTS, ENVIRONMENT_UPSTREAMS, REQUIRED, ROWS, WRITTEN_NAMES, Setting
from relay.config.values import (
    PromptSettings,
    ServerSettings,
    Settings,
    StoreSettings,
    UpstreamSettings,
    data_directory,
    default_globs,
    is_loopback,
)

_SECTIONS: Final = ("server", "keys", "upstreams", "models", "capabilities", "prompts", "store")
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")


def load(
    path: str | None,
    *,
    environ: Mapping[str, str],
    server: Mapping[str, Any] | None = None,
    upstreams: Sequence[str] = (),
    capability_rows: Collection[str] | None = None,
    quirks: Collection[str] | None = None,
) -> Settings:
    """The settings of one run.

    ``server`` holds what flags say about ``[server]`` (None: not given), ``upstreams`` the ``[NAME:]DIALECT=URL``
    flags; both win over the file. Where neither file nor flags define an upstream, keys in ``environ`` do.
    ``capability_rows`` and ``quirks`` are the names that the provider tables know, where the caller has them at hand.
    Raises: ConfigError.
    """
    source = _Source(path or "no configuration file", Path(path).parent.absolute() if path else Path.cwd(), environ)
    document = _document(path) if path else {}
    source.check_names("", document, _SECTIONS, "section")
    tables = {name: source.table(f"[{name}]", document.get(name, {})) for name in _SECTIONS}
    store = StoreSettings(**source.section("store", "store", tables["store"]))
    if store.kind == "sqlite" and store.path is None:
        directory = data_directory(environ)
        store = StoreSettings(store.kind, str(directory / "responses.sqlite"), store.max_age_days, store.max_bytes)
    settings = Settings(
        server=_server(source, tables["server"], server or {}, bool(tables["keys"])),
        keys={name: source.value(ROWS["keys"]["NAME"], "keys", name, key) for name, key in tables["keys"].items()},
        upstreams=_upstreams(
            source, tables["upstreams"], upstreams, several=tables["server"].get("auth") == "passthrough"
        ),
        models={
            name: source.value(ROWS["models"]["PATTERN"], "models", name, target)
            for name, target in tables["models"].items()
        },
        capabilities=_capabilities(source, tables["capabilities"], capability_rows),
        prompts=_prompts(source, tables["prompts"]),
        store=store,
    )
    if path and not settings.upstreams:
        raise ConfigError(f"{path}: no upstream: add [upstreams.NAME] with dialect and base_url, or use --upstream")
    for check in _CHECKS:
        for where, problem in check(settings):
            raise ConfigError(f"{source.name}: {where}: {problem}")
    if quirks is not None:
        for one in settings.upstreams:
            if one.quirks and one.quirks not in quirks:
                problem = f'unknown "{one.quirks}"{nearest(one.quirks, quirks)} (known: {", ".join(sorted(quirks))})'
                raise ConfigError(f"{source.name}: [upstreams.{one.name}] quirks: {problem}")
    return settings


def _document(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None


class _Source:
    """A file of settings while it is read: says where a complaint belongs."""

    def __init__(self, name: str, folder: Path, environ: Mapping[str, str]) -> None:
        self.name = name
        self.folder = folder
        self.environ = environ

    def place(self, where: str) -> Place:
        return Place(f"{self.name}: {where}", self.folder, self.environ)

    def table(self, label: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.place(label).error(f"expected a table, got {shape(value)}")
        return value

    def check_names(self, label: str, names: Collection[str], known: Collection[str], noun: str) -> None:
        for name in names:
            if name not in known:
                where = f"{label} {name}".strip() if label else f"[{name}]"
                raise self.place(where).error(f"unknown {noun}{nearest(name, known)}")

    def value(self, row: Setting, section: str, key: str, value: Any) -> Any:
        return read(value, row, self.place(f"[{section}] {_quoted(key)}"))

    def section(self, rows: str, label: str, table: dict[str, Any]) -> dict[str, Any]:
        """The checked values that ``table`` gives for the rows of one section; the required ones are there."""
        known = ROWS[rows]
        self.check_names(f"[{label}]", table, known, "key")
        for key, row in known.items():
            if row.default is REQUIRED and key not in table:
                raise self.place(f"[{label}] {key}").error("is missing")
        return {key: self.value(known[key], label, key, value) for key, value in table.items()}


def _quoted(key: str) -> str:
    return key if _NAME.fullmatch(key) and "." not in key else f'"{key}"'


# ------------------------------------------------------------------------------------------------ section by section


_ANYBODY: Final = {"*": "every web page", "null": "every file and sandboxed frame"}
"""Origins that anybody may have, and whom they let in."""


def _server(source: _Source, table: dict[str, Any], flags: Mapping[str, Any], has_keys: bool) -> ServerSettings:
    values = source.section("server", "server", table)
    for key, value in flags.items():
        if value is not None:
            place = Place("--" + key.replace("_", "-"), Path.cwd(), source.environ)
            values[key] = read(value, ROWS["server"][key], place)
    said = values.pop("auth", "")
    label = f"{source.name}: [server]"
    if said == "keys" and not has_keys:
        raise ConfigError(f'{label} auth: "keys" needs at least one entry in [keys]')
    if said == "passthrough" and has_keys:
        raise ConfigError(f'{label} auth: "passthrough" contradicts [keys]')
    for origin in values.get("allowed_origins", ()):
        if origin in _ANYBODY and not (has_keys or said):
            raise ConfigError(
                f'{label} allowed_origins: "{origin}" lets {_ANYBODY[origin]} spend the keys of your upstreams, since '
                'nobody else is asked for one: add [keys], or set auth = "passthrough" if every client brings the '
                "upstream's key"
            )
    settings = ServerSettings(**values, auth="keys" if has_keys else "passthrough")
    if not (has_keys or said or settings.uds or is_loopback(settings.host)):
        raise ConfigError(
            f"{label} host: {settings.host} can be reached by other machines: add [keys], or set auth = "
            '"passthrough" if every client brings the upstream\'s key'
        )
    return settings


def _upstreams(
    source: _Source, tables: dict[str, Any], flags: Sequence[str], *, several: bool
) -> tuple[UpstreamSettings, ...]:
    """``several``: the file says that clients bring keys of their own, so that not all of them are one person."""
    found: dict[str, UpstreamSettings] = {}
    for name, table in tables.items():
        label = f"upstreams.{_quoted(name)}"
        if not _NAME.fullmatch(name):
            raise source.place(f"[{label}]").error("a name is made of letters, digits, dots, - and _")
        values = source.section("upstreams.NAME", label, source.table(f"[{label}]", table))
        found[name] = _upstream(name, values)
    for flag in flags:
        one = _flag_upstream(flag, source.environ)
        found[one.name] = one
    if not found:
        for variable, name, dialect, base_url in ENVIRONMENT_UPSTREAMS:
            if name not in found and source.environ.get(variable, "").strip():
                place = Place("environment", source.folder, source.environ)
                key = read(f"env:{variable}", ROWS["upstreams.NAME"]["api_key"], place)
                found[name] = _upstream(name, {"dialect": dialect, "base_url": base_url, "api_key": key})
    return tuple(
        replace(one, shared_ids=False) if several and one.shared_ids is None else one for one in found.values()
    )


def _several(server: dict[str, Any]) -> bool:
    return server.get("auth") == "passthrough"


def _upstream(name: str, values: dict[str, Any]) -> UpstreamSettings:
    values.setdefault("models", default_globs(values["dialect"], values["base_url"]))
    return UpstreamSettings(name=name, **values)


def _flag_upstream(flag: str, environ: Mapping[str, str]) -> UpstreamSettings:
    """``[NAME:]DIALECT=URL``; the name defaults to the dialect."""
    place = Place(f"--upstream {flag.partition('=')[0]}", Path.cwd(), environ)
    left, separator, base_url = flag.partition("=")
    name, colon, dialect = left.rpartition(":")
    if not separator or not left or (colon and not _NAME.fullmatch(name)):
        raise place.error("expected [NAME:]DIALECT=URL, for example chat=http://127.0.0.1:8001/v1")
    if dialect not in DIALECTS:
        raise place.error(f'unknown dialect "{dialect}"{nearest(dialect, DIALECTS)} (known: {", ".join(DIALECTS)})')
    return _upstream(
        name or dialect, {"dialect": dialect, "base_url": read(base_url, ROWS["upstreams.NAME"]["base_url"], place)}
    )


def _capabilities(
    source: _Source, tables: dict[str, Any], known: Collection[str] | None
) -> dict[str, Mapping[str, Any]]:
    row = ROWS['capabilities."GLOB"']["ROW"]
    for pattern, table in tables.items():
        label = f"[capabilities.{_quoted(pattern)}]"
        source.table(label, table)
        if known is not None:
            source.check_names(label, table, known, "row")
    return {
        pattern: {
            name: source.value(row, f"capabilities.{_quoted(pattern)}", name, value) for name, value in table.items()
        }
        for pattern, table in tables.items()
    }


def _prompts(source: _Source, tables: dict[str, Any]) -> dict[str, PromptSettings]:
    prompts = {}
    for name, table in tables.items():
        label = f"prompts.{_quoted(name)}"
        values = source.section("prompts.ID", label, source.table(f"[{label}]", table))
        if ("text" in values) == ("messages" in values):
            raise source.place(f"[{label}]").error("needs either text or messages")
        prompts[name] = PromptSettings(id=name, **values)
    return prompts


# ------------------------------------------------------------------------------------------------ across sections

_SHORTEST_KEY: Final = 12
Complaints = Iterator[tuple[str, str]]  # where, what


def _workers_share_a_store(settings: Settings) -> Complaints:
    if settings.store.kind == "memory" and settings.server.workers > 1:
        yield "[store] kind", f'"memory" serves one worker, and workers is {settings.server.workers}'


def _tls_is_whole(settings: Settings) -> Complaints:
    if settings.server.ssl_keyfile and not settings.server.ssl_certfile:
        yield "[server] ssl_keyfile", "needs ssl_certfile"


def _keys_differ(settings: Settings) -> Complaints:
    owners: dict[str, str] = {}
    for name, secret in settings.keys.items():
        if secret in owners:
            yield f"[keys] {_quoted(name)}", f'is the same key as "{owners[secret]}"; an owner must be told by its key'
        owners[secret] = name


def _keys_are_long(settings: Settings) -> Complaints:
    for name, secret in settings.keys.items():
        if len(secret) < _SHORTEST_KEY:
            problem = f"is shorter than {_SHORTEST_KEY} characters; whoever guesses it is this client"
            yield f"[keys] {_quoted(name)}", problem


def _upstreams_are_consistent(settings: Settings) -> Complaints:
    for one in settings.upstreams:
        label = f"[upstreams.{_quoted(one.name)}]"
        if one.state == "upstream" and one.dialect != "responses":
            yield f"{label} state", f'"upstream" needs dialect = "responses", and dialect is "{one.dialect}"'
        for name, _ in one.headers:
            if name == one.auth_header:
                yield f"{label} headers", f'"{name}" carries the key; use api_key'
        for name in one.forward:
            if name in WRITTEN_NAMES[one.dialect]:
                yield f"{label} forward", f'the relay writes "{name}" itself; it cannot be forwarded'


def _models_lead_somewhere(settings: Settings) -> Complaints:
    names = [one.name for one in settings.upstreams]
    globs = [Glob(glob) for one in settings.upstreams for glob in one.models]
    for pattern, targets in settings.models.items():
        label = f"[models] {_quoted(pattern)}"
        for target in targets:
            if "*" in target and (target.count("*") > 1 or pattern.count("*") != 1):
                yield label, f'"*" in "{target}" needs exactly one "*" on both sides'
            head, *rest = re.split("[/:]", target, maxsplit=1)
            named = head in names and any(rest)
            if len(names) > 1 and not named and all(glob.match(target) is None for glob in globs):
                near = nearest(head, names)
                yield label, f'"{target}" names no upstream{near} (configured: {", ".join(names)})'


_CHECKS: Final[tuple[Callable[[Settings], Complaints], ...]] = (
    _workers_share_a_store,
    _tls_is_whole,
    _keys_differ,
    _keys_are_long,
    _upstreams_are_consistent,
    _models_lead_somewhere,
)
