"""Build the sdist, the wheel from it, and check that wheel in an environment that has nothing else.

Usage: ``python tests/wheel/run.py SCRATCH_DIRECTORY``, with the package ``build`` installed.
"""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (ROOT / "core", ROOT / "adapters")
FRESH = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    print("$", *command, flush=True)
    subprocess.run(command, cwd=cwd, env=FRESH, check=True)


def build(dist: Path) -> Path:
    run(sys.executable, "-m", "build", "--outdir", dist)
    (wheel,) = dist.glob("*.whl")
    return wheel


def check_files(wheel: Path) -> None:
    """Fail when a source file is not in the wheel, or a file in the wheel has no source."""
    sources = {
        path.relative_to(root).as_posix()
        for root in SOURCES
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    if sources != packed:
        sys.exit(f"missing from the wheel: {sources - packed}; unexpected: {packed - sources}")
    print(f"{wheel.name} holds all {len(sources)} files of the sources")


def main(scratch: Path) -> None:
    shutil.rmtree(scratch, ignore_errors=True)
    wheel = build(scratch / "dist")
    check_files(wheel)
    clean = scratch / "clean"
    venv.create(clean, with_pip=True)
    python = clean / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    # In the scratch directory, so that nothing but the installed wheel can be imported.
    run(python, "-W", "error", ROOT / "tests" / "wheel" / "check.py", cwd=scratch)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
