"""Which sites' pages may talk to the gateway (the Fetch standard's CORS protocol, RFC 6454)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

__all__ = ["Origins", "authority_of", "host_name"]

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_METHODS = b"GET, HEAD, POST"
_REQUEST_HEADERS = b"Authorization, Content-Type, Last-Event-ID, Cache-Control"


class Origins:
    """The origins that are allowed besides the gateway's own.

    :param allowed: exact origins: scheme, host, and port where it is not the scheme's own.
    :raises ValueError: for what is not an origin; ``*`` among them.
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        if isinstance(allowed, str):
            raise ValueError("allow_origins is a list of origins, not one string")
        self.allowed = frozenset(_checked(origin) for origin in allowed)

    def allows(self, origin: str) -> bool:
        """Whether `origin` is on the list."""
        return origin in self.allowed

    def headers(self, origin: str | None) -> list[tuple[bytes, bytes]]:
        """The headers of every response to a request from `origin`."""
        if not self.allowed:
            return []
        vary = [(b"vary", b"Origin")]
        if origin is None or origin not in self.allowed:
            return vary
        return [
            *vary,
            (b"access-control-allow-origin", origin.encode()),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", b"Retry-After, Tokenwire-User, Tokenwire-Rights"),
        ]

    def preflight(self, origin: str | None) -> list[tuple[bytes, bytes]]:
        """The headers of the answer to a preflight request."""
        headers = self.headers(origin)
        if origin is None or origin not in self.allowed:
            return headers
        return [
            *headers,
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _REQUEST_HEADERS),
            (b"access-control-max-age", b"600"),
        ]


def _checked(origin: str) -> str:
    if origin == "*" or not _ORIGIN.fullmatch(origin):
        raise ValueError(
            f"allow_origins takes exact origins such as 'https://app.example.com', not {origin!r}"
        )
    scheme, _, rest = origin.partition("://")
    host, colon, port = rest.rpartition(":")
    if colon and not rest.endswith("]") and port == str(_PORTS.get(scheme)):
        return f"{scheme}://{host}"  # as browsers send it
    return origin


def authority_of(origin: str) -> tuple[str, int | None] | None:
    """Host and port of an origin; None where it is none (``null`` for one)."""
    try:
        parts = urlsplit(origin.lower())
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname or parts.username is not None:
        return None
    return parts.hostname, port or _PORTS.get(parts.scheme)


def host_name(host: str) -> str:
    """The name in a `Host` header, without its port."""
    authority = authority_of(f"http://{host}")
    return authority[0] if authority else ""
