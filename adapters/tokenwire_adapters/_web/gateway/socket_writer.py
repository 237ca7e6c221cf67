"""Writes the messages of a WebSocket to its transport, where its server lets the gateway do so."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable

from tokenwire_adapters._web.gateway.asgi import Message, Send
from tokenwire_adapters._web.gateway.takeover import TakenSocket, TakeSocket

__all__ = ["SocketWriter", "text_frame"]

_TEXT, _COMPRESSED = 0x81, 0x40
_LEAST_COMPRESSED = 64  # bytes
_MEMORY_LEVEL = 5


def text_frame(data: bytes, window_bits: int | None = None) -> bytes:
    """A text message as one unmasked frame (RFC 6455, section 5.2).

    :param window_bits: of the compression that was negotiated (RFC 7692); None where none was. A
        message is compressed by itself, so that its frame is good for every connection.
    """
    head = _TEXT
    if window_bits is not None and len(data) >= _LEAST_COMPRESSED:
        compressor = zlib.compressobj(wbits=-window_bits, memLevel=_MEMORY_LEVEL)
        data = (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
        head |= _COMPRESSED
    size = len(data)
    if size < 126:
        return b"%c%c%b" % (head, size, data)
    if size < 2**16:
        return b"%c\x7e%b%b" % (head, size.to_bytes(2, "big"), data)
    return b"%c\x7f%b%b" % (head, size.to_bytes(8, "big"), data)


class SocketWriter:
    """Sends messages in the place of a server, which sends everything else.

    :param send: the server's, for everything else.
    :param on_pause: called when the client does not read what was written, or is gone.
    :ivar write: writes frames to the transport.
    :ivar window_bits: see `text_frame`.
    """

    def __init__(self, send: Send, on_pause: Callable[[], None]) -> None:
        self.write: Callable[[bytes], None] = _not_yet
        self.window_bits: int | None = None
        self._send = send
        self._on_pause = on_pause
        self._taken: TakenSocket | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def take(self, take: TakeSocket) -> bool:
        """Write to the transport from now on; False where that cannot be done."""
        taken = self._taken = take(self)
        if taken is None:
            return False
        self.write, self.window_bits = taken.transport.write, taken.window_bits
        return True

    @property
    def paused(self) -> bool:
        """Whether the client has not read what was written, or is gone."""
        return self._taken is None or not self._writable.is_set()

    def frame(self, text: str) -> bytes:
        """A message as a frame."""
        return text_frame(text.encode(), self.window_bits)

    async def send(self, message: Message) -> None:
        """Send an ASGI message. :raises OSError: when the client has disconnected."""
        await self._writable.wait()
        if message["type"] != "websocket.send":
            await self._send(message)
        elif self._taken is None or self._taken.transport.is_closing():
            raise ConnectionResetError("the client has disconnected")
        else:
            self.write(self.frame(message["text"]))

    # -- called by the server

    def pause_writing(self) -> None:
        """The client reads more slowly than is written."""
        self._writable.clear()
        self._on_pause()

    def resume_writing(self) -> None:
        """The client has read most of what was written."""
        self._writable.set()

    def connection_lost(self) -> None:
        """The connection is closed: whoever sends learns of it."""
        self._taken = None
        self._on_pause()
        self._writable.set()


def _not_yet(data: bytes) -> None:
    _ = data
    raise RuntimeError("the transport is the server's")
