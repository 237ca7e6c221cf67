"""What watchers send to agents: cancels and inputs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, Literal, Self, TypeVar

from tokenwire._clock import now_ms
from tokenwire._ids import check_name, checked_id, new_id
from tokenwire._io import IoThread
from tokenwire._problems import Problems
from tokenwire._producer import Producer
from tokenwire._reading.registry import HubRegistry
from tokenwire._redact import redacted
from tokenwire._results import CancelOutcome
from tokenwire._values import Arguments, id_text
from tokenwire.backend import ReplayFrom
from tokenwire.errors import BackendUnavailable
from tokenwire.events import CancelEvent, EndEvent, InputEvent, SnapshotEvent, State
from tokenwire.watch import ChannelReader, Watch

__all__ = ["Inputs", "Requests"]

T = TypeVar("T")


class Requests:
    """Sends cancels and inputs, and waits for what becomes of them. Used on the I/O thread."""

    def __init__(
        self, io: IoThread, hubs: HubRegistry, producer: Producer, problems: Problems
    ) -> None:
        self._problems = problems
        self._io = io
        self._hubs = hubs
        self._producer = producer

    async def cancel(
        self, channel: str, response_id: str, reason: str | None, timeout: float
    ) -> CancelOutcome:
        """Put a cancel into a channel and wait for the outcome (see `Sink.cancel`)."""
        check_name(channel, "channel")
        check_name(response_id, "response id")
        self._producer.check_open()
        key = new_id("c-")
        reason = (redacted(reason) or "")[:500] or None
        event = CancelEvent(response_id=response_id, reason=reason, id=key, ts=now_ms())
        deadline = time.monotonic() + timeout
        start = ReplayFrom(response_id=response_id)
        watch = Watch(ChannelReader(self._io, self._hubs, channel, start))
        try:
            try:
                await _within(deadline, watch.aopen())
                outcome = await _within(deadline, self._producer.deliver(channel, event, key))
            except TimeoutError:
                raise BackendUnavailable(f"the cancel was not taken within {timeout:g} s") from None
            state: State | Literal["pending"] = outcome.state or "pending"
            if state == "streaming":
                with suppress(TimeoutError):
                    state = await _within(deadline, _final_state(watch))
            return CancelOutcome(response_id=response_id, state=state)
        finally:
            await watch.aclose()

    async def send_input(
        self,
        channel: str,
        name: str,
        data: Any,
        sender: str | None,
        input_id: str | None,
        timeout: float,
    ) -> str:
        """Put an input into a channel; return its cursor (see `Sink.input`)."""
        key = checked_id(id_text(input_id), "input id") or new_id("i-")
        args = Arguments()
        event = InputEvent(
            name=check_name(name, "input name"),
            data=args.value("data", data),
            id=key,
            sender=checked_id(id_text(sender), "sender"),
            ts=now_ms(),
        )
        self._problems.check_request(args)
        delivery = self._producer.deliver(channel, event, f"input:{key}")
        try:
            outcome = await _within(time.monotonic() + timeout, delivery)
        except TimeoutError:
            raise BackendUnavailable(f"the input was not taken within {timeout:g} s") from None
        return outcome.cursor or ""


async def _within(deadline: float, awaitable: Awaitable[T]) -> T:
    async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
        return await awaitable


async def _final_state(watch: Watch) -> State:
    async for event in watch:
        if isinstance(event, EndEvent):
            return event.state
        if isinstance(event, SnapshotEvent) and event.response.ended:
            return event.response.state
    return "streaming"


class Inputs:
    """The inputs of a channel, for ``async for`` on any loop or ``for`` on any thread. Endless.

    Get one from `Sink.inputs`; it is a context manager, also with ``async``.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> InputEvent:
        async for event in self._watch:
            if isinstance(event, InputEvent):
                return event
        raise StopAsyncIteration

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> InputEvent:
        for event in self._watch:
            if isinstance(event, InputEvent):
                return event
        raise StopIteration

    def close(self) -> None:
        """Stop reading. Idempotent, from any thread; an iteration under way ends."""
        self._watch.close()

    async def aclose(self) -> None:
        """Do what `close` does."""
        await self._watch.aclose()

    def __enter__(self) -> Self:
        self._watch.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        await self._watch.aopen()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()
