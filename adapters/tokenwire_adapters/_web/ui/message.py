"""One message of a user interface's protocol: its state, and what a protocol writes of it."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Self, cast

from tokenwire.approvals import Approval, ApprovalRequest
from tokenwire.encoding import Encoder, Frame
from tokenwire.events import DataEvent, ToolResult
from tokenwire_adapters._web.ui.errors import OnError, safe_error
from tokenwire_adapters._web.ui.selection import RunSelector
from tokenwire_adapters._web.ui.state import PartState, ResponseState

__all__ = ["MessageEncoder"]

_ABANDONED = "The agent stopped without an answer."
_LOST = "The connection to the agent was lost."


class MessageEncoder(Encoder):
    """What is known of a message, and the methods by which a protocol writes it.

    See `RunEncoder` for parameters and attributes.
    """

    pauses: ClassVar[bool] = False
    forks: ClassVar[bool] = False
    passing: ClassVar[frozenset[str]] = frozenset({"_frames"})

    def __init__(self, *, run: str | None, message_id: str | None) -> None:
        self.run: str | None = run
        self.message_id: str | None = message_id
        self.responses: dict[str, ResponseState] = {}
        self.last_ended: ResponseState | None = None
        self.interrupted: list[ApprovalRequest] = []
        self.started = False
        self.replaying = False
        self.on_error: OnError = safe_error
        self._runs: set[str | None] = {run}
        self._frames: list[Frame] = []
        self._call_ids: set[str] = set()

    # -- what a protocol writes

    @abstractmethod
    def begin_message(self, run: str) -> None:
        """Begin the message."""

    @abstractmethod
    def open_part(self, response: ResponseState, part: PartState) -> None:
        """Announce a part that has just begun; its text, if any, follows."""

    @abstractmethod
    def add_text(self, response: ResponseState, part: PartState, text: str) -> None:
        """Add text to a part (perhaps its first)."""

    @abstractmethod
    def close_part(self, response: ResponseState, part: PartState, *, cut: bool = False) -> None:
        """End a part; `cut`: its response ended before the part was complete."""

    @abstractmethod
    def add_result(self, response: ResponseState, part: PartState, result: ToolResult) -> None:
        """Add what a tool returned to the part that called it."""

    @abstractmethod
    def add_data(self, event: DataEvent) -> None:
        """Add a data event."""

    def ask_approval(self, request: ApprovalRequest) -> None:
        """Show that the run asks for approval of a tool call. By default, nothing is written."""

    def add_decision(self, approval: Approval) -> None:
        """Show what was decided on a request. By default, nothing is written."""

    def withdraw_approval(self, request: ApprovalRequest) -> None:
        """Show that nobody can approve this any more: its run has ended."""

    def continue_message(self, run: str) -> None:
        """Begin a stream for a client that has the message up to here (see `skip`)."""
        self.begin_message(run)

    def end_response(self, response: ResponseState) -> None:
        """End a response; its parts are closed. By default, nothing is written."""

    @abstractmethod
    def end_message(self, response: ResponseState | None) -> None:
        """End the message. `response`: the one that says how; None: it is not known."""

    @staticmethod
    def failure_text(response: ResponseState | None) -> str:
        """What pages are shown of a run that failed; None: it is not known how it ended."""
        return _LOST if response is None else response.error or _ABANDONED

    def emit(self, data: bytes, *, event: str | None = None) -> None:
        """Send a frame to the client: its data, and the name of the server-sent event."""
        self._frames.append(Frame(data, event=event))

    def unique_call_id(self, response: ResponseState, part: PartState) -> str:
        """An id for a new tool call: ids of some providers repeat from response to response."""
        call_id = part.call_id or ""
        if call_id in self._call_ids:
            call_id = f"{call_id}:{response.id}:{part.index}"
        self._call_ids.add(call_id)
        return call_id

    # -- for its parts

    def _flush(self) -> list[Frame]:
        frames, self._frames = self._frames, []
        return frames

    def start_message(self) -> None:
        """Begin the message, where that has not been done."""
        if not self.started:
            self.started = True
            assert self.run is not None
            self.begin_message(self.run)

    def _caller(self, call_id: str) -> ResponseState | None:
        """The response that made a call: the last one whose call is not answered yet."""
        caller = None
        for response in self.responses.values():
            if call_id in response.calls and (caller is None or call_id not in response.answered):
                caller = response
        return caller

    # -- sharing what is encoded

    def fork(self) -> Self:
        """Another encoder that encodes what comes as this one does."""
        return copy.deepcopy(self, {id(self.on_error): self.on_error})

    def same_as(self, other: Self) -> bool:
        """Whether both encode whatever comes to the same frames: their states are equal."""
        return type(self) is type(other) and self._compared() == other._compared()

    def _compared(self) -> Any:
        return [_state_of(pair) for pair in vars(self).items() if pair[0] not in self.passing]


def _state_of(value: Any) -> Any:
    """A value that equals that of another object whose state is the same; order counts."""
    if isinstance(value, dict):
        return [_state_of(pair) for pair in cast("dict[Any, Any]", value).items()]
    if isinstance(value, list | tuple):
        return [_state_of(item) for item in cast("Iterable[Any]", value)]
    if isinstance(value, PartState | ResponseState):
        return [_state_of(getattr(value, name)) for name in value.compared]
    return vars(value) if isinstance(value, RunSelector) else value
