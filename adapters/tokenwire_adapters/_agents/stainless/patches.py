"""`SdkInstrumentor`: the places of one SDK that are listened to, patched once and on its classes.

A patch of the classes leaves every object what it is: identity, type, attributes and context
managers. Which clients are heard is held beside them. A client that nobody wrapped costs a look
into a table for each request, and nothing for each token.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import json
import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any, cast

from tokenwire.context import Claim
from tokenwire_adapters._agents.claims import covering_claim
from tokenwire_adapters._agents.recorder import Options, Recorder
from tokenwire_adapters._agents.stainless.generators import arecorded, recorded
from tokenwire_adapters._agents.stainless.helpers import MappedAwaitable, aread, own_stream, read
from tokenwire_adapters._agents.stainless.targets import Classifier, PatchTargets

__all__ = ["SdkInstrumentor"]

logger = logging.getLogger("tokenwire")

_RAW = "X-Stainless-Raw-Response"
_CLAIMED = Options()  # where to and what about: the claim says it


class SdkInstrumentor:
    """One SDK, and who of it is heard. Thread-safe."""

    def __init__(self, places: PatchTargets, recognise: Classifier) -> None:
        self._places = places
        self._recognise = recognise
        self._everyone: Options | None = None
        self._claims = False
        self._clients: weakref.WeakKeyDictionary[Any, Options] = weakref.WeakKeyDictionary()
        self._taps: weakref.WeakKeyDictionary[Any, Recorder] = weakref.WeakKeyDictionary()
        self._readers: weakref.WeakKeyDictionary[Any, weakref.ref[Any]] = (
            weakref.WeakKeyDictionary()
        )
        self._patches: list[tuple[type, str, Any, Any]] = []
        self._lock = threading.RLock()

    # -- who is heard

    def hear_everyone(self, options: Options | None) -> None:
        """Hear every client that is not wrapped by itself; with None, no longer."""
        with self._lock:
            self._everyone = options
            if options is not None:
                self._install()
            elif not self._clients and not self._claims:
                self._remove()

    def instrument_claimed_calls(self) -> None:
        """Hear the calls that a framework's hook has opened a claim for, whichever the client."""
        with self._lock:
            self._claims = True
            self._install()

    @property
    def everyone(self) -> Options | None:
        """How every client is heard, if it is."""
        return self._everyone

    def wrap(self, target: Any, options: Options, name: str) -> None:
        """Hear a client, a stream, a helper or its manager.

        :raises TypeError: when it is none of them.
        """
        if isinstance(target, self._places.clients):
            self.hear(target, options)
            return
        stream = own_stream(target)
        if isinstance(stream, self._places.streams):
            self.hear_stream(stream, options)
        elif not self.hear_manager(stream, options):
            raise TypeError(f"not a client or stream of {name}: {type(target).__name__}")

    def hear(self, client: Any, options: Options) -> None:
        """Hear one client, and the copies that are made of it."""
        with self._lock:
            self._install()
            self._clients[client] = options
            for owner in type(client).__mro__:
                for name in ("copy", "with_options"):
                    if name in vars(owner):
                        self._patch(owner, name, self._copying)

    def forget(self, client: Any) -> None:
        """Hear a client no longer (responses under way are read to their end)."""
        with self._lock:
            self._clients.pop(client, None)
            if not self._clients and self._everyone is None and not self._claims:
                self._remove()

    def hear_stream(self, stream: Any, options: Options) -> None:
        """Hear one stream; a stream that is heard already stays as it is."""
        with self._lock:
            self._install()
        response = stream.response
        if response in self._taps:
            return
        find = functools.partial(self._find, response, options)
        inner = stream._iterator
        made = recorded(inner, find) if self._is_sync(stream) else arecorded(inner, find)
        stream._iterator = self._reader(response, made)

    def hear_manager(self, manager: Any, options: Options) -> bool:
        """Hear the stream that a ``.stream()`` helper's manager is about to request.

        :return: False when it is no such manager.
        """
        held: dict[str, Any] = getattr(manager, "__dict__", {})
        name = next((name for name in held if name.endswith("__api_request")), None)
        if name is None:
            return False
        request = held[name]

        def heard(stream: Any) -> Any:
            self.hear_stream(stream, options)
            return stream

        if callable(request):
            setattr(manager, name, lambda: heard(request()))
        else:
            setattr(manager, name, MappedAwaitable(request, heard))
        return True

    def options_of(self, client: Any) -> Options | None:
        """How a call of `client`, made here and now, is heard; None: not at all."""
        claim = covering_claim()
        if claim is not None and claim.suppressed:
            return None
        if self._clients:
            found = self._clients.get(client)
            if found is not None:
                return found
        if self._everyone is None and self._claims and claim is not None and _is_free(claim):
            return _CLAIMED if getattr(claim, "instrument", True) else None
        return self._everyone

    def _is_sync(self, stream: Any) -> bool:
        return isinstance(stream, self._places.streams[0])

    # -- one request

    def _open(self, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Recorder | None:
        """Make the tap for a request, and begin its response where its reply will be parsed."""
        options = self.options_of(client)
        if options is None:
            return None
        try:
            final = kwargs["options"] if "options" in kwargs else args[1]
            made = self._recognise.request(final.method, final.url)
            if made is None:
                return None
            body = final.json_data
            tap = made(options, cast("Any", body) if isinstance(body, Mapping) else None)
            headers: Any = final.headers
            raw = isinstance(headers, Mapping) and _RAW in cast("Mapping[str, Any]", headers)
        except Exception:
            logger.warning("tokenwire: cannot read a request", exc_info=True)
            return None
        if not raw:  # nobody may ever parse a raw response
            tap.begin()
        return tap

    def _answer(self, tap: Recorder, result: Any) -> None:
        """Learn what a request gave: a stream, a raw response, or a whole reply."""
        try:
            streams = isinstance(result, self._places.streams)
            response = result.response if streams else getattr(result, "http_response", None)
            if response is not None:
                self._taps[response] = tap
                tap.bind(response)
                if streams:  # one that is dropped unread runs no code of its own
                    weakref.finalize(result, tap.left).atexit = False
                return
        except Exception as error:
            tap.broken(error)
            return
        tap.whole(result)

    def _parsed(self, raw: Any, result: Any) -> None:
        """Learn what a raw response held."""
        tap = self._tap_of(raw.http_response)
        if tap is not None and not tap.ended and not tap.driven:
            if isinstance(result, self._places.streams):
                tap.begin()
            else:
                tap.whole(result)

    def _find(self, response: Any, options: Options | None, item: Any) -> Recorder | None:
        """Find the tap for a stream: the one of its request, else a new one."""
        try:
            tap = self._taps.get(response)
            if tap is None and options is not None:
                made, request = self._made_for(response, item)
                if made is None:
                    return None
                tap = made(options, request)
                self._taps[response] = tap
                tap.bind(response)
            if tap is None or tap.driven or tap.lost:
                return None
            tap.driven = True
            tap.loop = _loop()
            tap.reader = self._readers.get(response)
        except Exception:
            logger.warning("tokenwire: cannot read a stream", exc_info=True)
            return None
        tap.begin()
        return tap

    def _reader(self, response: Any, generator: Any) -> Any:
        """Remember which generator reads a response, so that one can see whether it waits."""
        with contextlib.suppress(TypeError):  # a stand-in that cannot be looked up
            self._readers[response] = weakref.ref(generator)
        return generator

    def _made_for(
        self, response: Any, item: Any
    ) -> tuple[type[Recorder] | None, dict[str, Any] | None]:
        """Tell the API of a stream whose request was not seen: by its request, or its first item.

        The request tells in time of a stream that brings nothing but an error, or nothing at all.
        """
        if item is not None:
            return self._recognise.item(item), {"model": getattr(item, "model", None)}
        request: Any = getattr(response, "_request", None)  # the property raises without one
        if request is None:
            return None, None
        body: Any = json.loads(request.content) if request.method == "POST" else None
        made = self._recognise.request(request.method, request.url.path)
        return made, cast("dict[str, Any]", body) if isinstance(body, dict) else None

    # -- the patches

    def _install(self) -> None:
        if self._patches:
            return
        places = self._places
        self._patch(places.clients[0], "request", self._requesting)
        self._patch(places.clients[1], "request", self._arequesting)
        self._patch(places.streams[0], "__stream__", self._streaming)
        self._patch(places.streams[1], "__stream__", self._astreaming)
        self._patch(places.streams[0], "__iter__", self._iterating)
        self._patch(places.streams[1], "__aiter__", self._iterating)
        self._patch(places.streams[0], "close", functools.partial(self._closing, "response"))
        self._patch(places.streams[1], "close", functools.partial(self._aclosing, "response"))
        for owner, attribute, is_async in places.closers:
            make = self._aclosing if is_async else self._closing
            self._patch(owner, "close", functools.partial(make, attribute))
        for owner in places.helpers:
            self._patch(owner, "__stream__", self._helping)
        for owner, is_async in places.parsers:
            self._patch(owner, "parse", self._aparsing if is_async else self._parsing)

    def _patch(self, owner: type, name: str, make: Callable[[Any], Any]) -> None:
        if any(at is owner and of == name for at, of, _, _ in self._patches):
            return
        original = vars(owner).get(name)
        if original is None:
            return
        made = functools.wraps(original)(make(original))
        setattr(owner, name, made)
        self._patches.append((owner, name, original, made))

    def _remove(self) -> None:
        """Put back what was there, where nobody else has patched over it."""
        kept: list[tuple[type, str, Any, Any]] = []
        for owner, name, original, made in reversed(self._patches):
            if vars(owner).get(name) is made:
                setattr(owner, name, original)
            else:
                kept.append((owner, name, original, made))
        self._patches = kept

    def _requesting(self, original: Any) -> Any:
        def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            tap = self._open(client, args, kwargs)
            if tap is None:
                return original(client, *args, **kwargs)
            try:
                result = original(client, *args, **kwargs)
            except Exception as error:
                tap.failed(error)
                raise
            except BaseException:
                tap.closed()
                raise
            self._answer(tap, result)
            return result

        return request

    def _arequesting(self, original: Any) -> Any:
        async def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            tap = self._open(client, args, kwargs)
            if tap is None:
                return await original(client, *args, **kwargs)
            tap.loop = _loop()
            try:
                result = await original(client, *args, **kwargs)
            except Exception as error:
                tap.failed(error)
                raise
            except BaseException:
                tap.closed()
                raise
            self._answer(tap, result)
            return result

        return request

    def _streaming(self, original: Any) -> Any:
        def wrapped(stream: Any) -> Any:
            options = self.options_of(stream._client)
            if options is None and self._tap_of(stream.response) is None:
                return original(stream)
            inner = original(self._unbound(stream))
            find = functools.partial(self._find, stream.response, options)
            return self._reader(stream.response, recorded(inner, find))

        return wrapped

    def _astreaming(self, original: Any) -> Any:
        def wrapped(stream: Any) -> Any:
            options = self.options_of(stream._client)
            if options is None and self._tap_of(stream.response) is None:
                return original(stream)
            inner = original(self._unbound(stream))
            find = functools.partial(self._find, stream.response, options)
            return self._reader(stream.response, arecorded(inner, find))

        return wrapped

    def _helping(self, original: Any) -> Any:
        """Notice that a helper could not make of the chunks what its caller asked for."""

        def failed(helper: Any, error: Exception) -> None:
            tap = self._tap_of(getattr(own_stream(helper), "response", None))
            if tap is not None and not tap.stopped:
                tap.failed(error)

        def wrapped(helper: Any) -> Any:
            inner = original(helper)
            return (read if hasattr(inner, "send") else aread)(helper, inner, failed)

        return wrapped

    def _iterating(self, original: Any) -> Any:
        """Notice that a ``for`` loop was left, by when its generator goes.

        The stream itself may live on in a variable, and would say nothing.
        """

        def iterate(stream: Any) -> Any:
            generator = original(stream)
            tap = self._tap_of(getattr(stream, "response", None)) if self._taps else None
            if tap is not None and not tap.ended:
                weakref.finalize(generator, tap.left).atexit = False
            return generator

        return iterate

    def _unbound(self, stream: Any) -> Any:
        """A copy, where that is safe, for a generator to hold.

        A stream that holds a generator that holds the stream is a cycle: dropped by its consumer,
        it would go on costing until the garbage collector comes by.
        """
        return copy.copy(stream) if type(stream) in self._places.streams else stream

    def _closing(self, attribute: str, original: Any) -> Any:
        def close(owner: Any) -> Any:
            try:
                return original(owner)
            finally:
                self._closed(getattr(owner, attribute, None))

        return close

    def _aclosing(self, attribute: str, original: Any) -> Any:
        async def close(owner: Any) -> Any:
            try:
                return await original(owner)
            finally:
                self._closed(getattr(owner, attribute, None))

        return close

    def _closed(self, response: Any) -> None:
        tap = self._tap_of(response)
        if tap is not None:
            tap.closed()

    def _tap_of(self, response: Any) -> Recorder | None:
        try:
            return self._taps.get(response)
        except TypeError:  # a stand-in that cannot be looked up
            return None

    def _parsing(self, original: Any) -> Any:
        def parse(raw: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(raw, *args, **kwargs)
            self._parsed(raw, result)
            return result

        return parse

    def _aparsing(self, original: Any) -> Any:
        async def parse(raw: Any, *args: Any, **kwargs: Any) -> Any:
            result = await original(raw, *args, **kwargs)
            self._parsed(raw, result)
            return result

        return parse

    def _copying(self, original: Any) -> Any:
        def copied(client: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(client, *args, **kwargs)
            options = self._clients.get(client)
            if options is not None and result is not client:
                self._clients[result] = options
            return result

        return copied


def _is_free(claim: Claim) -> bool:
    """Say whether what runs in the claim's context may be its call, or the stream of its call.

    Once that stream is read, it is another call, which the consumer makes in the same context.
    """
    owner = claim.owner
    return not claim.taken or (isinstance(owner, Recorder) and not (owner.driven or owner.ended))


def _loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # a thread without one, or another library's
        return None
