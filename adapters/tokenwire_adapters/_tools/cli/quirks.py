"""Workarounds for uvicorn: seen with version 0.54.

uvicorn has no limit on the time of a request's head, nor on a connection's first request:
https://github.com/Kludex/uvicorn/issues/157 and https://github.com/Kludex/uvicorn/issues/160.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11

from tokenwire_adapters._web.uvicorn.protocols import H11Protocol

__all__ = ["HEADER_TIMEOUT", "TimedHeadProtocol"]

HEADER_TIMEOUT = 15.0
"""Seconds within which the head of a request must arrive."""


class TimedHeadProtocol(H11Protocol):
    """Our protocol by h11, which drops clients that send the head of a request too slowly.

    uvicorn's own `timeout_keep_alive` counts from a first response to the first byte of the next
    request.
    """

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE or not self.conn.trailing_data[0]:
            self._stop_timer()
        elif self._head_timer is None:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEADER_TIMEOUT, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
