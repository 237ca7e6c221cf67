"""Publishes entries, renews leases and ends abandoned responses, with one Lua script."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, NamedTuple, cast

from msgspec import Struct

from tokenwire.backend import Entry, Lease, LeaseState, Outcome
from tokenwire.errors import (
    BackendError,
    BackendUnavailable,
    DecodeError,
    Fenced,
    PublishRejected,
    ResponseUnknown,
)
from tokenwire.events import CancelEvent, State, check_event, decode_msgpack
from tokenwire_adapters._backends.redis.codec import (
    ENTRY,
    REAP,
    RENEW,
    SINGLE,
    concerns_producers,
    encode_events,
    pack,
    pack_text,
)
from tokenwire_adapters._backends.redis.connection import Command, CommandConnection
from tokenwire_adapters._backends.redis.cursors import base_key
from tokenwire_adapters._backends.redis.errors import error_code, translate
from tokenwire_adapters._backends.redis.options import Settings, age_ms
from tokenwire_adapters._backends.redis.topology import Node, Topology

__all__ = ["CHANNEL_KEYS", "PENDING_KEYS", "Publisher", "Script", "run_script"]

logger = logging.getLogger("tokenwire")
_OK, _FENCED, _ENDED, _UNKNOWN, _GAP, _DAMAGED, _FAILED = 0, 1, 2, 3, 4, 5, 9
_JOBS_PER_CALL = 64  # so that Redis serves other clients in between
_MAX_PENDING = 2048  # retry keys, and cancels before the start; a channel has up to twice as many
_MAX_MESSAGE = 2**20  # bytes; larger entries are announced by pub/sub, and read from the log
_MAX_PAYLOAD = 128 * 2**20  # bytes; Redis itself takes 512 MiB
CHANNEL_KEYS = ("", ":log", ":open", ":starts", ":ends", ":sizes", ":singles")
PENDING_KEYS = (":cancels", ":cancels:old", ":keys", ":keys:old")


class Script:
    """A Lua script of this package, joined from one or more files."""

    def __init__(self, *names: str) -> None:
        folder = files(__package__ or __name__)
        self.text = "\n".join(folder.joinpath(name).read_text("utf-8") for name in names)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


_WRITE = Script("write_channel.lua", "write_text.lua", "write_jobs.lua")


async def run_script(
    wire: CommandConnection, script: Script, calls: Sequence[Command], extra: Sequence[Command] = ()
) -> list[Any]:
    """Call a script once for each of `calls` (keys and arguments), in one pipeline.

    Where the server does not have the script yet, it is loaded, and all calls are made again.

    :param extra: commands to run after the calls.
    """
    replies = await wire.run([*(("EVALSHA", script.sha, *call) for call in calls), *extra])
    if any(isinstance(reply, Exception) and error_code(reply) == "NOSCRIPT" for reply in replies):
        # None of them ran: they all came over one connection, one after the other.
        again = [("EVAL", script.text, *calls[0])]
        again += [("EVALSHA", script.sha, *call) for call in calls[1:]]
        replies = await wire.run([*again, *extra])
    return replies


class _Job(NamedTuple):
    """One job of the script: its arguments, the keys it uses, and its number in the request."""

    number: int
    base: str
    arguments: list[Any]
    payload: bytes | None
    keys: Sequence[str | bytes]


class _Call(Struct, eq=False):
    """The jobs of one call of the script."""

    numbers: list[int] = []
    jobs: list[list[Any]] = []
    payloads: list[bytes] = []
    keys: dict[str | bytes, None] = {}

    def add(self, job: _Job, keys: Sequence[str | bytes]) -> None:
        if job.payload is not None:
            self.payloads.append(job.payload)
            job.arguments[2] = len(self.payloads) + 2
        self.numbers.append(job.number)
        self.jobs.append(job.arguments)
        self.keys.update(dict.fromkeys(keys))

    def command(self, settings: bytes) -> Command:
        keys = list(self.keys)
        return (len(keys), *keys, settings, pack(self.jobs), *self.payloads)


class _Result:
    """The script's reply to one job."""

    __slots__ = ("cancel", "code", "cursor", "message", "state")

    def __init__(self, line: str, cancels: Sequence[bytes]) -> None:
        code, cursor, state, number, self.message = line.split(" ", 4)
        self.code = int(code)
        self.cursor = None if cursor == "-" else cursor
        self.state = state if state != "-" else None
        self.cancel: CancelEvent | None = None
        if number != "0":
            try:
                event = decode_msgpack(cancels[int(number) - 1])
            except DecodeError as error:
                logger.warning("tokenwire: a stored cancel cannot be read: %s", error)
            else:
                self.cancel = event if isinstance(event, CancelEvent) else None


class Publisher:
    """Runs the write script: for entries, leases and abandoned responses."""

    def __init__(self, topology: Topology, settings: Settings) -> None:
        self._topology = topology
        self._settings = settings
        self._failing_nodes: set[str] = set()
        keep = settings.retention
        self._arguments: list[Any] = [
            keep.events,
            keep.event_bytes,
            keep.responses,
            keep.bytes,
            age_ms(keep),
            "PUBLISH",
            settings.granularity == "token",
            _MAX_PENDING,
            _MAX_MESSAGE,
        ]

    def base(self, channel: str) -> str:
        """The main key of a channel."""
        return base_key(self._settings.prefix, channel)

    # -- publishing

    async def publish(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Publish entries (see `Backend.publish`).

        :raises BackendUnavailable: when none of them was published.
        """
        outcomes: list[Outcome | None] = [None] * len(entries)
        jobs: list[_Job] = []
        for number, entry in enumerate(entries):
            try:
                jobs.append(self._job(number, entry))
            except PublishRejected as error:
                outcomes[number] = Outcome(error=error)
        results = await self._run(jobs)
        errors = [error for error in results.values() if isinstance(error, BackendUnavailable)]
        if errors and len(errors) == len(entries):
            raise errors[0]
        for number, result in results.items():
            outcomes[number] = _outcome(entries[number], result)
        # Each entry has an outcome: it was rejected above, or ran, or failed with its server.
        return [outcome or Outcome(error=BackendUnavailable("no answer")) for outcome in outcomes]

    def _log_node_state(self, node: Node, problem: BackendError | None) -> None:
        """On a Cluster: log once when a node fails, and once when it works again.

        With a single server, the sink's outbox logs it.
        """
        failing = node.label in self._failing_nodes
        if not self._topology.cluster or failing == (problem is not None):
            return
        if problem is not None:
            self._failing_nodes.add(node.label)
            logger.warning("tokenwire: a node takes no tokens, retrying: %s", problem)
        else:
            self._failing_nodes.discard(node.label)
            logger.warning("tokenwire: node %s takes tokens again", node.label)

    def _job(self, number: int, entry: Entry) -> _Job:
        base = self.base(entry.channel)
        try:
            for event in entry.events:
                check_event(event)
            payload, size, ops = encode_events(entry.events)
        except (TypeError, ValueError, OverflowError, UnicodeError) as error:
            raise PublishRejected(f"cannot be encoded: {error}") from error
        if len(payload) > _MAX_PAYLOAD:
            raise PublishRejected(f"{len(payload)} bytes at once are more than Redis takes")
        response_id = entry.response_id
        if response_id is None:
            keys: list[str | bytes] = [base + key for key in (*CHANNEL_KEYS, *PENDING_KEYS)]
            keys += [f"{base}:r:{id_}" for event in entry.events if (id_ := event.response_id)]
            control = concerns_producers(entry.events)
            arguments = [SINGLE, base, 0, entry.key or "", ops, control]
            return _Job(number, base, arguments, payload, keys)
        keys = [*_response_keys(base, response_id), *(base + key for key in PENDING_KEYS[:2])]
        lease = max(1, int(entry.lease * 1000))
        arguments = [ENTRY, base, 0, response_id, entry.fence or "", entry.seq, lease, ops, size]
        return _Job(number, base, arguments, payload, keys)

    # -- leases

    async def renew(self, leases: Sequence[Lease]) -> list[LeaseState]:
        """Renew leases (see `Backend.renew`)."""
        jobs: list[_Job] = []
        for number, lease in enumerate(leases):
            base = self.base(lease.channel)
            ttl = max(1, int(lease.ttl * 1000))
            arguments = [RENEW, base, lease.response_id, lease.fence, ttl]
            keys = _response_keys(base, lease.response_id)
            jobs.append(_Job(number, base, arguments, None, keys))
        return [
            LeaseState(
                lost=result.code not in (_OK, _UNKNOWN),
                unknown=result.code == _UNKNOWN,
                cancel=result.cancel,
            )
            for result in await self._run_all(jobs)
        ]

    async def reap(self, base: str, response_ids: Sequence[bytes]) -> int:
        """End those of these responses whose lease ran out; return how many this call ended.

        Their ids are as Redis has them, and need not be text.
        """
        jobs = [
            _Job(number, base, [REAP, base, pack_text(name)], None, _response_keys(base, name))
            for number, name in enumerate(response_ids)
        ]
        return sum(result.code == _OK for result in await self._run_all(jobs))

    # -- running the script

    async def _run_all(self, jobs: Sequence[_Job]) -> list[_Result]:
        """Run jobs; return their results in order, or raise the first error."""
        results = await self._run(jobs)
        succeeded: list[_Result] = []
        for job in jobs:
            result = results[job.number]
            if isinstance(result, BackendError):
                raise result
            succeeded.append(result)
        return succeeded

    async def _run(self, jobs: Sequence[_Job]) -> dict[int, _Result | BackendError]:
        """Run jobs, grouped by server; the order within a channel is kept."""
        results: dict[int, _Result | BackendError] = {}
        by_node: dict[Node, list[_Call]] = {}
        by_channel: dict[str, _Call] = {}
        for job in jobs:
            try:
                node = await self._topology.node(job.base)
            except BackendError as error:
                results[job.number] = error
                continue
            calls = by_node.setdefault(node, [])
            if self._topology.cluster:  # the keys of one call share a slot
                call = by_channel.get(job.base)
                if call is None or len(call.jobs) >= _JOBS_PER_CALL:
                    call = by_channel[job.base] = _Call()
                    calls.append(call)
                call.add(job, job.keys)
            else:
                if not calls or len(calls[-1].jobs) >= _JOBS_PER_CALL:
                    calls.append(_Call())
                calls[-1].add(job, (job.base,))
        if len(by_node) == 1:
            ((node, calls),) = by_node.items()
            await self._run_on(node, calls, results)
        elif by_node:
            await asyncio.gather(
                *(self._run_on(node, calls, results) for node, calls in by_node.items())
            )
        return results

    async def _run_on(
        self, node: Node, calls: Sequence[_Call], results: dict[int, _Result | BackendError]
    ) -> None:
        self._arguments[5] = "SPUBLISH" if self._topology.sharded else "PUBLISH"
        settings = pack(self._arguments)
        replicas = self._settings.replicas
        extra = [("WAIT", replicas, int(self._settings.timeout * 500))] if replicas else []
        commands = [call.command(settings) for call in calls]
        try:
            replies = await run_script(node.write, _WRITE, commands, extra)
        except Exception as error:
            replies = [error] * (len(commands) + len(extra))
        if replicas and not (isinstance(replies[-1], int) and replies[-1] >= replicas):
            lag = BackendUnavailable(f"fewer than {replicas} replicas have it ({node.label})")
            replies = [reply if isinstance(reply, Exception) else lag for reply in replies]
        problem: BackendError | None = None
        for call, reply in zip(calls, replies, strict=False):
            if isinstance(reply, Exception):
                await self._topology.on_error(reply, node)
                problem = translate(reply, node.label)
                results.update(dict.fromkeys(call.numbers, problem))
                continue
            lines, *cancels = cast("list[bytes]", reply)
            for number, line in zip(
                call.numbers, lines.decode(errors="replace").split("\n"), strict=True
            ):
                results[number] = result = _Result(line, cancels)
                if result.code == _FAILED:
                    await self._topology.on_error(result.message, node)
                    results[number] = problem = translate(result.message, node.label)
        self._log_node_state(node, problem)


def _response_keys(base: str, response_id: str | bytes) -> list[str | bytes]:
    """The keys that a write to a response may use."""
    name = response_id if isinstance(response_id, bytes) else response_id.encode()
    channel_keys = [base + suffix for suffix in CHANNEL_KEYS]
    return [*channel_keys, *(f"{base}:{kind}:".encode() + name for kind in "rt")]


def _outcome(entry: Entry, result: _Result | BackendError) -> Outcome:
    if isinstance(result, BackendError):
        return Outcome(error=result)
    response = f"response {entry.response_id!r}"
    if result.code == _FENCED:
        return Outcome(error=Fenced(f"{response} belongs to another producer"))
    if result.code == _ENDED:
        return Outcome(error=Fenced(f"{response} has ended"))
    if result.code == _UNKNOWN:
        return Outcome(error=ResponseUnknown(f"no {response} here"))
    if result.code == _DAMAGED:
        return Outcome(error=PublishRejected(f"{response}: what Redis has of it is damaged"))
    if result.code == _GAP:
        return Outcome(error=PublishRejected(f"{response} lacks what precedes {result.message}"))
    state = cast("State | None", result.state)
    return Outcome(cursor=result.cursor, cancel=result.cancel, state=state)
