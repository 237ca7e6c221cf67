"""Captions: a small UI protocol, whose clients show one answer as numbered blocks.

    POST /captions               {"id": chat, "text": question}: starts the agent; its answer
    GET  /captions/{chat}        the answer under way, from its beginning; 204 where there is none
    POST /captions/{chat}/stop   stops it

Each server-sent event is a JSON array: ``["begin", run]``, ``["block", n, kind, title]``,
``["text", n, more]``, ``["done", n]``, ``["result", n, output]``, ``["data", name, value]`` and, at
the end, ``["end", state, reason]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tokenwire import ResponseWriter
from tokenwire.events import DataEvent, ToolResult
from tokenwire_adapters.ui import (
    Exchange,
    PartState,
    ProtocolRoutes,
    ResponseState,
    Route,
    RunEncoder,
    json_bytes,
    reason_of,
)

__all__ = ["CaptionsEncoder", "CaptionsRoutes", "CaptionsTurn"]


class CaptionsEncoder(RunEncoder):
    """Encodes one run as one list of blocks."""

    name = "captions"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._blocks = 0

    def _send(self, *values: Any) -> None:
        self.emit(json_bytes(values))

    def begin_message(self, run: str) -> None:
        self._send("begin", run)

    def open_part(self, response: ResponseState, part: PartState) -> None:
        part.wire_id = str(self._blocks)
        self._blocks += 1
        self._send("block", int(part.wire_id), part.kind, part.name or "")
        if part.data is not None:
            self._send("data", part.name or part.kind, part.data)

    def add_text(self, response: ResponseState, part: PartState, text: str) -> None:
        self._send("text", int(part.wire_id), text)

    def close_part(self, response: ResponseState, part: PartState, *, cut: bool = False) -> None:
        self._send("done", int(part.wire_id))

    def add_result(self, response: ResponseState, part: PartState, result: ToolResult) -> None:
        output = result.output if result.error is None else result.error
        self._send("result", int(part.wire_id), output)

    def add_data(self, event: DataEvent) -> None:
        self._send("data", event.name, event.data)

    def end_message(self, response: ResponseState | None) -> None:
        if response is None:
            self._send("end", "lost", "other")
        else:
            self._send("end", response.state, reason_of(response.finish_reason))


@dataclass(frozen=True)
class CaptionsTurn:
    """What the agent is called with. It writes into `response`, or into the current channel."""

    question: str
    response: ResponseWriter


class CaptionsRoutes(ProtocolRoutes):
    """The routes of the protocol."""

    def __init__(
        self, sink: Any, agent: Callable[[CaptionsTurn], Any], *, path: str = "/captions"
    ) -> None:
        super().__init__(sink, agent, path=path)

    def find(self, names: Sequence[str]) -> Route | None:
        match names:
            case []:
                return Route("captions", {"POST": self._ask})
            case [_]:
                return Route("captions.stream", {"GET": self._join})
            case [_, "stop"]:
                return Route("captions.stop", {"POST": self._stop})
            case _:
                return None

    async def _ask(self, exchange: Exchange) -> None:
        body = await self.read_body(exchange)
        channel = await self.authorize(exchange, body.get("id", ""), "input")
        self.service.require_input(exchange.caller.key)
        question = str(body.get("text", ""))
        run = self.tasks.new_run()

        async def begin() -> None:
            self.tasks.begin(
                channel, run, {"question": question}, lambda r: CaptionsTurn(question, r)
            )

        with self.service.admitted(exchange.caller):
            reader = await self.watch_from(channel, begin)
            encoder = CaptionsEncoder(run=run, enveloped=True)
            await self.stream(exchange, channel, encoder, reader)

    async def _join(self, exchange: Exchange) -> None:
        channel = await self.authorize(exchange, self.names_of(exchange.request)[0], "subscribe")
        await self.resume(exchange, channel, CaptionsEncoder())

    async def _stop(self, exchange: Exchange) -> None:
        channel = await self.authorize(exchange, self.names_of(exchange.request)[0], "cancel")
        await self.stop(exchange, channel)
