"""A local Ably for tests: realtime and REST over real sockets, with faults on command.

Ably's own clients talk to it, without a key and without internet::

    async with AblyServer() as server, realtime(server) as client:  # in the test's event loop
        server.faults.disconnect_every(0.3)

    with ServerThread() as thread:  # beside a synchronous test
        thread.fault("nack_every", 10)

``python -m tokenwire_adapters.testing.ably`` runs it as a program. It is a test double, not a
product: docs/testing.md says what it follows and what it leaves out. The extra ``testing`` has
what it needs.
"""

from __future__ import annotations

try:
    from tokenwire_adapters.testing.ably._auth import Capability, Key
    from tokenwire_adapters.testing.ably._certificate import make_certificate
    from tokenwire_adapters.testing.ably._clients import Subscriber, realtime, rest
    from tokenwire_adapters.testing.ably._errors import AblyError, ErrorInfo
    from tokenwire_adapters.testing.ably._faults import Faults
    from tokenwire_adapters.testing.ably._server import AblyServer
    from tokenwire_adapters.testing.ably._settings import Settings
    from tokenwire_adapters.testing.ably._thread import ServerThread
except ImportError as error:
    raise ImportError('the local Ably needs: pip install "tokenwire[testing]"') from error

__all__ = [
    "AblyError",
    "AblyServer",
    "Capability",
    "ErrorInfo",
    "Faults",
    "Key",
    "ServerThread",
    "Settings",
    "Subscriber",
    "make_certificate",
    "realtime",
    "rest",
]
