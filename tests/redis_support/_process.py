"""One server process in a directory of its own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ._binary import Binary
from ._reaper import reaper
from ._waiting import eventually


class ServerProcess:
    """A Redis or Valkey program with a configuration file; knows nothing of what it speaks.

    :param within: what its command begins with, such as ``ip netns exec NAME``.
    """

    def __init__(self, binary: Binary, *arguments: str, within: Sequence[str] = ()) -> None:
        self.binary = binary
        self._within = within
        self.directory = reaper.make_dir()
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log_path(self) -> Path:
        return self.directory / "server.log"

    @property
    def log(self) -> str:
        """All that the server has logged, over restarts."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def spawn(self, configuration: str) -> None:
        """Start it. A later start takes the file as it is then: Sentinels rewrite it."""
        if self.running:
            raise RuntimeError("the server runs already")
        path = self.directory / "server.conf"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(configuration)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._within, str(self.binary.path), str(path), *self._arguments],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the tests; they stop their servers themselves.
                start_new_session=True,
            )
        reaper.add_pid(self._process.pid)

    def end(self, sign: signal.Signals) -> None:
        """Send a signal and wait until the process has gone; SIGKILL follows after 20 s."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(sign)
            if sign is not signal.SIGKILL:
                process.send_signal(signal.SIGCONT)  # a stopped process would never see it
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=20)
        reaper.drop_pid(process.pid)
        self._process = None

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers. Returns once it has stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        stat = Path(f"/proc/{self.pid}/stat")
        if stat.exists():  # on Linux: wait until it has taken effect
            eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "SIGSTOP")

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def remove(self) -> None:
        reaper.remove_dir(self.directory)
