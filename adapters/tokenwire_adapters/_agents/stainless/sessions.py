"""`SessionRecorder`: streams of an agent's session, on which turn follows turn."""

from __future__ import annotations

from typing import Any, ClassVar

from tokenwire import ResponseWriter
from tokenwire_adapters._agents.stainless.recorder import CUT_OFF, StainlessRecorder

__all__ = ["SessionRecorder"]


class SessionRecorder(StainlessRecorder):
    """Makes a response of each turn of the agent; they share a run.

    The stream goes on after a turn, and may be open for long before the first one: a response
    begins with what the stream says of its turn. The writers of turns that have ended are
    forgotten, but for the last, since a session may have thousands.

    :cvar reads_errors: an error is an event like others: it ends a turn and not the stream.
    :ivar turns: how many turns have begun.
    """

    reads_errors: ClassVar[bool] = True

    turns = 0
    _turn: int | None = None  # number of the one that `current` writes

    def begin(self) -> None:
        """Do nothing: the first turn begins the first response."""

    def feed_reply(self, reply: Any) -> None:
        """Do nothing: what comes in one piece is a list of past events."""

    def next_turn(self) -> int:
        """Begin the response of a turn; returns its number."""
        # One stays: a recorder gives an id of its own to every response but the first.
        ended = [number for number, writer in self.writers.items() if writer.ended]
        for number in ended[:-1]:
            del self.writers[number]
        self.turns += 1
        self.writer(self.turns - 1)
        return self.turns - 1

    def current(self) -> ResponseWriter:
        """The writer of the turn, begun if need be; for sessions with one turn at a time."""
        if self._turn is None:
            self._turn = self.next_turn()
        return self.writer(self._turn)

    def turn_error(self) -> str | None:
        """Why turns that are under way when the stream ends have failed."""
        return None if self.terminated else CUT_OFF

    def turn_usage(self, turn: int) -> dict[str, object] | None:  # noqa: ARG002
        """Token counts of a turn, as far as they are known."""
        return None

    def finish(self) -> None:
        self.flush()
        error = self.turn_error()
        for turn, writer in self.writers.items():
            if writer.ended:
                continue
            if error is None:
                writer.finish(None, self.turn_usage(turn))
            else:
                writer.fail(error, usage=self.turn_usage(turn))

    def _end_early(self) -> None:
        for turn, writer in self.writers.items():
            if not writer.ended:
                writer.cancel("its consumer stopped reading", usage=self.turn_usage(turn))

    def _end_failed(self, error: BaseException) -> None:
        for turn, writer in self.writers.items():
            if not writer.ended:
                writer.fail(self.error_message(error) or error, usage=self.turn_usage(turn))
