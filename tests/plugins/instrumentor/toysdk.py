"""A provider's SDK, as small as they come: one client, one call, streamed or not.

It knows nothing of tokenwire.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self


class ToyError(Exception):
    """The provider refused a request, or failed while it replied."""


@dataclass(frozen=True)
class Chunk:
    """A piece of a reply; the last one says why the model stopped."""

    text: str = ""
    finish_reason: str | None = None
    usage: dict[str, int] | None = None


@dataclass(frozen=True)
class Reply:
    """A whole reply."""

    text: str
    finish_reason: str
    usage: dict[str, int]


class Stream:
    """The chunks of a reply, as they come. Close it, or leave its ``with``, to stop early."""

    def __init__(
        self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse
    ) -> None:
        self.connection = connection
        self._chunks: Iterator[Chunk] = _parse(response)

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        return next(self._chunks)

    def close(self) -> None:
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Client:
    """A client of the provider at `host` and `port`."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)

    def generate(self, prompt: str, *, model: str, stream: bool = False) -> Any:
        """Ask `model` for a reply: a `Reply`, or with `stream` a `Stream`."""
        connection = http.client.HTTPConnection(*self._address)
        body = json.dumps({"prompt": prompt, "model": model, "stream": stream})
        try:
            connection.request("POST", "/generate", body, {"content-type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise ToyError(f"HTTP {response.status}: {response.read().decode()}")
            if stream:
                return Stream(connection, response)
            chunks = list(_parse(response))
        except BaseException:
            connection.close()
            raise
        connection.close()
        text = "".join(chunk.text for chunk in chunks)
        return Reply(text, chunks[-1].finish_reason or "", chunks[-1].usage or {})


def _parse(response: http.client.HTTPResponse) -> Iterator[Chunk]:
    """Parse a reply, which is a JSON object a line."""
    while line := response.readline():
        data = json.loads(line)
        if "error" in data:
            raise ToyError(data["error"])
        yield Chunk(**data)
