"""What a connection keeps while its transports come and go (CD2f, RTN15g)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import TypeAlias

from tokenwire_adapters.testing.ably._acks import Outcomes
from tokenwire_adapters.testing.ably._auth import Principal
from tokenwire_adapters.testing.ably._channel import Publisher
from tokenwire_adapters.testing.ably._limits import InboundRate
from tokenwire_adapters.testing.ably._message import Operation
from tokenwire_adapters.testing.ably._rollup import Rollup
from tokenwire_adapters.testing.ably._settings import Settings

__all__ = ["ConnectionState"]

PublishAppend: TypeAlias = Callable[[str, Operation, Publisher], str | None]
"""Publishes an append on a channel by name; returns the serial of the new version."""


class ConnectionState:
    """State of a connection that outlives its transports, for a time (CD2f, RTN15g)."""

    def __init__(
        self, settings: Settings, principal: Principal, window: float, publish: PublishAppend
    ) -> None:
        self.id = secrets.token_urlsafe(8).replace("_", "x").replace("-", "y")
        self.key = self._new_key()
        self.principal = principal
        self.outcomes = Outcomes()
        self.rate = InboundRate(settings.inbound_rate)
        self.rollup = Rollup(window, self._publish_append)
        self.timers: list[asyncio.TimerHandle] = []
        self._publish = publish

    def _new_key(self) -> str:
        return f"{self.id}!{secrets.token_hex(8)}"

    def renew_key(self) -> None:
        """Give the connection the new key that each transport gets (RTN15e)."""
        self.key = self._new_key()

    @property
    def publisher(self) -> Publisher:
        """The publisher of this connection's messages. A wildcard is no identity."""
        client_id = self.principal.client_id
        return Publisher(self.id, None if client_id == "*" else client_id)

    def _publish_append(self, channel: str, operation: Operation) -> str | None:
        self.rate.spend(1)
        return self._publish(channel, operation, self.publisher)

    def stop_timers(self) -> None:
        """Stop the timers that end a connection without a transport."""
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()
