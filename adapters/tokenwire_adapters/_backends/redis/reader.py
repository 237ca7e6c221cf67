"""Reads replays, history and expired leases, each in one round trip where possible."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from tokenwire._clock import Backoff, now_ms
from tokenwire._problems import Unreadable
from tokenwire.backend import HistoryPage, Replay, ReplayFrom
from tokenwire.errors import BackendMisconfigured, BackendUnavailable, InvalidCursor
from tokenwire.events import CancelEvent, DataEvent, Event, Response, SnapshotEvent, ToolResultEvent
from tokenwire.response import merge_deltas
from tokenwire_adapters._backends.redis.codec import Skip, StoredResponse, decode_log
from tokenwire_adapters._backends.redis.connection import Command
from tokenwire_adapters._backends.redis.cursors import (
    EMPTY,
    Position,
    format_cursor,
    log_of,
    parse_cursor,
    parse_page_token,
    with_log,
)
from tokenwire_adapters._backends.redis.errors import translate
from tokenwire_adapters._backends.redis.options import Settings, age_ms
from tokenwire_adapters._backends.redis.publisher import Publisher, Script, run_script
from tokenwire_adapters._backends.redis.topology import Node, Topology

__all__ = ["Reader"]

_READ = Script("read.lua")
_MAX_TIME = 2**53 - 1  # milliseconds; Lua's numbers are exact up to here
_MAX_COUNT = 10**6
_MAX_PAGE = 1000  # responses

T = TypeVar("T")


class Reader:
    """Runs the read script and plain commands, with retries while Redis is away."""

    def __init__(
        self,
        topology: Topology,
        settings: Settings,
        publisher: Publisher,
        unreadable: Unreadable,
    ) -> None:
        self._unreadable = unreadable
        self._topology = topology
        self._settings = settings
        self._publisher = publisher

    # -- running commands

    async def _read(
        self, base: str, mode: str, *numbers: int, response_id: str = "", log: str = ""
    ) -> Any:
        """Run the read script; end abandoned responses first, which the script lists.

        Not while a server has just come back: its producers may be alive, and come back as well.
        """
        token = "1" if self._settings.granularity == "token" else "0"
        padded = [*numbers, 0, 0, 0][:3]
        size, age = self._settings.page_bytes, age_ms(self._settings.retention)
        call: Command = (1, base, mode, *padded, response_id, token, size, log, age)

        async def read() -> Any:
            for _ in range(64):
                node = await self._topology.node(base)
                reply = await self._run_script_on(node, (*call, int(node.outage.over)))
                if reply[0] != b"reap":
                    return reply
                if node.outage.over:  # the connection may have been lost, and the call sent again
                    await self._publisher.reap(base, reply[1:])
            raise BackendUnavailable("abandoned responses cannot be ended")

        return await self.with_retries(read)

    async def with_retries(self, read: Callable[[], Awaitable[T]]) -> T:
        """Retry a read while Redis is away, for up to the setting `timeout`.

        Otherwise a lost connection or a failover would fail watchers and readers of history.
        """
        loop = asyncio.get_running_loop()
        deadline, backoff = loop.time() + self._settings.timeout, Backoff(0.05, 0.5)
        while True:
            try:
                return await read()
            except BackendMisconfigured:
                raise  # a retry would not help
            except BackendUnavailable:
                pause = backoff.next()
                if loop.time() + pause > deadline or self._topology.closed:
                    raise
            await asyncio.sleep(pause)

    async def run_script(self, base: str, call: Command, script: Script = _READ) -> Any:
        """Call a script, by default the one that reads, on the server that has the channel."""
        return await self._run_script_on(await self._topology.node(base), call, script)

    async def _run_script_on(self, node: Node, call: Command, script: Script = _READ) -> Any:
        (reply,) = await self._replies(node, run_script(node.read, script, [call]))
        return reply

    async def run(self, base: str, commands: list[Command]) -> list[Any]:
        """Run plain commands on the server that has the channel."""
        return await self.run_on(await self._topology.node(base), commands)

    async def run_on(self, node: Node, commands: list[Command]) -> list[Any]:
        """Run plain commands on a server."""
        return await self._replies(node, node.read.run(commands))

    async def _replies(self, node: Node, asking: Awaitable[list[Any]]) -> list[Any]:
        """What a server replies, where none of it is an error."""
        try:
            replies = await asking
        except Exception as error:
            await self._topology.on_error(error, node)
            raise translate(error, node.label) from error
        for reply in replies:
            if isinstance(reply, Exception):
                await self._topology.on_error(reply, node)
                raise translate(reply, node.label) from reply
        return replies

    # -- abandoned responses

    async def reap(self, channel: str) -> int:
        """End abandoned responses (see `Backend.reap`)."""
        return await self.with_retries(lambda: self._reap(channel))

    async def _reap(self, channel: str) -> int:
        base = self._publisher.base(channel)
        node = await self._topology.node(base)
        commands: list[Command] = [("TIME",), ("ZRANGE", f"{base}:open", 0, 255, "WITHSCORES")]
        (seconds, micros), leases = await self.run_on(node, commands)
        now = int(seconds) * 1000 + int(micros) // 1000
        pairs = zip(leases[::2], leases[1::2], strict=True)
        expired = [name for name, lease in pairs if float(lease) < now]
        return await self._publisher.reap(base, expired) if expired and node.outage.over else 0

    # -- replay

    async def replay(self, channel: str, start: ReplayFrom) -> Replay:
        """Read what a reader needs before it goes live (see `Backend.replay`)."""
        base = self._publisher.base(channel)
        response_id = start.response_id or ""
        mode, *numbers = _read_mode(start)
        log = log_of(start.after or start.page or EMPTY) or ""
        reply = await self._read(base, mode, *numbers, response_id=response_id, log=log)
        kind = reply[0]
        if kind == b"none":
            reset = start.after not in (None, EMPTY)
            return Replay(events=(), cursor=EMPTY, reset=reset)
        if kind == b"ahead":
            raise InvalidCursor(f"cursor {start.after!r} is ahead of its channel")
        log = reply[1].decode()
        if kind == b"exact":
            head, entries = reply[2:]
            after = parse_cursor(start.after or EMPTY)
            events = decode_log(entries, after, log, self._skip(channel, "the log"))
            if response_id:
                events = [event for event in events if event.response_id == response_id]
            if self._settings.granularity == "response":
                events = merge_deltas(events)
            return Replay(events=tuple(events), cursor=with_log(head.decode(), log))
        page = _Whole(log, *reply[2:])
        responses = self._stored(channel, page.responses)
        elsewhere: set[str] = set()
        if start.page is not None or page.next:
            elsewhere = await self._responses_on_other_pages(base, page, responses)
        return self._snapshot_replay(channel, page, responses, response_id, elsewhere)

    def _skip(self, channel: str, place: str) -> Skip:
        return lambda error: self._unreadable.skip(f"{place} of channel {channel!r}", error)

    def _stored(self, channel: str, replies: Sequence[Any]) -> list[StoredResponse]:
        """The responses in replies of the read script that can be read."""
        stored: list[StoredResponse] = []
        for reply in replies:
            try:
                stored.append(StoredResponse(reply))
            except ValueError as error:
                self._skip(channel, "responses")(error)
        return stored

    async def _responses_on_other_pages(
        self, base: str, page: _Whole, responses: Sequence[StoredResponse]
    ) -> set[str]:
        """The responses of tool results on this page whose snapshots are on other pages."""
        named = {
            event.response_id
            for event in decode_log(page.singles, (0, 0, 0), page.log, _ignore)
            if isinstance(event, ToolResultEvent) and event.response_id
        }
        if not (others := sorted(named - {response.id for response in responses})):
            return set()
        commands: list[Command] = [("HGET", f"{base}:r:{name}", "last") for name in others]
        replies = await self.with_retries(lambda: self.run(base, commands))
        return {name for name, last in zip(others, replies, strict=True) if last is not None}

    def _snapshot_replay(
        self,
        channel: str,
        page: _Whole,
        responses: Sequence[StoredResponse],
        response_id: str,
        elsewhere: set[str],
    ) -> Replay:
        """A replay for a reader without state: snapshots, and events of no response.

        :param elsewhere: responses whose snapshots, with their tool results, are on other pages.
        """
        after, head = _parse_position(page.begin), _parse_position(page.head)
        oldest = int(page.oldest)
        replayed: list[tuple[Position, Event]] = []
        in_snapshots: set[str | None] = set()
        ts = now_ms()
        for stored in responses:
            if not response_id and stored.ended and stored.last <= after:
                continue
            if page.one_by_one and stored.first > after:
                continue  # its events follow below, one by one
            response = self._load(stored, channel, oldest)
            if response is None or stored.last > head:
                continue
            in_snapshots.add(stored.id)
            cursor = format_cursor(stored.last, page.log)
            replayed.append((stored.last, SnapshotEvent(response=response, cursor=cursor, ts=ts)))
        entries, place = (page.tail, "the log") if page.one_by_one else (page.singles, "events")
        for event in decode_log(entries, after, page.log, self._skip(channel, place)):
            if response_id and event.response_id != response_id:
                continue
            if event.response_id in in_snapshots and not isinstance(event, CancelEvent | DataEvent):
                continue
            if event.response_id in elsewhere and isinstance(event, ToolResultEvent):
                continue
            position = parse_cursor(event.cursor or EMPTY)
            if position[0] >= oldest:
                replayed.append((position, event))
        replayed.sort(key=lambda pair: pair[0])
        events = tuple(event for _, event in replayed)
        if page.next:
            cursor = with_log(page.next.decode(), page.log)
            rest = ReplayFrom(page=cursor)
            return Replay(events=events, cursor=cursor, reset=bool(page.reset), next=rest)
        cursor = with_log(page.head.decode(), page.log)
        return Replay(events=events, cursor=cursor, reset=bool(page.reset))

    def _load(self, stored: StoredResponse, channel: str, oldest: int) -> Response | None:
        """The response, if it is intact and has not expired."""
        skip = self._skip(channel, f"response {stored.id!r}")
        try:
            if not stored.is_intact or (stored.ended and stored.last[0] < oldest):
                return None
            return stored.response(channel, skip)
        except Exception as error:  # whatever damaged data leads to
            skip(error)
            return None

    # -- history

    async def history(self, channel: str, limit: int, before: str | None) -> HistoryPage:
        """Read a page of responses (see `Backend.history`)."""
        base = self._publisher.base(channel)
        expected, number = (None, 0) if before is None else parse_page_token(before)
        if expected is not None and number == 0:
            return HistoryPage(items=())
        most = min(max(limit, 1), _MAX_PAGE)
        reply = await self._read(base, "history", most, number, self._settings.page_bytes)
        if reply[0] == b"none":
            return HistoryPage(items=())
        _, oldest_text, following, first, responses = reply
        first = first or b"0-0"
        if expected is not None and expected != first.decode():
            return HistoryPage(items=())  # the token is of an earlier channel of this name
        oldest = int(oldest_text)
        stored = self._stored(channel, responses)
        loaded = (self._load(response, channel, oldest) for response in stored)
        items = tuple(response for response in loaded if response is not None)
        token = f"{first.decode()}-{following.decode()}" if following else None
        return HistoryPage(items=items, next=token)

    # -- doctor

    async def check(self) -> dict[str, Any]:
        """Try out what the backend needs (see `Backend.check`)."""
        base = self._publisher.base("tokenwire-check")
        call: Command = (1, base, "history", 1, 0, 1, "", "0", 0, "", 0, 0)
        await self.run_script(base, call)  # connects, and loads the script
        begun = time.perf_counter()
        await self.run_script(base, call)
        round_trip = time.perf_counter() - begun
        return {
            "backend": "RedisBackend",
            "kind": self._topology.target.kind,
            "where": self._topology.target.label,
            "server": self._topology.flavour,
            "version": ".".join(map(str, self._topology.version)),
            "sharded pub/sub": self._topology.sharded,
            "granularity": self._settings.granularity,
            "round trip": f"{round_trip * 1000:.2f} ms",
        }


def _read_mode(start: ReplayFrom) -> tuple[Any, ...]:
    """The mode of the read script for a start, and its numbers."""
    if start.after is not None:
        return "after", *parse_cursor(start.after)
    if start.page is not None:
        return "page", *parse_cursor(start.page)
    if start.all:
        return ("all",)
    if start.since is not None:
        return "since", min(max(start.since, 0), _MAX_TIME)
    if start.count is not None:
        return "count", min(max(start.count, 0), _MAX_COUNT)
    return ("live",)


class _Whole(NamedTuple):
    """A reply of the read script for a reader without state: one page of what there is."""

    log: str
    oldest: bytes
    head: bytes
    reset: int
    begin: bytes
    responses: Sequence[Any]
    singles: Sequence[Any]
    tail: Sequence[Any]
    one_by_one: int
    next: bytes


def _ignore(_: object) -> None:
    """Pass over what is no event, where it is counted elsewhere."""


def _parse_position(text: bytes) -> Position:
    ms, seq, index = text.split(b"-")
    return int(ms), int(seq), int(index)
