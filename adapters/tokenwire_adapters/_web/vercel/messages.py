"""Messages of the AI SDK, as a page has them once they are over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import msgspec

from tokenwire.encoding import Frame
from tokenwire.events import SnapshotEvent
from tokenwire_adapters._web.ui.errors import OnError, safe_error
from tokenwire_adapters._web.ui.json import list_of
from tokenwire_adapters._web.ui.runs import Run
from tokenwire_adapters._web.vercel.encoder import VercelEncoder

__all__ = ["conversation", "message_of", "read_chunks"]


def message_of(
    run: Run, *, dynamic_tools: bool = False, on_error: OnError = safe_error
) -> dict[str, Any]:
    """The message of a run, as ``useChat`` makes it of the run's stream."""
    encoder = VercelEncoder(
        run=run.id, enveloped=run.envelope is not None, dynamic_tools=dynamic_tools
    )
    encoder.on_error = on_error
    encoder.prime([SnapshotEvent(response=response) for response in run.responses])
    return read_chunks([*encoder.begin(), *encoder.end()])


def conversation(
    runs: Sequence[Run],
    *,
    streaming: bool = False,
    dynamic_tools: bool = False,
    on_error: OnError = safe_error,
) -> list[dict[str, Any]]:
    """The messages of a conversation, from the runs that are kept, oldest first.

    What was answered anew, or edited, counts as it was last.

    :param streaming: with the message so far of a run that is under way; else it has none yet,
        since the stream brings it to a page.
    """
    messages = _Conversation()
    for run in runs:
        after = run.metadata.get("after")
        if isinstance(after, str) and after in messages.places:
            messages.cut(messages.places[after] + 1)
        elif run.metadata.get("first"):
            messages.cut(0)
        for message in list_of(run.metadata.get("messages")):
            if isinstance(message, dict):
                messages.append(cast("dict[str, Any]", message))
        if streaming or not run.streaming:
            message = message_of(run, dynamic_tools=dynamic_tools, on_error=on_error)
            last = messages.items[-1] if messages.items else None
            if last is not None and last.get("id") == message["id"]:
                parts: list[dict[str, Any]] = last["parts"]
                if parts and parts[-1]["type"] == "step-start":
                    parts.pop()  # it said that the answer was over
                parts += message["parts"]
                last["metadata"] = {**last.get("metadata", {}), **message.get("metadata", {})}
            else:
                messages.append(message)
    return messages.items


class _Conversation:
    """Messages in order, of which the later may be cut off.

    :ivar places: where the first message of each id is.
    """

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self.places: dict[str, int] = {}

    def append(self, message: dict[str, Any]) -> None:
        name = message.get("id")
        if isinstance(name, str):
            self.places.setdefault(name, len(self.items))
        self.items.append(message)

    def cut(self, length: int) -> None:
        for message in self.items[length:]:
            name = message.get("id")
            if isinstance(name, str) and self.places.get(name, -1) >= length:
                del self.places[name]
        del self.items[length:]


def read_chunks(frames: Iterable[Frame]) -> dict[str, Any]:
    """The message that a stream makes."""
    message: dict[str, Any] = {"id": "", "role": "assistant", "parts": []}
    reader = _Reader(message)
    for frame in frames:
        if frame.data != b"[DONE]":
            reader.read(msgspec.json.decode(frame.data))
    return message


class _Reader:
    def __init__(self, message: dict[str, Any]) -> None:
        self._message = message
        self._parts: list[dict[str, Any]] = message["parts"]
        self._by_id: dict[str, dict[str, Any]] = {}

    def read(self, chunk: dict[str, Any]) -> None:
        kind: str = chunk["type"]
        if "messageMetadata" in chunk:
            known: dict[str, Any] = self._message.setdefault("metadata", {})
            known.update(chunk["messageMetadata"])
        if kind == "start":
            self._message["id"] = chunk["messageId"]
        elif kind == "start-step":
            self._parts.append({"type": "step-start"})
        elif kind.startswith("data-"):
            self._data(chunk)
        elif kind in ("source-url", "source-document", "file"):
            self._parts.append(chunk)
        elif kind.startswith("tool-"):
            self._tool(kind, chunk)
        elif kind.endswith("-start"):
            part = {**chunk, "type": kind.removesuffix("-start"), "text": "", "state": "done"}
            if kind != "reasoning-start":  # the SDK keeps the ids of these
                del part["id"]
            self._by_id[chunk["id"]] = part
            self._parts.append(part)
        elif kind.endswith("-delta"):
            self._by_id[chunk["id"]]["text"] += chunk["delta"]

    def _data(self, chunk: dict[str, Any]) -> None:
        name = chunk.get("id")
        for part in self._parts if name is not None else ():
            if part["type"] == chunk["type"] and part.get("id") == name:
                part["data"] = chunk["data"]
                return
        self._parts.append(chunk)

    def _tool(self, kind: str, chunk: dict[str, Any]) -> None:
        call: str = chunk["toolCallId"]
        if kind == "tool-input-start":
            part: dict[str, Any] = {"type": f"tool-{chunk['toolName']}", "toolCallId": call}
            if chunk.get("dynamic"):
                part = {"type": "dynamic-tool", "toolName": chunk["toolName"], "toolCallId": call}
            part["state"] = "input-streaming"
            if chunk.get("providerExecuted"):
                part["providerExecuted"] = True
            self._by_id[f"tool:{call}"] = part
            self._parts.append(part)
            return
        part = self._by_id[f"tool:{call}"]
        if kind == "tool-input-available":
            part.update(state="input-available", input=chunk["input"])
            part.pop("approval", None)  # it was approved
        elif kind == "tool-approval-request":
            part.update(state="approval-requested", approval={"id": chunk["approvalId"]})
        elif kind == "tool-output-denied":
            part["state"] = "output-denied"
            part["approval"]["approved"] = False
        elif kind == "tool-output-available":
            part.update(state="output-available", output=chunk["output"])
        elif kind == "tool-output-error":
            part.update(state="output-error", errorText=chunk["errorText"])
