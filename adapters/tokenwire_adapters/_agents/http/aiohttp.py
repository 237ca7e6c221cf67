"""`AiohttpInstrumentor`: the client sessions of ``aiohttp``."""

from __future__ import annotations

import asyncio
import importlib
import json
import weakref
from collections.abc import Mapping
from typing import Any

from tokenwire_adapters._agents.http.exchange import Exchange
from tokenwire_adapters._agents.http.instrumentor import HttpInstrumentor
from tokenwire_adapters._agents.http.quirks import REQUEST, record_aiohttp, stop_aiohttp, url_of
from tokenwire_adapters._agents.wires.recognition import HttpRequest, may_be_model_call

__all__ = ["AiohttpInstrumentor"]


class AiohttpInstrumentor(HttpInstrumentor):
    """Records what the sessions of ``aiohttp`` receive from models."""

    def patch(self) -> None:
        client = importlib.import_module(self.module)
        self.patches.replace(client.ClientSession, REQUEST, self._requesting)

    def _requesting(self, original: Any) -> Any:
        async def _request(session: Any, method: str, str_or_url: Any, **options: Any) -> Any:
            exchange: Exchange | None = None
            if may_be_model_call(method, str(str_or_url)):
                exchange = self.exchange(lambda: _request_of(session, str_or_url, options))
            if exchange is None:
                return await original(session, method, str_or_url, **options)
            exchange.recorder.use_running_loop()
            with exchange:
                response = await original(session, method, str_or_url, **options)
            _read(exchange, session, response, options)
            return response

        return _request


def _request_of(session: Any, url: Any, options: Mapping[str, Any]) -> HttpRequest:
    data, value = options.get("data"), options.get("json")
    body: bytes | None = None
    if value is not None:
        body = json.dumps(value, default=str).encode()
    elif isinstance(data, str):
        body = data.encode()
    elif isinstance(data, bytes | bytearray):
        body = bytes(data)
    headers = {str(name).lower(): str(v) for name, v in dict(options.get("headers") or {}).items()}
    return HttpRequest("POST", url_of(session, url), headers, body)


def _read(exchange: Exchange, session: Any, response: Any, options: Mapping[str, Any]) -> None:
    """Have the reply's bytes copied as its consumer reads them."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    decodes = options.get("auto_decompress")
    if session.auto_decompress if decodes is None else decodes:
        headers.pop("content-encoding", None)
    reply = exchange.reply(response.status, headers)
    if reply is None:
        return
    if not record_aiohttp(response, reply):
        reply.end()
        return
    loop = asyncio.get_running_loop()

    def hang_up(response: Any) -> None:
        loop.call_soon_threadsafe(stop_aiohttp, response, reply)

    reply.bind(response, hang_up)
    reply.attach(weakref.ref(reply))
