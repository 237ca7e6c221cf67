"""Streams that others publish as Ably's documentation shows: a message a response, or a token.

They have no offsets, so a repeat or a hole in them cannot be told; what Ably delivers is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from tokenwire._clock import now_ms
from tokenwire.events import (
    CancelEvent,
    DeltaEvent,
    EndEvent,
    Event,
    InputEvent,
    StartEvent,
    State,
)
from tokenwire.response import Assembler
from tokenwire_adapters._backends.ably.wire import Msg

__all__ = ["Foreign", "foreign_control", "transport_headers"]

_TOKENS = ("start", "token", "stop", "response-complete")
_QUIET = 60_000  # milliseconds after which a response without an end of its own counts as complete
_ENDS = {"complete": "complete", "cancelled": "cancelled", "failed": "failed", "error": "failed"}


def foreign_control(msg: Msg, inputs: Mapping[str, str]) -> CancelEvent | InputEvent | None:
    """A cancel or an input that somebody published without tokenwire.

    A message named ``cancel`` with ``responseId`` in its headers or data, or one named ``input``;
    ``ai-cancel`` and ``ai-input`` of AI Transport's clients.

    :param inputs: for ``codec-message-id`` of inputs, the response that answers.
    """
    data = msg.data
    if msg.name == "ai-input":
        return _ai_input(msg)
    if msg.name == "ai-cancel":
        told_by = transport_headers(msg)
        run = told_by.get("run-id") or inputs.get(told_by.get("input-codec-message-id", ""))
        if not run:
            return None
        return CancelEvent(response_id=run[:256], id=msg.serial, ts=msg.at)
    if msg.name == "cancel":
        response_id = msg.headers.get("responseId")
        reason = None
        if isinstance(data, dict):
            told = cast("dict[str, Any]", data)
            response_id = response_id or told.get("responseId")
            reason = told.get("reason")
        if isinstance(response_id, str) and 0 < len(response_id) <= 256:
            reason = reason[:500] if isinstance(reason, str) else None
            return CancelEvent(response_id=response_id, reason=reason, id=msg.serial, ts=msg.at)
    if msg.name == "input":
        name = msg.headers.get("name")
        return InputEvent(
            name=name if isinstance(name, str) and name else "message",
            data=None if isinstance(data, bytes | bytearray) else data,
            id=msg.serial,
            sender=msg.client_id,
            ts=msg.at,
        )
    return None


def transport_headers(msg: Msg) -> dict[str, str]:
    """The headers that AI Transport puts in ``extras.ai.transport``."""
    return _tier(msg, "transport")


def _tier(msg: Msg, name: str) -> dict[str, str]:
    extras = msg.extras
    ai = cast("dict[str, Any]", extras).get("ai") if isinstance(extras, dict) else None
    tier = cast("dict[str, Any]", ai).get(name) if isinstance(ai, dict) else None
    if not isinstance(tier, dict):
        return {}
    items = cast("dict[Any, Any]", tier).items()
    return {str(key): value for key, value in items if isinstance(value, str)}


def _ai_input(msg: Msg) -> InputEvent | None:
    transport, codec = transport_headers(msg), _tier(msg, "codec")
    message_id = transport.get("codec-message-id")
    if not message_id or isinstance(msg.data, bytes | bytearray):
        return None
    kind = codec.get("kind") or "message"
    data: dict[str, Any] = {**codec}
    if kind == "user-message" and isinstance(msg.data, str):
        data["text"] = msg.data
    elif msg.data not in (None, ""):
        data["data"] = msg.data
    for name in ("parent", "fork-of", "run-id", "event-id", "msg-regenerate"):
        if name in transport:
            data[name] = transport[name]
    return InputEvent(
        name="message" if kind == "user-message" else kind,
        data=data,
        id=message_id[:256],
        sender=msg.client_id,
        ts=msg.at,
    )


class Foreign:
    """What is known of one response of somebody else.

    :param assembler: the response; this only reads it.
    """

    def __init__(self, assembler: Assembler) -> None:
        self._assembler = assembler
        self._seen: set[str] = set()

    @staticmethod
    def response_id(msg: Msg) -> str | None:
        """The response that a message belongs to; None where it belongs to none."""
        told = msg.headers.get("responseId")
        named = isinstance(told, str) and 0 < len(told) <= 256
        if msg.name in _TOKENS:
            return str(told) if named else None
        if msg.name == "response" and isinstance(msg.data, str | None):
            return str(told) if named else msg.serial
        return None

    def events(self, msg: Msg, channel: str, *, past: bool) -> list[Event]:
        """What a message adds; `past` where it comes from history."""
        response_id = self._assembler.id
        found: list[Event] = []
        if self._assembler.state is None:
            found.append(StartEvent(response_id=response_id, channel=channel, ts=msg.created))
        elif self._assembler.ended:
            return []
        have = self._assembler.part_length(0)
        text = msg.data if isinstance(msg.data, str) else ""
        ends: State | None = None
        if msg.name in _TOKENS:
            if msg.serial in self._seen:
                return []
            self._seen.add(msg.serial)
            if msg.name == "response-complete":
                text, ends = text[have:], "complete"
            elif msg.name == "stop":
                text, ends = "", "complete"
            elif msg.name == "start":
                text = ""
        else:
            if msg.action != "append":
                text = text[have:]
            status = _ENDS.get(str(msg.headers.get("status")))
            ends = cast("State | None", status)
            if past and ends is None and now_ms() - msg.at > _QUIET:
                ends = "complete"
        if text:
            found.append(
                DeltaEvent(
                    response_id=response_id, part=0, kind="text", offset=have, text=text, ts=msg.at
                )
            )
        if ends is not None:
            found.append(EndEvent(response_id=response_id, state=ends, ts=msg.at))
        return found
