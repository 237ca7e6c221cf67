"""The provider: an HTTP server that answers like a model, at a model's pace."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import threading
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Self, TypeAlias

from tokenwire_adapters.testing._thread import running_in_thread
from tokenwire_adapters.testing.provider._background import BackgroundReplies, ResumedStream
from tokenwire_adapters.testing.provider._errors import error_body, error_headers
from tokenwire_adapters.testing.provider._gemini import describe_model
from tokenwire_adapters.testing.provider._http import (
    BadHttp,
    ClientGone,
    Connection,
    Limits,
    Request,
)
from tokenwire_adapters.testing.provider._json import BadRequest, loads
from tokenwire_adapters.testing.provider._ollama import answer_about_models
from tokenwire_adapters.testing.provider._record import Counters, Outcome, RequestRecord
from tokenwire_adapters.testing.provider._replies import Api, ModelRequest, plan_replies
from tokenwire_adapters.testing.provider._routes import find_route
from tokenwire_adapters.testing.provider._script import (
    ScriptedError,
    ScriptedRecording,
    ScriptedReply,
    pieces_of,
)
from tokenwire_adapters.testing.provider._sending import ReplySender, ScriptedDisconnect
from tokenwire_adapters.testing.provider._wires import WIRES, read_request

__all__ = ["MODELS", "Provider", "serve_in_thread"]

MODELS = ("local-writer", "local-reasoner")
"""Models that ``GET /v1/models`` lists. Any name works; with "reason" or "think", it reasons."""

Scripted: TypeAlias = ScriptedReply | ScriptedError | ScriptedRecording

_MODELS = re.compile(
    r"(?:/v1)*(?:/openai(?:/v1)?(?:/deployments/[^/]+)?)?/models(?:/(?P<id>[^/]+))?"
)
_GEMINI_MODEL = re.compile(r"/v1(?:beta|alpha)\d?/models/(?P<id>[^/:]+)")
_KEY_HEADERS = {"authorization", "x-api-key", "x-goog-api-key"}


class Provider:
    """A model provider on loopback. Use it with ``async with``, or see `serve_in_thread`.

    A reply is one that `script` prescribed, else a text that the words of the prompt choose.

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
        self._background = BackgroundReplies(keep)
        self._script: deque[Scripted] = deque()
        self._reply_started = threading.Condition()
        self._replies = 0

    @property
    def base_url(self) -> str:
        """The ``base_url`` for SDKs of OpenAI and of Anthropic, ``http://127.0.0.1:PORT/v1``."""
        return f"{self.root_url}/v1"

    @property
    def root_url(self) -> str:
        """``http://127.0.0.1:PORT``, for other SDKs; `docs/testing.md` says what each takes."""
        return f"http://{self._host}:{self.port}"

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    def script(self, *replies: str | Scripted) -> None:
        """Prescribe the next replies, in the order in which requests will come. Thread-safe.

        Once they are used up, the provider answers with texts of its own again.

        :param replies: each a text, a whole reply, an error or a recording.
        :raises TypeError: for anything else.
        """
        for reply in replies:
            if not isinstance(reply, str | ScriptedReply | ScriptedError | ScriptedRecording):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(
                    "a script has strings, ScriptedReply, ScriptedError and ScriptedRecording of"
                    f" tokenwire_adapters.testing.provider, not {reply!r:.80}"
                )
        self._script.extend(
            ScriptedReply(text=reply) if isinstance(reply, str) else reply for reply in replies
        )

    @property
    def scripted(self) -> int:
        """How many prescribed replies have not been used."""
        return len(self._script)

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
        with self._reply_started:
            if not self._reply_started.wait_for(lambda: self._replies >= count, timeout):
                raise TimeoutError(f"{self._replies} of {count} replies began within {timeout} s")
            return self.records[-1]

    async def wait_for_replies_async(self, count: int, timeout: float = 60.0) -> RequestRecord:
        """`wait_for_replies`, from a coroutine."""
        return await asyncio.to_thread(self.wait_for_replies, count, timeout)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
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
            with contextlib.suppress(ClientGone, ScriptedDisconnect):
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
            body = error_body("chat", error.status, error.message, None)
            await connection.answer(error.status, body)

    async def _answer(self, connection: Connection, request: Request) -> None:
        try:
            result = self._handle(request)
            script = self._next_scripted() if isinstance(result, ModelRequest) else None
            if isinstance(script, ScriptedError):
                raise BadRequest(script.message, status=script.status, retry=script.retry_after)
        except BadRequest as error:
            self.counters.refused += 1
            api = _api_of_error(request)
            headers = error_headers(api, error.status)
            if error.retry is not None:
                headers["retry-after"] = f"{error.retry:g}"
            body = error_body(api, error.status, error.message, error.param)
            await connection.answer(error.status, body, headers)
            return
        if isinstance(script, ScriptedRecording):
            await self._play(connection, script)
        elif isinstance(result, ModelRequest):
            await self._reply(connection, result, script)
        elif isinstance(result, ResumedStream):
            await self._resume(connection, result)
        else:
            await connection.answer(200, result)

    def _handle(self, request: Request) -> ModelRequest | ResumedStream | dict[str, Any]:
        """Return the request for a reply, or the body of an answer that needs no model."""
        route = find_route(request.path, request.query)
        models = _MODELS.fullmatch(request.path)
        gemini = _GEMINI_MODEL.fullmatch(request.path)
        ollama = request.path.startswith("/api/")
        about_response = self._background.find(request)
        if not (route or models or gemini or ollama or about_response):
            raise BadRequest(f"Unknown request URL: {request.method} {request.path}", status=404)
        if self._require_key and not request.headers.keys() & _KEY_HEADERS:
            raise BadRequest("You didn't provide an API key.", status=401)
        if about_response is not None:
            return about_response()
        if route is None and models:
            return _models(request, models["id"])
        if route is None and gemini:
            return describe_model(gemini["id"])
        if route is None:
            return answer_about_models(request.path, MODELS)
        if request.method != "POST":
            raise BadRequest(f"Method {request.method} is not allowed here.", status=405)
        return read_request(route, loads(request.body))

    def _next_scripted(self) -> Scripted | None:
        return self._script.popleft() if self._script else None

    async def _reply(
        self, connection: Connection, request: ModelRequest, script: ScriptedReply | None
    ) -> None:
        replies = plan_replies(request, script, length=self._length)
        record = RequestRecord(
            WIRES[request.api].id_prefix + secrets.token_hex(12), request, replies
        )
        with self._reply_started:
            self.records.append(record)
            self._replies += 1
            self.counters.running += 1
            self._reply_started.notify_all()
        if request.echo.get("background") is True:
            queued = self._background.begin(request, replies[0], record.id)
            if not request.stream:
                self._end(record, "complete")
                await connection.answer(200, queued)
                return
        sender = ReplySender(connection, request, replies, record, lambda: self.pace)
        try:
            await (sender.stream() if request.stream else sender.send_body())
        except ClientGone:
            self._end(record, "closed_early")
            raise
        except ScriptedDisconnect:
            self._end(record, "disconnected")
            raise
        except BaseException:
            self._end(record, "stopped")
            raise
        self._end(record, "complete")
        if request.stream:
            # Not part of the reply: clients that saw the last event may close before this.
            await connection.end_stream()

    async def _play(self, connection: Connection, recording: ScriptedRecording) -> None:
        """Send a recorded reply, an event at a time; there is no `RequestRecord` of it."""
        pieces, content_type = pieces_of(recording), recording.content_type or ""
        if content_type == "application/json":
            await connection.answer(200, b"".join(pieces))
            return
        await connection.start_stream(content_type)
        for piece in pieces:
            await connection.pause(1 / self.pace if self.pace else 0)
            await connection.send(piece)
        await connection.end_stream()

    async def _resume(self, connection: Connection, resumed: ResumedStream) -> None:
        request, replies, record, skip = resumed
        sender = ReplySender(connection, request, replies, record, lambda: self.pace, skip)
        await sender.stream()
        await connection.end_stream()

    def _end(self, record: RequestRecord, outcome: Outcome) -> None:
        self.counters.running -= 1
        self.counters.closed_early += int(outcome == "closed_early")
        self.counters.tokens_sent += record.tokens_sent
        record.mark_ended(outcome)


@contextmanager
def serve_in_thread(**options: Any) -> Generator[Provider]:
    """Run a `Provider` on a thread of its own while the block runs.

    :param options: what `Provider` takes.
    :raises OSError: the address cannot be listened on.
    """
    provider = Provider(**options)
    with running_in_thread(provider, "tokenwire-provider"):
        yield provider


def _models(request: Request, model_id: str | None) -> dict[str, Any]:
    if request.method != "GET":
        raise BadRequest(f"Method {request.method} is not allowed here.", status=405)
    models: list[dict[str, Any]]
    if "anthropic-version" in request.headers:
        created = "2026-01-01T00:00:00Z"
        models = [
            {"type": "model", "id": name, "display_name": name, "created_at": created}
            for name in MODELS
        ]
        page = {"data": models, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}
    else:
        models = [
            {"id": name, "object": "model", "created": 1767225600, "owned_by": "tokenwire"}
            for name in MODELS
        ]
        page = {"object": "list", "data": models}
    if model_id is None:
        return page
    for model in models:
        if model["id"] == model_id:
            return model
    raise BadRequest("The model does not exist.", status=404)


def _api_of_error(request: Request) -> Api:
    """The API whose form an error has: that of the path, else that of the client's headers."""
    if route := find_route(request.path, request.query):
        return route.api
    return "messages" if "anthropic-version" in request.headers else "chat"
