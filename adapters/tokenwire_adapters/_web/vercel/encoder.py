"""`VercelEncoder`: a run as one message of the AI SDK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

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
from tokenwire_adapters._web.ui.state import Piece, Told

__all__ = ["VercelEncoder"]

_TEXT = {"text": "text", "refusal": "text", "reasoning": "reasoning"}
_ABANDONED = "The agent stopped without an answer."
_LOST = "The connection to the agent was lost."


class VercelEncoder(RunEncoder):
    """Tells one run as one assistant message, with a step for each response.

    Responses that stream side by side share a step, since the protocol finds a tool call by its
    id within the step. Text stays open until its response ends; reasoning is closed when something
    else follows it.

    :param run: the run to tell; by default the first one that is seen streaming.
    :param enveloped: a response is known to stand for the run.
    :param message_id: what the message is called; by default, its run, so that a page that
        reconnects replaces it.
    :param dynamic_tools: tell of tools as ``dynamic-tool`` parts rather than ``tool-NAME``.
    """

    name = "vercel"
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
        self._tool_ids: set[str] = set()
        self._reasoning: Piece | None = None  # the one that is closed by what comes next

    def _chunk(self, type_: str, **fields: Any) -> None:
        self._say(json_bytes({"type": type_, **fields}))

    # -- the message

    def _begin_run(self, run: str) -> None:
        lead = self._told.get(run)
        name = self._message_id or (lead.metadata.get("message_id") if lead else None)
        self._chunk(
            "start",
            messageId=name if isinstance(name, str) else run,
            messageMetadata={"run": run},
        )

    def _end_run(self, told: Told | None) -> None:
        self._close_step()
        state = "lost" if told is None else told.state
        reason = reason_of(told.finish_reason) if told else "other"
        metadata: dict[str, Any] = {"state": state}
        usage = self._usage()
        if usage:
            metadata["usage"] = usage
        if state == "cancelled":
            self._chunk("message-metadata", messageMetadata=metadata)
            reasons = {"reason": told.error} if told and told.error else {}
            self._chunk("abort", **reasons)
        else:
            if state != "complete":
                error = told.error if told else None
                text = error or (_LOST if state == "lost" else _ABANDONED)
                # A client may stop reading at an error.
                self._chunk("message-metadata", messageMetadata=metadata)
                self._chunk("error", errorText=text)
                reason = "error"
            elif told is not None and told.envelope and told.finish_reason is None:
                reason = reason_of(self._last.finish_reason if self._last else None)
            self._chunk("finish", finishReason=reason, messageMetadata=metadata)
        self._say(b"[DONE]")

    def _usage(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for told in self._told.values():
            for name, count in usage_of(told.usage).items():
                total[name] = total.get(name, 0) + count
        return total

    # -- steps

    def _enter(self, told: Told) -> None:
        """Be in a step of this response."""
        if told.id in self._step:
            return
        if not told.envelope and not self._streaming_step():
            self._close_step()
        self._step.add(told.id)
        if not self._stepping:
            self._stepping = True
            self._chunk("start-step")

    def _streaming_step(self) -> bool:
        """Whether something of the step that is open may still grow."""
        for name in self._step:
            told = self._told[name]
            if told.ended:
                continue
            if not told.envelope or any(p.kind == "tool_call" and not p.done for p in told.pieces):
                return True
        return False

    def _close_step(self) -> None:
        for name in self._step:
            for piece in self._told[name].pieces:  # only an envelope goes on in later steps
                if piece.open:
                    self._complete(self._told[name], piece)
        self._step.clear()
        if self._stepping:
            self._stepping = False
            self._close_reasoning()
            self._chunk("finish-step")

    def _response_ended(self, told: Told) -> None:
        if told.id in self._step and not self._streaming_step():
            self._close_step()

    # -- parts

    def _close_reasoning(self) -> None:
        piece, self._reasoning = self._reasoning, None
        if piece is not None and piece.open:
            piece.open = False
            self._chunk("reasoning-end", id=piece.tag)

    def _open(self, told: Told, piece: Piece) -> None:
        kind = piece.kind
        if kind != "reasoning":
            self._close_reasoning()
        if kind in _TEXT or kind == "tool_result":
            return
        self._enter(told)
        if kind == "tool_call":
            self._open_tool(told, piece)
        else:
            if piece.data is not None:
                self._tell_data(told, piece)

    def _grow(self, told: Told, piece: Piece, text: str) -> None:
        kind = piece.kind
        if kind in _TEXT:
            protocol = _TEXT[kind]
            if not piece.open:
                self._open_text(told, piece, protocol)
            # The hot path: what json_bytes looks for cannot be in here, but as text.
            self._chunk(f"{protocol}-delta", id=piece.tag, delta=text)
        elif kind == "tool_call" and piece.result is None:
            self._chunk("tool-input-delta", toolCallId=piece.tag, inputTextDelta=text)

    def _open_text(self, told: Told, piece: Piece, protocol: str) -> None:
        self._enter(told)
        if protocol == "text" or self._reasoning is not piece:
            self._close_reasoning()
        # A closed part cannot be opened again; more of it is a part that continues it.
        piece.tag = f"{piece.tag}~" if piece.tag else f"{told.id}:{piece.index}"
        piece.open = True
        if protocol == "reasoning":
            self._reasoning = piece
        note = {"providerMetadata": {"tokenwire": {"kind": "refusal"}}}
        self._chunk(f"{protocol}-start", id=piece.tag, **(note if piece.kind == "refusal" else {}))

    def _open_tool(self, told: Told, piece: Piece) -> None:
        tag = piece.call_id or ""
        if tag in self._tool_ids:  # some providers count their calls anew in each response
            tag = f"{tag}:{told.id}:{piece.index}"
        self._tool_ids.add(tag)
        piece.tag = tag
        piece.name = piece.name or "tool"
        self._chunk("tool-input-start", toolCallId=tag, toolName=piece.name, **self._dynamic)

    def _complete(self, told: Told, piece: Piece, *, cut: bool = False) -> None:
        kind = piece.kind
        if kind in _TEXT:
            if piece.open:
                piece.open = False
                if self._reasoning is piece:
                    self._reasoning = None
                self._chunk(f"{_TEXT[kind]}-end", id=piece.tag)
        elif kind == "tool_call":
            text = piece.whole_text
            if piece.result is not None or (cut and not is_json(text)):
                return  # it was answered; or half a call is not one: nobody may act on it
            self._chunk(
                "tool-input-available",
                toolCallId=piece.tag,
                toolName=piece.name,
                input=parsed(text),
                **self._dynamic,
            )
        elif kind == "tool_result":
            if piece.call_id is not None:
                output = piece.data if piece.data is not None else parsed(piece.whole_text)
                self._result(told, ToolResult(call_id=piece.call_id, output=output))
        elif piece.data is None or piece.length:
            self._tell_data(told, piece)

    def _answer(self, told: Told, piece: Piece, result: ToolResult) -> None:
        _ = told
        if result.error is not None:
            self._chunk(
                "tool-output-error",
                toolCallId=piece.tag,
                errorText=result.error or "error",
                **self._dynamic,
            )
        else:
            self._chunk(
                "tool-output-available",
                toolCallId=piece.tag,
                output=result.output,
                **self._dynamic,
            )

    # -- everything else

    def _tell_data(self, told: Told, piece: Piece) -> None:
        tag = f"{told.id}:{piece.index}"
        data = piece.data
        if piece.kind == "source":
            self._source(tag, data)
            return
        if piece.kind == "file":
            media = media_of(data)
            if media is not None:
                self._chunk("file", url=media[0], mediaType=media[1])
                return
        name = piece.name if piece.kind == "data" and piece.name else piece.kind
        text = piece.whole_text
        if text:
            data = text if data is None else {"data": data, "text": text}
        self._chunk(f"data-{name}", id=tag, data=data)

    def _source(self, tag: str, data: Any) -> None:
        found = source_of(data)
        title = {"title": found["title"]} if found.get("title") else {}
        extra: dict[str, Any] = {}
        if isinstance(data, dict):
            extra["providerMetadata"] = {"tokenwire": data}
        if "url" in found:
            self._chunk("source-url", sourceId=tag, url=found["url"], **title, **extra)
            return
        self._chunk(
            "source-document",
            sourceId=tag,
            mediaType=found.get("media_type", "text/plain"),
            title=found.get("title") or found.get("filename") or "Source",
            **({"filename": found["filename"]} if found.get("filename") else {}),
            **extra,
        )

    def _note(self, event: DataEvent) -> None:
        tag = {"id": event.id} if event.id else {}
        self._chunk(f"data-{event.name}", **tag, data=event.data)
