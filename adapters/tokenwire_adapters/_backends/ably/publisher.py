"""The producing side: entries become messages, pipelined, and every answer is looked at."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from tokenwire.backend import Entry, Lease, LeaseState, Outcome, Receiver
from tokenwire.errors import (
    BackendError,
    BackendUnavailable,
    Fenced,
    ResponseUnknown,
)
from tokenwire.events import CancelEvent, Event, InputEvent, StartEvent
from tokenwire_adapters._backends.ably.ai_transport import AiTransportWriter
from tokenwire_adapters._backends.ably.connections import Link
from tokenwire_adapters._backends.ably.cursors import show
from tokenwire_adapters._backends.ably.event_messages import single_messages
from tokenwire_adapters._backends.ably.history import History
from tokenwire_adapters._backends.ably.message_per_response import ResponseWriter
from tokenwire_adapters._backends.ably.message_per_token import TokenWriter
from tokenwire_adapters._backends.ably.options import Settings
from tokenwire_adapters._backends.ably.ordering import Turns
from tokenwire_adapters._backends.ably.ownership import Ledger
from tokenwire_adapters._backends.ably.rate_limit import Pace
from tokenwire_adapters._backends.ably.response_writer import Sending, Writer
from tokenwire_adapters._backends.ably.subscription import Feed, Stand

__all__ = ["Writing"]

logger = logging.getLogger("tokenwire")

_KEPT = 1024  # writers of ended responses, for entries that come again
_LEDGER_WAIT = 10.0  # seconds that a start waits to learn whether its id is taken


class Writing:
    """Publishes entries, renews leases, and hears what is asked of producers."""

    def __init__(
        self,
        link: Link,
        history: History,
        settings: Settings,
        state_of: Callable[[str, str], Any],
    ) -> None:
        self._link = link
        self._history = history
        self._settings = settings
        self._state_of = state_of
        rollup = 0.04 if settings.rollup_window is None else settings.rollup_window
        self._sending = Sending(link, settings, Pace(settings.rate, rollup))
        self._writers: dict[tuple[str, str], Writer] = {}
        self._ledgers: dict[str, tuple[Feed, Ledger]] = {}
        self._turns = Turns()

    # -- publishing

    async def publish(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        """Publish; the operations of each response go out in the order of the calls."""
        tasks = [asyncio.ensure_future(self._entry(entry)) for entry in entries]
        outcomes = await asyncio.gather(*tasks)
        errors = [outcome.error for outcome in outcomes]
        if all(isinstance(error, BackendUnavailable) for error in errors) and errors[0]:
            raise errors[0]
        return outcomes

    async def _entry(self, entry: Entry) -> Outcome:
        alone = entry.response_id is None
        turn = None
        if not (alone and isinstance(entry.events[0], CancelEvent)):  # a cancel is never kept back
            turn = self._turns.take(entry.channel, alone=alone)
        try:
            if turn is None:
                return await self._single(entry, lambda: None)
            async with turn:
                if entry.response_id is None:
                    return await self._single(entry, turn.leave)
                return await self._of_response(entry, entry.response_id, turn.leave)
        except BackendError as error:
            return Outcome(error=error)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            logger.exception("tokenwire: unexpected error in the Ably backend")
            return Outcome(error=BackendUnavailable(f"{type(error).__name__} while publishing"))

    async def _of_response(
        self, entry: Entry, response_id: str, sent: Callable[[], None]
    ) -> Outcome:
        key = (entry.channel, response_id)
        writer = self._writers.get(key)
        begins = isinstance(entry.events[0], StartEvent)
        if writer is None or (begins and writer.done and writer.fence != entry.fence):
            if not begins:
                raise ResponseUnknown(f"no response {response_id!r} is being written here")
            writer = self._writers[key] = self._make(entry)
            self._trim()
        if writer.fence != entry.fence:
            raise Fenced(f"response {response_id!r} belongs to another producer")
        await writer.publish(entry, sent)
        if begins:
            await self._claim(entry.channel, writer)
        ledger = self._ledgers.get(entry.channel)
        cancel = None if ledger is None else ledger[1].cancels.get(response_id)
        if writer.done and ledger is not None:
            ledger[1].cancels.pop(response_id, None)
        return Outcome(cursor=writer.cursor, cancel=None if writer.done else cancel)

    def _make(self, entry: Entry) -> Writer:
        if self._settings.dialect == "ai-transport":

            async def answer(response_id: str, wanted: object) -> tuple[str, str | None] | None:
                feed, ledger = self._ledger(entry.channel)
                try:
                    async with asyncio.timeout(_LEDGER_WAIT):
                        await feed.ready()
                except (BackendError, TimeoutError):
                    pass  # without the right to read, a run has no input
                return ledger.answer(response_id, wanted)

            return AiTransportWriter(entry, self._sending, answer)
        if self._settings.granularity == "token":
            return TokenWriter(entry, self._sending)
        return ResponseWriter(entry, self._sending)

    async def _claim(self, channel: str, writer: Writer) -> None:
        """Find out whether somebody else has the response's id already.

        :raises Fenced: when it is taken.
        """
        ledger = self._ledger(channel)
        try:
            async with asyncio.timeout(_LEDGER_WAIT):
                await ledger[0].ready()
        except (BackendError, TimeoutError):
            pass  # a key that may not read can write all the same
        self._look(channel, writer.id)
        if writer.fenced is not None:
            raise writer.fenced

    def _look(self, channel: str, response_id: str) -> None:
        """Compare what the channel says of a response with what we write."""
        writer = self._writers.get((channel, response_id))
        known = self._ledgers.get(channel)
        if writer is None or known is None:
            return
        ledger = known[1]
        owner = ledger.owners.get(response_id)
        if ledger.ended.get(response_id) == writer.fence and not writer.done:
            writer.fenced = Fenced(f"response {response_id!r} was ended: its producer seemed dead")
        elif owner is not None and owner[1] != writer.fence:
            first = writer.first
            if first is None or owner[0] < first:
                writer.fenced = Fenced(f"response {response_id!r} belongs to another producer")

    def _trim(self) -> None:
        if len(self._writers) > _KEPT:
            for key, writer in list(self._writers.items()):
                if writer.done or writer.fenced is not None:
                    del self._writers[key]
                if len(self._writers) <= _KEPT // 2:
                    break

    async def _single(self, entry: Entry, sent: Callable[[], None]) -> Outcome:
        """Publish events that anybody may publish."""
        channel = await self._link.channel(entry.channel)
        tasks: list[asyncio.Task[Any]] = []
        for index, event in enumerate(entry.events):
            for message in single_messages(event, f"{entry.key or id(entry)}-{index}", self._room):
                await self._sending.pace.wait()
                tasks.append(self._sending.create(channel, message, f"publishing {event.type}"))
        sent()
        serials = [await task for task in tasks]
        state = None
        for event in entry.events:
            if isinstance(event, CancelEvent):
                state = await self._known_state(entry.channel, event.response_id)
        self._echo(entry)
        last = serials[-1] if serials else None
        return Outcome(cursor=None if last is None else show((last, 0, 0)), state=state)

    async def _known_state(self, channel: str, response_id: str) -> Any:
        writer = self._writers.get((channel, response_id))
        if writer is not None and writer.first is not None and writer.fenced is None:
            return writer.state
        return await self._state_of(channel, response_id)

    @property
    def _room(self) -> int:
        return self._settings.max_message - 4096

    def _echo(self, entry: Entry) -> None:
        """Tell our own producers: Ably does not send us what we published."""
        known = self._ledgers.get(entry.channel)
        if known is None:
            return
        feed, ledger = known
        heard: list[Event] = []
        for event in entry.events:
            if isinstance(event, CancelEvent):
                ledger.note_cancel(event)
            if isinstance(event, CancelEvent | InputEvent):
                heard.append(event)
        if heard:
            for stand in tuple(feed.stands):
                stand.receiver.deliver(heard, None)

    # -- the producer's ear

    def _ledger(self, channel: str) -> tuple[Feed, Ledger]:
        known = self._ledgers.get(channel)
        if known is None or known[0].closed:
            ledger = Ledger(lambda response_id: self._look(channel, response_id))
            depth = self._settings.claim_depth
            feed = Feed(self._link, channel, self._history, ledger, depth=depth, all_starts=False)
            self._ledgers[channel] = known = feed, ledger
        return known

    async def control(self, channel: str, receiver: Receiver) -> Stand:
        """Deliver cancels and inputs."""
        feed, _ = self._ledger(channel)
        stand = _Ear(feed, receiver, self._leave)
        feed.stands.append(stand)
        try:
            await feed.ready()
        except BaseException:
            await stand.close()
            raise
        return stand

    async def _leave(self, feed: Feed) -> None:
        known = self._ledgers.get(feed.channel)
        if known is not None and known[0] is feed:
            del self._ledgers[feed.channel]
        await feed.close()

    # -- leases

    async def renew(self, leases: Sequence[Lease]) -> Sequence[LeaseState]:
        """Give signs of life, where none was given by writing."""
        return await asyncio.gather(*(self._renew(lease) for lease in leases))

    async def _renew(self, lease: Lease) -> LeaseState:
        writer = self._writers.get((lease.channel, lease.response_id))
        if writer is None:
            return LeaseState(unknown=True)
        if writer.fenced is not None or writer.done or writer.fence != lease.fence:
            return LeaseState(lost=True)
        if time.monotonic() - writer.alive_at > lease.ttl / 4:
            await writer.beat(lease.ttl)
        known = self._ledgers.get(lease.channel)
        return LeaseState(cancel=None if known is None else known[1].cancels.get(lease.response_id))

    async def close(self) -> None:
        """Let go of every channel."""
        for feed, _ in self._ledgers.values():
            feed.abandon()
        self._ledgers = {}


class _Ear(Stand):
    def __init__(self, feed: Feed, receiver: Receiver, leave: Any) -> None:
        super().__init__(feed, receiver)
        self._leave = leave

    async def close(self) -> None:
        await super().close()
        if not self._feed.stands:
            await self._leave(self._feed)
