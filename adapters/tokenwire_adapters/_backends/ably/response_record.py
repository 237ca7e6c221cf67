"""One response, reassembled from its messages: text at its offset and once, and the end last."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from msgspec import Struct

from tokenwire.events import DeltaEvent, EndEvent, Event, PartEvent, Response
from tokenwire.response import Assembler, overlap
from tokenwire_adapters._backends.ably.third_party import ThirdPartyResponse
from tokenwire_adapters._backends.ably.wire import (
    ChannelMessage,
    PayloadJoiner,
    int_header,
    parse_end,
    text_crc,
)

__all__ = ["ResponseRecord"]

_MAX_EARLY = 256  # pieces of a response
_MAX_PART = 10_000


class _Piece(NamedTuple):
    """Text or data of one part, from one message."""

    part: int
    kind: str
    offset: int
    text: str
    msg: ChannelMessage
    data: Any = None


class ResponseRecord(Struct, eq=False):
    """The state of one response, reassembled from its messages.

    :ivar fence: identifies its producer; messages of other producers under its id are ignored.
    :ivar first: the serial of its first message; `last`: the version of its latest.
    :ivar lease: seconds that its producer may be silent.
    :ivar seen_at: when its producer last sent something, by Ably's clock.
    :ivar run_headers: the headers of its run in AI Transport's dialect.
    :ivar checksums: by message: the length and CRC of its text.
    :ivar end: the end, and the length that each part has then.
    :ivar lacks_text: whether the end has come before some of the text.
    :ivar damaged: messages whose text does not fit its checksum.
    :ivar early: pieces that came before what precedes them.
    """

    assembler: Assembler
    fence: str
    first: str
    last: str
    lease: float = 15.0
    seen_at: int = 0
    third_party: ThirdPartyResponse | None = None
    run_headers: dict[str, str] = {}
    checksums: dict[str, tuple[int, int]] = {}
    end: tuple[EndEvent, list[int]] | None = None
    lacks_text: bool = False
    damaged: set[str] = set()
    early: list[_Piece] = []

    @property
    def response(self) -> Response:
        """The response so far."""
        return self.assembler.response

    @property
    def incomplete(self) -> bool:
        """Whether messages are missing, so that history should be read again."""
        return bool(self.lacks_text or self.early or self.damaged)

    @property
    def part_lengths(self) -> list[int]:
        """The length of each part so far, in code points."""
        return [self.assembler.part_length(part) for part in range(self.assembler.parts)]

    def add(
        self, msg: ChannelMessage, joiner: PayloadJoiner, events: list[Event], *, is_last: bool
    ) -> None:
        """Add a message of its producer; what it completes is added to `events`.

        :param is_last: no more will come: end the response, if its end has come, as it is.
        """
        if "layout" in msg.headers:
            self._add_all_text(msg, events)
        elif "part" in msg.headers:
            self._add_part_message(msg, joiner, events)
        self.end = parse_end(msg.headers, self.assembler.id) or self.end
        self._finish(events, force=is_last)

    def _finish(self, events: list[Event], *, force: bool) -> None:
        """End the response, if its end has come and all its text is there."""
        if self.end is None or self.assembler.ended:
            return
        end, extent = self.end
        lengths = self.part_lengths
        complete = len(lengths) >= len(extent) and all(
            length >= expected for length, expected in zip(lengths, extent, strict=False)
        )
        self.lacks_text = not complete
        if (complete or force) and self.assembler.apply(end):
            self.lacks_text = False
            self.early.clear()
            self.damaged.clear()
            events.append(end)

    def _add_part_message(
        self, msg: ChannelMessage, joiner: PayloadJoiner, events: list[Event]
    ) -> None:
        """Add a message with text or data of one part, if its checksum is right."""
        headers = msg.headers
        part, base = int_header(headers, "part", maximum=_MAX_PART), int_header(headers, "offset")
        length, crc = int_header(headers, "length"), int_header(headers, "crc")
        kind = headers.get("kind")
        if part is None or base is None or not isinstance(kind, str):
            return
        data: Any = None
        if headers.get("payload"):
            payload = {"data": msg.data}
            if headers["payload"] != "raw":
                payload = joiner.payload(msg)
            if not isinstance(payload, dict):
                return
            data = cast("dict[str, Any]", payload).get("data")
            text, offset = "", 0
        else:
            text = msg.data if isinstance(msg.data, str) else ""
            length = len(text) if length is None else length
            offset = base + length - len(text)
            if msg.action == "append":
                intact = _continues(self.checksums.get(msg.serial), text, length, crc)
            else:
                intact = len(text) == length and (crc is None or text_crc(text) == crc)
            if not intact:
                self.damaged.add(msg.serial)
                return
            self.damaged.discard(msg.serial)
            if crc is not None:
                self.checksums[msg.serial] = (length, crc)
        self._add_piece(_Piece(part, kind, offset, text, msg, data), events)

    def _add_all_text(self, msg: ChannelMessage, events: list[Event]) -> None:
        """Add a message with the text of several parts, one after the other."""
        layout, text = msg.headers.get("layout"), msg.data
        if not isinstance(layout, str) or not isinstance(text, str):
            return
        begin = 0
        for item in layout.split(","):
            part, _, length = item.partition(":")
            if not (part.isdigit() and length.isdigit()):
                return
            end = begin + int(length)
            self._add_piece(_Piece(int(part), "text", 0, text[begin:end], msg), events)
            begin = end

    def _add_piece(self, piece: _Piece, events: list[Event]) -> None:
        """Append a piece to its part, or keep it until what precedes it has come.

        Appends that Ably holds for its rollup window arrive after messages published later.
        """
        if not self._fits(piece):
            self.early.append(piece)
            del self.early[:-_MAX_EARLY]
            return
        self._append(piece, events)
        progress = bool(self.early)
        while progress:
            progress = False
            for early in list(self.early):
                if self._fits(early):
                    self.early.remove(early)
                    self._append(early, events)
                    progress = True

    def _fits(self, piece: _Piece) -> bool:
        assembler = self.assembler
        have = assembler.part_length(piece.part)
        return piece.part <= assembler.parts and overlap(have, piece.offset, piece.text) is not None

    def _append(self, piece: _Piece, events: list[Event]) -> None:
        """Apply what is new of a piece, and add it to `events`."""
        part, kind, offset, text, msg, data = piece
        assembler = self.assembler
        name, call_id = msg.headers.get("name"), msg.headers.get("callId")
        provider_executed = msg.headers.get("providerExecuted") is True
        bare = name is None and call_id is None and data is None and not provider_executed
        if part == assembler.parts and not bare:
            opened = PartEvent(
                response_id=assembler.id,
                part=part,
                kind=kind,
                name=name if isinstance(name, str) else None,
                call_id=call_id if isinstance(call_id, str) else None,
                data=data,
                provider_executed=provider_executed,
            )
            assembler.apply(opened)
            events.append(opened)
        have = assembler.part_length(part)
        new = overlap(have, offset, text)
        if new:
            delta = DeltaEvent(
                response_id=assembler.id,
                part=part,
                kind=kind,
                offset=have,
                text=new,
                ts=msg.updated,
            )
            assembler.apply(delta)
            events.append(delta)


def _continues(before: tuple[int, int] | None, text: str, length: int, crc: int | None) -> bool:
    """Whether an append leads from a message's length and checksum before it to those after it."""
    if before is None or crc is None:
        return False
    have, checksum = before
    new = overlap(have, length - len(text), text)
    return new is not None and (not new or text_crc(new, checksum) == crc)
