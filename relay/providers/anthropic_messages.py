"""Items as Anthropic messages.

Source: translation.md §2.1–2.6, column B; decisions 14, 22, 25; pain.md 9, 13, 14. Messages depend on their turn and
what came before it, never on what follows, so that a longer conversation begins with the same bytes. Three repairs
touch the end of the list only: ``continue`` (a list that ends with the assistant gets a user message, for these models
take no prefill), ``opening`` (an empty list gets one, decision 56) and ``cache marks`` (only the last four are kept).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from relay.errors import RelayError
from relay.providers.anthropic_blocks import FAMILY, THOUGHTS, is_sound
from relay.providers.anthropic_media import document_block, image_block
from relay.providers.base import Media, Warnings, path_of_part
from relay.providers.turns import NOTHING_SAID, OPENING, Assist, Results, Say, Turn, last_asked, text_of
from relay.responses.envelope import unseal
from relay.responses.json import mended, mended_text
from relay.responses.renaming import with_keys
from relay.responses.tools import JSON, arguments_of_call, call_id_of, is_call, key_of_call, output_of

MARKER: Final = "Operator note (not from the user): "
CONTINUE: Final = "Continue."
MARKS_LIMIT: Final = 4

_WIRE_ID: Final = re.compile(r"[^A-Za-z0-9_-]")

Block = JSON | bytes
"""A content block: to be encoded, or already in the bytes that go out."""


def encoded(value: Any) -> bytes:
    """JSON bytes; lone surrogates are replaced, for no upstream takes them. Raises: RelayError."""
    try:
        return orjson.dumps(value)
    except TypeError:
        pass
    try:
        return orjson.dumps(mended(value))
    except (TypeError, RecursionError):
        raise RelayError("invalid_request", "The request is nested too deeply.") from None


class _Turn:
    """What is said between two assistant messages: the user's blocks, and system texts among them."""

    __slots__ = ("blocks", "system")

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.system: list[Block] = []


class Messages:
    """Renders items for one capability record. ``items`` is what errors name their places in; ``renamed``: by key of a
    tool, the client's property names -> the upstream's, where they differ.

    After ``render``: ``system`` (blocks of the leading system texts), ``encoded`` (one JSON text a message), ``paths``
    (``messages.i.content.j`` of each thinking block -> id of its item), ``kinds`` (types of all replayed blocks),
    ``calls`` (names in the history).
    """

    __slots__ = (
        "_keep",
        "_marks",
        "_media",
        "_messages",
        "_model",
        "_names",
        "_native",
        "_renamed",
        "_ttl",
        "_turn",
        "_used",
        "_warnings",
        "_wire",
        "calls",
        "items",
        "kinds",
        "paths",
        "system",
        "transformations",
    )

    def __init__(
        self,
        names: Mapping[str, str],
        media: Mapping[str, Media],
        warnings: Warnings,
        *,
        model: str,
        renamed: Mapping[str, Mapping[str, str]],
        native_system: bool,
        keep_thoughts: bool,
        ttl: str | None,
    ) -> None:
        self._names = names
        self._media = media
        self._warnings = warnings
        self._model = model
        self._renamed = renamed
        self._native = native_system
        self._keep = keep_thoughts
        self._ttl = ttl
        self._messages: list[tuple[str, list[Block]]] = []
        self._turn = _Turn()
        self._marks: list[JSON] = []
        self._wire: dict[int, str] = {}
        self._used: set[str] = set()
        self.items: list[JSON] = []
        self.system: list[JSON] = []
        self.transformations: list[JSON] = []
        self.paths: dict[str, str] = {}
        self.kinds: set[str] = set()
        self.calls: dict[str, None] = {}

    def render(self, groups: list[Turn], leading: list[str], *, forget_before: bool = False) -> None:
        """Render the groups behind ``leading`` system texts; ``forget_before``: only the last turn keeps its thoughts.

        Raises: RelayError naming what cannot be said.
        """
        self.system.extend({"type": "text", "text": text} for text in leading if text.strip())
        at = 0
        while at < len(groups):
            group = groups[at]
            if not isinstance(group, Say) or group.role == "user":
                break
            self.system.extend(self._texts(group.parts))
            at += 1
        current = last_asked(groups)
        for number in range(at, len(groups)):
            group = groups[number]
            if isinstance(group, Say):
                self._say(group)
            elif isinstance(group, Results):
                self._results(group)
            else:
                self._assist(group, remember=not forget_before or number > current)
        self._flush()
        if not self._messages:
            self._warnings.add(*NOTHING_SAID)
            self._append("user", [{"type": "text", "text": OPENING}])
        if self._messages[-1][0] == "assistant":
            self._warnings.add("input", "it ends with an assistant message: a user message was added")
            self._messages.append(("user", [{"type": "text", "text": CONTINUE}]))
        self._unmark()

    @property
    def encoded(self) -> list[bytes]:
        """The messages as they go out."""
        return [
            b'{"role":"%b","content":[%b]}'
            % (role.encode(), b",".join(one if isinstance(one, bytes) else encoded(one) for one in blocks))
            for role, blocks in self._messages
        ]

    # --- who speaks

    def _say(self, say: Say) -> None:
        if say.role == "user":
            self._turn.blocks.extend(self._content(say.parts))
        elif self._native:
            self._turn.system.extend(self._texts(say.parts))
        else:
            self._turn.blocks.extend(_marked_as_operator(self._texts(say.parts)))

    def _flush(self) -> None:
        """The user's turn is over: one user message, then at most one system message behind it."""
        turn, self._turn = self._turn, _Turn()
        if turn.blocks:
            self._append("user", turn.blocks)
            if turn.system:
                self._append("system", turn.system)
        elif turn.system:
            self._append("user", _marked_as_operator(turn.system))

    def _append(self, role: str, blocks: list[Block]) -> None:
        if self._messages and self._messages[-1][0] == role:
            self._messages[-1][1].extend(blocks)
        else:
            self._messages.append((role, blocks))

    def _assist(self, assist: Assist, *, remember: bool) -> None:
        thoughts: list[tuple[int, str]] = []
        said: list[Block] = []
        calls: list[Block] = []
        for item in assist.items:
            if item["type"] == "reasoning":
                self._remember(item, said, thoughts, remember=remember)
            elif is_call(item):
                calls.append(self._call(item))
            else:
                said.extend(self._texts(item["content"]))
        while thoughts and thoughts[-1][0] == len(said) - 1 and not calls:
            thoughts.pop()  # no message may end with a thought
            said.pop()
        if not said and not calls:
            return
        self._flush()
        if not self._messages:
            self._append("user", [{"type": "text", "text": OPENING}])
        before = len(self._messages[-1][1]) if self._messages[-1][0] == "assistant" else 0
        self._append("assistant", [*said, *calls])
        for offset, identifier in thoughts:
            self.paths[f"messages.{len(self._messages) - 1}.content.{before + offset}"] = identifier

    # --- what is called, and what comes back

    def _call(self, item: JSON) -> bytes:
        key = key_of_call(item)
        name = self._names[key]
        self.calls[name] = None
        wire = _WIRE_ID.sub("_", call_id_of(item) or "") or "call"
        unique, number = wire, 1
        while unique in self._used:
            number += 1
            unique = f"{wire}_{number}"
        self._used.add(unique)
        self._wire[id(item)] = unique
        head = encoded({"type": "tool_use", "id": unique, "name": name})
        return head[:-1] + b',"input":' + _input(with_keys(arguments_of_call(item), self._renamed.get(key, {}))) + b"}"

    def _results(self, results: Results) -> None:
        blocks: list[Block] = []
        for call, output in results.pairs:
            block: JSON = {"type": "tool_result", "tool_use_id": self._wire[id(call)]}
            said = output_of(output, self._names)
            content = said if isinstance(said, str) else self._content(said)
            if content:
                block["content"] = content
            if output.get("status") == "incomplete":
                block["is_error"] = True
            blocks.append(block)
        self._turn.blocks.extend(blocks)

    # --- content parts

    def _content(self, parts: list[JSON]) -> list[Block]:
        blocks: list[Block] = []
        for part in parts:
            render = _PARTS.get(part["type"])
            try:
                if render is None:
                    message = f"A part of type '{part['type']}' cannot be said to this upstream."
                    raise RelayError("unsupported_value", message)
                block = render(self, part)
            except RelayError as error:
                error.param = path_of_part(self.items, part)
                raise
            if block is not None:
                blocks.append(self._marked(block, part))
        return blocks

    def _texts(self, parts: list[JSON]) -> list[Any]:
        return self._content([part for part in parts if part["type"] in ("input_text", "output_text", "refusal")])

    def _text_part(self, part: JSON) -> JSON | None:
        text = text_of([part])
        return {"type": "text", "text": text} if text.strip() else None

    def _image_part(self, part: JSON) -> JSON:
        return image_block(part, self._media)

    def _file_part(self, part: JSON) -> JSON:
        return document_block(part, self._media)

    def _marked(self, block: JSON, part: JSON) -> JSON:
        mark = part.get("prompt_cache_breakpoint")
        if mark:
            ttl = cache_ttl(mark.get("ttl")) if isinstance(mark, dict) and mark.get("ttl") else self._ttl
            block["cache_control"] = cache_control(ttl)
            self._marks.append(block)
        return block

    def _unmark(self) -> None:
        if len(self._marks) > MARKS_LIMIT:
            self._warnings.add("input", f"only the last {MARKS_LIMIT} cache breakpoints were kept")
            for block in self._marks[:-MARKS_LIMIT]:
                del block["cache_control"]

    # --- reasoning

    def _remember(self, item: JSON, said: list[Block], thoughts: list[tuple[int, str]], *, remember: bool) -> None:
        sealed = item.get("encrypted_content")
        if not sealed:
            return
        envelope = unseal(sealed)
        removed = envelope is None or envelope.family != FAMILY
        for block, text in envelope.opened(is_sound) if envelope is not None and not removed else ():
            if block["type"] in THOUGHTS:
                if envelope is not None and envelope.model != self._model:
                    removed = True
                    continue
                if not self._keep or not remember:
                    continue
                thoughts.append((len(said), str(item.get("id") or "")))
            elif block["type"] == "fallback":
                self._forget(said, thoughts)
            self.kinds.add(block["type"])
            said.append(text.encode("utf-8", "replace"))
        if removed:
            self._removed(item.get("id"))

    def _forget(self, said: list[Block], thoughts: list[tuple[int, str]]) -> None:
        """What a model thought that gave way to another stays behind ("Refusals and fallback")."""
        while thoughts:
            offset, identifier = thoughts.pop()
            del said[offset]
            self._removed(identifier)

    def _removed(self, identifier: Any) -> None:
        self.transformations.append(
            {"id": identifier, "type": "reasoning", "action": "removed", "reason": "model_mismatch"}
        )


_PARTS: Final[Mapping[str, Callable[[Messages, JSON], JSON | None]]] = {
    "input_text": Messages._text_part,
    "output_text": Messages._text_part,
    "refusal": Messages._text_part,
    "input_image": Messages._image_part,
    "input_file": Messages._file_part,
}


def _marked_as_operator(texts: list[Any]) -> list[Block]:
    return [{**block, "text": MARKER + block["text"]} for block in texts]


def _input(arguments: str) -> bytes:
    """The arguments of a call as the object that they must be, in the bytes in which the model wrote them."""
    if not arguments.strip():
        return b"{}"
    try:
        if isinstance(orjson.loads(arguments), dict):
            return arguments.encode()
    except ValueError:  # no JSON, or lone surrogates in it
        pass
    return encoded({"_raw": mended_text(arguments)})


def cache_ttl(wanted: Any) -> str | None:
    """The life of a cache mark: Anthropic has 5 minutes and 1 hour, and ours are least lives."""
    return None if wanted in (None, "5m") else "1h"


def cache_control(ttl: str | None) -> JSON:
    """A cache mark."""
    return {"type": "ephemeral"} if ttl is None else {"type": "ephemeral", "ttl": ttl}


def without_synthetic(items: list[JSON]) -> list[JSON]:
    """The items without the hosted calls whose own blocks stand behind them in an envelope (``_hosted`` in the
    translator puts them there): those go back as they came, and need no stand-in.
    """
    kept: list[JSON] = []
    for item in items:
        if item["type"] == "reasoning" and kept and kept[-1]["type"] in _STOOD_IN:
            envelope = unseal(item.get("encrypted_content"))
            if envelope is not None and envelope.family == FAMILY:
                types = [block["type"] for block, _ in envelope.opened(is_sound)]
                if any(kind.endswith("_tool_result") for kind in types):
                    kept.pop()
        kept.append(item)
    return kept


_STOOD_IN: Final = frozenset({"mcp_call", "code_interpreter_call"})
