"""The watching side: replays, pages of responses, and ends for producers that died."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ably.types.message import Message
from msgspec.structs import replace

from tokenwire.backend import HistoryPage, Receiver, Replay, ReplayFrom
from tokenwire.errors import BackendError, InvalidCursor
from tokenwire.events import CancelEvent, DataEvent, EndEvent, Event
from tokenwire_adapters._ably.cursors import START, Order, parse, show
from tokenwire_adapters._ably.feed import Feed, Stand, starts_known
from tokenwire_adapters._ably.links import Link, Rest
from tokenwire_adapters._ably.log import Log, snapshot_of
from tokenwire_adapters._ably.options import Settings
from tokenwire_adapters._ably.reading import History, decode_token, encode_token
from tokenwire_adapters._ably.view import Record
from tokenwire_adapters._ably.wire import MARK, Msg, end_headers

__all__ = ["Watching"]

logger = logging.getLogger("tokenwire")

_LIVE_PAGE = 200
_LONGEST = 3_600_000  # milliseconds: how long before its last message a response may have begun
_EVERYTHING = 1_000_000
_TRIES = 12  # reads of history before a response that stays incomplete is given up


class Watched:
    """What a feed keeps of a channel: the log that readers are told."""

    def __init__(self, channel: str, history: History) -> None:
        self.log = Log(channel)
        self._channel = channel
        self._history = history
        self._tries: dict[str, int] = {}
        self._given_up: set[str] = set()

    async def first(self, messages: list[Msg]) -> None:
        self.log = Log(self._channel)
        self.log.hydrate(await self._history.as_of(self._channel, messages))

    async def again(self, messages: list[Msg]) -> Sequence[Event]:
        found = self.log.catch_up(await self._history.as_of(self._channel, messages))
        for response_id in self.log.view.missing:
            self._tries[response_id] = self._tries.get(response_id, 0) + 1
            if self._tries[response_id] >= _TRIES:
                self._given_up.add(response_id)
        return found

    def live(self, msg: Msg) -> Sequence[Event]:
        return self.log.take(msg)

    @property
    def incomplete(self) -> bool:
        return bool(self.log.view.missing - self._given_up)

    def cursor(self) -> str | None:
        return self.log.cursor()


class Watching:
    """Subscriptions, replays and history of all channels."""

    def __init__(self, link: Link, rest: Rest, settings: Settings) -> None:
        self._link = link
        self._rest = rest
        self._settings = settings
        self._history = History(rest, settings.reach)
        self._feeds: dict[str, tuple[Feed, Watched]] = {}

    # -- live

    async def subscribe(self, channel: str, receiver: Receiver) -> Stand:
        """Deliver everything from now on."""
        known = self._feeds.get(channel)
        if known is None or known[0].closed:
            watched = Watched(channel, self._history)
            feed = Feed(self._link, channel, self._history, watched, depth=_LIVE_PAGE)
            self._feeds[channel] = known = feed, watched
        feed, _ = known
        stand = _LastOneOut(feed, receiver, self._drop)
        feed.stands.append(stand)  # it holds the feed while that is set up
        try:
            await feed.ready()
        except BaseException:
            await stand.close()
            raise
        return stand

    async def _drop(self, feed: Feed) -> None:
        known = self._feeds.get(feed.channel)
        if known is not None and known[0] is feed:
            del self._feeds[feed.channel]
        await feed.close()

    def _log(self, channel: str) -> Log | None:
        known = self._feeds.get(channel)
        return known[1].log if known is not None and known[0].is_ready else None

    # -- replays

    async def replay(self, channel: str, start: ReplayFrom) -> Replay:
        """What a reader needs before it goes live."""
        after = None if start.after is None else parse(start.after)
        log = self._log(channel)
        if log is not None:
            await self._reap(channel, log)
            if start.after is not None:
                joined = self._settings.granularity == "response"
                events = log.after(start.after, start.response_id, joined=joined)
                if events is not None:
                    return Replay(events=tuple(events), cursor=log.cursor())
            elif start.since is None and start.count is None and not start.all:
                events = log.snapshots(start.response_id)
                if events or start.response_id is None:
                    return Replay(events=tuple(events), cursor=log.cursor())
        messages = await self._history.as_of(channel, await self._read(channel, start, after))
        log = self._log(channel)  # it has gone on meanwhile
        past = _Past(channel, messages, log, each=self._settings.granularity == "token")
        if log is None:
            await self._reap(channel, past.log, apply=True)
        if after is not None and after > past.head:
            raise InvalidCursor(f"cursor {start.after!r} is ahead of its channel")
        events = past.events(start, after)
        return Replay(events=tuple(events), cursor=show(past.head), reset=after is not None)

    async def _read(self, channel: str, start: ReplayFrom, after: Order | None) -> list[Msg]:
        """As much of history as a replay needs."""
        if start.all:
            return await self._history.read(channel)
        if start.since is not None:
            since = start.since - _LONGEST
            return await self._history.read(channel, since=since)
        count = start.count or 0

        def enough(messages: Sequence[Msg]) -> bool:
            if not starts_known(messages):
                return False
            if after is not None:
                at = next((m.created for m in messages if m.version <= after[0]), None)
                return at is not None and messages[-1].created < at - _LONGEST
            if start.response_id is not None:
                return any(
                    m.headers.get("responseId") == start.response_id and "start" in m.headers
                    for m in messages
                )
            return _items(messages, self._settings.granularity == "token") > count

        return await self._history.read(channel, enough=enough)

    # -- history

    async def history(self, channel: str, limit: int, before: str | None) -> HistoryPage:
        """A page of responses, newest first."""
        first, end = (None, None) if before is None else decode_token(before)

        def older(serial: str) -> bool:
            return first is None or serial < first

        def enough(messages: Sequence[Msg]) -> bool:
            starts = {
                m.headers.get("responseId") for m in messages if _starts(m) and older(m.serial)
            }
            return len(starts) > limit and starts_known(messages)

        page = max(100, limit * 4)
        read = await self._history.read(channel, page=page, end=end, enough=enough)
        messages = await self._history.as_of(channel, read)
        log = Log(channel, ended=_EVERYTHING)
        log.hydrate(messages)
        await self._reap(channel, log, apply=True)
        records = [r for r in log.view.records.values() if older(r.first)]
        records.sort(key=lambda record: record.first, reverse=True)
        shown = records[:limit]
        token = None
        if len(records) > limit:
            told = {record.assembler.id for record in log.view.records.values()}
            told -= {record.assembler.id for record in records[limit:]}
            later = [m.created for m in read if m.headers.get("responseId") not in told]
            token = encode_token(shown[-1].first, max(later, default=read[-1].created))
        return HistoryPage(items=tuple(record.response for record in shown), next=token)

    async def state(self, channel: str, response_id: str) -> Any:
        """Where a response stands; None where it has not begun."""
        replay = await self.replay(channel, ReplayFrom(response_id=response_id))
        response: Any = None
        for event in replay.events:
            response = getattr(event, "response", response)
        return None if response is None else response.state

    # -- ends for the dead

    async def reap(self, channel: str) -> int:
        """End what has lost its producer."""
        log = self._log(channel)
        if log is None:
            log = Log(channel)
            log.hydrate(await self._history.read(channel, page=_LIVE_PAGE, enough=starts_known))
        return await self._reap(channel, log)

    async def _reap(self, channel: str, log: Log, *, apply: bool = False) -> int:
        streaming = log.streaming
        if not streaming:
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
                count += await self._abandon(channel, record, end)
            except BackendError as error:  # a key that may not publish can watch all the same
                logger.debug("tokenwire: cannot end a dead response: %s", error)
            if apply:
                record.assembler.apply(end)
        return count

    async def _abandon(self, channel: str, record: Record, end: EndEvent) -> int:
        fresh = await self._rest.ask(
            lambda client: client.channels.get(channel).get_message(record.head),
            f"reading a message of {channel!r}",
        )
        at = getattr(fresh.version, "timestamp", None)
        if isinstance(at, int) and at > record.seen_at:
            record.seen_at = at
            if await self._rest.now() - at <= record.lease * 1000:
                return 0
        assembler = record.assembler
        extent = [assembler.part_length(part) for part in range(assembler.parts)]
        message = Message(
            id=f"abandoned-{record.fence}-{assembler.id}"[:200],
            name="end",
            data="",
            extras={
                "headers": {
                    MARK: 1,
                    "responseId": assembler.id,
                    "producer": record.fence,
                    **end_headers(end, extent),
                }
            },
        )
        await self._rest.ask(
            lambda client: client.channels.get(channel).publish(message),
            f"ending a response of {channel!r} that its producer left",
        )
        return 1

    async def close(self) -> None:
        """Let go of every channel."""
        feeds, self._feeds = self._feeds, {}
        for feed, _ in feeds.values():
            feed.closed = True


class _LastOneOut(Stand):
    """A receiver whose leaving closes the feed, when it is the last."""

    def __init__(self, feed: Feed, receiver: Receiver, drop: Any) -> None:
        super().__init__(feed, receiver)
        self._drop = drop

    async def close(self) -> None:
        await super().close()
        if not self._feed.stands:
            await self._drop(self._feed)


class _Past:
    """What history says, put together with what a live log knows better.

    :param each: every event by itself, as granularity ``"token"`` has it.
    """

    def __init__(
        self, channel: str, messages: Sequence[Msg], live: Log | None, *, each: bool
    ) -> None:
        self.log = Log(channel, events=_EVERYTHING, ended=_EVERYTHING)
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


def _starts(msg: Msg) -> bool:
    return msg.ours and "start" in msg.headers and "type" not in msg.headers


def _items(messages: Sequence[Msg], each: bool) -> int:
    """How many items, as `ReplayFrom.count` counts, messages are at least."""
    if each:
        return len(messages)
    return sum(1 for msg in messages if _starts(msg) or "type" in msg.headers)
