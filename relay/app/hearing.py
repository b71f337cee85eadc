"""One upstream answer, read to its end and spoken through a translator: in windows, or beside the loop if it is large.

Source: design.md §2 (the walk), decisions 44, 47, 61. Rules. Small reads are translated where they come. A large one is
fed a window at a time, and the loop turns after ``SLICE_S``. What can only be worked on as a whole (one large event, a
JSON body, the end of an answer with many items) is pure, so it goes through ``Heavy``; what it says meanwhile is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, Final, Protocol, TypeVar

from relay.app.attachments import Attachment
from relay.app.deadline import Deadline
from relay.app.reading import content_of, opening, rest_of
from relay.errors import RelayError
from relay.providers.base import Continue, Done, Translator, Wait
from relay.responses.json import encoded
from relay.upstream import Answer
from relay.wire.sse import HEAVY_BYTES, piece
from relay.wire.thinning import thinned

SLICE_S: Final = 0.004

T = TypeVar("T")


class Speaker(Protocol):
    """The turn whose answer this is."""

    attachment: Attachment
    busy: bool
    """Whether something is at work for the turn beside the loop: the emitter is its own until then."""

    async def beside(self, work: Callable[[], T]) -> T:
        """Do pure work beside the loop, and send what it says."""
        ...

    async def rest(self) -> None:
        """Send what was said, and let others have their turn."""
        ...

    async def flush(self) -> None:
        """Send what was said."""
        ...

    @property
    def large(self) -> bool:
        """Whether the response has grown so far that walking over it takes long."""
        ...


class Hearing:
    """``hear`` gives what the answer came to."""

    __slots__ = ("_answer", "_deadline", "_left", "_speaker", "_translator")

    def __init__(self, speaker: Speaker, answer: Answer, translator: Translator, deadline: Deadline) -> None:
        self._speaker = speaker
        self._answer = answer
        self._translator = translator
        self._deadline = deadline
        self._left = b""  # what the push did not take

    async def hear(self) -> Done | Continue:
        """The whole of the answer, in whichever form it comes. Raises: RelayError."""
        answer, speaker, translator = self._answer, self._speaker, self._translator
        streams, head = await opening(answer)
        try:
            if streams:
                await self._stream(head)
                return await self._where(speaker.large, translator.close)
            body, broken = await rest_of(answer, head)
            streams = body[:64].lstrip()[:1] == b"["
            return await self._where(len(body) > HEAVY_BYTES, partial(_said, translator, answer, body, broken))
        except RelayError:
            if streams:
                await speaker.flush()  # what came before the error was said, though it came with it (decision 47)
            raise

    async def _where(self, heavy: bool, work: Callable[[], T]) -> T:
        return await self._speaker.beside(work) if heavy or self._speaker.busy else work()

    async def _stream(self, data: bytes) -> None:
        """Read to the end, or as long as something may come late (decision 44); ``data`` was read already."""
        answer, speaker, translator = self._answer, self._speaker, self._translator
        attachment = speaker.attachment
        consume = partial(self._on_data, translator, attachment.push)
        wait: Wait | None = None
        while data:
            # the pull: before the stream has begun, for a client that is behind, for a server that is not ours, for
            # what is large, and from the reason for the end on
            await self._feed(data)
            if translator.ended:  # what it said goes out with what follows, at once or before anything that waits
                return
            await speaker.flush()
            wait = self._waits(wait, translator.wait)
            if wait is None and attachment.pushes and (attachment.begun or not attachment.streams):
                await answer.push(consume)
                if translator.ended:
                    return
                await speaker.flush()
                wait = self._waits(wait, translator.wait)
            data, self._left = self._left, b""
            data = data or await self._read()

    def _on_data(self, translator: Translator, push: Callable[[], bool], data: bytes) -> bool:
        """The push: from the upstream's socket to the client's in one callback (design.md §2 without its step 3)."""
        # hot: bench
        if len(data) > HEAVY_BYTES or translator.heavy or self._speaker.busy:
            self._left = data
            return False
        translator.feed(data)
        return push() and translator.wait is None and not translator.ended

    async def _feed(self, data: bytes) -> None:
        speaker, translator = self._speaker, self._translator
        at, until = 0, 0.0
        while at < len(data) and not translator.ended:
            window = piece(data, at)
            at += len(window)
            if (translator.heavy and (b"\n" in window or b"\r" in window)) or speaker.busy:
                await speaker.beside(partial(translator.feed, window))
            else:
                translator.feed(window)
            if at < len(data):
                now = perf_counter()
                until = until or now + SLICE_S
                if now >= until:
                    await speaker.rest()
                    until = 0.0

    def _waits(self, before: Wait | None, wait: Wait | None) -> Wait | None:
        """An answer that has waited as long as it may is read no further."""
        if wait is not before:
            if wait is None:
                self._deadline.end(self._answer)
            else:
                self._deadline.begin(self._answer, wait.seconds, self._answer.cease)
        return wait

    async def _read(self) -> bytes:
        """What has come. Where all is there that must be, a break is an end. Raises: RelayError where not."""
        try:
            return await self._answer.read()
        except RelayError:
            if self._translator.wait is None:
                raise
            return b""


def _said(translator: Translator, answer: Answer, body: bytes, broken: RelayError | None) -> Done | Continue:
    """What a whole body says."""
    content: Any = content_of(answer, thinned(body) if translator.thins else body, broken)
    if isinstance(content, dict):
        translator.from_body(content)
        return translator.close()
    for event in content:  # a stream whose events are members of an array (Gemini without SSE)
        translator.feed(b"data: " + encoded(event) + b"\n\n")
    return translator.close()
