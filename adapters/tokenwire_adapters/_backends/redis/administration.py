"""Administration of channels: deletion, the list of channels, retention of a channel."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from tokenwire._problems import Unreadable
from tokenwire.backend import ChannelInfo, ChannelPage, Deleted, Deletion, Retention
from tokenwire.errors import InvalidCursor
from tokenwire.events import Event, InputEvent
from tokenwire_adapters._backends.redis.codec import decode_log, pack
from tokenwire_adapters._backends.redis.connection import Command
from tokenwire_adapters._backends.redis.cursors import base_key, channel_of_key
from tokenwire_adapters._backends.redis.options import Settings, age_ms
from tokenwire_adapters._backends.redis.publisher import CHANNEL_KEYS, PENDING_KEYS, Script
from tokenwire_adapters._backends.redis.reader import Reader
from tokenwire_adapters._backends.redis.topology import Node, Topology

__all__ = ["Administrator"]

_ADMINISTER = Script("administer.lua")
_BATCH = 256  # stream entries read, or things deleted, at a time
_SCANNED = 1000  # keys looked at by one SCAN
_PAGE_TOKEN = re.compile(r"([0-9]{1,4})-([0-9]{1,20})", re.ASCII)
_GLOB = re.compile(r"[*?\[\]\\^-]")
_HOUR = 3_600_000  # milliseconds


class Administrator:
    """Runs the script of administration, and SCAN."""

    def __init__(
        self, topology: Topology, settings: Settings, reader: Reader, unreadable: Unreadable
    ) -> None:
        self._topology = topology
        self._settings = settings
        self._reader = reader
        self._unreadable = unreadable

    async def _administer(self, channel: str, response_ids: Iterable[str], *args: Any) -> Any:
        base = base_key(self._settings.prefix, channel)
        keys = [base, *(base + suffix for suffix in (*CHANNEL_KEYS[1:], *PENDING_KEYS))]
        keys += [f"{base}:{kind}:{name}" for name in response_ids for kind in "rt"]
        call: Command = (len(keys), *keys, *args)
        return await self._reader.with_retries(
            lambda: self._reader.run_script(base, call, _ADMINISTER)
        )

    # -- deletion

    async def delete(self, channel: str, deletion: Deletion) -> Deleted:
        """Delete from a channel (see `Backend.delete`)."""
        await self._reader.reap(channel)
        if deletion.everything:
            return _deleted(await self._administer(channel, (), "channel"))
        entries = await self._entries(channel, deletion)
        ids = sorted(deletion.response_ids)
        total = Deleted()
        while ids or entries:
            some, ids = ids[:_BATCH], ids[_BATCH:]
            with_these, entries = entries[:_BATCH], entries[_BATCH:]
            reply = await self._administer(channel, some, "some", len(some), *some, *with_these)
            total += _deleted(reply)
        return total

    async def _entries(self, channel: str, deletion: Deletion) -> list[bytes]:
        """The entries of single events that are to be deleted."""
        base = base_key(self._settings.prefix, channel)
        matching: list[bytes] = []
        start: bytes | None = b"-"
        while start is not None:
            entries = await self._singles(base, start)
            for entry in entries:
                events = decode_log([entry], (0, 0, 0), "", self._skip)
                if any(_concerns(event, deletion) for event in events):
                    matching.append(entry[0])
            start = b"(" + entries[-1][0] if len(entries) == _BATCH else None
        return matching

    async def _singles(self, base: str, start: bytes) -> list[Any]:
        """Some entries of single events."""
        command: Command = ("XRANGE", f"{base}:singles", start, "+", "COUNT", _BATCH)
        (entries,) = await self._reader.with_retries(lambda: self._reader.run(base, [command]))
        return list(entries)

    def _skip(self, error: object) -> None:
        self._unreadable.skip("events that are looked through for deletion", error)

    # -- the list of channels

    async def list_channels(self, prefix: str, limit: int, after: str | None) -> ChannelPage:
        """Read a page of channels (see `Backend.list_channels`).

        Servers are gone through one after the other, each by SCAN, whose cursor is in the token.
        """
        number, position = _parse_page_token(after)
        items: list[ChannelInfo] = []
        while len(items) < limit:
            nodes = await self._reader.with_retries(self._topology.masters)
            if number >= len(nodes):
                return ChannelPage(items=tuple(items))
            position, names = await self._scan(nodes[number], prefix, position)
            items += await self._describe(nodes[number], names)
            if position == 0:
                number += 1
        return ChannelPage(items=tuple(items), next=f"{number}-{position}")

    async def _scan(self, node: Node, prefix: str, position: int) -> tuple[int, list[str]]:
        beginning = base_key(self._settings.prefix, prefix).removesuffix("}")
        pattern = _GLOB.sub(lambda match: f"\\{match[0]}", beginning) + "*}"
        command: Command = (
            "SCAN", position, "MATCH", pattern, "COUNT", _SCANNED, "TYPE", "hash",
        )  # fmt: skip
        (reply,) = await self._reader.with_retries(lambda: self._reader.run_on(node, [command]))
        following, keys = reply
        names = (channel_of_key(self._settings.prefix, key) for key in keys)
        return int(following), [name for name in names if name is not None]

    async def _describe(self, node: Node, names: list[str]) -> list[ChannelInfo]:
        """The channels of these names that have something."""
        commands: list[Command] = []
        for name in names:
            base = base_key(self._settings.prefix, name)
            commands += [
                ("HGET", base, "head"),
                ("ZCARD", f"{base}:starts"),
                ("ZCARD", f"{base}:open"),
                ("XLEN", f"{base}:singles"),
                ("XLEN", f"{base}:log"),
            ]
        if not commands:
            return []
        replies = await self._reader.with_retries(lambda: self._reader.run_on(node, commands))
        items: list[ChannelInfo] = []
        for name, head, responses, streaming, *events in zip(
            names, *(replies[n::5] for n in range(5)), strict=True
        ):
            if head is None or not (responses or any(events)):
                continue
            ms = head.partition(b"-")[0]
            items.append(
                ChannelInfo(
                    name=name,
                    responses=responses,
                    streaming=streaming,
                    active_at=int(ms) if ms.isdigit() else None,
                )
            )
        return items

    # -- retention

    async def retention(self, channel: str) -> Retention:
        """Read the retention of a channel (see `Backend.retention`)."""
        base = base_key(self._settings.prefix, channel)
        command: Command = ("HGET", base, "retention")
        (packed,) = await self._reader.with_retries(lambda: self._reader.run(base, [command]))
        if packed is None:
            return self._settings.retention
        try:
            events, event_bytes, responses, size, age = msgspec.msgpack.decode(
                packed, type=tuple[int, int, int, int, int]
            )
        except msgspec.DecodeError as error:
            self._unreadable.skip(f"the retention of channel {channel!r}", error)
            return self._settings.retention
        return Retention(
            responses=responses,
            age=age / 1000 if age else None,
            bytes=size,
            events=events,
            event_bytes=event_bytes,
        )

    async def set_retention(self, channel: str, retention: Retention | None) -> None:
        """Set the retention of a channel (see `Backend.set_retention`)."""
        kept = retention or self._settings.retention
        age = age_ms(kept)
        keep = int(age * 1.125) + 1000 if age else 0
        packed = pack([kept.events, kept.event_bytes, kept.responses, kept.bytes, age])
        stored = packed if retention is not None else b""
        await self._administer(channel, (), "retention", stored, keep, keep + _HOUR)


def _deleted(reply: Any) -> Deleted:
    responses, events, *streaming = reply
    names = tuple(name.decode(errors="replace") for name in streaming)
    return Deleted(responses=responses, events=events, streaming=names)


def _concerns(event: Event, deletion: Deletion) -> bool:
    if isinstance(event, InputEvent):
        return event.sender in deletion.senders
    return event.response_id in deletion.response_ids


def _parse_page_token(token: str | None) -> tuple[int, int]:
    if token is None:
        return 0, 0
    match = _PAGE_TOKEN.fullmatch(token)
    if match is None:
        raise InvalidCursor(f"not a page token: {token[:64]!a}")
    return int(match[1]), int(match[2])
