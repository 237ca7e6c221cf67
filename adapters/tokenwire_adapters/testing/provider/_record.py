"""What the provider remembers of each request, for tests and demos to compare with."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tokenwire_adapters.testing.provider._replies import Api, Ask, Call, Kind, Reply

__all__ = ["Counters", "Outcome", "RequestRecord"]

Outcome = Literal["running", "complete", "closed_early", "stopped"]


@dataclass
class Counters:
    """Totals since the provider started."""

    requests: int = 0
    """Requests that were well-formed HTTP, refused ones included."""
    refused: int = 0
    """Requests that were answered with an error."""
    running: int = 0
    """Replies being sent now."""
    closed_early: int = 0
    """Replies that the client did not wait for."""
    tokens_sent: int = 0


class RequestRecord:
    """One request that was answered with a reply. Read it from any thread."""

    def __init__(self, record_id: str, ask: Ask, replies: tuple[Reply, ...]) -> None:
        self.id = record_id
        """The id in the reply, ``chatcmpl-…``, ``resp_…`` or ``msg_…``."""
        self.api: Api = ask.api
        self.model = ask.model
        self.stream = ask.stream
        self.outcome: Outcome = "running"
        """``stopped``: the provider was closed while it was still sending."""
        self._replies = replies
        self._sent = [0] * len(replies)
        self._ended = threading.Event()

    def __repr__(self) -> str:
        sent, planned = self.tokens_sent, self.tokens_planned
        return f"<RequestRecord {self.id} {self.outcome} {sent}/{planned} tokens>"

    @property
    def closed_early(self) -> bool:
        """The client closed the connection before the end of the reply."""
        return self.outcome == "closed_early"

    @property
    def choices(self) -> int:
        """How many choices the reply has."""
        return len(self._replies)

    @property
    def tokens_planned(self) -> int:
        return sum(len(reply.pieces) for reply in self._replies)

    @property
    def tokens_sent(self) -> int:
        """Tokens handed to the socket; the client may not have read the last of them."""
        return sum(self._sent)

    @property
    def text(self) -> str:
        """The whole text of the first choice, whether or not it was sent."""
        return self.planned()

    @property
    def sent_text(self) -> str:
        """The text of the first choice that was sent so far."""
        return self.sent()

    @property
    def reasoning(self) -> str:
        """The whole reasoning of the first choice."""
        return self.planned("reasoning")

    @property
    def tool_calls(self) -> tuple[Call, ...]:
        """The tool calls of the first choice, with whole arguments; ids without their prefix."""
        return self._replies[0].calls

    def planned(self, kind: Kind = "text", *, choice: int = 0, call: int = 0) -> str:
        """Return everything that a choice has of one kind."""
        return self._replies[choice].joined(kind, call=call)

    def sent(self, kind: Kind = "text", *, choice: int = 0, call: int = 0) -> str:
        """Return what was sent so far of one kind."""
        return self._replies[choice].joined(kind, call=call, upto=self._sent[choice])

    def wait(self, timeout: float = 60.0) -> Outcome:
        """Wait until the reply has ended one way or another.

        :param timeout: seconds.
        :raises TimeoutError: it has not.
        """
        if not self._ended.wait(timeout):
            raise TimeoutError(f"{self!r} did not end within {timeout} s")
        return self.outcome

    async def wait_async(self, timeout: float = 60.0) -> Outcome:
        """`wait`, from a coroutine."""
        return await asyncio.to_thread(self.wait, timeout)

    def mark_sent(self, choices: Sequence[int]) -> None:
        for choice in choices:
            self._sent[choice] += 1

    def mark_all_sent(self) -> None:
        self._sent = [len(reply.pieces) for reply in self._replies]

    def mark_ended(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self._ended.set()
