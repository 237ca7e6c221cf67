"""Limits of the gateway, and the counting behind them."""

from __future__ import annotations

import time
from collections import OrderedDict

import msgspec

from tokenwire_adapters._web.gateway.problems import Problem

__all__ = ["Counts", "Limits", "Rates"]

_MAX_KEYS = 20_000


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one gateway (one process) takes. Rates are per second; sizes in bytes; times in seconds.

    :ivar connections: open event streams and sockets in all; more are answered 503.
    :ivar connections_per_client: of one address; `connections_per_principal`: of one principal,
        where there is one. More are answered 429.
    :ivar channels_per_socket: subscriptions on one WebSocket.
    :ivar pending_per_socket: requests of one socket that are worked on at a time.
    :ivar message_bytes: the largest WebSocket message that a client may send.
    :ivar input_bytes: the largest body of an HTTP request.
    :ivar url_bytes: path and query; `header_bytes`: all headers together.
    :ivar request_rate: HTTP requests and WebSocket messages of one client, with `request_burst`.
    :ivar input_rate: inputs and cancels of one client, with `input_burst`.
    :ivar page: the most responses that one page of history has.
    :ivar body_timeout: how long a request's body may take to arrive.
    :ivar auth_timeout: how long a socket may wait with its `auth` message.
    :ivar idle_timeout: how long a socket may be open without subscription or message.
    :ivar send_timeout: how long a client may take to read what was sent before it is dropped.
    :ivar keep_alive: how long nothing may be sent before a comment, or a ping, is.
    :ivar cancel_timeout: how long a cancel waits for its producer.
    :ivar gather: how long events may gather before they are sent, which they do only while the
        event loop is busy with sending; 0 sends each as soon as it comes, whatever the load.
    """

    connections: int = 10_000
    connections_per_client: int = 200
    connections_per_principal: int = 50
    channels_per_socket: int = 64
    pending_per_socket: int = 16
    message_bytes: int = 64 * 1024
    input_bytes: int = 64 * 1024
    url_bytes: int = 8 * 1024
    header_bytes: int = 32 * 1024
    request_rate: float = 50.0
    request_burst: int = 200
    input_rate: float = 5.0
    input_burst: int = 20
    page: int = 100
    body_timeout: float = 10.0
    auth_timeout: float = 10.0
    idle_timeout: float = 60.0
    send_timeout: float = 30.0
    keep_alive: float = 15.0
    cancel_timeout: float = 10.0
    gather: float = 0.05

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
                raise ValueError(f"the limit {name} must be a number above 0, not {value!r}")
            if value == 0 and name != "gather":
                raise ValueError(f"the limit {name} must be a number above 0")
        if self.gather > 1:
            raise ValueError("the limit gather must be at most 1 second")
        if self.page > 1000:
            raise ValueError("the limit page must be at most 1000")


class Rates:
    """Token buckets, one for each key; the least recently used are evicted."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def require(self, key: str, what: str, rate: float, burst: float) -> None:
        """Take one.

        :param what: what it is for, for the error.
        :param rate: how many a second.
        :param burst: how many at once.
        :raises Problem: ``rate_limited`` when there is none.
        """
        now, burst = time.monotonic(), max(1.0, float(burst))
        level, since = self._buckets.get(key, (burst, now))
        level = min(burst, level + (now - since) * rate)
        wait = 0.0 if level >= 1 else (1 - level) / rate
        self._buckets[key] = (level if wait else level - 1, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > _MAX_KEYS:
            self._buckets.popitem(last=False)
        if wait:
            raise Problem("rate_limited", f"too many {what}; slow down", retry_after=wait)


class Counts:
    """Counts of what is open, by key."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def add(self, key: str, limit: int) -> bool:
        """Count one more, unless there are `limit` already."""
        have = self._open.get(key, 0)
        if have >= limit:
            return False
        self._open[key] = have + 1
        return True

    def remove(self, key: str) -> None:
        """Count one less."""
        have = self._open.get(key, 0) - 1
        if have > 0:
            self._open[key] = have
        else:
            self._open.pop(key, None)

    def __len__(self) -> int:
        return len(self._open)
