"""The errors of tokenwire, under one root. Wrong arguments may also raise ValueError or TypeError.

A name says what happened (`Fenced`, `InvalidCursor`), the message says to what and what to do.
Backends translate the errors of their clients into these, in one place each.
"""

from __future__ import annotations

__all__ = [
    "BackendError",
    "BackendMisconfigured",
    "BackendUnavailable",
    "ChannelMissing",
    "DecodeError",
    "Fenced",
    "GapError",
    "InvalidCursor",
    "InvalidName",
    "InvalidValue",
    "MissingExtra",
    "NotSupported",
    "PublishRejected",
    "RateLimited",
    "ResponseCancelled",
    "ResponseClosed",
    "ResponseUnknown",
    "SinkClosed",
    "StillStreaming",
    "TokenwireError",
    "UnknownScheme",
]


class TokenwireError(Exception):
    """The root of tokenwire's own errors."""


class InvalidName(TokenwireError, ValueError):
    """A channel name, response id or other identifier is empty, too long or unprintable."""


class InvalidValue(TokenwireError, ValueError):
    """A value has no form in JSON, so that it was replaced or left out; the message says where."""


class ChannelMissing(TokenwireError, LookupError):
    """Nothing names a channel, and the sink has no default one (``default_channel=None``)."""


class InvalidCursor(TokenwireError, ValueError):
    """A cursor is not one that this channel ever handed out."""


class DecodeError(TokenwireError, ValueError):
    """Bytes from outside are not an event."""


class GapError(TokenwireError):
    """Text, a part or the start of a response is missing before this event.

    :ivar response_id: the response that has the hole.
    """

    def __init__(self, message: str, *, response_id: str) -> None:
        super().__init__(message)
        self.response_id = response_id


class ResponseClosed(TokenwireError):
    """A write came after the response had ended (strict mode only)."""


class ResponseCancelled(TokenwireError):
    """A watcher cancelled the response that is being written.

    Raised into the agent only where it asked for that (``on_cancel="raise"``).

    :ivar response_id: the response that was cancelled.
    :ivar reason: what the watcher gave as its reason, if anything.
    """

    def __init__(self, response_id: str, reason: str | None = None) -> None:
        super().__init__(
            f"response {response_id!r} was cancelled" + (f": {reason}" if reason else "")
        )
        self.response_id = response_id
        self.reason = reason


class SinkClosed(TokenwireError):
    """The sink was closed; open a new one."""


class StillStreaming(TokenwireError):
    """A response was not deleted: its producer did not stop in time after a cancel."""


class BackendError(TokenwireError):
    """A backend could not do what it was asked."""


class BackendUnavailable(BackendError):
    """The backend cannot be reached, or cannot serve, for now. Trying again is right."""


class RateLimited(BackendUnavailable):
    """The backend asks to slow down.

    :ivar retry_after: seconds to wait before the next try, where the backend says so.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BackendMisconfigured(BackendUnavailable):
    """The backend answers but refuses us: a wrong password, a missing right, a rule not enabled.

    Tried again slowly, since an operator may mend it while the agent runs.
    """


class PublishRejected(BackendError):
    """The backend will never accept this entry (too large, malformed). Do not send it again."""


class NotSupported(BackendError):
    """This kind of backend cannot do what was asked, ever; its `Capabilities` say so."""


class ResponseUnknown(PublishRejected):
    """The backend does not know this response (any more): its data was flushed or expired."""


class Fenced(PublishRejected):
    """The response belongs to another producer, or has ended: this producer must stop writing."""


class UnknownScheme(TokenwireError, ValueError):
    """No installed backend handles this kind of URL."""


class MissingExtra(TokenwireError, ImportError):
    """A backend or adapter needs a package that is not installed; the message names the command."""
