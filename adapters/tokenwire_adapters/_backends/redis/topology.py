"""Where the data are: one server, the master that Sentinels name, or the nodes of a Cluster."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Any, cast

import redis.exceptions as theirs
from redis.crc import key_slot

from tokenwire.errors import BackendMisconfigured, BackendUnavailable
from tokenwire_adapters._backends.redis.connection import Wire, drop
from tokenwire_adapters._backends.redis.errors import is_stale, said, translate
from tokenwire_adapters._backends.redis.options import Settings, Target
from tokenwire_adapters._backends.redis.pubsub import Live

__all__ = ["Node", "Servers"]

logger = logging.getLogger("tokenwire")
_OLDEST = (6, 2)


class Node:
    """One server: a connection to write, one to read, and one to listen."""

    def __init__(self, servers: Servers, address: tuple[str, int] | None) -> None:
        self.address = address
        self.shown = f"{address[0]}:{address[1]}" if address else servers.target.shown
        timeout = servers.settings.timeout
        self.write = Wire(lambda: servers.connect(address, timeout), timeout)
        self.read = Wire(lambda: servers.connect(address, timeout), timeout)
        self.live = Live(
            lambda: servers.connect(address, None),
            health=servers.settings.health,
            timeout=timeout,
            moved=servers.moved,
            where=self.shown,
        )

    async def close(self) -> None:
        """Close all three."""
        await self.live.close()
        await self.write.close()
        await self.read.close()

    def abandon(self) -> None:
        """Leave all three to the parent process."""
        self.live.abandon()
        self.write.abandon()
        self.read.abandon()


class Servers:
    """Finds the server for a key, connects to it, and notices when the answer changes."""

    def __init__(self, target: Target, settings: Settings, on_moved: Callable[[], None]) -> None:
        self.target = target
        self.settings = settings
        self.version: tuple[int, ...] = ()
        self.flavour = ""
        self.sharded = False  # whether pub/sub is sharded: decided once, on a Cluster
        self.closed = False
        self._on_moved = on_moved
        self._nodes: dict[tuple[str, int] | None, Node] = {}
        self._slots: list[tuple[int, int, tuple[str, int]]] = []
        self._lock = asyncio.Lock()
        self._greeted = False

    @property
    def cluster(self) -> bool:
        """Whether keys are spread over several servers."""
        return self.target.kind == "cluster"

    @property
    def nodes(self) -> Iterable[Node]:
        """The servers that we have talked to."""
        return list(self._nodes.values())

    async def node(self, key: str) -> Node:
        """The server that has `key`.

        :raises BackendUnavailable: when nobody tells.
        """
        if not self.cluster:
            return self._node(None)
        slot = key_slot(key.encode())
        for fresh in (False, True):
            if fresh or not self._slots:
                await self._learn()
            for low, high, address in self._slots:
                if low <= slot <= high:
                    return self._node(address)
        raise BackendUnavailable(f"no node of the Redis Cluster serves slot {slot}")

    def _node(self, address: tuple[str, int] | None) -> Node:
        if self.closed:
            raise BackendUnavailable("the backend is closed")
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = Node(self, address)
        return node

    def moved(self) -> None:
        """Look again for who serves what: an answer told that it is another."""
        if self.cluster:
            self._slots = []
        self._on_moved()

    async def _learn(self) -> None:
        """Ask any node which slots are where."""
        async with self._lock:
            if self._slots:
                return
            problem: Exception = BackendUnavailable("no node of the Redis Cluster is known")
            known = [address for address in self._nodes if address is not None]
            for address in dict.fromkeys([*known, *self.target.addresses]):
                try:
                    self._slots = await self._ask(address)
                except Exception as error:
                    problem = translate(error, f"{address[0]}:{address[1]}")
                else:
                    gone = set(known) - {served for _, _, served in self._slots}
                    for left in gone:
                        await self._nodes.pop(left).close()
                    return
            raise problem

    async def _ask(self, address: tuple[str, int]) -> list[tuple[int, int, tuple[str, int]]]:
        connection = await self.connect(address, self.settings.timeout)
        try:
            reply = await _call(connection, "CLUSTER", "SLOTS")
            with contextlib.suppress(theirs.ResponseError):
                told = cast("list[Any]", await _call(connection, "COMMAND", "INFO", "SSUBSCRIBE"))
                self.sharded = bool(told and told[0])
        finally:
            await drop(connection)
        found: list[tuple[int, int, tuple[str, int]]] = []
        for low, high, master, *_ in reply:
            host = (master[0] or b"").decode() or address[0]
            found.append((int(low), int(high), (host, int(master[1]))))
        if not found:
            raise BackendUnavailable("the Redis Cluster has no slots")
        return found

    # -- connecting

    async def connect(self, address: tuple[str, int] | None, timeout: float | None) -> Any:
        """Open a connection to a node; to the master where `address` is None.

        :param timeout: seconds that each reply may take; None for one that only listens.
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
                if not self._greeted:
                    await self._greet(connection)
                if target.kind == "sentinel" and timeout is None:
                    await self._check_role(connection)
        except BaseException:
            await drop(connection)
            raise
        return connection

    async def _check_role(self, connection: Any) -> None:
        """Refuse to listen to a master that was deposed a moment ago."""
        role = await _call(connection, "ROLE")
        if role[0] != b"master":
            raise BackendUnavailable("this Redis is a replica; waiting for Sentinel")

    async def _greet(self, connection: Any) -> None:
        """Learn what kind of server this is, once."""
        try:
            flat = await _call(connection, "HELLO")
        except theirs.ResponseError as error:
            if said(error) == "NOPERM":
                self._greeted = True
                return
            if "unknown command" in str(error).lower():
                raise BackendMisconfigured("Redis 6.2 or newer, or Valkey, is needed") from None
            raise
        told = dict(zip(flat[::2], flat[1::2], strict=False))
        self.flavour = told.get(b"server", b"").decode()
        version = told.get(b"version", b"0").decode()
        self.version = tuple(int(part) for part in version.split(".") if part.isdigit())
        if self.version < _OLDEST:
            raise BackendMisconfigured(f"Redis {version} is too old: 6.2 or newer is needed")
        if told.get(b"mode") == b"cluster" and not self.cluster:
            raise BackendMisconfigured("this is a Redis Cluster: use redis+cluster://")
        if told.get(b"mode") == b"sentinel":
            raise BackendMisconfigured("this is a Sentinel: use redis+sentinel://host:port/MASTER")
        self._greeted = True

    async def _master(self) -> tuple[str, int]:
        """Ask the Sentinels, one after the other, who is master."""
        target = self.target
        problem: Exception = BackendUnavailable("no Sentinel is known")
        from redis.asyncio import Connection, SSLConnection

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
                await drop(connection)
            if reply:
                return reply[0].decode(), int(reply[1])
            problem = BackendMisconfigured(f"Sentinel {host}:{port} knows no {target.service!r}")
        raise problem

    async def failed(self, error: BaseException | str, node: Node) -> None:
        """Note an error of a node: it may be the wrong one to ask."""
        if not is_stale(error):
            return
        if self.cluster:
            self.moved()
        elif self.target.kind == "sentinel":
            await node.write.renew()
            await node.read.renew()

    async def close(self) -> None:
        """Close all connections, for good."""
        self.closed = True
        for node in self.nodes:
            await node.close()
        self._nodes.clear()

    def abandon(self) -> None:
        """Leave all connections to the parent process."""
        for node in self.nodes:
            node.abandon()
        self._nodes.clear()


async def _call(connection: Any, *command: str) -> Any:
    await connection.send_command(*command, check_health=False)
    return await connection.read_response(disable_decoding=True, disconnect_on_error=False)
