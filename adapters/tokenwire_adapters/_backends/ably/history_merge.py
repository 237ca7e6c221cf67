"""Merges a channel's history with the newer state of this process's live log."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from tokenwire.backend import ReplayFrom
from tokenwire.events import CancelEvent, DataEvent, Event
from tokenwire_adapters._backends.ably.cursors import START, Position, format_cursor
from tokenwire_adapters._backends.ably.event_log import EventLog, snapshot_of
from tokenwire_adapters._backends.ably.response_record import ResponseRecord
from tokenwire_adapters._backends.ably.wire import ChannelMessage

__all__ = ["UNLIMITED", "MergedHistory"]

UNLIMITED = 1_000_000


class MergedHistory:
    """A channel's events from history, and from the live log where that is newer.

    :param live: this process's log of the channel, if it is subscribed.
    :param every_event: replay every event (granularity ``"token"``) rather than snapshots.
    :ivar log: the events from history.
    :ivar head: the position of the last event of both.
    """

    def __init__(
        self,
        channel: str,
        messages: Sequence[ChannelMessage],
        live: EventLog | None,
        *,
        every_event: bool,
    ) -> None:
        self.log = EventLog(channel, max_events=UNLIMITED, max_ended=UNLIMITED)
        self._live = live
        self._every_event = every_event
        self._times = {msg.version: msg.updated for msg in messages}
        self._single_events: list[tuple[Position, Event]] = []
        if every_event:
            for msg in sorted(messages, key=lambda m: m.version):
                self.log.add_message(msg)
        else:
            self._single_events += [
                ((version, 0, 0), event) for event, version in self.log.hydrate(messages)
            ]
        self.head = self.log.head if live is None else live.head

    def events(self, start: ReplayFrom, after: Position | None) -> list[Event]:
        """The events of a replay.

        :param after: the position of the cursor `start.after`.
        """
        response_id = start.response_id
        records = {
            id_: (position, record)
            for id_, (position, record) in self._merged_records().items()
            if response_id is None or id_ == response_id
        }
        if self._every_event and after is None:
            return self._event_replay(start, records)
        single_events = [
            (position, event)
            for position, event in self._merged_single_events()
            if response_id is None or event.response_id == response_id
        ]
        positions = [position for position, _ in (*records.values(), *single_events)]
        begin = self._begin(start, after, sorted(positions))
        events: list[tuple[Position, Event]] = [
            (position, snapshot_of(record, position))
            for position, record in records.values()
            if position > begin or not record.assembler.ended or response_id is not None
        ]
        events += [(position, event) for position, event in single_events if position > begin]
        return _in_log_order(events)

    def _begin(
        self, start: ReplayFrom, after: Position | None, positions: list[Position]
    ) -> Position:
        """The position after which the replay begins.

        :param positions: of the items that `ReplayFrom.count` counts, in order.
        """
        if after is not None:
            return after
        if start.all:
            return START
        if start.since is not None:
            since = start.since
            earlier = [p for p in positions if self._times.get(p[0], since) < since]
            return max(earlier, default=START)
        if start.count:
            return positions[-start.count - 1] if 0 < start.count < len(positions) else START
        return self.head

    def _merged_records(self) -> dict[str, tuple[Position, ResponseRecord]]:
        """By response: its last position and its newest state."""
        merged: dict[str, tuple[Position, ResponseRecord]] = {}
        for response_id, record in self.log.reassembler.records.items():
            position: Position = (record.last, 0, 0)
            if position <= self.head or self._live is None:
                merged[response_id] = (position, record)
        if self._live is not None:
            for response_id, record in self._live.reassembler.records.items():
                position = self._live.last_positions.get(response_id, START)
                merged[response_id] = (position, record)
        return merged

    def _merged_single_events(self) -> list[tuple[Position, Event]]:
        merged = {p[0]: (p, event) for p, event in self._single_events if p <= self.head}
        if self._live is not None:
            for position, event in self._live.tail:
                if event.response_id is None or isinstance(event, CancelEvent | DataEvent):
                    merged[position[0]] = (position, event)
        return list(merged.values())

    def _event_replay(
        self, start: ReplayFrom, records: dict[str, tuple[Position, ResponseRecord]]
    ) -> list[Event]:
        """Every event; snapshots only of responses that began before the replay does."""
        response_id = start.response_id
        events = [
            (position, event)
            for position, event in self.log.tail
            if position <= self.head and (response_id is None or event.response_id == response_id)
        ]
        begin = self._begin(start, None, [position for position, _ in events])
        events = [(position, event) for position, event in events if position > begin]
        started = {event.response_id for _, event in events if event.type == "start"}
        touched = {event.response_id for _, event in events}
        in_snapshots = {
            id_
            for id_, (_, record) in records.items()
            if id_ not in started
            and (id_ in touched or not record.assembler.ended or response_id is not None)
        }
        replayed = [
            (position, event)
            for position, event in events
            if event.response_id not in in_snapshots or isinstance(event, CancelEvent | DataEvent)
        ]
        for id_ in in_snapshots:
            position, record = records[id_]
            replayed.append((position, snapshot_of(record, position)))
        return _in_log_order(replayed)


def _in_log_order(events: list[tuple[Position, Event]]) -> list[Event]:
    events.sort(key=lambda pair: pair[0])
    return [
        event if event.cursor is not None else replace(event, cursor=format_cursor(position))
        for position, event in events
    ]
