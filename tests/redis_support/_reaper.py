"""Nothing that a test started may outlive the test process, not even after ``kill -9`` of it.

One small child process listens on a pipe for what we own (process ids and directories). When the
pipe closes, because we exit or die, it kills and removes whatever is still on its list. That holds
where ``PR_SET_PDEATHSIG`` does not: it is tied to the *thread* that started the child, so a
server started in a worker thread would die with that thread.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

_LISTENER = r"""
import os, shutil, signal, sys
owned = set()
for line in sys.stdin:
    (owned.add if line[0] == "+" else owned.discard)(line[1:].rstrip("\n"))
for item in owned:
    if item.startswith("pid "):
        try:
            os.kill(int(item[4:]), signal.SIGKILL)
        except OSError:
            pass
for item in owned:
    if item.startswith("dir "):
        shutil.rmtree(item[4:], ignore_errors=True)
"""


class _Reaper:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._owner = -1
        self._pids: set[int] = set()
        self._dirs: set[Path] = set()

    def _tell(self, line: str) -> None:
        """Say one line to the listener, which is started on first use. Called under the lock."""
        if self._child is None or self._owner != os.getpid():
            # A session of its own: Ctrl-C and a kill of our process group must not reach it.
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _LISTENER],
                stdin=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            if self._owner != os.getpid():  # first use here, or we are a fork: own nothing yet
                self._owner, self._pids, self._dirs = os.getpid(), set(), set()
                atexit.register(self._clean, os.getpid())
        assert self._child.stdin is not None
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()

    def add_pid(self, pid: int) -> None:
        with self._lock:
            self._tell(f"+pid {pid}")
            self._pids.add(pid)

    def drop_pid(self, pid: int) -> None:
        with self._lock:
            if self._owner == os.getpid() and pid in self._pids:
                self._tell(f"-pid {pid}")
                self._pids.discard(pid)

    def make_dir(self) -> Path:
        """A new temporary directory that is removed at the end, whatever the end is."""
        # Resolved, and short: the path of a Unix socket below it may have 107 bytes at most.
        path = Path(tempfile.mkdtemp(prefix="tw-redis-")).resolve()
        with self._lock:
            self._tell(f"+dir {path}")
            self._dirs.add(path)
        return path

    def remove_dir(self, path: Path) -> None:
        shutil.rmtree(path, ignore_errors=True)
        with self._lock:
            if self._owner == os.getpid() and path in self._dirs:
                self._tell(f"-dir {path}")
                self._dirs.discard(path)

    def _clean(self, owner: int) -> None:
        if owner != os.getpid() or self._child is None:
            return  # a fork that leaves through sys.exit owns none of this
        for pid in self._pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for path in self._dirs:
            shutil.rmtree(path, ignore_errors=True)
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait(timeout=10)


reaper = _Reaper()
