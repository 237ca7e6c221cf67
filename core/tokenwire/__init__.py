"""tokenwire: every token your agent produces, on every screen that is watching.

>>> import tokenwire
>>> with tokenwire.open_sink("memory://doctest") as sink:
...     with sink.respond("chat-42", response_id="r1") as response:
...         _ = response.write("Hel")
...         _ = response.write("lo")
...     sink.history("chat-42").items[0].text
'Hello'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tokenwire._version import __version__

if TYPE_CHECKING:
    from tokenwire.backend import Backend, Capabilities, ChannelInfo, Deleted, Retention
    from tokenwire.context import channel, current_channel, current_run, run
    from tokenwire.encoding import Encoder, Frame, NativeEncoder
    from tokenwire.errors import (
        BackendError,
        BackendMisconfigured,
        BackendUnavailable,
        ChannelMissing,
        DecodeError,
        Fenced,
        GapError,
        InvalidCursor,
        InvalidName,
        InvalidValue,
        MissingExtra,
        NotSupported,
        PublishRejected,
        RateLimited,
        ResponseCancelled,
        ResponseClosed,
        ResponseUnknown,
        SinkClosed,
        StillStreaming,
        TokenwireError,
        UnknownScheme,
    )
    from tokenwire.events import (
        CancelEvent,
        DataEvent,
        DeltaEvent,
        EndEvent,
        Event,
        InputEvent,
        Part,
        PartEvent,
        Response,
        SnapshotEvent,
        StartEvent,
        State,
        ToolResult,
        ToolResultEvent,
        UnknownEvent,
    )
    from tokenwire.memory import MemoryBackend
    from tokenwire.opening import default_sink, open_sink
    from tokenwire.registry import register_backend
    from tokenwire.response import Transcript, fold
    from tokenwire.sink import CancelOutcome, ImportReport, Page, ResponseSummary, Sink, SinkStats
    from tokenwire.watch import Watch
    from tokenwire.writer import PartWriter, Receipt, ResponseWriter

__all__ = [
    "Backend",
    "BackendError",
    "BackendMisconfigured",
    "BackendUnavailable",
    "CancelEvent",
    "CancelOutcome",
    "Capabilities",
    "ChannelInfo",
    "ChannelMissing",
    "DataEvent",
    "DecodeError",
    "Deleted",
    "DeltaEvent",
    "Encoder",
    "EndEvent",
    "Event",
    "Fenced",
    "Frame",
    "GapError",
    "ImportReport",
    "InputEvent",
    "InvalidCursor",
    "InvalidName",
    "InvalidValue",
    "MemoryBackend",
    "MissingExtra",
    "NativeEncoder",
    "NotSupported",
    "Page",
    "Part",
    "PartEvent",
    "PartWriter",
    "PublishRejected",
    "RateLimited",
    "Receipt",
    "Response",
    "ResponseCancelled",
    "ResponseClosed",
    "ResponseSummary",
    "ResponseUnknown",
    "ResponseWriter",
    "Retention",
    "Sink",
    "SinkClosed",
    "SinkStats",
    "SnapshotEvent",
    "StartEvent",
    "State",
    "StillStreaming",
    "TokenwireError",
    "ToolResult",
    "ToolResultEvent",
    "Transcript",
    "UnknownEvent",
    "UnknownScheme",
    "Watch",
    "__version__",
    "channel",
    "current_channel",
    "current_run",
    "default_sink",
    "fold",
    "open_sink",
    "register_backend",
    "run",
]

# From the lowest layer up: who needs a name of one needs the modules before it, too.
_MODULES = (
    "errors",
    "events",
    "context",
    "backend",
    "response",
    "writer",
    "watch",
    "sink",
    "encoding",
    "memory",
    "registry",
    "opening",
    "claims",
)

if not TYPE_CHECKING:  # a type checker would take it to have any name

    def __getattr__(name: str) -> Any:
        """Load what is used for the first time: a name of `__all__`, or one of the modules."""
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        if name in __all__:
            for module in _MODULES:
                public = import_module(f"{__name__}.{module}")
                if name in public.__all__:
                    value = globals()[name] = getattr(public, name)
                    return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
