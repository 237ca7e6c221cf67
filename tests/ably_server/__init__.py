"""A local Ably for tests: realtime and REST over real sockets, with faults on command.

It is a test double, not a product: what it follows and what it leaves out is in README.md
beside this file. ``async with AblyServer() as server`` in a test's own event loop,
``with ServerThread() as thread`` beside it, ``python -m tests.ably_server`` in a process.
"""

from __future__ import annotations

from .auth import Capability, Key
from .errors import AblyError, ErrorInfo
from .faults import Faults
from .server import AblyServer
from .settings import Settings
from .thread import ServerThread

__all__ = [
    "AblyError",
    "AblyServer",
    "Capability",
    "ErrorInfo",
    "Faults",
    "Key",
    "ServerThread",
    "Settings",
]
