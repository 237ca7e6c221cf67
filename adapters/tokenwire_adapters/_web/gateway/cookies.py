"""Cookies of a request, parsed in linear time."""

from __future__ import annotations

import re
from collections.abc import Iterable

from starlette.requests import HTTPConnection

__all__ = ["Connection", "cookies_of"]

_ESCAPE = re.compile(r"\\(?:([0-3][0-7][0-7])|(.))")


class Connection(HTTPConnection):
    """Starlette's connection, for `authorize`, with `cookies` that are parsed in linear time.

    Starlette (1.0 and older) unquotes them by `http.cookies`, which takes quadratic time for many
    backslashes (CVE-2024-7592, in Python before 3.11.10 and 3.12.6).
    """

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name."""
        return cookies_of(value for name, value in self.scope["headers"] if name == b"cookie")


def cookies_of(headers: Iterable[bytes]) -> dict[str, str]:
    """Parse the `Cookie` headers of a request, leniently; of two of one name, the later counts."""
    cookies: dict[str, str] = {}
    for header in headers:
        for pair in header.decode("latin-1").split(";"):
            name, equals, value = pair.partition("=")
            if equals:
                cookies[name.strip()] = _unquoted(value.strip())
    return cookies


def _unquoted(value: str) -> str:
    """The value of a cookie without its quotes, in which a backslash escapes."""
    if len(value) < 2 or not value.startswith('"') or not value.endswith('"'):
        return value
    # As Python writes cookies: \" is a quote, \054 (octal) a comma.
    return _ESCAPE.sub(lambda m: chr(int(m[1], 8)) if m[1] else m[2], value[1:-1])
