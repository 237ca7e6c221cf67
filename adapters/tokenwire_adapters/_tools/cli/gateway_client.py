"""Reads a gateway's event stream over HTTP; see docs/gateway.md."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, cast
from urllib.parse import quote, urlsplit

import httpx
import msgspec
from httpx_sse import EventSource, ServerSentEvent

from tokenwire._clock import Backoff
from tokenwire.events import Event, decode_json
from tokenwire_adapters._tools.cli.errors import Failure

__all__ = ["events", "get_json"]

_TIMEOUT = 10.0  # seconds to connect, and seconds without an answer
_READ_TIMEOUT = 60.0
_MAX_LINE = 64 * 2**20
_RETRY = Backoff(0.5, 10.0)
_MAX_JSON = 2**20
_MAX_ERROR = 2**16
_RETRIED_STATUSES = (429, 500, 502, 503, 504)
_FATAL_STATUSES = (400, 401, 403, 404)
_CONNECTION_ERRORS = (httpx.RequestError, httpx.InvalidURL)


class _Reconnect(Exception):
    """The stream is to be requested again.

    :ivar delay: seconds to wait before that, where the gateway says so.
    """

    def __init__(self, delay: float | None = None) -> None:
        super().__init__(delay)
        self.delay = delay


def events(
    base: str,
    channel: str,
    *,
    token: str | None = None,
    rewind: str | None = None,
    response: str | None = None,
) -> Iterator[Event]:
    """The events of a channel, through lost connections, until the response asked for ends.

    :raises Failure: when the gateway refuses for good.
    """
    url = _url(base, f"/channels/{quote(channel, safe='')}/events")
    query = {"rewind": rewind, "response": response}
    params = {name: value for name, value in query.items() if value is not None}
    headers = httpx.Headers({"accept": "text/event-stream"})
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    cursor: str | None = None
    attempts = 0
    with _client(_READ_TIMEOUT) as client:
        while True:
            if cursor is not None:
                headers["last-event-id"] = cursor
            delay: float | None = None
            try:
                with client.stream("GET", url, params=params, headers=headers) as answer:
                    if answer.status_code == 204:
                        return
                    _check_status(answer)
                    for message in _messages(answer):
                        cursor, attempts = message.id or cursor, 0
                        if message.event == "message":
                            yield decode_json(message.data)
                        elif message.event in ("bye", "error"):
                            _raise_end(message)
                if response is not None:
                    return
            except _Reconnect as reconnect:
                delay = reconnect.delay
            except _CONNECTION_ERRORS as error:
                if cursor is None and attempts == 0:
                    raise Failure(f"cannot reach {base}: {error}") from error
            attempts += 1
            time.sleep(_RETRY.after(attempts) if delay is None else delay)


def get_json(base: str, path: str) -> tuple[int, dict[str, Any]]:
    """Send one request; return the status and the JSON object of the answer.

    :raises Failure: when the gateway cannot be reached, or answers something else.
    """
    try:
        with _client(_TIMEOUT) as client, client.stream("GET", _url(base, path)) as answer:
            value: Any = msgspec.json.decode(_read(answer, _MAX_JSON))
    except _CONNECTION_ERRORS as error:
        raise Failure(f"cannot reach {base}: {error}") from error
    except msgspec.DecodeError as error:
        raise Failure(f"what answers at {base} is not a tokenwire gateway") from error
    return answer.status_code, cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _url(base: str, path: str) -> str:
    parts = urlsplit(base)
    if not parts.hostname:
        raise Failure(f"{base} names no host", status=2)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}{path}"


def _client(timeout: float) -> httpx.Client:
    """A client that uses the system's certificates, no proxy, and a new connection each time."""
    return httpx.Client(
        timeout=timeout,
        verify=ssl.create_default_context(),
        trust_env=False,
        headers={"accept-encoding": "identity"},
        limits=httpx.Limits(max_keepalive_connections=0),
    )


def _check_status(answer: httpx.Response) -> None:
    status = answer.status_code
    if status == 200:
        return
    if status in _RETRIED_STATUSES:
        retry_after = answer.headers.get("retry-after", "")
        raise _Reconnect(float(retry_after) if retry_after.isdecimal() else None)
    detail = f"HTTP {status}"
    with suppress(msgspec.DecodeError, AttributeError):
        detail = str(msgspec.json.decode(_read(answer, _MAX_ERROR)).get("detail") or detail)
    raise Failure(f"the gateway refused: {detail}")


def _raise_end(message: ServerSentEvent) -> None:
    """Handle the last event of a stream, by which the gateway says why it ends."""
    notice: Any = msgspec.json.decode(message.data)
    if message.event == "error" and notice.get("status") in _FATAL_STATUSES:
        raise Failure(f"the gateway ended the stream: {notice.get('detail')}")
    retry_ms = notice.get("retry")
    raise _Reconnect(retry_ms / 1000 if isinstance(retry_ms, int) else None)


def _messages(answer: httpx.Response) -> Iterator[ServerSentEvent]:
    """The server-sent events that carry data."""
    answer.stream = _BoundedLines(cast("httpx.SyncByteStream", answer.stream))
    # httpx-sse also yields blocks without data, such as one that only sets `retry`.
    return (message for message in EventSource(answer).iter_sse() if message.data)


def _read(answer: httpx.Response, limit: int) -> bytes:
    """The body of an answer, or its first `limit` bytes."""
    body = b""
    for chunk in answer.iter_bytes():
        body += chunk
        if len(body) >= limit:
            break
    return body[:limit]


class _BoundedLines(httpx.SyncByteStream):
    """Refuses a line that would not fit into memory; httpx-sse has no limit of its own."""

    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        pending = 0
        for chunk in self._stream:
            newline = chunk.rfind(b"\n")
            pending = pending + len(chunk) if newline < 0 else len(chunk) - newline - 1
            if pending > _MAX_LINE:
                raise httpx.ReadError(f"a line of more than {_MAX_LINE} bytes")
            yield chunk

    def close(self) -> None:
        self._stream.close()
