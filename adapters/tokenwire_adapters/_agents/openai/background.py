"""Background Responses: one response, though several requests bring it.

``responses.create(background=True)`` begins it; ``retrieve`` (polled, or streamed from an event
on) and ``cancel`` go on with it. https://platform.openai.com/docs/guides/background
"""

from __future__ import annotations

import functools
import re
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from tokenwire.instrument import Options, Recorder, call_later
from tokenwire_adapters._agents.openai.response_items import Item
from tokenwire_adapters._agents.openai.responses import ResponsesRecorder
from tokenwire_adapters._agents.openai.whole_items import GROWING_CALLS, WholeItem
from tokenwire_adapters._agents.stainless.quirks import server_of
from tokenwire_adapters._agents.values import arguments_of, fields_of, index_of, list_of, name_of

__all__ = ["BackgroundRecorder", "BackgroundResponses", "follow", "responses_recorder"]

PATIENCE = 600.0
"""Seconds after the last request about a response until it ends for watchers.

OpenAI keeps a background response for about ten minutes, for those who poll it.
"""

_UNFINISHED = frozenset({"queued", "in_progress"})
_PATH = re.compile(r"/responses/(?P<id>[^/?]+)(?P<cancel>/cancel)?/?(?:\?|$)")
_NO_IDS = frozenset({"compact", "input_tokens"})
"""What follows ``/responses/`` in the paths of other calls."""


class BackgroundResponses:
    """The background responses that this process has seen, by server and id. Thread-safe.

    Those that are over are kept, too: retrieved again, they are not published again.

    :param limit: how many there are at most. One more, and the one that was asked for longest ago
        is dropped, and ends.
    """

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._recorders: OrderedDict[tuple[str, str], BackgroundRecorder] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._recorders)

    def get(self, server: str, response_id: str) -> BackgroundRecorder | None:
        """The recorder of a response."""
        with self._lock:
            recorder = self._recorders.get((server, response_id))
            if recorder is not None:
                self._recorders.move_to_end((server, response_id))
            return recorder

    def add(self, recorder: BackgroundRecorder) -> None:
        """Enter a recorder, whose response's id is known now."""
        key = (recorder.server, recorder.response_id)
        dropped: list[BackgroundRecorder] = []
        with self._lock:
            previous = self._recorders.pop(key, None)
            if previous is not None and previous is not recorder:
                dropped.append(previous)  # the server gives ids again
            self._recorders[key] = recorder
            while len(self._recorders) > self._limit:
                dropped.append(self._recorders.popitem(last=False)[1])
        for recorder in dropped:
            recorder.abandon("too many background responses at once")


BACKGROUND = BackgroundResponses()


def responses_recorder(options: Options, request: Mapping[str, Any] | None) -> ResponsesRecorder:
    """Make the recorder for a request that creates a response."""
    if request is not None and request.get("background") is True:
        return BackgroundRecorder(options, request)
    return ResponsesRecorder(options, request)


def follow(options: Options, method: str, url: str, server: str) -> Recorder | None:
    """The recorder for a request about a response that was created before.

    :param server: host and port.
    :return: None where the request is about something else.
    """
    method = method.lower()
    match = _PATH.search(url) if method in ("get", "post") else None
    if match is None or match["id"] in _NO_IDS or (method == "post") != bool(match["cancel"]):
        return None
    recorder = BACKGROUND.get(server, match["id"])
    if recorder is None and method == "get":
        recorder = BackgroundRecorder(options, response_id=match["id"], server=server)
    return recorder


class BackgroundRecorder(ResponsesRecorder):
    """Reads what several requests bring of one response, until the provider says that it is over.

    A poll brings all of the text so far. Streams bring events that are numbered: those that came
    before are skipped. The end of a request, or of the connection, is not the end of the response,
    unless nobody asks for it again within `PATIENCE`.

    :ivar server: host and port.
    :ivar response_id: the provider's; empty until it is known.
    """

    def __init__(
        self,
        options: Options,
        request: Mapping[str, Any] | None = None,
        *,
        response_id: str = "",
        server: str = "",
    ) -> None:
        super().__init__(options, request)
        self.server = server
        self.response_id = response_id
        self._is_known_by_id_only = bool(response_id)
        self._is_entered = False
        self._polling = threading.Lock()
        self._broken_by: BaseException | str | None = None  # that the last stream broke off with
        self._due = 0.0
        self._number = -1  # of the last event
        self._is_numbered = True  # each event's number is greater than the one before
        self._streams = 0

    # -- requests

    def __enter__(self) -> Self:
        if self.cancelled and self.on_cancel == "raise":
            raise self.cancelled_error()
        self.attached = False  # what is read next is another stream
        return super().__enter__()

    def begin(self) -> None:
        if not self.ended:
            super().begin()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_known_by_id_only or self._is_entered:
            error = None  # a poll that fails ends nothing
        super().__exit__(kind, error, traceback)

    def record_reply(self, reply: Any) -> None:
        fields = fields_of(reply)
        status = name_of(fields.get("status"))
        with self._polling:
            if self.ended or self.cancelled:
                return
            if status not in _UNFINISHED:
                if self.writers or not self._is_known_by_id_only:
                    super().record_reply(reply)
                self._enter(fields)
                self._forget()
                return
            if self._is_known_by_id_only and not self.writers:
                self.request = {"model": name_of(fields.get("model")) or None}
            self.begin()
            self._guard(self._grow_output, fields)
            self._enter(fields)
            self._wait()

    # -- streams

    def attach(self, generator: weakref.ref[Any]) -> None:
        self._streams += 1
        self._broken_by = None
        self.terminated = None
        super().attach(generator)

    def read(self, item: Any) -> None:
        if self._is_repeated(item):
            return
        response = getattr(item, "response", None)
        if response is not None and not self._is_entered:
            self._enter(fields_of(response))
        super().read(item)
        self._growing = None  # each event's number is looked at
        if self.ended:
            self._forget()

    def _is_repeated(self, event: Any) -> bool:
        """Whether an event came before; notice those that were missed."""
        number = index_of(getattr(event, "sequence_number", None))
        if number is None or not self._is_numbered:
            return False
        is_resumed = self._streams > 1 or self._is_known_by_id_only
        if number <= self._number:
            if is_resumed:
                return True
            self._is_numbered = False
        elif is_resumed and number > self._number + 1:
            self._items.miss()
        self._number = number
        return False

    def _end_unless_resumed(self, error: BaseException | str | None) -> bool:
        """Keep the response open, since it goes on without this stream; False if it cannot."""
        if self.ended or self.cancelled or not self._is_entered:
            return self._is_known_by_id_only and not self.writers
        self._broken_by = error
        self._wait()
        return True

    def end(self) -> None:
        if self.terminated or not self._end_unless_resumed("the stream ended before the reply did"):
            super().end()

    def close(self) -> None:
        if not self._end_unless_resumed(None):
            super().close()

    def fail(self, error: BaseException) -> None:
        is_in_stream = bool(getattr(error, "body", None)) and not hasattr(error, "response")
        if is_in_stream or not self._end_unless_resumed(error):
            super().fail(error)

    # -- what a poll brings

    def _grow_output(self, response: Mapping[str, Any]) -> None:
        """Write what an unfinished response has more of than was written."""
        wholes = [WholeItem(item) for item in list_of(response.get("output"))]
        wholes = [whole for whole in wholes if whole.kind]
        for item, whole in zip(self._items.match(wholes), wholes, strict=True):
            if item.done:
                continue
            if name_of(whole.fields.get("status")) == "completed":
                self._whole(item, whole)
            else:
                self._grow_item(item, whole)
            item.ahead = not item.done

    def _grow_item(self, item: Item, whole: WholeItem) -> None:
        if item.kind in ("message", "reasoning"):
            for kind, sort, place, text in whole.texts:
                part = item.text_at(sort, place)
                if part is None:
                    if text:
                        self._begin(item, kind, sort, place, text)
                elif text.startswith(part.text):
                    part.write(text[len(part.text) :])
        elif item.kind in GROWING_CALLS:
            self._name_call(item, whole)
            arguments = arguments_of(whole.arguments)
            if item.call is not None and arguments.startswith(item.call.arguments):
                item.call.add_arguments(arguments[len(item.call.arguments) :])

    # -- from the first request to the last

    def _enter(self, response: Mapping[str, Any]) -> None:
        """Enter the table, once the id is known."""
        self.response_id = self.response_id or name_of(response.get("id"))
        if self.response_id and not self._is_entered:
            self._is_entered = True
            if self.url is not None and not self.server:
                self.server = server_of(self.url)
            BACKGROUND.add(self)

    def _forget(self) -> None:
        """Release what was needed to go on: it is over."""
        self.ended = True
        self._items = type(self._items)()

    def _wait(self) -> None:
        """End the response later, unless someone asks for it again."""
        is_first = not self._due
        self._due = time.monotonic() + PATIENCE
        if is_first and self._sink is not None:
            call_later(self._sink, PATIENCE, functools.partial(_expire, weakref.ref(self)))

    def expire(self) -> None:
        """End the response, if nobody has asked for it lately; else look again later."""
        if self.ended or self.cancelled or self._sink is None:
            return
        seconds = self._due - time.monotonic()
        generator: Any = self._generator() if self._generator is not None else None
        if getattr(generator, "gi_running", False) or getattr(generator, "ag_running", False):
            seconds = PATIENCE
        if seconds > 0:
            call_later(self._sink, seconds, functools.partial(_expire, weakref.ref(self)))
        else:
            self.abandon(f"nobody asked for it within {PATIENCE:g} s")

    def abandon(self, reason: str) -> None:
        """End the response, whose end the provider has not said."""
        if self.ended:
            return
        self._guard(self.flush)
        for writer in self.writers.values():
            if self._broken_by is not None:
                writer.fail(self._broken_by, usage=self.usage())
            else:
                writer.cancel(reason, usage=self.usage())
        self._forget()


def _expire(ref: weakref.ref[BackgroundRecorder]) -> None:
    recorder = ref()
    if recorder is not None:
        recorder.expire()
