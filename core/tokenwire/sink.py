"""`Sink`: the door to channels, for producers and watchers alike."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Self

from tokenwire._administration.exporting import Export
from tokenwire._administration.facade import SinkAdministration
from tokenwire._administration.importing import ImportReport
from tokenwire._administration.listing import Channels
from tokenwire._ids import check_name, checked_id
from tokenwire._options import OnCancel, check_lease, check_page, check_rollup, choose_on_cancel
from tokenwire._public import PublicDir
from tokenwire._requests import Inputs
from tokenwire._results import (
    CancelOutcome,
    Distribution,
    EndStats,
    HubStats,
    OutboxStats,
    Page,
    ResponseSummary,
    SinkStats,
)
from tokenwire._runtime import Runtime
from tokenwire.backend import Backend, ChannelInfo, Deleted, Retention
from tokenwire.context import DEFAULT_CHANNEL
from tokenwire.watch import ChannelReader, Watch, parse_start
from tokenwire.writer import ResponseWriter

__all__ = [
    "CancelOutcome",
    "ChannelInfo",
    "Channels",
    "Deleted",
    "Distribution",
    "EndStats",
    "Export",
    "HubStats",
    "ImportReport",
    "Inputs",
    "OutboxStats",
    "Page",
    "ResponseSummary",
    "Retention",
    "Sink",
    "SinkStats",
]


class Sink(SinkAdministration, PublicDir):
    """Writes responses into channels of a backend and watches them. Thread-safe.

    Open one for a process with `open_sink`, and close it at the end; it is a context manager,
    also with `async`. One background thread with an event loop of its own does all I/O.
    A method that blocks has a twin for event loops, whose name begins with ``a``.

    :ivar backend: the backend underneath.
    :ivar strict: whether problems raise into the caller rather than being logged.
    :ivar rollup: seconds in which text gathers before it is published.
    :ivar lease: seconds after the death of a producer within which its responses are abandoned.
    :ivar close_timeout: seconds that `close` and `flush` wait at most, by default.
    :ivar default_channel: the channel of what names none; None: that is an error.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        rollup: float = 0,
        lease: float = 15.0,
        strict: bool = False,
        close_timeout: float = 5.0,
        default_channel: str | None = DEFAULT_CHANNEL,
        ring_events: int = 2048,
        ring_bytes: int = 2**20,
    ) -> None:
        self.backend = backend
        self.strict = strict
        self.rollup = check_rollup(rollup)
        self.lease = check_lease(lease)
        self.close_timeout = close_timeout
        self.default_channel = checked_id(default_channel, "default_channel")
        if rollup:
            backend.use_rollup(rollup)
        self._runtime = Runtime(
            backend,
            rollup=rollup,
            lease=self.lease,
            strict=strict,
            close_timeout=close_timeout,
            default_channel=default_channel,
            ring_events=ring_events,
            ring_bytes=ring_bytes,
        )

    # -- writing

    def respond(
        self,
        channel: str | Callable[[], str | None] | None = None,
        *,
        response_id: str | None = None,
        run: str | None = None,
        metadata: dict[str, Any] | None = None,
        on_cancel: OnCancel | None = None,
        raise_on_cancel: bool | None = None,
    ) -> ResponseWriter:
        """Begin a response. Returns at once, whatever the backend does.

        :param channel: its name, or a function that gives it; by default the context's (see
            `tokenwire.context.resolve_channel`), else the sink's `default_channel`.
        :param response_id: unique in the channel; made up where not given.
        :param run: the agent run it belongs to; by default the context's, else its own id.
        :param metadata: anything JSON can hold; watchers see it.
        :param on_cancel: what writes do once a watcher cancels: ``"end"`` (the default): they
            return False; ``"raise"``: they raise `ResponseCancelled`.
        :param raise_on_cancel: the older spelling: True is ``on_cancel="raise"``.
        :raises TokenwireError: in strict mode, when a name is wrong, no channel is named and
            there is no default one, or the sink is closed. Else the response goes nowhere, with a
            warning.
        :raises ValueError: for an `on_cancel` that cannot be.
        """
        policy = choose_on_cancel(on_cancel, raise_on_cancel, "end")
        return self._runtime.producer.begin(channel, response_id, run, metadata, policy)

    def tool_result(
        self,
        channel: str | None,
        call_id: str,
        output: Any = None,
        *,
        response_id: str | None = None,
        run: str | None = None,
        name: str | None = None,
        error: str | None = None,
    ) -> None:
        """Add what a tool answered, also after the response that called it has ended.

        Returns at once. Raises, in strict mode only, what `respond` does.

        :param channel: its name; None for the context's, as in `respond`. `send_event` likewise.
        """
        self._runtime.producer.tool_result(
            channel, call_id, output, response_id=response_id, run=run, name=name, error=error
        )

    def send_event(
        self,
        channel: str | None,
        name: str,
        data: Any = None,
        *,
        response_id: str | None = None,
        run: str | None = None,
        transient: bool = False,
    ) -> None:
        """Send an event of your own, a `DataEvent`, to a channel.

        Returns at once. Raises, in strict mode only, what `respond` does. For data that is a part
        of a response, see `ResponseWriter.data_part`.

        :param data: anything JSON can hold (other things become their `str`).
        :param transient: it is about the moment; pages that come later are not shown it.
        """
        self._runtime.producer.event(
            channel, name, data, response_id=response_id, run=run, transient=transient
        )

    def data(
        self,
        channel: str | None,
        name: str,
        data: Any = None,
        *,
        response_id: str | None = None,
        run: str | None = None,
    ) -> None:
        """Do what `send_event` does: its older name."""
        self.send_event(channel, name, data, response_id=response_id, run=run)

    # -- watching

    def watch(
        self,
        channel: str,
        *,
        after: str | None = None,
        rewind: str | int | None = None,
        response_id: str | None = None,
        known: Collection[str] = (),
        types: Collection[str] | None = None,
        response: str | None = None,
    ) -> Watch:
        """Watch a channel, with ``async for`` or ``for``.

        Without `after` and `rewind` it is live: snapshots of what is streaming, then what comes.

        :param after: a cursor: go on right after it.
        :param rewind: start in the past: ``"30s"``, ``"2m"``, a count of items, or ``"all"``.
        :param response_id: only this response, from its beginning; ends when it has ended.
        :param known: ids of responses the caller has already; their events are left out.
        :param types: only events of these types.
        :param response: the older name of `response_id`.
        :raises InvalidName, InvalidCursor, ValueError: for arguments that cannot be; a cursor
            that is well-formed but unknown to the channel is found when iteration begins.
        :raises SinkClosed: when the sink is closed.
        """
        if response is not None:
            if response_id is not None:
                raise ValueError("give response_id= only: response= is its older name")
            response_id = response
        reader = self.reader(
            channel, after=after, rewind=rewind, response_id=response_id, known=known, types=types
        )
        return Watch(reader)

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
        runtime = self._runtime
        runtime.producer.check_open()
        return ChannelReader(
            runtime.io, runtime.hubs, channel, start, midway=midway, known=known, types=types
        )

    def inputs(
        self, channel: str, *, after: str | None = None, rewind: str | int | None = None
    ) -> Inputs:
        """Read the inputs that watchers send to `channel`, with ``async for`` or ``for``. Endless.

        :param after: a cursor: go on right after it.
        :param rewind: start in the past, as `watch` does.
        :raises InvalidName, InvalidCursor, ValueError, SinkClosed: as `watch` does.
        """
        return Inputs(self.watch(channel, after=after, rewind=rewind, types={"input"}))

    def history(self, channel: str, *, limit: int = 20, before: str | None = None) -> Page:
        """Read responses, newest first. Blocks.

        :param limit: how many at most, from 1 to 1000.
        :param before: the page token `Page.before`.
        :raises InvalidName, InvalidCursor, ValueError: for arguments that cannot be.
        :raises BackendUnavailable: when the backend cannot be read.
        """
        return self._runtime.io.run(self._history(channel, limit, before))

    async def ahistory(self, channel: str, *, limit: int = 20, before: str | None = None) -> Page:
        """Do what `history` does, without blocking the loop."""
        return await self._runtime.io.arun(self._history(channel, limit, before))

    async def _history(self, channel: str, limit: int, before: str | None) -> Page:
        check_name(channel, "channel")
        check_page(limit, before)
        await self._runtime.producer.own_writes(channel)
        page = await self.backend.history(channel, limit=limit, before=before)
        return Page(
            page.items,
            page.next,
            fetch=lambda before: self.history(channel, limit=limit, before=before),
            afetch=lambda before: self.ahistory(channel, limit=limit, before=before),
        )

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
        return self._runtime.io.run(
            self._runtime.requests.cancel(channel, response_id, reason, timeout)
        )

    async def acancel(
        self, channel: str, response_id: str, *, reason: str | None = None, timeout: float = 10.0
    ) -> CancelOutcome:
        """Do what `cancel` does, without blocking the loop."""
        return await self._runtime.io.arun(
            self._runtime.requests.cancel(channel, response_id, reason, timeout)
        )

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
        :param timeout: how long to wait for the backend, in seconds.
        :raises InvalidName: for names that cannot be.
        :raises BackendUnavailable: when the backend did not take it in time.
        """
        return self._runtime.io.run(
            self._runtime.requests.send_input(channel, name, data, sender, id, timeout)
        )

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
        return await self._runtime.io.arun(
            self._runtime.requests.send_input(channel, name, data, sender, id, timeout)
        )

    # -- ending

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was written is with the backend. Blocks.

        :param timeout: seconds to wait at most; by default the sink's `close_timeout`.
        :return: False after the timeout.
        :raises BackendUnavailable: in strict mode, in place of False, and as soon as the backend is
            known to take nothing.
        """
        return self._runtime.flush(timeout)

    async def aflush(self, timeout: float | None = None) -> bool:
        """Do what `flush` does, without blocking the loop."""
        return await self._runtime.aflush(timeout)

    def close(self, timeout: float | None = None) -> bool:
        """End open responses as abandoned, flush, and release everything. Blocks. Idempotent.

        Watches end. The backend is closed with the sink.

        :param timeout: seconds to flush at most; by default the sink's `close_timeout`.
        :return: whether everything written reached the backend.
        :raises BackendUnavailable: in strict mode, when it did not; as `flush` does.
        """
        return self._runtime.close(timeout)

    async def aclose(self, timeout: float | None = None) -> bool:
        """Do what `close` does, without blocking the loop."""
        return await self._runtime.aclose(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    @property
    def closed(self) -> bool:
        """Whether the sink was closed."""
        return self._runtime.producer.closing

    def add_response_observer(
        self, observer: Callable[[ResponseSummary], object]
    ) -> Callable[[], None]:
        """Call `observer` for each response of this sink that has ended and was delivered.

        It runs in the context in which the response began, on the sink's I/O thread or on the
        producer's, so it must be quick. What it raises is logged.

        :return: a function that removes the observer.
        """
        return self._runtime.producer.observers.add(observer)

    def stats(self) -> SinkStats:
        """Counters since the sink was opened."""
        return self._runtime.stats()
