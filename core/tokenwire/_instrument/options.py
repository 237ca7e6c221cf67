"""`Options`: where the calls of an SDK are published, and as what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tokenwire._options import OnCancel, choose_on_cancel
from tokenwire.sink import Sink

__all__ = ["Channel", "Metadata", "Options"]

Channel: TypeAlias = str | Callable[[], str | None] | None
"""A channel's name, a function that returns one at each call, or None for the context's."""

Metadata: TypeAlias = Mapping[str, Any] | Callable[[], Mapping[str, Any] | None]
"""What watchers see beside a response: a mapping, or a function that returns one at each call."""


@dataclass(frozen=True, slots=True)
class Options:
    """Where the calls of a client, or of a whole process, are published.

    :ivar sink: None for the default sink, opened when it is first needed.
    :ivar channel: a name, or a function that returns one at each call; None for the context's.
    :ivar run: the agent run; None for the context's, else a run for each call.
    :ivar metadata: what watchers see beside the provider, the API and the model: a mapping, or a
        function that returns one at each call.
    :ivar on_cancel: what the consumer's loop meets after a watcher's cancel: its ``"end"``, or
        `tokenwire.ResponseCancelled` (``"raise"``); None for what the instrumentor does by default.
    :raises ValueError: for another `on_cancel`.
    :raises TypeError: for another `channel`.
    """

    sink: Sink | None = None
    channel: Channel = None
    run: str | None = None
    metadata: Metadata = field(default_factory=dict[str, Any])
    on_cancel: OnCancel | None = None

    def __post_init__(self) -> None:
        choose_on_cancel(self.on_cancel, None, "end")
        if not (self.channel is None or isinstance(self.channel, str) or callable(self.channel)):
            raise TypeError("channel must be a string or a function that returns one")
