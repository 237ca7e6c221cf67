"""The files of the demo's page, and the headers they are sent with."""

from __future__ import annotations

from importlib import resources
from pathlib import PurePath

from starlette.responses import Response

__all__ = ["PAGES", "page_response"]

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FOLDER = resources.files("tokenwire_adapters") / "_static" / "demo"

PAGES = {
    file.name: _TYPES[suffix]
    for file in _FOLDER.iterdir()
    if (suffix := PurePath(file.name).suffix) in _TYPES
}
"""The content type of each file, by its name."""

# Nothing inline, nothing from other sites; trusted types make the browser refuse `innerHTML` and
# the like. WebSockets are listed, since not every browser counts them as 'self'.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self' ws://{host}; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


def page_response(name: str, host: str) -> Response:
    """One file of the page, which is served at `host` (with its port)."""
    body = (_FOLDER / name).read_bytes()
    return Response(
        body,
        media_type=PAGES[name],
        headers={
            "content-security-policy": _POLICY.format(host=host),
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-opener-policy": "same-origin",
            "cache-control": "no-cache",
        },
    )
