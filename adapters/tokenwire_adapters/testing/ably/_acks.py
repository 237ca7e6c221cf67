"""Outcomes of the frames that a connection published, and their ACKs and NACKs.

Spec: protocol.md ("Message acknowledgement protocol"), RTN7, RTN19a. Answers go out in the order
in which the frames came, since an answer that skips a serial means failure to the client.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tokenwire_adapters.testing.ably._errors import ErrorInfo
from tokenwire_adapters.testing.ably._protocol import Action, Wire

__all__ = ["Acks", "Outcome", "Outcomes"]

_KEPT = 10_000


@dataclass(slots=True)
class Outcome:
    """The outcome of one frame: in the end, one of ``serials`` and ``error`` is set."""

    msg_serial: int
    serials: list[str | None] | None = None
    error: ErrorInfo | None = None
    waiters: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    @property
    def done(self) -> bool:
        """Whether the outcome is known."""
        return self.serials is not None or self.error is not None

    def succeed(self, serials: list[str | None]) -> None:
        """Settle: published under these serials."""
        self.serials = serials
        self._wake()

    def fail(self, error: ErrorInfo) -> None:
        """Settle: not published."""
        self.error = error
        self._wake()

    def _wake(self) -> None:
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter()


class Outcomes:
    """The outcomes that a connection remembers across its transports, by ``msgSerial``."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, Outcome] = OrderedDict()

    def get(self, msg_serial: int) -> Outcome | None:
        """Return the outcome of an earlier frame."""
        return self._known.get(msg_serial)

    def new(self, msg_serial: int) -> Outcome:
        """Begin the outcome of a frame."""
        outcome = Outcome(msg_serial)
        self._known.pop(msg_serial, None)
        self._known[msg_serial] = outcome
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return outcome


class Acks:
    """Sends the outcomes of one transport's frames, in order, several in one answer."""

    def __init__(self, send: Callable[[Wire], None]) -> None:
        self._send = send
        self._waiting: deque[Outcome] = deque()
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self.delay = 0.0
        self.held = False
        self.closed = False

    def expect(self, outcome: Outcome) -> None:
        """Answer a frame as soon as its outcome is known."""
        self._waiting.append(outcome)
        if outcome.done:
            self.poke()
        else:
            outcome.waiters.append(self.poke)

    def poke(self) -> None:
        """Send the answers that are due, after the delay that is set."""
        if self._waiting and self._timer is None and not self.closed:
            loop = asyncio.get_running_loop()
            # Even without a delay, frames of one read share one answer.
            self._timer = (
                loop.call_later(self.delay, self._flush)
                if self.delay
                else loop.call_soon(self._flush)
            )

    def _flush(self) -> None:
        self._timer = None
        if self.held or self.closed:
            return
        while self._waiting and self._waiting[0].done:
            run = [self._waiting.popleft()]
            while self._waiting and self._joins(run[-1], self._waiting[0]):
                run.append(self._waiting.popleft())
            answer: Wire = {"msgSerial": run[0].msg_serial, "count": len(run)}
            if run[0].error is not None:
                answer |= {"action": int(Action.NACK), "error": run[0].error.wire()}
            else:
                # TR4s: one PublishResult for each frame acknowledged.
                answer |= {
                    "action": int(Action.ACK),
                    "res": [{"serials": outcome.serials} for outcome in run],
                }
            self._send(answer)

    @staticmethod
    def _joins(last: Outcome, following: Outcome) -> bool:
        # A NACK covers several frames only where they failed for the same reason.
        return (
            following.done
            and following.msg_serial == last.msg_serial + 1
            and following.error == last.error
        )
