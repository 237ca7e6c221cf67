"""`Urllib3Instrumentor`: ``urllib3``, by which ``requests`` and ``botocore`` send, too."""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Mapping
from typing import Any, cast

from tokenwire.instrument import shut_down
from tokenwire_adapters._agents.http.exchange import Exchange
from tokenwire_adapters._agents.http.instrumentor import HttpInstrumentor
from tokenwire_adapters._agents.http.quirks import record_urllib3, socket_of
from tokenwire_adapters._agents.wires.recognition import HttpRequest, may_be_model_call

__all__ = ["Urllib3Instrumentor"]


class Urllib3Instrumentor(HttpInstrumentor):
    """Records what the connection pools of ``urllib3`` receive from models."""

    def patch(self) -> None:
        pools = importlib.import_module(f"{self.module}.connectionpool")
        self.patches.replace(pools.HTTPConnectionPool, "urlopen", self._opening)

    def _opening(self, original: Any) -> Any:
        def urlopen(pool: Any, method: str, url: str, *args: Any, **options: Any) -> Any:
            exchange: Exchange | None = None
            if method == "POST" and may_be_model_call("POST", url):
                exchange = self.exchange(lambda: _request_of(pool, url, args, options))
            if exchange is None:
                return original(pool, method, url, *args, **options)
            with exchange:
                response = original(pool, method, url, *args, **options)
            _read(exchange, response, options)
            return response

        return urlopen


def _request_of(
    pool: Any, url: str, args: tuple[Any, ...], options: Mapping[str, Any]
) -> HttpRequest:
    body = args[0] if args else options.get("body")
    headers = args[1] if len(args) > 1 else options.get("headers")
    if not url.startswith("http"):
        url = f"{pool.scheme}://{pool.host}:{pool.port}{url}"
    if isinstance(body, str):
        body = body.encode()
    known = bytes(cast("Any", body)) if isinstance(body, bytes | bytearray) else None
    return HttpRequest("POST", url, _lower(headers or pool.headers or {}), known)


def _lower(headers: Any) -> dict[str, str]:
    return {_text(name).lower(): _text(value) for name, value in cast("Any", dict(headers)).items()}


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _read(exchange: Exchange, response: Any, options: Mapping[str, Any]) -> None:
    """Have the reply's bytes copied as its consumer reads them."""
    headers = _lower(response.headers)
    is_read = options.get("preload_content", True)
    if is_read and options.get("decode_content", True):
        headers.pop("content-encoding", None)
    reply = exchange.reply(response.status, headers)
    if reply is None:
        return
    reply.bind(response, _hang_up)
    if is_read:
        reply.read_whole(response.data or b"")
        return
    record_urllib3(response, reply)
    reply.attach(weakref.ref(reply))


def _hang_up(response: Any) -> None:
    """Wake the thread that waits for bytes: it closes the connection."""
    sock = socket_of(response)
    if sock is not None:
        shut_down(sock)
