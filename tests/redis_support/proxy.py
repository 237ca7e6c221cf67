"""A TCP proxy that breaks connections on request, in a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Self, TypeAlias, TypeVar

from tests.support.ports import ReservedPort

from ._link import ActiveFaults, Link
from ._waiting import PATIENCE
from .faults import (
    DIRECTIONS,
    Cut,
    CutAfter,
    Delay,
    Direction,
    Fault,
    HalfOpen,
    LoseReply,
    Refuse,
    Script,
    Stall,
    Throttle,
)

T = TypeVar("T")
Target: TypeAlias = tuple[str, int] | str


class FaultyProxy:
    """Forwards ``127.0.0.1:port`` to a server, with the faults that it is given.

    Every method may be called from any thread or event loop and takes effect before it returns.
    Faults hold for the open connections and for new ones until `heal`.

    :param target: host and port, or the path of a Unix socket.
    :param tls: speak TLS with the clients (and plain text with the server).
    """

    def __init__(
        self, target: Target, *, port: int | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.host = "127.0.0.1"
        self._reserved = ReservedPort() if port is None else None
        self.port = port if self._reserved is None else self._reserved.number
        self.target = target
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="faulty-proxy", daemon=True)
        self._listener: socket.socket | None = None
        self._links: set[Link] = set()
        self._connecting: set[asyncio.Task[None]] = set()  # taken, and not joined to the server yet
        self._tasks: set[asyncio.Task[None]] = set()
        self._bytes: dict[Direction, int] = dict.fromkeys(DIRECTIONS, 0)
        self._requests = 0
        self._accepted = 0
        self._faults = ActiveFaults()

    # Life

    def start(self) -> Self:
        self._thread.start()
        self._do(self._listen)
        return self

    def close(self) -> None:
        """Cut everything and stop. Idempotent."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result(PATIENCE)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(PATIENCE)
        if self._reserved is not None:
            self._reserved.release()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # What has passed

    @property
    def url(self) -> str:
        return f"{'rediss' if self._tls else 'redis'}://{self.host}:{self.port}"

    @property
    def requests(self) -> int:
        """Chunks that clients have sent; one command or pipeline is one or a few."""
        return self._requests

    @property
    def accepted(self) -> int:
        """Connections taken since the start."""
        return self._accepted

    @property
    def connections(self) -> int:
        """Connections open now."""
        return len(self._links)

    def received(self, direction: Direction) -> int:
        """Bytes received for that direction, forwarded or not."""
        return self._bytes[direction]

    # Faults

    def cut(self, *, reset: bool = False) -> int:
        """Close every open connection. Returns how many there were."""

        def action() -> int:
            links = list(self._links)
            for link in links:
                link.cut(reset=reset)
            return len(links) + self._drop_connecting()

        return self._do(action)

    def cut_after(self, count: int, direction: Direction = "down", *, reset: bool = False) -> None:
        """See `CutAfter`; happens once."""
        rule = CutAfter(count, direction, reset)

        def action() -> None:
            self._faults.cut_after, self._faults.passed = rule, 0

        self._do(action)

    def lose_reply(self, *, skip: int = 0, matching: bytes = b"") -> None:
        """See `LoseReply`; happens once."""
        rule = LoseReply(skip, matching)

        def action() -> None:
            self._faults.lose, self._faults.skipped = rule, 0

        self._do(action)

    @property
    def armed(self) -> bool:
        """Whether a `cut_after` or `lose_reply` still waits for its moment."""
        return self._faults.lose is not None or self._faults.cut_after is not None

    def delay(self, seconds: float) -> None:
        self._do(lambda: setattr(self._faults, "delay", seconds))

    def throttle(self, rate: int | None) -> None:
        """Bytes a second, per connection and direction; None: no limit."""
        self._do(lambda: setattr(self._faults, "rate", rate))

    def stall(self, direction: Direction | None = None) -> None:
        """Forward nothing in that direction (None: in both); nothing is lost."""

        def action() -> None:
            for one in _these(direction):
                self._faults.open[one].clear()

        self._do(action)

    def unstall(self, direction: Direction | None = None) -> None:
        def action() -> None:
            for one in _these(direction):
                self._faults.open[one].set()

        self._do(action)

    def half_open(self, direction: Direction) -> None:
        """What is sent in that direction vanishes from now on, and a close with it."""
        self._do(lambda: self._faults.dropping.add(direction))

    def unhalf_open(self, direction: Direction) -> None:
        """Forward again; connections that lost bytes are reset."""

        def action() -> None:
            self._faults.dropping.discard(direction)
            for link in list(self._links):
                if link.lost_bytes:
                    link.cut(reset=True)

        self._do(action)

    def refuse(self) -> None:
        """Cut every connection and refuse new ones."""

        def action() -> None:
            self._deafen()
            for link in list(self._links):
                link.cut()
            self._drop_connecting()

        self._do(action)

    def accept(self) -> None:
        """Take connections again, on the same port."""
        self._do(self._listen)

    def heal(self) -> None:
        """Undo every fault: what comes now is forwarded."""

        def action() -> None:
            self.delay(0)
            self.throttle(None)
            self.unstall()
            for direction in DIRECTIONS:
                self.unhalf_open(direction)
            self._faults.lose = self._faults.cut_after = None
            self._listen()

        self._do(action)

    # Scripts

    def play(self, script: Script) -> concurrent.futures.Future[None]:
        """Apply the steps one after the other, in the background.

        Faults that wait for their moment (`CutAfter`, `LoseReply`) do not hold the script up.
        Cancel the future, or `heal`, to be sure that nothing is wrong any more.
        """
        return asyncio.run_coroutine_threadsafe(self._play(script), self._loop)

    async def _play(self, script: Script) -> None:
        for step in script:
            await self._pass(step.after)
            await self._apply(step.fault)

    async def _pass(self, requests: int) -> None:
        """Wait for that many requests, or until none has come for a tenth of a second."""
        wanted, seen, since = self._requests + requests, self._requests, self._loop.time()
        while self._requests < wanted and self._loop.time() < since + 0.1:
            await asyncio.sleep(0.001)
            if self._requests != seen:
                seen, since = self._requests, self._loop.time()

    async def _apply(self, fault: Fault) -> None:
        match fault:
            case Cut(reset):
                self.cut(reset=reset)
            case CutAfter(count, direction, reset):
                self.cut_after(count, direction, reset=reset)
            case LoseReply(skip, matching):
                self.lose_reply(skip=skip, matching=matching)
            case Delay(each, seconds):
                self.delay(each)
                await self._lasting(seconds, lambda: self.delay(0))
            case Throttle(rate, seconds):
                self.throttle(rate)
                await self._lasting(seconds, lambda: self.throttle(None))
            case Stall(side, seconds):
                self.stall(side)
                await self._lasting(seconds, lambda: self.unstall(side))
            case HalfOpen(direction, seconds):
                self.half_open(direction)
                await self._lasting(seconds, lambda: self.unhalf_open(direction))
            case Refuse(seconds):
                self.refuse()
                await self._lasting(seconds, self.accept)

    async def _lasting(self, seconds: float, heal: Callable[[], object]) -> None:
        try:
            await asyncio.sleep(seconds)
        finally:
            heal()

    # On the proxy's loop

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _do(self, action: Callable[[], T]) -> T:
        """Run `action` on the proxy's loop and wait for it."""
        if threading.current_thread() is self._thread:
            return action()
        done: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                result = action()
            except BaseException as error:
                done.set_exception(error)
            else:
                # An aborted transport closes its socket one turn of the loop later.
                self._loop.call_soon(done.set_result, result)

        self._loop.call_soon_threadsafe(run)
        return done.result(PATIENCE)

    def _listen(self) -> None:
        if self._listener is not None:
            return
        # From here on nobody is refused, though we accept a little later.
        sock = socket.create_server((self.host, self.port), backlog=512)
        sock.setblocking(False)
        self._listener = sock
        self._loop.add_reader(sock, self._take, sock)

    def _deafen(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _take(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # it went away while it waited
        connection.setblocking(False)
        self._accepted += 1
        task = self._background(self._connect(connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        # One that is cancelled before its first step never gets to close what it was given.
        task.add_done_callback(lambda _: connection.close())

    async def _connect(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            reader = asyncio.StreamReader(loop=self._loop)
            protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=self._tls
            )
        except OSError:  # the TLS handshake failed
            connection.close()
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
        try:
            if isinstance(self.target, str):
                server = await asyncio.open_unix_connection(self.target)
            else:
                server = await asyncio.open_connection(*self.target)
        except OSError:
            transport.abort()
            return
        except asyncio.CancelledError:
            transport.abort()
            raise
        link = Link(self._faults, (reader, writer), server, self._count)
        self._links.add(link)
        task = asyncio.current_task()
        if task is not None:
            self._connecting.discard(task)
        try:
            await link.run()
        finally:
            self._links.discard(link)

    def _drop_connecting(self) -> int:
        tasks = list(self._connecting)
        for task in tasks:
            task.cancel()
        return len(tasks)

    def _count(self, direction: Direction, length: int) -> None:
        self._bytes[direction] += length
        if direction == "up" and length:
            self._requests += 1

    def _background(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)  # a task that nobody holds may be collected
        task.add_done_callback(self._tasks.discard)
        return task

    async def _shut(self) -> None:
        self._deafen()
        for link in list(self._links):
            link.cut()
        tasks = [task for task in self._tasks if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # aborted transports close their sockets a turn later


def _these(direction: Direction | None) -> tuple[Direction, ...]:
    return DIRECTIONS if direction is None else (direction,)
