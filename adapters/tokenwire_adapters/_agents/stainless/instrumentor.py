"""`StainlessInstrumentor`: patches an SDK's classes once, for the clients that are recorded.

A patch of the classes leaves every object what it is: identity, type, attributes and context
managers. A client that nobody wrapped costs a look into a table for each request, and nothing for
each token.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from tokenwire import Sink
from tokenwire._instrument.deferred import when_dropped
from tokenwire.instrument import Channel, Metadata, OnCancel, Options, SdkInstrumentor, record_found
from tokenwire_adapters._agents.stainless.quirks import (
    EVENTS,
    client_of,
    own_stream,
    replace_iterator,
)
from tokenwire_adapters._agents.stainless.recorder import StainlessRecorder
from tokenwire_adapters._agents.stainless.requests import RequestRecorders
from tokenwire_adapters._agents.stainless.stream_end import watch_end
from tokenwire_adapters._agents.stainless.stream_helpers import helper_items
from tokenwire_adapters._agents.stainless.targets import Classifier, PatchTargets

__all__ = ["StainlessInstrumentor"]

T = TypeVar("T")


class StainlessInstrumentor(SdkInstrumentor):
    """Patches one SDK's classes once, and tracks which clients are recorded. Thread-safe.

    :param load_targets: gives the classes to patch; called when the first client is recorded,
        since an SDK loads some of them only when a program uses them.
    """

    def __init__(
        self, module: str, load_targets: Callable[[], PatchTargets], classifier: Classifier
    ) -> None:
        super().__init__()
        self.module = module
        self._load_targets = load_targets
        self._recorders = RequestRecorders(lambda: self._targets.streams, classifier)
        self._managers: weakref.WeakKeyDictionary[Any, Options] = weakref.WeakKeyDictionary()

    @functools.cached_property
    def _targets(self) -> PatchTargets:
        return self._load_targets()

    def wrap(
        self,
        client_or_stream: T,
        sink: Sink | None = None,
        *,
        channel: Channel = None,
        run: str | None = None,
        metadata: Metadata | None = None,
        on_cancel: OnCancel = "end",
    ) -> T:
        """Publish what a client's calls, or one stream, receive. Returns the same object.

        Wrapping a client concerns that client and the copies made of it (``with_options``), no
        other. Wrapping it again replaces the arguments. A stream that is recorded already, since
        its client is wrapped, stays as it is.

        :param client_or_stream: a client (sync or async, also for Azure, Bedrock, Vertex and the
            like), what ``create(stream=True)`` returned, or what ``.stream()`` returned or gave.
        :param sink: by default `tokenwire.default_sink`, opened when it is first needed.
        :param channel: a name, or a function that returns one at each call; by default the
            context's.
        :param run: the agent run; by default the context's, else a run for each call.
        :param metadata: what watchers see beside the provider, the API and the model: a mapping, or
            a function that returns one at each call.
        :param on_cancel: what the consumer's loop meets when a watcher cancels: its ``"end"``, or
            `tokenwire.ResponseCancelled` (``"raise"``).
        :raises TypeError: when it is neither a client nor a stream of this SDK.
        :raises ValueError: for another `on_cancel`.
        """
        fields = metadata if callable(metadata) else dict(metadata or {})
        options = Options(sink, channel, run, fields, on_cancel)
        target: Any = client_or_stream
        if isinstance(target, self._targets.clients):
            self.add_client(target, options)
        elif isinstance(stream := own_stream(target), self._targets.streams):
            self._record_stream(stream, options)
        elif isinstance(target, self._targets.managers):
            with self._lock:
                self._managers[target] = options
                self._ensure_patched()
        else:
            raise TypeError(f"not a client or stream of {self.module}: {type(target).__name__}")
        return client_or_stream

    def unwrap(self, client: T) -> T:
        """Undo `wrap` of a client. Its streams under way are published to their end."""
        self.remove_client(client)
        return client

    def add_client(self, client: Any, options: Options) -> None:
        """Record one client, and the copies that are made of it."""
        with self._lock:
            super().add_client(client, options)
            for owner in type(client).__mro__:
                for name in ("copy", "with_options"):
                    self.patches.replace(owner, name, self._copying)

    def _record_stream(self, stream: Any, options: Options) -> None:
        """Record one stream; a stream that is recorded already stays as it is."""
        with self._lock:
            self._ensure_patched()
        response = stream.response
        if self._recorders.get(response) is None:
            find = functools.partial(self._recorders.of_stream, response, options)
            replace_iterator(stream, functools.partial(record_found, find=find))

    def _in_use(self) -> bool:
        return super()._in_use() or bool(self._managers)

    # -- the patches

    def patch(self) -> None:
        targets, replace = self._targets, self.patches.replace
        replace(targets.clients[0], "request", self._requesting)
        replace(targets.clients[1], "request", self._arequesting)
        for owner in targets.streams:
            replace(owner, "__stream__", self._streaming)
            if targets.end_mark is not None:
                replace(owner, EVENTS, functools.partial(self._watching_end, targets.end_mark))
            replace(owner, "__iter__", self._iterating)
            replace(owner, "__aiter__", self._iterating)
        sync, asynchronous = targets.streams
        closers = ((sync, "response", False), (asynchronous, "response", True), *targets.closers)
        for owner, attribute, is_async in closers:
            closing = self._aclosing if is_async else self._closing
            replace(owner, "close", functools.partial(closing, attribute))
        for owner in targets.helpers:
            replace(owner, "__stream__", self._helping)
        for owner in targets.managers:
            replace(owner, "__enter__", self._entering)
            replace(owner, "__aenter__", self._aentering)
        for owner, is_async in targets.parsers:
            replace(owner, "parse", self._aparsing if is_async else self._parsing)

    def _requesting(self, original: Any) -> Any:
        def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            options = self.options_for(client)
            recorder = (
                None if options is None else self._recorders.open(client, options, args, kwargs)
            )
            if recorder is None:
                return original(client, *args, **kwargs)
            with recorder:
                result = original(client, *args, **kwargs)
            self._recorders.answered(recorder, result)
            return result

        return request

    def _arequesting(self, original: Any) -> Any:
        async def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            options = self.options_for(client)
            recorder = (
                None if options is None else self._recorders.open(client, options, args, kwargs)
            )
            if recorder is None:
                return await original(client, *args, **kwargs)
            recorder.use_running_loop()
            with recorder:
                result = await original(client, *args, **kwargs)
            self._recorders.answered(recorder, result)
            return result

        return request

    def _streaming(self, original: Any) -> Any:
        def wrapped(stream: Any) -> Any:
            options = self.options_for(client_of(stream))
            response = stream.response
            if options is None and self._recorders.get(response) is None:
                return original(stream)
            # A stream that holds a generator that holds the stream is a cycle: dropped by its
            # consumer, it would go on costing until the garbage collector runs. So the generator
            # holds a copy, where that is safe.
            holds = stream
            if type(stream) in self._targets.streams:
                holds = object.__new__(type(stream))
                vars(holds).update(vars(stream))
            find = functools.partial(self._recorders.of_stream, response, options)
            return record_found(original(holds), find)

        return wrapped

    def _watching_end(self, mark: str, original: Any) -> Any:
        """Notice whether a stream says that it is over."""

        def events(stream: Any) -> Any:
            recorder = self._recorders.get(stream.response) if self._recorders else None
            if not isinstance(recorder, StainlessRecorder):
                return original(stream)
            return watch_end(original(stream), mark, recorder.end_of_stream)

        return events

    def _iterating(self, original: Any) -> Any:
        """Notice that a ``for`` loop was left, by when its generator is dropped.

        The stream itself may live on in a variable, and no method of it is called.
        """

        def iterate(stream: Any) -> Any:
            generator = original(stream)
            if self._recorders:
                recorder = self._recorders.get(getattr(stream, "response", None))
                if recorder is not None and not recorder.ended:
                    when_dropped(generator, recorder.close_later)
            return generator

        return iterate

    def _helping(self, original: Any) -> Any:
        """Notice that a helper could not make of the chunks what its caller asked for."""

        def failed(helper: Any, error: Exception) -> None:
            recorder = self._recorders.get(getattr(own_stream(helper), "response", None))
            if recorder is not None and not recorder.cancelled:
                recorder.fail(error)

        def wrapped(helper: Any) -> Any:
            return helper_items(helper, original(helper), failed)

        return wrapped

    def _entering(self, original: Any) -> Any:
        def enter(manager: Any) -> Any:
            return self._entered(manager, original(manager))

        return enter

    def _aentering(self, original: Any) -> Any:
        async def enter(manager: Any) -> Any:
            return self._entered(manager, await original(manager))

        return enter

    def _entered(self, manager: Any, helper: Any) -> Any:
        options = self._managers.get(manager)
        if options is not None:
            self._record_stream(own_stream(helper), options)
        return helper

    def _closing(self, attribute: str, original: Any) -> Any:
        def close(owner: Any) -> Any:
            try:
                return original(owner)
            finally:
                self._recorders.closed(getattr(owner, attribute, None))

        return close

    def _aclosing(self, attribute: str, original: Any) -> Any:
        async def close(owner: Any) -> Any:
            try:
                return await original(owner)
            finally:
                self._recorders.closed(getattr(owner, attribute, None))

        return close

    def _parsing(self, original: Any) -> Any:
        def parse(raw: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(raw, *args, **kwargs)
            self._recorders.parsed(raw, result)
            return result

        return parse

    def _aparsing(self, original: Any) -> Any:
        async def parse(raw: Any, *args: Any, **kwargs: Any) -> Any:
            result = await original(raw, *args, **kwargs)
            self._recorders.parsed(raw, result)
            return result

        return parse

    def _copying(self, original: Any) -> Any:
        def copied(client: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(client, *args, **kwargs)
            options = self.client_options(client)
            if options is not None and result is not client:
                self._clients[result] = options
            return result

        return copied
