"""What tools returned: each result is written with the call that it answers."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from tokenwire.approvals import ApprovalRequest
from tokenwire.events import ToolResult, ToolResultEvent
from tokenwire_adapters._web.ui.approvals import ApprovalEncoder
from tokenwire_adapters._web.ui.errors import shown_error
from tokenwire_adapters._web.ui.json import is_json
from tokenwire_adapters._web.ui.state import PartState, ResponseState

__all__ = ["ResultEncoder"]


class ResultEncoder(ApprovalEncoder):
    """Finds the call that a tool's result answers, which may come later than the result."""

    def __init__(self, *, run: str | None, message_id: str | None) -> None:
        super().__init__(run=run, message_id=message_id)
        # Results that came before what they answer; the call is there when its response has ended.
        self._early_results: dict[str, ToolResult] = {}

    def take_result_part(self, response: ResponseState, part: PartState, text: Any) -> None:
        """Take a part that is the result of a tool. `text`: what its text stands for."""
        if part.call_id is not None:
            output = part.data if part.data is not None else text
            self.record_result(response, ToolResult(call_id=part.call_id, output=output))

    def refuse_call(self, request: ApprovalRequest, error: str) -> None:
        """Give a call that was not approved an error as its result."""
        called = self.call_of(request)
        if called is not None:  # models take no conversation in which a call has no result
            self.record_result(called[0], ToolResult(call_id=called[1].call_id or "", error=error))

    def record_result(self, response: ResponseState, result: ToolResult) -> None:
        """Take a result that is a part of `response`, as some providers send theirs."""
        self._take_result(response, result)

    def _tool_result(self, event: ToolResultEvent) -> None:
        result = ToolResult(
            call_id=event.call_id, name=event.name, output=event.output, error=event.error
        )
        if event.response_id is not None:
            response = self.responses.get(event.response_id)
        elif event.run is not None and event.run not in self._runs:
            return
        else:
            response = self._caller(event.call_id)
            # Without a run it may be of any: only calls that are known count.
            if response is None and event.run is not None:
                self._early_results.setdefault(event.call_id, result)
        if response is not None:
            self._take_result(response, result)

    def _take_result(self, response: ResponseState, result: ToolResult) -> None:
        if result.call_id in response.approvals:
            self._decide(response, result)
            return
        if result.call_id in response.answered:
            return
        part = response.calls.get(result.call_id)
        if part is None:
            caller = self._caller(result.call_id)
            if caller is None:
                self._early_results.setdefault(result.call_id, result)
            elif caller is not response:
                self._take_result(caller, result)
            return
        if not (part.done or response.ended or is_json(part.text)):
            response.early_results.setdefault(result.call_id, result)  # the call is still growing
            return
        response.answered.add(result.call_id)
        if result.error is not None:
            where = f"call {result.call_id!r} of response {response.id!r}"
            error = shown_error(result.error or "error", self.on_error, where)
            result = replace(result, error=error)
        if not part.done:
            self.close_part(response, part)
            part.done = True
        part.result = result
        self.add_result(response, part, result)

    def _take_early_results(self, response: ResponseState) -> None:
        """Take the results that waited for calls of a response to be complete."""
        for result in list(response.early_results.values()):
            self._take_result(response, result)
        for call_id in response.calls.keys() & self._early_results.keys() - response.answered:
            self._take_result(response, self._early_results.pop(call_id))
