"""Serves recorded replies of providers to real SDKs, over loopback HTTP.

The server runs on a thread of its own, so that sync and async tests use it alike::

    with Replay(recording.body) as replay:
        client = OpenAI(base_url=replay.base_url, api_key="unused")

It answers every POST with the next of its replies, and again with the last one; the path and the
query are only recorded. A `Gate` lets the test decide when each event leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Literal, Self

PATIENCE = 60.0
"""Seconds to wait for what takes milliseconds on a machine that is not busy."""

_EVENT = re.compile(rb".*?(?:\r\n\r\n|\n\n|\r\r)|.+", re.DOTALL)


def split_events(body: bytes) -> list[bytes]:
    """Cut a body of server-sent events after each blank line. Joined, it is the body again."""
    return _EVENT.findall(body)


class Gate:
    """Holds events back until the test releases them. Use it from any thread."""

    def __init__(self, released: int = 0) -> None:
        self._released = released
        self._lock = threading.Lock()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def release(self, events: int = 1) -> None:
        """Let this many more events go."""
        with self._lock:
            self._released += events
            waiting, self._waiting = self._waiting, []
        for loop, event in waiting:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    def open(self) -> None:
        """Let everything go from now on."""
        self.release(1 << 40)

    async def _take(self) -> None:
        while True:
            event = asyncio.Event()
            with self._lock:
                if self._released:
                    self._released -= 1
                    return
                self._waiting.append((asyncio.get_running_loop(), event))
            await event.wait()


@dataclass(frozen=True)
class Reply:
    """One reply of the server.

    :param body: what to send, byte for byte.
    :param status: any but 200 is sent as JSON with a Content-Length.
    :param headers: further headers.
    :param cuts: a seed; the body is then sent in HTTP chunks cut at arbitrary bytes.
    :param gate: holds each event back until released.
    :param drop_after: send this many events, then close the connection.
    :param drop_bytes: with ``drop_after``, this many bytes of the next event too.
    """

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    cuts: int | None = None
    gate: Gate | None = None
    drop_after: int | None = None
    drop_bytes: int = 0


class Exchange:
    """One request and how its reply went."""

    def __init__(self, path: str, query: str, headers: dict[str, str], body: bytes) -> None:
        self.path = path
        self.query = query
        self.headers = headers
        """Names in lower case."""
        self.body = body
        self.events_sent = 0
        self.outcome: Literal["running", "complete", "dropped", "closed_early", "stopped"] = (
            "running"
        )

    @property
    def closed_early(self) -> bool:
        """The client closed the connection before the last event was sent."""
        return self.outcome == "closed_early"


class _Gone(Exception):
    """The client closed the connection."""


class _Reader(asyncio.StreamReader):
    """Tells of the client's close at once, though nobody is reading."""

    def __init__(self) -> None:
        super().__init__()
        self.gone = asyncio.Event()

    def feed_eof(self) -> None:
        super().feed_eof()
        self.gone.set()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self.gone.set()


class Replay:
    """The server. A context manager, sync and async."""

    def __init__(self, *replies: Reply | bytes) -> None:
        if not replies:
            raise ValueError("there is nothing to replay")
        self._replies = [reply if isinstance(reply, Reply) else Reply(reply) for reply in replies]
        self.exchanges: list[Exchange] = []
        """One for each request, in the order they arrived."""
        self._changed = threading.Condition()
        self._port = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop: Callable[[], object] | None = None
        self._thread: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """For SDKs that are given the version in the URL, as OpenAI's is."""
        return f"{self.root_url}/v1"

    @property
    def root_url(self) -> str:
        """For SDKs that add the version themselves, as Anthropic's does."""
        return f"http://127.0.0.1:{self._port}"

    def wait(self, until: Callable[[], bool], timeout: float = PATIENCE) -> None:
        """Wait until something holds that the exchanges tell.

        :raises TimeoutError: it does not come to hold.
        """
        with self._changed:
            if not self._changed.wait_for(until, timeout):
                seen = [(each.path, each.outcome, each.events_sent) for each in self.exchanges]
                raise TimeoutError(f"waited {timeout} s; the exchanges are {seen}")

    def wait_closed_early(self, index: int = -1, timeout: float = PATIENCE) -> Exchange:
        """Wait until the client has closed the connection midway."""
        self.wait(lambda: bool(self.exchanges) and self.exchanges[index].closed_early, timeout)
        return self.exchanges[index]

    def wait_sent(self, events: int, index: int = -1, timeout: float = PATIENCE) -> Exchange:
        """Wait until this many events have left."""
        self.wait(
            lambda: bool(self.exchanges) and self.exchanges[index].events_sent >= events, timeout
        )
        return self.exchanges[index]

    async def wait_async(self, until: Callable[[], bool], timeout: float = PATIENCE) -> None:
        """`wait`, from a coroutine."""
        await asyncio.to_thread(self.wait, until, timeout)

    async def wait_closed_early_async(self, index: int = -1) -> Exchange:
        """`wait_closed_early`, from a coroutine."""
        return await asyncio.to_thread(self.wait_closed_early, index)

    def __enter__(self) -> Self:
        started: Future[None] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(started)), name="replay", daemon=True
        )
        self._thread.start()
        started.result(PATIENCE)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._stop is not None:
            self._stop()
        if self._thread is not None:
            self._thread.join(PATIENCE)

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.__exit__, exc_type, exc, traceback)

    async def _run(self, started: Future[None]) -> None:
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()

        def connected() -> asyncio.StreamReaderProtocol:
            reader = _Reader()

            def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                if stopped.is_set():  # accepted while the server was being closed
                    writer.transport.abort()
                    return
                task = loop.create_task(self._serve(reader, writer))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

            return asyncio.StreamReaderProtocol(reader, serve)

        try:
            server = await loop.create_server(connected, "127.0.0.1", 0)
        except OSError as error:
            started.set_exception(error)
            return
        self._port = server.sockets[0].getsockname()[1]
        self._stop = lambda: loop.call_soon_threadsafe(stopped.set)
        started.set_result(None)
        await stopped.wait()
        server.close()
        while tasks := list(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # Waiting for what is done already does not let its callbacks run (Python 3.12).
            self._tasks.difference_update(tasks)
        await server.wait_closed()

    async def _serve(self, reader: _Reader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
            writer.close()
            await writer.wait_closed()
        except (_Gone, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _exchange(self, reader: _Reader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when the connection is to end."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        path, _, query = first.split(" ")[1].partition("?")
        exchange = Exchange(path, query, headers, body)
        reply = self._replies[min(len(self.exchanges), len(self._replies) - 1)]
        with self._changed:
            self.exchanges.append(exchange)
            self._changed.notify_all()
        outcome: Literal["complete", "dropped", "closed_early", "stopped"] = "stopped"
        try:
            whole = await self._reply(reply, exchange, reader, writer)
            outcome = "complete" if whole else "dropped"
        except (_Gone, ConnectionError):
            outcome = "closed_early"
            raise
        finally:
            with self._changed:
                exchange.outcome = outcome
                self._changed.notify_all()
        if whole and reply.status == 200:
            writer.write(b"0\r\n\r\n")  # the end of the chunks is not part of the reply
        return whole

    async def _reply(
        self, reply: Reply, exchange: Exchange, reader: _Reader, writer: asyncio.StreamWriter
    ) -> bool:
        """Send the reply; False when it was dropped midway, as it was told to."""
        streams = reply.status == 200
        headers = {
            "content-type": "text/event-stream; charset=utf-8" if streams else "application/json",
            **({"transfer-encoding": "chunked"} if streams else {}),
            **({} if streams else {"content-length": str(len(reply.body))}),
            **reply.headers,
        }
        status = f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}"
        lines = [status, *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        writer.write("\r\n".join(lines).encode("latin-1"))
        if not streams:
            writer.write(reply.body)
            await writer.drain()
            return True
        chance = random.Random(reply.cuts)
        for index, event in enumerate(split_events(reply.body)):
            if reply.drop_after == index:
                if reply.drop_bytes:
                    await _write(event[: reply.drop_bytes], reader, writer)
                return False
            if reply.gate is not None:
                await _first(reply.gate._take(), reader)
            for piece in [event] if reply.cuts is None else _cut(event, chance):
                await _write(piece, reader, writer)
            with self._changed:
                exchange.events_sent += 1
                self._changed.notify_all()
        return True


async def _first(waiting: Coroutine[None, None, None], reader: _Reader) -> None:
    """Wait for the gate, or raise as soon as the client is gone."""
    gate = asyncio.ensure_future(waiting)
    gone = asyncio.ensure_future(reader.gone.wait())
    try:
        await asyncio.wait({gate, gone}, return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            raise _Gone
    finally:
        gate.cancel()
        gone.cancel()


async def _write(piece: bytes, reader: _Reader, writer: asyncio.StreamWriter) -> None:
    if reader.gone.is_set():
        raise _Gone
    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    await writer.drain()


def _cut(data: bytes, chance: random.Random) -> Iterator[bytes]:
    """Cut at arbitrary bytes: within lines, within characters, between a CR and its LF."""
    start = 0
    while start < len(data):
        end = start + min(chance.randint(1, 40), chance.randint(1, 40))
        yield data[start:end]
        start = end
