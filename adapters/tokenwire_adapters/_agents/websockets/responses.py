"""The responses on one WebSocket of OpenAI's: Responses and Realtime, several at the same time."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from tokenwire._instrument.hang_up import attempt
from tokenwire.instrument import Options
from tokenwire_adapters._agents.openai.realtime import RealtimeRecorder
from tokenwire_adapters._agents.openai.responses import ResponsesRecorder
from tokenwire_adapters._agents.values import fields_of, name_of
from tokenwire_adapters._agents.wires.json_objects import decode

__all__ = ["SocketResponses", "recorder_kind"]

logger = logging.getLogger("tokenwire")

_KINDS = {"responses": ResponsesRecorder, "realtime": RealtimeRecorder}
_ENDS = frozenset(
    f"response.{name}" for name in ("completed", "incomplete", "failed", "cancelled", "done")
)


def recorder_kind(path: str) -> type[ResponsesRecorder] | None:
    """The recorder for the responses on a WebSocket, by the path that it was opened with."""
    return _KINDS.get(urlsplit(path).path.rstrip("/").rpartition("/")[2])


class Turn:
    """One response on a socket, from the client's request for it, or its first event, to its end.

    :ivar response_id: the provider's; empty before the provider has named it.
    :ivar stream_id: of the lane that the client has put it on, where it has; `event_id` likewise.
    """

    __slots__ = ("__weakref__", "event_id", "item_ids", "recorder", "response_id", "stream_id")

    def __init__(self, recorder: ResponsesRecorder, event: Mapping[str, Any]) -> None:
        self.recorder = recorder
        self.response_id = ""
        self.stream_id = name_of(event.get("stream_id"))
        self.event_id = name_of(event.get("event_id"))
        self.item_ids: set[str] = set()


class SocketResponses:
    """Reads what is sent and received on one WebSocket into one response for each reply.

    :param connection: of `websockets`, sync or async. It is held weakly.
    :param path: the path and the query that it was opened with.
    :param find_options: gives how a response that begins now is recorded; None: not at all.
    """

    def __init__(
        self,
        connection: Any,
        kind: type[ResponsesRecorder],
        path: str,
        find_options: Callable[[], Options | None],
    ) -> None:
        self._connection: weakref.ref[Any] = weakref.ref(connection)
        self._kind = kind
        self._has_cancel = kind is RealtimeRecorder  # the other API has no event for that
        self._model = next(iter(parse_qs(urlsplit(path).query).get("model", ())), None)
        self._find_options = find_options
        self._turns: list[Turn] = []

    def sent(self, message: Any) -> Turn | None:
        """Take a message that the client is about to send; returns the response it asks for."""
        event = _event(message, "response.create")
        if event is None or event.get("type") != "response.create":
            return None
        return self._begin(event, fields_of(event.get("response")).get("model"))

    def failed_to_send(self, turn: Turn, error: BaseException) -> None:
        """The request for a response was not sent."""
        self._remove(turn)
        turn.recorder.fail(error)

    def received(self, message: Any) -> None:
        """Take a message of the server's."""
        event = _event(message, None if self._turns else "response.created")
        kind = "" if event is None else name_of(event.get("type"))
        if event is None or not (kind.startswith("response.") or kind == "error"):
            return
        turn = self._created(event) if kind == "response.created" else self._turn_of(event, kind)
        if turn is None:
            return
        recorder = turn.recorder
        if not recorder.cancelled:
            try:
                recorder.feed(event)
            except Exception as error:
                recorder.give_up(error)
        if recorder.ended or kind in _ENDS:
            self._remove(turn)

    def lost(self) -> None:
        """The connection is closed, and not by the client."""
        turns, self._turns = self._turns, []
        for turn in turns:
            turn.recorder.end()

    def closed(self) -> None:
        """The client closes the connection."""
        turns, self._turns = self._turns, []
        for turn in turns:
            turn.recorder.close()

    def _begin(self, event: Mapping[str, Any], model: Any) -> Turn | None:
        options = self._find_options()
        if options is None:
            return None
        model = name_of(event.get("model")) or name_of(model) or self._model
        recorder = self._kind(options, {"model": model})
        recorder.use_running_loop()
        turn = Turn(recorder, event)
        cancel = functools.partial(
            _cancel, self._connection, weakref.ref(self), recorder.loop, self._has_cancel
        )
        recorder.bind(turn, cancel)
        recorder.begin()
        self._turns.append(turn)
        return turn

    def _created(self, event: Mapping[str, Any]) -> Turn | None:
        response = fields_of(event.get("response"))
        stream_id = name_of(event.get("stream_id"))
        waiting = [turn for turn in self._turns if not turn.response_id]
        waiting = [turn for turn in waiting if turn.stream_id == stream_id] or waiting
        turn = waiting[0] if waiting else self._begin(event, response.get("model"))
        if turn is not None:
            turn.response_id = name_of(response.get("id"))
        return turn

    def _turn_of(self, event: Mapping[str, Any], kind: str) -> Turn | None:
        """The response that an event is about."""
        if kind == "error":
            return self._turn_of_error(event)
        response_id = name_of(event.get("response_id")) or name_of(
            fields_of(event.get("response")).get("id")
        )
        if response_id:
            return next((turn for turn in self._turns if turn.response_id == response_id), None)
        item_id = name_of(event.get("item_id")) or name_of(fields_of(event.get("item")).get("id"))
        stream_id = name_of(event.get("stream_id"))
        turns = [turn for turn in self._turns if turn.response_id] or self._turns
        if stream_id:
            turns = [turn for turn in turns if turn.stream_id == stream_id] or turns
        turn = next((turn for turn in turns if item_id in turn.item_ids), None)
        if turn is None and turns:
            turn = turns[-1]
            if item_id:
                turn.item_ids.add(item_id)
        return turn

    def _turn_of_error(self, event: Mapping[str, Any]) -> Turn | None:
        """The response that an error ends: of many errors a Realtime session knows, few do."""
        stream_id = name_of(event.get("stream_id"))
        event_id = name_of(fields_of(event.get("error")).get("event_id"))
        turns = [turn for turn in self._turns if turn.stream_id == stream_id] or self._turns
        waiting = [turn for turn in turns if not turn.response_id]
        if event_id:
            return next((turn for turn in waiting if turn.event_id == event_id), None)
        if waiting:
            return waiting[0]
        return None if self._has_cancel or not turns else turns[-1]

    def _remove(self, turn: Turn) -> None:
        if turn in self._turns:
            self._turns.remove(turn)

    @property
    def is_open(self) -> bool:
        """Whether a response is under way that nobody has cancelled."""
        return any(not turn.recorder.cancelled for turn in self._turns)


def _event(message: Any, needle: str | None) -> Mapping[str, Any] | None:
    """The JSON object that a message is; None for any other, and for one without `needle`."""
    if isinstance(message, bytes):
        if needle is not None and needle.encode() not in message:
            return None
    elif not isinstance(message, str) or (needle is not None and needle not in message):
        return None
    try:
        value = decode(message)
    except ValueError:
        return None
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else None


# -- a watcher's cancel

_CANNOT_CANCEL = "cannot cancel on a websocket"


def _cancel(
    connection_ref: weakref.ref[Any],
    responses_ref: weakref.ref[SocketResponses],
    loop: asyncio.AbstractEventLoop | None,
    has_cancel: bool,
    turn: Turn,
) -> None:
    """Have the provider stop: by the API's own event, or by closing a socket nobody else uses."""
    connection, responses = connection_ref(), responses_ref()
    if connection is None or responses is None:
        return
    if has_cancel:
        event = {"type": "response.cancel"}
        if turn.response_id:
            event["response_id"] = turn.response_id
        step = functools.partial(connection.send, json.dumps(event))
    elif responses.is_open:
        return
    else:
        step = connection.close
    if loop is None:  # it waits, and this is the I/O thread
        threading.Thread(target=_attempt, args=(step,), name="tokenwire-cancel").start()
    else:
        loop.call_soon_threadsafe(attempt, loop, step, _CANNOT_CANCEL)


def _attempt(step: Callable[[], Any]) -> None:
    try:
        step()
    except Exception:
        logger.debug("tokenwire: %s", _CANNOT_CANCEL, exc_info=True)
