"""Producers that follow a script, and spectators that check what they see."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator

import msgspec

from tokenwire.events import Event, Response, ends_response
from tokenwire.response import Transcript
from tokenwire.watch import Watch
from tokenwire.writer import ResponseWriter

__all__ = ["Script", "Spectator", "read_until", "scripts"]

_WORDS = (
    " the", " token", " wire", "\n\n", "  ", " naïve", " 東京", "🙂", "e\u0301", "\u200d", "#",
    '"', "\\", " </script>", "\r\n", "\u2028", "data: ", "\x00", "\U0001d4b3", " a", "",
)  # fmt: skip


class Script(msgspec.Struct, frozen=True):
    """What a producer writes: pairs of kind and text, in order."""

    tokens: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """All text of kind ``text``."""
        return "".join(text for kind, text in self.tokens if kind == "text")

    @property
    def reasoning(self) -> str:
        """All text of kind ``reasoning``."""
        return "".join(text for kind, text in self.tokens if kind == "reasoning")

    def play(self, writer: ResponseWriter) -> None:
        """Write all of it."""
        for kind, text in self.tokens:
            writer.write(text, kind=kind)


def scripts(seed: int, *, tokens: int = 40) -> Iterator[Script]:
    """Scripts without end, the same for the same seed."""
    rng = random.Random(seed)
    while True:
        reasoning = rng.randrange(0, max(1, tokens // 3))
        kinds = ["reasoning"] * reasoning + ["text"] * (tokens - reasoning)
        yield Script(tuple((kind, rng.choice(_WORDS)) for kind in kinds))


def read_until(
    watch: Watch, stop: Callable[[Event], bool], *, timeout: float = 30.0
) -> list[Event]:
    """Read a watch, blocking, up to and with the first event for which `stop` says so.

    :raises AssertionError: when it does not come within `timeout` seconds, or the watch ends.
    """
    events: list[Event] = []
    alarm = threading.Timer(timeout, watch.close)
    alarm.daemon = True
    alarm.start()
    try:
        for event in watch:
            events.append(event)
            if stop(event):
                return events
    finally:
        alarm.cancel()
    kinds = [event.type for event in events[-20:]]
    raise AssertionError(f"the watch ended, or {timeout:g} s went by; the last events were {kinds}")


class Spectator:
    """Folds the events of one watcher, and checks at each that nothing is lost or repeated.

    :ivar transcript: the responses so far.
    :ivar cursor: of the last event.
    :ivar seen: all events.
    :ivar ends: how often each response ended.
    """

    def __init__(self) -> None:
        self.transcript = Transcript()
        self.cursor: str | None = None
        self.seen: list[Event] = []
        self.ends: dict[str, int] = {}
        self._singles: set[str] = set()

    def see(self, event: Event) -> None:
        """Take one event. Folding raises `GapError` where something is missing."""
        before: Response | None = None
        response_id = event.response_id
        if response_id is not None and response_id in self.transcript:
            before = self.transcript[response_id]
        after = self.transcript.apply(event)
        if before is not None and after is not None:
            assert after.text.startswith(before.text), "text was taken back"
            if event.type == "delta":
                assert after is not before, f"a repeat: {event}"
            assert not (before.ended and after.state != before.state), "it ended twice"
        if event.type in ("data", "input", "cancel") and event.cursor is not None:
            assert event.cursor not in self._singles, f"a repeat: {event}"
            self._singles.add(event.cursor)
        if (
            ends_response(event)
            and response_id is not None
            and (before is None or not before.ended)
        ):
            self.ends[response_id] = self.ends.get(response_id, 0) + 1
        self.seen.append(event)
        self.cursor = event.cursor or self.cursor

    def watch(self, watch: Watch, stop: Callable[[Event], bool], *, timeout: float = 30.0) -> None:
        """Read `watch` until `stop`, seeing everything."""
        for event in read_until(watch, stop, timeout=timeout):
            self.see(event)

    def __getitem__(self, response_id: str) -> Response:
        return self.transcript[response_id]
