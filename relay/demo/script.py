"""What the demo model says: a request in no vendor's words goes in, a reply in tokens comes out.

Source: ours. A token is a word with the white space before it, or a run of letters or of other characters in JSON.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple, overload

import orjson

from relay.demo.behaviour import Behaviour
from relay.demo.schema import example

_WORDS: Final = re.compile(r"\s*\S+|\s+")
_PIECES: Final = re.compile(r"\w+|\W+")
_SEAL_KEY: Final = b"relay demo seal 1"
REFUSAL: Final = "I'm sorry, but I can't help with that."
SOURCE: Final = {"url": "https://example.com/demo", "title": "The demo source"}


class Refusal(Exception):
    """The vendor would refuse this request: a status, and the words that its error body is made of."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code


class Tool(NamedTuple):
    """A tool that the client runs; ``custom`` ones take free text."""

    name: str
    schema: Any
    custom: bool = False
    namespace: str | None = None


class Call(NamedTuple):
    """A call the model makes."""

    id: str
    name: str
    custom: bool
    namespace: str | None


class Part(NamedTuple):
    """A run of tokens of one kind: ``thought``, ``text``, ``refusal`` or ``call``."""

    kind: str
    tokens: Sequence[str]
    call: Call | None = None


@dataclass(slots=True)
class Conversation:
    """The history as it is read: what was asked last, what came back from tools, and a digest of the way there."""

    words: int = 0
    text: str = ""
    results: list[str] = field(default_factory=list)
    rounds: int = 0  # rounds of calls since the last text of the user
    _digest: Any = field(default_factory=lambda: hashlib.sha256(_SEAL_KEY))

    def _add(self, kind: str, *texts: str) -> None:
        self._digest.update("\x1f".join((kind, *texts, "")).encode("utf-8", "surrogatepass"))

    def system(self, text: str) -> None:
        """Instructions: counted, and no part of the prefix."""
        self.words += len(text.split())

    def user(self, text: str) -> None:
        """A text of the user: the last one is what the model answers."""
        self.words += len(text.split())
        self.text = text
        self.results = []
        self.rounds = 0
        self._add("user", text)

    def assistant(self, text: str) -> None:
        """A text that the model said before."""
        self.words += len(text.split())
        self._add("assistant", text)

    def calls(self, *ids: str) -> None:
        """A round of calls that the model made."""
        self.words += len(ids)
        self.rounds += 1
        self.results = []
        self._add("calls", *ids)

    def result(self, call_id: str, text: str) -> None:
        """What a tool answered."""
        self.words += len(text.split())
        self.results.append(text)
        self._add("result", call_id, text)

    def prefix(self) -> bytes:
        """A digest of everything so far."""
        return bytes(self._digest.digest())


@dataclass(frozen=True, slots=True)
class Turn:
    """What one request asks for."""

    model: str
    behaviour: Behaviour
    stream: bool
    body: dict[str, Any]
    talk: Conversation
    call_prefix: str
    tools: tuple[Tool, ...] = ()
    choice: str = "auto"  # "auto", "none", "required", or the name of a tool
    parallel: bool = True
    schema: Any = None
    reason: bool = False
    show_reason: bool = True
    seal_text: bool = True  # whether the seal vouches for the text that was shown
    limit: int | None = None
    stops: tuple[str, ...] = ()
    pauses_left: int = 0
    response_id: str = ""
    next_token: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model says, complete before the first token goes out."""

    parts: tuple[Part, ...]
    finish: str  # "stop", "calls", "length", "stop_sequence", "refusal", "pause"
    stop: str | None
    input_tokens: int
    thought_tokens: int
    output_tokens: int  # thoughts included
    seal: str | None  # the opaque block that belongs to the reasoning


class Stamps(Sequence[str]):
    """Tokens whose text is the time at which they are taken, in nanoseconds of ``time.monotonic_ns()``."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        for _ in range(self._count):
            yield f"{time.monotonic_ns()} "

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[str]: ...
    def __getitem__(self, at: int | slice) -> str | Sequence[str]:
        if isinstance(at, slice):
            return Stamps(len(range(*at.indices(self._count))))
        return f"{time.monotonic_ns()} "


@lru_cache(maxsize=16)
def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"{number} " for number in range(1, count + 1))


MOST_TOKENS: Final = 1_000_000


def make_seal(thought: str, prefix: bytes) -> str:
    """The opaque block of a thought: it names the prefix it was made after, and vouches for its text."""
    nonce = prefix[:12]
    tag = hashlib.sha256(_SEAL_KEY + nonce + thought.encode("utf-8", "surrogatepass")).digest()[:33]
    return base64.b64encode(b"demo" + nonce + tag).decode()


def seal_fits(seal: Any, thought: str, prefix: bytes | None = None) -> bool:
    """Whether ``seal`` is ours, unchanged, made for ``thought`` and (if given) made after ``prefix``."""
    if not isinstance(seal, str):
        return False
    try:
        nonce = base64.b64decode(seal, validate=True)[4:16]
    except ValueError:
        return False
    if prefix is not None and prefix[:12] != nonce:
        return False
    return make_seal(thought, nonce) == seal


def make_call_id(call_prefix: str, seal: str | None, talk_prefix: bytes, index: int) -> str:
    """An id that tells later whether, and after which seal, the call was made."""
    source = seal.encode() if seal else talk_prefix
    digits = hashlib.sha256(source + bytes([index % 256])).hexdigest()[:24]
    return f"{call_prefix}{'5ea1' if seal else '0000'}{digits}"


def call_problem(call_id: Any, call_prefix: str, seal: str | None, index: int) -> str | None:
    """Why ``call_id`` cannot stand at ``index`` after ``seal`` (None: it can, or it is not ours)."""
    if not isinstance(call_id, str) or not call_id.startswith(call_prefix + "5ea1"):
        return None
    if seal is None:
        return "missing"
    return None if call_id == make_call_id(call_prefix, seal, b"", index) else "changed or out of place"


def pieces(text: str) -> list[str]:
    """JSON text as tokens."""
    return _PIECES.findall(text)


def words(text: str) -> list[str]:
    """Prose as tokens."""
    return _WORDS.findall(text)


def _answer(turn: Turn) -> tuple[Sequence[str], str | None]:
    """The tokens of the answer, and the stop sequence that ended it."""
    behaviour, talk = turn.behaviour, turn.talk
    if behaviour.stamp:
        return Stamps(min(behaviour.tokens or len(words(talk.text)), MOST_TOKENS)), None
    if behaviour.tokens is not None:
        return _numbered(min(behaviour.tokens, MOST_TOKENS)), None
    if turn.schema is not None:
        text, split = orjson.dumps(example(turn.schema)).decode(), pieces
    else:
        text, split = talk.text, words
        if talk.results:
            text = "The tool said: " + "; ".join(talk.results)
    found = [(text.index(stop), stop) for stop in turn.stops if stop and stop in text]
    if not found:
        return split(text), None
    at, stop = min(found)
    return split(text[:at]), stop


def _chosen(turn: Turn) -> list[Tool]:
    """The tools that are called now, in order."""
    forced = turn.choice not in ("auto", "none")
    if turn.choice == "none" or not turn.tools or (turn.talk.rounds >= turn.behaviour.steps and not forced):
        return []
    offered = [tool for tool in turn.tools if turn.choice in ("auto", "required", tool.name)]
    if not turn.behaviour.parallel or not turn.parallel:
        return offered[:1]
    return offered if len(offered) > 1 else offered * 2


def _thought(turn: Turn, called: list[Tool]) -> str:
    what = f"I will call {', '.join(tool.name for tool in called)}." if called else "I will answer with text."
    return f"The user wrote {len(turn.talk.text.split())} words and tools answered {turn.talk.rounds} times. {what}"


def reply_to(turn: Turn) -> Reply:
    """The whole reply to ``turn``, cut at its token limit."""
    behaviour, prefix = turn.behaviour, turn.talk.prefix()
    called = _chosen(turn)
    parts: list[Part] = []
    seal = stop = None
    finish = "stop"
    if turn.reason or behaviour.think or behaviour.redacted:
        thought = _thought(turn, called)
        hidden = behaviour.redacted or not turn.show_reason or not turn.seal_text
        seal = make_seal("" if hidden else thought, prefix)
        parts.append(Part("thought", words(thought)))
    if behaviour.refuse:
        parts.append(Part("refusal", words(REFUSAL)))
        finish = "refusal"
    elif turn.pauses_left:
        finish = "pause"
    elif called:
        finish = "calls"
        for index, tool in enumerate(called):
            value = example(tool.schema) if isinstance(tool.schema, dict) else {}
            text = turn.talk.text if tool.custom else orjson.dumps(value).decode()
            split = words(text) if tool.custom else pieces(text)
            call = Call(make_call_id(turn.call_prefix, seal, prefix, index), tool.name, tool.custom, tool.namespace)
            parts.append(Part("call", split, call))
    else:
        tokens, stop = _answer(turn)
        parts.append(Part("text", tokens))
        finish = "stop_sequence" if stop is not None else "stop"
    total = sum(len(part.tokens) for part in parts)
    if turn.limit is not None and total > turn.limit:
        if seal is not None and len(parts[0].tokens) > turn.limit:
            seal = None  # a thought that was cut is not vouched for
        parts, total, finish, stop = _cut(parts, turn.limit), turn.limit, "length", None
    return Reply(
        tuple(parts),
        finish,
        stop,
        max(1, turn.talk.words + len(turn.tools)),
        sum(len(part.tokens) for part in parts if part.kind == "thought"),
        total,
        seal,
    )


def _cut(parts: list[Part], limit: int) -> list[Part]:
    kept: list[Part] = []
    for part in parts:
        if limit <= 0:
            break
        kept.append(part._replace(tokens=part.tokens[:limit]))
        limit -= len(part.tokens)
    return kept
