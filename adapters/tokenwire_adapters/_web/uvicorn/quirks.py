"""What is done inside uvicorn's HTTP protocols: seen with version 0.54.

uvicorn has no public way to write to a connection but ASGI's `send`, a coroutine for each client
and message (https://github.com/Kludex/uvicorn/blob/0.54.0/uvicorn/protocols/http/h11_impl.py).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from tokenwire_adapters._web.gateway.takeover import EXTENSION, Take, Taken, TakenProtocol

__all__ = ["TransportOffer"]


class TransportOffer:
    """Mixed into a protocol of uvicorn's: offers apps the transport of a response.

    A response that was handed over is complete for uvicorn; the protocol that took its transport is
    one of the server's connections, which count for its limits and are waited for when it stops.
    """

    app: Any
    connections: set[Any]
    cycle: Any
    flow: Any
    transport: Any
    server_state: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.app = partial(self._call_app, self.app)

    def _call_app(self, app: Any, scope: Any, receive: Any, send: Any) -> Any:
        extensions = scope.setdefault("extensions", {})
        extensions[EXTENSION] = {"offer": partial(self._offer, getattr(send, "__self__", None))}
        return app(scope, receive, send)

    def _offer(self, cycle: Any, send: Any) -> Take | None:
        """Offer the transport to an app whose `send` is ours, and no middleware's."""
        owner: Any = getattr(send, "__self__", None)
        if owner is None or owner is not cycle or owner.scope["http_version"] != "1.1":
            return None
        return partial(self._take, cycle)

    def _take(self, cycle: Any, protocol: TakenProtocol) -> Taken | None:
        """Hand over the transport of a response that has begun, if it can be done now."""
        if cycle is not self.cycle or not cycle.response_started or cycle.response_complete:
            return None
        if not getattr(cycle, "chunked_encoding", True):  # of httptools; h11 does nothing else
            return None
        if cycle.disconnected or self.transport.is_closing() or self.flow.write_paused:
            return None
        del cycle.scope["extensions"][EXTENSION]  # which leads back to here
        self.app = None
        cycle.response_complete = True  # so that uvicorn does not wait for the rest
        cycle.message_event.set()
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self.connections.discard(self)
        self.connections.add(protocol)
        self.transport.set_protocol(protocol)
        return Taken(self.transport, self.connections.discard)
