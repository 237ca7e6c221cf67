"""What relies on private parts of OpenAI's SDK. Read against openai 2.54 and 3.57.

https://github.com/openai/openai-python/blob/main/src/openai/resources/realtime/realtime.py
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["CONNECT", "client_of", "connection_managers", "socket_of"]

_MANAGERS = {
    "openai.resources.realtime.realtime": "Realtime",
    "openai.resources.responses.responses": "Responses",
    "openai.resources.beta.realtime.realtime": "Realtime",
    "openai.resources.beta.responses.responses": "Responses",
}

CONNECT = "_connect_ws"
"""The method by which a manager opens its WebSocket, also again after it was lost."""


def connection_managers() -> tuple[type, ...]:
    """What ``.connect()`` of each API returns: the classes that this release of the SDK has."""
    managers: list[type] = []
    for module, name in _MANAGERS.items():
        try:
            resource = importlib.import_module(module)
        except ImportError:
            continue
        for prefix in ("", "Async"):
            manager = getattr(resource, f"{prefix}{name}ConnectionManager", None)
            if manager is not None:
                managers.append(manager)
    return tuple(managers)


def client_of(manager: Any) -> Any:
    """The client that made the manager of a connection; None where it cannot be found."""
    return getattr(manager, f"_{type(manager).__name__}__client", None)


def socket_of(connection: Any) -> Any:
    """The connection of `websockets` that an SDK's connection reads."""
    return connection._connection
