"""The listeners on ``httpx`` and ``httpx2``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from tokenwire_adapters._agents.http.exchange import Exchange
from tokenwire_adapters._agents.http.instrumentor import HttpInstrumentor
from tokenwire_adapters._agents.http.quirks import HTTPX_SEND
from tokenwire_adapters._agents.wires.recognition import may_be_model_call

__all__ = ["httpx", "httpx2"]


class HttpxInstrumentor(HttpInstrumentor):
    """Puts a stream that reads along in the place of a reply's own stream."""

    def patch(self) -> None:
        client = self.import_client()
        self._streams = _stream_classes(client)
        self.patches.replace(client.Client, HTTPX_SEND, self._sending)
        self.patches.replace(client.AsyncClient, HTTPX_SEND, self._asending)

    def _sending(self, original: Any) -> Any:
        def send(client: Any, request: Any) -> Any:
            exchange = self._exchange_of(request)
            if exchange is None:
                return original(client, request)
            with exchange.recorder:
                response = original(client, request)
            self._answered(exchange, response, self._streams[0])
            return response

        return send

    def _asending(self, original: Any) -> Any:
        async def send(client: Any, request: Any) -> Any:
            exchange = self._exchange_of(request)
            if exchange is None:
                return await original(client, request)
            exchange.recorder.use_running_loop()
            with exchange.recorder:
                response = await original(client, request)
            self._answered(exchange, response, self._streams[1])
            return response

        return send

    def _exchange_of(self, request: Any) -> Exchange | None:
        url = request.url
        if request.method != "POST" or not may_be_model_call("POST", url.path):
            return None
        try:
            body: bytes | None = request.content
        except Exception:  # RequestNotRead: it is sent in pieces
            body = None
        return self.exchange("POST", str(url), _lower(request.headers), body)

    def _answered(self, exchange: Exchange, response: Any, stream_class: Any) -> None:
        headers = _lower(response.headers)
        if response.is_stream_consumed:  # a mocked transport gives a reply that is whole
            headers.pop("content-encoding", None)
            exchange.answered(response.status_code, headers)
            exchange.feed(response.content)
            exchange.end()
            return
        exchange.answered(response.status_code, headers)
        exchange.bind(response)
        response.stream = stream_class(response.stream, exchange)


def _lower(headers: Any) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in headers.items()}


def _stream_classes(client: Any) -> tuple[type, type]:
    """The classes of streams that read along: sync, async."""

    class RecordedStream(client.SyncByteStream):  # type: ignore[misc]
        def __init__(self, stream: Any, exchange: Exchange) -> None:
            self._stream = stream
            self._exchange = exchange

        def __iter__(self) -> Iterator[bytes]:
            return _read(self._stream, self._exchange)

        def close(self) -> None:
            try:
                self._stream.close()
            finally:
                self._exchange.close()

    class RecordedAsyncStream(client.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, stream: Any, exchange: Exchange) -> None:
            self._stream = stream
            self._exchange = exchange

        def __aiter__(self) -> AsyncIterator[bytes]:
            return _aread(self._stream, self._exchange)

        async def aclose(self) -> None:
            try:
                await self._stream.aclose()
            finally:
                self._exchange.close()

    return RecordedStream, RecordedAsyncStream


def _read(stream: Any, exchange: Exchange) -> Iterator[bytes]:
    try:
        for data in stream:
            if exchange.cancelled:
                break
            exchange.feed(data)
            yield data
            if exchange.cancelled:
                break
    except GeneratorExit:
        exchange.close_soon()
        raise
    except Exception as error:
        if not exchange.cancelled:  # else the connection was shut down on our own behalf
            exchange.fail(error)
            raise
    except BaseException:
        exchange.close()
        raise
    exchange.end()
    exchange.raise_if_cancelled()


async def _aread(stream: Any, exchange: Exchange) -> AsyncIterator[bytes]:
    try:
        async for data in stream:
            if exchange.cancelled:
                break
            exchange.feed(data)
            yield data
            if exchange.cancelled:
                break
    except GeneratorExit:
        exchange.close_soon()
        raise
    except Exception as error:
        if not exchange.cancelled:
            exchange.fail(error)
            raise
    except BaseException:
        exchange.close()
        raise
    exchange.end()
    exchange.raise_if_cancelled()


httpx = HttpxInstrumentor("httpx")
httpx2 = HttpxInstrumentor("httpx2")
