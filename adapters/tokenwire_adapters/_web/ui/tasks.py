"""Runs agents on behalf of pages, whether or not a page is watching."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from tokenwire import context
from tokenwire._ids import new_id
from tokenwire.errors import ResponseCancelled, TokenwireError
from tokenwire.events import Response
from tokenwire.sink import CancelOutcome, Sink
from tokenwire.writer import ResponseWriter
from tokenwire_adapters._web.ui.runs import Run, find_run
from tokenwire_adapters._web.ui.state import ENVELOPE

__all__ = ["AgentTasks"]

logger = logging.getLogger("tokenwire")
T = TypeVar("T")

_LOOK = 0.05  # seconds between looks for a run that is about to begin
_UNSEEN = 1.0  # seconds within which a backend shows a run that was begun
_SETTLE = (0.0, 0.02, 0.1, 0.4, 1.0)  # seconds between looks at what of a run still streams
_INSIST = (0.1, 5.0)  # seconds until the first look at a stopped agent, and at most between two


class AgentTasks:
    """Runs agents as tasks of their own, so that no page that leaves stops one.

    Each run has an envelope: a response with the run's id that streams for as long as the agent
    works, so that every process sees that the run is under way, can stop it, and learns of its
    end, also when the process that runs the agent dies.

    :param agent: called with a turn; a coroutine function, or a function that is run in a thread.
    """

    def __init__(self, sink: Sink, agent: Callable[[T], Awaitable[object] | object]) -> None:
        if not callable(agent):
            raise ValueError("agent must be a function")
        self._sink = sink
        self._agent: Callable[[Any], Any] = agent
        self._async = inspect.iscoroutinefunction(agent) or inspect.iscoroutinefunction(
            getattr(agent, "__call__", None)  # noqa: B004
        )
        self._tasks: dict[asyncio.Task[None], ResponseWriter] = {}
        self._stopping: set[asyncio.Task[None]] = set()
        # By run: its channel, and whether it has begun. Only those that history may not show yet.
        self._unseen: dict[str, tuple[str, bool]] = {}

    @staticmethod
    def new_run() -> str:
        """An id for a run that nobody can guess or repeat."""
        return new_id("run-")

    @contextmanager
    def starting(self, channel: str, run: str) -> Generator[None]:
        """Have `cancel` reach a run that this block begins, before it has begun too."""
        self._unseen[run] = (channel, False)
        try:
            yield
        finally:
            if self._unseen.get(run) == (channel, False):
                del self._unseen[run]

    def begin(
        self,
        channel: str,
        run: str,
        metadata: dict[str, Any],
        make: Callable[[ResponseWriter], Any],
    ) -> None:
        """Begin a run.

        :param metadata: of its envelope; watchers see it.
        :param make: creates the turn that the agent is called with.
        """
        response = self._sink.respond(
            channel, response_id=run, run=run, metadata={**metadata, ENVELOPE: True}
        )
        with context.channel(channel, run=run):
            task = asyncio.create_task(
                self._work(response, make(response)), name=f"tokenwire-run-{run}"
            )
        self._tasks[task] = response
        task.add_done_callback(self._tasks.pop)
        loop = asyncio.get_running_loop()
        self._unseen[run] = (channel, True)
        loop.call_later(_UNSEEN, self._unseen.pop, run, None)
        response.add_cancel_callback(lambda: loop.call_soon_threadsafe(self._stop, response, task))

    async def _work(self, response: ResponseWriter, turn: Any) -> None:
        error: BaseException | None = None
        try:
            if self._async:
                await self._agent(turn)
            else:
                await asyncio.to_thread(self._agent, turn)
        except asyncio.CancelledError as cancelled:
            error = cancelled
        except Exception as failure:
            error = failure
            if not (response.cancelled and isinstance(failure, ResponseCancelled)):
                logger.exception("tokenwire: the agent failed in channel %r", response.channel)
        try:
            await self._settle(response)
        except asyncio.CancelledError as cancelled:
            error = error or cancelled
        except TokenwireError as problem:
            logger.warning("tokenwire: could not look after run %r: %s", response.id, problem)
        if isinstance(error, asyncio.CancelledError):
            response.cancel()
        elif error is not None:
            response.fail(error)
        else:
            response.finish()

    async def _settle(self, response: ResponseWriter) -> None:
        """Have all responses of the run ended before the run is: end those left open."""
        left: list[str] = []
        for delay in _SETTLE:
            await asyncio.sleep(delay)
            left = await self._open(response)
            if not left:
                return
        for response_id in left:
            await self._sink.acancel(response.channel, response_id, reason="its run has ended")

    async def _open(self, response: ResponseWriter) -> list[str]:
        """The ids of a run's open responses but for its envelope."""
        return [each.id for each in await self._streaming(response) if each.id != response.id]

    async def _streaming(self, response: ResponseWriter) -> list[Response]:
        """The open responses of a run, its envelope too."""
        run = await find_run(self._sink, response.channel, response.id)
        return [each for each in run.responses if not each.ended] if run is not None else []

    def _stop(self, response: ResponseWriter, task: asyncio.Task[None]) -> None:
        """The run was cancelled: stop the task, or what a thread reads."""
        if self._async:
            task.cancel()
            stop = self._insist(response, task)
        else:
            stop = self._stop_responses(response)
        stopping = asyncio.create_task(stop)
        self._stopping.add(stopping)
        stopping.add_done_callback(self._stopping.discard)

    async def _insist(self, response: ResponseWriter, task: asyncio.Task[None]) -> None:
        """Wait for the end of a cancelled task; cancel it again as long as its run is written to.

        A cancel can get lost: `asyncio.wait_for` of Python 3.11 forgets one that comes together
        with a result, and langchain-openai (1.7.4) waits with it for each chunk of a stream.
        An agent that has got the cancel, and looks after what it leaves, is not disturbed.
        """
        before: dict[str, int] = {}
        first, longest = _INSIST
        delay = first
        while not (await asyncio.wait({task}, timeout=delay))[0]:
            delay = min(2 * delay, longest)
            try:
                written = await self._written(response)
                if any(size > before.get(name, size) for name, size in written.items()):
                    task.cancel()
                    await self._stop_responses(response)
                    delay = first
                before = written
            except TokenwireError as problem:
                logger.warning("tokenwire: could not look after run %r: %s", response.id, problem)

    async def _written(self, response: ResponseWriter) -> dict[str, int]:
        """How much each open response of a run has, and how often its envelope was written late."""
        sizes = {
            each.id: sum(1 + len(part.text) for part in each.parts)
            for each in await self._streaming(response)
        }
        return {**sizes, "": response.late_writes}

    async def _stop_responses(self, response: ResponseWriter) -> None:
        try:
            for response_id in await self._open(response):
                await self._sink.acancel(
                    response.channel, response_id, reason=response.cancel_reason
                )
        except TokenwireError as problem:
            logger.warning("tokenwire: could not stop run %r: %s", response.id, problem)

    async def cancel(
        self,
        channel: str,
        *,
        run: str | None = None,
        reason: str | None = None,
        patience: float = 0.0,
    ) -> list[CancelOutcome]:
        """Stop the run that is under way in a channel, in whichever process it is.

        One that is being started here is stopped as it begins.

        :param run: only this one.
        :param patience: seconds to wait for a run where there is none: the request that starts it
            may be on its way, to this server or to another.
        :return: the outcomes: first that of the envelope, where there is one;
            empty when nothing was under way.
        """
        deadline = time.monotonic() + patience
        while True:
            outcomes = await self._cancel_now(channel, run, reason)
            left = deadline - time.monotonic()
            if outcomes is not None or left <= 0:
                return outcomes or []
            await asyncio.sleep(min(_LOOK, left))

    async def _cancel_now(
        self, channel: str, run: str | None, reason: str | None
    ) -> list[CancelOutcome] | None:
        """Do what `cancel` does, without patience; None where there is no such run."""
        unseen = [one for one, (where, _) in self._unseen.items() if where == channel]
        unseen = [one for one in unseen if run is None or one == run]
        active = await find_run(self._sink, channel, run)
        if active is None and not unseen:
            return None
        outcomes = await self._cancel_run(channel, active, reason) if active is not None else []
        for other in unseen:
            if active is None or other != active.id:
                outcomes.append(await self._sink.acancel(channel, other, reason=reason))
        return outcomes

    async def _cancel_run(
        self, channel: str, active: Run, reason: str | None
    ) -> list[CancelOutcome]:
        if not active.streaming:
            return []
        envelope = active.envelope
        outcomes: list[CancelOutcome] = []
        if envelope is not None and not envelope.ended:
            outcomes.append(await self._sink.acancel(channel, envelope.id, reason=reason))
            if outcomes[0].state != "streaming":
                return outcomes  # its process stops the rest
        left = [r.id for r in active.responses if not r.ended and r is not envelope]
        return outcomes + [
            await self._sink.acancel(channel, other, reason=reason) for other in left
        ]

    async def active(self, channel: str) -> Run | None:
        """The run that is under way in a channel, in whichever process."""
        run = await find_run(self._sink, channel)
        return run if run is not None and run.streaming else None

    async def aclose(self) -> None:
        """Stop the agents that run here, and wait for them."""
        for stopping in self._stopping:
            stopping.cancel()
        running = list(self._tasks.items())
        for task, _ in running:
            task.cancel()
        ends = [self._insist(response, task) for task, response in running]
        await asyncio.gather(*ends, *self._stopping, return_exceptions=True)
