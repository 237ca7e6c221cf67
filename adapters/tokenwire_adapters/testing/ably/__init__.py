"""A local Ably for tests: realtime and REST over real sockets, with faults on command.

It is a test double, not a product: what it follows and what it leaves out is in README.md
beside this file. ``async with AblyServer() as server`` in a test's own event loop,
``with ServerThread() as thread`` beside it, ``python -m tokenwire_adapters.testing.ably`` in a
process.
"""

from __future__ import annotations

from tokenwire_adapters.testing.ably._auth import Capability, Key
from tokenwire_adapters.testing.ably._errors import AblyError, ErrorInfo
from tokenwire_adapters.testing.ably._faults import Faults
from tokenwire_adapters.testing.ably._server import AblyServer
from tokenwire_adapters.testing.ably._settings import Settings
from tokenwire_adapters.testing.ably._thread import ServerThread

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
