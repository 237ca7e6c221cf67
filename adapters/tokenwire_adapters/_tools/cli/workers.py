"""Several processes that serve one socket, and are replaced one after another on SIGHUP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence

import uvicorn

from tokenwire._clock import Backoff
from tokenwire_adapters._tools.cli.errors import Failure

__all__ = ["WORKER_OPTION", "Workers", "inherited", "serve_as_worker"]

WORKER_OPTION = "--worker"
"""The option, for the supervisor alone, that names the descriptors that a worker inherits."""

_START_TIMEOUT = 30.0  # seconds in which a worker has to be ready
_STOP_TIMEOUT = 15.0  # seconds in which it has to say goodbye to its clients


class _Worker:
    """One process, and the socket that connects it with its supervisor.

    The worker sends one byte when it is ready, and stops when the supervisor's end is closed.
    """

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        self.process = process
        self.control = control

    async def ready(self) -> bool:
        """Wait until it serves; False where it has ended instead."""
        try:
            async with asyncio.timeout(_START_TIMEOUT):
                return bool(await asyncio.get_running_loop().sock_recv(self.control, 1))
        except (TimeoutError, OSError):
            return False

    async def stop(self) -> None:
        """Have it say goodbye to its clients, and wait until it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
        self.control.close()


class Workers:
    """Keeps a number of workers alive.

    :param arguments: the command line of ``tokenwire``, with which each worker is started.
    :param report: says on stderr what happens.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        listener: socket.socket,
        count: int,
        report: Callable[[str], None],
    ) -> None:
        self._command = [sys.executable, "-m", "tokenwire_adapters.cli", *arguments]
        self._listener = listener
        self._count = count
        self._report = report
        self._workers: list[_Worker] = []
        self._stopping = asyncio.Event()
        self._renewal = asyncio.Event()

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until SIGINT or SIGTERM.

        :param on_ready: called when all workers serve.
        :raises Failure: when one cannot be started.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._renewal.set)
        tasks: list[asyncio.Task[None]] = []
        try:
            for started in await asyncio.gather(*(self._start() for _ in range(self._count))):
                if started is not None:
                    self._workers.append(started)
            if len(self._workers) < self._count:
                raise Failure("a worker could not be started; it says above why")
            on_ready()
            tasks = [asyncio.create_task(self._keep(slot)) for slot in range(self._count)]
            tasks.append(asyncio.create_task(self._renew()))
            await self._stopping.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(worker.stop() for worker in self._workers))

    async def _start(self) -> _Worker | None:
        """Start a worker and wait until it serves; None where it does not."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        descriptors = (self._listener.fileno(), theirs.fileno())
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                WORKER_OPTION,
                ",".join(map(str, descriptors)),
                pass_fds=descriptors,
                stdin=asyncio.subprocess.DEVNULL,
            )
        worker = _Worker(process, ours)
        try:
            if await worker.ready():
                return worker
        except BaseException:
            process.kill()
            raise
        await worker.stop()
        return None

    async def _keep(self, slot: int) -> None:
        """Replace the worker in a slot when it ends by itself."""
        backoff = Backoff(0.5, 30.0)
        while True:
            worker = self._workers[slot]
            status = await worker.process.wait()
            while self._workers[slot] is worker:  # and was not replaced
                self._report(f"worker {worker.process.pid} ended with status {status}")
                await asyncio.sleep(backoff.next())
                started = await self._start()
                if started is not None:
                    worker.control.close()
                    self._workers[slot] = started

    async def _renew(self) -> None:
        """On SIGHUP, replace one worker after another, each once its successor serves."""
        while True:
            await self._renewal.wait()
            self._renewal.clear()
            for slot in range(self._count):
                successor = await self._start()
                if successor is None:
                    self._report("a new worker could not be started; the others stay")
                    break
                before, self._workers[slot] = self._workers[slot], successor
                await before.stop()
            else:
                self._report("all workers were replaced")


def inherited(descriptors: str) -> tuple[socket.socket, socket.socket]:
    """The listening socket, and the one to the supervisor, of a worker.

    :raises Failure: where these are not what a supervisor hands on.
    """
    try:
        listener, control = (int(number) for number in descriptors.split(","))
        return socket.socket(fileno=listener), socket.socket(fileno=control)
    except (ValueError, OSError) as error:
        raise Failure(f"{WORKER_OPTION} is for workers that tokenwire starts itself") from error


class _WorkerServer(uvicorn.Server):
    """Says when it serves, and stops with its supervisor."""

    def __init__(self, config: uvicorn.Config, control: socket.socket) -> None:
        super().__init__(config)
        self._control = control

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        await super().startup(sockets)
        threading.Thread(target=self._stop_with_supervisor, daemon=True).start()
        self._control.sendall(b"r")

    def _stop_with_supervisor(self) -> None:
        with contextlib.suppress(OSError):
            while self._control.recv(1):
                pass
        os.kill(os.getpid(), signal.SIGTERM)


def serve_as_worker(
    config: uvicorn.Config, listener: socket.socket, control: socket.socket
) -> None:
    """Serve until SIGTERM, or until the supervisor has ended."""
    _WorkerServer(config, control).run(sockets=[listener])
