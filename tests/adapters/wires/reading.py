"""What the tests of the wires share: replies read from bytes, cut anywhere."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any

from hypothesis import strategies as st

from tests.support.sdk import fresh_sink, responses
from tokenwire import Response
from tokenwire.events import ToolResult
from tokenwire.instrument import Options
from tokenwire_adapters._agents.wires.recognition import HttpRequest, Wire, recognise
from tokenwire_adapters._agents.wires.reply import ReplyReader

__all__ = ["JSON", "SSE", "cuts", "pieces_of", "read", "result_of", "wire_of"]

SSE = {"content-type": "text/event-stream; charset=utf-8"}
JSON = {"content-type": "application/json"}


def wire_of(
    url: str, body: Mapping[str, Any] | None, method: str = "POST"
) -> tuple[Wire, Mapping[str, Any]]:
    """The wire of a request that is recognised."""
    data = None if body is None else json.dumps(body).encode()
    recognised = recognise(HttpRequest(method, url, {"content-type": "application/json"}, data))
    assert recognised is not None
    return recognised


@st.composite
def cuts(draw: st.DrawFn) -> list[int]:
    """Sizes of the pieces in which bytes come; the last one repeats."""
    return draw(st.lists(st.integers(1, 4000), min_size=1, max_size=8))


def pieces_of(data: bytes, sizes: Iterable[int]) -> Iterable[bytes]:
    """Cut `data` into pieces of these sizes."""
    start = 0
    for size in itertools.cycle(sizes):
        if start >= len(data):
            return
        yield data[start : start + size]
        start += size


def read(
    url: str,
    request: Mapping[str, Any] | None,
    data: bytes,
    *,
    headers: Mapping[str, str] = SSE,
    status: int = 200,
    sizes: Iterable[int] = (1 << 20,),
    end: str = "end",
    method: str = "POST",
) -> list[Response]:
    """The responses that a reply becomes.

    :param end: how the body ends: ``"end"``, ``"fail"`` or ``"close"``.
    """
    wire, body = wire_of(url, request, method)
    with fresh_sink() as sink:
        reader = ReplyReader(wire, wire.recorder(Options(sink, "c"), body), status, headers)
        for piece in pieces_of(data, sizes):
            reader.feed(piece)
        if end == "fail":
            reader.fail(ConnectionError("the connection broke"))
        else:
            getattr(reader, end)()
        return responses(sink, "c")


def result_of(response: Response, call_id: str) -> ToolResult:
    """The result of a tool call."""
    return next(result for result in response.tool_results if result.call_id == call_id)
