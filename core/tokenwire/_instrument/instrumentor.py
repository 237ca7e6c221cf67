"""Instrumentors: found by entry point, they record what an SDK or a framework calls."""

from __future__ import annotations

import logging
import sys
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from tokenwire._instrument.options import Options
from tokenwire._instrument.patches import Patches
from tokenwire._instrument.recorder import Recorder
from tokenwire._plugins import plugins
from tokenwire.claims import Claim, covering_claim

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["GROUP", "Instrumentor", "SdkInstrumentor", "record_claimed_calls"]

logger = logging.getLogger("tokenwire")

GROUP = "tokenwire.instrumentors"
"""The entry-point group. An entry's name is the import name of the third-party module, and its
value an `Instrumentor`; it is loaded once the program has imported that module."""

_FROM_CLAIM = Options()  # where to and what about: the claim says it

R = TypeVar("R", bound=Recorder)


class Instrumentor(ABC):
    """Publishes every call that one SDK or framework makes in this process.

    :ivar module: the import name of the SDK or framework, as in the entry point.
    """

    module: str

    @abstractmethod
    def start(self, options: Options) -> None:
        """Publish every call from now on. Called again, it replaces the options."""

    @abstractmethod
    def stop(self) -> None:
        """Undo `start`. Responses under way are published to their end."""

    @property
    def recording(self) -> str | None:
        """What is recorded at the moment, in words, for messages; None: nothing, or not known."""
        return None

    def record_claimed_calls(self) -> None:
        """Record calls that a `tokenwire.claims.Claim` covers, also without `start`; idempotent.

        A framework's handler asks this of the SDKs below it (see the function of the same name).
        Does nothing by default, as is right for what is a framework itself.
        """


class SdkInstrumentor(Instrumentor):
    """Records the calls of a provider's SDK: of all clients, of some, or those under a claim.

    A subclass patches the SDK's classes in `patch`, by `patches`, and puts them back in `unpatch`.
    What it puts in their place asks `recorder` for each request. Which clients are recorded is
    held beside them, so that every object stays what it is. Thread-safe.
    """

    def __init__(self) -> None:
        self.patches = Patches()
        self._patched = False
        self._options: Options | None = None
        self._claimed = False
        self._clients: weakref.WeakKeyDictionary[Any, Options] = weakref.WeakKeyDictionary()
        self._lock = threading.RLock()

    @abstractmethod
    def patch(self) -> None:
        """Patch the SDK's classes."""

    def unpatch(self) -> None:
        """Undo `patch`."""
        self.patches.restore()

    def start(self, options: Options) -> None:
        """Record every client that is not wrapped by itself."""
        with self._lock:
            self._options = options
            self._ensure_patched()

    def stop(self) -> None:
        """Undo `start`. Wrapped clients and claimed calls are recorded as before."""
        with self._lock:
            self._options = None
            self._unpatch_if_unused()

    def record_claimed_calls(self) -> None:
        """Record the calls that a claim covers, whichever the client."""
        with self._lock:
            self._claimed = True
            self._ensure_patched()

    @property
    def recording(self) -> str | None:
        """Every client, some that are wrapped, or calls of a framework."""
        if self._options is not None:
            return "every client"
        if self._clients:
            return f"{len(self._clients)} wrapped clients"
        return "calls of a framework" if self._claimed else None

    def add_client(self, client: Any, options: Options) -> None:
        """Record one client. Called again, it replaces the options."""
        with self._lock:
            self._ensure_patched()
            self._clients[client] = options

    def remove_client(self, client: Any) -> None:
        """Undo `add_client`."""
        with self._lock:
            self._clients.pop(client, None)
            self._unpatch_if_unused()

    def client_options(self, client: Any) -> Options | None:
        """The options that `add_client` was given for `client`."""
        return self._clients.get(client) if self._clients and client is not None else None

    def options_for(self, client: Any = None) -> Options | None:
        """How a call of `client`, made here and now, is recorded; None: not at all."""
        claim = covering_claim()
        if claim is not None and claim.suppressed:
            return None
        options = self.client_options(client)
        if options is not None:
            return options
        if self._options is None and self._claimed and claim is not None and _is_free(claim):
            return _FROM_CLAIM if claim.instrument else None
        return self._options

    def recorder(
        self, kind: type[R], request: Mapping[str, Any] | None = None, client: Any = None
    ) -> R | None:
        """Begin to record a request that is about to be sent; None where it is not recorded.

        :param kind: the recorder of the API that is called.
        :param request: the request's body; its ``model`` is published.
        :param client: the SDK's client that sends it.
        """
        options = self.options_for(client)
        if options is None:
            return None
        try:
            recorder = kind(options, request)
        except Exception:
            logger.warning("tokenwire: cannot read a request", exc_info=True)
            return None
        recorder.begin()
        return recorder

    def _ensure_patched(self) -> None:
        if not self._patched:
            self.patch()
            self._patched = True

    def _unpatch_if_unused(self) -> None:
        if self._patched and not self._in_use():
            self.unpatch()
            self._patched = False

    def _in_use(self) -> bool:
        return self._options is not None or self._claimed or bool(self._clients)


def _is_free(claim: Claim) -> bool:
    """Whether what runs in the claim's context may be its call, or the stream of its call.

    Once that stream is read, it is another call, which the consumer makes in the same context.
    """
    owner = claim.owner
    return not claim.taken or (isinstance(owner, Recorder) and not (owner.attached or owner.ended))


class _ClaimedSdks:
    """The instrumentors of SDKs that have been asked to record claimed calls."""

    def __init__(self) -> None:
        self._waiting: dict[str, EntryPoint] | None = None

    def record(self) -> None:
        if self._waiting is None:
            self._waiting = dict(plugins(GROUP))
        for module in [name for name in self._waiting if name in sys.modules]:
            point = self._waiting.pop(module, None)
            if point is not None:
                try:
                    point.load().record_claimed_calls()
                except Exception:
                    logger.warning("tokenwire: cannot instrument %s", module, exc_info=True)


_claimed_sdks = _ClaimedSdks()


def record_claimed_calls() -> None:
    """Have each SDK that is imported record the calls that a claim covers, and no other.

    For a framework's handler to call when it has opened a `tokenwire.claims.Claim` for a model's
    call; quick when there is nothing new to do. Never raises.
    """
    _claimed_sdks.record()
