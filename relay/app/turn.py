"""One turn: the upstream calls of one response, spoken through one emitter to whoever is attached.

Source: design.md §2 (the walk), §3 "Exchange", "Turn and attachment"; decisions 1-8, 11, 18, 19, 39, 41.

The loop pulls: read the upstream, translate, send; a slow client holds the send, so the upstream is not read. One task,
no queue. The task is the client's request; ``finally`` closes the upstream connection, and leaving cancels the task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar

from relay.app.attachments import Attachment, Silent
from relay.app.compaction import compaction_fields, expand_compactions, prompt_item
from relay.app.deadline import Deadline
from relay.app.guard import Caller
from relay.app.hearing import Hearing
from relay.app.heavy import ALWAYS
from relay.app.ownership import is_guarded, note
from relay.app.refusals import ERROR_LIMIT_BYTES, inside, limits_of, refusal
from relay.app.replies import Header, encoded
from relay.app.services import Services, Upstream, access_log, log
from relay.app.truncation import without_oldest_turns
from relay.errors import RelayError
from relay.providers.base import REPEATED, Continue, Done, Media, Target, UpstreamRequest
from relay.responses.emitter import Emitter, Voice
from relay.responses.json import encoded as encode
from relay.responses.request import Request
from relay.responses.response import template
from relay.upstream import Answer

HOPS_LIMIT: Final = 8
COMMIT_S: Final = 10.0
HEARTBEAT_S: Final = 15.0
PUMP_S: Final = 0.005
WARNINGS_HEADER_BYTES: Final = 2_048

T = TypeVar("T")


@dataclass(slots=True)
class TurnRecord:
    """What happened in one turn; made once, at its end. Times in seconds; ``first_s`` is to the first event sent."""

    response_id: str
    owner: str
    upstream: str
    model: str
    transport: str
    end: str
    attempts: int
    first_s: float | None
    total_s: float
    usage: dict[str, Any] | None

    def line(self) -> str:
        """One line of the access log."""
        usage = self.usage or {}
        first = f"{self.first_s * 1000:.1f}" if self.first_s is not None else "-"
        return (
            f"{self.transport} {_word(self.response_id)} model={_word(self.model)} upstream={self.upstream} "
            f"owner={self.owner[:16]} end={_word(self.end)} attempts={self.attempts} "
            f"in={usage.get('input_tokens', '-')} out={usage.get('output_tokens', '-')} first_ms={first} "
            f"total_ms={self.total_s * 1000:.1f}"
        )


def _word(text: str) -> str:
    """One word of a log line: names and codes are the client's or the upstream's, and must not look like more."""
    text = text[:256]
    if text.isprintable() and " " not in text:
        return text
    return "".join(one if one.isprintable() and one != " " else "?" for one in text)


@dataclass(slots=True)
class Plan:
    """What a turn is asked to do, all of it known before the first upstream byte."""

    request: Request
    spoken: Request
    """The request as the upstream is told it: without a ``previous_response_id`` that the relay has resolved."""
    caller: Caller
    upstream: Upstream
    target: Target
    media: dict[str, Media]
    calls: tuple[UpstreamRequest, ...]
    """One for each of ``n`` answers."""
    transport: str = "http"
    trace: tuple[tuple[str, str], ...] = ()
    """Trace headers that pass through to the upstream (decision 43)."""
    compact: str | None = None
    """``only``: the answer is a compaction; ``first``: one comes before the answer (responses-api.md §5.11)."""
    weight: int = 0
    """JSON values of the window, or a few more (``heavy``)."""


class Turn:
    """Runs a plan. What ``commit(response)`` gives is awaited between the last item and the terminal event; it may
    alter the response.
    """

    __slots__ = (
        "_alone",
        "_attempts",
        "_besides",
        "_commit",
        "_deadline",
        "_first",
        "_interruption",
        "_limits",
        "_loop",
        "_ready",
        "_sending",
        "_sent_at",
        "_upstream_id",
        "_written",
        "attachment",
        "busy",
        "emitter",
        "plan",
        "services",
        "started_at",
        "task",
    )

    def __init__(
        self,
        services: Services,
        plan: Plan,
        emitter: Emitter,
        attachment: Attachment,
        commit: Callable[[dict[str, Any]], Callable[[], Awaitable[None]] | None] | None = None,
    ) -> None:
        self.services = services
        self.plan = plan
        self.emitter = emitter
        self.attachment = attachment
        self._commit = commit
        self._alone = asyncio.Lock()  # whoever works beside the loop has the emitter alone
        self._attempts = 0
        self.busy = False
        """Whether something is at work for this turn beside the loop."""
        self._besides = False  # something was large
        self._first: float | None = None
        self._interruption: RelayError | None = None
        self._limits: tuple[tuple[str, str], ...] = ()
        # an upstream that keeps the response gives it its id: nothing can be said before that has come
        self._ready: Callable[[], bool] = lambda: not plan.target.holds_state
        self._sending = False
        self._written = 0
        self._upstream_id: str | None = None
        self._loop = asyncio.get_running_loop()
        self._deadline = Deadline(services.clock or self._loop)
        self.task: asyncio.Task[Any] | None = None
        self.started_at = self._sent_at = self._loop.time()
        for call in plan.calls[:1]:
            self._report(call)

    # --- the client's side

    async def run(self) -> TurnRecord:
        """From the first upstream byte to the terminal event. Cancel it to leave. Never raises RelayError."""
        self.task = asyncio.current_task()
        self.services.begin(self)
        end = "cancelled"
        try:
            end = await self._to_the_end()
        except OSError:
            pass  # ASGI: sending to a client that has left
        finally:
            self.services.end(self)
            if end == "cancelled" and self.emitter.output and is_guarded(self.services, self.plan.upstream):
                # the client has seen what ran, and will name it when it comes back
                left = {"id": self.emitter.response["id"], "output": self.emitter.output}
                self.services.spawn(note(self.services, self.plan.upstream, self.plan.caller.owner, left, stored=False))
            record = self._record(end)
            if access_log.isEnabledFor(logging.INFO):
                access_log.info("%s", record.line())
            if self.services.on_record is not None:
                self.services.on_record(record)
            self.task = None  # what it was cancelled with holds this frame
            if not self.busy:  # else the client has left, and what is at work may say more
                self.emitter.let_go()
        return record

    async def _to_the_end(self) -> str:
        try:
            return await self._run()
        except asyncio.CancelledError:
            if self._interruption is None:
                raise
            if self.task is not None:
                self.task.uncancel()
            return await self._fail(self._interruption)
        except OSError:
            raise
        except Exception:
            log.exception("a turn failed for a reason of our own")
            return await self._fail(RelayError("internal", "The relay had an internal error."))

    def interrupt(self, error: RelayError) -> None:
        """End the turn with ``response.failed`` (or an HTTP error, if nothing was sent): decision 38."""
        if self.task is not None and self._interruption is None:
            self._interruption = error
            self.task.cancel()

    def silent_since(self, now: float) -> bool:
        """Whether the client has waited long enough for a sign of life."""
        if self._sending or self.busy:
            self._sent_at = now
        if self._sending or self.busy or not self.attachment.streams or self.emitter.concluded:
            return False
        if self.attachment.begun:
            # what was written is counted by its number, once a pulse and not at each token
            if self.emitter.sequence_number != self._written:
                self._written, self._sent_at = self.emitter.sequence_number, now
            return now - self._sent_at >= HEARTBEAT_S
        return now - self.started_at >= COMMIT_S and self._ready()

    async def break_silence(self) -> None:
        """Commit after 10 s without an event; a sign of life after 15 s of silence (decisions 3 and 59)."""
        emitter, plan = self.emitter, self.plan
        self._sent_at = self._loop.time()
        try:
            if emitter.concluded or self.busy:
                return  # since it was looked at
            if not self.attachment.begun:
                emitter.start()
            elif plan.target.holds_state and plan.request.params.get("background") is True:
                await self.attachment.heartbeat()  # its events are the upstream's, and so are their numbers
                return
            else:
                emitter.alive()
            self._written = emitter.sequence_number
            await self.flush()
        except OSError:
            pass  # the client has left, which the turn's own task is told

    def headers(self) -> list[Header]:
        """Headers of the answer that the turn knows: warnings, the upstream's request id."""
        pairs: list[tuple[str, str]] = []
        if self.emitter.warnings:
            said = warnings_header(self.emitter.warnings)
            pairs.append(("x-relay-warnings", self.services.redactor.text(said, self.plan.caller.key)))
        if self._upstream_id is not None:
            pairs.append(("x-relay-upstream-request-id", self._upstream_id))
        pairs += self._limits
        return encoded(pairs)

    # --- the run

    async def _run(self) -> str:
        try:
            done = await self._compacted() if self.plan.compact is not None else await self._speak()
            response = await self._where(partial(self._conclude, done))
        except RelayError as error:
            return await self._fail(error)
        await self._keep(response)
        await self._finish(response)
        self._mark_first()
        return str(response["status"])

    async def _finish(self, response: dict[str, Any]) -> None:
        """The terminal event, or the one JSON body, and the end."""
        large = self.large
        await self._where(self.emitter.terminal, heavy=large, quiet=True)
        body = None
        if large and not self.attachment.streams:
            body = await self._where(partial(encode, response), heavy=True, quiet=True)
        await self.attachment.finish(response, body)
        if large:  # freed at once they would take as long as they took to make
            items = list(response.get("output") or ())
            self.services.spawn(self.services.heavy.run(ALWAYS, self.plan.caller.owner, partial(_let_go, items)))

    def _conclude(self, done: Done) -> dict[str, Any]:
        if done.response is not None:
            response = self.emitter.conclude_with(done.response)
        else:
            response = self.emitter.conclude(done.status, reason=done.reason)
        plan = self.plan
        if plan.request.n == 1:  # of several answers side by side nobody could tell whose reasoning it was
            self.services.reasoning.remember(
                plan.caller.owner, plan.target.upstream, plan.target.model, response.get("output") or []
            )
        return response

    async def _fail(self, error: RelayError) -> str:
        self.services.redactor.error(error, self.plan.caller.key)
        if error.detail:
            log.info("turn %s: %s (%s)", self.emitter.response["id"], error.message, error.detail)
        if not self.attachment.begun:
            await self.attachment.refuse(error)
            return f"error:{error.code or error.type}"
        try:
            response = await self._where(partial(self.emitter.conclude, "failed", error=error))
        except RelayError:  # the output's bound, met again while closing: what is closed is closed
            response = self.emitter.response
            response["status"], response["error"] = "failed", error.stream_error()
        await self._keep(response)
        await self._finish(response)
        return f"failed:{response['error']['code']}"

    async def _keep(self, response: dict[str, Any]) -> None:
        plan, hide = self.plan, self.services.redactor.answer
        await self._where(partial(hide, response, plan.caller.key, native=plan.upstream.provider.native))
        keep = self._commit(response) if self._commit is not None else None
        if keep is not None:
            await self.flush()
            await keep()

    async def _compacted(self) -> Done:
        """Fold the window into a compaction item; then, unless that was all, answer over what is left."""
        plan = self.plan
        voice = self.emitter.voice({})
        item = voice.hosted("compaction", {"encrypted_content": ""}, step="compacting")
        await self.flush()
        summary, usage = await summarise(self.services, plan)
        fields = compaction_fields(plan.target.model, summary)
        voice.hosted_end(item, {"encrypted_content": fields["encrypted_content"]}, step=None)
        if usage is not None:
            voice.usage(usage)
        if plan.compact == "only":
            return Done("completed")
        items = expand_compactions([*plan.spoken.items, fields])
        spoken = plan.spoken.with_items(items)
        call = await _built(self.services, plan, spoken)
        self.plan = replace(plan, spoken=spoken, calls=(call,) * len(plan.calls))
        return await self._speak()

    async def _speak(self) -> Done:
        calls = self.plan.calls
        voices = [self.emitter.voice(call.tools) for call in calls]
        if len(calls) == 1:
            return await self._answer(voices[0], calls[0])
        try:
            # n answers side by side need a task each; one that fails cancels the rest (decision 11)
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._answer(voice, call)) for voice, call in zip(voices, calls, strict=True)
                ]
        except BaseExceptionGroup as failures:
            raise _worst(failures) from None
        outcomes = [task.result() for task in tasks]
        return next((done for done in outcomes if done.status != "completed"), outcomes[0])

    async def _answer(self, voice: Voice, call: UpstreamRequest) -> Done:
        """One voice: its hops and its repairs (decision 19)."""
        plan = self.plan
        spoken = plan.spoken
        repairs: frozenset[str] = frozenset()
        hops = 1
        while True:
            try:
                outcome = await self._call(voice, call)
            except RelayError as error:
                if self.emitter.started or hops >= HOPS_LIMIT:
                    raise
                shorter = self._shortened(spoken, error)
                if shorter is not None:
                    spoken = shorter
                    hops += 1
                elif error.repair is None or error.repair in repairs:
                    raise
                else:
                    repairs |= {error.repair}
                again = await _built(self.services, plan, spoken, repairs)
                if again.body == call.body and error.repair not in REPEATED:
                    raise
                call = again
                self._report(call)
                continue
            if len(plan.calls) > 1 or not isinstance(outcome, Done):
                await self.flush()
            if isinstance(outcome, Done):
                return outcome
            hops += 1
            if hops > HOPS_LIMIT:
                return Done("incomplete", "max_output_tokens")
            voice.next_hop()
            call = outcome.request

    def _report(self, call: UpstreamRequest) -> None:
        """What was changed so that the upstream takes it, said once."""
        for warning in call.warnings:
            self.emitter.warn(*warning)
        known = list(self.emitter.transformations)
        for entry in call.transformations:
            if entry not in known:
                self.emitter.transformation(entry)

    def _shortened(self, spoken: Request, error: RelayError) -> Request | None:
        """The request without its oldest turns, where the client asked for that and the upstream needs it."""
        if error.kind != "context_length_exceeded" or spoken.params.get("truncation") != "auto":
            return None
        items = without_oldest_turns(spoken.items)
        if items is None:
            return None
        self.emitter.warn("truncation", f"{len(spoken.items) - len(items)} oldest items were left out")
        return spoken.with_items(items)

    async def _call(self, voice: Voice, call: UpstreamRequest) -> Done | Continue:
        """One upstream call, to its end."""
        upstream = self.plan.upstream
        keyed, client_key = upstream.headers(self.plan.caller.key, call.headers)
        accept = "text/event-stream" if call.stream else "application/json"
        headers = [
            ("content-type", "application/json"),
            ("accept", accept),
            *keyed,
            *self.plan.trace,
        ]
        self._attempts += 1
        answer = await upstream.client.request(
            upstream.origin,
            "POST",
            upstream.base_path + call.path,
            headers,
            call.body,
            upstream.timeouts,
            owner=self.plan.caller.owner,
        )
        leave = answer.close
        try:
            self._note(answer)
            if not 200 <= answer.status < 300:
                body = await answer.body(ERROR_LIMIT_BYTES)
                raise refusal(upstream, answer, body, self.services.now(), client_key=client_key)
            self._limits = limits_of(answer, self.services.now(), client_key=client_key)
            translator = upstream.provider.translator(call, voice)
            self._ready = lambda: translator.ready
            outcome = await Hearing(self, answer, translator, self._deadline).hear()
            if translator.ended:
                leave = answer.retire
            return outcome
        except RelayError as error:
            raise inside(answer, error, self.services.now(), client_key=client_key) from None
        finally:
            self._deadline.end(answer)
            leave()

    def _note(self, answer: Answer) -> None:
        for name in (b"x-request-id", b"request-id", b"x-generation-id"):
            value = answer.header(name)
            if value is not None:
                text = self.services.redactor.text(value.decode("latin-1"), self.plan.caller.key)
                self._upstream_id = text[:128]
                return

    # --- what is large (decision 61)

    @property
    def large(self) -> bool:
        """Whether the response has grown so far that walking over it takes long."""
        return self._besides or self.emitter.large

    async def beside(self, work: Callable[[], T], *, quiet: bool = False) -> T:
        """Do pure work beside the loop, and send meanwhile what it says, if not ``quiet``.

        Where the turn is interrupted it is waited for, because the emitter has more to say; not where the client left.
        """
        self._besides = True
        async with self._alone:
            self.busy = True
            task = self.services.spawn(self.services.heavy.run(ALWAYS, self.plan.caller.owner, work))
            try:
                while not task.done():
                    await asyncio.wait((task,), timeout=None if quiet else PUMP_S)
                    if not quiet:
                        await self.flush(bit_by_bit=True)
                result: T = task.result()
                return result
            except BaseException:
                if self._interruption is None:
                    task.cancel()
                else:
                    await asyncio.wait((task,))
                task.add_done_callback(_seen)
                raise
            finally:
                self.busy = False
                del task  # its error holds this frame

    async def _where(self, work: Callable[[], T], *, heavy: bool | None = None, quiet: bool = False) -> T:
        return await self.beside(work, quiet=quiet) if (self.large if heavy is None else heavy) else work()

    async def rest(self) -> None:
        """Send what was said, and let others have their turn."""
        await self.flush()
        await asyncio.sleep(0)

    async def flush(self, *, bit_by_bit: bool = False) -> None:
        """Send what was said; ``bit_by_bit`` while more is being said beside the loop."""
        self._sending = True
        try:
            if bit_by_bit or self.busy:
                await self.attachment.drain()
            else:
                await self.attachment.flush()
        finally:
            self._sending = False
        if self._first is None and self.attachment.begun:
            self._mark_first()

    def _mark_first(self) -> None:
        if self._first is None:
            self._first = self._loop.time() - self.started_at

    def _record(self, end: str) -> TurnRecord:
        plan, response = self.plan, self.emitter.response
        usage = response.get("usage") or self.emitter.usage_so_far()
        return TurnRecord(
            str(response["id"]),
            plan.caller.owner,
            plan.target.upstream,
            plan.target.model,
            plan.transport,
            end,
            self._attempts,
            self._first,
            self._loop.time() - self.started_at,
            usage,
        )


def _let_go(items: list[Any]) -> None:
    """Free them some at a time."""
    while items:
        del items[-64:]


def _worst(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    return next((one for one in failures.exceptions if isinstance(one, RelayError)), failures.exceptions[0])


def _seen(task: asyncio.Task[Any]) -> None:
    """What nobody waits for any more may fail."""
    if not task.cancelled():
        task.exception()


async def _built(
    services: Services, plan: Plan, spoken: Request, repairs: frozenset[str] = frozenset()
) -> UpstreamRequest:
    """The upstream call for ``spoken``. Raises: RelayError."""
    build = partial(plan.upstream.provider.build, spoken, plan.target, plan.media, repairs)
    return await services.heavy.run(plan.weight, plan.caller.owner, build)


async def summarise(services: Services, plan: Plan) -> tuple[str, dict[str, Any] | None]:
    """The model's own summary of a plan's window, and what it cost. Raises: RelayError."""
    spoken = plan.spoken
    kept = {name: value for name, value in spoken.params.items() if name in ("instructions", "service_tier", "user")}
    items = [*spoken.items, prompt_item()]
    asked = replace(spoken, params=kept, items=items, body={}).without_tools()
    call = await _built(services, plan, asked)
    attachment = Silent()
    response = template(asked, services.new_id("resp"), services.now())
    emitter = Emitter(response, attachment.sink, services.new_id, services.now)
    inner = replace(plan, request=asked, spoken=asked, calls=(call,), transport="compact", compact=None)
    await Turn(services, inner, emitter, attachment).run()
    attachment.check()
    parts = [part for item in attachment.response["output"] for part in item.get("content") or []]
    summary = "".join(part.get("text", "") for part in parts if part.get("type") == "output_text")
    if not summary.strip():
        raise RelayError("upstream_bad_response", "The model wrote no summary.")
    return summary, attachment.response.get("usage")


def warnings_header(warnings: list[tuple[str, str]]) -> str:
    """``param:reason`` entries, cut at a whole entry (decision 9)."""
    entries: list[str] = []
    size = 0
    for param, reason in warnings:
        entry = f"{param}:{reason}".replace(",", ";")
        # the words may be the client's or the upstream's: no line of a header ends in them
        entry = "".join(one if " " <= one <= "~" else "?" for one in entry)
        size += len(entry) + 2
        if size > WARNINGS_HEADER_BYTES:
            break
        entries.append(entry)
    return ", ".join(entries)
