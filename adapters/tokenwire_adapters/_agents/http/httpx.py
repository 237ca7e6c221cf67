"""`HttpxInstrumentor`: the clients of ``httpx`` and of ``httpx2``, which has the same classes.

Only ``send`` is patched. A reply that is recorded gets a stream that copies its bytes in the place
of its own; no other reply is touched.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

from tokenwire._instrument.deferred import when_dropped
from tokenwire.instrument import Recorder, record_found
from tokenwire_adapters._agents.http.exchange import Exchange
from tokenwire_adapters._agents.http.instrumentor import HttpInstrumentor
from tokenwire_adapters._agents.http.reply import Reply
from tokenwire_adapters._agents.wires.recognition import HttpRequest, may_be_model_call

__all__ = ["HttpxInstrumentor"]


class HttpxInstrumentor(HttpInstrumentor):
    """Records what the clients of ``httpx``, or of ``httpx2``, receive from models."""

    def patch(self) -> None:
        client = importlib.import_module(self.module)
        self._stream_types = (
            type("RecordedStream", (_RecordedStream, client.SyncByteStream), {}),
            type("AsyncRecordedStream", (_AsyncRecordedStream, client.AsyncByteStream), {}),
        )
        self._not_read: type[Exception] = client.RequestNotRead
        self.patches.replace(client.Client, "send", self._sending)
        self.patches.replace(client.AsyncClient, "send", self._asending)

    def _sending(self, original: Any) -> Any:
        def send(client: Any, request: Any, **options: Any) -> Any:
            exchange = self._exchange(request)
            if exchange is None:
                return original(client, request, **options)
            with exchange:
                response = original(client, request, **{**options, "stream": True})
            self._read(exchange, response, 0)
            if not options.get("stream"):
                try:
                    response.read()
                except BaseException:
                    response.close()
                    raise
            return response

        return send

    def _asending(self, original: Any) -> Any:
        async def send(client: Any, request: Any, **options: Any) -> Any:
            exchange = self._exchange(request)
            if exchange is None:
                return await original(client, request, **options)
            exchange.recorder.use_running_loop()
            with exchange:
                response = await original(client, request, **{**options, "stream": True})
            self._read(exchange, response, 1)
            if not options.get("stream"):
                try:
                    await response.aread()
                except BaseException:
                    await response.aclose()
                    raise
            return response

        return send

    def _exchange(self, request: Any) -> Exchange | None:
        if request.method != "POST" or not may_be_model_call("POST", request.url.path):
            return None
        return self.exchange(lambda: self._request_of(request))

    def _request_of(self, request: Any) -> HttpRequest:
        try:
            body: bytes | None = request.content
        except self._not_read:  # it is a stream, which is the server's to read
            body = None
        return HttpRequest(request.method, str(request.url), request.headers, body)

    def _read(self, exchange: Exchange, response: Any, kind: int) -> None:
        """Have the reply's bytes copied as its consumer reads them."""
        headers = dict(response.headers)
        if response.is_stream_consumed:  # by a hook, or it was never one
            headers.pop("content-encoding", None)
        reply = exchange.reply(response.status_code, headers)
        if reply is None:
            return
        reply.bind(response)
        if not response.is_stream_consumed:
            response.stream = self._stream_types[kind](response.stream, reply)
            return
        try:
            reply.read_whole(response.content)
        except Exception:  # a hook has read it and kept nothing
            reply.close()


class _Recorded:
    """A response's stream, of which a copy is read. Other attributes are those of the stream."""

    def __init__(self, stream: Any, reply: Reply) -> None:
        self._stream = stream
        self._reply = reply

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _find(self, item: Any) -> Recorder | None:  # noqa: ARG002
        return cast("Recorder", self._reply)


class _RecordedStream(_Recorded):
    def __iter__(self) -> Iterator[bytes]:
        generator: Iterator[bytes] = record_found(iter(self._stream), self._find)
        when_dropped(generator, self._reply.close_soon)
        return generator

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._reply.close()


class _AsyncRecordedStream(_Recorded):
    def __aiter__(self) -> AsyncIterator[bytes]:
        generator: AsyncIterator[bytes] = record_found(aiter(self._stream), self._find)
        return generator

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._reply.close()
