"""What all routes of a gateway share."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable
from typing import Any, TypeVar, cast

import msgspec

from tokenwire import background
from tokenwire.backend import Replay, ReplayFrom
from tokenwire.events import Response, SnapshotEvent
from tokenwire.response import Transcript
from tokenwire.sink import Sink
from tokenwire_adapters._web.gateway.auth import Caller, Guard
from tokenwire_adapters._web.gateway.connections import Lines
from tokenwire_adapters._web.gateway.cors import Origins
from tokenwire_adapters._web.gateway.limits import Limits, Rates
from tokenwire_adapters._web.gateway.problems import Problem

__all__ = ["Core"]

logger = logging.getLogger("tokenwire.gateway")
T = TypeVar("T")

_BACKEND_TIMEOUT = 10.0


class Core:
    """The parts of a gateway, and what can be done in a channel, whatever the way in.

    :ivar owner: the metadata field of a response that names the only principal who may cancel it.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        guard: Guard,
        limits: Limits,
        origins: Origins,
        owner: str | None,
    ) -> None:
        self.sink = sink
        self.guard = guard
        self.limits = limits
        self.origins = origins
        self.owner = owner
        self.lines = Lines(limits, guard)
        self.requests = Rates(limits.request_rate, limits.request_burst)
        self.inputs = Rates(limits.input_rate, limits.input_burst)
        self.events_sent = 0
        self.bytes_sent = 0
        self.denied: dict[str, int] = {}
        self.answered: dict[tuple[str, int], int] = {}

    def count(self, events: int, size: int) -> None:
        """Count what was sent on a line."""
        self.events_sent += events
        self.bytes_sent += size

    def refused(self, problem: Problem, caller: Caller | None, what: str) -> None:
        """Count and log that something was refused."""
        self.denied[problem.code] = self.denied.get(problem.code, 0) + 1
        level = logging.INFO if problem.status in (401, 403) else logging.DEBUG
        logger.log(
            level,
            "tokenwire gateway: refused %s: %s",
            what,
            problem.code,
            extra={
                "tokenwire_code": problem.code,
                "tokenwire_status": problem.status,
                "tokenwire_client": None if caller is None else caller.client,
                "tokenwire_principal": None if caller is None else caller.principal,
            },
        )

    async def within(self, awaitable: Awaitable[T], timeout: float = _BACKEND_TIMEOUT) -> T:
        """Await the backend, but not for ever. :raises Problem: ``unavailable``."""
        try:
            async with asyncio.timeout(timeout):
                return await awaitable
        except TimeoutError as error:
            raise Problem("unavailable", "the backend did not answer in time") from error

    async def replay(self, channel: str, start: ReplayFrom) -> Replay:
        """Read what there is of a channel."""
        backend = self.sink.backend
        return await self.within(background.arun(self.sink, _replay(backend, channel, start)))

    async def look_up(self, channel: str, response_id: str) -> tuple[Response | None, str | None]:
        """A response as it stands and the cursor of its last event; None where there is none."""
        found = await self.replay(channel, ReplayFrom(response_id=response_id))
        transcript = Transcript(found.events)
        if response_id not in transcript:
            return None, None
        return transcript[response_id], found.events[-1].cursor

    async def anything_streams(self, channel: str) -> bool:
        """Whether any response of the channel is streaming now."""
        found = await self.replay(channel, ReplayFrom())
        return any(
            isinstance(event, SnapshotEvent) and not event.response.ended for event in found.events
        )

    # -- what can be done, over HTTP and sockets alike; arguments come from outside

    async def history(
        self, caller: Caller, channel: str, limit: Any = None, before: Any = None
    ) -> dict[str, Any]:
        """A page of responses. :raises Problem, TokenwireError, ValueError: (see `problem_of`)."""
        most = self.limits.page
        limit = min(20, most) if limit is None else limit
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= most:
            raise Problem("bad_request", f"limit must be from 1 to {most}")
        if before is not None and not isinstance(before, str):
            raise Problem("bad_cursor", "before must be a string")
        await self.guard.require(caller, channel, "history")
        page = await self.within(self.sink.ahistory(channel, limit=limit, before=before))
        return {"items": page.items, "next": page.before}

    async def cancel(
        self, caller: Caller, channel: str, response_id: str, reason: Any = None
    ) -> dict[str, Any]:
        """Stop a response; the outcome. :raises Problem, TokenwireError: (see `problem_of`)."""
        if reason is not None and (not isinstance(reason, str) or len(reason) > 500):
            raise Problem("invalid", "reason must be a string of at most 500 characters")
        await self.guard.require(caller, channel, "cancel")
        self.inputs.require(caller.key, "cancels and inputs")
        if self.owner is not None:
            await self._require_owner(caller, channel, response_id, self.owner)
        outcome = await self.sink.acancel(
            channel, response_id, reason=reason, timeout=self.limits.cancel_timeout
        )
        return {
            "response_id": outcome.response_id,
            "state": outcome.state,
            "acknowledged": outcome.acknowledged,
        }

    async def _require_owner(
        self, caller: Caller, channel: str, response_id: str, field: str
    ) -> None:
        response, _ = await self.look_up(channel, response_id)
        if response is None:
            raise Problem("not_found", "there is no such response")
        owner = response.metadata.get(field)
        if caller.principal is None or owner != caller.principal:
            raise Problem("forbidden", "this response belongs to somebody else")

    async def input(
        self, caller: Caller, channel: str, name: Any, data: Any = None, input_id: Any = None
    ) -> dict[str, Any]:
        """Send a message to the agent. :raises Problem, TokenwireError: (see `problem_of`)."""
        if not isinstance(name, str) or (input_id is not None and not isinstance(input_id, str)):
            raise Problem("invalid", "name and id must be strings")
        if len(msgspec.json.encode(data)) > self.limits.input_bytes:
            raise Problem("too_large", f"data is over {self.limits.input_bytes} bytes")
        await self.guard.require(caller, channel, "input")
        self.inputs.require(caller.key, "cancels and inputs")
        key = input_id if input_id is not None else f"i-{secrets.token_hex(8)}"
        sender = caller.principal if _is_name(caller.principal) else None
        cursor = await self.within(
            self.sink.ainput(channel, name, data, sender=sender, id=key), 15.0
        )
        return {"id": key, "cursor": cursor or None}


async def _replay(backend: Any, channel: str, start: ReplayFrom) -> Replay:
    return cast("Replay", await backend.replay(channel, start))


def _is_name(value: str | None) -> bool:
    return value is not None and value.isprintable() and 0 < len(value) <= 256
