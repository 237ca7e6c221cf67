"""What history says of a channel, put together with what a live log knows better."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from tokenwire.backend import ReplayFrom
from tokenwire.events import CancelEvent, DataEvent, Event
from tokenwire_adapters._backends.ably.cursors import START, Order, show
from tokenwire_adapters._backends.ably.event_log import Log, snapshot_of
from tokenwire_adapters._backends.ably.reassembly import Record
from tokenwire_adapters._backends.ably.wire import Msg

__all__ = ["EVERYTHING", "Past"]

EVERYTHING = 1_000_000


class Past:
    """What history says, put together with what a live log knows better.

    :param each: every event by itself, as granularity ``"token"`` has it.
    """

    def __init__(
        self, channel: str, messages: Sequence[Msg], live: Log | None, *, each: bool
    ) -> None:
        self.log = Log(channel, events=EVERYTHING, ended=EVERYTHING)
        self._live = live
        self._each = each
        self._created = {msg.version: msg.at for msg in messages}
        if each:
            for msg in sorted(messages, key=lambda m: m.version):
                self.log.take(msg)
            self._singles: list[tuple[Order, Event]] = []
        else:
            self._singles = [
                ((version, 0, 0), event) for event, version in self.log.hydrate(messages)
            ]
        self.head = self.log.head if live is None else live.head

    def events(self, start: ReplayFrom, after: Order | None) -> list[Event]:
        """What a reader needs that starts there."""
        wanted = start.response_id
        records = {
            response_id: (order, record)
            for response_id, (order, record) in self._records().items()
            if wanted is None or response_id == wanted
        }
        singles = [
            (order, event)
            for order, event in self._all_singles()
            if wanted is None or event.response_id == wanted
        ]
        if self._each and after is None:
            return self._one_by_one(start, records, wanted)
        places = sorted([order for order, _ in records.values()] + [order for order, _ in singles])
        begin = self._begin(start, after, places)
        found: list[tuple[Order, Event]] = [
            (order, snapshot_of(record, order))
            for order, record in records.values()
            if order > begin or not record.assembler.ended or wanted is not None
        ]
        for order, event in singles:
            if order > begin:
                found.append((order, event))
        return _in_log_order(found)

    def _begin(self, start: ReplayFrom, after: Order | None, places: list[Order]) -> Order:
        """The position after which everything is wanted."""
        if after is not None:
            return after
        if start.all:
            return START
        if start.since is not None:
            since = start.since
            earlier = [o for o in places if self._created.get(o[0], since) < since]
            return max(earlier, default=START)
        if start.count is not None:
            return (
                places[-start.count - 1]
                if 0 < start.count < len(places)
                else (START if start.count else self.head)
            )
        return self.head

    def _records(self) -> dict[str, tuple[Order, Record]]:
        found: dict[str, tuple[Order, Record]] = {}
        for response_id, record in self.log.view.records.items():
            order: Order = (record.last, 0, 0)
            if order <= self.head or self._live is None:
                found[response_id] = (order, record)
        if self._live is not None:
            for response_id, record in self._live.view.records.items():
                found[response_id] = (self._live.last.get(response_id, START), record)
        return found

    def _all_singles(self) -> list[tuple[Order, Event]]:
        found = {order[0]: (order, event) for order, event in self._singles if order <= self.head}
        if self._live is not None:
            for order, event in self._live.tail:
                if event.response_id is None or isinstance(event, CancelEvent | DataEvent):
                    found[order[0]] = (order, event)
        return list(found.values())

    def _one_by_one(
        self, start: ReplayFrom, records: dict[str, tuple[Order, Record]], wanted: str | None
    ) -> list[Event]:
        events = [
            (order, event)
            for order, event in self.log.tail
            if order <= self.head and (wanted is None or event.response_id == wanted)
        ]
        begin = self._begin(start, None, [order for order, _ in events])
        later = [(order, event) for order, event in events if order > begin]
        begun = {event.response_id for _, event in later if event.type == "start"}
        touched = {event.response_id for _, event in later}
        whole = {
            response_id
            for response_id, (_, record) in records.items()
            if response_id not in begun
            and (response_id in touched or not record.assembler.ended or wanted is not None)
        }
        found = [
            (order, event)
            for order, event in later
            if event.response_id not in whole or isinstance(event, CancelEvent | DataEvent)
        ]
        for response_id in whole:
            order, record = records[response_id]
            found.append((order, snapshot_of(record, order)))
        return _in_log_order(found)


def _in_log_order(found: list[tuple[Order, Event]]) -> list[Event]:
    found.sort(key=lambda pair: pair[0])
    return [
        event if event.cursor is not None else replace(event, cursor=show(order))
        for order, event in found
    ]
