"""Publishing, leases and reaping: one script call for each server and round trip."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, NamedTuple, cast

from tokenwire.backend import Entry, Lease, LeaseState, Outcome
from tokenwire.errors import (
    BackendError,
    BackendUnavailable,
    Fenced,
    PublishRejected,
    ResponseUnknown,
)
from tokenwire.events import CancelEvent, State, decode_msgpack
from tokenwire_adapters._backends.redis.codec import (
    ENTRY,
    REAP,
    RENEW,
    SINGLE,
    encode_events,
    pack,
    reaches_producers,
)
from tokenwire_adapters._backends.redis.connection import Command, Wire
from tokenwire_adapters._backends.redis.cursors import base_key
from tokenwire_adapters._backends.redis.errors import said, translate
from tokenwire_adapters._backends.redis.options import Settings
from tokenwire_adapters._backends.redis.topology import Node, Servers

__all__ = ["ScriptText", "Writing", "run_script"]

logger = logging.getLogger("tokenwire")
_OK, _FENCED, _ENDED, _UNKNOWN, _GAP, _FAILED = 0, 1, 2, 3, 4, 9
_TOGETHER = 64  # jobs in one call of the script, so that Redis serves others in between
_MAX_PENDING = 2048  # keys of retries, and cancels before the start, for each channel: twice that
_MAX_MESSAGE = 2**20  # bytes; larger entries are announced, and read from the log
_MAX_PAYLOAD = 128 * 2**20  # bytes; Redis itself takes 512 MiB
_CHANNEL_KEYS = ("", ":log", ":open", ":starts", ":ends", ":sizes", ":singles")
_PENDING_KEYS = (":cancels", ":cancels:old", ":keys", ":keys:old")


class ScriptText:
    """A Lua script of this package, of one or more files."""

    def __init__(self, *names: str) -> None:
        folder = files(__package__ or __name__)
        self.text = "\n".join(folder.joinpath(name).read_text("utf-8") for name in names)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


_WRITE = ScriptText("write_channel.lua", "write_text.lua", "write_jobs.lua")


async def run_script(
    wire: Wire, script: ScriptText, calls: Sequence[Command], extra: Sequence[Command] = ()
) -> list[Any]:
    """Call a script once for each of `calls` (keys and arguments), in one round trip.

    Where the server does not know the script yet, it is told, and the calls are made again.
    """
    replies = await wire.run([*(("EVALSHA", script.sha, *call) for call in calls), *extra])
    if any(isinstance(reply, Exception) and said(reply) == "NOSCRIPT" for reply in replies):
        # None of them ran: they all came over one connection, one after the other.
        again = [("EVAL", script.text, *calls[0])]
        again += [("EVALSHA", script.sha, *call) for call in calls[1:]]
        replies = await wire.run([*again, *extra])
    return replies


class _Job(NamedTuple):
    """One job of the script, and the keys that it touches."""

    place: int
    base: str
    words: list[Any]
    payload: bytes | None
    keys: Sequence[str]


class _Group:
    """Jobs for one call of the script."""

    def __init__(self) -> None:
        self.places: list[int] = []
        self.jobs: list[list[Any]] = []
        self.payloads: list[bytes] = []
        self.keys: dict[str, None] = {}

    def add(self, job: _Job, keys: Sequence[str]) -> None:
        if job.payload is not None:
            self.payloads.append(job.payload)
            job.words[2] = len(self.payloads) + 2
        self.places.append(job.place)
        self.jobs.append(job.words)
        self.keys.update(dict.fromkeys(keys))

    def command(self, settings: bytes) -> Command:
        keys = list(self.keys)
        return (len(keys), *keys, settings, pack(self.jobs), *self.payloads)


class _Result:
    """What the script says of one job."""

    __slots__ = ("cancel", "code", "cursor", "message", "state")

    def __init__(self, line: str, cancels: Sequence[bytes]) -> None:
        code, cursor, state, place, self.message = line.split(" ", 4)
        self.code = int(code)
        self.cursor = None if cursor == "-" else cursor
        self.state = state if state != "-" else None
        self.cancel: CancelEvent | None = None
        if place != "0":
            event = decode_msgpack(cancels[int(place) - 1])
            self.cancel = event if isinstance(event, CancelEvent) else None


class Writing:
    """What changes channels."""

    def __init__(self, servers: Servers, settings: Settings) -> None:
        self._servers = servers
        self._prefix = settings.prefix
        self._settings = settings
        self._troubled: set[str] = set()
        keep = settings.retention
        self._arguments: list[Any] = [
            keep.events,
            keep.event_bytes,
            keep.responses,
            keep.bytes,
            0 if keep.age is None else max(1, int(keep.age * 1000)),
            "PUBLISH",
            settings.granularity == "token",
            _MAX_PENDING,
            _MAX_MESSAGE,
        ]

    def base(self, channel: str) -> str:
        """The key of a channel."""
        return base_key(self._prefix, channel)

    # -- publishing

    async def publish(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Publish entries (see `Backend.publish`).

        :raises BackendUnavailable: when all of them met the same trouble.
        """
        outcomes: list[Outcome | None] = [None] * len(entries)
        made: list[_Job] = []
        for place, entry in enumerate(entries):
            try:
                made.append(self._job(place, entry))
            except PublishRejected as error:
                outcomes[place] = Outcome(error=error)
        results = await self._run(made)
        problems = [one for one in results.values() if isinstance(one, BackendUnavailable)]
        if problems and len(problems) == len(entries):
            raise problems[0]
        for place, result in results.items():
            outcomes[place] = _outcome(entries[place], result)
        # Every place has one: each was refused above, or ran, or failed with its server.
        return [outcome or Outcome(error=BackendUnavailable("no answer")) for outcome in outcomes]

    def _tell(self, node: Node, problem: BackendError | None) -> None:
        """Log when a node of a Cluster is in trouble, once; the outbox tells of a single server."""
        if not self._servers.cluster or (node.shown in self._troubled) == (problem is not None):
            return
        if problem is not None:
            self._troubled.add(node.shown)
            logger.warning("tokenwire: a node takes no tokens, retrying: %s", problem)
        else:
            self._troubled.discard(node.shown)
            logger.warning("tokenwire: node %s takes tokens again", node.shown)

    def _job(self, place: int, entry: Entry) -> _Job:
        base = self.base(entry.channel)
        try:
            payload, size, ops = encode_events(entry.events)
        except (TypeError, ValueError, OverflowError, UnicodeError) as error:
            raise PublishRejected(f"cannot be encoded: {error}") from error
        if len(payload) > _MAX_PAYLOAD:
            raise PublishRejected(f"{len(payload)} bytes at once are more than Redis takes")
        keys = [base + part for part in _CHANNEL_KEYS]
        if entry.response_id is None:
            keys += [base + part for part in _PENDING_KEYS]
            keys += [f"{base}:r:{one}" for event in entry.events if (one := event.response_id)]
            aside = reaches_producers(entry.events)
            words = [SINGLE, base, 0, entry.key or "", ops, aside]
            return _Job(place, base, words, payload, keys)
        response_id = entry.response_id
        keys += [base + part for part in _PENDING_KEYS[:2]]
        keys += [f"{base}:r:{response_id}", f"{base}:t:{response_id}"]
        lease = max(1, int(entry.lease * 1000))
        words = [ENTRY, base, 0, response_id, entry.fence or "", entry.seq, lease, ops, size]
        return _Job(place, base, words, payload, keys)

    # -- leases

    async def renew(self, leases: Sequence[Lease]) -> list[LeaseState]:
        """Renew leases (see `Backend.renew`)."""
        made: list[_Job] = []
        for place, lease in enumerate(leases):
            base = self.base(lease.channel)
            keys = [base + part for part in _CHANNEL_KEYS]
            keys += [f"{base}:r:{lease.response_id}", f"{base}:t:{lease.response_id}"]
            ttl = max(1, int(lease.ttl * 1000))
            words = [RENEW, base, lease.response_id, lease.fence, ttl]
            made.append(_Job(place, base, words, None, keys))
        states: list[LeaseState] = []
        results = await self._run(made)
        for place in range(len(leases)):
            result = results[place]
            if isinstance(result, BackendError):
                raise result
            if result.code == _FAILED:
                raise translate(result.message, self._servers.target.shown)
            unknown = result.code == _UNKNOWN
            lost = result.code != _OK and not unknown
            states.append(LeaseState(lost=lost, unknown=unknown, cancel=result.cancel))
        return states

    async def reap(self, base: str, response_ids: Sequence[str]) -> int:
        """End those of these responses whose lease ran out; say how many this call ended."""
        made: list[_Job] = []
        for place, response_id in enumerate(response_ids):
            keys = [base + part for part in _CHANNEL_KEYS]
            keys += [f"{base}:r:{response_id}", f"{base}:t:{response_id}"]
            made.append(_Job(place, base, [REAP, base, response_id], None, keys))
        results = await self._run(made)
        for result in results.values():
            if isinstance(result, BackendError):
                raise result
            if result.code == _FAILED:
                raise translate(result.message, self._servers.target.shown)
        return sum(
            isinstance(result, _Result) and result.code == _OK for result in results.values()
        )

    # -- running

    async def _run(self, made: Sequence[_Job]) -> dict[int, _Result | BackendError]:
        """Run jobs, grouped by server; the order within a channel is kept."""
        results: dict[int, _Result | BackendError] = {}
        by_node: dict[Node, list[_Group]] = {}
        by_channel: dict[str, _Group] = {}
        for job in made:
            try:
                node = await self._servers.node(job.base)
            except BackendError as error:
                results[job.place] = error
                continue
            groups = by_node.setdefault(node, [])
            if self._servers.cluster:  # the keys of one call share a slot
                group = by_channel.get(job.base)
                if group is None or len(group.jobs) >= _TOGETHER:
                    group = by_channel[job.base] = _Group()
                    groups.append(group)
                group.add(job, job.keys)
            else:
                if not groups or len(groups[-1].jobs) >= _TOGETHER:
                    groups.append(_Group())
                groups[-1].add(job, (job.base,))
        if len(by_node) == 1:
            ((node, groups),) = by_node.items()
            await self._call(node, groups, results)
        elif by_node:
            await asyncio.gather(
                *(self._call(node, groups, results) for node, groups in by_node.items())
            )
        return results

    async def _call(
        self, node: Node, groups: Sequence[_Group], results: dict[int, _Result | BackendError]
    ) -> None:
        self._arguments[5] = "SPUBLISH" if self._servers.sharded else "PUBLISH"
        settings = pack(self._arguments)
        wanted = self._settings.replicas
        extra = [("WAIT", wanted, int(self._settings.timeout * 500))] if wanted else []
        calls = [group.command(settings) for group in groups]
        try:
            replies = await run_script(node.write, _WRITE, calls, extra)
        except Exception as error:
            replies = [error] * (len(calls) + len(extra))
        if wanted and not (isinstance(replies[-1], int) and replies[-1] >= wanted):
            lag = BackendUnavailable(f"fewer than {wanted} replicas have it ({node.shown})")
            replies = [one if isinstance(one, Exception) else lag for one in replies]
        problem: BackendError | None = None
        for group, reply in zip(groups, replies, strict=False):
            if isinstance(reply, Exception):
                await self._servers.failed(reply, node)
                problem = translate(reply, node.shown)
                results.update(dict.fromkeys(group.places, problem))
                continue
            told, *cancels = cast("list[bytes]", reply)
            for place, line in zip(group.places, told.decode().split("\n"), strict=True):
                results[place] = result = _Result(line, cancels)
                if result.code == _FAILED:
                    await self._servers.failed(result.message, node)
                    results[place] = problem = translate(result.message, node.shown)
        self._tell(node, problem)


def _outcome(entry: Entry, result: _Result | BackendError) -> Outcome:
    if isinstance(result, BackendError):
        return Outcome(error=result)
    name = entry.response_id
    error: BackendError | None = None
    if result.code == _FENCED:
        error = Fenced(f"response {name!r} belongs to another producer")
    elif result.code == _ENDED:
        error = Fenced(f"response {name!r} has ended")
    elif result.code == _UNKNOWN:
        error = ResponseUnknown(f"no response {name!r} here")
    elif result.code == _GAP:
        error = PublishRejected(f"response {name!r} lacks what precedes {result.message}")
    if error is not None:
        return Outcome(error=error)
    state: Any = result.state
    known: State | None = state
    return Outcome(cursor=result.cursor, cancel=result.cancel, state=known)
