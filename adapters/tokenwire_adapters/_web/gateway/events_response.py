"""An event stream as a Starlette response, for handlers of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tokenwire.encoding import StreamPlan
from tokenwire.errors import TokenwireError
from tokenwire_adapters._web.gateway.asgi import Request, send_response
from tokenwire_adapters._web.gateway.auth import Caller
from tokenwire_adapters._web.gateway.problems import Problem, problem_of
from tokenwire_adapters._web.gateway.sse import serve_events

if TYPE_CHECKING:
    from tokenwire_adapters._web.gateway.service import Core

__all__ = ["EventsResponse"]


class EventsResponse(Response):
    """Made by `Gateway.events`; return it from a handler of Starlette or FastAPI."""

    media_type = "text/event-stream"

    def __init__(self, core: Core, plan: StreamPlan) -> None:
        super().__init__()
        self._core = core
        self._plan = plan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream (ASGI 3)."""
        own = {b"content-length", b"content-type", b"cache-control"}
        extra = [pair for pair in self.raw_headers if pair[0] not in own]
        try:
            caller = Caller(Request(scope, self._core.limits))
            await serve_events(self._core, caller, self._plan, receive, send, extra)
        except (Problem, TokenwireError, ValueError) as error:
            problem = problem_of(error)
            self._core.refused(problem, None, "an event stream")
            headers = [(b"content-type", b"application/problem+json"), *problem.headers()]
            await send_response(send, problem.status, problem.document(), headers=headers)
        if self.background is not None:
            await self.background()
