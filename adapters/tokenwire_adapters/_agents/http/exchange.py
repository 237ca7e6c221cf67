"""`Exchange`: one request to a model, from before it is sent until its reply begins."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from tokenwire.claims import begin_recording, covering_claim, end_recording
from tokenwire.context import current_channel, current_run
from tokenwire.instrument import Options, Recorder
from tokenwire_adapters._agents.http.reply import Reply
from tokenwire_adapters._agents.http.retries import RETRIES, Attempt, is_retried, this_caller
from tokenwire_adapters._agents.own_proxy import leads_to_own_proxy, leave_to_proxy
from tokenwire_adapters._agents.wires.errors import ProviderError
from tokenwire_adapters._agents.wires.recognition import HttpRequest, Wire, recognise

__all__ = ["Exchange", "open_exchange"]

_STREAM_TYPES = ("event-stream", "eventstream", "ndjson", "jsonl")


def open_exchange(request: HttpRequest, options: Options) -> Exchange | None:
    """Make what records a request; None where no model is asked, as far as is known.

    Its response has not begun yet.
    """
    recognised = recognise(request)
    if recognised is None:
        return None
    if leads_to_own_proxy(request.url):
        leave_to_proxy()
        return None
    wire, body = recognised
    attempt = _attempt_of(request) if request.body is not None else None
    recorder = RETRIES.adopt(attempt) if attempt is not None else None
    return Exchange(wire, recorder or wire.recorder(options, body), attempt)


class Exchange:
    """One request. `with` it while it is sent: no layer below records it, and it may fail.

    :ivar recorder: of its reply.
    """

    def __init__(self, wire: Wire, recorder: Recorder, attempt: Attempt | None) -> None:
        self.recorder = recorder
        self._wire = wire
        self._attempt = attempt
        if attempt is not None:  # else the body is not known, and the reply says what it is
            recorder.begin()

    def __enter__(self) -> Self:
        begin_recording()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        end_recording()
        if error is None:
            return
        if not isinstance(error, Exception):
            self.recorder.close()
        elif self._attempt is None:
            self.recorder.fail(error)
        else:
            self._hold_error(self._attempt, error)

    def _hold_error(self, attempt: Attempt, error: Exception) -> None:
        """Wait for another attempt: SDKs send a request again that met no server, say."""
        try:
            kept = copy.copy(error)  # without its traceback, which holds the program's frames
        except Exception:
            self.recorder.fail(error)
            return
        RETRIES.hold(attempt, self.recorder, lambda: self.recorder.fail(kept))

    def reply(self, status: int, headers: Mapping[str, str]) -> Reply | None:
        """What reads the reply; None where there is none to read. The caller is to `bind` it.

        :param headers: by lower-case names.
        """
        recorder = self.recorder
        if status < 200 or status in (204, 205) or 300 <= status < 400:
            if self._attempt is not None:  # a client may follow the redirect by a further request
                error = ProviderError(None, status)
                RETRIES.hold(self._attempt, recorder, lambda: recorder.fail(error))
            return None
        reply = Reply(
            self._wire, recorder, status, headers, is_stream=self._is_stream(status, headers)
        )
        if status >= 400 and is_retried(status) and self._attempt is not None:
            reply.held = True
            RETRIES.hold(self._attempt, recorder, reply.reader.close, headers)
        return reply

    def _is_stream(self, status: int, headers: Mapping[str, str]) -> bool:
        if status >= 400:
            return False
        if self._wire.streams is not None:
            return self._wire.streams
        return any(name in headers.get("content-type", "") for name in _STREAM_TYPES)


def _attempt_of(request: HttpRequest) -> Attempt:
    digest = hashlib.blake2b(request.body or b"", digest_size=16).digest()
    context = (current_channel(), current_run(), id(covering_claim()))
    return Attempt(this_caller(), (digest, context))
