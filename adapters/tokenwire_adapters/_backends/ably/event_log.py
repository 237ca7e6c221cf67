"""The log of a channel as this process has it: what its readers are told, in order."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence

from msgspec.structs import force_setattr

from tokenwire.events import (
    CancelEvent,
    DataEvent,
    Event,
    InputEvent,
    SnapshotEvent,
    ToolResultEvent,
)
from tokenwire.response import merge_deltas
from tokenwire_adapters._backends.ably.cursors import START, Order, parse, show
from tokenwire_adapters._backends.ably.reassembly import Record, View
from tokenwire_adapters._backends.ably.wire import Msg

__all__ = ["Log", "snapshot_of"]

_EVENTS = 2048
_ENDED = 256


class Log:
    """Events of a channel, numbered, and the responses they come to.

    :param events: how many are kept; `ended`: how many responses that have ended.
    :ivar head: the position of the last event; `floor` of the last that is no longer here.
    """

    def __init__(self, channel: str, *, events: int = _EVENTS, ended: int = _ENDED) -> None:
        self._max_events = events
        self._max_ended = ended
        self.view = View(channel)
        self.head: Order = START
        self.floor: Order = START
        self.tail: deque[tuple[Order, Event]] = deque()
        self.last: dict[str, Order] = {}  # where each response was last told of
        self._ended: OrderedDict[str, None] = OrderedDict()

    def hydrate(self, messages: Sequence[Msg]) -> list[tuple[Event, str]]:
        """Begin with what history has; nothing of it counts as news.

        :return: the single events among it, each with its version.
        """
        found = self.view.hydrate(messages)
        for msg in messages:
            self.head = max(self.head, (msg.version, 0, 0))
        self.floor = self.head
        for response_id, record in list(self.view.records.items()):
            self._moved(response_id, record, (record.last, 0, 0))
        return [
            (event, version)
            for event, version in found
            if isinstance(event, CancelEvent | DataEvent | InputEvent)
            or (isinstance(event, ToolResultEvent) and event.response_id not in self.last)
        ]

    def take(self, msg: Msg) -> list[Event]:
        """Take a live message; return what is new, with cursors."""
        return self.add([(event, msg.version) for event in self.view.take(msg)])

    def catch_up(self, messages: Sequence[Msg]) -> list[Event]:
        """Take history again; return what is new, with cursors."""
        return self.add(self.view.hydrate(messages))

    def add(self, events: Iterable[tuple[Event, str]]) -> list[Event]:
        """Number events and keep them."""
        added: list[Event] = []
        pending = list(events)
        while pending:
            version = pending[0][1]
            group = [event for event, of in pending if of == version]
            pending = [pair for pair in pending if pair[1] != version]
            serial, bump, _ = self.head
            base = (version, 0) if version > serial else (serial, bump + 1)
            for left, event in zip(range(len(group) - 1, -1, -1), group, strict=True):
                order: Order = (base[0], base[1], -left)
                force_setattr(event, "cursor", show(order))
                self.head = order
                self.tail.append((order, event))
                added.append(event)
                response_id = event.response_id
                if response_id is not None and not isinstance(event, CancelEvent | DataEvent):
                    record = self.view.records.get(response_id)
                    if record is not None:
                        self._moved(response_id, record, order)
        while len(self.tail) > self._max_events:
            self.floor = self.tail.popleft()[0]
        return added

    def _moved(self, response_id: str, record: Record, order: Order) -> None:
        self.last[response_id] = max(order, self.last.get(response_id, START))
        if record.assembler.ended:
            self._ended[response_id] = None
            self._ended.move_to_end(response_id)
            while len(self._ended) > self._max_ended:
                oldest, _ = self._ended.popitem(last=False)
                self.last.pop(oldest, None)
                self.view.forget(oldest)

    def cursor(self) -> str:
        """The cursor of the head."""
        return show(self.head)

    @property
    def streaming(self) -> list[Record]:
        """The responses that have not ended."""
        return [record for record in self.view.records.values() if not record.assembler.ended]

    def after(self, cursor: str, response_id: str | None, *, joined: bool) -> list[Event] | None:
        """What followed a cursor, event by event; None where that is no longer known."""
        order = parse(cursor)
        if order < self.floor or order > self.head:
            return None
        events = [
            event
            for at, event in self.tail
            if at > order and (response_id is None or event.response_id == response_id)
        ]
        return merge_deltas(events) if joined else events

    def snapshots(self, response_id: str | None) -> list[Event]:
        """The responses that are streaming, or the one that is asked for, as they stand."""
        if response_id is not None:
            record = self.view.records.get(response_id)
            records = [] if record is None else [record]
        else:
            records = self.streaming
        found = [snapshot_of(r, self.last.get(r.assembler.id, (r.last, 0, 0))) for r in records]
        return sorted(found, key=lambda event: parse(event.cursor or ""))


def snapshot_of(record: Record, order: Order) -> Event:
    """A response as it stands, as an event."""
    return SnapshotEvent(response=record.response, cursor=show(order), ts=record.seen_at)
