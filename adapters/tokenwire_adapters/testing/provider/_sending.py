"""Sends one reply, at a model's pace, and records what was sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from tokenwire_adapters.testing.provider._errors import error_body
from tokenwire_adapters.testing.provider._frames import Frame
from tokenwire_adapters.testing.provider._http import Connection
from tokenwire_adapters.testing.provider._record import RequestRecord
from tokenwire_adapters.testing.provider._replies import ModelRequest, Reply
from tokenwire_adapters.testing.provider._script import Interruption
from tokenwire_adapters.testing.provider._wires import WIRES, content_type, error_piece

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
        interruption = self.replies[0].interruption
        if pace := self.pace():  # choices are written side by side
            longest = max(len(reply.tokens) for reply in self.replies)
            await self.connection.pause((interruption.after if interruption else longest) / pace)
        if interruption is not None:
            await self._interrupt(interruption, streamed=False)
            return
        value = WIRES[self.request.api].body(self.request, self.replies, self.record.id)
        await self.connection.answer(200, value)
        self.record.mark_all_sent()

    async def stream(self) -> None:
        """Send every event: one with a token waits for its time, others are sent at once.

        Without a pace, several tokens share one write, and the loop gets a turn between writes.

        :raises ClientGone: the client closed the connection.
        :raises ScriptedDisconnect: the connection is to be cut.
        """
        every = WIRES[self.request.api].frames(self.request, self.replies, self.record.id)
        frames: Iterator[Frame] = islice(every, self.skip, None)
        interruption = self.replies[0].interruption
        await self.connection.start_stream(content_type(self.request))
        schedule = _Schedule()
        data = b""
        choices: list[int] = []  # of the tokens in `data`
        for frame in frames:
            sent = self.record.tokens_sent + len(choices)
            if interruption is not None and sent >= interruption.after:
                await self._write(data, choices)
                await self._interrupt(interruption, streamed=True)
                return
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

    async def _interrupt(self, interruption: Interruption, *, streamed: bool) -> None:
        """Break the reply off, as the script says."""
        how = interruption.how
        if how == "disconnect":
            raise ScriptedDisconnect
        if how == "stall":
            while True:
                await self.connection.pause(3600)  # until the client closes
        if streamed:
            piece = error_piece(self.request, how)
            if piece is None:
                raise ScriptedDisconnect
            await self.connection.send(piece)
            return
        body = error_body(self.request.api, how.status, how.message, None)
        await self.connection.answer(how.status, body)

    async def _write(self, data: bytes, choices: list[int]) -> None:
        if data:
            await self.connection.send(data)
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
