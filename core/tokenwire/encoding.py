"""Formats of event streams: encoders from events to the frames that clients receive.

A frame is the data of a server-sent event or a WebSocket message. The native format is here; others
come through the entry-point group ``tokenwire.formats``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

import msgspec

from tokenwire._plugins import plugins
from tokenwire.events import Event, encode_json
from tokenwire.sink import Sink
from tokenwire.watch import ChannelReader

__all__ = ["Encoder", "Frame", "NativeEncoder", "StreamPlan", "encoder_formats", "find_encoder"]

GROUP = "tokenwire.formats"


class Frame(msgspec.Struct, frozen=True):
    """One message to a client.

    :ivar data: UTF-8, without line breaks (JSON has none).
    :ivar id: the cursor that a client resumes after.
    :ivar event: the name of the server-sent event; None for the unnamed kind.
    """

    data: bytes
    id: str | None = None
    event: str | None = None

    def sse(self) -> bytes:
        """The frame as a server-sent event (WHATWG HTML, section 9.2)."""
        lines = b""
        if self.event is not None:
            lines += b"event: " + _line(self.event) + b"\n"
        if self.id is not None:
            lines += b"id: " + _line(self.id) + b"\n"
        return lines + b"data: " + self.data.replace(b"\n", b"\ndata: ") + b"\n\n"


def _line(text: str) -> bytes:
    return text.replace("\r", "").replace("\n", "").replace("\0", "").encode()


class StreamPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a client of an event stream asked for.

    :ivar after: a cursor to go on after; `rewind`: where to start in the past (see `Sink.watch`).
    :ivar response_id: only this response, from its beginning.
    :ivar format: the name of the encoder.
    :ivar wait: whether to wait for a response where none streams.
    :ivar gather: whether events may wait for others while the server is busy; else each is sent as
        soon as it comes.
    """

    channel: str
    after: str | None = None
    rewind: str | None = None
    response_id: str | None = None
    format: str = "native"
    wait: bool = True
    gather: bool = True


class Encoder(ABC):
    """Encodes the events that one watcher sees, in order; each watcher has an encoder of its own.

    A gateway calls `open`, then `begin`, then `encode` for each event, then `end`.

    :cvar name: the format's name, as in ``?format=``.
    :cvar shared: frames depend on nothing but the event, so one encoding serves all watchers.
    :cvar headers: further HTTP headers of a response in this format.
    :ivar finished: nothing more will be encoded, so the stream may be closed.
    """

    name: ClassVar[str]
    shared: ClassVar[bool] = False
    headers: ClassVar[Mapping[str, str]] = {}
    finished: bool = False

    async def open(self, sink: Sink, plan: StreamPlan) -> ChannelReader | None:
        """Open the channel where this format begins: by default, where the client asked for it.

        A format whose clients know no cursors, for example, begins at the run under way.

        :return: the open channel; None where there is nothing to encode.
        :raises InvalidName, InvalidCursor, BackendUnavailable: as `ChannelReader.aopen` does.
        """
        reader = sink.reader(
            plan.channel, after=plan.after, rewind=plan.rewind, response_id=plan.response_id
        )
        try:
            return await reader.aopen()
        except BaseException:
            reader.close()
            raise

    def begin(self) -> Iterable[Frame]:
        """Frames before the first event."""
        return ()

    @abstractmethod
    def encode(self, event: Event) -> Iterable[Frame]:
        """Frames for one event; may be none."""

    def end(self) -> Iterable[Frame]:
        """Frames after the last event, when the stream ends of itself."""
        return ()


class NativeEncoder(Encoder):
    """tokenwire's own format: the event as JSON, its cursor as the id."""

    name = "native"
    shared = True

    def encode(self, event: Event) -> Iterable[Frame]:
        return (Frame(encode_json(event), id=event.cursor),)


def encoder_formats() -> list[str]:
    """The names of the formats that installed packages offer."""
    return sorted({"native", *plugins(GROUP)})


def find_encoder(name: str) -> Callable[..., Encoder]:
    """Find the encoder class of a format.

    :raises ValueError: when there is no such format, or what it needs is not installed.
    """
    if name == "native":
        return NativeEncoder
    point = plugins(GROUP).get(name)
    if point is None:
        raise ValueError(f"no format {name[:64]!r}; known are {', '.join(encoder_formats())}")
    try:
        loaded: Callable[..., Encoder] = point.load()
    except ImportError as error:
        raise ValueError(f"format {name!r} is not available: {error}") from error
    return loaded
