"""Serves the protocol and reads it over HTTP; prints what each client was sent, as JSON."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from tokenwire_captions import CaptionsRoutes, CaptionsTurn

import tokenwire
from tokenwire_adapters.asgi import Gateway


async def read(lines: AsyncIterator[str], until: str | None = None) -> list[Any]:
    """The arrays of an event stream, up to one of a kind, or to the end."""
    values: list[Any] = []
    async for line in lines:
        if line.startswith("data: "):
            values.append(json.loads(line.removeprefix("data: ")))
            if values[-1][0] == until:
                break
    return values


async def main() -> None:
    sink = tokenwire.open_sink(tokenwire.MemoryBackend(), strict=True)
    go_on = asyncio.Event()

    async def agent(turn: CaptionsTurn) -> None:
        with sink.respond() as response:  # the channel and run are the turn's
            response.write(f"{turn.question}? ")
            call = response.tool_call("look", "call-1")
            call.write('{"at": 1}')
            response.tool_result("call-1", {"found": True})
            response.finish(finish_reason="tool_calls")
        await go_on.wait()
        with sink.respond() as response:
            response.write("Yes.")
            response.finish(finish_reason="stop")

    gateway = Gateway(sink)
    routes = CaptionsRoutes(sink, agent)
    app = Starlette(routes=[*routes.routes, Mount("/stream", gateway)])
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    serving = asyncio.create_task(server.serve([listener]))
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    report: dict[str, Any] = {}
    async with httpx.AsyncClient(base_url=base_url, timeout=60) as client:
        question = {"id": "c1", "text": "well"}
        async with client.stream("POST", "/captions", json=question) as answer:
            first = answer.aiter_lines()
            begun = await read(first, until="result")
            report["connections"] = gateway.connections
            joins = ["/captions/c1", "/stream/channels/c1/events?format=captions"]
            streams = [client.stream("GET", url) for url in joins]
            answers = [await stream.__aenter__() for stream in streams]
            reading = [asyncio.create_task(read(other.aiter_lines())) for other in answers]
            while gateway.connections < 3:  # joined before the end, so told of it live
                await asyncio.sleep(0.01)
            go_on.set()
            report["asked"] = begun + await read(first)
            report["joined"], report["gateway"] = await asyncio.gather(*reading)
            for stream in streams:
                await stream.__aexit__(None, None, None)
        report["nothing"] = (await client.get("/captions/c1")).status_code
        go_on.clear()
        async with client.stream("POST", "/captions", json=question) as answer:
            second = answer.aiter_lines()
            await read(second, until="result")
            report["stop"] = (await client.post("/captions/c1/stop")).json()["state"]
            report["stopped"] = (await read(second))[-1]
        report["metrics"] = [
            line
            for line in (await client.get("/stream/metrics")).text.splitlines()
            if 'route="captions' in line
        ]
    await routes.aclose()
    await gateway.shutdown()
    server.should_exit = True
    await serving
    await sink.aclose()
    print(json.dumps(report))


asyncio.run(main())
