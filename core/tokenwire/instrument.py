"""Instrument a provider's SDK or a framework: what an adapter of another package needs.

An `SdkInstrumentor` patches an SDK, a `Recorder` publishes what one request brings, and `record`
wraps the stream of its chunks. Declared in the entry-point group ``tokenwire.instrumentors``, it is
found by `tokenwire_adapters.auto`, ``tokenwire run``, ``tokenwire doctor`` and the frameworks'
handlers. See docs/extending.md.
"""

from __future__ import annotations

from tokenwire._instrument.deferred import call_later
from tokenwire._instrument.generators import record, record_found
from tokenwire._instrument.hang_up import hang_up, shut_down
from tokenwire._instrument.instrumentor import (
    GROUP,
    Instrumentor,
    SdkInstrumentor,
    record_claimed_calls,
)
from tokenwire._instrument.last_chunk import recorder_of
from tokenwire._instrument.options import Channel, Metadata, Options
from tokenwire._instrument.patches import Patches
from tokenwire._instrument.recorder import Recorder
from tokenwire._options import OnCancel
from tokenwire.background import call_soon

__all__ = [
    "GROUP",
    "Channel",
    "Instrumentor",
    "Metadata",
    "OnCancel",
    "Options",
    "Patches",
    "Recorder",
    "SdkInstrumentor",
    "call_later",
    "call_soon",
    "hang_up",
    "record",
    "record_claimed_calls",
    "record_found",
    "recorder_of",
    "shut_down",
]
