"""Calls back when modules are imported, now or later, without importing them.

Only the standard library: this runs at the start of programs that may never use a model.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, cast

__all__ = ["log_problem", "watch_imports"]

Callbacks = Mapping[str, Callable[[], object]]

_OURS = ("tokenwire", "tokenwire_adapters", "sitecustomize", "usercustomize")


def watch_imports(callbacks: Callbacks | Callable[[], Callbacks]) -> Callable[[], None]:
    """Call back once for each module that is imported: at once, where it is already.

    What a callback raises is logged. The import itself is never harmed.

    :param callbacks: by the names of modules; or what gives them, which is called once, when the
        program imports the first package that is not of the standard library.
    :return: a function that ends the watch.
    """
    watcher = _ImportWatcher(callbacks)
    sys.meta_path.insert(0, watcher)
    if not callable(callbacks) or not all(map(_says_nothing, list(sys.modules))):
        watcher.check_imported()
    return watcher.remove


def log_problem(message: str, *args: object, exc_info: bool = False) -> None:
    """Log a warning. Programs where all is well need not load `logging`, a third of our start."""
    import logging

    logging.getLogger("tokenwire").warning(message, *args, exc_info=exc_info)


def _says_nothing(name: str) -> bool:
    """Whether a module may be there in a program that has not imported any package."""
    top = name.partition(".")[0]
    return top.startswith("_") or top in sys.stdlib_module_names or top in _OURS


def _is_imported(name: str) -> bool:
    module = sys.modules.get(name)
    if module is None:
        return False
    spec = getattr(module, "__spec__", None)
    return not getattr(spec, "_initializing", False)


class _ImportWatcher:
    """A finder before all others that finds nothing itself, and watches for some modules.

    It and the loader have no base class of `importlib.abc`, which takes long to import.
    """

    def __init__(self, callbacks: Callbacks | Callable[[], Callbacks]) -> None:
        self._read = callbacks if callable(callbacks) else lambda: callbacks
        self._callbacks = None if callable(callbacks) else dict(callbacks)
        self._reading = False
        self._lock = threading.RLock()
        self._looking = threading.local()

    def check_imported(self) -> None:
        """Call back for what is imported already."""
        for name in list(self._pending()):
            if _is_imported(name):
                self._imported(name)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        if self._callbacks is None and _says_nothing(fullname):
            return None
        if fullname not in self._pending() or getattr(self._looking, "now", False):
            return None
        self._looking.now = True
        try:
            spec = importlib.util.find_spec(fullname)
        except (ImportError, ValueError, AttributeError):
            return None
        finally:
            self._looking.now = False
        if spec is not None and spec.loader is not None and hasattr(spec.loader, "exec_module"):
            loader = _Loader(spec.loader, lambda: self._imported(fullname))
            spec.loader = cast("Any", loader)
        return spec

    def remove(self) -> None:
        """Watch no longer."""
        self._callbacks = {}
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def _pending(self) -> Callbacks:
        """The callbacks of modules that are still to be imported."""
        if self._callbacks is None:
            with self._lock:  # another thread may import one of them right now
                if self._reading:  # and so does reading them, perhaps
                    return self._callbacks or {}
                self._reading = True
                try:
                    self._callbacks = dict(self._read())
                except Exception:
                    self._callbacks = {}
                    log_problem("tokenwire: cannot read the entry points", exc_info=True)
        return self._callbacks

    def _imported(self, name: str) -> None:
        callback = (self._callbacks or {}).pop(name, None)
        if callback is None:
            return
        try:
            callback()
        except Exception:
            log_problem("tokenwire: cannot instrument %s", name, exc_info=True)


class _Loader:
    """A module's own loader, which calls back when it is done and then leaves the module's spec."""

    def __init__(self, loader: Any, done: Callable[[], None]) -> None:
        self._loader = loader
        self._done = done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._done()
