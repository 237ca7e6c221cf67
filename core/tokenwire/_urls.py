"""Backend URLs: split without ever showing more of one than its scheme, its host and its port."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

__all__ = ["looks_like_an_address", "split_url"]

_ADDRESS = re.compile(r"[A-Za-z0-9.-]{1,253}:\d{1,5}(?:/\d{0,4})?", re.ASCII)
_ESCAPES = "write / as %2F, ? as %3F, # as %23 and @ as %40 in user names and passwords"


def split_url(url: str) -> SplitResult:
    """Split a backend URL.

    :raises ValueError: when it cannot be split, or its user name or password was cut short by a
        character that is to be escaped. The message, and what it was caused by, show nothing of it.
    :raises TypeError: when it is no string.
    """
    if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"a backend URL is a str, not {type(url).__name__}")
    parts = _split(url)
    if parts is None:
        raise ValueError(f"the backend URL cannot be read: {_ESCAPES}")
    if "#" in url or "@" in parts.path or "@" in parts.query:
        raise ValueError(f"the backend URL has # or a late @: {_ESCAPES}")
    return parts


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:  # it quotes the URL, so it must not even be the context of another error
        return None


def looks_like_an_address(url: str) -> bool:
    """Whether a URL is a host and a port, without a scheme before them."""
    return _ADDRESS.fullmatch(url) is not None
