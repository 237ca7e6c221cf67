"""`ReplyReader`: reads the bytes of one HTTP reply into the recorder of its API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from tokenwire.instrument import Recorder
from tokenwire_adapters._agents.stainless.recorder import StainlessRecorder
from tokenwire_adapters._agents.wires.aws_frames import FrameReader
from tokenwire_adapters._agents.wires.content_encoding import ContentDecoder
from tokenwire_adapters._agents.wires.errors import ProviderError, UnreadableReply
from tokenwire_adapters._agents.wires.json_objects import JsonObject, decode
from tokenwire_adapters._agents.wires.json_stream import ArrayReader, LineReader, WholeReader
from tokenwire_adapters._agents.wires.recognition import Wire
from tokenwire_adapters._agents.wires.sse import SseReader
from tokenwire_adapters._agents.wires.usual_events import USUAL_EVENTS

__all__ = ["ReplyReader"]

_LINES = frozenset(
    {
        "application/jsonl",
        "application/ndjson",
        "application/stream+json",
        "application/x-ndjson",
    }
)
_FRAMES = "application/vnd.amazon.eventstream"
_DONE = b"[DONE]"
_SPACE = b" \t\r\n\xef\xbb\xbf"


class _Framer(Protocol):
    def feed(self, data: bytes) -> Iterable[tuple[str, bytes]]: ...
    def flush(self) -> Iterable[tuple[str, bytes]]: ...


class ReplyReader:
    """Reads a copy of the bytes of one HTTP reply, as they came over the wire, into a recorder.

    Not thread-safe. No method raises, but with a strict sink; memory is bounded: of what is too
    large to be read, the response fails, and says so.

    :param recorder: made by ``wire.recorder``; its response begins here, unless the reply is a
        redirect or has no content: one that has begun before fails then.
    :param status: of HTTP. With 400 and above the response fails, with the provider's words.
    :param headers: of the reply.
    """

    def __init__(
        self, wire: Wire, recorder: Recorder, status: int, headers: Mapping[str, str]
    ) -> None:
        self._wire = wire
        self._recorder = recorder
        self._status = status
        usual: tuple[bytes, Any] = USUAL_EVENTS.get(wire.api, (b"", None))
        self._name_line, self._usual = usual
        self._is_between = False  # two events of a stream, as it came
        self._feed_usual = getattr(recorder, "feed_usual", recorder.feed)
        self._framer: _Framer | None = None
        self._decoder: ContentDecoder | None = None
        self._over = False
        lower = {name.lower(): value for name, value in headers.items()}
        self._type = lower.get("content-type", "").partition(";")[0].strip().lower()
        encoding = lower.get("content-encoding", "")
        if status < 200 or status in (204, 205) or 300 <= status < 400:
            self._over = True
            if recorder.writers:
                recorder.fail(ProviderError(None, status))
            return
        recorder.begin()
        if status >= 400:
            self._framer = WholeReader()
        if encoding and encoding.lower() != "identity":
            try:
                self._decoder = ContentDecoder(encoding)
            except UnreadableReply as error:
                self._fail(error)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body, as they were sent: encoded, if they are."""
        if self._over:
            return
        try:
            if self._is_between and self._take_usual(data.splitlines()):
                return
            if self._decoder is None:
                self._read(data)
                framer = self._framer
                self._is_between = isinstance(framer, SseReader) and framer.is_between
                return
            for piece in self._decoder.feed(data):
                self._read(piece)
                if self._over:
                    return
        except (ProviderError, UnreadableReply) as error:
            self._fail(error)
        except Exception as error:  # of ours
            self._give_up(error)

    def end(self) -> None:
        """The body ended in good order."""
        if self._over:
            return
        try:
            if self._status >= 400:
                self._fail(self._error())
                return
            if self._framer is not None:
                self._take_all(self._framer.flush())
            if not self._over:
                self._terminate(False)
        except (ProviderError, UnreadableReply) as error:
            self._fail(error)
        except Exception as error:
            self._give_up(error)

    def fail(self, error: BaseException) -> None:
        """The connection broke."""
        if not self._over:
            self._fail(error if self._status < 400 else self._error())

    def close(self) -> None:
        """The consumer stopped reading."""
        if self._over:
            return
        if self._status >= 400:
            self._fail(self._error())
            return
        self._over = True
        self._recorder.close()

    # -- the body

    def _read(self, data: bytes) -> None:
        if self._framer is None and self._type == _FRAMES:
            self._framer = FrameReader()
        if self._framer is None:
            data = data.lstrip(_SPACE)
            if not data:
                return
            self._framer = self._framer_of(data[:1])
            if isinstance(self._framer, WholeReader):
                self._usual = None
        self._take_all(self._framer.feed(data))

    def _framer_of(self, first: bytes) -> _Framer:
        """What splits the body: by its first byte, since servers send wrong types."""
        wire = self._wire
        if first == b"{":
            is_lines = self._type in _LINES or (wire.framing == "lines" and wire.streams)
            return LineReader() if is_lines else WholeReader()
        if first == b"[":
            return ArrayReader() if wire.framing == "array" else WholeReader()
        return SseReader()

    def _take_usual(self, lines: list[bytes]) -> bool:
        """Take events that came whole, each in the lines that most servers send; False if not."""
        each = 3 if self._name_line else 2
        count, rest = divmod(len(lines), each)
        if (
            rest
            or lines[each - 1 :: each].count(b"") != count
            or (self._name_line and lines[::each].count(self._name_line) != count)
        ):
            return False
        for line in lines[each - 2 :: each]:
            if line.startswith(b"data: "):
                self._take("", line[6:])
            elif line.startswith(b"data:"):
                self._take("", line[5:])
            if self._over or self._recorder.cancelled:
                self._over = True
                break
        return True

    def _take_all(self, messages: Iterable[tuple[str, bytes]]) -> None:
        for name, data in messages:
            self._take(name, data)
            if self._over or self._recorder.cancelled:
                self._over = True
                return

    def _take(self, name: str, data: bytes) -> None:
        recorder = self._recorder
        if self._usual is not None and name != "error":
            try:
                event = self._usual.decode(data)
            except ValueError:  # another event, which `decode` reads
                pass
            else:
                self._feed_usual(event)
                recorder.last = event
                return
        if data.startswith(_DONE):
            self._terminate(True)
            return
        try:
            value = decode(data)
        except ValueError:
            if data.startswith((b"{", b"[")):
                raise UnreadableReply("the reply has JSON in it that is damaged") from None
            return  # a ping, say
        if type(value) is not JsonObject:
            return
        if name == "error" or value.get("error") or value.get("type") == "error":
            if name == "error":
                value.setdefault("type", name)
            self._check_error(value)
        if isinstance(self._framer, WholeReader):
            recorder.record_reply(value)
        else:
            recorder.feed(value)
            recorder.last = value
        self._over = self._over or recorder.ended

    def _check_error(self, value: JsonObject) -> None:
        """Raise what the provider reports in the place of a message.

        A whole `Response` has an ``error`` of its own, and so may a reply that has choices; errors
        of a session are events.
        """
        if getattr(self._recorder, "reads_errors", False):
            return
        if not isinstance(self._framer, WholeReader) or not (
            value.get("output") or value.get("choices") or value.get("object") == "response"
        ):
            raise ProviderError(value)

    # -- ends

    def _terminate(self, is_marked: bool) -> None:
        """The stream is over.

        :param is_marked: its protocol's mark of the end has come.
        """
        self._over = True
        if isinstance(self._recorder, StainlessRecorder):
            self._recorder.end_of_stream(is_marked)
        self._recorder.end()

    def _error(self) -> ProviderError:
        """What the provider said in the body of an error."""
        body: Any = None
        if self._framer is not None:
            for _, data in self._framer.flush():
                try:
                    body = decode(data)
                except ValueError:
                    body = data.decode("utf-8", "replace").strip()
        return ProviderError(body, self._status)

    def _fail(self, error: BaseException) -> None:
        self._over = True
        self._recorder.fail(error)

    def _give_up(self, error: Exception) -> None:
        self._over = True
        self._recorder.give_up(error)
