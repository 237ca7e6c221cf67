"""Replays, history and the reaper: one round trip each, as a rule."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tokenwire._clock import Backoff, now_ms
from tokenwire.backend import HistoryPage, Replay, ReplayFrom
from tokenwire.errors import (
    BackendMisconfigured,
    BackendUnavailable,
    DecodeError,
    GapError,
    InvalidCursor,
)
from tokenwire.events import (
    CancelEvent,
    DataEvent,
    Event,
    Response,
    SnapshotEvent,
    ToolResultEvent,
)
from tokenwire_adapters._backends.redis.codec import Stored, decode_log, merge
from tokenwire_adapters._backends.redis.connection import Command
from tokenwire_adapters._backends.redis.cursors import NOTHING, Place, parse, parse_page, show
from tokenwire_adapters._backends.redis.errors import translate
from tokenwire_adapters._backends.redis.options import Settings
from tokenwire_adapters._backends.redis.publisher import ScriptText, Writing, run_script
from tokenwire_adapters._backends.redis.topology import Servers

__all__ = ["Reading"]

logger = logging.getLogger("tokenwire")

_READ = ScriptText("read.lua")
_LARGEST = 2**53 - 1  # what Lua can count to

T = TypeVar("T")


class Reading:
    """What reads channels."""

    def __init__(self, servers: Servers, settings: Settings, writing: Writing) -> None:
        self._servers = servers
        self._settings = settings
        self._writing = writing

    async def _ask(self, base: str, mode: str, *numbers: int, wanted: str = "") -> Any:
        """Run the reading script, after ending what is abandoned."""
        token = "1" if self._settings.granularity == "token" else "0"
        padded = [*numbers, 0, 0, 0][:3]
        page = self._settings.page_bytes
        call: Command = (1, base, mode, *padded, wanted, token, page)

        async def ask() -> Any:
            for _ in range(64):
                reply = await self._call(base, call)
                if reply[0] != b"reap":
                    return reply
                await self._writing.reap(base, [name.decode() for name in reply[1:]])
            raise BackendUnavailable("abandoned responses cannot be ended")

        return await self._patiently(ask)

    async def _patiently(self, read: Callable[[], Awaitable[T]]) -> T:
        """Read again while Redis is away, for as long as it may take for an answer.

        A cut connection or a failover would else refuse watchers and readers of history.
        """
        loop = asyncio.get_running_loop()
        deadline, backoff = loop.time() + self._settings.timeout, Backoff(0.05, 0.5)
        while True:
            try:
                return await read()
            except BackendMisconfigured:
                raise  # waiting would not help
            except BackendUnavailable:
                pause = backoff.next()
                if loop.time() + pause > deadline or self._servers.closed:
                    raise
            await asyncio.sleep(pause)

    async def _call(self, base: str, call: Command) -> Any:
        node = await self._servers.node(base)
        try:
            (reply,) = await run_script(node.read, _READ, [call])
        except Exception as error:
            await self._servers.failed(error, node)
            raise translate(error, node.shown) from error
        if isinstance(reply, Exception):
            await self._servers.failed(reply, node)
            raise translate(reply, node.shown) from reply
        return reply

    async def reap(self, channel: str) -> int:
        """End what is abandoned (see `Backend.reap`)."""
        return await self._patiently(lambda: self._reap(channel))

    async def _reap(self, channel: str) -> int:
        base = self._writing.base(channel)
        commands: list[Command] = [("TIME",), ("ZRANGE", f"{base}:open", 0, 255, "WITHSCORES")]
        (seconds, micros), leases = await self._run(base, commands)
        now = int(seconds) * 1000 + int(micros) // 1000
        pairs = zip(leases[::2], leases[1::2], strict=True)
        dead = [name.decode() for name, lease in pairs if float(lease) < now]
        return await self._writing.reap(base, dead) if dead else 0

    async def _run(self, base: str, commands: list[Command]) -> list[Any]:
        """Run plain commands on the server that has the channel."""
        node = await self._servers.node(base)
        try:
            replies = await node.read.run(commands)
        except Exception as error:
            raise translate(error, node.shown) from error
        for reply in replies:
            if isinstance(reply, Exception):
                await self._servers.failed(reply, node)
                raise translate(reply, node.shown) from reply
        return replies

    # -- replay

    async def replay(self, channel: str, start: ReplayFrom) -> Replay:
        """Read what a reader needs before it goes live (see `Backend.replay`)."""
        base = self._writing.base(channel)
        wanted = start.response_id or ""
        if start.after is not None:
            place = parse(start.after)
            reply = await self._ask(base, "after", *place, wanted=wanted)
        elif start.page is not None:
            place = parse(start.page)
            reply = await self._ask(base, "page", *place, wanted=wanted)
        elif start.all:
            reply = await self._ask(base, "all", wanted=wanted)
        elif start.since is not None:
            since = min(max(start.since, 0), _LARGEST)
            reply = await self._ask(base, "since", since, wanted=wanted)
        elif start.count is not None:
            count = min(max(start.count, 0), 10**6)
            reply = await self._ask(base, "count", count, wanted=wanted)
        else:
            reply = await self._ask(base, "live", wanted=wanted)
        kind = reply[0]
        if kind == b"none":
            reset = start.after not in (None, NOTHING)
            return Replay(events=(), cursor=NOTHING, reset=reset)
        if kind == b"ahead":
            raise InvalidCursor(f"cursor {start.after!r} is ahead of its channel")
        if kind == b"exact":
            _, _, head, log = reply
            events = decode_log(log, parse(start.after or NOTHING))
            if wanted:
                events = [event for event in events if event.response_id == wanted]
            if self._settings.granularity == "response":
                events = merge(events)
            return Replay(events=tuple(events), cursor=head.decode())
        several = start.page is not None or reply[-1] != b""
        others = await self._elsewhere(base, reply) if several else set[str]()
        return self._whole(channel, reply, wanted, others)

    async def _elsewhere(self, base: str, reply: Any) -> set[str]:
        """Responses on other pages whose snapshots have results of tools that are on this one."""
        here = {response[0].decode() for response in reply[5]}
        results = {
            event.response_id
            for event in decode_log(reply[6], (0, 0, 0))
            if isinstance(event, ToolResultEvent) and event.response_id
        }
        if not (others := sorted(results - here)):
            return set()
        asked: list[Command] = [("HGET", f"{base}:r:{name}", "last") for name in others]
        replies = await self._patiently(lambda: self._run(base, asked))
        return {name for name, last in zip(others, replies, strict=True) if last is not None}

    def _whole(self, channel: str, reply: Any, wanted: str, others: set[str]) -> Replay:
        """What a reader without state is to know; `others` are responses on other pages."""
        _, now, head, reset, shown, responses, singles, tail, one_by_one, following = reply
        after = _place(shown)
        age = self._settings.retention.age
        oldest = 0 if age is None else int(now) - int(age * 1000)
        found: list[tuple[Place, Event]] = []
        whole: set[str | None] = set()
        ts = now_ms()
        for stored in map(Stored, responses):
            if not wanted and stored.ended and stored.last <= after:
                continue
            if one_by_one and stored.first > after:
                continue  # its events follow below, one by one
            response = _response(stored, channel, oldest)
            if response is None:
                continue
            whole.add(stored.id)
            snapshot = SnapshotEvent(response=response, cursor=show(stored.last), ts=ts)
            found.append((stored.last, snapshot))
        for event in decode_log(tail if one_by_one else singles, after):
            if wanted and event.response_id != wanted:
                continue
            if event.response_id in whole and not isinstance(event, CancelEvent | DataEvent):
                continue  # it is in the snapshot
            if event.response_id in others and isinstance(event, ToolResultEvent):
                continue
            place = parse(event.cursor or NOTHING)
            if place[0] >= oldest:
                found.append((place, event))
        found.sort(key=lambda pair: pair[0])
        events = tuple(event for _, event in found)
        if following:
            cursor = following.decode()
            rest = ReplayFrom(page=cursor)
            return Replay(events=events, cursor=cursor, reset=bool(reset), next=rest)
        return Replay(events=events, cursor=head.decode(), reset=bool(reset))

    # -- history

    async def history(self, channel: str, limit: int, before: str | None) -> HistoryPage:
        """Read a page of responses (see `Backend.history`)."""
        base = self._writing.base(channel)
        born, number = (None, 0) if before is None else parse_page(before)
        if born is not None and number == 0:
            return HistoryPage(items=())
        most = min(max(limit, 1), 1000)
        reply = await self._ask(base, "history", most, number, self._settings.page_bytes)
        if reply[0] == b"none":
            return HistoryPage(items=())
        _, now, following, first, responses = reply
        if born is not None and born != first.decode():
            return HistoryPage(items=())  # a page of a channel that is gone
        age = self._settings.retention.age
        oldest = 0 if age is None else int(now) - int(age * 1000)
        found = (_response(stored, channel, oldest) for stored in map(Stored, responses))
        items = tuple(response for response in found if response is not None)
        more = f"{first.decode()}-{following.decode()}" if following else None
        return HistoryPage(items=items, next=more)

    # -- doctor

    async def check(self) -> dict[str, Any]:
        """Try out what the backend needs (see `Backend.check`)."""
        base = self._writing.base("tokenwire-check")
        await self._call(base, (1, base, "history", 1, 0, 1, "", "0"))
        told: dict[str, Any] = {"backend": "RedisBackend", "kind": self._servers.target.kind}
        told["where"] = self._servers.target.shown
        told["server"] = self._servers.flavour
        told["version"] = ".".join(map(str, self._servers.version))
        told["sharded pub/sub"] = self._servers.sharded
        told["granularity"] = self._settings.granularity
        begun = time.perf_counter()
        await self._call(base, (1, base, "history", 1, 0, 1, "", "0"))
        told["round trip"] = f"{(time.perf_counter() - begun) * 1000:.2f} ms"
        return told


def _response(stored: Stored, channel: str, oldest: int) -> Response | None:
    """The response, where it is all there and not too old."""
    if not stored.whole or (stored.ended and stored.last[0] < oldest):
        return None
    try:
        return stored.response(channel)
    except (DecodeError, GapError, LookupError, ValueError):
        logger.warning("tokenwire: what Redis has of response %r is damaged", stored.id)
        return None


def _place(text: bytes) -> Place:
    ms, seq, index = text.split(b"-")
    return int(ms), int(seq), int(index)
