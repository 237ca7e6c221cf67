"""Instruments every SDK and framework that the program imports, with no code changed.

    import tokenwire_adapters.auto
    tokenwire_adapters.auto.install()

The instrumentors are found in the entry-point group ``tokenwire.instrumentors``, so those of other
packages are used, too. Each starts once its SDK or framework is imported; packages that are not
installed are ignored. An SDK that is known, and that none of them sees, is named in a warning. The
lowest layer that sees a token writes it: an SDK before a framework.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tokenwire_adapters._agents.imports import log_problem, watch_imports

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from tokenwire import Sink
    from tokenwire.instrument import Instrumentor, OnCancel
    from tokenwire_adapters._agents.known_sdks import KnownSdk

__all__ = ["install", "uninstall"]

_lock = threading.RLock()
_undo: Callable[[], None] | None = None


def install(
    sink: Sink | None = None,
    *,
    channel: str | Callable[[], str | None] | None = None,
    on_cancel: OnCancel | None = None,
) -> Callable[[], None]:
    """Publish the calls that any instrumented SDK or framework makes in this process.

    Does nothing where ``$TOKENWIRE_DISABLED`` is set (to anything but ``0`` or ``false``).
    Installing again replaces the arguments.

    :param sink: by default `tokenwire.default_sink`, opened when the first model is called.
    :param channel: a name, or a function that returns one at each call; by default the context's.
    :param on_cancel: what a watcher's cancel does to the code that reads the model: ``"end"``: its
        stream ends; ``"raise"``: it raises `tokenwire.ResponseCancelled`. By default streams of
        SDKs end, and frameworks raise.
    :return: its undo, which does nothing once `install` was called again.
    :raises ValueError: for another `on_cancel`.
    """
    global _undo
    if on_cancel not in (None, "end", "raise"):
        raise ValueError(f"on_cancel must be 'end' or 'raise', not {on_cancel!r}")
    if os.environ.get("TOKENWIRE_DISABLED", "").lower() not in ("", "0", "false"):
        return lambda: None
    with _lock:
        if _undo is not None:
            _undo()
        installed = _Installed(sink, channel, on_cancel)

        def undo() -> None:
            global _undo
            with _lock:
                installed.stop()
                if _undo is undo:
                    _undo = None

        _undo = undo
        return undo


def uninstall() -> None:
    """Undo `install`, whoever called it. Responses under way are published to their end."""
    with _lock:
        if _undo is not None:
            _undo()


_warned: set[str] = set()


def _warn_once(sdk: KnownSdk) -> None:
    """Say, once in a process, that an SDK that was imported is not seen."""
    if sdk.module not in _warned:
        _warned.add(sdk.module)
        log_problem("tokenwire: %s", sdk.warning())


class _Installed:
    """The instrumentors that one `install` starts."""

    def __init__(self, sink: Sink | None, channel: Any, on_cancel: OnCancel | None) -> None:
        self._sink = sink
        self._channel = channel
        self._on_cancel: OnCancel | None = on_cancel
        self._started: list[Instrumentor] = []
        self._unwatch = watch_imports(self._callbacks)

    def _callbacks(self) -> dict[str, Callable[[], object]]:
        # Late: to load and read them takes longer than the start of a program.
        from tokenwire._plugins import plugins
        from tokenwire_adapters._agents.known_sdks import unseen_sdks

        points = plugins("tokenwire.instrumentors")
        return {
            **{
                sdk.module: functools.partial(_warn_once, sdk)
                for sdk in unseen_sdks(points)
                if sdk.warns
            },
            **{name: functools.partial(self._start, point) for name, point in points.items()},
        }

    def _start(self, point: EntryPoint) -> None:
        instrumentor: Instrumentor = point.load()
        from tokenwire.instrument import Options

        instrumentor.start(Options(self._sink, self._channel, on_cancel=self._on_cancel))
        self._started.append(instrumentor)

    def stop(self) -> None:
        self._unwatch()
        while self._started:
            instrumentor = self._started.pop()
            try:
                instrumentor.stop()
            except Exception:
                log_problem("tokenwire: cannot stop %s", instrumentor.module, exc_info=True)
