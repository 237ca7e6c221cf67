"""Records of the requests that were answered, for tests and demos to compare with."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tokenwire_adapters.testing.provider._replies import Api, Kind, ModelRequest, Reply, ToolCall

__all__ = ["Counters", "Outcome", "RequestRecord"]

Outcome = Literal["running", "complete", "closed_early", "disconnected", "stopped"]
"""How a request ended: ``closed_early``, the client left; ``disconnected``, the script hung up;
``stopped``, the provider was stopped."""


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
    """Replies during which the client closed the connection."""
    tokens_sent: int = 0
    """Tokens of all replies that have ended."""


class RequestRecord:
    """One request that was answered with a reply. It may be read from any thread."""

    def __init__(self, record_id: str, request: ModelRequest, replies: tuple[Reply, ...]) -> None:
        self.id = record_id
        """The id in the reply, ``chatcmpl-…``, ``resp_…`` or ``msg_…``."""
        self.api: Api = request.api
        self.model = request.model
        self.stream = request.stream
        self.outcome: Outcome = "running"
        """``running``, then ``complete``, ``closed_early`` (the client closed the connection),
        ``disconnected`` (the script did) or ``stopped`` (the provider was closed)."""
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
        """Tokens of the whole reply, all choices together."""
        return sum(len(reply.tokens) for reply in self._replies)

    @property
    def tokens_sent(self) -> int:
        """Tokens written to the socket; the client may not have read the last of them."""
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
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls of the first choice: ``id`` (without prefix), ``name``, ``arguments``."""
        return self._replies[0].calls

    def planned(self, kind: Kind = "text", *, choice: int = 0, call: int = 0) -> str:
        """Return the whole text of one kind: ``text``, ``reasoning`` or ``tool``."""
        return self._replies[choice].joined(kind, call=call)

    def sent(self, kind: Kind = "text", *, choice: int = 0, call: int = 0) -> str:
        """Return the text of one kind that was sent so far."""
        return self._replies[choice].joined(kind, call=call, upto=self._sent[choice])

    def wait(self, timeout: float = 60.0) -> Outcome:
        """Wait until the reply has ended.

        :param timeout: seconds.
        :raises TimeoutError: the reply has not ended.
        """
        if not self._ended.wait(timeout):
            raise TimeoutError(f"{self!r} did not end within {timeout} s")
        return self.outcome

    async def wait_async(self, timeout: float = 60.0) -> Outcome:
        """`wait`, from a coroutine."""
        return await asyncio.to_thread(self.wait, timeout)

    def mark_sent(self, choices: Sequence[int]) -> None:
        """Called by the provider: the next token of each of these choices was sent."""
        for choice in choices:
            self._sent[choice] += 1

    def mark_all_sent(self) -> None:
        """Called by the provider: the whole reply was sent."""
        self._sent = [len(reply.tokens) for reply in self._replies]

    def mark_ended(self, outcome: Outcome) -> None:
        """Called by the provider: the reply has ended."""
        self.outcome = outcome
        self._ended.set()
