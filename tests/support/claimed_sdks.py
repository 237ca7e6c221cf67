"""Undoing what `tokenwire.instrument.record_claimed_calls` has asked of SDKs and HTTP clients."""

from __future__ import annotations

import sys

from tokenwire._instrument import instrumentor as _instrumentor
from tokenwire._plugins import plugins
from tokenwire.instrument import GROUP, SdkInstrumentor

__all__ = ["stop_claimed_sdks"]


def stop_claimed_sdks() -> None:
    """Stop the recording of claimed calls; the next handler that asks for it gets it again."""
    for point in plugins(GROUP).values():
        if point.name in sys.modules:
            instrumentor = point.load()
            if isinstance(instrumentor, SdkInstrumentor):
                instrumentor._claimed = False
                instrumentor.stop()
    _instrumentor._claimed_sdks._waiting = None
