"""Runs scripts with packages of the npm registry, installed outside the repository."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

__all__ = ["Node", "node_with"]


class Node:
    """A Node executable, and a folder with packages that scripts in it can import."""

    def __init__(self, executable: str, folder: Path) -> None:
        self.executable = executable
        self.folder = folder

    def script(self, source: Path) -> Path:
        """Copy a script to where the packages are: ES modules are found from there."""
        text = source.read_bytes()
        name = hashlib.sha256(text).hexdigest()[:16]
        target = self.folder / f"{source.stem}-{name}{source.suffix}"
        if not target.exists():
            partial = target.with_suffix(f".{os.getpid()}")
            partial.write_bytes(text)
            partial.replace(target)
        return target


def _missing(what: str) -> None:
    # On a build machine nothing is optional.
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


@cache
def node_with(manifest: Path) -> Node:
    """Return Node with the packages of a ``package.json``, installing them once per machine.

    Without Node or npm the test is skipped, and fails where CI is set.
    """
    executable, npm = shutil.which("node"), shutil.which("npm")
    if executable is None or npm is None:
        _missing("needs node and npm")
        raise AssertionError
    return Node(executable, _install(npm, manifest.read_bytes()))


def _install(npm: str, manifest: bytes) -> Path:
    """Install into a cache folder named by what it holds; safe for several at a time."""
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = f"npm-{hashlib.sha256(manifest).hexdigest()[:16]}"
    folder = cache_home / "tokenwire-tests" / name
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "installed"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            (folder / "package.json").write_bytes(manifest)
            command = [npm, "install", "--no-package-lock", "--no-audit", "--no-fund"]
            result = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=280, check=False
            )
            if result.returncode:
                _missing(f"npm install failed: {result.stderr[-2000:]}")
            done.touch()
    return folder
