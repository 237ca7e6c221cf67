"""`StainlessRecorder`: what the recorders of OpenAI's and Anthropic's APIs have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tokenwire import ResponseWriter
from tokenwire._problems import LogOnce
from tokenwire.errors import TokenwireError
from tokenwire.instrument import Options, Recorder
from tokenwire_adapters._agents.stainless.quirks import error_usage, whole_body
from tokenwire_adapters._agents.values import dict_of, provider_message

__all__ = ["CUT_OFF", "StainlessRecorder", "error_message"]

CUT_OFF = "the stream ended before the reply was complete"
"""The error of a reply whose stream ended, in good order, without saying that the reply did."""

_log = LogOnce()


class StainlessRecorder(Recorder):
    """Reads Pydantic models and `APIError`, as SDKs that Stainless generates have them.

    A subclass implements `read`, in the place of `feed`.

    :ivar terminated: the stream ended with the mark that its protocol has for that (``[DONE]``);
        None where nobody looked for it.
    :ivar url: the request's, or that of its server: of httpx or httpx2; None where it is unknown.
    """

    def __init__(self, options: Options, request: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, request)
        self.terminated: bool | None = None
        self.url: Any = None

    def feed(self, item: Any) -> None:
        if self.ended:
            return
        try:
            self.read(item)
        except TokenwireError:
            raise
        except Exception as error:  # `read` expects any type anywhere: this is a fault of ours
            if getattr(self._sink, "strict", False):
                raise
            name = type(item).__name__
            _log.warning(f"skipped a {name} of {self.provider} that cannot be read", error)

    def read(self, item: Any) -> None:
        """Write what one chunk of the stream adds. What this raises costs that chunk alone."""
        raise NotImplementedError

    def end_of_stream(self, terminated: bool) -> None:
        """The server has sent its last event; say whether that was the mark of the end."""
        self.terminated = terminated

    def end_writer(
        self, writer: ResponseWriter, reason: str | None, error: str | None, *, is_whole: bool
    ) -> None:
        """End the response of one choice of a stream that was read to its end.

        :param reason: why the model stopped; None where the provider has not said.
        :param error: what the provider reported in its place.
        :param is_whole: nothing can be missing, even without a reason.
        """
        if error is None and reason is None and not is_whole:
            error = CUT_OFF
        if error is not None:
            writer.fail(error, finish_reason=reason, usage=self.usage())
        else:
            writer.finish(reason, self.usage())

    def flush(self) -> None:
        """Write what was held back for what might still come. Called before any end."""

    def error_message(self, error: BaseException) -> str | None:
        return error_message(error)

    def error_usage(self, error: BaseException) -> dict[str, Any] | None:
        usage: Any = getattr(error, "usage", None)  # of an error that is no SDK's
        return dict_of(usage) or error_usage(error)

    def close(self) -> None:
        if not self.ended and self.writers:
            self._guard(self.flush)
        super().close()

    def fail(self, error: BaseException) -> None:
        if not self.ended and self.writers:
            self._guard(self.flush)
        super().fail(error)


def error_message(error: BaseException) -> str | None:
    """The provider's own words in an SDK's error, where there are any.

    An `APIError` in the middle of a stream says no more than that there was one, where the
    provider's ``error`` is not an object with a ``message``.
    """
    body: Any = getattr(error, "body", None)
    if isinstance(body, str):  # the SDK has kept no more than the ``error`` of it
        body = whole_body(error) or body
    message = provider_message(body)
    if message is None and body and isinstance(body, dict | list):
        message = json.dumps(body, ensure_ascii=False, default=str)
    return message
