"""The service behind all routes: access, limits, counts, and what is done in a channel."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary, WeakValueDictionary

import msgspec

from tokenwire import background
from tokenwire.backend import Replay, ReplayFrom
from tokenwire.events import Response, SnapshotEvent
from tokenwire.response import Transcript
from tokenwire.sink import Sink
from tokenwire_adapters._web.gateway.auth import Caller, Guard
from tokenwire_adapters._web.gateway.connections import Connection, Connections, drop_all
from tokenwire_adapters._web.gateway.cors import Origins
from tokenwire_adapters._web.gateway.limits import Limits, Rates
from tokenwire_adapters._web.gateway.problems import Problem

__all__ = ["Service", "Traffic", "share", "shared_by_owner", "shared_by_sink"]

logger = logging.getLogger("tokenwire.gateway")
T = TypeVar("T")

_BACKEND_TIMEOUT = 10.0
_by_owner: WeakKeyDictionary[object, Service] = WeakKeyDictionary()
# By the id of the sink, which each service keeps alive: ids are not reused while an entry lives.
_by_sink: WeakValueDictionary[int, Service] = WeakValueDictionary()


class Traffic:
    """What is open, was sent and was refused by all routes that share a service's limits.

    :ivar refused: how many requests and messages were refused, by code.
    :ivar answered: how many HTTP requests were answered, by route and status.
    """

    def __init__(self) -> None:
        self.connections = Connections()
        self.events_sent = 0
        self.bytes_sent = 0
        self.refused: dict[str, int] = {}
        self.answered: dict[tuple[str, int], int] = {}


class Service:
    """What a gateway does in channels, whichever protocol a request comes by.

    :param owner: the metadata field of a response that names the only principal who may cancel it.
    :param parent: a service of the same sink, whose traffic counts together with this one's; see
        `derived`.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        guard: Guard,
        limits: Limits,
        origins: Origins,
        owner: str | None = None,
        parent: Service | None = None,
    ) -> None:
        self.sink = sink
        self.guard = guard
        self.limits = limits
        self.origins = origins
        self.owner = owner
        self.root: Service = self if parent is None else parent.root
        self.traffic: Traffic = Traffic() if parent is None else parent.traffic
        self.requests = Rates(limits.request_rate, limits.request_burst)
        self.inputs = Rates(limits.input_rate, limits.input_burst)
        if parent is not None:
            if self.requests.same_rate(parent.requests):
                self.requests = parent.requests
            if self.inputs.same_rate(parent.inputs):
                self.inputs = parent.inputs
        self._closing = False

    def derived(
        self, *, guard: Guard | None, origins: Origins | None, limits: Limits | None
    ) -> Service:
        """A service for other routes, whose connections, metrics and rates count with this one's.

        :param guard: who may do what; by default as here. `origins` and `limits` likewise.
        """
        return Service(
            self.sink,
            guard=guard or self.guard,
            origins=origins or self.origins,
            limits=limits or self.limits,
            parent=self,
        )

    @property
    def closing(self) -> bool:
        """Whether no more connections are taken, since the server shuts down."""
        return self._closing or self.root._closing

    def _own_connections(self) -> list[Connection]:
        """The open connections of this service, and of those derived from it."""
        return [one for one in self.traffic.connections if self in (one.service, one.service.root)]

    def close(self) -> None:
        """Take no more connections, and end the open ones with a goodbye."""
        self._closing = True
        drop_all(self._own_connections(), "bye")

    async def wait_closed(self, timeout: float) -> bool:
        """Wait until the connections have ended; False after `timeout` seconds."""
        return await self.traffic.connections.wait_closed(self._own_connections(), timeout)

    @contextmanager
    def admitted(self, caller: Caller) -> Generator[None, None, None]:
        """Count a connection, from before it is opened until it is closed.

        :raises Problem: ``unavailable`` or ``rate_limited`` when there are too many.
        """
        if self.closing:
            raise Problem("unavailable", "the server is shutting down", retry_after=2)
        with self.traffic.connections.admitted(caller, self.limits):
            yield

    def count(self, events: int, size: int) -> None:
        """Count events and bytes that were sent on a connection."""
        self.traffic.events_sent += events
        self.traffic.bytes_sent += size

    def log_refusal(self, problem: Problem, caller: Caller | None, what: str) -> None:
        """Count and log the refusal of `what`: a request, a message or a connection."""
        refused = self.traffic.refused
        refused[problem.code] = refused.get(problem.code, 0) + 1
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
        """Await the backend for `timeout` seconds. :raises Problem: ``unavailable``."""
        try:
            async with asyncio.timeout(timeout):
                return await awaitable
        except TimeoutError as error:
            raise Problem("unavailable", "the backend did not answer in time") from error

    async def replay(self, channel: str, start: ReplayFrom) -> Replay:
        """Replay a channel from the backend."""
        backend = self.sink.backend
        return await self.within(background.arun(self.sink, _replay(backend, channel, start)))

    async def look_up(self, channel: str, response_id: str) -> tuple[Response | None, str | None]:
        """The present state of a response and the cursor of its last event; None for no such."""
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

    # -- operations, over HTTP and WebSockets alike; their arguments come from clients

    async def history(
        self, caller: Caller, channel: str, limit: Any = None, before: Any = None
    ) -> dict[str, Any]:
        """A page of responses. :raises Problem, TokenwireError, ValueError: see `problem_of`."""
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
        """Stop a response; the outcome. :raises Problem, TokenwireError: see `problem_of`."""
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
        """Send a message to the agent. :raises Problem, TokenwireError: see `problem_of`."""
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


def share(owner: object, service: Service) -> None:
    """Let routes find this service: by its owner, and by its sink unless another one is open."""
    _by_owner[owner] = service
    if shared_by_sink(service.sink) is None:
        _by_sink[id(service.sink)] = service


def shared_by_owner(owner: object) -> Service:
    """The service that an owner, such as a gateway, shares."""
    return _by_owner[owner]


def shared_by_sink(sink: Sink) -> Service | None:
    """The service of the first gateway (or other routes) of a sink, while it is open."""
    service = _by_sink.get(id(sink))
    return None if service is None or service.closing else service


async def _replay(backend: Any, channel: str, start: ReplayFrom) -> Replay:
    return cast("Replay", await backend.replay(channel, start))


def _is_name(value: str | None) -> bool:
    return value is not None and value.isprintable() and 0 < len(value) <= 256
