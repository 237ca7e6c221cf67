"""The control port, for tests in another process or language: faults, counters, tokens.

``POST /faults/NAME`` with a JSON object of arguments calls a method of ``Faults``;
``POST /server/vanish`` and ``/server/listen`` take the server away and back;
``GET /stats`` returns the counters; ``GET|POST /auth`` issues token details, for ``authUrl``
(query or form: ``clientId``, ``capability``, ``ttl``).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from tokenwire_adapters.testing.ably._application import Application
from tokenwire_adapters.testing.ably._errors import AblyError
from tokenwire_adapters.testing.ably._faults import COMMANDS, Faults
from tokenwire_adapters.testing.ably._http import Request, Response, read_request

__all__ = ["Control"]


class Control:
    """The control port of one server."""

    def __init__(
        self,
        application: Application,
        faults: Faults,
        *,
        vanish: Callable[[], Awaitable[None]],
        listen: Callable[[], Awaitable[None]],
    ) -> None:
        self._application = application
        self._faults = faults
        self._vanish = vanish
        self._listen = listen
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
                writer.write(Response(status, json.dumps(value).encode()).dump(request))
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
                return {"result": getattr(self._faults, name)(**arguments)}
            case "POST", ["server", "vanish"]:
                await self._vanish()
                return {}
            case "POST", ["server", "listen"]:
                await self._listen()
                return {}
            case "GET", ["stats"]:
                return dict(self._application.stats)
            case "GET" | "POST", ["auth"]:
                params = {**request.query, **dict(parse_qsl(request.body.decode()))}
                capability = params.get("capability")
                return self._application.auth.issue(
                    client_id=params.get("clientId") or params.get("client_id"),
                    capability=json.loads(capability) if capability else None,
                    ttl_ms=int(params["ttl"]) if "ttl" in params else None,
                )
            case "OPTIONS", _:
                return {}
            case _:
                pass
        raise KeyError(f"no such command: {request.method} {request.path}")
