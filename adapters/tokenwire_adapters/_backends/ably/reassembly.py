"""Reassembles the messages of a channel into events without gaps or repeats.

Messages may arrive twice, late, complete where an append was expected, or not at all. The events
that come out each follow from those before: text at its offset and once, and the end of a response
only after all its text.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from tokenwire._problems import Unreadable
from tokenwire.events import Event, ToolResultEvent
from tokenwire.response import Assembler
from tokenwire_adapters._backends.ably.response_record import ResponseRecord
from tokenwire_adapters._backends.ably.third_party import ThirdPartyResponse, third_party_request
from tokenwire_adapters._backends.ably.transport_inputs import (
    RUN_BEGINS,
    join_parts,
    resolved_call,
    transport_headers,
)
from tokenwire_adapters._backends.ably.wire import (
    ChannelMessage,
    PayloadJoiner,
    decode_event,
    int_header,
    parse_start,
)

__all__ = ["Reassembler", "unreadable"]

unreadable = Unreadable()
"""What was skipped, in all channels of this process."""

_MAX_SINGLE_EVENTS = 4096  # names that are remembered


class Reassembler:
    """Turns messages of one channel into events.

    :ivar incomplete: ids of responses with missing messages.
    """

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.records: dict[str, ResponseRecord] = {}
        self.incomplete: set[str] = set()
        self._answers: dict[str, str] = {}  # by AI Transport's input or run: the response
        self._single_events: OrderedDict[str, None] = OrderedDict()  # serials and keys
        self._joiner = PayloadJoiner()
        self._hydrating = False

    def add(self, msg: ChannelMessage) -> list[Event]:
        """Add one message; return the events that it completes.

        What others publish in this format may be anything: a message that cannot be read is
        skipped, and costs no other.
        """
        return self._guarded(self._add, msg)

    def _guarded(
        self, read: Callable[[ChannelMessage], list[Event]], msg: ChannelMessage
    ) -> list[Event]:
        try:
            return read(msg)
        except Exception as error:
            unreadable.skip(f"messages of channel {self.channel!r}", error)
            return []

    def _add(self, msg: ChannelMessage) -> list[Event]:
        if msg.action == "delete":
            return []
        if not msg.is_native:
            return self._add_third_party(msg)
        response_id = msg.headers.get("responseId")
        kind = msg.headers.get("type")
        if isinstance(kind, str):
            named = response_id if isinstance(response_id, str) else None
            return self._add_single_event(msg, kind, named)
        if isinstance(response_id, str) and 0 < len(response_id) <= 256:
            return self._add_to_response(msg, response_id)
        return []

    def hydrate(self, messages: Iterable[ChannelMessage]) -> list[tuple[Event, str]]:
        """Add messages from history; return the new events, each with its message's version.

        History has a message where it was published, with all that was appended later: the first
        message of a response may hold text of a part that follows a part in another message.
        """
        events: list[tuple[Event, str]] = []
        present = join_parts(_without_deleted(sorted(messages, key=lambda msg: msg.serial)))
        for msg in present:
            if msg.is_native and "start" in msg.headers and "type" not in msg.headers:
                events += [(event, msg.serial) for event in self._guarded(self._begin, msg)]
        self._hydrating = True
        for msg in sorted(present, key=_hydration_order):
            events += [(event, msg.version) for event in self.add(msg)]
        self._hydrating = False
        return events

    def _begin(self, msg: ChannelMessage) -> list[Event]:
        """Begin a response with its first message, without the message's text."""
        response_id, fence = msg.headers.get("responseId"), msg.headers.get("producer")
        if not isinstance(response_id, str) or not isinstance(fence, str):
            return []
        start = parse_start(msg.headers, response_id, self.channel)
        if start is None or response_id in self.records or len(response_id) > 256:
            return []
        assembler = Assembler(response_id)
        record = ResponseRecord(assembler, fence, first=msg.serial, last=msg.serial)
        self.records[response_id] = record
        record.assembler.apply(start, channel=self.channel)
        if msg.name in RUN_BEGINS:
            record.run_headers = transport_headers(msg)
            self._answers[record.run_headers.get("run-id", response_id)] = response_id
        answered = msg.headers.get("input")
        if isinstance(answered, str):
            self._answers[answered] = response_id
        return [start]

    def discard(self, response_id: str) -> None:
        """Discard a response."""
        self.records.pop(response_id, None)
        self.incomplete.discard(response_id)

    # -- messages without tokenwire's headers

    def _add_third_party(self, msg: ChannelMessage) -> list[Event]:
        request = third_party_request(msg, self._answers)
        if request is not None:
            # Several pages may run the same tool: the first result counts.
            call = resolved_call(msg)
            new = self._is_new(msg.serial) and (call is None or self._is_new(f"call {call}"))
            return [request] if new else []
        response_id = ThirdPartyResponse.response_id(msg)
        if response_id is None:
            return []
        record = self.records.get(response_id)
        if record is None:
            assembler = Assembler(response_id)
            record = self.records[response_id] = ResponseRecord(
                assembler,
                fence="",
                first=msg.serial,
                last=msg.serial,
                lease=math.inf,
                third_party=ThirdPartyResponse(assembler),
            )
        if record.third_party is None:
            return []
        record.last = max(record.last, msg.version)
        record.seen_at = max(record.seen_at, msg.updated)
        events = record.third_party.events(msg, self.channel, from_history=self._hydrating)
        return [event for event in events if record.assembler.apply(event, channel=self.channel)]

    # -- single events

    def _is_new(self, name: str) -> bool:
        """Whether a serial or key of a single event comes for the first time."""
        if name in self._single_events:
            return False
        self._single_events[name] = None
        while len(self._single_events) > _MAX_SINGLE_EVENTS:
            self._single_events.popitem(last=False)
        return True

    def _add_single_event(
        self, msg: ChannelMessage, kind: str, response_id: str | None
    ) -> list[Event]:
        if msg.action != "create" and msg.serial in self._single_events:
            return []
        payload = self._joiner.payload(msg)
        event = None if payload is None else decode_event(kind, payload, response_id)
        if event is None:
            return []
        key = msg.headers.get("key")
        new = self._is_new(msg.serial)
        if not (self._is_new(f"key {key}") if isinstance(key, str) and new else new):
            return []
        record = None if event.response_id is None else self.records.get(event.response_id)
        if record is not None and isinstance(event, ToolResultEvent):
            record.last = max(record.last, msg.version)
            if not record.assembler.apply(event):
                return []
        return [event]

    # -- responses

    def _add_to_response(self, msg: ChannelMessage, response_id: str) -> list[Event]:
        headers, fence = msg.headers, msg.headers.get("producer")
        if not isinstance(fence, str):
            return []
        record, events = self.records.get(response_id), list[Event]()
        if record is None:
            events += self._begin(msg)
            record = self.records.get(response_id)
            if record is None:
                self.incomplete.add(response_id)
                return []
        if record.fence != fence:
            return events
        record.lacks_text = False
        record.last = max(record.last, msg.version)
        record.seen_at = max(record.seen_at, msg.updated)
        lease = int_header(headers, "lease", maximum=86_400_000)  # milliseconds
        if lease is not None:
            record.lease = lease / 1000
        if record.assembler.ended:
            return events
        # The process that ended it as abandoned has read all of history: no more will come.
        is_last = msg.name == "end" and self._hydrating
        record.add(msg, self._joiner, events, is_last=is_last)
        if record.incomplete:
            self.incomplete.add(response_id)
        else:
            self.incomplete.discard(response_id)
        return events


def _without_deleted(messages: list[ChannelMessage]) -> list[ChannelMessage]:
    """Leave out deleted messages, and responses whose first message was deleted."""
    deleted = {
        msg.headers.get("responseId")
        for msg in messages
        if msg.action == "delete" and "start" in msg.headers
    }
    return [
        msg
        for msg in messages
        if msg.action != "delete" and not (deleted and msg.headers.get("responseId") in deleted)
    ]


def _hydration_order(msg: ChannelMessage) -> tuple[Any, ...]:
    """Sorts messages of responses by part and offset, ends and single events last."""
    headers = msg.headers
    if "type" in headers or "responseId" not in headers:
        return (1, False, 0, 0, msg.serial)
    part = int_header(headers, "part")
    index = -1 if part is None else part
    return (0, msg.name == "end", index, int_header(headers, "offset") or 0, msg.serial)
