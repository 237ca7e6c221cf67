"""This process's log of a channel's events, in the order in which readers get them."""

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
from tokenwire_adapters._backends.ably.cursors import START, Position, format_cursor, parse_cursor
from tokenwire_adapters._backends.ably.reassembly import Reassembler
from tokenwire_adapters._backends.ably.response_record import ResponseRecord
from tokenwire_adapters._backends.ably.wire import ChannelMessage

__all__ = ["EventLog", "snapshot_of"]

_MAX_EVENTS = 2048
_MAX_ENDED = 256


class EventLog:
    """Events of a channel with their cursors, and the responses they belong to.

    :param max_events: how many events are kept.
    :param max_ended: how many ended responses are kept.
    :ivar head: the position of the last event; `floor`: of the last that is no longer kept.
    :ivar last_positions: by response: the position of its last event.
    """

    def __init__(
        self, channel: str, *, max_events: int = _MAX_EVENTS, max_ended: int = _MAX_ENDED
    ) -> None:
        self._max_events = max_events
        self._max_ended = max_ended
        self.reassembler = Reassembler(channel)
        self.head: Position = START
        self.floor: Position = START
        self.tail: deque[tuple[Position, Event]] = deque()
        self.last_positions: dict[str, Position] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()

    def hydrate(self, messages: Sequence[ChannelMessage]) -> list[tuple[Event, str]]:
        """Begin with messages from history, which are not logged as events.

        :return: the single events among them, each with its message's version.
        """
        events = self.reassembler.hydrate(messages)
        for msg in messages:
            self.head = max(self.head, (msg.version, 0, 0))
        self.floor = self.head
        for response_id, record in list(self.reassembler.records.items()):
            self._set_position(response_id, record, (record.last, 0, 0))
        return [
            (event, version)
            for event, version in events
            if isinstance(event, CancelEvent | DataEvent | InputEvent)
            or (isinstance(event, ToolResultEvent) and event.response_id not in self.last_positions)
        ]

    def add_message(self, msg: ChannelMessage) -> list[Event]:
        """Log the events of a live message, and return them."""
        return self._append([(event, msg.version) for event in self.reassembler.add(msg)])

    def catch_up(self, messages: Sequence[ChannelMessage]) -> list[Event]:
        """Log what is new in messages from history, and return it."""
        return self._append(self.reassembler.hydrate(messages))

    def _append(self, events: Iterable[tuple[Event, str]]) -> list[Event]:
        """Log events with cursors, those of one message together."""
        added: list[Event] = []
        pending = list(events)
        while pending:
            version = pending[0][1]
            group = [event for event, of in pending if of == version]
            pending = [pair for pair in pending if pair[1] != version]
            serial, bump, _ = self.head
            base = (version, 0) if version > serial else (serial, bump + 1)
            for remaining, event in zip(range(len(group) - 1, -1, -1), group, strict=True):
                position: Position = (base[0], base[1], -remaining)
                force_setattr(event, "cursor", format_cursor(position))
                self.head = position
                self.tail.append((position, event))
                added.append(event)
                response_id = event.response_id
                if response_id is not None and not isinstance(event, CancelEvent | DataEvent):
                    record = self.reassembler.records.get(response_id)
                    if record is not None:
                        self._set_position(response_id, record, position)
        while len(self.tail) > self._max_events:
            self.floor = self.tail.popleft()[0]
        return added

    def _set_position(self, response_id: str, record: ResponseRecord, position: Position) -> None:
        self.last_positions[response_id] = max(
            position, self.last_positions.get(response_id, START)
        )
        if record.assembler.ended:
            self._ended[response_id] = None
            self._ended.move_to_end(response_id)
            while len(self._ended) > self._max_ended:
                oldest, _ = self._ended.popitem(last=False)
                self.last_positions.pop(oldest, None)
                self.reassembler.discard(oldest)

    def cursor(self) -> str:
        """The cursor of the head."""
        return format_cursor(self.head)

    @property
    def streaming(self) -> list[ResponseRecord]:
        """The responses that have not ended."""
        records = self.reassembler.records.values()
        return [record for record in records if not record.assembler.ended]

    def after(self, cursor: str, response_id: str | None) -> list[Event] | None:
        """The events after a cursor; None where they are no longer kept."""
        begin = parse_cursor(cursor)
        if begin < self.floor or begin > self.head:
            return None
        return [
            event
            for position, event in self.tail
            if position > begin and (response_id is None or event.response_id == response_id)
        ]

    def snapshots(self, response_id: str | None) -> list[Event]:
        """Snapshots of the streaming responses, or of the one that is asked for."""
        if response_id is not None:
            record = self.reassembler.records.get(response_id)
            records = [] if record is None else [record]
        else:
            records = self.streaming
        positions = self.last_positions
        snapshots = [snapshot_of(r, positions.get(r.assembler.id, (r.last, 0, 0))) for r in records]
        return sorted(snapshots, key=lambda event: parse_cursor(event.cursor or ""))


def snapshot_of(record: ResponseRecord, position: Position) -> Event:
    """A snapshot of a response, as an event."""
    cursor = format_cursor(position)
    return SnapshotEvent(response=record.response, cursor=cursor, ts=record.seen_at)
