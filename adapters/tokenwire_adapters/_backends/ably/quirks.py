"""Workarounds for ably-python 3.1.4; each says which of its files it depends on.

They reach into its private attributes and replace methods of single objects, never of classes:
a user's own clients are not affected.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ably import AblyRest
from ably.http.paginatedresult import PaginatedResult
from ably.types.message import Message

__all__ = [
    "attach_serial",
    "cancel_connect_attempt",
    "close_client",
    "forget_error_reason",
    "message_page",
    "repair_client",
    "state_of",
    "without_port",
]


def state_of(owner: Any) -> str:
    """The state of a connection, a channel or a state change, as a string."""
    state = getattr(owner, "state", None) or owner.current
    return str(getattr(state, "value", state))


def repair_client(client: Any, port: int | None) -> None:
    """Change how a new realtime client handles lost connections and ports.

    :param port: a port of its own, if there is one.
    """
    manager = client.connection.connection_manager

    # ably/realtime/connectionmanager.py, `check_connection`: before it tries a fallback host, it
    # makes a blocking HTTP request for whether there is internet. Trying the host says as much.
    def has_internet() -> bool:
        return True

    manager.check_connection = has_internet
    original = manager.on_disconnected

    # ably/realtime/connectionmanager.py, `on_disconnected`: with a status of 500 to 504 it goes on
    # saying that it is connected, and tries fallback hosts, or nothing at all.
    async def on_disconnected(error: Any) -> None:
        if error is not None and 500 <= error.status_code <= 504:
            error.status_code = 400
        await original(error)

    manager.on_disconnected = on_disconnected
    if port:
        # Realtime connections want the port in the host (ably/realtime/connectionmanager.py,
        # `connect_base`), HTTP requests for tokens beside it (ably/http/http.py, `get_hosts`).
        hosts = client.options.get_hosts
        client.http.get_hosts = lambda: [without_port(host) for host in hosts()]


def without_port(host: str) -> str:
    """A host name without the port that it may end with."""
    return re.sub(r":\d+$", "", host)


def forget_error_reason(client: Any) -> None:
    """Forget why an earlier connection was lost.

    ably/realtime/connectionmanager.py, `on_token_error`: where the earlier reason was a token, it
    does not renew the next token that expires.
    """
    client.connection.connection_manager._ConnectionManager__error_reason = None


def cancel_connect_attempt(client: Any) -> None:
    """End an attempt to connect that waits forever.

    ably/realtime/connectionmanager.py, `try_host`: it waits for the transport without a timeout.
    """
    attempt = client.connection.connection_manager.connect_base_task
    if attempt is not None:
        attempt.cancel()


def attach_serial(channel: Any) -> str | None:
    """The channel serial at which a realtime channel was attached, for history until then.

    ably/realtime/channel.py, `_on_message`: it is stored, but there is no public access to it.
    """
    serial = getattr(channel, "_RealtimeChannel__attach_serial", None)
    return serial if isinstance(serial, str) else None


async def close_client(client: Any) -> None:
    """Close a realtime client in any state; errors are ignored."""
    with suppress(Exception):
        transport = client.connection.connection_manager.transport
        if transport is not None and transport.websocket is None:
            # ably/transport/websockettransport.py, `send`: it would raise, in a task whose error
            # asyncio then logs.
            transport.close = _do_nothing
        if state_of(client.connection) in ("failed", "closed"):
            await AblyRest.close(client)  # its HTTP client only
        else:
            await client.close()


async def _do_nothing() -> None:
    pass


async def message_page(client: Any, path: str) -> Any:
    """Request a page of messages with any query parameters.

    ably/rest/channel.py, `history`: it has no parameter for `from_serial`.
    """
    query: Any = getattr(PaginatedResult, "paginated_query")  # noqa: B009 - it has no types
    return await query(client.http, url=path, response_processor=_decode_messages)


def _decode_messages(response: Any) -> Sequence[Any]:
    decode: Any = getattr(Message, "from_encoded_array")  # noqa: B009 - it has no types
    messages: Sequence[Any] = decode(response.to_native())
    return messages
