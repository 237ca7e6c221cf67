"""Sends one reply, at a model's pace, and records what was sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from tokenwire_adapters.testing.provider._frames import Frame
from tokenwire_adapters.testing.provider._http import Connection, Request
from tokenwire_adapters.testing.provider._json import dumps
from tokenwire_adapters.testing.provider._record import RequestRecord
from tokenwire_adapters.testing.provider._replies import ModelRequest, Reply
from tokenwire_adapters.testing.provider._wires import WIRES, content_type

__all__ = ["ReplySender", "ScriptedDisconnect"]

_TOKENS_PER_WRITE = 16
_MAX_LAG = 1.0


class ScriptedDisconnect(Exception):
    """The script says to cut the connection here."""


@dataclass(frozen=True)
class ReplySender:
    """Sends the replies to one request.

    :ivar pace: returns the tokens per second of each choice, 0 for no limit; it may change.
    :ivar skip: how many events of a stream are left out.
    """

    connection: Connection
    http_request: Request
    request_id: str
    request: ModelRequest
    replies: tuple[Reply, ...]
    record: RequestRecord
    pace: Callable[[], float]
    skip: int = 0

    async def send_body(self) -> None:
        """Send the whole reply at once, after the time that a stream of it would take.

        :raises ClientGone: the client closed the connection.
        :raises ScriptedDisconnect: the connection is to be cut.
        """
        limit = self.replies[0].disconnect_after
        if pace := self.pace():  # choices are written side by side
            longest = max(len(reply.tokens) for reply in self.replies)
            await self.connection.pause((longest if limit is None else limit) / pace)
        if limit is not None:
            raise ScriptedDisconnect
        value = WIRES[self.request.api].body(self.request, self.replies, self.record.id)
        await self.connection.answer(
            200, dumps(value).encode(), self.request_id, keep_alive=self.http_request.keep_alive
        )
        self.record.mark_all_sent()

    async def stream(self) -> None:
        """Send every event: one with a token waits for its time, others are sent at once.

        Without a pace, several tokens share one write, and the loop gets a turn between writes.

        :raises ClientGone: the client closed the connection.
        :raises ScriptedDisconnect: the connection is to be cut.
        """
        every = WIRES[self.request.api].frames(self.request, self.replies, self.record.id)
        frames: Iterator[Frame] = islice(every, self.skip, None)
        limit = self.replies[0].disconnect_after
        await self.connection.start_stream(
            self.http_request, self.request_id, content_type(self.request)
        )
        schedule = _Schedule()
        data = b""
        choices: list[int] = []  # of the tokens in `data`
        for frame in frames:
            if limit is not None and self.record.tokens_sent + len(choices) >= limit:
                await self._write(data, choices)
                raise ScriptedDisconnect
            pace = self.pace()
            if frame.choice is not None:
                if pace:
                    await self.connection.pause(
                        schedule.until_next(pace * self.request.n / frame.tokens)
                    )
                choices += [frame.choice] * frame.tokens
            data += frame.data
            if pace or len(choices) >= _TOKENS_PER_WRITE:
                await self._write(data, choices)
                data, choices = b"", []
                await self.connection.pause(0)
        await self._write(data, choices)

    async def _write(self, data: bytes, choices: list[int]) -> None:
        if data:
            await self.connection.send(self.http_request, data)
            self.record.mark_sent(choices)


class _Schedule:
    """Computes when the next token is due."""

    def __init__(self) -> None:
        self._due = asyncio.get_running_loop().time()

    def until_next(self, pace: float) -> float:
        """Seconds until the next token, at ``pace`` tokens a second."""
        now = asyncio.get_running_loop().time()
        # A sleep that took too long is made up for, but a stall is not.
        due = max(self._due, now - _MAX_LAG)
        self._due = due + 1 / pace
        return due - now
