"""Check the types of a consumer's project against the installed wheel, by mypy, pyright and ty."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["check_types"]

CONSUMER = Path(__file__).parent / "consumer"


def check_types(scratch: Path, python: Path) -> None:
    """Fail when a checker finds a mistake in the project, or passes over one of ``mistakes.py``.

    :param scratch: where the project is copied to: nothing of the checkout may be found from there.
    :param python: of the environment that has the wheel.
    """
    project = scratch / "consumer"
    shutil.copytree(CONSUMER, project, dirs_exist_ok=True)
    # The checkers are in another environment: pyright also looks where the first `python` does.
    env = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    # Named one by one: ty passes over a directory that git ignores, as those of tox are.
    files = sorted(file.name for file in project.glob("*.py"))
    failed = [
        command[0]
        for command in (
            ["mypy", "--python-executable", str(python), *files],
            ["pyright", "--pythonpath", str(python), *files],
            ["ty", "check", "--python", str(python.parent.parent), *files],
        )
        if subprocess.run([sys.executable, "-m", *command], cwd=project, env=env).returncode
    ]
    if failed:
        sys.exit(f"a consumer of the wheel does not pass {', '.join(failed)}")


if __name__ == "__main__":
    check_types(*map(Path, sys.argv[1:]))
