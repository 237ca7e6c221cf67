"""One real Redis or Valkey server for the tests."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.ports import ReservedPort

from ._binary import Binary, find_binary
from ._certs import Certificates, certificates
from ._process import ServerProcess
from ._waiting import eventually
from .proxy import FaultyProxy

Tls: TypeAlias = Literal["server", "mutual"]
AofMark: TypeAlias = dict[Path, int]
_ADMIN = "tests-admin"


class RedisServer:
    """A server on a free loopback port, in a temporary directory, gone when the tests are.

    `start` returns once it answers PING. It can be killed, frozen and restarted on the same port
    and directory. A hidden user of its own lets `cli` work whatever the other users may do.

    :param appendonly: keep an append-only file, synced every second. ``kill`` mostly loses
        nothing that was answered, but may: while an fsync takes long, Redis holds what it should
        write for up to two seconds. See `wait_written` and `rewind`.
    :param maxmemory: bytes; what exceeds it is answered by ``OOM command not allowed``.
    :param password: of the default user; None: it needs none.
    :param users: ACL rules, one user each, as in ``ACL SETUSER``: ``"reader on >secret ~* +get"``.
    :param tls: also listen on `tls_port`; ``"mutual"`` asks for a certificate of the client. A
        server that was built without TLS gets a TLS proxy in front.
    :param unix_socket: also listen on `socket_path`.
    :param config: further lines of the configuration file.
    :param host: the address it listens on, where that is not loopback's.
    :param within: what its command begins with, such as ``ip netns exec NAME``.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        *,
        binary: Binary | None = None,
        appendonly: bool = False,
        maxmemory: int | None = None,
        maxclients: int | None = None,
        password: str | None = None,
        users: Iterable[str] = (),
        tls: Tls | None = None,
        unix_socket: bool = False,
        config: Mapping[str, object] | None = None,
        port: int | None = None,
        host: str | None = None,
        within: Sequence[str] = (),
    ) -> None:
        self.binary = find_binary() if binary is None else binary
        self._reserved: list[ReservedPort] = []
        self.port = self._reserve() if port is None else port
        self.host = host or self.host
        self.password = password
        self._process = ServerProcess(self.binary, within=within)
        self.directory = self._process.directory
        self.socket_path = str(self.directory / "redis.sock") if unix_socket else None
        self._tls = tls
        self.tls_port = self._reserve() if tls else None
        self._tls_front: FaultyProxy | None = None
        self._admin_password = secrets.token_hex(16)
        self._configuration = self._render(appendonly, maxmemory, maxclients, users, config or {})
        self.admin = redis.Redis(
            host=self.host,
            port=self.port,
            username=_ADMIN,
            password=self._admin_password,
            decode_responses=True,
            encoding_errors="backslashreplace",
            socket_timeout=30,
            retry=Retry(NoBackoff(), 0),
            single_connection_client=False,
        )
        """The client behind `cli`, for any thread: every right, no retries, text in and out."""

    def _reserve(self) -> int:
        port = ReservedPort()
        self._reserved.append(port)
        return port.number

    def _render(
        self,
        appendonly: bool,
        maxmemory: int | None,
        maxclients: int | None,
        users: Iterable[str],
        config: Mapping[str, object],
    ) -> str:
        lines: dict[str, object] = {
            "bind": self.host,
            "port": self.port,
            "dir": self.directory,
            "daemonize": "no",
            "save": '""',
            "appendonly": "yes" if appendonly else "no",
            "appendfsync": "everysec",
            # As from Redis 7: a user has the channels that its rules name, and no others.
            "acl-pubsub-default": "resetchannels",
            # Replicas in these tests are small and must be there at once.
            "repl-diskless-sync-delay": 0,
            "repl-ping-replica-period": 1,
        }
        if self.binary.at_least(redis=(7, 0)):
            lines["enable-debug-command"] = "local"
        if maxmemory is not None:
            lines |= {"maxmemory": maxmemory, "maxmemory-policy": "noeviction"}
        if maxclients is not None:
            lines["maxclients"] = maxclients
        if self.password is not None:
            lines["requirepass"] = self.password
        if self.socket_path is not None:
            lines |= {"unixsocket": self.socket_path, "unixsocketperm": 700}
        if self._tls is not None and self.binary.has_tls:
            lines |= {
                "tls-port": self.tls_port,
                "tls-ca-cert-file": self.certificates.ca,
                "tls-cert-file": self.certificates.server_cert,
                "tls-key-file": self.certificates.server_key,
                "tls-auth-clients": "yes" if self._tls == "mutual" else "no",
            }
        rules = [f"{_ADMIN} on >{self._admin_password} ~* &* +@all", *users]
        return "\n".join(
            [f"{key} {value}" for key, value in (lines | dict(config)).items()]
            + [f"user {rule}" for rule in rules]
            + [""]
        )

    # Where it is

    @property
    def certificates(self) -> Certificates:
        return certificates()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.running

    @property
    def log(self) -> str:
        return self._process.log

    @property
    def url(self) -> str:
        """Plain TCP, with the default user's password if there is one."""
        return f"redis://{self._auth()}{self.host}:{self.port}"

    @property
    def tls_url(self) -> str:
        """Without the certificates; those are in `tls_arguments`."""
        if self.tls_port is None:
            raise ValueError("the server was made without tls")
        return f"rediss://{self._auth()}{self.host}:{self.tls_port}"

    @property
    def unix_url(self) -> str:
        if self.socket_path is None:
            raise ValueError("the server was made without unix_socket")
        return f"unix://{self._auth()}{self.socket_path}"

    def url_for(self, user: str, password: str) -> str:
        """Plain TCP as that ACL user."""
        return f"redis://{user}:{password}@{self.host}:{self.port}"

    def tls_arguments(self, *, client_certificate: bool | None = None) -> dict[str, str]:
        """Keyword arguments for redis-py; a client certificate by default if one is asked for."""
        files = self.certificates
        arguments = {"ssl_ca_certs": str(files.ca)}
        if self._tls == "mutual" if client_certificate is None else client_certificate:
            arguments["ssl_certfile"] = str(files.client_cert)
            arguments["ssl_keyfile"] = str(files.client_key)
        return arguments

    def _auth(self) -> str:
        return f":{self.password}@" if self.password is not None else ""

    # Life

    def start(self) -> Self:
        """Start it and wait until it answers.

        :raises RuntimeError: if it ends instead; with its log.
        """
        self._process.spawn(self._configuration)
        try:
            eventually(self._answers, f"redis on port {self.port} to answer")
            if self._tls is not None and not self.binary.has_tls and self._tls_front is None:
                context = self.certificates.server_context(
                    client_certificates=self._tls == "mutual"
                )
                self._tls_front = FaultyProxy(
                    (self.host, self.port), port=self.tls_port, tls=context
                ).start()
        except BaseException:
            self.kill()
            raise
        return self

    def _answers(self) -> bool:
        if not self.running:
            raise RuntimeError(f"redis ended at its start:\n{self.log[-2000:]}")
        try:
            return bool(self.admin.ping())
        except redis.RedisError:  # not listening yet, or still loading its data
            return False

    def stop(self) -> None:
        """SIGTERM: a clean shutdown, files written."""
        self.admin.close()
        self._process.end(signal.SIGTERM)

    def kill(self) -> None:
        """``kill -9``."""
        self.admin.close()
        self._process.end(signal.SIGKILL)

    def restart(self, *, kill: bool = False) -> None:
        """Stop (or kill) it if it runs, and start it on the same port and directory."""
        (self.kill if kill else self.stop)()
        self.start()

    def pause(self) -> None:
        """SIGSTOP."""
        self._process.pause()

    def resume(self) -> None:
        """SIGCONT, and wait until it answers."""
        self._process.resume()
        eventually(self._answers, f"redis on port {self.port} to answer")

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def close(self) -> None:
        """Kill it and remove its directory. Idempotent."""
        self.kill()
        if self._tls_front is not None:
            self._tls_front.close()
        self._process.remove()
        for port in self._reserved:
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

    # The append-only file

    def wait_written(self) -> None:
        """Until all that was answered has been written to the append-only file."""
        eventually(
            lambda: self.info("persistence")["aof_buffer_length"] == 0, "the append-only file"
        )

    def mark(self) -> AofMark:
        """Remember the present state, for `rewind`."""
        self.wait_written()
        files = [*self.directory.glob("appendonly.aof"), *self.directory.glob("*/*.incr.aof")]
        return {path: path.stat().st_size for path in files}

    def rewind(self, mark: AofMark) -> None:
        """``kill -9`` and restart with what was there at `mark`: answered writes are lost since.

        This is what a crash can do with ``appendfsync everysec``, and a failover to a replica
        that lags behind.
        """
        self.kill()
        for path, size in mark.items():
            os.truncate(path, size)
        self.start()

    # Commands

    def cli(self, *command: str | float | bytes) -> Any:
        """Run one command with every right: ``server.cli("CONFIG", "SET", "maxmemory", 0)``."""
        return cast("Any", self.admin).execute_command(*command)

    def info(self, section: str = "default") -> dict[str, Any]:
        return dict(self.cli("INFO", section))

    def kill_clients(self) -> int:
        """``CLIENT KILL`` of every connection but `cli`'s. Returns how many."""
        killed = 0
        for kind in ("normal", "pubsub"):
            killed += int(self.cli("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"))
        return killed

    def reset(self) -> None:
        """As new, for the next test on a shared server: no data, scripts, clients, statistics."""
        self.kill_clients()
        self.cli("FLUSHALL")
        self.cli("SCRIPT", "FLUSH")
        self.cli("CONFIG", "RESETSTAT")
