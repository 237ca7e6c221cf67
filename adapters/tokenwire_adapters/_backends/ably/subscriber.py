"""The watching side: replays, pages of responses, and ends for producers that died."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from tokenwire.backend import HistoryPage, Receiver, Replay, ReplayFrom
from tokenwire.errors import BackendError, InvalidCursor
from tokenwire.events import EndEvent, Event
from tokenwire_adapters._backends.ably.connections import Link, Rest
from tokenwire_adapters._backends.ably.cursors import Order, parse, show
from tokenwire_adapters._backends.ably.event_log import Log
from tokenwire_adapters._backends.ably.history import History, decode_token, encode_token
from tokenwire_adapters._backends.ably.history_merge import EVERYTHING, Past
from tokenwire_adapters._backends.ably.options import Settings
from tokenwire_adapters._backends.ably.reassembly import Record
from tokenwire_adapters._backends.ably.subscription import Feed, Stand, starts_known
from tokenwire_adapters._backends.ably.wire import MARK, Msg, end_headers, new_message

__all__ = ["Watching"]

logger = logging.getLogger("tokenwire")

_LIVE_PAGE = 200
_LONGEST = 3_600_000  # milliseconds: how long before its last message a response may have begun
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
        past = Past(channel, messages, log, each=self._settings.granularity == "token")
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
        log = Log(channel, ended=EVERYTHING)
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
        # One request for all of it: whoever hears the end may leave, and end this process with it.
        messages = _last_rites(record, end)
        await self._rest.ask(
            lambda client: client.channels.get(channel).publish(messages),
            f"ending a response of {channel!r} that its producer left",
        )
        return 1

    async def close(self) -> None:
        """Let go of every channel."""
        feeds, self._feeds = self._feeds, {}
        for feed, _ in feeds.values():
            feed.abandon()


class _LastOneOut(Stand):
    """A receiver whose leaving closes the feed, when it is the last."""

    def __init__(self, feed: Feed, receiver: Receiver, drop: Any) -> None:
        super().__init__(feed, receiver)
        self._drop = drop

    async def close(self) -> None:
        await super().close()
        if not self._feed.stands:
            await self._drop(self._feed)


def _last_rites(record: Record, end: EndEvent) -> list[Any]:
    """The messages that end a response for its producer; Ably takes them once."""
    assembler = record.assembler
    extent = [assembler.part_length(part) for part in range(assembler.parts)]
    headers = {MARK: 1, "responseId": assembler.id, "producer": record.fence}
    headers |= end_headers(end, extent)
    wires: list[tuple[str, dict[str, Any]]] = [("end", {"headers": headers})]
    if record.ai:
        told = {name: value for name, value in record.ai.items() if name != "parent"}
        told |= {"run-reason": "error", "error-code": "50000", "error-message": end.error or ""}
        wires.append(("ai-run-end", {"ai": {"transport": told}}))
    return [
        new_message(id=f"abandoned-{record.fence[:150]}:{index}", name=name, data="", extras=extras)
        for index, (name, extras) in enumerate(wires)
    ]


def _starts(msg: Msg) -> bool:
    return msg.ours and "start" in msg.headers and "type" not in msg.headers


def _items(messages: Sequence[Msg], each: bool) -> int:
    """How many items, as `ReplayFrom.count` counts, messages are at least."""
    if each:
        return len(messages)
    return sum(1 for msg in messages if _starts(msg) or "type" in msg.headers)
