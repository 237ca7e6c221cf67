"""Reads a gateway's event stream with the standard library; see docs/gateway.md."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any, cast
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from tokenwire._clock import Backoff
from tokenwire.events import Event, decode_json
from tokenwire_adapters._tools.cli.errors import Failure

__all__ = ["ask", "events"]

_SILENCE = 60.0
_MAX_LINE = 64 * 2**20
_RETRY = Backoff(0.5, 10.0)


class _Again(Exception):
    """Come back, after so many seconds where the gateway says so."""

    def __init__(self, wait: float | None = None) -> None:
        super().__init__(wait)
        self.wait = wait


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
    cursor: str | None = None
    tries = 0
    while True:
        query = {"rewind": rewind, "response": response}
        path = f"/channels/{quote(channel, safe='')}/events?" + urlencode(
            {name: value for name, value in query.items() if value is not None}
        )
        headers = {"accept": "text/event-stream"}
        if cursor is not None:
            headers["last-event-id"] = cursor.encode().decode("latin-1")
        wait: float | None = None
        try:
            with closing(_connect(base)) as connection:
                answer = _get(connection, base, path, headers, token)
                if answer.status == 204:
                    return
                for name, data, mark in _messages(answer):
                    cursor, tries = mark or cursor, 0
                    if name == "message":
                        yield decode_json(data)
                    elif name in ("bye", "error"):
                        _farewell(name, data)
                if response is not None:
                    return
        except _Again as again:
            wait = again.wait
        except (OSError, http.client.HTTPException) as error:
            if cursor is None and tries == 0:
                raise Failure(f"cannot reach {base}: {error}") from error
        tries += 1
        time.sleep(_RETRY.after(tries) if wait is None else wait)


def ask(base: str, path: str, *, timeout: float = 10.0) -> tuple[int, dict[str, Any]]:
    """One request; the status and the JSON object of the answer.

    :raises Failure: when the gateway cannot be reached, or answers something else.
    """
    try:
        with closing(_connect(base, timeout)) as connection:
            connection.request("GET", urlsplit(base).path.rstrip("/") + path)
            answer = connection.getresponse()
            value: Any = msgspec.json.decode(answer.read(2**20))
    except (OSError, http.client.HTTPException) as error:
        raise Failure(f"cannot reach {base}: {error}") from error
    except msgspec.DecodeError as error:
        raise Failure(f"what answers at {base} is not a tokenwire gateway") from error
    return answer.status, cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _connect(base: str, timeout: float = _SILENCE) -> http.client.HTTPConnection:
    parts = urlsplit(base)
    if not parts.hostname:
        raise Failure(f"{base} names no host", status=2)
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=timeout, context=context
        )
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)


def _get(
    connection: http.client.HTTPConnection,
    base: str,
    path: str,
    headers: dict[str, str],
    token: str | None,
) -> http.client.HTTPResponse:
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    connection.request("GET", urlsplit(base).path.rstrip("/") + path, headers=headers)
    answer = connection.getresponse()
    if answer.status in (200, 204):
        return answer
    body = answer.read(65536)
    if answer.status in (429, 500, 502, 503, 504):
        after = answer.headers.get("retry-after", "")
        raise _Again(float(after) if after.isdecimal() else None)
    detail = f"HTTP {answer.status}"
    with suppress(msgspec.DecodeError, AttributeError):
        detail = str(msgspec.json.decode(body).get("detail") or detail)
    raise Failure(f"the gateway refused: {detail}")


def _farewell(name: str, data: bytes) -> None:
    told: Any = msgspec.json.decode(data)
    if name == "error" and told.get("status") in (400, 401, 403, 404):
        raise Failure(f"the gateway ended the stream: {told.get('detail')}")
    retry = told.get("retry")
    raise _Again(retry / 1000 if isinstance(retry, int) else None)


def _messages(answer: http.client.HTTPResponse) -> Iterator[tuple[str, bytes, str | None]]:
    """Server-sent events as name, data and id (WHATWG HTML, section 9.2)."""
    name, data, mark = b"message", b"", None
    while line := answer.readline(_MAX_LINE):
        line = line.rstrip(b"\r\n")
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data = data + b"\n" + value if data else value
        elif field == b"event":
            name = value
        elif field == b"id":
            mark = value.decode()
        elif not line:
            if data:
                yield name.decode(), data, mark
            name, data, mark = b"message", b"", None
