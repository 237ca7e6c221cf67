"""The npm package as it is published, where scripts and bundlers find it by its name."""

from __future__ import annotations

import hashlib
import os
import subprocess
from functools import cache
from pathlib import Path

from tests.support.nodejs import Node, node_with

__all__ = ["ROOT", "build", "bundle", "esbuild", "run", "tools", "with_package"]

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
_OPTIONS = ("--bundle", "--format=esm", "--jsx=automatic", "--charset=utf8", "--log-level=warning")


def tools() -> Node:
    """Node, with the tools and frameworks of `package.json`."""
    return node_with(FOLDER / "package.json")


def run(
    *command: str | Path, cwd: Path | None = None, timeout: float = 120, **environment: str
) -> str:
    """Run a program to its end, and return what it wrote."""
    result = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "NO_COLOR": "1", **environment},
    )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    return result.stdout


def build(target: Path) -> Path:
    """Put the package together in a folder."""
    run(tools().executable, ROOT / "npm" / "build.mjs", target)
    return target


@cache
def with_package() -> Node:
    """A folder below that of `tools`, in which `tokenwire` is installed beside them.

    It is named by what it holds: checkouts that differ share no folder.
    """
    node = tools()
    scratch = node.folder / f"building-{os.getpid()}"
    build(scratch / "node_modules" / "tokenwire")
    digest = hashlib.sha256()
    for file in sorted((scratch / "node_modules" / "tokenwire").iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    folder = node.folder / f"with-{digest.hexdigest()[:16]}"
    try:
        scratch.rename(folder)
    except OSError:  # there already
        run("rm", "-r", scratch)
    return Node(node.executable, folder)


def esbuild(*arguments: str | Path) -> str:
    """Run esbuild; what it bundles may be anywhere."""
    packages = [with_package().folder / "node_modules", tools().folder / "node_modules"]
    program = packages[1] / ".bin" / "esbuild"
    return run(program, *arguments, NODE_PATH=os.pathsep.join(map(str, packages)))


@cache
def bundle(page: str, *more: str, before: str = "") -> str:
    """The script of a page of `pages`, with all that it imports.

    :param more: further options of esbuild.
    :param before: JavaScript that is put before the page's own.
    """
    source = FOLDER / "pages" / page
    if before:
        source = with_package().write(page, before.encode() + source.read_bytes())
    # React's own checks, and effects that run twice, are on in this build of it alone.
    define = '--define:process.env.NODE_ENV="development"'
    return esbuild(source, *_OPTIONS, define, *more)
