"""`Exchange`: one request to a model over HTTP, and the copy of its reply that is read."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from tokenwire.errors import ResponseCancelled
from tokenwire.instrument import Recorder
from tokenwire_adapters._agents.wires.recognition import Wire
from tokenwire_adapters._agents.wires.reply import ReplyReader

__all__ = ["Exchange"]

logger = logging.getLogger("tokenwire")


class Exchange:
    """Gives what an HTTP client reads to the recorder of the request.

    No method raises, but with a strict sink, and `raise_if_cancelled`.

    :ivar recorder: its response began when the request was sent.
    """

    def __init__(self, wire: Wire, recorder: Recorder) -> None:
        self.recorder = recorder
        self._wire = wire
        self._reader: ReplyReader | None = None
        self._is_over = False

    @property
    def cancelled(self) -> bool:
        """Whether a watcher has cancelled the response: the client is to be given no more."""
        return self.recorder.cancelled

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """Take the head of the reply.

        :param headers: those of the bytes that `feed` will be given, so without
            ``content-encoding`` where they are decoded.
        """
        self._reader = ReplyReader(self._wire, self.recorder, status, headers)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        if self._reader is not None and not self._is_over:
            self._reader.feed(data)

    def end(self) -> None:
        """The body ended in good order."""
        if self._reader is not None and not self._is_over:
            self._is_over = True
            if not self.cancelled:
                self._reader.end()

    def fail(self, error: BaseException) -> None:
        """The connection broke."""
        if self._is_over:
            return
        self._is_over = True
        if self._reader is not None:
            self._reader.fail(error)
        else:
            self.recorder.fail(error)

    def close(self) -> None:
        """The client stopped reading."""
        if self._is_over:
            return
        self._is_over = True
        if self._reader is not None:
            self._reader.close()
        else:
            self.recorder.close()

    def close_soon(self) -> None:
        """Do what `close` does, from a finalizer."""
        if not self._is_over:
            self.recorder.run_soon(self.close)

    def raise_if_cancelled(self) -> None:
        """End the client's reading the way it was asked for, if a watcher has cancelled.

        :raises ResponseCancelled: with ``on_cancel="raise"``.
        """
        if self.cancelled and self.recorder.on_cancel == "raise":
            raise self.recorder.cancelled_error()

    def cancelled_error(self) -> ResponseCancelled | None:
        """What `raise_if_cancelled` raises; None where it raises nothing."""
        try:
            self.raise_if_cancelled()
        except ResponseCancelled as error:
            return error
        return None

    def bind(self, response: Any, abort: Any = None) -> None:
        """Name the client's object of the reply; see `Recorder.bind`."""
        try:
            self.recorder.bind(response, abort)
        except TypeError:  # a stand-in that cannot be referred to weakly
            logger.debug("tokenwire: cannot close a reply on a cancel", exc_info=True)
