"""A master, a replica and three Sentinels on loopback."""

from __future__ import annotations

import contextlib
import secrets
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.ports import ReservedPort

from ._binary import Binary, find_binary
from ._process import ServerProcess
from ._waiting import eventually
from .server import RedisServer

_FAILOVER_TIMEOUT = 5  # seconds
_PERIODS = {"info-period": 500, "publish-period": 200, "ask-period": 200, "ping-period": 200}


class _Sentinel:
    """One Sentinel; it knows the others from its file, so it need not discover them."""

    def __init__(self, binary: Binary) -> None:
        self._reserved = ReservedPort()
        self.port = self._reserved.number
        self.id = secrets.token_hex(20)
        self._process = ServerProcess(binary, "--sentinel")
        self.client = redis.Redis(
            port=self.port, decode_responses=True, socket_timeout=30, retry=Retry(NoBackoff(), 0)
        )

    def start(self, lines: list[str]) -> None:
        own = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"dir {self._process.directory}",
            f"sentinel myid {self.id}",
        ]
        self._process.spawn("\n".join([*own, *lines, ""]))
        eventually(self._answers, f"the sentinel on port {self.port} to answer")
        # From Redis 7.0 the ten-second timers can be shortened.
        for name, value in _PERIODS.items():
            with contextlib.suppress(redis.ResponseError):
                self.ask("SENTINEL", "DEBUG", name, str(value))

    def _answers(self) -> bool:
        if not self._process.running:
            raise RuntimeError(f"a sentinel ended at its start:\n{self._process.log[-2000:]}")
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def ask(self, *command: str) -> Any:
        answer: Any = self.client
        return answer.execute_command(*command)

    def kill(self) -> None:
        self._process.end(signal.SIGKILL)

    def close(self) -> None:
        self.client.close()
        self.kill()
        self._process.remove()
        self._reserved.release()


def _role(server: RedisServer) -> str:
    """``master`` or ``slave``; empty while the server does not say."""
    with contextlib.suppress(redis.RedisError):
        return str(server.info("replication")["role"])
    return ""


class RedisSentinel:
    """A monitored master with one replica; `start` returns once a failover could happen.

    :ivar name: of the master, for ``SENTINEL`` commands and clients.
    :ivar servers: both servers, whatever their role is at present.
    :param down_after_ms: silence after which a Sentinel holds the master for dead; None: as
        short as is safe.
    """

    def __init__(self, *, binary: Binary | None = None, down_after_ms: int | None = None) -> None:
        binary = find_binary() if binary is None else binary
        # With a shorter timeout they demote a master that they have just promoted: 6.2 pings once a
        # second, and on a busy machine servers are silent for seconds.
        self._down_after_ms = down_after_ms or 4000
        self.name = "mymaster"
        first = RedisServer(binary=binary, appendonly=True)
        replica = {"replicaof": f"{first.host} {first.port}"}
        self.servers = [first, RedisServer(binary=binary, appendonly=True, config=replica)]
        self._sentinels = [_Sentinel(binary) for _ in range(3)]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each Sentinel, as redis-py's `Sentinel` takes them."""
        return [("127.0.0.1", sentinel.port) for sentinel in self._sentinels]

    @property
    def url(self) -> str:
        """All Sentinels and the name of the master, as our backend takes them."""
        hosts = ",".join(f"{host}:{port}" for host, port in self.addresses)
        return f"redis+sentinel://{hosts}/{self.name}"

    def start(self) -> Self:
        for server in self.servers:
            server.start()
        eventually(self._in_sync, "the replica to be in sync")
        with ThreadPoolExecutor(len(self._sentinels)) as pool:
            list(pool.map(_Sentinel.start, self._sentinels, map(self._monitor, self._sentinels)))
        eventually(self._ready, "the sentinels to know each other and the replica")
        return self

    def _monitor(self, sentinel: _Sentinel) -> list[str]:
        master, replica = self.servers
        others = [other for other in self._sentinels if other is not sentinel]
        return [
            f"sentinel monitor {self.name} {master.host} {master.port} 2",
            f"sentinel down-after-milliseconds {self.name} {self._down_after_ms}",
            f"sentinel failover-timeout {self.name} {_FAILOVER_TIMEOUT * 1000}",
            f"sentinel known-replica {self.name} {replica.host} {replica.port}",
            *(f"sentinel known-sentinel {self.name} 127.0.0.1 {o.port} {o.id}" for o in others),
        ]

    def _in_sync(self) -> bool:
        return bool(self.servers[1].info("replication")["master_link_status"] == "up")

    def _ready(self) -> bool:
        return all(self._knows_all(sentinel) for sentinel in self._sentinels)

    def _knows_all(self, sentinel: _Sentinel) -> bool:
        with contextlib.suppress(redis.RedisError):
            return str(sentinel.ask("SENTINEL", "CKQUORUM", self.name)).startswith("OK 3")
        return False

    # Failover

    def _address(self, sentinel: _Sentinel) -> int:
        """The port of the master, as that Sentinel reports it."""
        return int(sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)[1])

    @property
    def master(self) -> RedisServer:
        """The master that most Sentinels name."""
        ports = sorted(map(self._address, self._sentinels))
        return next(server for server in self.servers if server.port == ports[1])

    @property
    def replica(self) -> RedisServer:
        master = self.master
        return next(server for server in self.servers if server is not master)

    def failover(self, *, kill: bool = False) -> RedisServer:
        """Make the replica the master, and return it once every Sentinel names it.

        :param kill: by ``kill -9`` of the master (`revive` brings it back as a replica), else by
            ``SENTINEL FAILOVER`` while it lives.
        """
        old, new = self.master, self.replica
        again = 0.0

        def moved() -> bool:
            nonlocal again
            ports = [self._address(sentinel) for sentinel in self._sentinels]
            # One that takes longer than its timeout is given up; with a live master for good.
            if not kill and ports[0] == old.port and time.monotonic() > again and self._order():
                again = time.monotonic() + 2 * _FAILOVER_TIMEOUT
            return all(port == new.port for port in ports)

        if kill:
            old.kill()
        eventually(moved, "every sentinel to name the new master", pause=0.05)
        eventually(lambda: _role(new) == "master", "the new master's role")
        return new

    def _order(self) -> bool:
        """Refused for a moment while a Sentinel has not looked at the replica yet."""
        with contextlib.suppress(redis.ResponseError):
            return bool(self._sentinels[0].ask("SENTINEL", "FAILOVER", self.name))
        return False

    def wait_demoted(self) -> RedisServer:
        """Wait until the old master is a replica of the new one, in sync. Returns it.

        Takes a second, but ten on Redis 6.2, whose timers cannot be shortened.
        """

        def demoted() -> RedisServer | None:
            master, replica = self.master, self.replica
            try:
                info = replica.info("replication")
            except redis.RedisError:
                return None  # Sentinel closes every connection of a server that it demotes
            follows = info["role"] == "slave" and int(info["master_port"]) == master.port
            return replica if follows and info["master_link_status"] == "up" else None

        found = eventually(demoted, "the old master to follow the new one", pause=0.05)
        assert found is not None
        return found

    def revive(self) -> RedisServer:
        """Start the master that `failover` killed; it comes back as a replica."""
        dead = next(server for server in self.servers if not server.running)
        dead.start()
        return self.wait_demoted()

    def close(self) -> None:
        """Kill everything. Idempotent."""
        for sentinel in self._sentinels:
            sentinel.close()
        for server in self.servers:
            server.close()

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
