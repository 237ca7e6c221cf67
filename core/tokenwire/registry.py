"""From a URL to a backend, through the entry-point group ``tokenwire.backends``.

An entry point's name is a URL scheme; its value is a class (or function) with `from_url`, or a
callable that takes the URL and the options. Another package adds a backend by declaring one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tokenwire._plugins import plugins
from tokenwire._urls import looks_like_an_address, split_url
from tokenwire.backend import Backend
from tokenwire.errors import MissingExtra, UnknownScheme

__all__ = ["backend_schemes", "open_backend", "register_backend"]

GROUP = "tokenwire.backends"
_EXTRAS = {"redis": "redis", "rediss": "redis", "unix": "redis", "ably": "ably"}
_registered: dict[str, Callable[..., Backend]] = {}


def register_backend(scheme: str, factory: Callable[..., Backend]) -> None:
    """Have `factory(url, **options)` open URLs of `scheme`, in this process."""
    _registered[scheme] = factory


def backend_schemes() -> list[str]:
    """The URL schemes that can be opened, whether or not what they need is installed."""
    return sorted({"memory", *_registered, *plugins(GROUP)})


def open_backend(url: str, **options: Any) -> Backend:
    """Open the backend that `url` names.

    :param options: passed on to the backend.
    :raises UnknownScheme: when no installed package handles the URL's scheme.
    :raises MissingExtra: when the backend's own dependency is missing.
    :raises ValueError: when the rest of the URL, or an option, is wrong.
    """
    scheme = split_url(url).scheme
    if looks_like_an_address(url) and "://" not in url:
        raise UnknownScheme(f"a backend URL begins with a scheme: redis://{url}, say")
    factory = _registered.get(scheme) or _find(scheme, url)
    from_url = getattr(factory, "from_url", factory)
    backend = from_url(url, **options)
    if not isinstance(backend, Backend):
        raise TypeError(
            f"the {scheme!r} entry point returned {type(backend).__name__}, not a Backend"
        )
    return backend


def _find(scheme: str, url: str) -> Any:
    if scheme == "memory":
        from tokenwire.memory import MemoryBackend

        return MemoryBackend
    point = plugins(GROUP).get(scheme)
    if point is None:
        scheme = scheme if "://" in url else ""  # else it may be a user's name
        known = ", ".join(f"{name}://" for name in backend_schemes())
        shown = f"{scheme}://" if scheme else "a URL without a scheme, such as redis://"
        raise UnknownScheme(f"no backend for {shown}; known are {known}")
    try:
        return point.load()
    except ImportError as error:
        extra = _EXTRAS.get(scheme.partition("+")[0])
        hint = f': pip install "tokenwire[{extra}]"' if extra else f": {error}"
        raise MissingExtra(f"{scheme}:// needs a package that is not installed{hint}") from error
