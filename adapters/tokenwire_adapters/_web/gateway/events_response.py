"""An event stream as a Starlette response, for handlers of one's own."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tokenwire.encoding import StreamPlan
from tokenwire.errors import TokenwireError
from tokenwire_adapters._web.gateway.asgi import Request
from tokenwire_adapters._web.gateway.auth import Caller
from tokenwire_adapters._web.gateway.dispatch import send_problem
from tokenwire_adapters._web.gateway.problems import Problem, problem_of
from tokenwire_adapters._web.gateway.service import Service
from tokenwire_adapters._web.gateway.sse import serve_events

__all__ = ["EventsResponse"]


class EventsResponse(Response):
    """What `Gateway.events` returns, for a handler of Starlette or FastAPI to return."""

    media_type = "text/event-stream"

    def __init__(self, service: Service, plan: StreamPlan) -> None:
        super().__init__()
        self._service = service
        self._plan = plan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream (ASGI 3)."""
        own = {b"content-length", b"content-type", b"cache-control"}
        extra = [pair for pair in self.raw_headers if pair[0] not in own]
        try:
            caller = Caller(Request(scope, self._service.limits))
            await serve_events(self._service, caller, self._plan, receive, send, extra)
        except (Problem, TokenwireError, ValueError) as error:
            problem = problem_of(error)
            self._service.refused(problem, None, "an event stream")
            await send_problem(send, problem)
        if self.background is not None:
            await self.background()
