"""`TokenwireMiddleware`: the current channel and run of every request of a web app."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, TypeAlias
from urllib.parse import parse_qsl
from uuid import UUID

from tokenwire import context
from tokenwire._ids import check_name, new_id
from tokenwire.errors import InvalidName
from tokenwire_adapters._web.gateway.asgi import Receive, Scope, Send, header_of
from tokenwire_adapters._web.gateway.cookies import cookies_of

__all__ = ["TokenwireMiddleware"]

logger = logging.getLogger("tokenwire.gateway")

Finder: TypeAlias = Callable[[Scope], str | None]
_FIELD = re.compile(r"\{([a-z_]+)\}")


class TokenwireMiddleware:
    """Sets the channel and the run for whatever a request makes an agent write. Pure ASGI.

    Context variables carry both into handlers, into threads that the framework runs them in, and
    into streaming bodies.

    :param channel: where the name of the channel comes from: a function of the ASGI scope, or
        ``"header:NAME"``, ``"query:NAME"``, ``"cookie:NAME"`` or ``"path:/chats/{channel}/reply"``.
        None leaves the channel to what names it otherwise. What comes from a client is as
        trustworthy as the client: check that it may write there.
    :param run: the same for the run; by default every request is a run of its own, with ``""`` of
        none.
    :param metadata: a function of the ASGI scope to fields of every response that the request makes
        an agent write, such as its user (see `Gateway(owner=…)`). Watchers see them.
    """

    def __init__(
        self,
        app: Callable[..., object],
        *,
        channel: str | Finder | None = None,
        run: str | Finder | None = None,
        metadata: Callable[[Scope], Mapping[str, Any] | None] | None = None,
    ) -> None:
        self._app = app
        self._channel = None if channel is None else _finder(channel)
        if metadata is not None and not callable(metadata):
            raise ValueError("metadata= takes a function of the ASGI scope")
        self._metadata = metadata
        self._run: Finder | None
        if run is None:
            self._run = _new_run
        else:
            self._run = None if run == "" else _finder(run)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: Callable[[Scope, Receive, Send], Any] = self._app
        if scope["type"] not in ("http", "websocket"):
            await app(scope, receive, send)
            return
        with ExitStack() as stack:
            run = _found(self._run, scope, "run")
            channel = _found(self._channel, scope, "channel")
            if channel is not None:
                stack.enter_context(context.channel(channel))
            if run is not None:
                stack.enter_context(context.run(run))
            fields = self._fields(scope)
            if fields:
                stack.enter_context(context.metadata(**fields))
            await app(scope, receive, send)

    def _fields(self, scope: Scope) -> dict[str, Any]:
        """The metadata of a request; never raises, since the app must not be harmed."""
        try:
            fields = None if self._metadata is None else self._metadata(scope)
            return {str(name): value for name, value in (fields or {}).items()}
        except Exception:
            logger.warning("tokenwire: finding the metadata of a request failed", exc_info=True)
            return {}


def _new_run(scope: Scope) -> str:
    _ = scope
    return new_id("run-")


def _found(finder: Finder | None, scope: Scope, what: str) -> str | None:
    """What `finder` finds; never raises, since the app must not be harmed."""
    if finder is None:
        return None
    try:
        value: Any = finder(scope)
        if not value:
            return None
        return check_name(str(value) if isinstance(value, UUID) else value, what)
    except InvalidName as error:
        logger.warning("tokenwire: %s; the request sets none", error)
    except Exception:
        logger.warning("tokenwire: finding the %s of a request failed", what, exc_info=True)
    return None


def _finder(source: str | Finder) -> Finder:
    """Understand where a name comes from. :raises ValueError: when that cannot be understood."""
    if callable(source):
        return source
    kind, colon, name = source.partition(":")
    makers: dict[str, Callable[[str], Finder]] = {
        "header": _header,
        "query": _query,
        "cookie": _cookie,
        "path": _path,
    }
    if not colon or not name or kind not in makers:
        raise ValueError(
            "channel= and run= take a function, 'header:NAME', 'query:NAME', 'cookie:NAME' or"
            f" 'path:/pattern/{{channel}}', not {source!r}"
        )
    return makers[kind](name)


def _header(name: str) -> Finder:
    key = name.lower().encode("latin-1")
    return lambda scope: header_of(scope, key)


def _query(name: str) -> Finder:
    def find(scope: Scope) -> str | None:
        text: str = scope.get("query_string", b"").decode("latin-1")
        return dict(parse_qsl(text, max_num_fields=100)).get(name)

    return find


def _cookie(name: str) -> Finder:
    def find(scope: Scope) -> str | None:
        headers = scope.get("headers", ())
        return cookies_of(value for key, value in headers if key == b"cookie").get(name)

    return find


def _path(pattern: str) -> Finder:
    fields = _FIELD.findall(pattern)
    if len(fields) != 1 or not pattern.startswith("/"):
        raise ValueError(f"a path pattern begins with / and has one {{field}}: {pattern!r}")
    before, _, after = pattern.partition("{" + fields[0] + "}")
    expression = re.compile(f"{re.escape(before)}([^/]+){re.escape(after)}")

    def find(scope: Scope) -> str | None:
        path: str = scope["path"]
        match = expression.fullmatch(path)
        return None if match is None else match[1]

    return find
