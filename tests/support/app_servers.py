"""An ASGI app under uvicorn's own command, in a process that can be started again on its port."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.ports import wait_until_served

__all__ = ["UvicornCommand"]

PATIENCE = 60.0


class UvicornCommand:
    """`python -m uvicorn APP OPTIONS`.

    :param options: its command line, with the app; a port is added.
    :param folder: where it is started.
    :param environment: added to this process's.
    :param port: a reserved port, which is the server's across restarts.
    :ivar url: the server's address.
    """

    def __init__(
        self, options: Sequence[str], folder: Path, environment: Mapping[str, str], port: int
    ) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self._port = port
        self._options = [*options, "--port", str(port)]
        self._workers = (
            int(options[options.index("--workers") + 1]) if "--workers" in options else 1
        )
        self._folder = folder
        self._environment = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and wait until all of its workers serve."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", *self._options],
            cwd=self._folder,
            env=self._environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stderr is not None
        output, left = "", self._workers
        for line in self._process.stderr:
            output += line
            left -= "Application startup complete" in line
            if not left:
                break
        else:
            raise AssertionError(output)
        # Uvicorn opens its socket after it has said so.
        wait_until_served(self._port, self._process, PATIENCE)

    def stop(self) -> None:
        """Stop it as a service manager does, and wait until it has ended."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
        self._wait()

    def interrupt(self) -> None:
        """Press Ctrl-C in its terminal, which reaches its workers, too; wait until it has ended."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGINT)
        self._wait()

    def _wait(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            try:
                process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                raise
