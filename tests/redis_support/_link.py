"""One connection through the proxy: two pumps that apply the `ActiveFaults` to each chunk."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

from .faults import DIRECTIONS, CutAfter, Direction, LoseReply

_CHUNK = 65_536
# Seconds without a byte after which a server has answered what it was sent: a request that came in
# one small piece, or one of which more may be on its way, from a process that is not run at once.
_QUIET, _QUIET_IN_PIECES = 0.02, 1.0
_SMALL = 16_384
_SLICE = 0.02  # seconds worth of bytes that a throttled connection writes at a time


class ActiveFaults:
    """The faults that are active now, for all connections. Belongs to the proxy's event loop."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.rate: int | None = None
        self.open = {direction: asyncio.Event() for direction in DIRECTIONS}
        self.dropping: set[Direction] = set()
        self.cut_after: CutAfter | None = None
        self.passed = 0  # bytes, since `cut_after` was set
        self.lose: LoseReply | None = None
        self.skipped = 0  # requests, since `lose` was set
        for event in self.open.values():
            event.set()

    def loses_reply_to(self, request: bytes) -> bool:
        if self.lose is None or self.lose.matching not in request:
            return False
        if self.skipped < self.lose.skip:
            self.skipped += 1
            return False
        self.lose = None
        return True

    def bytes_before_cut(self, direction: Direction, data: bytes) -> int | None:
        """How many of these bytes still pass before the connection is cut; None: all, no cut."""
        rule = self.cut_after
        if rule is None or rule.direction != direction:
            return None
        self.passed += len(data)
        if self.passed < rule.count:
            return None
        self.cut_after = None
        return len(data) - (self.passed - rule.count)


class Link:
    """A client's connection and ours to the server.

    :param count: is called with the direction and number of bytes of each chunk that arrives.
    """

    def __init__(
        self,
        faults: ActiveFaults,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        count: Callable[[Direction, int], None],
    ) -> None:
        self._faults = faults
        self._count = count
        self._readers: dict[Direction, asyncio.StreamReader] = {"up": client[0], "down": server[0]}
        self._writers: dict[Direction, asyncio.StreamWriter] = {"up": server[1], "down": client[1]}
        self._pumps: list[asyncio.Task[None]] = []
        self._swallowing = False
        self._swallowed_size = 0  # of the request whose reply is swallowed
        self._swallowed: asyncio.TimerHandle | None = None
        self.lost_bytes = False
        for writer in self._writers.values():
            # `drain` then returns once the kernel has it all, so a cut never eats what passed.
            writer.transport.set_write_buffer_limits(high=0)

    async def run(self) -> None:
        """Forward until either side ends or the link is cut."""
        self._pumps = [asyncio.ensure_future(self._pump(direction)) for direction in DIRECTIONS]
        try:
            await asyncio.wait(self._pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.cut()
            await asyncio.gather(*self._pumps, return_exceptions=True)

    def cut(self, *, reset: bool = False) -> None:
        """Close both sides now. What the kernel has taken already may still arrive."""
        if self._swallowed is not None:
            self._swallowed.cancel()
        for writer in self._writers.values():
            sock = writer.get_extra_info("socket")
            if reset and sock is not None and sock.family == socket.AF_INET and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        for pump in self._pumps:
            pump.cancel()

    async def _pump(self, direction: Direction) -> None:
        faults, reader = self._faults, self._readers[direction]
        while True:
            try:
                data = await reader.read(_CHUNK)
            except OSError:
                data = b""
            self._count(direction, len(data))
            if faults.delay:
                await asyncio.sleep(faults.delay)
            await faults.open[direction].wait()
            if direction in faults.dropping:
                self.lost_bytes = True
                if not data:
                    await asyncio.Event().wait()  # the close vanishes as well; a cut ends this
                continue
            if not data:
                return
            if not await self._forward(direction, data):
                return

    async def _forward(self, direction: Direction, data: bytes) -> bool:
        """Pass a chunk on; False when the connection is to be cut behind it."""
        if direction == "down" and self._swallowing:
            self._cut_when_quiet()
            return True
        if direction == "up" and self._faults.loses_reply_to(data):
            self._swallowing = True
        if direction == "up" and self._swallowing:
            self._swallowed_size += len(data)
        rule = self._faults.cut_after
        length = self._faults.bytes_before_cut(direction, data)
        try:
            await self._write(self._writers[direction], data[:length])
        except OSError:
            return False
        if length is not None and rule is not None:
            self.cut(reset=rule.reset)
            return False
        return True

    def _cut_when_quiet(self) -> None:
        """A pipeline may arrive and be answered in pieces: cut only behind the last of them."""
        if self._swallowed is not None:
            self._swallowed.cancel()
        quiet = _QUIET if self._swallowed_size < _SMALL else _QUIET_IN_PIECES
        self._swallowed = asyncio.get_running_loop().call_later(quiet, self.cut)

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        while (rate := self._faults.rate) is not None and data:
            size = max(1, int(rate * _SLICE))
            writer.write(data[:size])
            data = data[size:]
            await writer.drain()
            await asyncio.sleep(_SLICE)
        writer.write(data)
        await writer.drain()
