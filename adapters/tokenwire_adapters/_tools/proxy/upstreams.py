"""Named upstreams: which server a request's path leads to, and what the path is there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tokenwire_adapters._tools.proxy.errors import ProxyError

__all__ = ["Upstream", "Upstreams", "split_upstream"]

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_VERSION = re.compile(r"/v\d+(?:(?:alpha|beta)\d*)?$")
_DOT_SEGMENT = re.compile(r"/(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Upstream:
    """A server of models.

    Where the URL ends with a version (``https://api.openai.com/v1``), every path is below it,
    whether the client's path begins with that version, has it twice, or not at all. Any other URL
    is put before the path as it is.

    :ivar name: the first segment of the paths that lead there.
    :ivar url: ``http`` or ``https``, without user, query and fragment.
    :raises ValueError: when either cannot be one.
    """

    name: str
    url: str
    origin: str = field(init=False)
    _path: str = field(init=False, repr=False)
    _version: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or _VERSION.fullmatch(f"/{self.name}"):
            raise ValueError(
                f"{self.name!r} cannot name an upstream: a letter, then letters, digits, - and _"
            )
        try:
            parts = urlsplit(self.url)
            valid = parts.scheme in ("http", "https") and bool(parts.hostname)
            _ = parts.port
        except ValueError:
            valid = False
            parts = urlsplit("")
        if not valid or "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError(
                f"the URL of upstream {self.name!r} must be http://HOST or https://HOST, with a"
                " port and a path if need be: no user, password, query or fragment"
            )
        path = parts.path.rstrip("/")
        version = _VERSION.search(path)
        object.__setattr__(self, "origin", f"{parts.scheme}://{parts.netloc}")
        object.__setattr__(self, "_version", version[0] if version else "")
        object.__setattr__(self, "_path", path.removesuffix(self._version))

    @property
    def host(self) -> str:
        """What the ``Host`` header says there."""
        return self.origin.partition("://")[2]

    @property
    def version(self) -> str:
        """The version that the URL ends with, as ``/v1``; else empty."""
        return self._version

    def target(self, path: str) -> str:
        """The path there of a request for `path`, which is percent-encoded and may be empty."""
        version = self._version
        if version and path not in ("", "/"):
            while path.startswith(f"{version}/") or path == version:
                path = path[len(version) :]
            path = version + path
        return self._path + path or "/"


def split_upstream(text: str) -> Upstream:
    """Read ``NAME=URL``.

    :raises ValueError: when it is not that.
    """
    name, equals, url = text.partition("=")
    if not equals:
        raise ValueError("an upstream is given as NAME=URL, as openai=https://api.openai.com")
    return Upstream(name, url)


class Upstreams:
    """The upstreams of one proxy, by name.

    :param urls: their URLs by name.
    :param default: the name of the one for paths that begin with no name; by default the only one
        that there is.
    :raises ValueError: when there is none, when a name or a URL cannot be one, or when no upstream
        has the name `default`.
    """

    def __init__(self, urls: Mapping[str, str], default: str | None = None) -> None:
        if not urls:
            raise ValueError("name at least one upstream, as openai=https://api.openai.com")
        self._by_name = {name: Upstream(name, url) for name, url in urls.items()}
        if default is not None and default not in self._by_name:
            raise ValueError(f"no upstream has the name {default!r}")
        if default is None and len(urls) == 1:
            default = next(iter(urls))
        self._default = default

    def __iter__(self) -> Iterator[Upstream]:
        return iter(self._by_name.values())

    def find(self, path: str) -> tuple[Upstream, str]:
        """Return the upstream of a request, and the path there.

        :param path: percent-encoded, without the query.
        :raises ProxyError: when it leads nowhere.
        """
        if not path.startswith("/") or _DOT_SEGMENT.search(path):
            raise ProxyError(
                400, "bad_path", "the path must begin with / and have no . or .. segments"
            )
        name, slash, rest = path[1:].partition("/")
        upstream = self._by_name.get(name)
        if upstream is not None:
            return upstream, upstream.target(slash + rest)
        if self._default is not None:
            upstream = self._by_name[self._default]
            return upstream, upstream.target(path)
        names = ", ".join(f"/{name}/" for name in self._by_name)
        raise ProxyError(404, "unknown_upstream", f"the path must begin with one of {names}")
