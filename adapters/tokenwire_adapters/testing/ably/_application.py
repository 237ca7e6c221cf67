"""One application: what all connections and requests of a server share."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from tokenwire_adapters.testing.ably._auth import Auth, Key, Principal
from tokenwire_adapters.testing.ably._channel import Channel, Publisher
from tokenwire_adapters.testing.ably._errors import ErrorInfo
from tokenwire_adapters.testing.ably._message import Operation
from tokenwire_adapters.testing.ably._protocol import Wire
from tokenwire_adapters.testing.ably._serials import SerialClock
from tokenwire_adapters.testing.ably._settings import Settings
from tokenwire_adapters.testing.ably._state import ConnectionState

__all__ = ["Application", "Client", "channel_of", "close_connection", "open_connection"]


class Client(Protocol):
    """A connected client, as the application and the faults reach it."""

    @property
    def state(self) -> ConnectionState: ...

    def send(self, frame: Wire) -> None: ...

    def disconnect(self, error: ErrorInfo) -> None: ...

    def abort(self) -> None: ...

    def apply_faults(self) -> None: ...


class Application:
    """Keys, settings, channels, connections and counters."""

    def __init__(self, keys: list[Key], settings: Settings) -> None:
        self.settings = settings
        self.auth = Auth(keys, settings)
        self.channels: dict[str, Channel] = {}
        self.sessions: set[Client] = set()
        self.connections: dict[str, ConnectionState] = {}
        self.stats: Counter[str] = Counter()
        self.clock = SerialClock()


def channel_of(application: Application, name: str) -> Channel:
    """Return a channel; it is created when it is first used."""
    if name not in application.channels:
        application.channels[name] = Channel(name, application.settings, application.clock)
    return application.channels[name]


def open_connection(
    application: Application, principal: Principal, window: float
) -> ConnectionState:
    """Create the state of a new connection; `window` is its rollup window in seconds."""

    def publish(channel: str, operation: Operation, publisher: Publisher) -> str | None:
        application.stats["published"] += 1
        return channel_of(application, channel).publish([operation], publisher)[0]

    state = ConnectionState(application.settings, principal, window, publish)
    application.connections[state.id] = state
    return state


def close_connection(application: Application, state: ConnectionState) -> None:
    """Dispose of a connection: it cannot be resumed, and its members leave (RTN12)."""
    application.connections.pop(state.id, None)
    state.stop_timers()
    state.rollup.flush_all()
    for channel in application.channels.values():
        channel.drop_members(state.id)
