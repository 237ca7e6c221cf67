"""Places in a channel: events of their own go out where they were published among responses."""

from __future__ import annotations

import asyncio
from typing import Self

__all__ = ["Turn", "Turns"]


class Turns:
    """Keeps events of their own and entries of responses apart while they are sent.

    Entries of responses go out side by side. An event that stands alone goes out after those that
    were begun before it, and before those that are begun later. All of them are on one connection,
    which Ably takes in order, so nobody waits for answers.
    """

    def __init__(self) -> None:
        self._going: dict[str, list[Turn]] = {}

    def take(self, channel: str, *, alone: bool) -> Turn:
        """Take the next place in a channel; to be called in the order of the places."""
        going = self._going.setdefault(channel, [])
        turn = Turn(self, channel, alone, [t for t in going if t.alone != alone])
        going.append(turn)
        return turn

    def given_back(self, turn: Turn) -> None:
        """Learn that what has a place went out, or will not."""
        going = self._going[turn.channel]
        going.remove(turn)
        if not going:
            del self._going[turn.channel]


class Turn:
    """One place. With `async with`, waits for those before it."""

    def __init__(self, turns: Turns, channel: str, alone: bool, before: list[Turn]) -> None:
        self.channel = channel
        self.alone = alone
        self._turns = turns
        self._before = before
        self._over = asyncio.Event()

    async def __aenter__(self) -> Self:
        try:
            for turn in self._before:
                await turn.passed()
        except BaseException:
            self.leave()
            raise
        self._before = []
        return self

    async def __aexit__(self, *error: object) -> None:
        self.leave()

    async def passed(self) -> None:
        """Wait until it is over."""
        await self._over.wait()

    def leave(self) -> None:
        """Let those behind go on."""
        if not self._over.is_set():
            self._over.set()
            self._turns.given_back(self)
