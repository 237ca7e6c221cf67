"""Environments of their own for the rows, made by uv and kept by what is installed in them."""

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

__all__ = ["environment_for", "installed_version"]

ROOT = Path(__file__).resolve().parents[2]


def environment_for(requires: tuple[str, ...]) -> Path:
    """Make an environment with these requirements and this checkout, if there is none yet.

    They are kept in ``$TOKENWIRE_TEST_ENVIRONMENTS``, by default ``.cache/ecosystem``.

    :returns: its folder of programs.
    """
    kept = os.environ.get("TOKENWIRE_TEST_ENVIRONMENTS", str(ROOT / ".cache" / "ecosystem"))
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = hashlib.sha256("\n".join((python, *sorted(requires))).encode()).hexdigest()[:16]
    folder = Path(kept) / name
    programs = folder / "bin"
    # Entry points are copied when a package is installed: ours must be those of now.
    ours = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    stamp = folder / "installed.txt"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (stamp.exists() and stamp.read_text() == ours):
            if not programs.exists():
                _uv("venv", "--quiet", "--python", sys.executable, str(folder))
            target = ("--quiet", "--python", str(programs / "python"))
            fresh = ("--reinstall-package", "tokenwire", "-e", f"{ROOT}[redis]")
            _uv("pip", "install", *target, *fresh, *requires)
            stamp.write_text(ours)
    return programs


def installed_version(programs: Path, package: str) -> str:
    """The version of a package in an environment."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run(
        [programs / "python", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def _uv(*arguments: str) -> None:
    done = subprocess.run(["uv", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"uv {' '.join(arguments)}:\n{done.stderr}")
