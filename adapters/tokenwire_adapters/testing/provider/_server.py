"""The provider: an HTTP server that answers like a model, at a model's pace."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import threading
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from tokenwire_adapters.testing.provider import _chat, _messages, _responses
from tokenwire_adapters.testing.provider._frames import Frame
from tokenwire_adapters.testing.provider._http import (
    BadHttp,
    ClientGone,
    Connection,
    Limits,
    Request,
)
from tokenwire_adapters.testing.provider._json import BadRequest, dumps, loads
from tokenwire_adapters.testing.provider._record import Counters, Outcome, RequestRecord
from tokenwire_adapters.testing.provider._replies import Api, Ask, Reply, plan
from tokenwire_adapters.testing.provider._requests import read_ask

__all__ = ["MODELS", "Provider"]

MODELS = ("local-writer", "local-reasoner")
"""Models that ``GET /v1/models`` names. Any name is taken; one with "reason" or "think" reasons."""

_APIS: dict[Api, Any] = {"chat": _chat, "responses": _responses, "messages": _messages}
_PREFIXES: dict[Api, str] = {"chat": "chatcmpl-", "responses": "resp_", "messages": "msg_"}
# Any number of /v1, so that one base URL serves SDKs that add it and SDKs that do not; and the
# path that Azure's client uses.
_ROUTE = re.compile(
    r"(?:/v1)*(?:/openai(?:/v1)?(?:/deployments/[^/]+)?)?"
    r"/(?P<name>chat/completions|responses|messages|models)(?:/(?P<id>[^/]+))?"
)
_ROUTES: dict[str, Api] = {
    "chat/completions": "chat",
    "responses": "responses",
    "messages": "messages",
}
_BURST = 16
_ERROR_TYPES = {401: "authentication_error", 404: "not_found_error", 413: "request_too_large"}


class Provider:
    """A model provider on loopback. Use it with ``async with``, or see `serve_in_thread`.

    :param pace: tokens per second of each choice's stream; 0 is as fast as the client reads.
        May be changed while it runs.
    :param host: the address to listen on.
    :param port: the port; 0 takes a free one.
    :param length: give every reply exactly this many tokens of text, for measurements.
    :param require_key: refuse requests without an ``Authorization`` or ``x-api-key`` header.
    :param limits: bounds of a request.
    :param keep: how many records to keep; older ones are dropped.
    :raises OSError: the address cannot be listened on.
    """

    def __init__(
        self,
        *,
        pace: float = 40.0,
        host: str = "127.0.0.1",
        port: int = 0,
        length: int | None = None,
        require_key: bool = False,
        limits: Limits | None = None,
        keep: int = 1000,
    ) -> None:
        if pace < 0:
            raise ValueError(f"pace must be 0 or more tokens per second, not {pace}")
        self.pace = pace
        self.counters = Counters()
        self.records: deque[RequestRecord] = deque(maxlen=keep)
        """One for each reply, oldest first."""
        self._host = host
        self._port = port
        self._length = length
        self._require_key = require_key
        self._limits = limits or Limits()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked = threading.Condition()
        self._replies = 0

    @property
    def base_url(self) -> str:
        """The ``base_url`` for SDKs of OpenAI and of Anthropic, ``http://127.0.0.1:PORT/v1``."""
        return f"http://{self._host}:{self.port}/v1"

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    def record(self, record_id: str) -> RequestRecord:
        """Return the record of the reply with this id.

        :raises LookupError: there is none, or it is no longer kept.
        """
        for record in reversed(self.records):
            if record.id == record_id:
                return record
        raise LookupError(f"no reply {record_id!r} among the last {len(self.records)}")

    def wait_for_replies(self, count: int, timeout: float = 60.0) -> RequestRecord:
        """Wait until this many replies have begun; return the record of the last one that has.

        :param count: replies since the provider started.
        :param timeout: seconds.
        :raises TimeoutError: fewer have begun.
        """
        with self._asked:
            if not self._asked.wait_for(lambda: self._replies >= count, timeout):
                raise TimeoutError(f"{self._replies} of {count} replies began within {timeout} s")
            return self.records[-1]

    async def wait_for_replies_async(self, count: int, timeout: float = 60.0) -> RequestRecord:
        """`wait_for_replies`, from a coroutine."""
        return await asyncio.to_thread(self.wait_for_replies, count, timeout)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()

        def connected() -> asyncio.StreamReaderProtocol:
            reader = Connection.reader(self._limits)

            def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                if self._server is None:  # accepted while the server was being closed
                    writer.transport.abort()
                    return
                task = loop.create_task(self._serve(Connection(reader, writer, self._limits)))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

            return asyncio.StreamReaderProtocol(reader, serve)

        self._server = await loop.create_server(connected, self._host, self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def aclose(self) -> None:
        """Stop listening and drop every connection. Replies under way end as ``stopped``."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        while tasks := list(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # From Python 3.12 on, waiting for what is done already does not let its callbacks run.
            self._tasks.difference_update(tasks)
        await server.wait_closed()

    async def _serve(self, connection: Connection) -> None:
        try:
            with contextlib.suppress(ClientGone):
                await self._serve_requests(connection)
                await connection.close()
        finally:
            await connection.abort()

    async def _serve_requests(self, connection: Connection) -> None:
        try:
            while request := await connection.read():
                self.counters.requests += 1
                await self._answer(connection, request)
                if not request.keep_alive:
                    break
        except BadHttp as error:
            self.counters.refused += 1
            body = _error_body(error.status, error.message, None, anthropic=False)
            await connection.answer(error.status, body, _request_id())

    async def _answer(self, connection: Connection, request: Request) -> None:
        request_id = _request_id()
        try:
            result = self._handle(request)
        except BadRequest as error:
            self.counters.refused += 1
            anthropic = "anthropic-version" in request.headers or request.path.endswith("/messages")
            body = _error_body(error.status, error.message, error.param, anthropic=anthropic)
            await connection.answer(error.status, body, request_id, keep_alive=request.keep_alive)
            return
        if isinstance(result, Ask):
            await self._reply(connection, request, request_id, result)
        else:
            body = dumps(result).encode()
            await connection.answer(200, body, request_id, keep_alive=request.keep_alive)

    def _handle(self, request: Request) -> Ask | dict[str, Any]:
        """Return what was asked for, or the body of an answer that needs no model."""
        route = _ROUTE.fullmatch(request.path)
        if route is None or (route["id"] and route["name"] != "models"):
            raise BadRequest(f"Unknown request URL: {request.method} {request.path}", status=404)
        if self._require_key and not request.headers.keys() & {"authorization", "x-api-key"}:
            raise BadRequest("You didn't provide an API key.", status=401)
        if route["name"] == "models":
            return _models(request, route["id"])
        if request.method != "POST":
            raise BadRequest(f"Method {request.method} is not allowed here.", status=405)
        return read_ask(_ROUTES[route["name"]], loads(request.body))

    async def _reply(
        self, connection: Connection, request: Request, request_id: str, ask: Ask
    ) -> None:
        replies = plan(ask, length=self._length)
        record = RequestRecord(_PREFIXES[ask.api] + secrets.token_hex(12), ask, replies)
        with self._asked:
            self.records.append(record)
            self._replies += 1
            self.counters.running += 1
            self._asked.notify_all()
        try:
            if ask.stream:
                await self._stream(connection, request, request_id, ask, replies, record)
            else:
                await self._think(connection, replies)
                body = dumps(_APIS[ask.api].body(ask, replies, record.id)).encode()
                keep_alive = request.keep_alive
                await connection.answer(200, body, request_id, keep_alive=keep_alive)
                record.mark_all_sent()
        except ClientGone:
            self._end(record, "closed_early")
            raise
        except BaseException:
            self._end(record, "stopped")
            raise
        self._end(record, "complete")
        if ask.stream and request.chunked:
            # Not part of the reply: clients that saw the last event may close before this.
            await connection.send(request, b"")

    def _end(self, record: RequestRecord, outcome: Outcome) -> None:
        self.counters.running -= 1
        self.counters.closed_early += int(outcome == "closed_early")
        self.counters.tokens_sent += record.tokens_sent
        record.mark_ended(outcome)

    async def _think(self, connection: Connection, replies: tuple[Reply, ...]) -> None:
        """Take the time that a stream would take: choices are written side by side."""
        if self.pace:
            await connection.pause(max(len(reply.pieces) for reply in replies) / self.pace)

    async def _stream(
        self,
        connection: Connection,
        request: Request,
        request_id: str,
        ask: Ask,
        replies: tuple[Reply, ...],
        record: RequestRecord,
    ) -> None:
        """Send every frame; a token waits for its turn, other events leave at once.

        Without a pace, several tokens share one write, and the loop gets a turn between writes.
        """
        frames: Iterator[Frame] = _APIS[ask.api].frames(ask, replies, record.id)
        await connection.start_stream(request, request_id)
        clock = _Clock()
        data = b""
        tokens: list[int] = []
        for frame in frames:
            if frame.choice is not None:
                if self.pace:
                    await connection.pause(clock.until_next(self.pace * ask.n))
                tokens.append(frame.choice)
            data += frame.data
            if self.pace or len(tokens) >= _BURST:
                await connection.send(request, data)
                record.mark_sent(tokens)
                data = b""
                tokens.clear()
                await connection.pause(0)
        if data:
            await connection.send(request, data)
            record.mark_sent(tokens)


class _Clock:
    """Says when the next token is due."""

    def __init__(self) -> None:
        self._due = asyncio.get_running_loop().time()

    def until_next(self, pace: float) -> float:
        """Seconds until the next token, at ``pace`` tokens a second."""
        now = asyncio.get_running_loop().time()
        # A sleep that took too long is made up for, but a stall is not.
        due = max(self._due, now - 1.0)
        self._due = due + 1 / pace
        return due - now


def _request_id() -> str:
    return "req_" + secrets.token_hex(12)


def _models(request: Request, model_id: str | None) -> dict[str, Any]:
    if request.method != "GET":
        raise BadRequest(f"Method {request.method} is not allowed here.", status=405)
    if "anthropic-version" in request.headers:
        models: list[dict[str, Any]] = [
            {
                "type": "model",
                "id": name,
                "display_name": name,
                "created_at": "2026-01-01T00:00:00Z",
            }
            for name in MODELS
        ]
        whole: dict[str, Any] = {
            "data": models,
            "has_more": False,
            "first_id": MODELS[0],
            "last_id": MODELS[-1],
        }
    else:
        models = [
            {"id": name, "object": "model", "created": 1767225600, "owned_by": "tokenwire"}
            for name in MODELS
        ]
        whole = {"object": "list", "data": models}
    if model_id is None:
        return whole
    for model in models:
        if model["id"] == model_id:
            return model
    raise BadRequest("The model does not exist.", status=404)


def _error_body(status: int, message: str, param: str | None, *, anthropic: bool) -> bytes:
    kind = _ERROR_TYPES.get(status, "invalid_request_error")
    if anthropic:
        error = {"type": kind, "message": message}
        return dumps({"type": "error", "error": error}).encode()
    kind = kind if status == 401 else "invalid_request_error"
    return dumps(
        {"error": {"message": message, "type": kind, "param": param, "code": None}}
    ).encode()
