"""The control port, for tests in another process or language: faults, counters, tokens.

``POST /faults/NAME`` with a JSON object of arguments calls a method of ``Faults``;
``POST /server/vanish`` and ``/server/listen`` take the server away and back;
``GET /stats`` returns the counters; ``GET|POST /auth`` issues token details, for ``authUrl``
(query or form: ``clientId``, ``capability``, ``ttl``).
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from tokenwire_adapters.testing.ably._errors import AblyError
from tokenwire_adapters.testing.ably._faults import COMMANDS
from tokenwire_adapters.testing.ably._http import Request, Response, read_request

if TYPE_CHECKING:
    from tokenwire_adapters.testing.ably._server import AblyServer

__all__ = ["Control"]


class Control:
    """The control port of one server."""

    def __init__(self, server: AblyServer) -> None:
        self._server = server
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> int:
        """Listen, and return the port."""
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._listener.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while request := await read_request(reader):
                try:
                    status, value = 200, await self._answer(request)
                except (AblyError, TypeError, KeyError, ValueError) as error:
                    status, value = 400, {"error": str(error)}
                writer.write(Response(status, json.dumps(value).encode()).dump())
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, request: Request) -> Any:
        match request.method, request.parts:
            case "POST", ["faults", name] if name in COMMANDS:
                arguments = json.loads(request.body or b"{}")
                return {"result": getattr(self._server.faults, name)(**arguments)}
            case "POST", ["server", "vanish"]:
                await self._server.vanish()
                return {}
            case "POST", ["server", "listen"]:
                await self._server.listen()
                return {}
            case "GET", ["stats"]:
                return dict(self._server.stats)
            case "GET" | "POST", ["auth"]:
                params = {**request.query, **dict(parse_qsl(request.body.decode()))}
                capability = params.get("capability")
                return self._server.auth.issue(
                    client_id=params.get("clientId") or params.get("client_id"),
                    capability=json.loads(capability) if capability else None,
                    ttl_ms=int(params["ttl"]) if "ttl" in params else None,
                )
            case "OPTIONS", _:
                return {}
            case _:
                pass
        raise KeyError(f"no such command: {request.method} {request.path}")
