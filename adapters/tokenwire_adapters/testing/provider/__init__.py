"""A scripted model provider: the APIs of OpenAI and Anthropic on loopback.

Tests, demos and examples point a real SDK at it, so that everything but the model is real::

    with serve_in_thread(pace=0) as provider:
        provider.script("Hello, world")
        client = OpenAI(base_url=provider.base_url, api_key="unused")

Without a script it answers with texts of its own, at a model's pace. It needs the standard
library alone; ``python -m tokenwire_adapters.testing.provider`` runs it as a program.
"""

from __future__ import annotations

from tokenwire_adapters.testing.provider._http import Limits
from tokenwire_adapters.testing.provider._record import Counters, Outcome, RequestRecord
from tokenwire_adapters.testing.provider._replies import ToolCall
from tokenwire_adapters.testing.provider._script import (
    Finish,
    ScriptedError,
    ScriptedRecording,
    ScriptedReply,
)
from tokenwire_adapters.testing.provider._server import MODELS, Provider, serve_in_thread

__all__ = [
    "MODELS",
    "Counters",
    "Finish",
    "Limits",
    "Outcome",
    "Provider",
    "RequestRecord",
    "ScriptedError",
    "ScriptedRecording",
    "ScriptedReply",
    "ToolCall",
    "serve_in_thread",
]
