"""`Recorder`: publishes one request to a model, with the responses to it and how they end."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, ClassVar, Self

from tokenwire._instrument.deferred import call_later, when_dropped
from tokenwire._instrument.hang_up import hang_up
from tokenwire._instrument.last_chunk import LAST_CHUNKS
from tokenwire._instrument.options import Options
from tokenwire._options import OnCancel, value_of
from tokenwire.background import call_soon
from tokenwire.claims import Claim, begin_recording, covering_claim, end_recording
from tokenwire.context import current_metadata, current_run, resolve_channel
from tokenwire.errors import ResponseCancelled
from tokenwire.opening import default_sink
from tokenwire.sink import Sink
from tokenwire.writer import ResponseWriter

__all__ = ["Recorder"]

logger = logging.getLogger("tokenwire")

_SETTLE = 2.0  # seconds that a finished reply waits for its usage when nobody reads on


class Recorder:
    """Publishes what one request to a model brings. A subclass reads the wire format of one API.

    A subclass implements `feed`, `feed_reply` and `finish` on `writer`, and may add `usage`,
    `finish_reason`, `error_message` and `error_usage`. Whoever patches the SDK calls the other
    methods. None of them raises into the SDK's call: what fails here is logged, and the call goes
    on unrecorded; only a strict sink raises. `with recorder:` around the request ends the response
    if the request raises, and keeps the HTTP client below from recording it as well.

    :cvar provider: the provider's name, which watchers see; `api` likewise. One recorder may have
        another.
    :ivar request: the body of the request.
    :ivar on_cancel: what the consumer meets after a watcher's cancel, see `Options`.
    :ivar cancelled: a watcher has cancelled all responses to this request.
    :ivar ended: every response to it has ended.
    :ivar broken: something of ours failed; nothing more is written.
    :ivar attached: a generator reads the stream.
    :ivar last: the chunk that was read last, while the stream is open.
    :ivar loop: the asyncio loop that reads it.
    """

    # Slots are quicker to read, and with them a subclass has few enough other attributes for Python
    # to keep those in place, too.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_abort",
        "_base_id",
        "_channel",
        "_claim",
        "_current_metadata",
        "_current_run",
        "_generator",
        "_metadata",
        "_noted",
        "_response",
        "_run",
        "_sink",
        "attached",
        "broken",
        "cancelled",
        "ended",
        "last",
        "loop",
        "on_cancel",
        "options",
        "request",
        "writers",
    )

    provider: str = ""
    api: ClassVar[str] = ""

    def __init__(self, options: Options, request: Mapping[str, Any] | None = None) -> None:
        self.options = options
        self.request: Mapping[str, Any] = request or {}
        self.cancelled = False
        self.ended = False
        self.broken = False
        self.attached = False
        self.on_cancel: OnCancel = options.on_cancel or "end"
        self.last: Any = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.writers: dict[int, ResponseWriter] = {}
        self._generator: weakref.ref[Any] | None = None
        self._response: weakref.ref[Any] | None = None
        self._abort: Callable[[Any], object] | None = None
        self._noted: object = None
        self._sink: Sink | None = None
        self._channel: str | None = None
        self._base_id = ""
        self._run: str | None = None
        self._metadata: dict[str, Any] = {}
        self._claim: Claim | None = covering_claim()
        self._current_run = current_run()
        self._current_metadata = current_metadata()

    # -- what a subclass does

    def feed(self, item: Any) -> None:
        """Write what one chunk of the stream adds."""
        raise NotImplementedError

    def feed_reply(self, reply: Any) -> None:
        """Write a whole reply, of a call that did not stream."""
        raise NotImplementedError

    def finish(self) -> None:
        """End the responses that the stream, read to its end, leaves open."""
        raise NotImplementedError

    def usage(self) -> dict[str, Any] | None:
        """Token counts, as far as the provider has sent them."""
        return None

    def finish_reason(self, index: int) -> str | None:  # noqa: ARG002
        """Why the model stopped choice number `index`, as far as the provider has said."""
        return None

    def error_message(self, error: BaseException) -> str | None:  # noqa: ARG002
        """The provider's own words in the SDK's `error`; None for the text of the exception."""
        return None

    def error_usage(self, error: BaseException) -> dict[str, Any] | None:  # noqa: ARG002
        """Token counts in the SDK's `error`, where `usage` has none."""
        return None

    # -- beginning

    @property
    def sink(self) -> Sink | None:
        """Where the responses are written; None before the first has begun."""
        return self._sink

    @property
    def watched(self) -> Recorder:
        """Whose `cancelled` ends the stream."""
        return self

    def begin(self) -> None:
        """Begin the first response; idempotent."""
        if not self.writers and not self.broken:
            self._guard(self.writer, 0)

    def writer(self, index: int = 0) -> ResponseWriter:
        """The writer of choice number `index`, begun if need be."""
        writer = self.writers.get(index)
        if writer is not None:
            return writer
        if self._sink is None:
            self._sink = self._settle_target()
        writer = self._sink.respond(
            self._channel,
            response_id=self._base_id if not self.writers else f"{self._base_id}-{index}",
            run=self._run,
            metadata=self._metadata,
        )
        if not self.writers:
            self._run = writer.run
            claim = self._claim
            if claim is not None and claim.owner is self:
                claim.writer = writer
        self.writers[index] = writer
        writer.add_cancel_callback(self._cancelled)
        return writer

    def _settle_target(self) -> Sink:
        """Decide where the responses go: by the options, else the claim, else the context."""
        options, claim = self.options, self._claim
        sink, run, channel = options.sink, options.run, value_of(options.channel, "channel")
        base_id, metadata = None, dict[str, Any]()
        if claim is not None:
            sink, channel = sink or claim.sink, channel or claim.channel
            run = run or claim.run or (claim.writer.run if claim.writer is not None else None)
            if not claim.closed and claim.take(self):
                base_id, metadata = claim.response_id, claim.metadata
                if claim.on_cancel == "raise":
                    self.on_cancel = "raise"
        sink = sink or default_sink()
        self._channel = resolve_channel(channel, default=sink.default_channel)
        self._run = run or self._current_run
        self._base_id = base_id or f"r-{os.urandom(8).hex()}"
        known = {"provider": self.provider, "api": self.api, "model": self.request.get("model")}
        self._metadata = {
            **{key: value for key, value in known.items() if value is not None},
            **self._current_metadata,
            **metadata,
            **(value_of(options.metadata, "metadata") or {}),
        }
        return sink

    def bind(self, response: Any, abort: Callable[[Any], object] | None = None) -> None:
        """Name the object whose life is the provider's connection.

        Once nothing holds it any more, the response ends as cancelled.

        :param response: the HTTP response that carries the stream, say. It is held weakly.
        :param abort: stops the provider from sending: called with `response` after a watcher's
            cancel, on the I/O thread, so it must be quick. By default the socket of an ``httpx``
            response is shut down, and anything else is closed by its ``close`` or ``aclose``.
        """
        self._response = weakref.ref(response)
        self._abort = abort
        when_dropped(response, self.close_soon)
        if self.cancelled:
            self._hang_up()

    def attach(self, generator: weakref.ref[Any]) -> None:
        """Begin to read the stream, in `generator`."""
        self.attached = True
        self._generator = generator
        self.use_running_loop()
        self.begin()

    def use_running_loop(self) -> None:
        """Note which asyncio loop, if any, runs the request: its connection is closed there."""
        try:
            self.loop = asyncio.get_running_loop()
        except RuntimeError:  # a thread without one, or another library's
            self.loop = None

    # -- while it streams

    def note(self, item: object) -> None:
        """Enter `item`, which was read last, into the table of last chunks."""
        LAST_CHUNKS.replace(self._noted, item, self)
        self._noted = item

    def detach(self) -> None:
        """Release the stream's chunks: its generator is done."""
        self.last = None
        if self._noted is not None:
            self.note(None)

    def settle_later(self, last: object) -> None:
        """End a finished reply soon, should its consumer not read on after its `last` chunk.

        For a subclass to call once the model has said why it stopped, since many consumers do not
        read to the very end of a stream.
        """
        if self._sink is not None:
            step = functools.partial(_settle, weakref.ref(self), last, True)
            call_later(self._sink, _SETTLE, step)

    def close_later(self) -> None:
        """End the reply soon, unless its consumer, who left the loop, reads on."""
        if self._sink is not None and not self.ended:
            step = functools.partial(_settle, weakref.ref(self), self.last, False)
            call_later(self._sink, _SETTLE, step)

    def _guard(self, step: Callable[..., Any], *args: Any) -> None:
        """Run `step`; what it raises stays here, and ends the recording."""
        if self.broken:
            return
        try:
            step(*args)
        except Exception as error:
            self.give_up(error)

    def give_up(self, error: Exception) -> None:
        """Stop recording: something of ours failed. A strict sink raises it."""
        self.broken = True
        if getattr(self._sink or self.options.sink, "strict", False):
            raise error
        logger.warning("tokenwire: cannot record a stream of %s", self.provider, exc_info=error)
        for writer in self.writers.values():
            try:
                writer.fail("tokenwire lost track of this response")
            except Exception:
                logger.debug("tokenwire: ending a response failed", exc_info=True)
        self.ended = True

    # -- ending

    def end(self) -> None:
        """The stream was read to its end."""
        if not self.ended:
            self._guard(self.finish)
            self.ended = True

    def record_reply(self, reply: Any) -> None:
        """The reply came in one piece."""
        if self.ended:
            return
        self.begin()
        self._guard(self.feed_reply, reply)
        self._guard(self.finish)
        self.ended = True

    def close(self) -> None:
        """The consumer has stopped reading: by `close`, `break`, a task's cancel."""
        if not self.ended and self.writers:
            self._guard(self._end_early)
            self.ended = True

    def close_soon(self) -> None:
        """Do what `close` does, from a finalizer: on the I/O thread, since locks may be held."""
        if not self.ended and self._sink is not None:
            call_soon(self._sink, self.close)

    def fail(self, error: BaseException) -> None:
        """The provider, or the connection to it, failed."""
        if self.ended:
            return
        self.begin()
        self._guard(self._end_failed, error)
        self.ended = True

    def __enter__(self) -> Self:
        begin_recording()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        end_recording()
        if isinstance(error, Exception):
            self.fail(error)
        elif error is not None:
            self.close()

    def _end_early(self) -> None:
        for index, writer in self.writers.items():
            reason = self.finish_reason(index)
            if reason is not None:
                writer.finish(reason, self.usage())
            else:
                writer.cancel("its consumer stopped reading", usage=self.usage())

    def _end_failed(self, error: BaseException) -> None:
        message = self.error_message(error)
        usage = self.usage() or self.error_usage(error)
        for index, writer in self.writers.items():
            writer.fail(message or error, finish_reason=self.finish_reason(index), usage=usage)

    # -- being cancelled

    def _cancelled(self) -> None:
        """A watcher cancelled a response (I/O thread)."""
        if all(writer.ended for writer in self.writers.values()):
            self.cancelled = True
            self._hang_up()

    def _hang_up(self) -> None:
        response = self._response() if self._response is not None else None
        if response is None:
            return
        if self._abort is None:
            hang_up(response, self.loop)
            return
        try:
            self._abort(response)
        except Exception:
            logger.debug("tokenwire: cannot stop a stream of %s", self.provider, exc_info=True)

    def cancelled_error(self) -> ResponseCancelled:
        """What to raise out of the consumer's loop, with the id and the reason of the cancel."""
        writer = next(iter(self.writers.values()))
        return ResponseCancelled(writer.id, writer.cancel_reason)


def _settle(ref: weakref.ref[Recorder], last: Any, again: bool) -> None:
    """Close a recorder whose last chunk is still `last`, if its consumer waits for no other.

    With `again`, look later if it is not so.
    """
    recorder = ref()
    if recorder is None or recorder.ended:
        return
    generator: Any = recorder._generator() if recorder._generator is not None else None  # pyright: ignore[reportPrivateUsage]
    waits = getattr(generator, "gi_running", False) or getattr(generator, "ag_running", False)
    if not waits and (recorder.last is last or recorder.last is None):
        recorder.close()
    elif again:
        recorder.settle_later(recorder.last)
