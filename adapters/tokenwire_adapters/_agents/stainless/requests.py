"""`RequestRecorders`: from one SDK's requests, replies and streams to their recorders."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Mapping
from typing import Any, cast

from tokenwire._instrument.deferred import when_dropped
from tokenwire.instrument import Options, Recorder
from tokenwire_adapters._agents.own_proxy import PUBLISHED, is_published_before_proxy
from tokenwire_adapters._agents.stainless.quirks import json_body_of, request_of, server_of
from tokenwire_adapters._agents.stainless.recorder import StainlessRecorder
from tokenwire_adapters._agents.stainless.targets import Classifier

__all__ = ["RequestRecorders"]

logger = logging.getLogger("tokenwire")

_RAW = "X-Stainless-Raw-Response"


class RequestRecorders:
    """The recorders of one SDK, by the HTTP response that carries the reply.

    :param streams: gives the classes of its streams.
    """

    def __init__(self, streams: Callable[[], tuple[type, type]], classifier: Classifier) -> None:
        self._streams = streams
        self._classifier = classifier
        self._recorders: weakref.WeakKeyDictionary[Any, Recorder] = weakref.WeakKeyDictionary()

    def __bool__(self) -> bool:
        return bool(self._recorders)

    def get(self, response: Any) -> Recorder | None:
        """The recorder of an HTTP response."""
        try:
            return self._recorders.get(response)
        except TypeError:  # a stand-in that cannot be referred to weakly
            return None

    def open(
        self, client: Any, options: Options, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Recorder | None:
        """Make the recorder for a request, and begin its response if its reply will be parsed.

        A request about a reply that an earlier one asked for has that one's recorder.

        :param args: the arguments of the client's ``request``; `kwargs` likewise.
        """
        try:
            final = kwargs["options"] if "options" in kwargs else args[1]
            kind = self._classifier.by_request(final.method, final.url)
            if kind is None:
                return self._classifier.by_response(
                    options, final.method, final.url, server_of(client.base_url)
                )
            body = final.json_data
            recorder = kind(options, cast("Any", body) if isinstance(body, Mapping) else None)
            if isinstance(recorder, StainlessRecorder):
                recorder.url = client.base_url
            headers: Any = final.headers
            headers = cast("Mapping[str, Any]", headers) if isinstance(headers, Mapping) else {}
            raw = _RAW in headers
            if is_published_before_proxy(client.base_url, options):
                final.headers = {**headers, PUBLISHED: "1"}
        except Exception:
            logger.warning("tokenwire: cannot read a request", exc_info=True)
            return None
        if not raw:  # nobody may ever parse a raw response
            recorder.begin()
        return recorder

    def answered(self, recorder: Recorder, result: Any) -> None:
        """Take what a request gave: a stream, a raw response, or a whole reply."""
        try:
            is_stream = isinstance(result, self._streams())
            response = result.response if is_stream else getattr(result, "http_response", None)
            if response is not None:
                self._bind(response, recorder)
                if is_stream:  # one that is dropped unread runs no code of its own
                    when_dropped(result, recorder.close_later)
                return
        except Exception as error:
            recorder.give_up(error)
            return
        recorder.record_reply(result)

    def parsed(self, raw: Any, result: Any) -> None:
        """Take what a raw response held."""
        recorder = self.get(raw.http_response)
        if recorder is not None and not recorder.ended and not recorder.attached:
            if isinstance(result, self._streams()):
                recorder.begin()
            else:
                recorder.record_reply(result)

    def closed(self, response: Any) -> None:
        """Take note that an HTTP response was closed."""
        recorder = self.get(response)
        if recorder is not None:
            recorder.close()

    def of_stream(self, response: Any, options: Options | None, item: Any) -> Recorder | None:
        """The recorder of a stream that is about to be read: its request's, else a new one.

        :param item: the stream's first item; None before there is one.
        """
        try:
            recorder = self._recorders.get(response)
            if recorder is None and options is not None:
                recorder = self._recognise(response, options, item)
                if recorder is not None:
                    self._bind(response, recorder)
        except Exception:
            logger.warning("tokenwire: cannot read a stream", exc_info=True)
            return None
        return recorder

    def _bind(self, response: Any, recorder: Recorder) -> None:
        self._recorders[response] = recorder
        recorder.bind(response)

    def _recognise(self, response: Any, options: Options, item: Any) -> Recorder | None:
        """Make the recorder for a stream whose request was not seen: by request, or first item.

        The request serves in time for a stream that brings nothing but an error, or nothing at all.
        """
        if item is not None:
            kind = self._classifier.by_item(item)
            return kind(options, {"model": getattr(item, "model", None)}) if kind else None
        request: Any = request_of(response)
        if request is None:
            return None
        kind = self._classifier.by_request(request.method, request.url.path)
        if kind is None:
            server = server_of(request.url)
            return self._classifier.by_response(options, request.method, request.url.path, server)
        recorder = kind(options, json_body_of(request))
        if isinstance(recorder, StainlessRecorder):
            recorder.url = request.url
        return recorder
