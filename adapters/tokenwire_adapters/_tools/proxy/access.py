"""Who may use the proxy: clients on this machine, or whom `authorize` lets."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any, TypeAlias

from starlette.requests import HTTPConnection

from tokenwire_adapters._tools.proxy.errors import ProxyError
from tokenwire_adapters._tools.proxy.hosts import is_loopback

__all__ = ["Authorize", "check_access"]

logger = logging.getLogger("tokenwire.proxy")

Authorize: TypeAlias = Callable[[HTTPConnection, str, str | None], Any]
"""``authorize(connection, upstream, channel)``, sync or async: True, or anything but None and
False, to allow."""


async def check_access(
    authorize: Authorize | None, connection: HTTPConnection, upstream: str, channel: str | None
) -> None:
    """Check that a client may use an upstream.

    :param channel: what the client asks for by a header; None where it asks for none.
    :raises ProxyError: when it may not.
    """
    if authorize is None:
        _check_local(connection)
        return
    try:
        answer = await _call(authorize, connection, upstream, channel)
    except PermissionError:
        answer = None
    except Exception as error:
        logger.exception("tokenwire proxy: authorize failed")
        raise ProxyError(500, "internal", "authorization failed") from error
    if answer is None or answer is False:
        raise ProxyError(403, "forbidden", f"not allowed to use upstream {upstream!r}")


def _check_local(connection: HTTPConnection) -> None:
    """Check the address, and ``Host``, which a page of a site that resolves to 127.0.0.1 has wrong.

    :raises ProxyError: when either is not of this machine.
    """
    client = connection.client.host if connection.client is not None else ""
    if not is_loopback(client) or not is_loopback(connection.url.hostname or ""):
        raise ProxyError(
            403,
            "forbidden",
            "this proxy has no authorize=, so it answers only clients of its own machine that name"
            " it in Host (localhost, 127.0.0.1)",
        )


async def _call(authorize: Authorize, *arguments: Any) -> Any:
    """Call a function that may be async, or block."""
    if inspect.iscoroutinefunction(authorize):
        return await authorize(*arguments)
    answer: Any = await asyncio.to_thread(authorize, *arguments)
    return await answer if inspect.isawaitable(answer) else answer
