"""Frames batches of events for streams and sockets; encodes each event once for all watchers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Final, Protocol, TypeVar, runtime_checkable

import msgspec

from tokenwire.encoding import Encoder, Frame
from tokenwire.events import encode_json
from tokenwire.watch import ChannelReader, Item

__all__ = ["LAST_CHUNK", "SocketFramer", "StreamFramer", "chunk", "chunks", "named"]

LAST_CHUNK: Final = b"0\r\n\r\n"

_CHUNK = 256 * 1024
T = TypeVar("T")
P = TypeVar("P", str, bytes)


def named(event: str, value: Any, *, id: str | None = None) -> bytes:
    """A server-sent event of the gateway's own."""
    data = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return Frame(data, id=id, event=event).sse()


def chunk(data: bytes) -> bytes:
    """Data as a chunk of a body (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@runtime_checkable
class Forkable(Protocol):
    """An encoder whose frames depend on what came before, and that others may share.

    :cvar forks: whether it may be shared at all.
    """

    forks: ClassVar[bool]

    def fork(self) -> Any:
        """Another one that encodes what comes as this one does."""

    def same_as(self, other: Any) -> bool:
        """Whether both encode whatever comes to the same frames."""
        ...


class StreamFramer:
    """Server-sent events for one watcher.

    :param encoder: of this watcher alone.
    """

    __slots__ = ("_slot", "encoder", "native")

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.native = encoder.name == "native"
        self._slot = f"sse:{encoder.name}" if encoder.shared else None

    @property
    def finished(self) -> bool:
        """Whether the encoder will encode nothing more."""
        return self.encoder.finished

    @property
    def shareable(self) -> bool:
        """Whether watchers that are level can be given the same bytes."""
        encoder = self.encoder
        return encoder.shared or (isinstance(encoder, Forkable) and encoder.forks)

    def begin(self) -> bytes:
        """What comes before the first event."""
        return b"".join(frame.sse() for frame in self.encoder.begin())

    def end(self) -> bytes:
        """What comes after the last event."""
        return b"".join(frame.sse() for frame in self.encoder.end())

    def live(self, items: Sequence[Item]) -> bytes:
        """Events of the shared log, all of them, joined."""
        slot = self._slot
        if slot is None:
            encode = self.encoder.encode
            return b"".join(frame.sse() for item in items for frame in encode(item.event))
        if len(items) == 1:
            return self._shared(items[0], slot)
        return b"".join([self._shared(item, slot) for item in items])

    def _shared(self, item: Item, slot: str) -> bytes:
        frames = item.frames
        if frames is not None:
            done = frames.get(slot)
            if done is not None:
                return bytes(done)
        else:
            frames = item.frames = {}
        data = b"".join(frame.sse() for frame in self.encoder.encode(item.event))
        frames[slot] = data
        return data

    def whole(self, items: Iterable[Item]) -> Iterator[bytes]:
        """A replay, in pieces. From the ids in it a client can resume in its middle."""
        return map(b"".join, chunks(self.live((item,)) for item in items))

    # -- for watchers that are level

    def batch(self, items: Sequence[Item], reader: ChannelReader) -> Iterator[bytes]:
        """Encode what a reader has just read."""
        _ = reader
        return self.whole(items)

    def wire(self, data: bytes) -> bytes:
        """Data as a part of a response's body."""
        return chunk(data)

    def fork(self) -> StreamFramer:
        """A framer that encodes what comes as this one does."""
        encoder: Any = self.encoder
        return self if encoder.shared else StreamFramer(encoder.fork())

    def same_as(self, other: StreamFramer) -> bool:
        """Whether both encode whatever comes to the same bytes."""
        ours: Any = self.encoder
        return bool(ours.shared or ours.same_as(other.encoder))


class SocketFramer:
    """``events`` messages for one subscription of a socket.

    :param channel: its channel; `name` what the client calls it, if anything.
    """

    __slots__ = ("_named", "_prefix")

    def __init__(self, channel: str, name: str | None) -> None:
        head: dict[str, Any] = {"op": "events", "channel": channel}
        if name is not None:
            head["sub"] = name
        self._prefix = msgspec.json.encode(head).decode()[:-1] + ',"events":['
        self._named = name is not None

    def live(self, items: Sequence[Item]) -> Iterator[str]:
        """Events of the shared log, all of them: in one message, or in several if they are many."""
        if len(items) == 1 and not self._named:
            yield self._shared(items[0])
            return
        count = 0
        for texts in chunks(map(_text, items)):
            count += len(texts)
            yield self._message(texts, items[count - 1].event.cursor)

    def _shared(self, item: Item) -> str:
        text = _text(item)
        assert item.frames is not None
        message: str | None = item.frames.get("ws")
        if message is None:
            message = item.frames["ws"] = self._message([text], item.event.cursor)
        return message

    def whole(
        self, items: Iterable[Item], cursor: str | None, *, reset: bool = False
    ) -> Iterator[str]:
        """A replay, in messages of which only the last has a cursor.

        :param reset: the cursor that the client came with is no longer retained.
        """
        empty = True
        for part, last in marked(chunks(map(_text, items))):
            empty = False
            yield self._message(part, cursor if last else None, reset=reset and last)
        if empty:
            yield self._message([], cursor, reset=reset)

    def _message(self, texts: list[str], cursor: str | None, *, reset: bool = False) -> str:
        tail = "]" if cursor is None else f'],"cursor":{msgspec.json.encode(cursor).decode()}'
        return self._prefix + ",".join(texts) + tail + (',"reset":true}' if reset else "}")


def _text(item: Item) -> str:
    frames = item.frames
    if frames is None:
        frames = item.frames = {}
    text: str | None = frames.get("text")
    if text is None:
        text = frames["text"] = encode_json(item.event).decode()
    return text


def marked(values: Iterable[T]) -> Iterator[tuple[T, bool]]:
    """Pair the values with whether they are the last."""
    iterator = iter(values)
    try:
        held = next(iterator)
    except StopIteration:
        return
    for value in iterator:
        yield held, False
        held = value
    yield held, True


def chunks(parts: Iterable[P]) -> Iterator[list[P]]:
    """Group strings or bytes, in order, into pieces of at most 256 Ki; one that is longer is alone.

    As UTF-8 that is 1 MiB at most: more than that, many clients of WebSockets refuse.
    """
    group: list[P] = []
    size = 0
    for part in parts:
        if group and size + len(part) > _CHUNK:
            yield group
            group, size = [], 0
        group.append(part)
        size += len(part)
    if group:
        yield group
