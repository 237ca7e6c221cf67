"""The headers of AI Transport that say which run, step and message something belongs to."""

from __future__ import annotations

from typing import Any

from tokenwire import approvals
from tokenwire.events import ToolResultEvent
from tokenwire_adapters._backends.ably.ai_transport_chunks import Chunk, decision_chunk
from tokenwire_adapters._backends.ably.transport_inputs import TransportInput
from tokenwire_adapters._backends.ably.wire import FORMAT_HEADER, new_message

__all__ = ["RunHeaders"]


class RunHeaders:
    """The headers of one response.

    :ivar given: the input that it answers, once known.
    :ivar resumed: how often its run went on after it had waited for people.
    :ivar step_serial: of the message that began its step; None before.
    """

    def __init__(self, response_id: str) -> None:
        self.given: TransportInput | None = None
        self.resumed = 0
        self.step_serial: str | None = None
        self._response_id = response_id

    @property
    def run_id(self) -> str:
        """The id of the run: of the one that waited, or of the response."""
        if self.given is not None and self.given.run is not None:
            return self.given.run
        return self._response_id

    @property
    def message_id(self) -> str:
        """The id of the page's message."""
        return f"{self._response_id}-message"

    def message_name(self) -> dict[str, str]:
        """The header that names the page's message; none where `useChat` adds to the one before."""
        given = self.given
        goes_on = given is not None and (given.is_fork or given.run is not None)
        return {} if goes_on else {"messageId": self._response_id}

    def run(self) -> dict[str, str]:
        """Of the messages that begin, suspend, resume and end a run."""
        number = f"-{self.resumed}" if self.resumed else ""
        headers = {
            "run-id": self.run_id,
            "invocation-id": f"{self._response_id}-invocation{number}",
        }
        if self.resumed:  # by an answer, which pages address to the message that asks
            headers["input-codec-message-id"] = self.message_id
        elif self.given is not None:
            headers["input-codec-message-id"] = self.given.id
        if self.given is not None and self.given.sender is not None:
            headers |= {"run-client-id": self.given.sender, "input-client-id": self.given.sender}
        return headers

    def place(self) -> dict[str, str]:
        """Where the run is in the tree of the conversation.

        A question that is asked again is a branch of its own. An answer that is asked for again
        follows the same question as the one before it, as does one that goes on with what a tool
        of a page gave.
        """
        given = self.given
        if given is None or given.run is not None:
            return {}
        if given.is_fork:
            return {} if given.parent is None else {"parent": given.parent}
        anew = given.regenerates is not None and given.parent is not None
        place = {"parent": given.parent if anew and given.parent is not None else given.id}
        if given.fork_of is not None:
            place["fork-of"] = given.fork_of
        if given.regenerates is not None:
            place["msg-regenerate"] = given.regenerates
        return place

    def step(self) -> dict[str, str]:
        """Of the messages that begin and end a step."""
        headers = self.run() | {"step-id": f"{self._response_id}-step-{self.resumed}"}
        if "run-client-id" in headers:
            headers["step-client-id"] = headers["run-client-id"]
        return headers

    def step_end(self, reason: str) -> dict[str, Any]:
        """The extras of the message that ends a step."""
        assert self.step_serial is not None
        step = self.step() | {"step-start-serial": self.step_serial, "step-reason": reason}
        return {"ai": {"transport": step}}

    def output(self) -> dict[str, str]:
        """Of the messages with what the agent answers."""
        headers = self.step() | {"role": "assistant", "codec-message-id": self.message_id}
        headers |= self.place()
        if self.step_serial is not None:
            headers["step-start-serial"] = self.step_serial
        return headers

    def chunk(self, chunk: Chunk) -> dict[str, Any]:
        """The extras of a message that is one chunk."""
        transport = self.output() | {"stream": "false"} | chunk.transport
        return {"ai": {"transport": transport, "codec": {"kind": chunk.kind, **chunk.codec}}}

    def decision(
        self, request: approvals.ApprovalRequest, result: ToolResultEvent, message_id: str
    ) -> Any:
        """The message that shows a decision: whoever made it, every page shows the same."""
        chunk = decision_chunk(request, result)
        if chunk.kind == "tool-output-denied":
            extras = self.chunk(chunk)
            return new_message(id=message_id, name="ai-output", data="", extras=extras)
        transport = {
            "role": "user",
            "run-id": self.run_id,
            "codec-message-id": self.message_id,
            "event-id": message_id,
        }
        codec = {"kind": chunk.kind, **chunk.codec}
        extras = {"headers": {FORMAT_HEADER: 1}, "ai": {"transport": transport, "codec": codec}}
        return new_message(id=message_id, name="ai-input", data="", extras=extras)
