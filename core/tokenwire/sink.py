"""`Sink`: the door to channels, for producers and watchers alike."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from tokenwire._clock import now_ms
from tokenwire._ids import check_name, new_id
from tokenwire._io import IoThread
from tokenwire._lifetime import sinks
from tokenwire._reading.registry import HubRegistry
from tokenwire._redact import redact
from tokenwire._requests import cancel, put_input
from tokenwire._results import CancelOutcome, Page, SinkStats
from tokenwire._writing.leases import LeaseKeeper
from tokenwire._writing.outbox import Outbox, Pace
from tokenwire._writing.pending import PendingEvent, PendingResponse
from tokenwire.backend import Backend, Entry
from tokenwire.context import current_run, resolve_channel
from tokenwire.errors import (
    Fenced,
    InvalidCursor,
    InvalidName,
    SinkClosed,
    TokenwireError,
)
from tokenwire.events import (
    DataEvent,
    InputEvent,
    ToolResultEvent,
    plain,
)
from tokenwire.watch import ChannelReader, Watch, parse_start
from tokenwire.writer import ResponseWriter, checked_id

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["CancelOutcome", "Page", "Sink", "SinkStats"]

logger = logging.getLogger("tokenwire")
T = TypeVar("T")

_MAX_PAGE = 1000
_OWN_WRITES = 1.0  # seconds that a history read waits for what this sink has just ended


class Sink:
    """Writes responses into channels of a backend and watches them. Thread-safe.

    Make one for a process with `open_sink`, and close it at the end; it is a context manager,
    also with `async`. One background thread with an event loop of its own does all I/O.

    :ivar backend: the backend underneath.
    :ivar strict: whether problems raise into the caller rather than being logged.
    :ivar lease: seconds after the death of a producer within which its responses are abandoned.
    :ivar grant: seconds that a response may go without a sign of life.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        rollup: float = 0,
        lease: float = 15.0,
        strict: bool = False,
        close_timeout: float = 5.0,
        ring_events: int = 2048,
        ring_bytes: int = 2**20,
    ) -> None:
        if not 0 <= rollup <= 500:
            raise ValueError(f"rollup must be from 0 to 500 milliseconds, not {rollup!r}")
        if not 0.05 <= lease <= 86400:
            raise ValueError(f"lease must be from 0.05 to 86400 seconds, not {lease!r}")
        self.backend = backend
        self.strict = strict
        self.lease = float(lease)
        # Watchers look for the dead every now and then (`reap_every`, give or take a fifth). What a
        # producer is granted leaves time for that, so that they know within `lease` seconds.
        self.grant = 0.8 * self.lease
        self.rollup = rollup
        self.close_timeout = close_timeout
        if rollup:
            backend.use_rollup(rollup)
        self._io = IoThread("tokenwire-io")
        self._outbox = Outbox(
            backend,
            self._io,
            rollup=rollup / 1000,
            on_problem=self._backend_problem,
            on_error=self._keep_problem,
        )
        self.hubs = HubRegistry(
            backend,
            self._io,
            ring_events=ring_events,
            ring_bytes=ring_bytes,
            reap_every=min(2.0, self.lease / 8),
        )
        self._open: dict[tuple[str, str], ResponseWriter] = {}
        self._controls = LeaseKeeper(backend, self._io, self._open, self._outbox, self.lease)
        self._problem: Exception | None = None
        self._closing = False
        self._lock = threading.RLock()  # a signal's handler, say, may write while it is held
        self._logged_at: dict[str, float] = {}
        sinks.add(self)

    # -- writing

    def respond(
        self,
        channel: str | Callable[[], str | None] | None = None,
        *,
        response_id: str | None = None,
        run: str | None = None,
        metadata: dict[str, Any] | None = None,
        raise_on_cancel: bool = False,
    ) -> ResponseWriter:
        """Begin a response. Returns at once, whatever the backend does.

        :param channel: its name, or a function that gives it; by default the context's (see
            `tokenwire.context.resolve_channel`).
        :param response_id: unique in the channel; made up where not given.
        :param run: the agent run it belongs to; by default the context's, else its own id.
        :param metadata: anything JSON can hold; watchers see it.
        :param raise_on_cancel: have writes raise `ResponseCancelled` once a watcher cancels. By
            default they return False.
        :raises TokenwireError: in strict mode, when a name is wrong or the sink is closed. Else
            the response goes nowhere, with a warning.
        """
        error: TokenwireError | None = None
        if isinstance(channel, str):
            try:
                name = check_name(channel, "channel")
            except InvalidName as wrong:
                error, name = wrong, "invalid"
        else:
            name = resolve_channel(channel)
        try:
            response_id = checked_id(response_id, "response id") or new_id("r-")
            run = checked_id(run, "run") or current_run() or response_id
        except InvalidName as wrong:
            error, response_id, run = wrong, new_id("r-"), None
        told: Any = plain(metadata or {})
        writer = ResponseWriter(
            self,
            name,
            response_id,
            run=run,
            metadata=cast("dict[str, Any]", told) if isinstance(told, dict) else {},
            fence=new_id(),
            raise_on_cancel=raise_on_cancel,
        )
        with self._lock:
            if error is None and self._closing:
                error = SinkClosed("this sink is closed; open a new one")
            if error is None and (name, response_id) in self._open:
                error = Fenced(f"response {response_id!r} is being written in channel {name!r}")
            if error is None:
                self._open[name, response_id] = writer
        if error is not None:
            writer.detach(error)
            self.problem(error)
            return writer
        self._outbox.stats.responses += 1
        self.mark(writer.slot, True)
        self._controls.want(name)
        self.flush_inline()
        return writer

    def tool_result(
        self,
        channel: str,
        call_id: str,
        output: Any = None,
        *,
        response_id: str | None = None,
        run: str | None = None,
        name: str | None = None,
        error: str | None = None,
    ) -> None:
        """Tell what a tool answered, also after the response that called it has ended."""
        event = ToolResultEvent(
            call_id=str(plain(str(call_id))),
            response_id=response_id,
            run=run or current_run(),
            name=name,
            output=plain(output),
            error=None if error is None else redact(str(error)),
            ts=now_ms(),
        )
        # One of a response of this sink must not overtake what is still on its way: it goes along
        # with a response that streams, and behind one that has ended.
        writer = self._open.get((channel, response_id)) if response_id is not None else None
        if writer is not None and writer.add_tool_result(event):
            self.flush_inline()
            return
        key = f"tool-result:{response_id}:{event.call_id}"
        self._send(channel, event, key=key, behind=None if writer is None else writer.slot)

    def data(
        self,
        channel: str,
        name: str,
        data: Any = None,
        *,
        response_id: str | None = None,
        run: str | None = None,
    ) -> None:
        """Put a data event of your own into a channel."""
        key = new_id("d-")
        event = DataEvent(
            name=str(plain(name)),
            data=plain(data),
            id=key,
            response_id=response_id,
            run=run or current_run(),
            ts=now_ms(),
        )
        self._send(channel, event, key=key)

    def _send(
        self,
        channel: str,
        event: ToolResultEvent | DataEvent,
        *,
        key: str,
        behind: PendingResponse | None = None,
    ) -> None:
        """Hand an event of its own to the outbox; never raises but in strict mode."""
        try:
            entry = Entry(channel=check_name(channel, "channel"), events=(event,), key=key)
            if self._closing:
                raise SinkClosed("this sink is closed; open a new one")
        except TokenwireError as error:
            self.problem(error)
            return
        self.mark(PendingEvent(entry, behind), True)
        self.flush_inline()

    # -- watching

    def watch(
        self,
        channel: str,
        *,
        after: str | None = None,
        rewind: str | int | None = None,
        response: str | None = None,
        known: Collection[str] = (),
        types: Collection[str] | None = None,
    ) -> Watch:
        """Watch a channel, with ``async for`` or ``for``.

        Without `after` and `rewind` it is live: snapshots of what is streaming, then what comes.

        :param after: a cursor: go on right after it.
        :param rewind: start in the past: ``"30s"``, ``"2m"``, a count of items, or ``"all"``.
        :param response: only this response, from its beginning; ends when it has ended.
        :param known: ids of responses the caller has already; nothing is told of them.
        :param types: only events of these types.
        :raises InvalidName, InvalidCursor, ValueError: for arguments that cannot be; a cursor
            that is well-formed but unknown to the channel is found when iteration begins.
        :raises SinkClosed: when the sink is closed.
        """
        return Watch(
            self.reader(
                channel, after=after, rewind=rewind, response_id=response, known=known, types=types
            )
        )

    def reader(
        self,
        channel: str,
        *,
        after: str | None = None,
        rewind: str | int | None = None,
        response_id: str | None = None,
        known: Collection[str] = (),
        types: Collection[str] | None = None,
    ) -> ChannelReader:
        """Read a channel in batches, for a gateway; arguments and errors are those of `watch`."""
        check_name(channel, "channel")
        checked_id(response_id, "response id")
        start, midway = parse_start(self.backend, after, rewind, response_id)
        if self._closing:
            raise SinkClosed("this sink is closed; open a new one")
        return ChannelReader(
            self._io, self.hubs, channel, start, midway=midway, known=known, types=types
        )

    async def inputs(
        self, channel: str, *, after: str | None = None, rewind: str | int | None = None
    ) -> AsyncIterator[InputEvent]:
        """The inputs that watchers send to `channel`, for an agent to read. Endless."""
        async with self.watch(channel, after=after, rewind=rewind, types={"input"}) as watch:
            async for event in watch:
                if isinstance(event, InputEvent):
                    yield event

    def history(self, channel: str, *, limit: int = 20, before: str | None = None) -> Page:
        """Read responses, newest first. Blocks.

        :param limit: how many at most, from 1 to 1000.
        :param before: the page token `Page.before`.
        :raises InvalidName, InvalidCursor, ValueError: for arguments that cannot be.
        :raises BackendUnavailable: when the backend cannot be read.
        """
        return self._io.run(self._history(channel, limit, before))

    async def ahistory(self, channel: str, *, limit: int = 20, before: str | None = None) -> Page:
        """Do what `history` does, without blocking the loop."""
        return await self._io.arun(self._history(channel, limit, before))

    async def _history(self, channel: str, limit: int, before: str | None) -> Page:
        check_name(channel, "channel")
        if not 1 <= limit <= _MAX_PAGE:
            raise ValueError(f"limit must be from 1 to {_MAX_PAGE}, not {limit!r}")
        if before is not None and not 0 < len(before) <= 512:
            raise InvalidCursor("a page token has 1 to 512 characters")
        await self._own_writes(channel)
        page = await self.backend.history(channel, limit=limit, before=before)
        return Page(self, channel, limit, page)

    async def _own_writes(self, channel: str) -> None:
        """Wait a little for what this sink has ended in `channel`, so that it reads its writes."""
        ended = [
            asyncio.wrap_future(writer.settled())
            for (name, _), writer in list(self._open.items())
            if name == channel and writer.ended
        ]
        if ended:
            await asyncio.wait(ended, timeout=_OWN_WRITES)

    # -- talking back

    def cancel(
        self, channel: str, response_id: str, *, reason: str | None = None, timeout: float = 10.0
    ) -> CancelOutcome:
        """Stop a response, from anywhere, and wait for the outcome. Blocks.

        :param reason: shown to watchers and to the producer.
        :param timeout: how long to wait for its producer, in seconds.
        :raises InvalidName: for names that cannot be.
        :raises BackendUnavailable: when the backend did not take the cancel in time.
        """
        return self._io.run(cancel(self, channel, response_id, reason, timeout))

    async def acancel(
        self, channel: str, response_id: str, *, reason: str | None = None, timeout: float = 10.0
    ) -> CancelOutcome:
        """Do what `cancel` does, without blocking the loop."""
        return await self._io.arun(cancel(self, channel, response_id, reason, timeout))

    def input(
        self,
        channel: str,
        name: str,
        data: Any = None,
        *,
        sender: str | None = None,
        id: str | None = None,
        timeout: float = 10.0,
    ) -> str:
        """Send a named message to the agent of a channel; return its cursor. Blocks.

        :param id: names the message; the same id again (a retry) puts nothing in the channel.
        :raises InvalidName: for names that cannot be.
        :raises BackendUnavailable: when the backend did not take it in time.
        """
        return self._io.run(put_input(self, channel, name, data, sender, id, timeout))

    async def ainput(
        self,
        channel: str,
        name: str,
        data: Any = None,
        *,
        sender: str | None = None,
        id: str | None = None,
        timeout: float = 10.0,
    ) -> str:
        """Do what `input` does, without blocking the loop."""
        return await self._io.arun(put_input(self, channel, name, data, sender, id, timeout))

    # -- ending

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was written is with the backend; False after `timeout` s. Blocks."""
        if not self._io.running:
            return True
        try:
            self._io.run(self._outbox.idle(), self.close_timeout if timeout is None else timeout)
        except TimeoutError:
            return False
        self._raise_problem()
        return True

    async def aflush(self, timeout: float | None = None) -> bool:
        """Do what `flush` does, without blocking the loop."""
        if not self._io.running:
            return True
        try:
            async with asyncio.timeout(self.close_timeout if timeout is None else timeout):
                await self._io.arun(self._outbox.idle())
        except TimeoutError:
            return False
        self._raise_problem()
        return True

    def close(self, timeout: float | None = None) -> bool:
        """End open responses as abandoned, flush for at most `timeout` seconds, let go of all.

        Idempotent. Watches end. The backend is closed with the sink.

        :param timeout: by default the sink's `close_timeout`.
        :return: whether everything written reached the backend.
        """
        if not self._begin_close():
            return True
        flushed = True
        if self._io.running:
            limit = self.close_timeout if timeout is None else timeout
            try:
                flushed = self._io.run(self._shut(limit), limit + 5)
            except TimeoutError:
                flushed = False
            self._io.stop(2.0)
        self._closed(flushed)
        return flushed

    async def aclose(self, timeout: float | None = None) -> bool:
        """Do what `close` does, without blocking the loop."""
        if not self._begin_close():
            return True
        flushed = True
        if self._io.running:
            limit = self.close_timeout if timeout is None else timeout
            try:
                async with asyncio.timeout(limit + 5):
                    flushed = await self._io.arun(self._shut(limit))
            except TimeoutError:
                flushed = False
            self._io.stop(0)
        self._closed(flushed)
        return flushed

    def _begin_close(self) -> bool:
        with self._lock:
            if self._closing:
                return False
            self._closing = True
            writers = list(self._open.values())
        for writer in writers:
            writer.abandon("its producer closed the sink")
        return True

    async def _shut(self, timeout: float) -> bool:
        flushed = True
        try:
            async with asyncio.timeout(timeout):
                await self._outbox.idle()
        except TimeoutError:
            flushed = False
        await self._controls.close()
        await self.hubs.close()
        try:
            await self.backend.close()
        except Exception:
            logger.warning("tokenwire: closing the backend failed", exc_info=True)
        return flushed

    def _closed(self, flushed: bool) -> None:
        sinks.discard(self)
        if not flushed:
            logger.warning(
                "tokenwire: closed with %d responses or entries not delivered",
                self._outbox.waiting,
            )
        self._raise_problem()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    # -- for writers, adapters and the gateway

    @property
    def closed(self) -> bool:
        """Whether the sink was closed."""
        return self._closing

    def stats(self) -> SinkStats:
        """Counters since the sink was opened."""
        return SinkStats(
            writing=self._outbox.stats,
            reading=self.hubs.stats,
            open=len(self._open),
            waiting=self._outbox.waiting,
            watchers=self.hubs.watchers,
            channels=self.hubs.channels,
        )

    def mark(self, item: PendingResponse | PendingEvent, urgent: bool) -> None:
        """Have the outbox look at `item`."""
        try:
            self._outbox.mark(item, urgent=urgent)
        except SinkClosed as error:
            self.problem(error)

    @property
    def pace(self) -> Pace:
        """When writing threads are to call `keep_pace`."""
        return self._outbox.pace

    def keep_pace(self) -> None:
        """Publish what has gathered, where the backend can publish inline."""
        try:
            self._outbox.keep_pace()
        except SinkClosed as error:
            self.problem(error)

    def flush_inline(self) -> None:
        """Publish here and now, where the backend can."""
        if self.backend.capabilities.inline:
            try:
                self._outbox.flush_inline()
            except SinkClosed as error:
                self.problem(error)

    def call_soon(self, function: Callable[..., object], *args: Any) -> None:
        """Call `function` on the I/O thread, soon; not at all once the sink is closed."""
        try:
            self._io.call(function, *args)
        except SinkClosed:
            logger.debug("tokenwire: closed before %r could be called", function)

    def count_tokens(self, tokens: int) -> None:
        """Count what was written."""
        self._outbox.stats.tokens += tokens

    def forget(self, writer: ResponseWriter) -> None:
        """Let go of a response that is with the backend, or given up."""
        with self._lock:
            key = (writer.channel, writer.id)
            if self._open.get(key) is writer:
                del self._open[key]

    def problem(self, error: Exception) -> None:
        """Deal with something that must not harm the agent: raise in strict mode, else log."""
        if self.strict and not self._io.here:
            raise error
        self._keep_problem(error)

    def _keep_problem(self, error: Exception) -> None:
        """Deal with a problem where nobody who writes could be told; in strict mode, tell later."""
        if self.strict:
            self._problem = self._problem or error
        else:
            self._log_once(str(error))

    def _backend_problem(self, message: str) -> None:
        logger.warning("tokenwire: %s", message)

    def _log_once(self, message: str) -> None:
        """Log, but the same thing at most once a minute."""
        now = time.monotonic()
        last = self._logged_at.get(message)
        if last is None or now - last >= 60:
            if len(self._logged_at) >= 256:
                self._logged_at.clear()
            self._logged_at[message] = now
            logger.warning("tokenwire: %s", message)

    def _raise_problem(self) -> None:
        problem, self._problem = self._problem, None
        if problem is not None and self.strict:
            raise problem

    def run_blocking(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine on the I/O thread and wait for it (for adapters and tools)."""
        return self._io.run(coroutine, timeout)

    def after_fork(self) -> None:
        """Make the sink usable in a forked child; its parent goes on with what it has open."""
        self._lock = threading.RLock()  # a signal's handler, say, may write while it is held
        self._io.after_fork()
        self._outbox.after_fork()
        self.hubs.after_fork()
        self.backend.after_fork()
        self._controls.after_fork()
        for writer in list(self._open.values()):
            writer.detach()
        self._open.clear()
