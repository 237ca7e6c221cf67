"""The listener on ``aiohttp``."""

from __future__ import annotations

import functools
import weakref
from typing import Any

from tokenwire_adapters._agents.http.exchange import Exchange
from tokenwire_adapters._agents.http.instrumentor import HttpInstrumentor
from tokenwire_adapters._agents.http.quirks import AIOHTTP_SEND, buffered, request_body
from tokenwire_adapters._agents.wires.recognition import may_be_model_call

__all__ = ["aiohttp"]


class AiohttpInstrumentor(HttpInstrumentor):
    """Puts a class that reads along in the place of the class of a reply's content."""

    def patch(self) -> None:
        client: Any = self.import_client()
        self._sent: weakref.WeakKeyDictionary[Any, Exchange] = weakref.WeakKeyDictionary()
        self._reader_class, self._reading = _reader_class(client.StreamReader)
        self._plain_reader = client.StreamReader
        self.patches.replace(client.ClientRequest, AIOHTTP_SEND, self._sending)
        self.patches.replace(client.ClientResponse, "start", self._starting)
        for name in ("close", "release"):
            self.patches.replace(client.ClientResponse, name, self._leaving)

    def _sending(self, original: Any) -> Any:
        async def send(request: Any, connection: Any) -> Any:
            exchange = None
            if request.method == "POST" and may_be_model_call("POST", request.url.path):
                headers = {name.lower(): value for name, value in request.headers.items()}
                body = request_body(request)
                exchange = self.exchange("POST", str(request.url), headers, body)
            if exchange is None:
                return await original(request, connection)
            exchange.recorder.use_running_loop()
            with exchange.recorder:
                response = await original(request, connection)
            self._sent[response] = exchange
            return response

        return send

    def _starting(self, original: Any) -> Any:
        async def start(response: Any, connection: Any) -> Any:
            exchange = self._sent.pop(response, None) if self._sent else None
            if exchange is None:
                return await original(response, connection)
            with exchange.recorder:
                result = await original(response, connection)
            self._answered(exchange, response)
            return result

        return start

    def _leaving(self, original: Any) -> Any:
        """Notice that the consumer leaves: to its content that looks like a broken connection."""

        def leave(response: Any) -> Any:
            exchange = self._reading.get(id(response.content)) if self._reading else None
            if exchange is not None:
                exchange.close()
            return original(response)

        return leave

    def _answered(self, exchange: Exchange, response: Any) -> None:
        headers = {name.lower(): value for name, value in response.headers.items()}
        session = getattr(response, "_session", None)
        if getattr(session, "auto_decompress", True):
            headers.pop("content-encoding", None)
        exchange.answered(response.status, headers)
        content = response.content
        if type(content) is not self._plain_reader:  # there is no body
            exchange.end()
            return
        for data in buffered(content):
            exchange.feed(data)
        if content.is_eof():
            exchange.end()
            return
        key = id(content)
        self._reading[key] = exchange
        content.__class__ = self._reader_class
        weakref.finalize(response, self._reading.pop, key, None).atexit = False
        loop = exchange.recorder.loop
        exchange.bind(response, abort=functools.partial(_abort_soon, exchange, loop))


def _abort_soon(exchange: Exchange, loop: Any, response: Any) -> None:
    if loop is not None:
        loop.call_soon_threadsafe(_abort, exchange, response)


def _abort(exchange: Exchange, response: Any) -> None:
    """End the content the way it was asked for, then close the connection."""
    content = response.content
    error = exchange.cancelled_error()
    if error is not None:
        content.set_exception(error)
    elif not content.is_eof():
        content.feed_eof()
    response.close()


def _reader_class(plain: Any) -> tuple[type, dict[int, Exchange]]:
    """A class of the same layout that reads along, and whose exchanges are in a table by id.

    The content has no place for an attribute, nor can it be referred to weakly.
    """
    exchanges: dict[int, Exchange] = {}

    class RecordedReader(plain):  # type: ignore[misc]
        __slots__ = ()

        def feed_data(self, data: bytes, *args: Any) -> Any:
            exchange = exchanges.get(id(self))
            if exchange is not None:
                exchange.feed(data)
            return super().feed_data(data, *args)

        def feed_eof(self) -> None:
            exchange = exchanges.pop(id(self), None)
            if exchange is not None:
                exchange.end()
            super().feed_eof()

        def set_exception(self, exc: BaseException, *args: Any) -> None:
            exchange = exchanges.pop(id(self), None)
            if exchange is not None:
                exchange.fail(exc)
            super().set_exception(exc, *args)

    return RecordedReader, exchanges


aiohttp = AiohttpInstrumentor("aiohttp")
