"""A reader of the AI SDK's UI message stream, written from its documentation, that is strict."""

from __future__ import annotations

import json
from typing import Any

from tokenwire.encoding import Encoder, Frame
from tokenwire.events import Event

ONLY_IN_7 = {"reset-step", "custom", "reasoning-file", "steering-message"}


class VercelMessage:
    """The message that a stream makes."""

    def __init__(self) -> None:
        self.id: str | None = None
        self.parts: list[dict[str, Any]] = []
        self.metadata: dict[str, Any] = {}
        self.chunks: list[dict[str, Any]] = []
        self.done = self.started = self.stepping = False
        self.over: str | None = None  # finish, abort
        self.error: str | None = None
        self.finish_reason: str | None = None
        self._open: dict[tuple[str, str], dict[str, Any]] = {}
        self._used: set[tuple[str, str]] = set()

    def read(self, frames: list[Frame]) -> VercelMessage:
        for frame in frames:
            assert frame.event is None
            assert not self.done, "after [DONE]"
            assert b"\n" not in frame.data and b"\r" not in frame.data
            if frame.data == b"[DONE]":
                assert self.over
                self.done = True
            else:
                self.take(json.loads(frame.data))
        return self

    def take(self, chunk: dict[str, Any]) -> None:
        kind = chunk["type"]
        assert kind not in ONLY_IN_7
        assert "__proto__" not in _keys(chunk)
        assert self.over is None, f"{kind} after {self.over}"
        assert self.started or kind == "start", f"{kind} before start"
        self.chunks.append(chunk)
        handler = getattr(self, "_" + kind.replace("-", "_"), None)
        if kind.startswith("data-"):
            self._data(chunk)
        elif kind.startswith(("text-", "reasoning-")):
            self._textual(chunk, *kind.rsplit("-", 1))
        else:
            assert handler is not None, f"unknown chunk {kind}"
            handler(chunk)

    def _start(self, chunk: dict[str, Any]) -> None:
        assert not self.started
        self.started = True
        self.id = chunk["messageId"]
        self.metadata |= chunk.get("messageMetadata", {})

    def _start_step(self, chunk: dict[str, Any]) -> None:
        assert not self.stepping
        self.stepping = True
        self.parts.append({"type": "step-start"})

    def _finish_step(self, chunk: dict[str, Any]) -> None:
        assert self.stepping
        assert not self._open, "a part is open at the end of its step"
        self.stepping = False

    def _textual(self, chunk: dict[str, Any], kind: str, what: str) -> None:
        assert self.stepping
        key = (kind, chunk["id"])
        if what == "start":
            assert key not in self._used, "an id is used again"
            self._used.add(key)
            part = {"type": kind, "id": chunk["id"], "text": "", **_note(chunk)}
            self._open[key] = part
            self.parts.append(part)
        elif what == "delta":
            assert chunk["delta"], "an empty delta"
            self._open[key]["text"] += chunk["delta"]
        else:
            assert what == "end"
            del self._open[key]

    @property
    def asks_again(self) -> bool:
        """What `lastAssistantMessageIsCompleteWithToolCalls` says: a page sends by itself."""
        calls = [
            part
            for part in self._in_step()
            if "toolCallId" in part and not part.get("providerExecuted")
        ]
        return bool(calls) and all(
            part["state"] in ("output-available", "output-error") for part in calls
        )

    def _in_step(self) -> list[dict[str, Any]]:
        steps = [i for i, part in enumerate(self.parts) if part["type"] == "step-start"]
        last = steps[-1] if steps else 0
        return self.parts[last:]

    def _tool(self, call: str, *, anywhere: bool = False) -> dict[str, Any]:
        places = self.parts if anywhere else self._in_step()
        found = [part for part in places if part.get("toolCallId") == call]
        assert len(found) == 1, f"{len(found)} calls {call}"
        return found[0]

    def _tool_input_start(self, chunk: dict[str, Any]) -> None:
        assert self.stepping
        assert all(part.get("toolCallId") != chunk["toolCallId"] for part in self.parts)
        self.parts.append(
            {
                "type": f"tool-{chunk['toolName']}",
                "toolCallId": chunk["toolCallId"],
                "state": "input-streaming",
                "raw": "",
                "providerExecuted": chunk.get("providerExecuted", False),
            }
        )

    def _tool_input_delta(self, chunk: dict[str, Any]) -> None:
        part = self._tool(chunk["toolCallId"])
        assert chunk["inputTextDelta"]
        part["raw"] += chunk["inputTextDelta"]
        part["state"] = "input-streaming"

    def _tool_input_available(self, chunk: dict[str, Any]) -> None:
        part = self._tool(chunk["toolCallId"])
        assert part["type"] == f"tool-{chunk['toolName']}"
        assert chunk.get("providerExecuted", False) is part["providerExecuted"]
        part["state"] = "input-available"
        part["input"] = chunk["input"]

    def _tool_output_available(self, chunk: dict[str, Any]) -> None:
        part = self._tool(chunk["toolCallId"], anywhere=True)
        part["state"] = "output-available"
        part["output"] = chunk["output"]

    def _tool_output_error(self, chunk: dict[str, Any]) -> None:
        part = self._tool(chunk["toolCallId"], anywhere=True)
        part["state"] = "output-error"
        part["errorText"] = chunk["errorText"]

    def _source_url(self, chunk: dict[str, Any]) -> None:
        assert chunk["url"].startswith("http")
        assert isinstance(chunk["sourceId"], str)
        self.parts.append(chunk)

    def _source_document(self, chunk: dict[str, Any]) -> None:
        assert isinstance(chunk["sourceId"], str)
        assert isinstance(chunk["mediaType"], str)
        assert isinstance(chunk["title"], str)
        self.parts.append(chunk)

    def _file(self, chunk: dict[str, Any]) -> None:
        assert isinstance(chunk["url"], str)
        assert isinstance(chunk["mediaType"], str)
        self.parts.append(chunk)

    def _data(self, chunk: dict[str, Any]) -> None:
        for part in self.parts:
            if part["type"] == chunk["type"] and part.get("id") == chunk.get("id"):
                part["data"] = chunk["data"]
                return
        self.parts.append(chunk)

    def _message_metadata(self, chunk: dict[str, Any]) -> None:
        self.metadata |= chunk["messageMetadata"]

    def _error(self, chunk: dict[str, Any]) -> None:
        assert chunk["errorText"]
        self.error = chunk["errorText"]

    def _finish(self, chunk: dict[str, Any]) -> None:
        assert not self.stepping
        assert chunk["finishReason"] in (
            "stop", "length", "content-filter", "tool-calls", "error", "other",
        )  # fmt: skip
        self.finish_reason = chunk["finishReason"]
        self.metadata |= chunk.get("messageMetadata", {})
        self.over = "finish"

    def _abort(self, chunk: dict[str, Any]) -> None:
        assert not self.stepping
        self.over = "abort"


def _note(chunk: dict[str, Any]) -> dict[str, Any]:
    kind = chunk.get("providerMetadata", {}).get("tokenwire", {}).get("kind")
    return {"note": kind} if kind else {}


def _keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(_keys, value.values()))
    return set().union(*map(_keys, value)) if isinstance(value, list) else set()


def frames_of(encoder: Encoder, events: list[Event]) -> list[Frame]:
    """What an encoder makes of events, from its beginning to its end."""
    frames = list(encoder.begin())
    for event in events:
        if getattr(encoder, "finished", False):
            break
        frames += encoder.encode(event)
    return [*frames, *encoder.end()]
