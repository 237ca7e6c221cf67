"""Listening to a channel: attached, hydrated from history, healed after every interruption."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Protocol

from tokenwire._clock import Backoff
from tokenwire.backend import Receiver
from tokenwire.errors import BackendError
from tokenwire.events import Event
from tokenwire_adapters._backends.ably.connections import Link
from tokenwire_adapters._backends.ably.errors import may_listen, translate
from tokenwire_adapters._backends.ably.history import History
from tokenwire_adapters._backends.ably.wire import Msg, from_ably

__all__ = ["Feed", "Keeper", "Stand", "starts_known"]

logger = logging.getLogger("tokenwire")

_MAX_HELD = 10_000
_LONGEST = 5.0  # seconds between tries to read
_PATIENCE = 0.7  # seconds: longer than the longest rollup window


class Keeper(Protocol):
    """What becomes of the messages of a feed."""

    async def first(self, messages: list[Msg]) -> None:
        """Take what history has when the feed begins."""
        ...

    async def again(self, messages: list[Msg]) -> Sequence[Event]:
        """Take what history has after an interruption; return what is new."""
        ...

    def live(self, msg: Msg) -> Sequence[Event]:
        """Take a live message; return what is new."""
        ...

    @property
    def incomplete(self) -> bool:
        """Whether history should be read again."""
        ...

    def cursor(self) -> str | None:
        """The cursor of the last event; None where continuity is vouched for."""
        ...


class Stand:
    """One receiver of a feed."""

    def __init__(self, feed: Feed, receiver: Receiver) -> None:
        self._feed = feed
        self.receiver = receiver

    async def close(self) -> None:
        await self._feed.leave(self)


class Feed:
    """A channel on one link, for any number of receivers.

    :param depth: how many messages of history a page has.
    :param all_starts: read on until each response that is there has its beginning.
    """

    def __init__(
        self,
        link: Link,
        channel: str,
        history: History,
        keeper: Keeper,
        *,
        depth: int,
        all_starts: bool = True,
    ) -> None:
        self.channel = channel
        self.keeper = keeper
        self.stands: list[Stand] = []
        self.closed = False
        self._link = link
        self._history = history
        self._depth = depth
        self._enough = starts_known if all_starts else _any
        self._attached: Any = None
        self._held: list[Msg] | None = []
        self._healing: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._again = False
        self._ready = False
        self.problem: BackendError | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the feed stands."""
        return self._ready

    async def ready(self) -> None:
        """Wait until the feed stands.

        :raises BackendUnavailable: when it cannot be set up now; call again to try again.
        """
        if self._ready:
            return
        if self._opening is None or self._opening.done():
            self._opening = self._link.spawn(self._open())
            self._opening.add_done_callback(_look_at)
        await asyncio.shield(self._opening)

    async def _open(self) -> None:
        self._held = []
        await self._attach()
        messages = await self._read(attached=True)
        await self.keeper.first(messages)
        self._ready = True
        self._take_held()
        self._link.on_renewed.append(self._renewed)

    async def _attach(self) -> None:
        what = f"attaching to {self.channel!r}"
        channel = await self._link.channel(self.channel)
        if channel is not self._attached:
            self._attached = channel

            def changed(change: Any, channel: Any = channel) -> None:
                self._changed(channel, change)

            channel.on(changed)
            try:
                async with asyncio.timeout(10):
                    await channel.subscribe(self._heard)
                may_listen(channel)
            except Exception as error:
                self._attached = None
                raise translate(error, what) from error
        elif str(getattr(channel.state, "value", channel.state)) != "attached":
            try:
                async with asyncio.timeout(10):
                    await channel.attach()
            except Exception as error:
                raise translate(error, what) from error

    def _changed(self, channel: Any, change: Any) -> None:
        """See in a change of the channel's state whether anything was missed, or refused."""
        if channel is not self._attached or not self._ready or self.closed:
            return
        state = str(getattr(change.current, "value", change.current))
        if state == "attached" and not change.resumed:
            self.heal()
        elif state in ("failed", "suspended", "detached"):
            if change.reason is not None:
                self.problem = translate(change.reason, f"listening to {self.channel!r}")
                logger.warning("tokenwire: %s", self.problem)
            self.heal(attach=state != "suspended")

    def _renewed(self) -> None:
        if not self.closed:
            self.heal(attach=True)

    def _heard(self, message: Any) -> None:
        if self.closed:
            return
        msg = from_ably(message)
        if msg is None:
            return
        if self._held is not None:
            self._held.append(msg)
            if len(self._held) > _MAX_HELD:
                self._held.clear()
                self._again = True
            return
        self._take(msg)
        if self.keeper.incomplete:
            self.heal(patience=_PATIENCE)

    def _take(self, msg: Msg) -> None:
        before = self.keeper.cursor()
        self._tell(self.keeper.live(msg), before)

    def _tell(self, events: Sequence[Event], before: str | None) -> None:
        if events:
            for stand in tuple(self.stands):
                stand.receiver.deliver(events, before)

    def _take_held(self) -> None:
        held, self._held = self._held or [], None
        for msg in held:
            self._take(msg)
        if self.keeper.incomplete:
            self.heal()

    # -- healing

    def heal(self, *, attach: bool = False, patience: float = 0.0) -> None:
        """Read history again for what may have been missed.

        :param patience: seconds in which what is missing may still come by itself.
        """
        if self.closed or not self._ready:
            return
        if self._healing is not None and not self._healing.done():
            self._again = self._again or not patience
            return
        self._healing = self._link.spawn(self._heal(attach, patience))

    async def _heal(self, attach: bool, patience: float) -> None:
        backoff = Backoff(0.1, _LONGEST)
        if patience:
            await asyncio.sleep(patience)
            if not self._again and not self.keeper.incomplete:
                return
        fresh = not patience
        while not self.closed:
            self._again = False
            try:
                if attach or not self._is_attached:
                    await self._attach()
                if self._held is None:
                    self._held = []
                messages = await self._read(attached=fresh)
                before = self.keeper.cursor()
                self._tell(await self.keeper.again(messages), before)
                self.problem = None
            except BackendError:
                await asyncio.sleep(backoff.next())
                continue
            except Exception:
                logger.warning("tokenwire: reading %r failed", self.channel, exc_info=True)
                await asyncio.sleep(_LONGEST)
                continue
            held, self._held = self._held or [], None
            for msg in held:
                self._take(msg)
            if not self._again and not self.keeper.incomplete:
                return
            attach = fresh = False
            # What is missing may not have been published yet: look again, more and more slowly.
            await asyncio.sleep(backoff.next())
            if not self._again and not self.keeper.incomplete:
                return

    @property
    def _is_attached(self) -> bool:
        channel = self._attached
        state = None if channel is None else getattr(channel.state, "value", channel.state)
        return str(state) == "attached"

    async def _read(self, *, attached: bool) -> list[Msg]:
        """Read history; up to where the channel was attached, if that was just now."""
        serial = None
        if attached:
            serial = getattr(self._attached, "_RealtimeChannel__attach_serial", None)
        return await self._history.read(
            self.channel,
            page=self._depth,
            attached=serial if isinstance(serial, str) else None,
            enough=self._enough,
        )

    # -- receivers

    def join(self, receiver: Receiver) -> Stand:
        """Have `receiver` told of everything from now on."""
        stand = Stand(self, receiver)
        self.stands.append(stand)
        return stand

    async def leave(self, stand: Stand) -> None:
        """Tell one receiver no more."""
        if stand in self.stands:
            self.stands.remove(stand)

    def abandon(self) -> None:
        """Stop, where the connection is closed as well."""
        self.closed = True
        for task in (self._healing, self._opening):
            if task is not None:
                task.cancel()

    async def close(self) -> None:
        """Let go of the channel."""
        self.closed = True
        if self._renewed in self._link.on_renewed:
            self._link.on_renewed.remove(self._renewed)
        if self._healing is not None:
            self._healing.cancel()
        channel, self._attached = self._attached, None
        if channel is not None:
            try:
                channel.unsubscribe(self._heard)
                async with asyncio.timeout(1):
                    await channel.detach()
                client = await self._link.client()
                client.channels.release(self.channel)
            except Exception:
                logger.debug("tokenwire: detaching from %r failed", self.channel, exc_info=True)


def _look_at(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()


def _any(messages: Sequence[Msg]) -> bool:  # noqa: ARG001 - one page will do
    return True


def starts_known(messages: Sequence[Msg]) -> bool:
    """Whether every response that streams in these messages has its start among them."""
    open_: set[Any] = set()
    started: set[Any] = set()
    for msg in messages:
        if msg.ours and "type" not in msg.headers:
            response_id = msg.headers.get("responseId")
            if "start" in msg.headers:
                started.add(response_id)
            else:
                open_.add(response_id)
    return open_ <= started
