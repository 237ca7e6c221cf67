"""URLs of backends and gateways on the command line."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

__all__ = ["is_gateway", "named_url", "shown"]


def named_url(url: str | None) -> str:
    """The URL given, else ``$TOKENWIRE_URL``, else ``memory://``."""
    return url or os.environ.get("TOKENWIRE_URL") or "memory://"


def is_gateway(url: str) -> bool:
    """Whether a URL is that of a gateway rather than of a backend."""
    return urlsplit(url).scheme in ("http", "https")


def shown(url: str) -> str:
    """A URL without its secrets: no user, no password, no query."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(a URL that cannot be read)"
    secret = "***@" if "@" in parts.netloc else ""
    return f"{parts.scheme}://{secret}{host}{port}{parts.path}"
