"""`ResponseWriter`: what an agent, or an adapter for it, writes a response with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any, Self

from tokenwire._io import require_asyncio
from tokenwire._options import OnCancel
from tokenwire._problems import Problems
from tokenwire._public import PublicDir
from tokenwire._results import Receipt
from tokenwire._values import Arguments
from tokenwire._writing.draft import PartSpec
from tokenwire._writing.ending import Ending
from tokenwire._writing.outbox import Outbox
from tokenwire._writing.pending import PendingResponse, tool_result_event
from tokenwire.errors import ResponseCancelled
from tokenwire.events import State, ToolResultEvent

__all__ = ["PartWriter", "Receipt", "ResponseWriter"]

_TEXT = "text"  # the default kind: the same object, so that a write need not look at its type


class PartWriter(PartSpec, PublicDir):
    """Writes one part of a response: use it where several parts grow side by side."""

    __slots__ = ("_append", "_pending", "_writer")

    def __init__(self, writer: ResponseWriter, kind: str, **fields: Any) -> None:
        super().__init__(kind, **fields)
        self._writer = writer
        self._pending = writer._pending  # pyright: ignore[reportPrivateUsage]
        self._append = self._pending.writes.append

    def write(self, text: str) -> bool:
        """Append text to this part; for a tool call, to its arguments (see `ResponseWriter`)."""
        # As `ResponseWriter._write_text` does, without the call.
        pending = self._pending
        if pending.state != "streaming" or not isinstance(text, str):
            return self._writer._write_text(self, text)  # pyright: ignore[reportPrivateUsage]
        append = self._append  # to call the attribute would be to look for a method first
        append((self, text))
        mark_at = pending.mark_at
        if mark_at is not None and monotonic() >= mark_at:
            self._writer._mark()  # pyright: ignore[reportPrivateUsage]
        return True


class ResponseWriter(PublicDir):
    """One response being written, from `Sink.respond`; a context manager, also with `async`.

    Every method may be called from any thread, with or without an event loop; none blocks, and
    none raises because of the backend (in strict mode they do). Leaving the block without an error
    ends the response as ``complete``; an exception ends it as ``failed``;
    `asyncio.CancelledError`, `GeneratorExit` and `KeyboardInterrupt` end it as ``cancelled``.

    :ivar id: the response's id; `channel` and `run` likewise.
    """

    def __init__(
        self,
        pending: PendingResponse,
        outbox: Outbox,
        problems: Problems,
        *,
        on_cancel: OnCancel,
        on_settled: Callable[[PendingResponse], None],
    ) -> None:
        start = pending.draft.start
        self.channel = pending.template.channel
        self.id = start.response_id
        self.run = start.run
        self._pending = pending
        self._outbox = outbox
        self._problems = problems
        self._ending = Ending(pending, outbox, problems, on_settled, on_cancel == "raise")
        self._calls: dict[str | None, PartWriter] = {}
        self._fresh = True  # the first text does not wait for a rollup window

    # -- writing

    def write(
        self, text: str, *, kind: str = _TEXT, name: str | None = None, call_id: str | None = None
    ) -> bool:
        """Append text, to the last part where that is of the same kind, else to a new one.

        :param kind: ``text``, ``reasoning``, ``refusal``, ``tool_call`` or a kind of your own.
        :param name: of the tool, with ``kind="tool_call"``.
        :param call_id: which tool call the text belongs to; one part for each.
        :return: False when the response has ended (it may have been cancelled), and in strict
            mode never False.
        :raises ResponseCancelled: after a cancel, where the response was begun with
            ``on_cancel="raise"``.
        :raises ResponseClosed: in strict mode, after the end.
        """
        if name is not None or call_id is not None or kind is not _TEXT:
            return self._write_to_part(text, kind, name, call_id)
        pending = self._pending
        if pending.state != "streaming" or not isinstance(text, str):
            return self._write_text(kind, text)
        # The hot path, some 160 ns: what `_write_text` does, without the call.
        pending.writes.append((kind, text))
        mark_at = pending.mark_at
        if mark_at is not None and monotonic() >= mark_at:
            self._mark()
        return True

    def _write_to_part(self, text: Any, kind: Any, name: Any, call_id: Any) -> bool:
        if type(kind) is str and name is None and call_id is None:
            return self._write_text(kind, text)
        args = Arguments()
        kind = args.text("kind", kind) or "data"
        name, call_id = args.text("name", name), args.text("call_id", call_id)
        self._problems.check(args)
        if name is None and call_id is None:
            return self._write_text(kind, text)
        part = self._calls.get(call_id) or self.part(kind, name=name, call_id=call_id)
        return part.write(text)

    def part(
        self,
        kind: str,
        *,
        name: str | None = None,
        call_id: str | None = None,
        data: Any = None,
        text: str = "",
        provider_executed: bool = False,
    ) -> PartWriter:
        """Begin a part of its own.

        :param data: anything JSON can hold (other things become their `str`).
        :param text: its first text.
        :param provider_executed: for a tool call, that the model's provider runs the tool itself;
            pages then neither run it nor wait for somebody who does.
        :return: its writer, for more text.
        """
        args = Arguments()
        part = PartWriter(
            self,
            args.text("kind", kind) or "data",
            name=args.text("name", name),
            call_id=args.text("call_id", call_id),
            data=args.value("data", data),
            provider_executed=bool(provider_executed),
        )
        # As in `write`: the other half of a character may be the next text.
        first = text if type(text) is str else args.text("text", text)
        self._problems.check(args)
        if self._enqueue(part, first or None) and part.call_id is not None:
            self._calls.setdefault(part.call_id, part)
        return part

    def tool_call(
        self, name: str, call_id: str, arguments: str = "", *, provider_executed: bool = False
    ) -> PartWriter:
        """Begin a tool call; its arguments may grow through the writer returned.

        :param provider_executed: as in `part`.
        """
        return self.part(
            "tool_call",
            name=name,
            call_id=call_id,
            text=arguments,
            provider_executed=provider_executed,
        )

    def tool_result(
        self, call_id: str, output: Any = None, *, name: str | None = None, error: str | None = None
    ) -> bool:
        """Add what a tool of this response answered. Once it has ended: `Sink.tool_result`."""
        args = Arguments()
        ids = {"response_id": self.id, "run": self.run}
        event = tool_result_event(args, call_id, output, name=name, error=error, **ids)
        self._problems.check(args)
        return self._enqueue(event, None)

    def _offer(self, event: ToolResultEvent) -> bool:
        """Take the result of a tool call; False once the response has ended."""
        with self._pending.lock:  # an end comes before or after, not between
            return not self.ended and self._enqueue(event, None)

    def data_part(self, name: str, data: Any) -> bool:
        """Add a data part.

        :param data: anything JSON can hold (other things become their `str`).
        :return: False when the response has ended.
        """
        self.part("data", name=name, data=data)
        return not self.ended

    def data(self, name: str, data: Any) -> bool:
        """Do what `data_part` does: its older name."""
        return self.data_part(name, data)

    def _write_text(self, target: object, text: str) -> bool:
        pending = self._pending
        if pending.state != "streaming":
            self._ending.refuse()
            return False
        if not isinstance(text, str):
            self._problems.report(TypeError(f"text must be a str, not {type(text).__name__}"))
            return False
        pending.writes.append((target, text))
        mark_at = pending.mark_at
        if mark_at is not None and monotonic() >= mark_at:
            self._mark()
        return True

    def _mark(self) -> None:
        self._outbox.mark(self._pending, self._fresh)
        self._fresh = False

    def _enqueue(self, target: object, text: str | None) -> bool:
        if self._pending.state != "streaming":
            self._ending.refuse()
            return False
        self._pending.writes.append((target, text))
        self._outbox.mark(self._pending, True)
        if text:
            self._fresh = False
        return True

    # -- ending

    def finish(self, finish_reason: str | None = None, usage: Any = None) -> bool:
        """End the response as complete. Only the first end counts.

        :param finish_reason: as the provider gives it.
        :param usage: token counts, a mapping or a provider's own object.
        :return: whether this call ended it.
        """
        return self._ending.end("complete", finish_reason=finish_reason, usage=usage)

    def fail(
        self, error: BaseException | str, *, finish_reason: str | None = None, usage: Any = None
    ) -> bool:
        """End the response as failed. Watchers see `error`, without what looks like a secret."""
        return self._ending.end("failed", error=error, finish_reason=finish_reason, usage=usage)

    def cancel(
        self,
        reason: BaseException | str | None = None,
        *,
        finish_reason: str | None = None,
        usage: Any = None,
    ) -> bool:
        """End the response as cancelled, from the producer's side."""
        return self._ending.end("cancelled", error=reason, finish_reason=finish_reason, usage=usage)

    def abandon(self, reason: str) -> bool:
        """End the response as abandoned: its producer goes away without knowing how it ends."""
        return self._ending.end("abandoned", error=reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool | None:
        # Not `bool`: type checkers would think that any error may be swallowed.
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

    async def __aexit__(self, *exc: Any) -> bool | None:  # noqa: PYI036
        return self.__exit__(*exc)

    @property
    def state(self) -> State:
        """The state of the response, as its producer knows it."""
        return self._pending.state

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._pending.state != "streaming"

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled, by a watcher or by its producer."""
        return self._pending.state == "cancelled"

    @property
    def cancel_reason(self) -> str | None:
        """The reason that the watcher who cancelled gave."""
        return self._ending.cancel.reason if self._ending.cancel else None

    @property
    def late_writes(self) -> int:
        """How often something was written after the end, which went nowhere."""
        return self._ending.late_writes

    def add_cancel_callback(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call `callback` when a watcher cancels (now, if one has).

        It runs on the sink's I/O thread, so it must be quick: close a stream, set an event, call
        `loop.call_soon_threadsafe`. What it raises is logged. It is not called for other ends.

        :return: a function that removes the callback.
        """
        return self._ending.add_callback(callback)

    def on_cancel(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Do what `add_cancel_callback` does: its older name."""
        return self.add_cancel_callback(callback)

    @property
    def receipt(self) -> Receipt:
        """How far its delivery has come."""
        return self._pending.receipt

    def wait(self, timeout: float | None = None) -> Receipt:
        """Wait until the ended response is with the backend, or given up. Blocks.

        :param timeout: seconds, after which the receipt says ``pending``; None for no limit.
        """
        return self._pending.wait(timeout)

    async def await_(self, timeout: float | None = None) -> Receipt:
        """Do what `wait` does, without blocking the loop (``await`` itself is a keyword)."""
        require_asyncio()
        return await self._pending.wait_async(timeout)
