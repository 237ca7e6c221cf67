"""Reads responses, cancels and inputs that programs without tokenwire publish.

Responses follow Ably's documentation: one message per response, or per token. They have no
offsets, so repeats and gaps in them are not noticed: what Ably delivers counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from tokenwire._clock import now_ms
from tokenwire.events import CancelEvent, DeltaEvent, EndEvent, Event, InputEvent, StartEvent, State
from tokenwire.response import Assembler
from tokenwire_adapters._backends.ably.transport_inputs import is_transport_message, transport_event
from tokenwire_adapters._backends.ably.wire import ChannelMessage

__all__ = ["ThirdPartyResponse", "third_party_request"]

_TOKENS = ("start", "token", "stop", "response-complete")
_SILENCE = 60_000  # milliseconds after which a response without an end counts as complete
_STATES = {"complete": "complete", "cancelled": "cancelled", "failed": "failed", "error": "failed"}


def third_party_request(
    msg: ChannelMessage, answers: Mapping[str, str]
) -> CancelEvent | InputEvent | None:
    """Decode a cancel or an input that was published without tokenwire.

    These are messages named ``cancel``, with ``responseId`` in headers or data, or ``input``; and
    ``ai-cancel`` and ``ai-input`` of AI Transport's clients.

    :param answers: as for `transport_event`.
    """
    data = msg.data
    if is_transport_message(msg):
        return transport_event(msg, answers)
    if msg.name == "cancel":
        response_id = msg.headers.get("responseId")
        reason = None
        if isinstance(data, dict):
            fields = cast("dict[str, Any]", data)
            response_id = response_id or fields.get("responseId")
            reason = fields.get("reason")
        if isinstance(response_id, str) and 0 < len(response_id) <= 256:
            reason = reason[:500] if isinstance(reason, str) else None
            return CancelEvent(
                response_id=response_id, reason=reason, id=msg.serial, ts=msg.updated
            )
    if msg.name == "input":
        name = msg.headers.get("name")
        return InputEvent(
            name=name if isinstance(name, str) and name else "message",
            data=None if isinstance(data, bytes | bytearray) else data,
            id=msg.serial,
            sender=msg.client_id,
            ts=msg.updated,
        )
    return None


class ThirdPartyResponse:
    """Decodes the messages of one response that was published without tokenwire.

    :param assembler: holds the response; it is only read here.
    """

    def __init__(self, assembler: Assembler) -> None:
        self._assembler = assembler
        self._decoded: set[str] = set()  # serials

    @staticmethod
    def response_id(msg: ChannelMessage) -> str | None:
        """The id of the response that a message belongs to; None where it belongs to none."""
        header = msg.headers.get("responseId")
        named = isinstance(header, str) and 0 < len(header) <= 256
        if msg.name in _TOKENS:
            return str(header) if named else None
        if msg.name == "response" and isinstance(msg.data, str | None):
            return str(header) if named else msg.serial
        return None

    def events(self, msg: ChannelMessage, channel: str, *, from_history: bool) -> list[Event]:
        """The events that a message adds to the response."""
        response_id = self._assembler.id
        events: list[Event] = []
        if self._assembler.state is None:
            events.append(StartEvent(response_id=response_id, channel=channel, ts=msg.created))
        elif self._assembler.ended:
            return []
        length = self._assembler.part_length(0)
        text = msg.data if isinstance(msg.data, str) else ""
        state: State | None = None
        ts = msg.updated
        if msg.name in _TOKENS:
            if msg.serial in self._decoded:
                return []
            self._decoded.add(msg.serial)
            if msg.name == "response-complete":
                text, state = text[length:], "complete"
            elif msg.name == "stop":
                text, state = "", "complete"
            elif msg.name == "start":
                text = ""
        else:
            if msg.action != "append":
                text = text[length:]
            state = cast("State | None", _STATES.get(str(msg.headers.get("status"))))
            if from_history and state is None and now_ms() - ts > _SILENCE:
                state = "complete"
        if text:
            events.append(
                DeltaEvent(
                    response_id=response_id, part=0, kind="text", offset=length, text=text, ts=ts
                )
            )
        if state is not None:
            events.append(EndEvent(response_id=response_id, state=state, ts=ts))
        return events
