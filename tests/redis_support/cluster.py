"""A real Cluster of three masters on loopback."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import redis
import redis.exceptions

from tests.support.ports import ReservedPort

from ._binary import Binary, find_binary
from ._waiting import eventually
from .proxy import FaultyProxy
from .server import RedisServer

SLOTS = 16_384


class SlotMigration:
    """A slot on its way: from `source`, still the owner, to `target`.

    Until `finish`, keys that have moved are answered by ``-ASK``, and commands on keys of which
    some have moved by ``-TRYAGAIN``; afterwards the source answers ``-MOVED``.
    """

    def __init__(self, cluster: RedisCluster, slot: int, target: RedisServer) -> None:
        self.slot = slot
        self.source = cluster.owner(slot)
        self.target = target
        self._cluster = cluster
        source_id, target_id = cluster.node_id(self.source), cluster.node_id(target)
        target.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        self.source.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)

    def move_keys(self, count: int = 100) -> int:
        """Move up to `count` keys that are still at the source. Returns how many there were."""
        keys = self.source.cli("CLUSTER", "GETKEYSINSLOT", self.slot, count)
        if keys:
            address = (self.target.host, self.target.port)
            self.source.cli("MIGRATE", *address, "", 0, 30_000, "KEYS", *keys)
        return len(keys)

    def finish(self) -> None:
        """Move what is left and make the target the owner, on every node."""
        target_id = self._cluster.node_id(self.target)
        # The target first: were it the last, a crash in between would leave nobody as the owner.
        # The source refuses while it has keys, and a client may have just written one.
        while self.move_keys():
            pass
        self.target.cli("CLUSTER", "SETSLOT", self.slot, "NODE", target_id)

        def given_up() -> bool:
            while self.move_keys():
                pass
            with contextlib.suppress(redis.exceptions.ResponseError):
                self.source.cli("CLUSTER", "SETSLOT", self.slot, "NODE", target_id)
                return True
            return False

        eventually(given_up, f"slot {self.slot} to leave its source")
        for node in self._cluster.nodes:
            if node not in (self.source, self.target):
                node.cli("CLUSTER", "SETSLOT", self.slot, "NODE", target_id)


class RedisCluster:
    """Three masters, each with a third of the slots; `start` returns once all serve all.

    :param timeout_ms: ``cluster-node-timeout``: how soon a dead node is noticed. On a busy machine
        nodes are silent for seconds: with a short one, the others forget a node that they are about
        to meet, or are down because one seems to be.
    :param proxied: announce a `FaultyProxy` in front of each node in its place (`proxies`, in the
        order of `nodes`), so that every client connection goes through one.
    :param config: further configuration of every node.
    :param places: `host` and `within` of each node's `RedisServer`, where not all are on loopback.
    """

    def __init__(
        self,
        *,
        binary: Binary | None = None,
        timeout_ms: int = 60_000,
        proxied: bool = False,
        appendonly: bool = True,
        config: Mapping[str, object] | None = None,
        places: Sequence[tuple[str, Sequence[str]]] = ((RedisServer.host, ()),) * 3,
    ) -> None:
        binary = find_binary() if binary is None else binary
        self.nodes: list[RedisServer] = []
        self.proxies: list[FaultyProxy] = []
        self._ids: dict[int, str] = {}
        self._ports = [ReservedPort(bus=True) for _ in places]
        for reserved, (host, within) in zip(self._ports, places, strict=True):
            port = reserved.number
            own: dict[str, object] = {
                "cluster-enabled": "yes",
                "cluster-config-file": "nodes.conf",
                "cluster-node-timeout": timeout_ms,
            }
            if proxied:
                proxy = FaultyProxy((RedisServer.host, port))
                self.proxies.append(proxy)
                own |= {
                    "cluster-announce-ip": RedisServer.host,
                    "cluster-announce-port": proxy.port,
                    "cluster-announce-bus-port": port + 10_000,
                }
            self.nodes.append(
                RedisServer(
                    binary=binary,
                    port=port,
                    appendonly=appendonly,
                    config=own | dict(config or {}),
                    host=host,
                    within=within,
                )
            )

    @property
    def url(self) -> str:
        """Of the first node, as clients shall see it."""
        return (self.proxies or self.nodes)[0].url

    @property
    def startup_nodes(self) -> list[tuple[str, int]]:
        """Host and port of every node, as clients shall see them."""
        return [(node.host, node.port) for node in (self.proxies or self.nodes)]

    def start(self) -> Self:
        for proxy in self.proxies:
            proxy.start()
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(RedisServer.start, self.nodes))
        share = SLOTS // len(self.nodes) + 1
        for number, node in enumerate(self.nodes):
            # 6.2 has no ADDSLOTSRANGE. Distinct epochs spare the nodes from settling them.
            slots = range(number * share, min(SLOTS, (number + 1) * share))
            node.cli("CLUSTER", "ADDSLOTS", *slots)
            node.cli("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            self._ids[node.port] = str(node.cli("CLUSTER", "MYID"))
        for node in self.nodes[1:]:
            self.nodes[0].cli("CLUSTER", "MEET", node.host, node.port, node.port + 10_000)
        self.wait_ok()
        return self

    def wait_ok(self) -> None:
        """Until every running node says that it knows all others and that all slots are served."""
        eventually(lambda: all(map(self._is_ok, self.nodes)), "the cluster to be ok", pause=0.02)

    def _is_ok(self, node: RedisServer) -> bool:
        if not node.running:
            return True
        info = node.cli("CLUSTER INFO")
        return (
            info["cluster_state"] == "ok"
            and int(info["cluster_known_nodes"]) == len(self.nodes)
            and int(info["cluster_slots_ok"]) == SLOTS
        )

    def reset(self) -> None:
        """As new, for the next test on a shared cluster; slots stay where they are."""
        for proxy in self.proxies:
            proxy.heal()
        for node in self.nodes:
            node.reset()

    def close(self) -> None:
        """Kill everything. Idempotent."""
        for proxy in self.proxies:
            proxy.close()
        for node in self.nodes:
            node.close()
        for port in self._ports:
            port.release()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def node_id(self, node: RedisServer) -> str:
        return self._ids[node.port]

    def slot_of(self, key: str) -> int:
        return int(self.nodes[0].cli("CLUSTER", "KEYSLOT", key))

    def owner(self, slot: int) -> RedisServer:
        """The node that serves a slot, by its own account."""
        for node in self.nodes:
            if node.running and any(low <= slot <= high for low, high in self._slots_of(node)):
                return node
        raise LookupError(f"no running node serves slot {slot}")

    def _slots_of(self, node: RedisServer) -> list[tuple[int, int]]:
        """From CLUSTER NODES: ``id address flags … link slot slot``, a range or one number."""
        lines = str(node.cli("CLUSTER", "NODES")).splitlines()  # two words: redis-py parses one
        mine = next(line.split() for line in lines if "myself" in line.split()[2])
        whole = [part for part in mine[8:] if not part.startswith("[")]  # [: it is migrating
        ends = [part.split("-") for part in whole]
        return [(int(end[0]), int(end[-1])) for end in ends]

    def other_than(self, node: RedisServer) -> RedisServer:
        """Some other running node."""
        return next(other for other in self.nodes if other is not node and other.running)

    def migrate(self, slot: int, target: RedisServer | None = None) -> RedisServer:
        """Move a slot with its keys to `target`, or to some other node. Returns that node."""
        goal = self.other_than(self.owner(slot)) if target is None else target
        SlotMigration(self, slot, goal).finish()
        return goal

    def begin_migration(self, slot: int, target: RedisServer | None = None) -> SlotMigration:
        """Open the window in which a slot has two homes; end it with `SlotMigration.finish`."""
        goal = self.other_than(self.owner(slot)) if target is None else target
        return SlotMigration(self, slot, goal)

    def cli_for(self, key: str, *command: str | float | bytes) -> Any:
        """Run a command at the node that serves `key`."""
        return self.owner(self.slot_of(key)).cli(*command)
