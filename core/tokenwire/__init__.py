"""tokenwire: every token your agent produces, on every screen that is watching.

>>> import tokenwire
>>> with tokenwire.open_sink("memory://doctest") as sink:
...     with sink.respond("chat-42", response_id="r1") as response:
...         _ = response.write("Hel")
...         _ = response.write("lo")
...     sink.history("chat-42").items[0].text
'Hello'
"""

from tokenwire._version import __version__
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
