"""The lifespan protocol: the app is told that the server starts, and that it stops.

Source: ASGI lifespan specification 2.0. An app that raises on the scope does not speak it, and is served all the same.
"""

from __future__ import annotations

import asyncio
from typing import Any

from relay.server.context import App, Message, logger


class StartupError(Exception):
    """The app said that it cannot start."""


class Lifespan:
    """Runs the app's lifespan task from ``start`` to ``stop``."""

    def __init__(self, app: App, timeout_s: float) -> None:
        self._app = app
        self._timeout_s = timeout_s
        self._messages: asyncio.Queue[Message] = asyncio.Queue(maxsize=2)  # startup, shutdown: never more
        self._answered: asyncio.Future[str | None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._state: dict[str, Any] = {}

    async def start(self) -> dict[str, Any] | None:
        """The app's state, or None where it has no lifespan.

        Raises: StartupError.
        """
        # The app's lifespan is one coroutine that is awake at both ends of the server's life: a task.
        self._answered = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run())
        self._messages.put_nowait({"type": "lifespan.startup"})
        try:
            async with asyncio.timeout(self._timeout_s):
                problem = await self._answered
        except TimeoutError:
            problem = f"its startup took over {self._timeout_s:g} s"
        if problem is not None:
            await self._end()
            raise StartupError(f"the app did not start: {problem}")
        return None if self._task is None else self._state

    async def stop(self) -> None:
        """Tell the app to shut down, and wait until it has."""
        if self._task is None or self._task.done():
            return
        self._answered = asyncio.get_running_loop().create_future()
        self._messages.put_nowait({"type": "lifespan.shutdown"})
        try:
            async with asyncio.timeout(self._timeout_s):
                problem = await self._answered
        except TimeoutError:
            problem = f"it took over {self._timeout_s:g} s"
        if problem is not None:
            logger.error("the app did not shut down well: %s", problem)
        await self._end()

    async def _end(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
        starting = True

        async def send(message: Message) -> None:
            nonlocal starting
            starting = False
            kind = message["type"]
            self._answer(message.get("message", "") or "it gave no reason" if kind.endswith(".failed") else None)

        try:
            await self._app(scope, self._messages.get, send)
        except asyncio.CancelledError:
            pass
        except Exception as error:  # outermost: whatever the app raises ends here
            if starting:
                logger.info("the app does not speak the lifespan protocol (%s)", type(error).__name__)
            else:
                logger.error("the app failed in its lifespan", exc_info=error)
        finally:
            if starting:
                self._task = None  # it does not speak lifespan
            self._answer(None)

    def _answer(self, problem: str | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(problem)
