"""Runs scripts with Ably's own JavaScript packages, which npm installs outside the repository."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

__all__ = ["Node", "node"]

FOLDER = Path(__file__).parent / "js"
_NODE_OF_AI_TRANSPORT = "22.23.3"  # its package.json asks for Node 22 or later


class Node:
    """A Node executable with the packages of ``js/package.json`` to require."""

    def __init__(self, executable: str, modules: Path) -> None:
        self.executable = executable
        self.modules = modules

    def environment(self, **extra: object) -> dict[str, str]:
        """Return the environment of a script."""
        given = {name: str(value) for name, value in extra.items()}
        return {**os.environ, "NODE_PATH": str(self.modules), **given}


def _missing(what: str) -> None:
    # On a build machine nothing is optional.
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


@cache
def node(major: int = 20) -> Node:
    """Return Node of at least a major version, installing what is missing once per machine.

    Without Node or npm the test is skipped, and fails where CI is set.
    """
    executable, npm = shutil.which("node"), shutil.which("npm")
    if executable is None or npm is None:
        _missing("needs node and npm")
        raise AssertionError
    modules = _install(npm, (FOLDER / "package.json").read_bytes(), [])
    version = subprocess.run(
        [executable, "--version"], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    if int(version[1:].split(".")[0]) < major:
        wanted = [f"node@{_NODE_OF_AI_TRANSPORT}"]
        executable = str(_install(npm, b'{"private": true}', wanted) / "node" / "bin" / "node")
    return Node(executable, modules)


def _install(npm: str, manifest: bytes, packages: list[str]) -> Path:
    """Install into a cache folder named by what it holds; safe for several at a time."""
    name = hashlib.sha256(manifest + " ".join(packages).encode()).hexdigest()[:16]
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache_home / "tokenwire-tests" / f"npm-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "installed"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            (folder / "package.json").write_bytes(manifest)
            command = [npm, "install", "--no-package-lock", "--no-audit", "--no-fund", *packages]
            result = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=280, check=False
            )
            if result.returncode:
                _missing(f"npm install failed: {result.stderr[-2000:]}")
            done.touch()
    return folder / "node_modules"
