"""One exchange: a request on its way to an upstream, and the reply on its way back."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import httpx
from starlette.types import Receive, Scope, Send

from tokenwire.instrument import OnCancel
from tokenwire_adapters._tools.proxy.body import ClientGone, RequestBody
from tokenwire_adapters._tools.proxy.errors import ProxyError
from tokenwire_adapters._tools.proxy.headers import end_to_end, names_of, request_headers
from tokenwire_adapters._tools.proxy.recording import Recording
from tokenwire_adapters._tools.proxy.upstreams import Upstream

__all__ = ["Exchange"]

logger = logging.getLogger("tokenwire.proxy")

_TIMEOUT = httpx.Timeout(None, connect=30).as_dict()  # of the reply, the client decides

_CANCELLED = ProxyError(499, "cancelled", "a watcher cancelled this response")


class Exchange:
    """Passes one request on and its reply back, byte for byte, and shows the copy to `recording`.

    :param target: the path and query at the upstream.
    :param body: of the request: all of it, or what reads it as it comes.
    :param recording: None where nothing is published.
    :param on_cancel: what the client meets after a watcher's cancel: the end of its stream
        (``"end"``), or a connection that breaks off (``"raise"``).
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        upstream: Upstream,
        target: bytes,
        body: bytes | RequestBody,
        recording: Recording | None,
        on_cancel: OnCancel,
    ) -> None:
        self._client = client
        self._upstream = upstream
        self._target = target
        self._body = body
        self._recording = recording
        self._on_cancel = on_cancel
        self._loop = asyncio.get_running_loop()
        self._passing: asyncio.Task[None] | None = None
        self._cancelled = False  # by a watcher
        self._sized = False  # the reply's head gives its length
        self._began = False  # the reply's head was sent to the client
        self._ended = False

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and the reply back.

        A reply that broke off ends without its last message, so that the server breaks off, too.
        """
        if self._recording is not None:
            self._recording.begin(self, _stop_soon)
        self._passing = asyncio.create_task(self._pass(scope, send))
        gone = asyncio.create_task(self._wait_until_gone(receive))
        try:
            await asyncio.wait((self._passing, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (self._passing, gone):
                task.cancel()
            await asyncio.wait((self._passing, gone))
            if self._recording is not None and not self._ended:
                self._recording.close()
        error = None if self._passing.cancelled() else self._passing.exception()
        if error is not None and not isinstance(error, ClientGone):
            raise error
        if self._cancelled:
            await self._end_cancelled(scope, receive, send)

    async def _pass(self, scope: Scope, send: Send) -> None:
        response = await self._request(scope)
        try:
            await self._reply(response, send)
        except httpx.TransportError as error:
            logger.warning(
                "tokenwire proxy: upstream %r broke off (%s)", self._upstream.name, _text(error)
            )
            self._fail(error)
        finally:
            await response.aclose()

    async def _request(self, scope: Scope) -> httpx.Response:
        """Send the request, and wait for the reply's head.

        :raises ProxyError: when the upstream cannot be reached, or breaks off before.
        """
        body = self._body
        stream: httpx.AsyncByteStream
        length: int | None = None
        if isinstance(body, bytes):
            length, stream = len(body), httpx.ByteStream(body)
        else:
            stream = body
        request = httpx.Request(
            scope["method"],
            f"{self._upstream.origin}/",
            headers=request_headers(scope["headers"], self._upstream.host, length),
            stream=stream,
            extensions={"target": self._target, "timeout": _TIMEOUT},
        )
        try:
            return await self._client.send(request, stream=True)
        except httpx.TransportError as error:
            self._fail(error)
            timed_out = isinstance(error, httpx.TimeoutException)
            raise ProxyError(
                504 if timed_out else 502,
                "upstream_unreachable",
                f"upstream {self._upstream.name!r} ({self._upstream.origin})"
                f" cannot be reached: {_text(error)}",
            ) from error

    async def _reply(self, response: httpx.Response, send: Send) -> None:
        headers = end_to_end(response.headers.raw)
        self._sized = any(name == b"content-length" for name, _ in headers)
        recording = self._recording
        if recording is not None:
            recording.head(response.status_code, names_of(response.headers.raw))
        self._began = True
        await send(
            {"type": "http.response.start", "status": response.status_code, "headers": headers}
        )
        async for data in response.aiter_raw():
            if recording is not None:
                recording.feed(data)
            await send({"type": "http.response.body", "body": data, "more_body": True})
        self._ended = True
        if recording is not None:
            recording.end()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _wait_until_gone(self, receive: Receive) -> None:
        """Wait until the client hangs up."""
        body = self._body
        if isinstance(body, RequestBody):
            await body.wait_until_read()
        while (await receive())["type"] != "http.disconnect":
            pass

    def _fail(self, error: BaseException) -> None:
        self._ended = True
        if self._recording is not None:
            self._recording.fail(error)

    def stop(self) -> None:
        """Close the connection to the upstream: a watcher has cancelled the response."""
        if self._passing is not None and not self._passing.done():
            self._cancelled = True
            self._passing.cancel()

    def stop_soon(self) -> None:
        """`stop`, from another thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self.stop)

    async def _end_cancelled(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._began:
            await _CANCELLED.response()(scope, receive, send)
        elif self._on_cancel == "end" and not self._sized:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _stop_soon(exchange: object) -> None:
    if isinstance(exchange, Exchange):
        exchange.stop_soon()


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
