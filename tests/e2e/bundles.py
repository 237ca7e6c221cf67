"""Pages made of npm's packages, bundled as their authors would."""

from __future__ import annotations

import hashlib
import os
import subprocess
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tests.support.nodejs import Node, node_with

__all__ = ["axe", "bundle", "page_routes"]

_FOLDER = Path(__file__).parent / "pages"
_OPTIONS = (
    "--bundle",
    "--format=esm",
    "--jsx=automatic",
    "--charset=utf8",
    "--loader:.css=empty",
    "--minify-whitespace",
    "--log-level=warning",
    # React's own checks, and effects that run twice, are on in this build of it alone.
    '--define:process.env.NODE_ENV="development"',
)


def _node(folder: Path = _FOLDER) -> Node:
    return node_with(folder / "package.json")


@cache
def bundle(page: str, *, before: str = "", **aliases: str) -> str:
    """The script of a page, with all it imports; the packages are those of the page's folder.

    :param before: JavaScript that stands before the page's own.
    :param aliases: packages to take in place of ``@ai-sdk/NAME``.
    """
    path = _FOLDER / page
    node = _node(path.parent)
    source = node.write(path.name, before.encode() + path.read_bytes())
    more = [f"--alias:@ai-sdk/{name}={package}" for name, package in aliases.items()]
    key = hashlib.sha256("\0".join([source.name, *_OPTIONS, *more]).encode()).hexdigest()[:16]
    target = node.folder / f"bundle-{key}.js"
    if not target.exists():
        partial = target.with_suffix(f".{os.getpid()}")
        esbuild = node.folder / "node_modules" / ".bin" / "esbuild"
        command = [str(esbuild), str(source), *_OPTIONS, *more, f"--outfile={partial}"]
        result = subprocess.run(
            command, cwd=node.folder, capture_output=True, text=True, timeout=120, check=False
        )
        assert result.returncode == 0, result.stderr
        partial.replace(target)
    return target.read_text(encoding="utf-8")


@cache
def axe() -> str:
    """The script of axe-core, which finds what keeps people from using a page."""
    return (_node().folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def page_routes(script: str, path: str = "/", *, body: str = "") -> list[Route]:
    """The routes of a page that runs a script on ``#root``.

    :param path: of the page; its script is ``/page.js``.
    :param body: what ``#root`` has before the script runs.
    """

    def html(request: Request) -> Response:
        # Characters of a bundle may be beyond ASCII: the page says what they are.
        head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Page</title>'
        root = f'<div id="root">{body}</div><script type="module" src="/page.js"></script>'
        return HTMLResponse(head + '<link rel="icon" href="data:,">' + root)

    def javascript(request: Request) -> Response:
        return Response(script, media_type="text/javascript")

    return [Route(path, html), Route("/page.js", javascript)]
