"""`AgUiEncoder`: a run of AG-UI 1.0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from tokenwire.events import DataEvent, ToolResult
from tokenwire_adapters._web.ui.encoder import RunEncoder
from tokenwire_adapters._web.ui.json import json_bytes, json_text, usage_of
from tokenwire_adapters._web.ui.state import Piece, Told

__all__ = ["PROTOCOL_VERSION", "AgUiEncoder"]

PROTOCOL_VERSION = "1.0"

_TEXT = frozenset({"text", "refusal"})
_CODES = {"failed": "failed", "abandoned": "abandoned"}
_ABANDONED = "The agent stopped without an answer."
_LOST = "The connection to the agent was lost."


class AgUiEncoder(RunEncoder):
    """Tells one run as a run of AG-UI.

    A response becomes an assistant message with its tool calls; further text parts and reasoning
    are messages of their own. What was closed is opened again, by its id, where it grows on.
    A data part or event is a ``CUSTOM`` event; one named ``state`` is a ``STATE_SNAPSHOT``, and one
    named ``state_delta`` (a JSON Patch, RFC 6902) a ``STATE_DELTA``.

    :param run: the run to tell; by default the first one that is seen streaming.
    :param enveloped: a response is known to stand for the run.
    :param thread_id: the thread of the run; by default the channel.
    :param history: messages before the run. With them, what has happened of the run by the time
        that a client joins is told as one ``MESSAGES_SNAPSHOT``, which replaces all that the
        client has.
    """

    name = "ag-ui"

    def __init__(
        self,
        *,
        run: str | None = None,
        enveloped: bool = False,
        thread_id: str | None = None,
        history: Sequence[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(run=run, enveloped=enveloped)
        self._thread_id = thread_id
        self._messages: list[dict[str, Any]] | None = None if history is None else [*history]
        self._had = {
            message.get("id") for message in history or () if message.get("role") == "tool"
        }
        self._made: dict[str, dict[str, Any]] = {}  # messages of the run, for the snapshot
        self._open_pieces: dict[str, Piece] = {}  # of each response, the one that is growing
        self._tool_ids: set[str] = set()
        self._answered: set[str] = set()

    def _event(self, type_: str, **fields: Any) -> None:
        self._say(json_bytes({"type": type_, **fields}))

    # -- the run

    def _begin_run(self, run: str) -> None:
        told = next(iter(self._told.values()), None)
        if self._thread_id is None:
            self._thread_id = (told.channel if told is not None else "") or "thread"
        self._event(
            "RUN_STARTED", threadId=self._thread_id, runId=run, protocolVersion=PROTOCOL_VERSION
        )

    def _hydrated(self) -> None:
        messages, self._messages = self._messages, None
        if messages is None:
            return
        if self._began:
            ours = list(self._made.values())
            known = {message["id"] for message in ours}
            messages = [each for each in messages if each.get("id") not in known]
            self._event("MESSAGES_SNAPSHOT", messages=[*messages, *ours])
        self._made.clear()
        for piece in self._open_pieces.values():  # the client has no idea that they are
            piece.open = False
        self._open_pieces.clear()

    @property
    def _gathering(self) -> bool:
        """Whether what is told goes into the snapshot, rather than out."""
        return self._messages is not None

    def _end_run(self, told: Told | None) -> None:
        self._hydrated()
        usage = self._usage()
        counted: dict[str, Any] = {"usage": usage} if usage else {}
        state = "lost" if told is None else told.state
        if state in ("complete", "cancelled"):
            assert self._run is not None
            outcome: dict[str, Any] = {"type": "success"}
            if state == "cancelled":
                outcome = {"type": "cancelled"}
            else:
                pending = [each for each in self._tool_ids_in_order() if each not in self._answered]
                if pending:
                    outcome["pendingToolCallIds"] = pending
            self._event(
                "RUN_FINISHED",
                threadId=self._thread_id,
                runId=self._run,
                outcome=outcome,
                **counted,
            )
            return
        error = told.error if told is not None else None
        message = error or (_LOST if state == "lost" else _ABANDONED)
        self._event("RUN_ERROR", message=message, code=_CODES.get(state, "lost"), **counted)

    def _tool_ids_in_order(self) -> list[str]:
        return [
            piece.tag
            for told in self._told.values()
            for piece in told.pieces
            if piece.kind == "tool_call" and piece.tag
        ]

    def _usage(self) -> list[dict[str, Any]]:
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for told in self._told.values():
            counts = usage_of(told.usage)
            if not counts:
                continue
            labels = {
                name: told.metadata[name]
                for name in ("provider", "model")
                if isinstance(told.metadata.get(name), str)
            }
            entry = found.setdefault(
                (labels.get("provider", ""), labels.get("model", "")), dict[str, Any](labels)
            )
            for name, count in counts.items():
                entry[name] = entry.get(name, 0) + count
        return list(found.values())

    # -- parts

    def _close(self, told: Told) -> None:
        """End what is open of a response: one part at a time is."""
        piece = self._open_pieces.pop(told.id, None)
        if piece is None:
            return
        piece.open = False
        if self._gathering:
            return
        if piece.kind == "tool_call":
            self._event("TOOL_CALL_END", toolCallId=piece.tag)
        elif piece.kind == "reasoning":
            self._event("REASONING_MESSAGE_END", messageId=piece.tag)
            self._event("REASONING_END", messageId=piece.tag)
        else:
            self._event("TEXT_MESSAGE_END", messageId=piece.tag)

    def _open_for(self, told: Told, piece: Piece) -> None:
        """Have this part open, and no other."""
        if piece.open:
            return
        self._close(told)
        if not piece.tag:
            piece.tag = self._tag_of(told, piece)
        piece.open = True
        self._open_pieces[told.id] = piece
        if self._gathering:
            self._gather(told, piece)
        elif piece.kind == "tool_call":
            self._event(
                "TOOL_CALL_START",
                toolCallId=piece.tag,
                toolCallName=piece.name or "tool",
                parentMessageId=told.id,
            )
        elif piece.kind == "reasoning":
            self._event("REASONING_START", messageId=piece.tag)
            self._event("REASONING_MESSAGE_START", messageId=piece.tag, role="reasoning")
        else:
            self._event("TEXT_MESSAGE_START", messageId=piece.tag, role="assistant")

    def _tag_of(self, told: Told, piece: Piece) -> str:
        if piece.kind == "tool_call":
            tag = piece.call_id or ""
            if tag in self._tool_ids:  # some providers count their calls anew in each response
                tag = f"{tag}:{told.id}:{piece.index}"
            self._tool_ids.add(tag)
            return tag
        if piece.kind in _TEXT:
            first = all(each is piece or each.kind not in _TEXT for each in told.pieces)
            if first:
                return told.id
        return f"{told.id}:{piece.index}"

    def _open(self, told: Told, piece: Piece) -> None:
        kind = piece.kind
        if kind == "tool_call":
            self._open_for(told, piece)
        elif kind in _TEXT or kind == "reasoning":
            # Its text comes next; a name that is taken now stays in the order of the parts.
            piece.tag = self._tag_of(told, piece)
        elif kind != "tool_result" and piece.data is not None:
            self._tell_data(piece)

    def _grow(self, told: Told, piece: Piece, text: str) -> None:
        kind = piece.kind
        if kind != "tool_call" and kind not in _TEXT and kind != "reasoning":
            return
        if kind == "tool_call" and piece.tag in self._answered:
            return
        self._open_for(told, piece)
        if self._gathering:
            self._gather_text(piece, text)
        elif kind == "tool_call":
            self._event("TOOL_CALL_ARGS", toolCallId=piece.tag, delta=text)
        elif kind == "reasoning":
            self._event("REASONING_MESSAGE_CONTENT", messageId=piece.tag, delta=text)
        else:
            self._event("TEXT_MESSAGE_CONTENT", messageId=piece.tag, delta=text)

    def _complete(self, told: Told, piece: Piece, *, cut: bool = False) -> None:
        _ = cut
        kind = piece.kind
        if piece.open:
            self._close(told)
        elif kind == "tool_result":
            if piece.call_id is not None:
                output = piece.data if piece.data is not None else piece.whole_text
                self._result(told, ToolResult(call_id=piece.call_id, output=output))
        elif (
            kind not in _TEXT
            and kind not in ("reasoning", "tool_call")
            and (piece.data is None or piece.length)
        ):
            self._tell_data(piece)

    def _answer(self, told: Told, piece: Piece, result: ToolResult) -> None:
        if piece.open:
            self._close(told)
        self._answered.add(piece.tag)
        content = json_text(result.output) if result.error is None else result.error
        name = f"{told.id}:{piece.index}:result"
        if self._gathering:
            message = {"id": name, "role": "tool", "toolCallId": piece.tag, "content": content}
            if result.error is not None:
                message["error"] = result.error
            self._made[name] = message
            return
        if name in self._had:
            return  # the client has it already, and said so
        self._event(
            "TOOL_CALL_RESULT",
            messageId=name,
            toolCallId=piece.tag,
            content=content,
            role="tool",
        )

    def _response_ended(self, told: Told) -> None:
        """Nothing is to be said: its messages have ended."""

    # -- everything else

    def _tell_data(self, piece: Piece) -> None:
        name = piece.name if piece.kind == "data" and piece.name else piece.kind
        value: Any = piece.data
        text = piece.whole_text
        if text:
            value = text if value is None else {"data": value, "text": text}
        self._custom(name, value)

    def _note(self, event: DataEvent) -> None:
        self._custom(event.name, event.data)

    def _custom(self, name: str, value: Any) -> None:
        if name == "state" and value is not None:
            self._event("STATE_SNAPSHOT", snapshot=value)
        elif name == "state_delta" and _is_patch(value):
            self._event("STATE_DELTA", delta=value)
        else:
            self._event("CUSTOM", name=name, value=value)

    # -- the snapshot of those who join

    def _gather(self, told: Told, piece: Piece) -> None:
        if piece.kind == "tool_call":
            message = self._message(told.id, "assistant")
            calls: list[dict[str, Any]] = message.setdefault("toolCalls", [])
            if all(call["id"] != piece.tag for call in calls):
                function = {"name": piece.name or "tool", "arguments": ""}
                calls.append({"id": piece.tag, "type": "function", "function": function})
        elif piece.kind == "reasoning":
            self._message(piece.tag, "reasoning").setdefault("content", "")
        else:
            self._message(piece.tag, "assistant").setdefault("content", "")

    def _message(self, name: str, role: str) -> dict[str, Any]:
        return self._made.setdefault(name, {"id": name, "role": role})

    def _gather_text(self, piece: Piece, text: str) -> None:
        if piece.kind != "tool_call":
            self._made[piece.tag]["content"] += text
            return
        for message in self._made.values():
            for call in message.get("toolCalls", ()):
                if call["id"] == piece.tag:
                    call["function"]["arguments"] += text


def _is_patch(value: Any) -> bool:
    operations = cast("list[Any]", value) if isinstance(value, list) else []
    return bool(operations) and all(
        isinstance(each, dict) and "op" in each and "path" in each for each in operations
    )
