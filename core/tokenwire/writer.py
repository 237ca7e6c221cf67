"""`ResponseWriter`: what an agent, or an adapter for it, writes a response with."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Self, cast

from tokenwire._clock import now_ms
from tokenwire._ids import check_name
from tokenwire._receipt import Receipt
from tokenwire._redact import describe, redact
from tokenwire._text import well_formed
from tokenwire._writing.draft import Draft, PartSpec
from tokenwire._writing.pending import PendingResponse
from tokenwire.backend import Entry
from tokenwire.errors import (
    BackendError,
    ResponseCancelled,
    ResponseClosed,
    TokenwireError,
)
from tokenwire.events import CancelEvent, EndEvent, StartEvent, State, ToolResultEvent, plain

if TYPE_CHECKING:
    from types import TracebackType

    from tokenwire.sink import Sink

__all__ = ["PartWriter", "Receipt", "ResponseWriter"]

logger = logging.getLogger("tokenwire")


class PartWriter(PartSpec):
    """Writes one part of a response: use it where several parts grow side by side."""

    __slots__ = ("_writer",)

    def __init__(self, writer: ResponseWriter, kind: str, **fields: Any) -> None:
        super().__init__(kind, **fields)
        self._writer = writer

    def write(self, text: str) -> bool:
        """Append text to this part; for a tool call, to its arguments (see `ResponseWriter`)."""
        return self._writer._text(self, text)  # pyright: ignore[reportPrivateUsage]


class ResponseWriter:
    """One response being written. Made by `Sink.respond`; a context manager, also with `async`.

    Every method may be called from any thread, with or without an event loop; none blocks, and
    none raises because of the backend (in strict mode they do). Leaving the block without an error
    ends the response as ``complete``; an exception ends it as ``failed``;
    `asyncio.CancelledError`, `GeneratorExit` and `KeyboardInterrupt` end it as ``cancelled``.

    :ivar id: the response's id; `channel` and `run` likewise.
    """

    def __init__(
        self,
        sink: Sink,
        channel: str,
        response_id: str,
        *,
        run: str | None,
        metadata: dict[str, Any],
        fence: str,
        raise_on_cancel: bool,
    ) -> None:
        self.channel = channel
        self.id = response_id
        self.run = run
        self._sink = sink
        self._inline = sink.backend.capabilities.inline
        self._pace = sink.pace
        self._raise_on_cancel = raise_on_cancel
        self._ops: deque[tuple[object, str | None]] = deque()
        self._lock = threading.RLock()  # a signal's handler, say, may write while it is held
        self._state: State = "streaming"
        self._cancel: CancelEvent | None = None
        self._callbacks: list[Callable[[], object]] = []
        self._calls: dict[str, PartWriter] = {}
        self._error: BackendError | None = None
        self._detached = False
        self._fresh = True  # the first text does not wait for a rollup window
        self._done = False  # it is with the backend, or given up
        self._waiters: list[concurrent.futures.Future[Receipt]] = []
        start = StartEvent(
            response_id=response_id, channel=channel, run=run, metadata=metadata, ts=now_ms()
        )
        draft = Draft(start, channel, sink.backend.granularity)
        entry = Entry(
            channel=channel, events=(), response_id=response_id, fence=fence, lease=sink.grant
        )
        self.slot = PendingResponse(self, draft, entry)

    # -- writing

    def write(
        self,
        text: str,
        *,
        kind: str = "text",
        name: str | None = None,
        call_id: str | None = None,
    ) -> bool:
        """Append text, to the last part where that is of the same kind, else to a new one.

        :param kind: ``text``, ``reasoning``, ``refusal``, ``tool_call`` or a kind of your own.
        :param name: of the tool, with ``kind="tool_call"``.
        :param call_id: which tool call the text belongs to; one part for each.
        :return: False when the response has ended (it may have been cancelled), and in strict
            mode never False.
        :raises ResponseCancelled: after a cancel, where the response was begun with
            ``raise_on_cancel=True``.
        :raises ResponseClosed: in strict mode, after the end.
        """
        if name is not None or call_id is not None:
            return self._part_of_call(kind, name, call_id).write(text)
        return self._text(kind, text)

    def part(
        self,
        kind: str,
        *,
        name: str | None = None,
        call_id: str | None = None,
        data: Any = None,
        text: str = "",
    ) -> PartWriter:
        """Begin a part of its own.

        :param data: anything JSON can hold (other things become their `str`).
        :param text: its first text.
        :return: its writer, for more text.
        """
        made = PartWriter(
            self,
            kind if isinstance(kind, str) and kind else "data",
            name=None if name is None else well_formed(str(name)),
            call_id=None if call_id is None else well_formed(str(call_id)),
            data=plain(data),
        )
        if self._put(made, text or None) and made.call_id is not None:
            self._calls.setdefault(made.call_id, made)
        return made

    def tool_call(self, name: str, call_id: str, arguments: str = "") -> PartWriter:
        """Begin a tool call; its arguments may grow through the writer returned."""
        return self.part("tool_call", name=name, call_id=call_id, text=arguments)

    def tool_result(
        self,
        call_id: str,
        output: Any = None,
        *,
        name: str | None = None,
        error: str | None = None,
    ) -> bool:
        """Tell what a tool of this response answered. Once it has ended: `Sink.tool_result`."""
        event = ToolResultEvent(
            call_id=well_formed(str(call_id)),
            response_id=self.id,
            run=self.run,
            name=name,
            output=plain(output),
            error=None if error is None else redact(str(error)),
            ts=now_ms(),
        )
        return self._put(event, None)

    def add_tool_result(self, event: ToolResultEvent) -> bool:
        """Take a tool's answer that was told to the sink; False once the response has ended."""
        with self._lock:  # an end comes before or after, not between
            return self._state == "streaming" and self._put(event, None)

    def data(self, name: str, data: Any) -> bool:
        """Add a data part."""
        self.part("data", name=name, data=data)
        return not self.ended

    def _part_of_call(self, kind: str, name: str | None, call_id: str | None) -> PartWriter:
        known = self._calls.get(call_id) if call_id is not None else None
        return known or self.part(kind, name=name, call_id=call_id)

    def _text(self, target: object, text: str) -> bool:
        """The hot path: some 200 ns."""
        if self._state != "streaming":
            return self._refuse()
        if not isinstance(text, str):
            self._sink.problem(TypeError(f"text must be a str, not {type(text).__name__}"))
            return False
        self._ops.append((target, text))
        slot = self.slot
        if not slot.dirty:
            self._sink.mark(slot, self._fresh)
            self._fresh = False
        elif self._inline and monotonic() >= self._pace.due:
            self._sink.keep_pace()
        return True

    def _put(self, target: object, text: str | None) -> bool:
        if self._state != "streaming":
            return self._refuse()
        self._ops.append((target, text))
        self._sink.mark(self.slot, True)
        return True

    def _refuse(self) -> bool:
        if self._cancel is not None and self._raise_on_cancel:
            raise ResponseCancelled(self.id, self._cancel.reason)
        if self._cancel is None and not self._detached:
            error = self._error or ResponseClosed(f"response {self.id!r} has ended")
            self._sink.problem(error)
        return False

    # -- ending

    def finish(self, finish_reason: str | None = None, usage: Any = None) -> bool:
        """End the response as complete. Only the first end counts.

        :param finish_reason: as the provider gives it.
        :param usage: token counts, a mapping or a provider's own object.
        :return: whether this call ended it.
        """
        return self._end("complete", finish_reason=finish_reason, usage=usage)

    def fail(
        self,
        error: BaseException | str,
        *,
        finish_reason: str | None = None,
        usage: Any = None,
    ) -> bool:
        """End the response as failed. Watchers see `error`, without what looks like a secret."""
        return self._end("failed", error=error, finish_reason=finish_reason, usage=usage)

    def cancel(
        self,
        reason: BaseException | str | None = None,
        *,
        finish_reason: str | None = None,
        usage: Any = None,
    ) -> bool:
        """End the response as cancelled, from the producer's side."""
        return self._end("cancelled", error=reason, finish_reason=finish_reason, usage=usage)

    def abandon(self, reason: str) -> bool:
        """End the response as abandoned: its producer goes away without knowing how it ends."""
        return self._end("abandoned", error=reason)

    def _end(
        self,
        state: State,
        *,
        error: BaseException | str | None = None,
        finish_reason: str | None = None,
        usage: Any = None,
        cancel: CancelEvent | None = None,
    ) -> bool:
        with self._lock:
            if self._state != "streaming":
                return False
            self._state = state
            self._cancel = cancel
        told: Any = plain(usage)
        event = EndEvent(
            response_id=self.id,
            state=state,
            finish_reason=None if finish_reason is None else well_formed(str(finish_reason)),
            usage=cast("dict[str, Any]", told) if isinstance(told, dict) else None,
            error=describe(error),
            ts=now_ms(),
        )
        self._ops.append((event, None))
        if self._detached:
            self._settle()
        else:
            self._sink.mark(self.slot, True)
            self._sink.flush_inline()
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        # `bool | None`, not `bool`: but for its own cancel, the block swallows nothing, and type
        # checkers should not think that code in it may be skipped.
        if error is None:
            self.finish()
        elif isinstance(error, ResponseCancelled) and error.response_id == self.id:
            self.cancel(error.reason)
            return True
        elif isinstance(
            error, asyncio.CancelledError | GeneratorExit | KeyboardInterrupt | ResponseCancelled
        ):
            self.cancel()
        else:
            self.fail(error)
        return False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return self.__exit__(kind, error, traceback)

    # -- what became of it

    @property
    def state(self) -> State:
        """Where the response stands, as its producer knows it."""
        return self._state

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._state != "streaming"

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled, by a watcher or by its producer."""
        return self._state == "cancelled"

    @property
    def cancel_reason(self) -> str | None:
        """What the watcher who cancelled gave as the reason."""
        return self._cancel.reason if self._cancel else None

    def on_cancel(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call `callback` when a watcher cancels (now, if one has).

        It runs on the sink's I/O thread, so it must be quick: close a stream, set an event, call
        `loop.call_soon_threadsafe`. What it raises is logged. It is not called for other ends.

        :return: a function that takes the callback back.
        """
        with self._lock:
            if self._cancel is None:
                self._callbacks.append(callback)
        if self._cancel is not None:
            _call(callback)

        def undo() -> None:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return undo

    @property
    def receipt(self) -> Receipt:
        """How its delivery stands."""
        slot = self.slot
        if slot.lost:
            status: Any = "lost"
        elif self._error is not None:
            status = "refused"
        elif not slot.done:
            status = "pending"
        else:
            status = "recovered" if slot.recoveries else "delivered"
        return Receipt(
            status=status,
            cursor=slot.cursor,
            retries=slot.retries,
            recoveries=slot.recoveries,
            error=None if self._error is None else str(self._error),
        )

    def wait(self, timeout: float | None = None) -> Receipt:
        """Wait until the ended response is with the backend, or given up; at most `timeout` s."""
        try:
            return self.settled().result(timeout)
        except concurrent.futures.TimeoutError:
            return self.receipt

    async def await_(self, timeout: float | None = None) -> Receipt:
        """Do what `wait` does, without blocking the loop."""
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.wrap_future(self.settled())
        except TimeoutError:
            return self.receipt

    def settled(self) -> concurrent.futures.Future[Receipt]:
        """The receipt, once the ended response is with the backend, or given up."""
        future: concurrent.futures.Future[Receipt] = concurrent.futures.Future()
        with self._lock:
            done = self._done
            if not done:
                self._waiters.append(future)
        if done:
            future.set_result(self.receipt)
        return future

    # -- called by the outbox and the sink

    def absorb(self, draft: Draft) -> None:
        """Move what was written into `draft` (I/O side)."""
        ops = self._ops
        before = draft.tokens
        target: object = None
        texts: list[str | None] = []
        while ops:
            to, text = ops.popleft()
            if to is not target or text is None:
                draft.put(target, texts)
                target, texts = to, []
            texts.append(text)
        draft.put(target, texts)
        self._sink.count_tokens(draft.tokens - before)

    def on_cancel_event(self, cancel: CancelEvent) -> None:
        """A watcher cancelled: freeze the text, end the response, tell who must stop."""
        if self._end("cancelled", error=cancel.reason, finish_reason="cancelled", cancel=cancel):
            with self._lock:
                callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:  # not here: the caller may hold the outbox's lock
                self._sink.call_soon(_call, callback)

    def on_outcome(self, slot: PendingResponse, error: BackendError | None) -> None:
        """An entry was taken, or (with `error`) writing must stop."""
        if error is not None:
            with self._lock:
                self._error = error
                if self._state == "streaming":
                    self._state = "abandoned"
        if slot.done:
            self._settle()
        if error is not None:
            self._sink.problem(error)

    def detach(self, error: TokenwireError | None = None) -> None:
        """Go nowhere: the sink cannot take this response (bad name, closed, forked)."""
        self._detached = True
        self.slot.done = True
        if isinstance(error, BackendError):
            self._error = error

    def _settle(self) -> None:
        self._sink.forget(self)
        with self._lock:
            self._done = True
            waiters, self._waiters = self._waiters, []
        for future in waiters:
            if future.set_running_or_notify_cancel():
                future.set_result(self.receipt)


def _call(callback: Callable[[], object]) -> None:
    try:
        callback()
    except Exception:
        logger.exception("tokenwire: a cancel callback failed")


def checked_id(value: str | None, what: str) -> str | None:
    """Check an optional id.

    :raises InvalidName: when it cannot be one.
    """
    return None if value is None else check_name(value, what)
