"""Finds the server of each key: a single one, a Sentinel's master, or a node of a Cluster."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any, cast

import redis.exceptions as redis_errors
from redis.asyncio import Connection, SSLConnection
from redis.crc import key_slot

from tokenwire._clock import Outage
from tokenwire.errors import BackendMisconfigured, BackendUnavailable
from tokenwire_adapters._backends.redis.connection import CommandConnection
from tokenwire_adapters._backends.redis.errors import error_code, is_stale, translate
from tokenwire_adapters._backends.redis.options import Settings, Target
from tokenwire_adapters._backends.redis.pubsub import PubSub
from tokenwire_adapters._backends.redis.quirks import close_now

__all__ = ["Node", "Topology"]

_OLDEST_VERSION = (6, 2)


class Node:
    """One server, with a connection for writes, one for reads, and one for pub/sub.

    :ivar label: its address for logs and errors, without secrets.
    :ivar outage: when it was last away.
    """

    def __init__(self, topology: Topology, address: tuple[str, int] | None) -> None:
        self.label = f"{address[0]}:{address[1]}" if address else topology.target.label
        timeout = topology.settings.timeout
        self.outage = Outage(timeout)
        self.write, self.read = (
            CommandConnection(lambda: topology.connect(address, timeout), timeout, self.outage.note)
            for _ in range(2)
        )
        self.pubsub = PubSub(
            lambda: topology.connect(address, None),
            health=topology.settings.health,
            timeout=timeout,
            on_moved=topology.refresh,
            where=self.label,
        )

    async def close(self) -> None:
        """Close its connections."""
        await self.pubsub.close()
        await self.write.close()
        await self.read.close()

    def abandon(self) -> None:
        """In a forked child: drop the parent's connections without closing them."""
        self.pubsub.abandon()
        self.write.abandon()
        self.read.abandon()


class Topology:
    """Finds the server for a key, connects to it, and notices when slots or masters move.

    :ivar on_change: called when keys may be on another server now.
    :ivar version: the server's version; empty when it may not be asked. `flavour`: its name.
    :ivar sharded: whether pub/sub is sharded: Redis 7 and newer, on a Cluster.
    """

    def __init__(self, target: Target, settings: Settings) -> None:
        self.target = target
        self.settings = settings
        self.on_change: Callable[[], None] = lambda: None
        self.version: tuple[int, ...] = ()
        self.flavour = ""
        self.sharded = False
        self.closed = False
        self._nodes: dict[tuple[str, int] | None, Node] = {}
        self._slots: list[tuple[int, int, tuple[str, int]]] = []
        self._lock = asyncio.Lock()
        self._server_checked = False
        self._moved = False  # whether slots were on other nodes before

    @property
    def cluster(self) -> bool:
        """Whether keys are spread over several servers."""
        return self.target.kind == "cluster"

    @property
    def nodes(self) -> Iterable[Node]:
        """The servers that were used so far."""
        return list(self._nodes.values())

    async def node(self, key: str) -> Node:
        """The server that has `key`.

        :raises BackendUnavailable: when no node of the Cluster answers, or none serves the slot.
        """
        if not self.cluster:
            return self._node(None)
        slot = key_slot(key.encode())
        for reload in (False, True):
            if reload or not self._slots:
                await self._load_slots()
            for low, high, address in self._slots:
                if low <= slot <= high:
                    return self._node(address)
        raise BackendUnavailable(f"no node of the Redis Cluster serves slot {slot}")

    async def masters(self) -> list[Node]:
        """All servers that have keys: one, or, of a Cluster, one for each range of slots.

        :raises BackendUnavailable: when no node of the Cluster answers.
        """
        if not self.cluster:
            return [self._node(None)]
        if not self._slots:
            await self._load_slots()
        return [self._node(address) for address in sorted({entry[2] for entry in self._slots})]

    def _node(self, address: tuple[str, int] | None) -> Node:
        if self.closed:
            raise BackendUnavailable("the backend is closed")
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = Node(self, address)
            if self._moved:
                node.outage.note()
        return node

    def refresh(self) -> None:
        """Forget which node has which slots, after a reply that says that it changed."""
        if self.cluster:
            self._slots, self._moved = [], True
        self.on_change()

    async def _load_slots(self) -> None:
        """Ask any node which node has which slots."""
        async with self._lock:
            if self._slots:
                return
            problem: Exception = BackendUnavailable("no node of the Redis Cluster is known")
            known = [address for address in self._nodes if address is not None]
            for address in dict.fromkeys([*known, *self.target.addresses]):
                try:
                    self._slots = await self._fetch_slots(address)
                except Exception as error:
                    problem = translate(error, f"{address[0]}:{address[1]}")
                else:
                    for removed in set(known) - {node for _, _, node in self._slots}:
                        await self._nodes.pop(removed).close()
                    return
            raise problem

    async def _fetch_slots(
        self, address: tuple[str, int]
    ) -> list[tuple[int, int, tuple[str, int]]]:
        connection = await self.connect(address, self.settings.timeout)
        try:
            reply = await _call(connection, "CLUSTER", "SLOTS")
            with contextlib.suppress(redis_errors.ResponseError):
                info = cast("list[Any]", await _call(connection, "COMMAND", "INFO", "SSUBSCRIBE"))
                self.sharded = bool(info and info[0])
        finally:
            await close_now(connection)
        slots: list[tuple[int, int, tuple[str, int]]] = []
        for low, high, master, *_ in reply:
            host = (master[0] or b"").decode() or address[0]
            slots.append((int(low), int(high), (host, int(master[1]))))
        if not slots:
            raise BackendUnavailable("the Redis Cluster has no slots")
        return slots

    # -- connecting

    async def connect(self, address: tuple[str, int] | None, timeout: float | None) -> Any:
        """Open a connection to a node; to the master where `address` is None.

        :param timeout: seconds that each reply may take; None for pub/sub.
        """
        target = self.target
        arguments = dict(target.arguments)
        if target.kind == "sentinel":
            address = await self._master()
        elif address is None and target.addresses:
            address = target.addresses[0]
        if address is not None:
            arguments["host"], arguments["port"] = address
        arguments.setdefault("socket_connect_timeout", self.settings.timeout)
        connection = target.connection_class(socket_timeout=timeout, **arguments)
        try:
            async with asyncio.timeout(self.settings.timeout * 2):
                await connection.connect()
                if not self._server_checked:
                    await self._check_server(connection)
                if target.kind == "sentinel" and timeout is None:
                    await self._check_role(connection)
        except BaseException:
            await close_now(connection)
            raise
        return connection

    async def _check_role(self, connection: Any) -> None:
        """Refuse to subscribe on a master that was just demoted to a replica."""
        role = await _call(connection, "ROLE")
        if role[0] != b"master":
            raise BackendUnavailable("this Redis is a replica; waiting for Sentinel")

    async def _check_server(self, connection: Any) -> None:
        """Check, once, that the server's version and mode fit."""
        try:
            flat = await _call(connection, "HELLO")
        except redis_errors.ResponseError as error:
            if error_code(error) == "NOPERM":
                self._server_checked = True
                return
            if "unknown command" in str(error).lower():
                raise BackendMisconfigured("Redis 6.2 or newer, or Valkey, is needed") from None
            raise
        info = dict(zip(flat[::2], flat[1::2], strict=False))
        self.flavour = info.get(b"server", b"").decode()
        version = info.get(b"version", b"0").decode()
        self.version = tuple(int(part) for part in version.split(".") if part.isdigit())
        if self.version < _OLDEST_VERSION:
            raise BackendMisconfigured(f"Redis {version} is too old: 6.2 or newer is needed")
        if info.get(b"mode") == b"cluster" and not self.cluster:
            raise BackendMisconfigured("this is a Redis Cluster: use redis+cluster://")
        if info.get(b"mode") == b"sentinel":
            raise BackendMisconfigured("this is a Sentinel: use redis+sentinel://host:port/MASTER")
        self._server_checked = True

    async def _master(self) -> tuple[str, int]:
        """Ask the Sentinels, one after the other, for the master's address."""
        target = self.target
        problem: Exception = BackendUnavailable("no Sentinel is known")
        tls = issubclass(target.connection_class, SSLConnection)
        for host, port in target.addresses:
            connection: Any = (SSLConnection if tls else Connection)(
                host=host,
                port=port,
                socket_timeout=self.settings.timeout,
                socket_connect_timeout=self.settings.timeout,
                **target.sentinel_arguments,
            )
            try:
                async with asyncio.timeout(self.settings.timeout):
                    await connection.connect()
                    command = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", target.service)
                    reply = await _call(connection, *command)
            except Exception as error:
                problem = translate(error, f"Sentinel {host}:{port}")
                continue
            finally:
                await close_now(connection)
            if reply:
                return reply[0].decode(), int(reply[1])
            problem = BackendMisconfigured(
                f"Sentinel {host}:{port} knows no master of the name in the URL"
            )
        raise problem

    async def on_error(self, error: BaseException | str, node: Node) -> None:
        """Note that a server is away; look for another when it is the wrong one."""
        if isinstance(translate(error, node.label), BackendUnavailable):
            node.outage.note()
        if not is_stale(error):
            return
        if self.cluster:
            self.refresh()
        elif self.target.kind == "sentinel":
            await node.write.reset()
            await node.read.reset()

    async def close(self) -> None:
        """Close all connections, for good."""
        self.closed = True
        for node in self.nodes:
            await node.close()
        self._nodes.clear()

    def abandon(self) -> None:
        """In a forked child: drop the parent's connections without closing them."""
        for node in self.nodes:
            node.abandon()
        self._nodes.clear()


async def _call(connection: Any, *command: str) -> Any:
    await connection.send_command(*command, check_health=False)
    return await connection.read_response(disable_decoding=True, disconnect_on_error=False)
