"""Reads what AI Transport's clients publish: inputs, and cancels of runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol, cast

from msgspec.structs import replace

from tokenwire import approvals
from tokenwire.events import CancelEvent, InputEvent
from tokenwire_adapters._backends.ably.wire import ChannelMessage

__all__ = [
    "RUN_BEGINS",
    "Conversation",
    "TransportInput",
    "input_of",
    "is_transport_message",
    "join_parts",
    "resolved_call",
    "transport_event",
    "transport_headers",
]

RUN_BEGINS = ("ai-run-start", "ai-run-resume")
"""The names of the messages with which a response begins."""

_AMENDS = frozenset({"tool-approval-response", "tool-result", "tool-result-error"})
"""The kinds of inputs that are about a tool call of an answer, whose id they have as theirs."""

_MAX_PARTS = 256  # of one message


class TransportInput(NamedTuple):
    """An input of AI Transport's clients, as far as the run that answers it repeats it.

    :ivar id: of its message; several inputs about tool calls of one answer have the answer's.
    :ivar key: identifies the input: the id of its `InputEvent`.
    :ivar sender: the client that sent it, if it is known.
    :ivar parent: the message that it follows.
    :ivar fork_of: the question that it is another version of.
    :ivar regenerates: the answer in place of which another is asked for.
    :ivar run: the run that goes on with it; None where a new one begins.
    :ivar is_fork: whether its run takes the place of one that waits for the result of a tool.
    :ivar is_open: whether a response without an input may be the answer to it.
    """

    id: str
    key: str
    sender: str | None = None
    parent: str | None = None
    fork_of: str | None = None
    regenerates: str | None = None
    run: str | None = None
    is_fork: bool = False
    is_open: bool = True


class Conversation(Protocol):
    """What has been asked in a channel."""

    def answer(self, response_id: str, input_id: object, run: str | None) -> TransportInput | None:
        """The input that a response answers, from ``input`` in its metadata and its run."""
        ...

    def note_suspended(self, run_id: str, run: str | None) -> None:
        """Remember that a run waits for the results of its tools."""
        ...


def transport_headers(msg: ChannelMessage) -> dict[str, str]:
    """The headers that AI Transport puts in ``extras.ai.transport``."""
    return _ai_headers(msg, "transport")


def _ai_headers(msg: ChannelMessage, name: str) -> dict[str, str]:
    extras = msg.extras
    ai = cast("dict[str, Any]", extras).get("ai") if isinstance(extras, dict) else None
    headers = cast("dict[str, Any]", ai).get(name) if isinstance(ai, dict) else None
    if not isinstance(headers, dict):
        return {}
    items = cast("dict[Any, Any]", headers).items()
    return {str(key): value for key, value in items if isinstance(value, str)}


def is_transport_message(msg: ChannelMessage) -> bool:
    """Whether a message is an input or a cancel of AI Transport's clients."""
    return msg.name in ("ai-input", "ai-cancel") and not msg.is_native


def _key(kind: str, transport: Mapping[str, str]) -> str:
    message_id = transport.get("codec-message-id", "")
    return (transport.get("event-id") or message_id if kind in _AMENDS else message_id)[:256]


def input_of(msg: ChannelMessage) -> TransportInput | None:
    """What a message says of the input that it is; None where it is none."""
    transport = transport_headers(msg)
    message_id, run = transport.get("codec-message-id"), transport.get("run-id")
    if msg.name != "ai-input" or not message_id:
        return None
    kind = _ai_headers(msg, "codec").get("kind") or "message"
    is_result = kind in ("tool-result", "tool-result-error")
    return TransportInput(
        message_id,
        _key(kind, transport),
        msg.client_id,
        transport.get("parent"),
        transport.get("fork-of"),
        transport.get("msg-regenerate"),
        run=run if is_result else None,
        is_fork=is_result and run is None,
        is_open=kind != "tool-approval-response" and (is_result or run is None),
    )


def resolved_call(msg: ChannelMessage) -> str | None:
    """A key of the tool call of a run whose result an input is; None where it is none.

    What is answered in a run of its own is a branch for each answer, as the client shows it.
    """
    transport, codec = transport_headers(msg), _ai_headers(msg, "codec")
    if msg.name != "ai-input" or codec.get("kind") not in ("tool-result", "tool-result-error"):
        return None
    run, call = transport.get("run-id"), codec.get("toolCallId")
    return f"{run} {call}" if run and call else None


def transport_event(
    msg: ChannelMessage, answers: Mapping[str, str]
) -> CancelEvent | InputEvent | None:
    """Decode an input or a cancel of AI Transport's clients.

    :param answers: by ``codec-message-id`` of an input, or by run: the response that answers it.
    """
    transport = transport_headers(msg)
    if msg.name == "ai-cancel":
        run = transport.get("run-id") or transport.get("input-codec-message-id", "")
        response_id = answers.get(run) or transport.get("run-id")
        if not response_id:
            return None
        return CancelEvent(response_id=response_id[:256], id=msg.serial, ts=msg.updated)
    if not transport.get("codec-message-id") or isinstance(msg.data, bytes | bytearray):
        return None
    codec = _ai_headers(msg, "codec")
    kind = codec.get("kind") or "message"
    name, data = kind, _input_data(msg, transport, codec)
    if kind == "user-message":
        name = "steer" if "run-id" in transport else "message"
    elif kind == "tool-approval-response":
        call = codec.get("toolCallId", "")
        name = approvals.INPUT
        data = {"id": call, "approved": codec.get("approved") == "true"}
        if codec.get("reason"):
            data["reason"] = codec["reason"]
    return InputEvent(
        name=name, data=data, id=_key(kind, transport), sender=msg.client_id, ts=msg.updated
    )


def _input_data(
    msg: ChannelMessage, transport: Mapping[str, str], codec: Mapping[str, str]
) -> dict[str, Any]:
    data: dict[str, Any] = dict(codec)
    given = msg.data
    if codec.get("kind") == "user-message":
        data.pop("partType", None)
        data["parts"] = parts = _parts(msg, codec)
        data["text"] = "".join(part["text"] for part in parts if part["type"] == "text")
    elif isinstance(given, dict):  # by a tool of the page
        fields = cast("dict[str, Any]", given)
        data |= {name: fields[name] for name in ("output", "message") if name in fields}
    for name in ("parent", "fork-of", "run-id", "event-id", "msg-regenerate", "supersedes"):
        if name in transport:
            data[name] = transport[name]
    return data


class _Parts(list[dict[str, Any]]):
    """The parts of a message of a user, joined from its messages in the channel."""


def _parts(msg: ChannelMessage, codec: Mapping[str, str]) -> list[dict[str, Any]]:
    """The parts of a message of a user, as the AI SDK has them."""
    if isinstance(msg.data, _Parts):
        return list(msg.data)
    kind = codec.get("partType") or "text"
    if kind == "text":
        return [{"type": kind, "text": msg.data if isinstance(msg.data, str) else ""}]
    if kind == "file":
        url = msg.data if isinstance(msg.data, str) else ""
        return [{"type": kind, "mediaType": codec.get("mediaType", ""), "url": url}]
    part: dict[str, Any] = {"type": kind, "data": msg.data}
    return [part | {"id": codec["id"]}] if codec.get("id") else [part]


def join_parts(messages: Iterable[ChannelMessage]) -> list[ChannelMessage]:
    """Join the messages of each user message: the client publishes one for each part, at once."""
    joined: list[ChannelMessage] = []
    by_id: dict[str, int] = {}
    for msg in messages:
        codec = _ai_headers(msg, "codec") if is_transport_message(msg) else {}
        message_id = transport_headers(msg).get("codec-message-id")
        if codec.get("kind") != "user-message" or not message_id:
            joined.append(msg)
        elif message_id not in by_id:
            by_id[message_id] = len(joined)
            joined.append(replace(msg, data=_Parts(_parts(msg, codec))))
        else:
            first = joined[by_id[message_id]]
            if len(first.data) < _MAX_PARTS:
                first.data.extend(_parts(msg, codec))
            joined[by_id[message_id]] = replace(first, version=max(first.version, msg.version))
    return joined
