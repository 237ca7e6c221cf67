"""`Reply`: reads a copy of the bytes of one reply while its consumer reads them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

from tokenwire._instrument.deferred import when_dropped
from tokenwire._instrument.generators import NOBODY
from tokenwire.errors import ResponseCancelled
from tokenwire.instrument import OnCancel, Recorder, call_soon
from tokenwire_adapters._agents.wires.recognition import Wire
from tokenwire_adapters._agents.wires.reply import ReplyReader

__all__ = ["Reply"]


class Reply:
    """The body of one reply. It has what `tokenwire.instrument.record_found` asks of a recorder.

    :param is_stream: whether a watcher's cancel ends the body. A reply that comes in one piece goes
        to its consumer whole, as it does with a wrapped SDK: half of its JSON is of no use.
    :param close: what to do when nobody reads on; by default what the reader does.
    :ivar gi_running: its consumer waits for bytes; for clients that are read without a generator.
    """

    def __init__(
        self,
        wire: Wire,
        recorder: Recorder,
        status: int,
        headers: Mapping[str, str],
        *,
        is_stream: bool,
    ) -> None:
        self.recorder = recorder
        self.watched = recorder if is_stream else NOBODY
        self.reader = ReplyReader(wire, recorder, status, headers)
        self.feed = self.reader.feed
        self.status = status
        self.is_stream = is_stream
        self.attached = False
        self.held = False
        self.last: Any = None
        self.gi_running = False

    @property
    def cancelled(self) -> bool:
        """Whether a watcher has cancelled what the consumer reads."""
        return self.watched.cancelled

    @property
    def broken(self) -> bool:
        """Whether something of ours failed."""
        return self.recorder.broken

    @property
    def ended(self) -> bool:
        """Whether the response has ended."""
        return self.recorder.ended

    @property
    def on_cancel(self) -> OnCancel:
        """What the consumer meets after a watcher's cancel."""
        return self.recorder.on_cancel

    def cancelled_error(self) -> ResponseCancelled:
        """What to raise in the consumer after a watcher's cancel."""
        return self.recorder.cancelled_error()

    def attach(self, generator: weakref.ref[Any]) -> None:
        """Begin to read the body, in `generator`."""
        self.attached = True
        if self.status < 400:
            self.recorder.attach(generator)

    def bind(self, response: Any, abort: Callable[[Any], object] | None = None) -> None:
        """Name the object whose life is the provider's connection, see `Recorder.bind`."""
        if self.status < 400 and self.is_stream:
            self.recorder.bind(response, abort)
        when_dropped(response, self.close_soon)

    def read_whole(self, body: bytes) -> None:
        """Take the whole body at once."""
        self.feed(body)
        self.end()

    def end(self) -> None:
        """The body ended in good order."""
        if not self.held:
            self.reader.end()

    def fail(self, error: BaseException) -> None:
        """The connection broke."""
        if not self.held:
            self.reader.fail(error)

    def close(self) -> None:
        """The consumer has stopped reading."""
        if not self.held:
            self.reader.close()

    def close_soon(self) -> None:
        """Do what `close` does, from a finalizer: on the I/O thread, since locks may be held."""
        sink = self.recorder.sink
        if not self.held and not self.recorder.ended and sink is not None:
            call_soon(sink, self.close)

    def give_up(self, error: Exception) -> None:
        """Stop recording: something of ours failed. A strict sink raises it."""
        self.recorder.give_up(error)

    def note(self, item: object) -> None:
        """Pass by: bytes are no chunks that a framework hands on."""

    def detach(self) -> None:
        """Let go of the last message."""
        self.recorder.last = None
