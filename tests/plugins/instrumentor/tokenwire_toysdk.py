"""Publishes what the SDK `toysdk` receives: all of an adapter, in one file.

    from tokenwire_toysdk import wrap

    client = wrap(toysdk.Client(...), channel="chat-42")

or, through the entry point in pyproject.toml, with no code at all: ``tokenwire run``.
"""

from __future__ import annotations

import socket
import weakref
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any, TypeVar

import toysdk

from tokenwire import Sink
from tokenwire.instrument import Channel, Options, Recorder, SdkInstrumentor, record

__all__ = ["instrumentor", "unwrap", "wrap"]

Client = TypeVar("Client", bound=toysdk.Client)


class ToyRecorder(Recorder):
    """Reads `toysdk.Chunk` and `toysdk.Reply`."""

    provider = "toy"
    api = "generate"
    last_chunk: toysdk.Chunk | toysdk.Reply | None = None

    def feed(self, item: toysdk.Chunk) -> None:
        if item.text:
            self.writer().write(item.text)
        if item.finish_reason is not None:
            self.last_chunk = item
            self.settle_later(item)  # should the consumer not read on to the very end

    def feed_reply(self, reply: toysdk.Reply) -> None:
        self.writer().write(reply.text)
        self.last_chunk = reply

    def finish(self) -> None:
        reason = self.finish_reason(0)
        if reason is None:
            self.writer().fail("the stream ended before the reply was complete")
        else:
            self.writer().finish(reason, self.usage())

    def finish_reason(self, index: int) -> str | None:
        return None if self.last_chunk is None else self.last_chunk.finish_reason

    def usage(self) -> dict[str, Any] | None:
        return None if self.last_chunk is None else self.last_chunk.usage


class ToyInstrumentor(SdkInstrumentor):
    """Patches what sends a request, and what closes a stream."""

    module = "toysdk"

    def __init__(self) -> None:
        super().__init__()
        self._recorders = weakref.WeakKeyDictionary[toysdk.Stream, ToyRecorder]()

    def patch(self) -> None:
        self.patches.replace(toysdk.Client, "generate", self._generate)
        self.patches.replace(toysdk.Stream, "close", self._close)

    def _generate(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def generate(client: toysdk.Client, prompt: str, **options: Any) -> Any:
            recorder = self.recorder(ToyRecorder, {"prompt": prompt, **options}, client)
            if recorder is None:
                return original(client, prompt, **options)
            with recorder:  # a request that fails is a response that fails
                result = original(client, prompt, **options)
            if isinstance(result, toysdk.Stream):
                recorder.bind(result.connection, abort=hang_up)
                result._chunks = record(result._chunks, recorder)
                self._recorders[result] = recorder
            else:
                recorder.record_reply(result)
            return result

        return generate

    def _close(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def close(stream: toysdk.Stream) -> None:
            original(stream)
            recorder = self._recorders.get(stream)
            if recorder is not None:
                recorder.close()

        return close


def hang_up(connection: HTTPConnection) -> None:
    """Stop the provider, once a watcher cancels: a thread that waits for bytes wakes up.

    An SDK on ``httpx`` needs no such function: ``recorder.bind(response)`` does it.
    """
    if connection.sock is not None:
        connection.sock.shutdown(socket.SHUT_RDWR)


instrumentor = ToyInstrumentor()


def wrap(client: Client, sink: Sink | None = None, *, channel: Channel = None) -> Client:
    """Publish what the calls of one client receive. Returns the same object."""
    instrumentor.add_client(client, Options(sink, channel))
    return client


def unwrap(client: Client) -> Client:
    """Undo `wrap`."""
    instrumentor.remove_client(client)
    return client
