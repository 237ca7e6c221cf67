"""URLs of backends and gateways on the command line."""

from __future__ import annotations

import difflib
import os
import re
from urllib.parse import urlsplit

from tokenwire.registry import backend_schemes

__all__ = ["is_gateway", "named_url", "probably_meant", "shown"]


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


_REDIS_PORTS = {"6379": "redis", "6380": "rediss", "26379": "redis+sentinel"}
_WEB_PORTS = ("80", "443", "8000", "8080", "8443", "8765")
_OTHER_NAMES = {"valkey": "redis", "valkeys": "rediss", "wss": "https", "ws": "http"}
_URL = re.compile(r"(?:([\w.+-]+):(?=/|[^\d]))?/{0,2}([^?#]*)(?:[?#].*)?", re.ASCII)
_HOST = re.compile(r"(?:[\w.-]+|\[[0-9a-fA-F:.]+\])(?::[0-9]+)?", re.ASCII)


def probably_meant(url: str) -> str | None:
    """The URL that was probably meant by a wrong one; None where there is no guess.

    What may be a secret (user, password, query) is never in it.
    """
    match = _URL.fullmatch(url.strip())
    if match is None:
        return None
    scheme, rest = (match[1] or "").lower(), match[2].rpartition("@")[2].lstrip("/")
    host, _, path = rest.partition("/")
    port = host.rpartition(":")[2] if ":" in host else ""
    meant = _OTHER_NAMES.get(scheme, scheme)
    if port in _REDIS_PORTS and meant in ("", "http", "https"):
        meant = _REDIS_PORTS[port]
    elif port in _WEB_PORTS and meant in ("", "redis", "rediss"):
        meant = "https" if port in ("443", "8443") else "http"
    elif meant not in (known := [*backend_schemes(), "http", "https"]):
        near = difflib.get_close_matches(meant, known, n=1, cutoff=0.6) if meant else []
        meant = near[0] if near else "" if meant else "redis"
    # A key of Ably, or a password without an @ after it, would be in the guess.
    if not meant.startswith(("redis", "http")) or not _HOST.fullmatch(host):
        return None
    guess = f"{meant}://{host}" + (f"/{path}" if path else "")
    return None if guess == shown(url).replace("***@", "") or guess == url else guess
