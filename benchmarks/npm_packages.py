"""Packages of npm's registry, for peers that run in Node."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["installed"]


def installed(*packages: str) -> Path:
    """Return the folder of packages, each ``name@version``; they are installed there once.

    Where ``NPM_CONFIG_OFFLINE`` is set, npm looks for them in its own cache alone.

    :raises ImportError: where that does not work.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise ImportError("Node and npm are not installed")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:16]
    folder = cache / "tokenwire-benchmarks" / f"npm-{name}"
    done = folder / "installed"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}', encoding="ascii")
        command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", *packages]
        result = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True)
        if result.returncode:
            reason = "offline" if "ENOTCACHED" in result.stderr else result.stderr.strip()[-200:]
            raise ImportError(f"npm did not install {', '.join(packages)}: {reason}")
        done.touch()
    return folder
