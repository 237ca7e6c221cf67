"""Watchers of one channel that are level: what comes is encoded once, and written to all of them.

A watcher whose client does not read what was written leaves its group, and comes back once it has
caught up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar

from tokenwire.watch import ChannelReader, Item

__all__ = ["Fanout", "Group", "GroupFramer", "GroupKey", "Level"]

logger = logging.getLogger("tokenwire.gateway")

GroupKey: TypeAlias = tuple[Hashable, ...]
"""What the members of a group have in common; the event loop is among it."""

_MOST_COMPARED = 8  # groups of one key, whose encoders differ, that a newcomer is compared with


class GroupFramer(Protocol):
    """Encodes what one reader reads, for all watchers that are level with it."""

    @property
    def finished(self) -> bool:
        """Whether nothing more will be encoded."""
        ...

    def batch(self, items: Sequence[Item], reader: ChannelReader) -> Iterable[bytes]:
        """Encode what `reader` has just read."""
        ...

    def end(self) -> bytes:
        """What comes after the last event."""
        ...

    def wire(self, data: bytes) -> bytes:
        """The bytes on the wire of data that `batch` gave out."""
        ...

    def fork(self) -> Self:
        """A framer that encodes what comes as this one does, without having to do with it."""
        ...

    def same_as(self, other: Self) -> bool:
        """Whether both encode whatever comes to the same bytes."""
        ...


F = TypeVar("F", bound=GroupFramer)


class Level(Protocol[F]):
    """A watcher that may be a member of a group.

    :ivar framer: its own, while it is in no group.
    """

    framer: F

    def writer(self) -> Callable[[bytes], None]:
        """What writes to its transport."""
        ...

    @property
    def reader(self) -> ChannelReader:
        """Its own reader, which is at rest while it is in a group."""
        ...

    def send(self, data: bytes, events: int = 0) -> None:
        """Write data to this client alone."""

    @property
    def paused(self) -> bool:
        """Whether its client has not read what was written."""
        ...

    def joined(self, group: Group[F], framer: F) -> None:
        """Be a member of a group, whose framer this is."""

    def leave(self, leader: ChannelReader, framer: F) -> None:
        """Be no member any more: go on where `leader` is, with a framer of its own."""

    def reached_end(self, error: Exception | None = None, last: bytes | None = None) -> None:
        """The channel, response or sink has ended, or cannot be read any more.

        :param last: what comes after the last event; None where that is still to be encoded.
        """


class Group(Generic[F]):
    """Members that are level: all have been given what the leader has read, and nothing more.

    :param elders: finds the groups of the same key that began before this one.
    :ivar sent_at: when all of them were last written to (the loop's time).
    """

    __slots__ = (
        "_batches",
        "_behind",
        "_count_sent",
        "_elders",
        "_framer",
        "_leader",
        "_on_empty",
        "_task",
        "_writes",
        "_writing",
        "sent_at",
    )

    def __init__(
        self,
        leader: ChannelReader,
        framer: F,
        count_sent: Callable[[int, int], None],
        elders: Callable[[Group[F]], Iterable[Group[F]]],
        on_empty: Callable[[Group[F]], None],
    ) -> None:
        self.sent_at = 0.0
        self._batches = 0
        self._elders = elders
        self._leader = leader
        self._framer = framer
        self._count_sent = count_sent
        self._on_empty = on_empty
        self._writes: dict[Level[F], Callable[[bytes], None]] = {}
        self._writing = False
        self._behind: list[Level[F]] = []
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def leader(self) -> ChannelReader:
        """The reader that reads for all."""
        return self._leader

    def matches(self, member: Level[F]) -> bool:
        """Whether a member that is level with the leader can be given the same bytes."""
        return self._framer.same_as(member.framer)

    def add(self, member: Level[F]) -> None:
        """Add a member that is level with the leader."""
        self._writes[member] = member.writer()
        member.joined(self, self._framer)

    def part_with(self, member: Level[F]) -> None:
        """Let go of a member, which stays where the leader is."""
        if self._writing:
            self._behind.append(member)
        elif self._writes.pop(member, None) is not None:
            member.leave(self._leader, self._framer_for_one())
            if not self._writes:
                self._close()

    def _framer_for_one(self) -> F:
        alone = not self._writes or self._framer.finished
        return self._framer if alone else self._framer.fork()

    def _close(self) -> None:
        self._on_empty(self)
        if self._task is not asyncio.current_task():
            self._task.cancel()
        self._leader.close()

    async def _run(self) -> None:
        leader, framer, error, last = self._leader, self._framer, None, None
        try:
            while self._writes and not framer.finished and (items := await leader.abatch()):
                self._send(items)
                self._batches += 1
                if self._batches & (self._batches - 1) == 0:  # with the 1st, 2nd, 4th, 8th ...
                    self._merge()
            if framer.finished:
                last = framer.end()
        except Exception as failure:
            error = failure
        for member in list(self._writes):
            member.reached_end(error, last)

    def _send(self, items: Sequence[Item]) -> None:
        count, size, framer = len(self._writes), 0, self._framer
        self._writing = True  # nobody leaves between the pieces of a batch
        try:
            for data in framer.batch(items, self._leader):
                if data:
                    self._write(framer.wire(data))
                    size += len(data)
        finally:
            self._writing = False
        self.sent_at = asyncio.get_running_loop().time()
        self._count_sent(len(items) * count, size * count)
        behind, self._behind = self._behind, []
        for member in behind:
            self.part_with(member)

    def _merge(self) -> None:
        """Become a part of a group whose members are given the same bytes by now."""
        for elder in self._elders(self):
            items = self._leader.catch_up(elder.leader)
            if items:
                self._send(items)
            if items is not None and elder._framer.same_as(self._framer):
                members = list(self._writes)
                self._writes.clear()
                self._close()
                for member in members:
                    elder.add(member)
            if not self._writes:
                return

    def _write(self, data: bytes) -> None:
        """Write to every member. A transport that fails reports it to its member."""
        writes = iter(self._writes.values())
        while True:
            try:
                for write in writes:
                    write(data)
                return
            except Exception:
                logger.debug("tokenwire gateway: a write failed", exc_info=True)


class Fanout:
    """The groups of a service.

    :param count_sent: counts what is sent to all members: events, and bytes.
    """

    def __init__(self, count_sent: Callable[[int, int], None]) -> None:
        self._count_sent = count_sent
        self._groups: dict[GroupKey, list[Group[Any]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def enter(self, key: GroupKey, member: Level[F]) -> None:
        """Add a member to a group, after it has been sent what it lacks to be level with it.

        A group begins with it where there is none that it can join. It joins none where it has to
        read by itself, until it is level or its client has read.
        """
        level = True
        for group in self._groups.get(key, ())[-_MOST_COMPARED:]:
            items = member.reader.catch_up(group.leader)
            if items is None:
                level = False
                continue
            events = len(items)
            for data in member.framer.batch(items, member.reader):
                member.send(data, events)
                events = 0
            if member.paused:
                return  # that was too much; it follows once it has been read
            if group.matches(member):
                group.add(member)
                return
        if not level or member.framer.finished:
            return
        group = Group(
            member.reader.twin(),
            member.framer,
            self._count_sent,
            self._elders(key),
            self._forgets(key),
        )
        self._groups.setdefault(key, []).append(group)
        group.add(member)

    def _elders(self, key: GroupKey) -> Callable[[Group[Any]], Iterable[Group[Any]]]:
        """A function that finds the groups before another one."""

        def elders(group: Group[Any]) -> Iterable[Group[Any]]:
            groups = self._groups.get(key, [])
            return groups[: groups.index(group)][:_MOST_COMPARED] if group in groups else ()

        return elders

    def _forgets(self, key: GroupKey) -> Callable[[Group[Any]], None]:
        """A function that lists a group no more."""

        def forget(group: Group[Any]) -> None:
            groups = self._groups.get(key)
            if groups is not None and group in groups:
                groups.remove(group)
                if not groups:
                    del self._groups[key]

        return forget
