"""Serves watchers: subscriptions, replays, history, and ends for abandoned responses."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from tokenwire.backend import HistoryPage, Receiver, Replay, ReplayFrom
from tokenwire.errors import BackendError, InvalidCursor
from tokenwire.events import EndEvent, Event, SnapshotEvent, State
from tokenwire.response import merge_deltas
from tokenwire_adapters._backends.ably.connections import RealtimeConnection, RestClient, is_away
from tokenwire_adapters._backends.ably.cursors import Position, format_cursor, parse_cursor
from tokenwire_adapters._backends.ably.event_log import EventLog
from tokenwire_adapters._backends.ably.history import History, decode_page_token, encode_page_token
from tokenwire_adapters._backends.ably.history_merge import UNLIMITED, MergedHistory
from tokenwire_adapters._backends.ably.options import Settings
from tokenwire_adapters._backends.ably.response_record import ResponseRecord
from tokenwire_adapters._backends.ably.subscription import (
    ChannelSubscriptions,
    ReceiverSubscription,
    starts_known,
)
from tokenwire_adapters._backends.ably.wire import (
    FORMAT_HEADER,
    ChannelMessage,
    end_headers,
    new_message,
)

__all__ = ["Subscriber"]

logger = logging.getLogger("tokenwire")

_LIVE_PAGE = 200  # messages of history that a subscription reads per request
_MAX_DURATION = 3_600_000  # milliseconds that a response may last, for how far to read back
_MAX_RELOADS = 12  # of history, for a response that stays incomplete


class LogHandler:
    """Keeps a channel's event log up to date for a `ChannelSubscription`."""

    def __init__(self, channel: str, history: History) -> None:
        self.log = EventLog(channel)
        self._channel = channel
        self._history = history
        self._reloads: dict[str, int] = {}
        self._given_up: set[str] = set()

    async def load(self, messages: list[ChannelMessage]) -> None:
        self.log = EventLog(self._channel)
        self.log.hydrate(await self._history.drop_late_writes(self._channel, messages))

    async def reload(self, messages: list[ChannelMessage]) -> Sequence[Event]:
        messages = await self._history.drop_late_writes(self._channel, messages)
        events = self.log.catch_up(messages)
        for response_id in self.log.reassembler.incomplete:
            self._reloads[response_id] = self._reloads.get(response_id, 0) + 1
            if self._reloads[response_id] >= _MAX_RELOADS:
                self._given_up.add(response_id)
        return events

    def handle(self, msg: ChannelMessage) -> Sequence[Event]:
        return self.log.add_message(msg)

    @property
    def incomplete(self) -> bool:
        return bool(self.log.reassembler.incomplete - self._given_up)

    def cursor(self) -> str | None:
        return self.log.cursor()


class Subscriber:
    """Subscriptions, replays and history of all channels."""

    def __init__(
        self, connection: RealtimeConnection, rest: RestClient, settings: Settings
    ) -> None:
        self._rest = rest
        self._every_event = settings.granularity == "token"
        self._history = history = History(rest, settings.reach)
        self._subscriptions = ChannelSubscriptions(
            connection,
            history,
            lambda channel: LogHandler(channel, history),
            page=_LIVE_PAGE,
            enough=starts_known,
        )

    async def subscribe(self, channel: str, receiver: Receiver) -> ReceiverSubscription:
        """Deliver everything from now on (see `Backend.subscribe`)."""
        return await self._subscriptions.add(channel, receiver)

    def _live_log(self, channel: str) -> EventLog | None:
        """The log of a channel, if it is subscribed."""
        subscription = self._subscriptions.get(channel)
        if subscription is None or not subscription.is_ready:
            return None
        return subscription.handler.log

    # -- replays

    async def replay(self, channel: str, start: ReplayFrom) -> Replay:
        """Read what a reader needs before it goes live (see `Backend.replay`)."""
        after = None if start.after is None else parse_cursor(start.after)
        log = self._live_log(channel)
        if log is not None:
            await self._reap(channel, log)
            events = self._replay_live(log, start)
            if events is not None:
                return Replay(events=tuple(events), cursor=log.cursor())
        messages = await self._read(channel, start, after)
        messages = await self._history.drop_late_writes(channel, messages)
        log = self._live_log(channel)  # it may have changed meanwhile
        merged = MergedHistory(channel, messages, log, every_event=self._every_event)
        if log is None:
            await self._reap(channel, merged.log, apply=True)
        if after is not None and after > merged.head:
            raise InvalidCursor(f"cursor {start.after!r} is ahead of its channel")
        events = merged.events(start, after)
        cursor = format_cursor(merged.head)
        return Replay(events=tuple(events), cursor=cursor, reset=after is not None)

    def _replay_live(self, log: EventLog, start: ReplayFrom) -> list[Event] | None:
        """A replay from the live log alone; None where it does not have everything."""
        if start.after is not None:
            events = log.after(start.after, start.response_id)
            return events if events is None or self._every_event else merge_deltas(events)
        if start.since is None and start.count is None and not start.all:
            snapshots = log.snapshots(start.response_id)
            if snapshots or start.response_id is None:
                return snapshots
        return None

    async def _read(
        self, channel: str, start: ReplayFrom, after: Position | None
    ) -> list[ChannelMessage]:
        """Read as much of history as a replay needs."""
        if start.all:
            return await self._history.read(channel)
        if start.since is not None:
            return await self._history.read(channel, since=start.since - _MAX_DURATION)
        count = start.count or 0

        def enough(messages: Sequence[ChannelMessage]) -> bool:
            if not starts_known(messages):
                return False
            if after is not None:
                reached = next((m.created for m in messages if m.version <= after[0]), None)
                return reached is not None and messages[-1].created < reached - _MAX_DURATION
            if start.response_id is not None:
                return any(
                    m.headers.get("responseId") == start.response_id and "start" in m.headers
                    for m in messages
                )
            if self._every_event:
                return len(messages) > count
            return sum(_is_start(m) or "type" in m.headers for m in messages) > count

        return await self._history.read(channel, enough=enough)

    # -- history

    async def history(self, channel: str, limit: int, before: str | None) -> HistoryPage:
        """Read a page of responses, newest first (see `Backend.history`)."""
        first, end = (None, None) if before is None else decode_page_token(before)

        def is_older(serial: str) -> bool:
            return first is None or serial < first

        def enough(messages: Sequence[ChannelMessage]) -> bool:
            starts = {
                m.headers.get("responseId") for m in messages if _is_start(m) and is_older(m.serial)
            }
            return len(starts) > limit and starts_known(messages)

        page = max(100, limit * 4)
        messages = await self._history.read(channel, page=page, end=end, enough=enough)
        log = EventLog(channel, max_ended=UNLIMITED)
        log.hydrate(await self._history.drop_late_writes(channel, messages))
        await self._reap(channel, log, apply=True)
        all_records = log.reassembler.records.values()
        records = [record for record in all_records if is_older(record.first)]
        records.sort(key=lambda record: record.first, reverse=True)
        token = None
        if len(records) > limit:
            # The next page is read from the newest message of the responses that remain.
            done = {record.assembler.id for record in all_records}
            done -= {record.assembler.id for record in records[limit:]}
            remaining = [m.created for m in messages if m.headers.get("responseId") not in done]
            newest = max(remaining, default=messages[-1].created)
            token = encode_page_token(records[limit - 1].first, newest)
        items = tuple(record.response for record in records[:limit])
        return HistoryPage(items=items, next=token)

    async def state(self, channel: str, response_id: str) -> State | None:
        """The state of a response; None where it has not begun."""
        replay = await self.replay(channel, ReplayFrom(response_id=response_id))
        snapshots = [event for event in replay.events if isinstance(event, SnapshotEvent)]
        return snapshots[-1].response.state if snapshots else None

    # -- abandoned responses

    async def reap(self, channel: str) -> int:
        """End abandoned responses (see `Backend.reap`)."""
        log = self._live_log(channel)
        if log is None:
            log = EventLog(channel)
            log.hydrate(await self._history.read(channel, page=_LIVE_PAGE, enough=starts_known))
        return await self._reap(channel, log)

    async def _reap(self, channel: str, log: EventLog, *, apply: bool = False) -> int:
        """End the responses of a log whose lease ran out; return how many this call ended.

        Ends none where Ably was away a moment ago: producers may be alive, and come back as well.

        :param apply: end them in the log as well, which gets no live messages.
        """
        streaming = log.streaming
        if not streaming or not self._rest.outage.over:
            return 0
        now = await self._rest.now()
        count = 0
        for record in streaming:
            if now - record.seen_at <= record.lease * 1000:
                continue
            end = EndEvent(
                response_id=record.assembler.id,
                state="abandoned",
                error=f"its producer gave no sign of life for {record.lease:g} s",
                ts=int(now),
            )
            try:
                count += await self._end(channel, record, end)
            except BackendError as error:  # a key without the right to publish can watch
                logger.debug("tokenwire: cannot end an abandoned response: %s", error)
                if is_away(error):
                    return count
            if apply:
                record.assembler.apply(end)
        return count

    async def _end(self, channel: str, record: ResponseRecord, end: EndEvent) -> bool:
        """Publish the end of an abandoned response, unless its producer has written meanwhile."""
        fresh = await self._rest.request(
            lambda client: client.channels.get(channel).get_message(record.first),
            f"reading a message of {channel!r}",
        )
        updated = getattr(fresh.version, "timestamp", None)
        if isinstance(updated, int) and updated > record.seen_at:
            record.seen_at = updated
            if await self._rest.now() - updated <= record.lease * 1000:
                return False
        # All in one request: a watcher may leave as soon as it gets the end, and its process end.
        messages = _end_messages(record, end)
        await self._rest.request(
            lambda client: client.channels.get(channel).publish(messages),
            f"ending an abandoned response of {channel!r}",
        )
        return True

    def close(self) -> None:
        """Stop all subscriptions; the connection is closed elsewhere."""
        self._subscriptions.abandon()


def _end_messages(record: ResponseRecord, end: EndEvent) -> list[Any]:
    """The messages that end an abandoned response; Ably takes their ids once."""
    headers = {FORMAT_HEADER: 1, "responseId": record.assembler.id, "producer": record.fence}
    headers |= end_headers(end, record.part_lengths)
    messages: list[tuple[str, dict[str, Any]]] = [("end", {"headers": headers})]
    if record.run_headers:
        run = {name: value for name, value in record.run_headers.items() if name != "parent"}
        run |= {"run-reason": "error", "error-code": "50000", "error-message": end.error or ""}
        messages.append(("ai-run-end", {"ai": {"transport": run}}))
    return [
        new_message(id=f"abandoned-{record.fence[:150]}:{index}", name=name, data="", extras=extras)
        for index, (name, extras) in enumerate(messages)
    ]


def _is_start(msg: ChannelMessage) -> bool:
    return msg.is_native and "start" in msg.headers and "type" not in msg.headers
