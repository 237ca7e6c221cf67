"""The listener on ``urllib3``, and so on ``requests`` and ``botocore``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from tokenwire_adapters._agents.http.exchange import Exchange
from tokenwire_adapters._agents.http.instrumentor import HttpInstrumentor
from tokenwire_adapters._agents.http.quirks import URLLIB3_SEND, chunk_is_last
from tokenwire_adapters._agents.wires.recognition import may_be_model_call

__all__ = ["urllib3"]


class Urllib3Instrumentor(HttpInstrumentor):
    """Replaces, on the reply's own object, the two methods by which bytes come."""

    def patch(self) -> None:
        pool: Any = self.import_client().connectionpool.HTTPConnectionPool
        self.patches.replace(pool, URLLIB3_SEND, self._sending)

    def _sending(self, original: Any) -> Any:
        def send(pool: Any, conn: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
            exchange = None
            if method == "POST" and may_be_model_call("POST", url):
                exchange = self._exchange_of(pool, url, args, kwargs)
            if exchange is None:
                return original(pool, conn, method, url, *args, **kwargs)
            with exchange.recorder:
                response = original(pool, conn, method, url, *args, **kwargs)
            _answered(exchange, response)
            return response

        return send

    def _exchange_of(
        self, pool: Any, url: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Exchange | None:
        body = kwargs.get("body", args[0] if args else None)
        headers: Any = kwargs.get("headers", args[1] if len(args) > 1 else None) or {}
        if isinstance(body, str):
            body = body.encode()
        if "://" not in url:
            url = f"{pool.scheme}://{pool.host}:{pool.port}{url}"
        return self.exchange(
            "POST",
            url,
            {str(name).lower(): str(value) for name, value in dict(headers).items()},
            bytes(body) if isinstance(body, bytes | bytearray) else None,
        )


def _answered(exchange: Exchange, response: Any) -> None:
    headers = {name.lower(): value for name, value in response.headers.items()}
    if response.closed:  # its content was preloaded
        headers.pop("content-encoding", None)
        exchange.answered(response.status, headers)
        exchange.feed(response.data)
        exchange.end()
        return
    exchange.answered(response.status, headers)
    exchange.bind(response, abort=_abort)
    # Each wrapper holds a method of the reply, and the reply holds the wrapper: the garbage
    # collector finds one that was dropped, as it does those of urllib3 itself.
    for name, wrapper in (
        ("_raw_read", _read),
        ("_handle_chunk", _chunk),
        ("_update_chunk_length", _begin_chunk),
        ("close", _leave),
        ("release_conn", _leave),
    ):
        original = getattr(response, name, None)
        if original is not None:
            setattr(response, name, functools.partial(wrapper, exchange, response, original))


def _abort(response: Any) -> None:
    """Stop the provider: whoever waits for bytes wakes up."""
    response.shutdown()


def _read(
    exchange: Exchange,
    response: Any,
    original: Callable[..., bytes],
    amt: int | None = None,
    *,
    read1: bool = False,
) -> bytes:
    """Read bytes of a body that is not chunked, or that ``http.client`` puts together."""
    if exchange.cancelled:
        return _cancelled(exchange)
    try:
        data = original(amt, read1=read1)
    except Exception as error:
        return _broken(exchange, error)
    exchange.feed(data)
    if exchange.cancelled:
        return _cancelled(exchange)
    at_end = (amt is None and not read1) or (not data and amt != 0)
    if at_end or response.length_remaining == 0:
        exchange.end()
    return data


def _begin_chunk(exchange: Exchange, response: Any, original: Callable[[], None]) -> None:
    if exchange.cancelled:
        _cancelled(exchange)
        response.chunk_left = 0
        return
    try:
        original()
    except Exception as error:
        _broken(exchange, error)
        response.chunk_left = 0
        return
    if chunk_is_last(response):
        exchange.end()


def _chunk(
    exchange: Exchange, response: Any, original: Callable[[int | None], bytes], amt: int | None
) -> bytes:
    try:
        data = original(amt)
    except Exception as error:
        response.chunk_left = None
        return _broken(exchange, error)
    exchange.feed(data)
    return data


def _broken(exchange: Exchange, error: Exception) -> bytes:
    """Pass on what reading raised, unless the connection was shut down on our own behalf."""
    if not exchange.cancelled:
        exchange.fail(error)
        raise error
    return _cancelled(exchange)


def _cancelled(exchange: Exchange) -> bytes:
    exchange.raise_if_cancelled()
    return b""


def _leave(exchange: Exchange, response: Any, original: Callable[[], Any]) -> Any:  # noqa: ARG001
    try:
        return original()
    finally:
        exchange.close_soon()  # a finalizer calls this, too


urllib3 = Urllib3Instrumentor("urllib3")
