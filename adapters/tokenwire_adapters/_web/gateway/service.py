"""What can be done in a channel, and the limits and counters that all routes share."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import msgspec

from tokenwire import background
from tokenwire.backend import Replay, ReplayFrom
from tokenwire.events import Response, SnapshotEvent
from tokenwire.response import Transcript
from tokenwire.sink import Sink
from tokenwire_adapters._web.gateway.auth import Caller, Guard
from tokenwire_adapters._web.gateway.connections import Admission, Connections
from tokenwire_adapters._web.gateway.cors import Origins
from tokenwire_adapters._web.gateway.fanout import Fanout
from tokenwire_adapters._web.gateway.limits import Limits, Rates
from tokenwire_adapters._web.gateway.problems import Problem

__all__ = ["Service", "Traffic"]

logger = logging.getLogger("tokenwire.gateway")
T = TypeVar("T")

_BACKEND_TIMEOUT = 10.0


class Traffic:
    """The connections, rates and counters of a sink in this process.

    Every gateway and every set of routes on the same sink shares them, so that limits and metrics
    concern all of its clients.

    :ivar connections: open event streams and sockets.
    :ivar refused: requests refused, by the problem's code.
    :ivar answered: HTTP requests answered, by route and status.
    """

    def __init__(self) -> None:
        self.connections = Connections()
        self.requests = Rates()
        self.inputs = Rates()
        self.events_sent = 0
        self.bytes_sent = 0
        self.refused: dict[str, int] = {}
        self.answered: dict[tuple[str, int], int] = {}

    def count_sent(self, events: int, size: int) -> None:
        """Count what was sent on a connection: events, and bytes."""
        self.events_sent += events
        self.bytes_sent += size


_traffic: WeakKeyDictionary[Sink, Traffic] = WeakKeyDictionary()


class Service:
    """What a gateway, or a set of routes, does for its clients, whichever transport they use.

    :ivar owner: the metadata field of a response that names the only principal who may cancel it.
    :ivar fanout: the groups of streams that are written to together.
    :ivar closing: no more connections are taken, since the server shuts down.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        guard: Guard,
        limits: Limits,
        origins: Origins,
        owner: str | None = None,
    ) -> None:
        self.sink = sink
        self.guard = guard
        self.limits = limits
        self.origins = origins
        self.owner = owner
        self.closing = False
        self.traffic = _traffic.setdefault(sink, Traffic())
        self.fanout = Fanout(self.traffic.count_sent)

    # -- connections

    def admitted(self, caller: Caller) -> Admission:
        """Count a connection, from before it is opened until the admission is closed.

        :raises Problem: ``unavailable`` or ``rate_limited`` when there are too many.
        """
        if self.closing:
            raise Problem("unavailable", "the server is shutting down", retry_after=2)
        return self.traffic.connections.admitted(caller, self.limits)

    def reopen(self) -> None:
        """Take connections again, after `close`."""
        self.closing = False

    def close(self) -> None:
        """Take no more connections, and have those that are open say goodbye."""
        self.closing = True
        for connection in self.traffic.connections.of(self):
            connection.drop_soon("bye")

    async def closed(self, timeout: float) -> bool:
        """Wait until all connections have ended; False after `timeout` seconds."""
        return await self.traffic.connections.closed(self, timeout)

    # -- limits

    def require_request(self, key: str, what: str = "requests") -> None:
        """Take one from the rate of requests. :raises Problem: ``rate_limited``."""
        limits = self.limits
        self.traffic.requests.require(key, what, limits.request_rate, limits.request_burst)

    def require_input(self, key: str, what: str = "cancels and inputs") -> None:
        """Take one from the rate of inputs. :raises Problem: ``rate_limited``."""
        self.traffic.inputs.require(key, what, self.limits.input_rate, self.limits.input_burst)

    def refused(self, problem: Problem, caller: Caller | None, what: str) -> None:
        """Count and log that something was refused."""
        counts = self.traffic.refused
        counts[problem.code] = counts.get(problem.code, 0) + 1
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
        """Await the backend for at most `timeout` seconds. :raises Problem: ``unavailable``."""
        try:
            async with asyncio.timeout(timeout):
                return await awaitable
        except TimeoutError as error:
            raise Problem("unavailable", "the backend did not answer in time") from error

    async def replay(self, channel: str, start: ReplayFrom) -> Replay:
        """Read a channel from its backend."""
        replay = self.sink.backend.replay(channel, start)
        return await self.within(background.arun(self.sink, replay))

    async def look_up(self, channel: str, response_id: str) -> tuple[Response | None, str | None]:
        """A response as it is now, and the cursor of its last event; None where there is none."""
        replay = await self.replay(channel, ReplayFrom(response_id=response_id))
        transcript = Transcript(replay.events)
        if response_id not in transcript:
            return None, None
        return transcript[response_id], replay.events[-1].cursor

    async def anything_streams(self, channel: str) -> bool:
        """Whether any response of the channel is streaming now."""
        replay = await self.replay(channel, ReplayFrom())
        return any(
            isinstance(event, SnapshotEvent) and not event.response.ended for event in replay.events
        )

    # -- operations, for HTTP and sockets alike; arguments come from outside

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
        self.require_input(caller.key)
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
        if owner is None:
            raise Problem(
                "forbidden",
                f"this response names no owner: its metadata has no {field!a}, which this gateway"
                " asks for (owner=); set it with metadata= or TokenwireMiddleware(metadata=…)",
            )
        if caller.principal is None:
            raise Problem(
                "forbidden",
                "this response has an owner, and who asks is not known: authorize must return the"
                " name of the user, or the token have one (sub)",
            )
        if str(owner) != caller.principal:
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
        self.require_input(caller.key)
        key = input_id if input_id is not None else f"i-{secrets.token_hex(8)}"
        sender = caller.principal if _is_name(caller.principal) else None
        cursor = await self.within(
            self.sink.ainput(channel, name, data, sender=sender, id=key), 15.0
        )
        return {"id": key, "cursor": cursor or None}


def _is_name(value: str | None) -> bool:
    return value is not None and value.isprintable() and 0 < len(value) <= 256
