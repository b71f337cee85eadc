"""What a demo model does, read from its name: the table of words, and the parser.

Source: issue 2 point 8 and issue 3 point 8. The table is also the documentation (``relay.demo``'s docstring).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

AT_ONCE: Final = -1  # the value of `stall`, `cut` and `error` without a number: before the first event


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One field for each word of ``WORDS``; counts are tokens, ``None`` and ``False`` mean "does not"."""

    fail: int | None = None
    stall: int | None = None
    stall_headers: bool = False
    cut: int | None = None
    error: int | None = None
    overload200: bool = False
    garbage: bool = False
    html: bool = False
    empty: bool = False
    trickle: bool = False
    crlf: bool = False
    ping: bool = False
    json: bool = False
    nodone: bool = False
    nofinish: bool = False
    nousage: bool = False
    tokens: int | None = None
    pace: float | None = None
    batch: int = 1
    stamp: bool = False
    parallel: bool = False
    sameindex: bool = False
    steps: int = 1
    think: bool = False
    redacted: bool = False
    vllm: bool = False
    details: bool = False
    refuse: bool = False
    cite: bool = False
    pause: int | None = None
    noforce: bool = False
    strict: bool = False


class Word(NamedTuple):
    """A word of a model's name: its example, the value without a number, whether a number may follow, what it does."""

    example: str
    default: Any
    numbered: bool
    meaning: str


WORDS: Final[dict[str, Word]] = {
    "fail": Word("demo-fail-429", 500, True, "answers that HTTP status with the vendor's own error body"),
    "stall": Word(
        "demo-stall-5", AT_ONCE, True, "sends headers and that many tokens, then nothing (no number: headers)"
    ),
    "stall_headers": Word("demo-stall-headers", True, False, "never answers"),
    "cut": Word("demo-cut-5", AT_ONCE, True, "closes the connection after that many tokens, without a clean end"),
    "error": Word("demo-error-5", AT_ONCE, True, "sends the vendor's error inside the stream after that many tokens"),
    "overload200": Word("demo-overload200", True, False, "answers 200 and then says that it is overloaded"),
    "garbage": Word("demo-garbage", True, False, "answers 200 with the right content type and bytes that are no JSON"),
    "html": Word("demo-html", True, False, "answers 200 with an HTML page"),
    "empty": Word("demo-empty", True, False, "answers 200 with an empty body"),
    "trickle": Word("demo-trickle", True, False, "writes one byte at a time"),
    "crlf": Word("demo-crlf", True, False, "ends the lines of its stream with CR LF"),
    "ping": Word("demo-ping", True, False, "sends a comment line before each token"),
    "json": Word("demo-json", True, False, "answers with a JSON body although a stream was asked for"),
    "nodone": Word("demo-nodone", True, False, "leaves out `data: [DONE]`"),
    "nofinish": Word("demo-nofinish", True, False, "ends cleanly without saying that it has finished"),
    "nousage": Word("demo-nousage", True, False, "leaves out the usage"),
    "tokens": Word("demo-tokens-1000", 100, True, "says exactly that many numbered tokens instead of an echo"),
    "pace": Word("demo-pace-50", 50, True, "tokens a second; 0 is as fast as it can"),
    "batch": Word("demo-batch-64", 64, True, "tokens a write"),
    "stamp": Word("demo-stamp", True, False, "the text of each token is the time of its making: time.monotonic_ns()"),
    "parallel": Word("demo-parallel", True, False, "calls every tool it is offered, and at least two, side by side"),
    "sameindex": Word("demo-sameindex", True, False, "chat: gives every parallel call the index 0"),
    "steps": Word("demo-steps-5", 5, True, "calls tools in that many rounds before it answers with text"),
    "think": Word("demo-think", True, False, "reasons even when nobody asked"),
    "redacted": Word("demo-redacted", True, False, "reasons, and shows nothing of it but an opaque block"),
    "vllm": Word("demo-vllm", True, False, "chat: reasoning comes as `reasoning`, not as `reasoning_content`"),
    "details": Word("demo-details", True, False, "chat: reasoning comes as OpenRouter's `reasoning_details`"),
    "refuse": Word("demo-refuse", True, False, "declines to answer"),
    "cite": Word("demo-cite", True, False, "cites a source"),
    "pause": Word("demo-pause-2", 1, True, "Anthropic `pause_turn`, Gemini `CONTINUATION`: that often before it ends"),
    "noforce": Word("demo-noforce", True, False, "refuses forced tool calls, as the newest Anthropic models do"),
    "strict": Word(
        "demo-strict",
        True,
        False,
        "refuses a history in which a signature that it issued is missing, changed or out of place",
    ),
}
_PLAIN: Final = Behaviour()


class UnknownWordError(ValueError):
    """A model's name holds a word that ``WORDS`` does not know."""


@lru_cache(maxsize=512)
def behaviour_of(model: str) -> Behaviour:
    """The behaviour that ``model`` names: the words after ``demo``; a name without ``demo`` is the plain model.

    Raises:
        UnknownWordError: naming the word.
    """
    words = model.rsplit("/", 1)[-1].split("-")
    if "demo" not in words:
        return _PLAIN
    words = words[words.index("demo") + 1 :]
    fields: dict[str, Any] = {}
    at = 0
    while at < len(words):
        name = words[at]
        pair = "_".join(words[at : at + 2])
        if pair in WORDS:
            name = pair
        at += 1 + name.count("_")
        word = WORDS.get(name)
        if word is None:
            raise UnknownWordError(name)
        fields[name] = word.default
        if word.numbered and at < len(words) and words[at].isdecimal():
            fields[name] = int(words[at][:9])
            at += 1
    return Behaviour(**fields)


def table() -> str:
    """``WORDS`` as lines of a Markdown table."""
    rows = [f"| `{word.example}` | {word.meaning} |" for word in WORDS.values()]
    return "\n".join(["| model | what it does |", "|---|---|", *rows])
