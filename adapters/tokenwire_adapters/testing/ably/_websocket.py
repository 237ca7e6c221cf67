"""WebSocket framing on top of asyncio streams, with the `websockets` package's own protocol.

The package's servers hide the socket; faults need it (abort without a close frame, silence), and
one port has to serve REST requests with bodies as well.
"""

from __future__ import annotations

import asyncio

from websockets.frames import Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

__all__ = ["WebSocket"]

_READ = 65_536


class WebSocket:
    """One accepted WebSocket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._protocol = ServerProtocol(max_size=None)
        self._frames: list[str | bytes] = []
        self._parts: list[bytes] = []
        self._text = True

    def accept(self, head: bytes) -> bool:
        """Answer the opening handshake; False if the request is none."""
        self._protocol.receive_data(head)
        events = self._protocol.events_received()
        if not events:
            return False
        self._protocol.send_response(self._protocol.accept(events[0]))  # type: ignore[arg-type]
        self._write()
        return self._protocol.state is State.OPEN

    async def receive(self) -> str | bytes | None:
        """Return the next message, or None at the end."""
        while not self._frames:
            try:
                data = await self._reader.read(_READ)
            except (ConnectionError, OSError):
                return None
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
            self._collect()
            self._write()  # pongs, and the answer to a close
            if not data or self._protocol.state is not State.OPEN:
                break
        return self._frames.pop(0) if self._frames else None

    def _collect(self) -> None:
        for event in self._protocol.events_received():
            opcode = getattr(event, "opcode", None)
            if opcode in {Opcode.TEXT, Opcode.BINARY}:
                self._text, self._parts = opcode is Opcode.TEXT, []
            elif opcode is not Opcode.CONT:
                continue
            self._parts.append(bytes(event.data))  # type: ignore[union-attr]
            if event.fin:  # type: ignore[union-attr]
                whole = b"".join(self._parts)
                self._frames.append(whole.decode() if self._text else whole)

    def send(self, data: str | bytes) -> None:
        """Send one message; nothing happens on a socket that has ended."""
        if self._protocol.state is not State.OPEN or self._writer.is_closing():
            return
        if isinstance(data, str):
            self._protocol.send_text(data.encode())
        else:
            self._protocol.send_binary(data)
        self._write()

    def ping(self) -> None:
        """Send a WebSocket ping: a sign of life that is no protocol message (RTN23b)."""
        if self._protocol.state is State.OPEN and not self._writer.is_closing():
            self._protocol.send_ping(b"")
            self._write()

    def close(self) -> None:
        """Send a close frame, then end the socket once it is out."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(1000)
            self._write()
        if not self._writer.is_closing():
            self._writer.close()

    def abort(self) -> None:
        """End the socket at once, as a network does: no close frame, unsent data lost."""
        self._writer.transport.abort()

    def _write(self) -> None:
        for data in self._protocol.data_to_send():
            if data and not self._writer.is_closing():
                self._writer.write(data)
