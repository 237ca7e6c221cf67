"""Tracks which producer owns each response of a channel, and the requests made to producers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import force_setattr

from tokenwire.events import CancelEvent, Event, InputEvent
from tokenwire_adapters._backends.ably.cursors import format_cursor
from tokenwire_adapters._backends.ably.third_party import third_party_request
from tokenwire_adapters._backends.ably.transport_inputs import (
    TransportInput,
    input_of,
    transport_headers,
)
from tokenwire_adapters._backends.ably.wire import ChannelMessage, PayloadJoiner, decode_event

__all__ = ["Ownership"]

_MAX = 2048


class Ownership:
    """Cancels, inputs and owners of responses, read from a channel's messages.

    It handles the messages of a `ChannelSubscription` (see `MessageHandler`).

    :param on_change: called with the id of a response that a producer began, or was ended for it.
    :ivar cancels: by response: a cancel of a response that has not ended, as far as known here.
    :ivar inputs: inputs of AI Transport's clients, by key.
    :ivar answers: by input, and by run that went on: the response that answers it.
    :ivar suspended: runs of AI Transport that wait, and the `run` of the response of each.
    :ivar owners: by response: the serial of its first message, and its producer's fence.
    :ivar ended: by response: the fence of a producer for which it was ended as abandoned.
    """

    def __init__(self, on_change: Callable[[str], None]) -> None:
        self.cancels: OrderedDict[str, CancelEvent] = OrderedDict()
        self.owners: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self.ended: OrderedDict[str, str] = OrderedDict()
        self.inputs: OrderedDict[str, TransportInput] = OrderedDict()
        self.answers: OrderedDict[str, str] = OrderedDict()
        self.suspended: OrderedDict[str, str | None] = OrderedDict()
        self._early_cancels: OrderedDict[str, str] = OrderedDict()  # by input: the cancel's serial
        self._handled: OrderedDict[str, None] = OrderedDict()
        self._joiner = PayloadJoiner()
        self._on_change = on_change

    async def load(self, messages: list[ChannelMessage]) -> None:
        await self.reload(messages)

    async def reload(self, messages: list[ChannelMessage]) -> Sequence[Event]:
        events: list[Event] = []
        for msg in sorted(messages, key=lambda m: m.serial):
            events += self.handle(msg)
        return events

    def handle(self, msg: ChannelMessage) -> Sequence[Event]:
        if msg.action == "delete":
            return []
        response_id = msg.headers.get("responseId")
        kind = msg.headers.get("type")
        if isinstance(kind, str) or not msg.is_native:
            named = response_id if isinstance(response_id, str) else None
            return self._handle_request(msg, kind, named)
        fence = msg.headers.get("producer")
        if isinstance(response_id, str) and isinstance(fence, str):
            self._handle_response(msg, response_id, fence)
        return []

    def _handle_response(self, msg: ChannelMessage, response_id: str, fence: str) -> None:
        if msg.name == "ai-run-suspend":
            run = msg.headers.get("run")
            run_id = transport_headers(msg).get("run-id", response_id)
            self.note_suspended(run_id, run if isinstance(run, str) else None)
            return
        if msg.name == "end":
            self.ended[response_id] = fence
        elif "start" in msg.headers:
            self._note_begun(msg, response_id)
            owner = self.owners.get(response_id)
            if owner is not None and owner[0] <= msg.serial:
                return
            self.owners[response_id] = (msg.serial, fence)
        else:
            return
        _trim(self.owners, self.ended)
        self._on_change(response_id)

    def _note_begun(self, msg: ChannelMessage, response_id: str) -> None:
        answered = msg.headers.get("input")
        if isinstance(answered, str):
            self.answers.setdefault(answered, response_id)
        if msg.name == "ai-run-resume":
            self.answers[transport_headers(msg).get("run-id", "")] = response_id

    def _handle_request(
        self, msg: ChannelMessage, kind: object, response_id: str | None
    ) -> list[Event]:
        """Decode a cancel or an input, each message once."""
        if msg.serial in self._handled:
            return []
        event: Event | None = None
        if kind in ("cancel", "input"):
            payload = self._joiner.payload(msg)
            event = None if payload is None else decode_event(str(kind), payload, response_id)
        elif not msg.is_native:
            self._note_transport_message(msg)
            event = third_party_request(msg, self.answers)
        if not isinstance(event, CancelEvent | InputEvent):
            return []
        self._handled[msg.serial] = None
        _trim(self._handled)
        force_setattr(event, "cursor", format_cursor((msg.version, 0, 0)))
        if isinstance(event, CancelEvent):
            self.note_cancel(event)
        return [event]

    def _note_transport_message(self, msg: ChannelMessage) -> None:
        """Remember AI Transport's inputs, their answers, and cancels that come before the run."""
        headers = transport_headers(msg)
        message_id = headers.get("input-codec-message-id", "")
        given = input_of(msg)
        if given is not None:
            self.inputs.setdefault(given.key, given)
        elif msg.name == "ai-run-start":
            self.answers.setdefault(message_id, headers.get("run-id", ""))
        elif msg.name == "ai-cancel" and "run-id" not in headers and message_id not in self.answers:
            self._early_cancels[message_id] = msg.serial
        _trim(self.inputs, self.answers, self._early_cancels)

    def answer(self, response_id: str, input_id: object, run: str | None) -> TransportInput | None:
        """Choose the input that a response answers: the one given, or the newest without answer.

        A response without an input goes on with a run of AI Transport that waits for the results
        of its tools, if it has the same `run`.

        :return: None where there is no input.
        """
        if isinstance(input_id, str) and input_id:
            given = self.inputs.get(input_id) or TransportInput(input_id, input_id)
        else:
            waiting = [name for name, of in self.suspended.items() if run is not None and of == run]
            known = [one for key, one in self.inputs.items() if key not in self.answers]
            known = [one for one in known if one.is_open]
            if waiting:
                given = TransportInput(f"{waiting[-1]}-message", "", run=waiting[-1])
            elif known:
                given = known[-1]
            else:
                return None
        for name in (given.key, given.id, given.run):
            if name:
                self.answers[name] = response_id
        if given.run is not None:
            self.suspended.pop(given.run, None)
        if given.id in self._early_cancels:
            serial = self._early_cancels.pop(given.id)
            self.note_cancel(CancelEvent(response_id=response_id, id=serial))
        _trim(self.answers)
        return given

    def note_suspended(self, run_id: str, run: str | None) -> None:
        """Remember a run of AI Transport that waits for the results of its tools.

        :param run: of its response, as tokenwire has it.
        """
        self.suspended[run_id] = run
        _trim(self.suspended)

    def note_cancel(self, event: CancelEvent) -> None:
        """Remember a cancel until its response ends."""
        self.cancels.setdefault(event.response_id, event)
        _trim(self.cancels)

    @property
    def incomplete(self) -> bool:
        return False

    def cursor(self) -> str | None:
        return None


def _trim(*tables: OrderedDict[str, Any]) -> None:
    for table in tables:
        while len(table) > _MAX:
            table.popitem(last=False)
