"""Delivers what is published in the file, by whichever process, to those who subscribe."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from functools import partial

from tokenwire._clock import Backoff
from tokenwire.backend import Receiver
from tokenwire.errors import BackendUnavailable
from tokenwire_adapters._backends.sqlite.doorbell import Doorbell, topic_of
from tokenwire_adapters._backends.sqlite.reader import News, Reader, Wanted
from tokenwire_adapters._backends.sqlite.records import cursor_of
from tokenwire_adapters._backends.sqlite.worker import Worker

__all__ = ["ChannelSubscription", "Subscriptions"]

logger = logging.getLogger("tokenwire")
_LOOK_EVERY = 2.0  # seconds; for what no doorbell said
_SHORTEST_LOOK, _LONGEST_LOOK = 0.005, 0.25  # without a doorbell: soon after news, and later


class ChannelSubscription:
    """A receiver, and how far it has been given what its channel has.

    :ivar position: the last number that it knows, in the log of `epoch`.
    """

    def __init__(
        self, owner: Subscriptions, channel: str, receiver: Receiver, *, control: bool
    ) -> None:
        self.channel = channel
        self.control = control
        self.topic = topic_of(channel, control=control)
        self.epoch, self.position = "", 0
        self._owner = owner
        self._receiver = receiver

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.channel, self.control, self.epoch, self.position)

    def take(self, news: News) -> None:
        """Deliver news, if they still follow what the receiver has."""
        after = cursor_of(self.epoch, self.position)
        self.epoch, self.position = news.epoch, news.head
        if news.events is None:
            self._receiver.resync()
        elif news.events:
            self._receiver.deliver(news.events, None if self.control else after)

    async def close(self) -> None:
        self._owner.remove(self)


class Subscriptions:
    """All subscriptions of a backend, on its I/O loop.

    Where somebody rings, the file is asked about those of the named channels that are subscribed
    to, and every two seconds about all of them, should it have changed meanwhile. Without a
    doorbell the file is looked at more often: up to two hundred times a second while there are
    news, four times when there are none.
    """

    def __init__(self, reader: Reader, worker: Worker, doorbell: Doorbell) -> None:
        self._reader = reader
        self._worker = worker
        self._doorbell = doorbell
        self._active: dict[bytes, list[ChannelSubscription]] = {}
        self._topics: set[bytes] = set()  # where there may be news; b"": everywhere
        self._rung = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._has_bell = False
        self._pause = _SHORTEST_LOOK
        self._look_at = 0.0
        self._version: tuple[int, int] | None = None

    async def subscribe(
        self, channel: str, receiver: Receiver, *, control: bool
    ) -> ChannelSubscription:
        """Deliver what is published from now on.

        :raises BackendUnavailable: when the file cannot be read.
        """
        if self._task is None:
            self._has_bell = self._doorbell.listen(self._on_bell)
            self._task = asyncio.ensure_future(self._run())
        subscription = ChannelSubscription(self, channel, receiver, control=control)
        head = await self._worker.run(partial(self._reader.head, name=channel))
        subscription.epoch, subscription.position = head
        self._active.setdefault(subscription.topic, []).append(subscription)
        if not self._doorbell.listens_to(subscription.topic):
            self._listen_to(self._active)
        self._on_bell({subscription.topic})  # for what came since
        return subscription

    def remove(self, subscription: ChannelSubscription) -> None:
        """End a subscription."""
        subscriptions = self._active.get(subscription.topic, [])
        if subscription in subscriptions:
            subscriptions.remove(subscription)
            if not subscriptions:
                del self._active[subscription.topic]

    def _listen_to(self, topics: Iterable[bytes]) -> None:
        """Be rung for topics, and look for what came while others knew the old name."""
        if self._doorbell.listen_to(topics):
            self._on_bell({b""})

    def _on_bell(self, topics: AbstractSet[bytes]) -> None:
        if b"" not in topics:
            topics = self._active.keys() & topics  # the others are for other processes
        if topics:
            self._topics |= topics
            self._rung.set()

    async def _run(self) -> None:
        backoff = Backoff(0.05, 2.0)
        while True:
            try:
                await self._wait()
                await self._deliver()
                backoff.reset()
            except BackendUnavailable as error:
                logger.debug("tokenwire: cannot look for news: %s", error)
                self._topics.add(b"")
                await asyncio.sleep(backoff.next())
            except Exception:
                logger.exception("tokenwire: unexpected error while looking for news; going on")
                self._topics.add(b"")
                await asyncio.sleep(backoff.next())

    async def _wait(self) -> None:
        """Wait until somebody rings, or the file has changed."""
        loop = asyncio.get_running_loop()
        while True:
            if self._active and loop.time() >= self._look_at:
                await self._look()
                self._look_at = loop.time() + (_LOOK_EVERY if self._has_bell else self._pause)
            if self._topics:
                return
            self._rung.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._look_at if self._active else None):
                    await self._rung.wait()

    async def _look(self) -> None:
        if self._has_bell and not self._doorbell.is_there:  # the directory was removed
            self._doorbell.close()
            self._has_bell = self._doorbell.listen(self._on_bell)
        self._listen_to(self._active)  # without those that have ended
        version = await self._worker.run(self._reader.version)
        if version != self._version:
            self._version = version
            self._topics.add(b"")
            self._pause = _SHORTEST_LOOK
        else:
            self._pause = min(self._pause * 1.5, _LONGEST_LOOK)

    async def _deliver(self) -> None:
        topics, self._topics = self._topics, set()
        if b"" in topics:
            topics = set(self._active)
        due = [one for topic in topics for one in self._active.get(topic, ())]
        if not due:
            return
        wanted = [one.wanted for one in due]
        news = await self._worker.run(partial(self._reader.news, wanted=wanted))
        for subscription, asked, new in zip(due, wanted, news, strict=True):
            is_active = subscription in self._active.get(subscription.topic, ())
            if is_active and subscription.wanted == asked:
                subscription.take(new)

    def close(self) -> None:
        """End all subscriptions."""
        self._active.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None
            self._doorbell.close()

    def abandon(self) -> None:
        """In a forked child: leave everything to the parent."""
        self._active.clear()
        self._doorbell.abandon()
