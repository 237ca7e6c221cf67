"""Runs scripts with packages of the npm registry, installed outside the repository."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.support.cache import CACHE
from tests.support.needs import missing

__all__ = ["RUNTIMES", "Node", "node_with", "runtime"]


RUNTIMES = {"node-20": "node@20.20.2", "node-22": "node@22.23.3", "deno": "deno@2.9.6"}
"""What runs JavaScript outside browsers, and the npm package that has its executable."""


class Node:
    """A Node executable, and a folder with packages that scripts in it can import."""

    def __init__(self, executable: str, folder: Path) -> None:
        self.executable = executable
        self.folder = folder

    def script(self, source: Path) -> Path:
        """Copy a script to where the packages are: ES modules are found from there."""
        return self.write(source.name, source.read_bytes())

    def write(self, file: str, text: bytes) -> Path:
        """Write a script to where the packages are; its name there has a hash of the text."""
        stem, dot, suffix = file.rpartition(".")
        target = self.folder / f"{stem}-{hashlib.sha256(text).hexdigest()[:16]}{dot}{suffix}"
        if not target.exists():
            partial = target.with_suffix(f".{os.getpid()}")
            partial.write_bytes(text)
            partial.replace(target)
        return target

    def environment(self, **extra: object) -> dict[str, str]:
        """Return the environment of a script that stands elsewhere and requires the packages."""
        given = {name: str(value) for name, value in extra.items()}
        return {**os.environ, "NODE_PATH": str(self.folder / "node_modules"), **given}


@cache
def node_with(manifest: Path, *, major: int = 0) -> Node:
    """Return Node with the packages of a ``package.json``, installing them once per machine.

    Without Node or npm the test is skipped, and fails where CI is set.

    :param major: the version of Node that the packages need at least.
    """
    executable, npm = shutil.which("node"), shutil.which("npm")
    if executable is None or npm is None:
        missing("needs node and npm")
        raise AssertionError
    folder = _install(npm, manifest.read_bytes())
    if major and _major(executable) < major:
        executable = runtime("node-22")  # the newest here: no package asks for more
    return Node(executable, folder)


@cache
def runtime(name: str) -> str:
    """Return the executable of one of `RUNTIMES`, of just that version.

    Without npm the test is skipped, and fails where CI is set.
    """
    npm = shutil.which("npm")
    if npm is None:
        missing("needs npm")
        raise AssertionError
    package = RUNTIMES[name].partition("@")[0]
    modules = _install(npm, b'{"private": true}', RUNTIMES[name]) / "node_modules"
    if package == "node":
        return str(modules / "node" / "bin" / "node")
    (executable,) = modules.glob("@deno/*/deno")  # of this machine's kind
    return str(executable)


def _major(executable: str) -> int:
    command = [executable, "--version"]
    reported = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=60
    ).stdout
    return int(reported[1:].split(".")[0])


@contextlib.contextmanager
def _untimed() -> Iterator[None]:
    """Stop the clock of pytest-timeout, which is this timer: a test answers for no registry."""
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)


def _install(npm: str, manifest: bytes, *packages: str) -> Path:
    """Install into a cache folder named by what it holds; safe for several at a time."""
    name = hashlib.sha256(manifest + " ".join(packages).encode()).hexdigest()[:16]
    folder = CACHE / f"npm-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "installed"
    with _untimed(), (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            # npm takes a package whose files an install that was killed wrote in part for whole.
            shutil.rmtree(folder / "node_modules", ignore_errors=True)
            (folder / "package.json").write_bytes(manifest)
            command = [npm, "install", "--no-package-lock", "--no-audit", "--no-fund", *packages]
            result = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=900, check=False
            )
            if result.returncode:
                missing(f"npm install failed: {result.stderr[-2000:]}")
            done.touch()
    return folder
