"""Approvals that a run asks for, and what was decided on them."""

from __future__ import annotations

from tokenwire import approvals
from tokenwire.approvals import ApprovalRequest
from tokenwire.events import ToolResult
from tokenwire_adapters._web.ui.message import MessageEncoder
from tokenwire_adapters._web.ui.state import PartState, ResponseState

__all__ = ["ApprovalEncoder"]


class ApprovalEncoder(MessageEncoder):
    """Finds requests for approval among the parts of a message, and decisions among results."""

    def _approval(self, response: ResponseState, part: PartState) -> bool:
        """Take a request for approval; False where the part is none."""
        request = approvals.request_of(part.name, part.call_id, part.data)
        if request is None:
            return False
        part.done = True
        response.approvals[request.id] = request
        called = self.call_of(request)
        if called is not None and not called[1].done:
            self.close_part(*called)
            called[1].done = True
        self.ask_approval(request)
        return True

    def call_of(self, request: ApprovalRequest) -> tuple[ResponseState, PartState] | None:
        """The tool call that a request is about, and its response, where they are known."""
        caller = self._caller(request.call_id) if request.call_id else None
        return None if caller is None else (caller, caller.calls[request.call_id or ""])

    def _decide(self, response: ResponseState, result: ToolResult) -> None:
        request = response.approvals[result.call_id]
        if request.id not in response.decisions:
            approval = approvals.decision_of(request, response.id, result.output)
            response.decisions[request.id] = approval
            self.add_decision(approval)

    @property
    def pending(self) -> list[ApprovalRequest]:
        """What the run asks approval of, and nobody has answered."""
        return [
            request
            for response in self.responses.values()
            for request in response.approvals.values()
            if request.id not in response.decisions
        ]

    def _waits(self) -> bool:
        """Whether the run waits for approvals, and for nothing else."""
        pending = self.pending if self.pauses else []
        if not pending or pending[-1].more:
            return False
        open_responses = [response for response in self.responses.values() if not response.ended]
        return all(
            response.approvals.keys() - response.decisions.keys() for response in open_responses
        )
