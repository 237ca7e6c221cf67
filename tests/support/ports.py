"""Ports of this machine for servers that must be found again where they were."""

from __future__ import annotations

import random
import socket
import subprocess
import time
from types import TracebackType
from typing import Any

# Not the shared generator: hypothesis seeds that, and every worker would draw the same ports.
_chance = random.SystemRandom()


class ReservedPort:
    """A loopback port that is one server's, also while that server is down.

    The port is held by bound sockets that never listen: clients are refused, a server that sets
    ``SO_REUSEADDR`` (as redis-server does) binds it as often as it likes, and neither another
    reservation, in whatever process, nor an outgoing connection gets it.

    :param bus: hold port + 10000 too (the Cluster bus).
    """

    def __init__(self, *, bus: bool = False) -> None:
        self._sockets: list[socket.socket] = []
        for _ in range(1000):
            self.number = _chance.randrange(10_240, 22_000)  # with its bus, below the ephemeral
            try:
                for number in (self.number, self.number + 10_000) if bus else (self.number,):
                    self._sockets.append(_bound(number))
            except OSError:
                self.release()
            else:
                return
        raise RuntimeError("found no free loopback port")

    def release(self) -> None:
        """Let others have it. Idempotent."""
        while self._sockets:
            self._sockets.pop().close()

    def __enter__(self) -> int:
        return self.number

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def wait_until_served(port: int, process: subprocess.Popen[Any], patience: float = 60.0) -> None:
    """Wait until a process accepts connections at a port of loopback.

    :param patience: seconds.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), patience).close()
        except ConnectionRefusedError:
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        else:
            return


def _bound(port: int) -> socket.socket:
    """:raises OSError: somebody has the port."""
    holder = socket.socket()
    try:
        # Bound without the option, it conflicts with every other socket; afterwards, with none
        # that has the option.
        holder.bind(("127.0.0.1", port))
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except BaseException:
        holder.close()
        raise
    return holder
