"""The writing side of a sink: its open responses, and every event it puts into a channel."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from tokenwire._clock import now_ms
from tokenwire._ids import check_name, checked_id, new_id
from tokenwire._io import IoThread
from tokenwire._lifetime import first_response_callbacks, run_first_response_callbacks
from tokenwire._observing import ResponseObservers
from tokenwire._options import OnCancel
from tokenwire._problems import Problems
from tokenwire._values import Arguments, id_text
from tokenwire._writing.draft import Draft
from tokenwire._writing.inline import InlineOutbox
from tokenwire._writing.leases import LeaseKeeper
from tokenwire._writing.outbox import Outbox
from tokenwire._writing.pending import PendingEvent, PendingResponse, tool_result_event
from tokenwire.backend import Backend, Entry, Outcome
from tokenwire.context import current_metadata, current_run, resolve_channel
from tokenwire.errors import ChannelMissing, Fenced, InvalidName, SinkClosed, TokenwireError
from tokenwire.events import (
    CancelEvent,
    DataEvent,
    InputEvent,
    StartEvent,
    ToolResultEvent,
)
from tokenwire.writer import ResponseWriter

__all__ = ["Producer"]

_OWN_WRITES = 1.0  # seconds that a history read waits for what this sink has just ended


class Producer:
    """Begins responses and sends single events, in order.

    :ivar closing: whether the sink is being closed: nothing new is taken.
    """

    def __init__(
        self,
        backend: Backend,
        io: IoThread,
        problems: Problems,
        *,
        rollup: float,
        lease: float,
        default_channel: str | None,
    ) -> None:
        self.closing = False
        self._default_channel = default_channel
        self._backend = backend
        self._problems = problems
        # Watchers look for dead producers every now and then (`reap_every`, give or take a fifth).
        # A producer's lease leaves time for that, so that watchers learn it within `lease` seconds.
        self._lease = 0.8 * lease
        outbox = InlineOutbox if backend.capabilities.inline else Outbox
        self.outbox = outbox(backend, io, problems, rollup=rollup)
        self._open: dict[tuple[str, str], PendingResponse] = {}
        self._writers: dict[tuple[str, str], ResponseWriter] = {}
        self._leases = LeaseKeeper(backend, io, self._open, self.outbox, lease)
        self.observers = ResponseObservers()
        self._lock = threading.RLock()  # a signal's handler, say, may write while it is held

    @property
    def open(self) -> int:
        """How many responses are being written."""
        return len(self._open)

    # -- responses

    def begin(
        self,
        channel: str | Callable[[], str | None] | None,
        response_id: str | None,
        run: str | None,
        metadata: dict[str, Any] | None,
        on_cancel: OnCancel,
    ) -> ResponseWriter:
        """Begin a response (see `Sink.respond`)."""
        error: TokenwireError | None = None
        try:
            name = self._channel(channel)
        except (InvalidName, ChannelMissing) as unusable:
            error, name = unusable, "invalid"
        args = Arguments()
        try:
            response_id = checked_id(id_text(response_id), "response id") or new_id("r-")
        except InvalidName as invalid:
            error, response_id = invalid, new_id("r-")
        run = args.identifier("run", run) or current_run() or response_id
        start_metadata = args.mapping("metadata", metadata) or {}
        around = current_metadata()
        if around:
            start_metadata = {**(args.mapping("metadata", around) or {}), **start_metadata}
        if error is None:
            self._problems.check(args)
        pending = self._pending(name, response_id, run, start_metadata)
        writer = ResponseWriter(
            pending,
            self.outbox,
            self._problems,
            on_cancel=on_cancel,
            on_settled=self._release,
        )
        key = (name, response_id)
        with self._lock:
            if error is None and self.closing:
                error = SinkClosed("this sink is closed; open a new one")
            if error is None and key in self._open:
                error = Fenced(f"response {response_id!r} is being written in channel {name!r}")
            if error is None:
                self._open[key] = pending
                self._writers[key] = writer
        if error is not None:
            pending.discard(error)
            self._problems.report(error)
            return writer
        self.outbox.stats.responses += 1
        self.observers.began(writer)
        if first_response_callbacks:
            run_first_response_callbacks()
        self.outbox.mark(pending, True)
        self._leases.want(name)
        self.outbox.flush()
        return writer

    def _channel(self, channel: str | Callable[[], str | None] | None) -> str:
        """The channel of a response or a single event.

        :raises InvalidName: when its name cannot be one.
        :raises ChannelMissing: when nothing names one, and the sink has no default.
        """
        if isinstance(channel, str):
            return check_name(channel, "channel")
        name = resolve_channel(channel, default=self._default_channel)
        if name is None:
            raise ChannelMissing(
                "no channel named, and this sink has no default_channel: nothing is published."
                " Name one with channel=, tokenwire.channel(...) or $TOKENWIRE_CHANNEL"
            )
        return name

    def _pending(
        self, channel: str, response_id: str, run: str | None, metadata: dict[str, Any]
    ) -> PendingResponse:
        start = StartEvent(
            response_id=response_id,
            channel=channel,
            run=run,
            metadata=metadata,
            ts=now_ms(),
        )
        entry = Entry(
            channel=channel,
            events=(),
            response_id=response_id,
            fence=new_id(),
            lease=self._lease,
        )
        return PendingResponse(Draft(start, channel, self._backend.granularity), entry)

    def _release(self, pending: PendingResponse) -> None:
        """Drop a response that is with the backend, or given up."""
        key = (pending.template.channel, pending.draft.start.response_id)
        with self._lock:
            if self._open.get(key) is not pending:
                return
            del self._open[key]
            writer = self._writers.pop(key)
        self.observers.ended(writer, pending)

    # -- single events

    def tool_result(
        self,
        channel: str | None,
        call_id: str,
        output: Any,
        *,
        response_id: str | None,
        run: str | None,
        name: str | None,
        error: str | None,
    ) -> None:
        """Add the result of a tool call (see `Sink.tool_result`)."""
        args = Arguments()
        response_id = args.identifier("response id", response_id)
        event = tool_result_event(
            args,
            call_id,
            output,
            response_id=response_id,
            run=args.identifier("run", run) or current_run(),
            name=name,
            error=error,
        )
        self._problems.check(args)
        # One of a response of this sink must not overtake what is still on its way: it goes along
        # with a response that streams, and behind one that has ended.
        behind: PendingResponse | None = None
        if channel is None:
            channel = resolve_channel(default=self._default_channel)
        if response_id is not None and isinstance(channel, str):
            key = (channel, response_id)
            behind, writer = self._open.get(key), self._writers.get(key)
            if writer is not None and writer._offer(event):  # pyright: ignore[reportPrivateUsage]
                self.outbox.flush()
                return
        name_of_event = f"tool-result:{response_id}:{event.call_id}"
        self._send(channel, event, key=name_of_event, behind=behind)

    def event(
        self,
        channel: str | None,
        name: str,
        data: Any,
        *,
        response_id: str | None,
        run: str | None,
        transient: bool = False,
    ) -> None:
        """Send a data event (see `Sink.send_event`)."""
        args = Arguments()
        event = DataEvent(
            name=args.text("name", name) or "",
            data=args.value("data", data),
            id=new_id("d-"),
            response_id=args.identifier("response id", response_id),
            run=args.identifier("run", run) or current_run(),
            transient=bool(transient),
            ts=now_ms(),
        )
        self._problems.check(args)
        self._send(channel, event, key=event.id)

    def _send(
        self,
        channel: str | None,
        event: ToolResultEvent | DataEvent,
        *,
        key: str | None,
        behind: PendingResponse | None = None,
    ) -> None:
        """Hand a single event to the outbox; never raises but in strict mode."""
        try:
            entry = Entry(channel=self._channel(channel), events=(event,), key=key)
            self.check_open()
        except TokenwireError as error:
            self._problems.report(error)
            return
        self.outbox.mark_event(PendingEvent(entry, behind))
        self.outbox.flush()

    async def deliver(self, channel: str, event: CancelEvent | InputEvent, key: str) -> Outcome:
        """Publish a single event and wait until it is in the log.

        :raises InvalidName: when `channel` cannot be a name.
        :raises PublishRejected: when the backend will not take it.
        """
        entry = Entry(channel=check_name(channel, "channel"), events=(event,), key=key)
        pending = PendingEvent(entry)
        self.outbox.mark(pending, True)
        return await asyncio.wrap_future(pending.future)

    # -- reading what was written

    async def own_writes(self, channel: str) -> None:
        """Wait a little for what this sink has ended in `channel`, so that it reads its writes."""
        ended = [
            asyncio.wrap_future(pending.settled())
            for key, pending in list(self._open.items())
            if key[0] == channel and (writer := self._writers.get(key)) and writer.ended
        ]
        if ended:
            await asyncio.wait(ended, timeout=_OWN_WRITES)

    # -- closing and forking

    def check_open(self) -> None:
        """Check that the sink is not being closed.

        :raises SinkClosed: when it is.
        """
        if self.closing:
            raise SinkClosed("this sink is closed; open a new one")

    def begin_close(self) -> bool:
        """End open responses as abandoned, and take nothing new; False when that was done."""
        with self._lock:
            if self.closing:
                return False
            self.closing = True
            writers = list(self._writers.values())
        for writer in writers:
            writer.abandon("its producer closed the sink")
        return True

    async def close(self) -> None:
        """Stop listening for cancels and renewing leases (I/O thread)."""
        await self._leases.close()

    def after_fork(self) -> None:
        """Drop what the parent has open: the parent goes on with it."""
        self._lock = threading.RLock()
        self.observers.after_fork()
        self.outbox.after_fork()
        self._leases.after_fork()
        for pending in list(self._open.values()):
            pending.discard()
        self._open.clear()
        self._writers.clear()
