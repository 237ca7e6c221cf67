"""`VercelEncoder`: a run as one message of the AI SDK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tokenwire.approvals import Approval, ApprovalRequest
from tokenwire.events import DataEvent, ToolResult
from tokenwire_adapters._web.ui.encoder import RunEncoder
from tokenwire_adapters._web.ui.json import (
    is_json,
    json_bytes,
    media_of,
    parsed,
    reason_of,
    source_of,
    usage_of,
)
from tokenwire_adapters._web.ui.state import METADATA, PartState, ResponseState

__all__ = ["VercelEncoder"]

_TEXT = {"text": "text", "refusal": "text", "reasoning": "reasoning"}


class VercelEncoder(RunEncoder):
    """Encodes one run as one assistant message, with a step for each response.

    Responses that stream side by side share a step, since the protocol finds a tool call by its
    id within the step. Text stays open until its response ends; reasoning is closed when something
    else follows it.

    A page takes a last step whose tool calls are all answered for an answer that it is to go on
    with, and sends a request by itself. So what follows an answered call is in another step, and
    where nothing follows, an empty step says that the answer is over.

    :param run: the run to encode; by default the first one that is seen streaming.
    :param enveloped: whether the run is known to have an envelope.
    :param message_id: the id of the message; by default, that of the run, so that a page that
        reconnects replaces it.
    :param dynamic_tools: send tools as ``dynamic-tool`` parts rather than ``tool-NAME``.
    """

    name = "vercel"
    forks = True
    pauses = True
    headers: ClassVar[Mapping[str, str]] = {"x-vercel-ai-ui-message-stream": "v1"}

    def __init__(
        self,
        *,
        run: str | None = None,
        enveloped: bool = False,
        message_id: str | None = None,
        dynamic_tools: bool = False,
    ) -> None:
        super().__init__(run=run, enveloped=enveloped, message_id=message_id)
        self._dynamic: dict[str, Any] = {"dynamic": True} if dynamic_tools else {}
        self._step: set[str] = set()  # responses of the step that is open
        self._stepping = False
        self._stepped = False  # a step has begun in this stream
        self._continuing = False
        self._step_calls: list[PartState] = []  # tool calls of the step that is open
        self._reasoning: PartState | None = None  # the one that is closed by what comes next

    def _chunk(self, type_: str, **fields: Any) -> None:
        self.emit(json_bytes({"type": type_, **fields}))

    # -- the message

    def begin_message(self, run: str) -> None:
        lead = self.responses.get(run)
        name = self.message_id or (lead.metadata.get("message_id") if lead else None)
        self._chunk(
            "start", messageId=name if isinstance(name, str) else run, messageMetadata={"run": run}
        )

    def continue_message(self, run: str) -> None:
        self._step.clear()
        self._stepping = False
        self._reasoning = None
        self._continuing = True
        self.begin_message(run)

    def end_message(self, response: ResponseState | None) -> None:
        if self._continuing and not self._stepped:
            # Else the page takes the approval it gave for unsent, and sends it without end.
            self._chunk("start-step")
            self._stepping = True
        if self.interrupted:
            self._close_step()
            waiting = {"state": "waiting"}
            self._chunk("finish", finishReason="tool-calls", messageMetadata=waiting)
            self.emit(b"[DONE]")
            return
        state = "lost" if response is None else response.state
        calls = [part for part in self._step_calls if not part.provider_executed]
        self._close_step()
        if calls and (state == "cancelled" or all(part.result is not None for part in calls)):
            self._chunk("start-step")
            self._chunk("finish-step")
        reason = reason_of(response.finish_reason) if response else "other"
        metadata: dict[str, Any] = {"state": state}
        usage = self._usage()
        if usage:
            metadata["usage"] = usage
        if state == "cancelled":
            self._chunk("message-metadata", messageMetadata=metadata)
            reasons = {"reason": response.error} if response and response.error else {}
            self._chunk("abort", **reasons)
        else:
            if state != "complete":
                # A client may stop reading at an error.
                self._chunk("message-metadata", messageMetadata=metadata)
                self._chunk("error", errorText=self.failure_text(response))
                reason = "error"
            elif response is not None and response.envelope and response.finish_reason is None:
                reason = reason_of(self.last_ended.finish_reason if self.last_ended else None)
            self._chunk("finish", finishReason=reason, messageMetadata=metadata)
        self.emit(b"[DONE]")

    def _usage(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for response in self.responses.values():
            for name, count in usage_of(response.usage).items():
                total[name] = total.get(name, 0) + count
        return total

    # -- steps

    def _enter(self, response: ResponseState) -> None:
        """Enter the step of this response."""
        if self._is_answered():
            self._close_step()
        if response.id in self._step:
            return
        if not response.envelope and not self._streaming_step():
            self._close_step()
        self._step.add(response.id)
        if not self._stepping:
            self._stepping = self._stepped = True
            self._step_calls.clear()
            self._chunk("start-step")

    def _is_answered(self) -> bool:
        """Whether the open step has called tools that others run, and all calls are answered."""
        by_others = any(not part.provider_executed for part in self._step_calls)
        is_answered = all(part.result is not None for part in self._step_calls)
        return self._stepping and by_others and is_answered

    def _streaming_step(self) -> bool:
        """Whether anything in the open step may still grow."""
        for name in self._step:
            response = self.responses[name]
            if response.ended:
                continue
            calling = any(part.kind == "tool_call" and not part.done for part in response.parts)
            if not response.envelope or calling:
                return True
        return False

    def _close_step(self) -> None:
        for name in self._step:
            for part in self.responses[name].parts:  # only an envelope goes on in later steps
                if part.open:
                    self.close_part(self.responses[name], part)
        self._step.clear()
        if self._stepping:
            self._stepping = False
            self._close_reasoning()
            self._chunk("finish-step")

    def end_response(self, response: ResponseState) -> None:
        if response.id in self._step and not self._streaming_step():
            self._close_step()

    # -- parts

    def _close_reasoning(self) -> None:
        part, self._reasoning = self._reasoning, None
        if part is not None and part.open:
            part.open = False
            self._chunk("reasoning-end", id=part.wire_id)

    def open_part(self, response: ResponseState, part: PartState) -> None:
        kind = part.kind
        if kind not in ("reasoning", METADATA):
            self._close_reasoning()
        if kind in _TEXT or kind == "tool_result":
            return
        if kind != METADATA:
            self._enter(response)
        if kind == "tool_call":
            self._open_tool(response, part)
        else:
            if part.data is not None:
                self._data_part(response, part)

    def add_text(self, response: ResponseState, part: PartState, text: str) -> None:
        kind = part.kind
        if kind in _TEXT:
            protocol = _TEXT[kind]
            if not part.open:
                self._open_text(response, part, protocol)
            # The hot path: what json_bytes looks for cannot be in here, but as text.
            self._chunk(f"{protocol}-delta", id=part.wire_id, delta=text)
        elif kind == "tool_call" and part.result is None:
            self._chunk("tool-input-delta", toolCallId=part.wire_id, inputTextDelta=text)

    def _open_text(self, response: ResponseState, part: PartState, protocol: str) -> None:
        self._enter(response)
        if protocol == "text" or self._reasoning is not part:
            self._close_reasoning()
        # A closed part cannot be opened again; more of it is a part that continues it.
        part.wire_id = f"{part.wire_id}~" if part.wire_id else f"{response.id}:{part.index}"
        part.open = True
        if protocol == "reasoning":
            self._reasoning = part
        refusal = {"providerMetadata": {"tokenwire": {"kind": "refusal"}}}
        extra = refusal if part.kind == "refusal" else {}
        self._chunk(f"{protocol}-start", id=part.wire_id, **extra)

    def _open_tool(self, response: ResponseState, part: PartState) -> None:
        tag = part.wire_id = self.unique_call_id(response, part)
        part.name = part.name or "tool"
        self._step_calls.append(part)
        self._chunk(
            "tool-input-start", toolCallId=tag, toolName=part.name, **self._tool_fields(part)
        )

    def _tool_fields(self, part: PartState) -> dict[str, Any]:
        """Fields that every chunk about a tool call has."""
        return (
            {**self._dynamic, "providerExecuted": True} if part.provider_executed else self._dynamic
        )

    def close_part(self, response: ResponseState, part: PartState, *, cut: bool = False) -> None:
        kind = part.kind
        if kind in _TEXT:
            if part.open:
                part.open = False
                if self._reasoning is part:
                    self._reasoning = None
                self._chunk(f"{_TEXT[kind]}-end", id=part.wire_id)
        elif kind == "tool_call":
            text = part.text
            if part.result is not None or (cut and not is_json(text)):
                return  # it was answered; or half a call is not one: nobody may act on it
            self._call_chunk(part)
        elif kind == "tool_result":
            self.take_result_part(response, part, parsed(part.text))
        elif part.data is None or part.length:
            self._data_part(response, part)

    def _call_chunk(self, part: PartState) -> None:
        self._chunk(
            "tool-input-available",
            toolCallId=part.wire_id,
            toolName=part.name,
            input=parsed(part.text),
            **self._tool_fields(part),
        )

    def add_result(self, response: ResponseState, part: PartState, result: ToolResult) -> None:
        _ = response
        kind, fields = "tool-output-available", {"output": result.output}
        if result.error is not None:
            kind, fields = "tool-output-error", {"errorText": result.error or "error"}
        self._chunk(kind, toolCallId=part.wire_id, **fields, **self._tool_fields(part))

    # -- approvals

    def ask_approval(self, request: ApprovalRequest) -> None:
        called = self.call_of(request)
        if called is not None:
            self._close_reasoning()
            names = {"approvalId": request.id, "toolCallId": called[1].wire_id}
            reason = {"reason": request.message} if request.message else {}
            self._chunk("tool-approval-request", **names, **reason)

    def withdraw_approval(self, request: ApprovalRequest) -> None:
        called = self.call_of(request)
        if called is not None:
            self._chunk("tool-output-denied", toolCallId=called[1].wire_id)

    def add_decision(self, approval: Approval) -> None:
        called = self.call_of(approval.request)
        if called is None:
            return
        call = called[1]
        if not approval.approved:
            self._chunk("tool-output-denied", toolCallId=call.wire_id)
        elif not self._continuing and call.result is None:
            # No chunk of the SDK's 6 says that it was approved: it is not asked for any more.
            self._call_chunk(call)

    # -- everything else

    def _data_part(self, response: ResponseState, part: PartState) -> None:
        data = part.data
        if part.kind == METADATA:
            if isinstance(data, dict):
                self._chunk("message-metadata", messageMetadata=data)
            return
        tag = part.call_id or f"{response.id}:{part.index}"
        if part.kind == "source":
            self._source(tag, data)
            return
        if part.kind == "file":
            media = media_of(data)
            if media is not None:
                self._chunk("file", url=media[0], mediaType=media[1])
                return
        self._chunk(f"data-{part.label}", id=tag, data=part.value)

    def _source(self, tag: str, data: Any) -> None:
        source = source_of(data)
        title = {"title": source["title"]} if source.get("title") else {}
        extra: dict[str, Any] = {}
        if isinstance(data, dict):
            extra["providerMetadata"] = {"tokenwire": data}
        if "url" in source:
            self._chunk("source-url", sourceId=tag, url=source["url"], **title, **extra)
            return
        self._chunk(
            "source-document",
            sourceId=tag,
            mediaType=source.get("media_type", "text/plain"),
            title=source.get("title") or source.get("filename") or "Source",
            **({"filename": source["filename"]} if source.get("filename") else {}),
            **extra,
        )

    def add_data(self, event: DataEvent) -> None:
        if event.transient:  # what is said of the moment is no part of the message
            if not self.replaying:
                self._chunk(f"data-{event.name}", data=event.data, transient=True)
            return
        tag = {"id": event.id} if event.id else {}
        self._chunk(f"data-{event.name}", **tag, data=event.data)
