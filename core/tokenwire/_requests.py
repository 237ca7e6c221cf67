"""What goes from watchers to agents: cancels and inputs. Runs on the I/O thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tokenwire._clock import now_ms
from tokenwire._ids import check_name, new_id
from tokenwire._redact import redact
from tokenwire._results import CancelOutcome
from tokenwire._writing.pending import PendingEvent
from tokenwire.backend import Entry, Outcome
from tokenwire.errors import BackendUnavailable
from tokenwire.events import CancelEvent, EndEvent, InputEvent, SnapshotEvent, State, plain
from tokenwire.watch import Watch
from tokenwire.writer import checked_id

if TYPE_CHECKING:
    from tokenwire.sink import Sink

__all__ = ["cancel", "put_input"]

T = TypeVar("T")


async def cancel(
    sink: Sink, channel: str, response_id: str, reason: str | None, timeout: float
) -> CancelOutcome:
    """Put a cancel into a channel and wait for what becomes of it (see `Sink.cancel`)."""
    check_name(response_id, "response id")
    key = new_id("c-")
    reason = None if reason is None else redact(str(reason))[:500]
    event = CancelEvent(response_id=response_id, reason=reason, id=key, ts=now_ms())
    deadline = time.monotonic() + timeout
    watch = sink.watch(channel, response=response_id)
    try:
        try:
            await _within(deadline, watch.aopen())
            outcome = await _deliver(sink, channel, event, key, deadline)
        except TimeoutError:
            raise BackendUnavailable(f"the cancel was not taken within {timeout:g} s") from None
        state: State | Literal["pending"] = outcome.state or "pending"
        if state == "streaming":
            with suppress(TimeoutError):
                state = await _within(deadline, _end_of(watch))
        return CancelOutcome(response_id=response_id, state=state)
    finally:
        await watch.aclose()


async def put_input(
    sink: Sink,
    channel: str,
    name: str,
    data: Any,
    sender: str | None,
    id: str | None,
    timeout: float,
) -> str:
    """Put an input into a channel; return its cursor (see `Sink.input`)."""
    key = checked_id(id, "input id") or new_id("i-")
    event = InputEvent(
        name=check_name(name, "input name"),
        data=plain(data),
        id=key,
        sender=checked_id(sender, "sender"),
        ts=now_ms(),
    )
    try:
        outcome = await _deliver(sink, channel, event, f"input:{key}", time.monotonic() + timeout)
    except TimeoutError:
        raise BackendUnavailable(f"the input was not taken within {timeout:g} s") from None
    return outcome.cursor or ""


async def _deliver(
    sink: Sink, channel: str, event: CancelEvent | InputEvent, key: str, deadline: float
) -> Outcome:
    """Publish a single event and wait until it is in the log (I/O thread)."""
    entry = Entry(channel=check_name(channel, "channel"), events=(event,), key=key)
    single = PendingEvent(entry)
    sink.mark(single, True)
    return await _within(deadline, asyncio.wrap_future(single.future))


async def _within(deadline: float, awaitable: Awaitable[T]) -> T:
    async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
        return await awaitable


async def _end_of(watch: Watch) -> State:
    async for event in watch:
        if isinstance(event, EndEvent):
            return event.state
        if isinstance(event, SnapshotEvent) and event.response.ended:
            return event.response.state
    return "streaming"
