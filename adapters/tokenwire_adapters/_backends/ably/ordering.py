"""Keeps single events in their place among the entries of responses while both are sent."""

from __future__ import annotations

import asyncio
from typing import Self

__all__ = ["Ordering", "Ticket"]


class Ordering:
    """Orders single events (data, inputs, tool results) relative to entries of responses.

    Entries of responses are sent concurrently. A single event is sent after all entries that came
    before it, and before those that come later. Everything goes over one connection, which Ably
    processes in order, so nothing waits for acknowledgements.
    """

    def __init__(self) -> None:
        self._pending: dict[str, list[Ticket]] = {}

    def enter(self, channel: str, *, single: bool) -> Ticket:
        """Take the next place in a channel's order."""
        pending = self._pending.setdefault(channel, [])
        ticket = Ticket(self, channel, single, [t for t in pending if t.single != single])
        pending.append(ticket)
        return ticket

    def remove(self, ticket: Ticket) -> None:
        """Remove a ticket that was released."""
        pending = self._pending[ticket.channel]
        pending.remove(ticket)
        if not pending:
            del self._pending[ticket.channel]


class Ticket:
    """A place in a channel's order. Entering its context waits for the tickets before it."""

    def __init__(
        self, ordering: Ordering, channel: str, single: bool, earlier: list[Ticket]
    ) -> None:
        self.channel = channel
        self.single = single
        self._ordering = ordering
        self._earlier = earlier
        self._released = asyncio.Event()

    async def __aenter__(self) -> Self:
        try:
            for ticket in self._earlier:
                await ticket._released.wait()
        except BaseException:
            self.release()
            raise
        self._earlier = []
        return self

    async def __aexit__(self, *error: object) -> None:
        self.release()

    def release(self) -> None:
        """Let later tickets go on: this one's messages are on their way, or will not be sent."""
        if not self._released.is_set():
            self._released.set()
            self._ordering.remove(self)
