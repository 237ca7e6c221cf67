"""Everything at once, with no code changed: each SDK and framework, as the program imports it.

    import tokenwire_adapters.auto
    tokenwire_adapters.auto.install()

The lowest layer that sees a token writes it: an SDK's tap before a framework's hook. What is not
installed is left out; what is not imported yet is listened to once it is.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tokenwire_adapters._agents.imports import when_imported

if TYPE_CHECKING:
    from tokenwire import Sink

__all__ = ["install", "uninstall"]

logger = logging.getLogger("tokenwire")

_lock = threading.RLock()
_undo: Callable[[], None] | None = None


def install(
    sink: Sink | None = None, *, channel: str | Callable[[], str | None] | None = None
) -> Callable[[], None]:
    """Publish what any model SDK or framework of this process brings.

    Does nothing where ``$TOKENWIRE_DISABLED`` is set (to anything but ``0`` or ``false``).
    Installing again replaces what was told before.

    :param sink: by default `tokenwire.default_sink`, opened when the first model is called.
    :param channel: a name, or a function that gives one at each call; by default the context's.
    :return: its undo, which does nothing once it was installed anew.
    """
    global _undo
    if _disabled():
        return lambda: None
    with _lock:
        if _undo is not None:
            _undo()
        undos: list[Callable[[], None]] = []
        for module, adapter, hear in (
            ("openai", "openai", _hear_sdk),
            ("anthropic", "anthropic", _hear_sdk),
            ("langchain_core", "langchain", _hear_langchain),
            ("llama_index.core", "llama_index", _hear_llama_index),
        ):
            undos.append(_Listening(module, adapter, hear, sink, channel).stop)

        def undo() -> None:
            global _undo
            with _lock:
                for each in undos:
                    each()
                undos.clear()
                if _undo is undo:
                    _undo = None

        _undo = undo
        return undo


def uninstall() -> None:
    """Undo `install`, whoever called it. Responses under way are read to their end."""
    with _lock:
        if _undo is not None:
            _undo()


def _disabled() -> bool:
    return os.environ.get("TOKENWIRE_DISABLED", "").lower() not in ("", "0", "false")


class _Listening:
    """One module, listened to from its import on."""

    def __init__(
        self,
        module: str,
        adapter: str,
        hear: Callable[[Any, Sink | None, Any], Callable[[], None]],
        sink: Sink | None,
        channel: Any,
    ) -> None:
        self._adapter = adapter
        self._hear = hear
        self._sink = sink
        self._channel = channel
        self._silence: Callable[[], None] | None = None
        self._forget = when_imported(module, self._start)

    def _start(self) -> None:
        adapter = importlib.import_module(f"tokenwire_adapters.{self._adapter}")
        self._silence = self._hear(adapter, self._sink, self._channel)

    def stop(self) -> None:
        self._forget()
        if self._silence is not None:
            self._silence()
            self._silence = None


def _hear_sdk(adapter: Any, sink: Sink | None, channel: Any) -> Callable[[], None]:
    from tokenwire_adapters._agents.recorder import Options

    adapter.instrument_all(Options(sink, channel))
    return lambda: adapter.instrument_all(None)


def _hear_langchain(adapter: Any, sink: Sink | None, channel: Any) -> Callable[[], None]:
    adapter.instrument_all(adapter.TokenwireCallbackHandler(sink, channel=channel))
    return lambda: adapter.instrument_all(None)


def _hear_llama_index(adapter: Any, sink: Sink | None, channel: Any) -> Callable[[], None]:
    adapter.instrument_all(adapter.TokenwireEventHandler(sink, channel=channel))
    return lambda: adapter.instrument_all(None)
