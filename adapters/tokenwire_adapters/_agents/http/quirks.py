"""What relies on private parts of HTTP clients: how their responses read bytes.

Read against urllib3 1.26.20 and 2.8.0 (``response.py``, ``HTTPResponse``), and aiohttp 3.14.5
(``streams.py``, ``StreamReader``; ``client.py``, ``ClientSession._request``):
https://github.com/urllib3/urllib3/blob/main/src/urllib3/response.py and
https://github.com/aio-libs/aiohttp/blob/master/aiohttp/streams.py.

A response that is recorded becomes an instance of a subclass of its own class. So it stays the
same object, and all others are untouched.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Generator
from typing import Any

from tokenwire.errors import ResponseCancelled
from tokenwire_adapters._agents.http.reply import Reply

__all__ = [
    "REQUEST",
    "record_aiohttp",
    "record_urllib3",
    "socket_of",
    "stop_aiohttp",
    "url_of",
]

REQUEST = "_request"
"""The method of ``aiohttp.ClientSession`` that all of its methods send requests by."""


class _Stopped(Exception):
    """A watcher has cancelled: nothing more is read."""


# -- urllib3


def record_urllib3(response: Any, reply: Reply) -> None:
    """Have `reply` take a copy of what a ``urllib3`` response reads, as it came over the wire."""
    response._tokenwire_reply = reply
    response.__class__ = _recorded(_RecordedUrllib3, type(response))


def socket_of(response: Any) -> Any:
    """The socket that a ``urllib3`` response is read from; None where there is none any more."""
    connection = response._connection
    sock = connection.sock if connection is not None else None
    if sock is not None:
        return sock
    reader = getattr(response._fp, "fp", None)  # of http.client
    return getattr(getattr(reader, "raw", None), "_sock", None)


class _RecordedUrllib3:
    """A response of which a copy is read."""

    def _fp_read(self: Any, *args: Any, **options: Any) -> Any:
        reply: Reply = self._tokenwire_reply
        if not reply.cancelled:
            reply.gi_running = True
            try:
                data = _base(self)._fp_read(*args, **options)
                if not reply.cancelled:
                    reply.feed(data)
                    return data
            except Exception:
                if not reply.cancelled:
                    raise
            finally:
                reply.gi_running = False
        self._tokenwire_stop()
        return b""

    def _update_chunk_length(self: Any) -> Any:
        reply: Reply = self._tokenwire_reply
        reply.gi_running = True
        try:
            return _base(self)._update_chunk_length()
        finally:
            reply.gi_running = False

    def _handle_chunk(self: Any, amt: Any) -> Any:
        reply: Reply = self._tokenwire_reply
        if not reply.cancelled:
            data = _base(self)._handle_chunk(amt)
            if not reply.cancelled:
                reply.feed(data)
                return data
        raise _Stopped

    @contextlib.contextmanager
    def _error_catcher(self: Any) -> Generator[None]:
        reply: Reply = self._tokenwire_reply
        try:
            with _base(self)._error_catcher():
                yield
        except ResponseCancelled:
            raise
        except Exception as error:
            if not reply.cancelled:
                reply.fail(error)
                raise
            self._tokenwire_stop()
        except BaseException:
            reply.close_soon()  # a generator was dropped, perhaps: locks may be held
            raise
        if self._original_response is None or self._original_response.isclosed():
            reply.end()

    def _tokenwire_stop(self: Any) -> None:
        """Close the connection, and end the body the way it was asked for."""
        if self._connection is not None:
            self._connection.close()
        if self._fp is not None:
            self._fp.close()
        if self._tokenwire_reply.on_cancel == "raise":
            raise self._tokenwire_reply.cancelled_error() from None

    def close(self: Any) -> None:
        _base(self).close()
        reply: Reply = self._tokenwire_reply
        if not reply.gi_running:  # else urllib3 itself closes it, because of an error
            reply.close()


# -- aiohttp

_replies: dict[int, Reply] = {}
"""By the id of the stream reader, which has room for no further attribute."""


def url_of(session: Any, url: Any) -> str:
    """The URL that a session sends a request to."""
    return str(session._build_url(url))


def record_aiohttp(response: Any, reply: Reply) -> bool:
    """Have `reply` take a copy of what is read of a response of ``aiohttp``.

    :return: False where it has no body.
    """
    content = response.content
    if type(content).__name__ != "StreamReader":  # that of all empty bodies
        return False
    key = id(content)
    _replies[key] = reply
    content.__class__ = _recorded(_RecordedReader, type(content))
    content.on_eof(lambda: None if content._buffer else reply.end())
    response._tokenwire_reply = reply
    response.__class__ = _recorded(_RecordedAiohttp, type(response))
    weakref.finalize(response, _replies.pop, key, None)
    return True


def stop_aiohttp(response: Any, reply: Reply) -> None:
    """Close the connection of a cancelled response, and end its body (on its loop)."""
    content = response.content
    connection = response.connection
    if connection is not None:
        connection.close()
    if reply.on_cancel == "raise":
        content.set_exception(reply.cancelled_error())
    elif not content.is_eof():
        content._buffer.clear()
        content._size = content._buffer_offset = 0
        content.feed_eof()


class _RecordedReader:
    """A body of which a copy is read."""

    def _read_nowait_chunk(self: Any, n: int) -> Any:
        data = _base(self)._read_nowait_chunk(n)
        reply = _replies.get(id(self))
        if reply is not None:
            reply.feed(data)
            if self.at_eof():
                reply.end()
        return data

    async def _wait(self: Any, func_name: str) -> None:
        reply = _replies.get(id(self))
        if reply is None:
            await _base(self)._wait(func_name)
            return
        reply.gi_running = True
        try:
            await _base(self)._wait(func_name)
        finally:
            reply.gi_running = False

    def set_exception(self: Any, exc: Any, *args: Any) -> None:
        reply = _replies.get(id(self))
        if reply is not None:
            if reply.cancelled and not isinstance(exc, ResponseCancelled):
                return  # the connection was closed on our own behalf
            reply.fail(exc)
        _base(self).set_exception(exc, *args)


class _RecordedAiohttp:
    """A response of which a copy is read."""

    def close(self: Any) -> None:
        self._tokenwire_reply.close()
        _base(self).close()

    def release(self: Any) -> Any:
        self._tokenwire_reply.close()
        return _base(self).release()


_types: dict[tuple[Any, Any], Any] = {}


def _recorded(methods: Any, base: Any) -> Any:
    """A subclass of `base`, which goes by its name, with the methods of another class.

    It has no second base: the instances of `base` could not become its own then.
    """
    kind = _types.get((methods, base))
    if kind is None:
        fields: dict[str, Any] = vars(methods)
        names = {name: value for name, value in fields.items() if callable(value)}
        names["__slots__"] = ()
        names["__module__"], names["__qualname__"] = base.__module__, base.__qualname__
        kind = _types[methods, base] = type(base.__name__, (base,), names)
    return kind


def _base(recorded: Any) -> Any:
    """``super()``, for methods that were defined in another class."""
    kind: Any = type(recorded)
    above: Any = super(kind, recorded)
    return above
