"""Reads the copy of a request and of its reply, and publishes them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from tokenwire.instrument import Options, Recorder
from tokenwire_adapters._agents.wires.recognition import HttpRequest, recognise
from tokenwire_adapters._agents.wires.reply import ReplyReader

__all__ = ["Recording", "record_request"]

logger = logging.getLogger("tokenwire.proxy")


class Recording:
    """The response to one request for a model's reply.

    :param reader: makes what reads the reply, from its status and headers.
    """

    def __init__(
        self, recorder: Recorder, reader: Callable[[int, Mapping[str, str]], ReplyReader]
    ) -> None:
        self.recorder = recorder
        self._make_reader = reader
        self._reader: ReplyReader | None = None
        self._response: ReplyReader | Recorder = recorder  # what ends it

    def begin(self, connection: object, abort: Callable[[object], object]) -> None:
        """Begin the response, before the request is sent.

        :param connection: what holds the connection to the upstream; it is held weakly.
        :param abort: closes it; called with it, on the sink's I/O thread, once a watcher has
            cancelled the response.
        """
        self.recorder.begin()
        self.recorder.bind(connection, abort)

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """The head of the reply came."""
        self._response = self._reader = self._make_reader(status, headers)

    def feed(self, data: bytes) -> None:
        """A piece of the reply's body came."""
        if self._reader is not None:
            self._reader.feed(data)

    def end(self) -> None:
        """The reply came to its end."""
        if self._reader is not None:
            self._reader.end()
        if not self.recorder.ended:  # it has no content, or leads elsewhere
            self.recorder.close()

    def fail(self, error: BaseException) -> None:
        """The upstream could not be reached, or broke off."""
        self._response.fail(error)

    def close(self) -> None:
        """The client hung up."""
        self._response.close()


def record_request(request: HttpRequest, options: Options) -> Recording | None:
    """Begin to record a request; None where it asks for no model's reply, or cannot be read."""
    try:
        recognised = recognise(request)
        if recognised is None:
            return None
        wire, body = recognised
        recorder = wire.recorder(options, body)
    except Exception as error:
        logger.warning("tokenwire proxy: cannot read a request (%s)", type(error).__name__)
        return None
    return Recording(recorder, lambda status, headers: ReplyReader(wire, recorder, status, headers))
