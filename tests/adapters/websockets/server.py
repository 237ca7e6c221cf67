"""A loopback server that speaks the events of OpenAI's WebSockets, as a test scripts them."""

from __future__ import annotations

import json
import queue
import threading
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.protocol import State
from websockets.sync.server import ServerConnection, serve

from tests.support.replay import PATIENCE

CLOSE = object()


class SocketServer:
    """Puts what clients send into `received`, and sends them what the test says.

    :ivar received: the events of all connections; ``None`` for each one that ended.
    """

    def __init__(self) -> None:
        self.received: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._connections: queue.Queue[ServerConnection] = queue.Queue()
        self._current: ServerConnection | None = None
        self._server = serve(self._handle, "127.0.0.1", 0)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.socket.getsockname()[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()

    def next_event(self) -> dict[str, Any] | None:
        """The next event that a client sends; None once it has gone."""
        return self.received.get(timeout=PATIENCE)

    def send(self, *events: dict[str, Any]) -> None:
        """Send events to the newest connection."""
        connection = self._newest()
        for event in events:
            connection.send(json.dumps(event))

    def close(self, code: int) -> None:
        self._newest().close(code)

    def _newest(self) -> ServerConnection:
        current = self._current
        is_open = current is not None and current.protocol.state is State.OPEN
        if current is None or not is_open or not self._connections.empty():
            current = self._current = self._connections.get(timeout=PATIENCE)
        return current

    def _handle(self, connection: ServerConnection) -> None:
        self._connections.put(connection)
        try:
            for message in connection:
                self.received.put(json.loads(message))
        except ConnectionClosed:
            pass
        self.received.put(None)


def _response(response_id: str, status: str, kind: str = "response") -> dict[str, Any]:
    return {"id": response_id, "object": kind, "status": status, "output": []}


def created(response_id: str, **more: Any) -> dict[str, Any]:
    response = _response(response_id, "in_progress")
    return {"type": "response.created", "response": response, **more}


def text(response_id: str, delta: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "response.output_text.delta",
        "item_id": f"msg-{response_id}",
        "output_index": 0,
        "content_index": 0,
        "delta": delta,
        **more,
    }


USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


def completed(response_id: str, **more: Any) -> dict[str, Any]:
    response = _response(response_id, "completed")
    return {"type": "response.completed", "response": {**response, "usage": USAGE}, **more}


def done(response_id: str, status: str = "completed", **more: Any) -> dict[str, Any]:
    response = _response(response_id, status, "realtime.response")
    return {"type": "response.done", "response": {**response, "usage": USAGE, **more}}


def reply(response_id: str, *deltas: str, **more: Any) -> list[dict[str, Any]]:
    """The events of a whole response of the Responses API."""
    return [
        created(response_id, **more),
        *(text(response_id, delta, **more) for delta in deltas),
        completed(response_id, **more),
    ]
