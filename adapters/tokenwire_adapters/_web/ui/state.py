"""What a client has been sent of a run: its responses and their parts."""

from __future__ import annotations

from typing import Any, ClassVar

from tokenwire.approvals import Approval, ApprovalRequest
from tokenwire.events import ENDED, Event, Response, SnapshotEvent, StartEvent, State, ToolResult

__all__ = [
    "ENVELOPE",
    "MAY_WAIT",
    "METADATA",
    "PartState",
    "ResponseState",
    "is_envelope",
    "run_of",
    "run_shown_by",
]

ENVELOPE = "tokenwire.run"
"""The metadata field that marks the envelope: the response that is open as long as its run."""

METADATA = "metadata"
"""The kind of a part that adds to the metadata of its run's message."""

# A run that is over may have left questions: its process died, or it does not wait for answers.
MAY_WAIT: frozenset[str] = frozenset({"streaming", "complete", "abandoned"})
"""The states of a run in which what it asks approval of can be answered."""

_TOOL_REASONS = frozenset({"tool_calls", "tool_use", "tool-calls", "function_call"})
_TEXT_KINDS = frozenset({"text", "reasoning", "refusal"})


def is_envelope(response_id: str, run: str | None, metadata: dict[str, Any]) -> bool:
    """Whether a response represents its whole run: it is open for as long as the run is."""
    return run == response_id and ENVELOPE in metadata


def run_of(response: Response) -> str:
    """The run that a response is of; one that names no run is a run by itself."""
    return response.run or response.id


def run_shown_by(event: Event) -> str | None:
    """The run of the response that an event begins or has whole; None for all other events."""
    if isinstance(event, StartEvent):
        return event.run or event.response_id
    return run_of(event.response) if isinstance(event, SnapshotEvent) else None


class PartState:
    """A part of a response, as far as the client has been sent it.

    :ivar index: its place in the response; `kind`, `name`, `call_id`, `data` and
        `provider_executed` as in the event.
    :ivar length: code points sent.
    :ivar open: it has begun at the client and not ended there.
    :ivar done: all of it has been sent.
    :ivar wire_id: its id in the client's protocol.
    :ivar result: what the tool returned, for a tool call that was answered.
    """

    __slots__ = (
        "_pieces",
        "call_id",
        "data",
        "done",
        "index",
        "kind",
        "length",
        "name",
        "open",
        "provider_executed",
        "result",
        "wire_id",
    )

    compared: ClassVar[tuple[str, ...]] = (*(n for n in __slots__ if n != "_pieces"), "text")
    """The attributes that its state consists of."""

    def __init__(
        self,
        index: int,
        kind: str,
        name: str | None,
        call_id: str | None,
        data: Any,
        *,
        provider_executed: bool = False,
    ) -> None:
        self.index = index
        self.kind = kind
        self.name = name
        self.call_id = call_id
        self.data = data
        self.provider_executed = provider_executed
        self.length = 0
        self.open = False
        self.done = False
        self.wire_id = ""
        self.result: ToolResult | None = None
        # Protocols need the whole text of all but the textual kinds, at their end.
        self._pieces: list[str] | None = None if kind in _TEXT_KINDS else []

    @property
    def text(self) -> str:
        """The text so far of a part that is not of the textual kinds."""
        return "".join(self._pieces or ())

    @property
    def label(self) -> str:
        """What a part of data is called, for protocols that send it under a name."""
        return self.name if self.kind == "data" and self.name else self.kind

    @property
    def value(self) -> Any:
        """What a part of data holds: its data, its text, or both."""
        text = self.text
        if not text:
            return self.data
        return text if self.data is None else {"data": self.data, "text": text}

    def append(self, text: str) -> None:
        """Add text; a producer may return to a part that seemed to be done."""
        self.length += len(text)
        self.done = False
        if self._pieces is not None:
            self._pieces.append(text)


class ResponseState:
    """A response, as far as the client has been sent it.

    :ivar envelope: whether it represents the whole run.
    :ivar started_at: milliseconds since 1970; 0 where it is not known.
    :ivar calls: its tool calls, by call id; `answered`: ids of those that have a result.
    :ivar early_results: results of its calls that were still growing, by call id.
    :ivar approvals: what it asks approval of, by the request's id.
    :ivar decisions: the decisions on these, likewise.
    """

    __slots__ = (
        "answered",
        "approvals",
        "calls",
        "channel",
        "decisions",
        "early_results",
        "envelope",
        "error",
        "finish_reason",
        "id",
        "metadata",
        "parts",
        "started_at",
        "state",
        "usage",
    )

    compared: ClassVar[tuple[str, ...]] = __slots__
    """The attributes that its state consists of."""

    def __init__(
        self, response_id: str, run: str | None, metadata: dict[str, Any], channel: str
    ) -> None:
        self.id = response_id
        self.channel = channel
        self.metadata = metadata
        self.envelope = is_envelope(response_id, run, metadata)
        self.state: State = "streaming"
        self.started_at = 0
        self.parts: list[PartState] = []
        self.calls: dict[str, PartState] = {}
        self.answered: set[str] = set()
        self.early_results: dict[str, ToolResult] = {}
        self.approvals: dict[str, ApprovalRequest] = {}
        self.decisions: dict[str, Approval] = {}
        self.finish_reason: str | None = None
        self.usage: dict[str, Any] | None = None
        self.error: str | None = None

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.state in ENDED

    @property
    def awaits_tools(self) -> bool:
        """Whether it ended by calling tools, so that the run goes on."""
        if self.state != "complete" or not self.calls:
            return False
        return self.finish_reason in _TOOL_REASONS or not self.answered >= self.calls.keys()
