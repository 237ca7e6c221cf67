"""What a producer has to know of a channel: who writes what, and what was asked of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from msgspec.structs import force_setattr

from tokenwire.events import CancelEvent, Event, InputEvent
from tokenwire_adapters._backends.ably.cursors import show
from tokenwire_adapters._backends.ably.third_party import foreign_control, transport_headers
from tokenwire_adapters._backends.ably.wire import Joiner, Msg, single_of

__all__ = ["Ledger"]

_MAX = 2048


class Ledger:
    """Cancels, inputs and owners of responses, as a channel's messages tell of them.

    :param on_change: called with the id of a response that was begun or ended by somebody.
    :ivar cancels: what was cancelled and has not ended, as far as is known here.
    :ivar inputs: what AI Transport's clients sent, and who; `answers` the responses to it.
    :ivar owners: the first message of each response, and the producer it names.
    :ivar ended: responses that were ended for their producer, which was taken for dead.
    """

    def __init__(self, on_change: Callable[[str], None]) -> None:
        self.cancels: OrderedDict[str, CancelEvent] = OrderedDict()
        self.owners: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self.ended: OrderedDict[str, str] = OrderedDict()
        self.inputs: OrderedDict[str, str | None] = OrderedDict()
        self.answers: OrderedDict[str, str] = OrderedDict()
        self.early: OrderedDict[str, str] = OrderedDict()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._joiner = Joiner()
        self._on_change = on_change

    async def first(self, messages: list[Msg]) -> None:
        await self.again(messages)

    async def again(self, messages: list[Msg]) -> Sequence[Event]:
        found: list[Event] = []
        for msg in sorted(messages, key=lambda m: m.serial):
            found += self.live(msg)
        return found

    def live(self, msg: Msg) -> Sequence[Event]:
        if msg.action == "delete":
            return []
        response_id = msg.headers.get("responseId")
        kind = msg.headers.get("type")
        if isinstance(kind, str) or not msg.ours:
            return self._single(msg, kind, response_id if isinstance(response_id, str) else None)
        fence = msg.headers.get("producer")
        if isinstance(response_id, str) and isinstance(fence, str):
            if msg.name == "end":
                self.ended[response_id] = fence
            elif "start" in msg.headers:
                answered = msg.headers.get("input")
                if isinstance(answered, str):
                    self.answers.setdefault(answered, response_id)
                known = self.owners.get(response_id)
                if known is not None and known[0] <= msg.serial:
                    return []
                self.owners[response_id] = (msg.serial, fence)
            else:
                return []
            for table in (self.owners, self.ended):
                while len(table) > _MAX:
                    table.popitem(last=False)
            self._on_change(response_id)
        return []

    def _single(self, msg: Msg, kind: object, response_id: str | None) -> list[Event]:
        if msg.serial in self._seen:
            return []
        event: Event | None = None
        if kind in ("cancel", "input"):
            payload = self._joiner.payload(msg)
            event = None if payload is None else single_of(str(kind), payload, response_id)
        elif not msg.ours:
            self._note_input(msg)
            event = foreign_control(msg, self.answers)
        if not isinstance(event, CancelEvent | InputEvent):
            return []
        self._seen[msg.serial] = None
        while len(self._seen) > _MAX:
            self._seen.popitem(last=False)
        force_setattr(event, "cursor", show((msg.version, 0, 0)))
        if isinstance(event, CancelEvent):
            self.note_cancel(event)
        return [event]

    def _note_input(self, msg: Msg) -> None:
        """Remember what AI Transport's clients sent, and what they cancelled before it began."""
        told = transport_headers(msg)
        if msg.name == "ai-input" and told.get("role") == "user":
            message_id = told.get("codec-message-id", "")
            self.inputs.setdefault(message_id, msg.client_id)
        elif msg.name == "ai-run-start":
            self.answers.setdefault(told.get("input-codec-message-id", ""), told.get("run-id", ""))
        elif msg.name == "ai-cancel" and "run-id" not in told:
            message_id = told.get("input-codec-message-id", "")
            if message_id not in self.answers:
                self.early[message_id] = msg.serial
        for table in (self.inputs, self.answers, self.early):
            while len(table) > _MAX:
                table.popitem(last=False)

    def answer(self, response_id: str, wanted: object) -> tuple[str, str | None] | None:
        """The input that a response answers: the one that is named, or the newest without one.

        :return: its id and who sent it.
        """
        message_id = wanted if isinstance(wanted, str) and wanted else None
        if message_id is None:
            open_ = [known for known in self.inputs if known not in self.answers]
            message_id = open_[-1] if open_ else None
        if message_id is None:
            return None
        self.answers[message_id] = response_id
        if message_id in self.early:
            serial = self.early.pop(message_id)
            self.note_cancel(CancelEvent(response_id=response_id, id=serial))
        return message_id, self.inputs.get(message_id)

    def note_cancel(self, event: CancelEvent) -> None:
        """Remember a cancel until its response ends."""
        self.cancels.setdefault(event.response_id, event)
        while len(self.cancels) > _MAX:
            self.cancels.popitem(last=False)

    @property
    def incomplete(self) -> bool:
        return False

    def cursor(self) -> str | None:
        return None
