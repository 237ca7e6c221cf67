"""Under a library that is not asyncio, asynchronous methods say what to use instead."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tokenwire import MemoryBackend, Sink, open_sink

_CALLS: dict[str, Callable[[Sink], Coroutine[Any, Any, Any]]] = {
    "watch": lambda sink: sink.watch("c", rewind="all").__anext__(),  # type: ignore[dict-item]
    "open": lambda sink: sink.watch("c").aopen(),
    "history": lambda sink: sink.ahistory("c"),
    "cancel": lambda sink: sink.acancel("c", "r"),
    "input": lambda sink: sink.ainput("c", "n"),
    "receipt": lambda sink: sink.respond("c").await_(1),
    "inputs": lambda sink: sink.inputs("c").__anext__(),
    "close": lambda sink: sink.aclose(),
}


@pytest.mark.parametrize("call", _CALLS)
def test_another_library_is_refused_in_words(call: str) -> None:
    with open_sink(MemoryBackend()) as sink:
        with sink.respond("c") as writer:
            writer.write("text")
        coroutine = _CALLS[call](sink)
        with pytest.raises(RuntimeError, match="run on asyncio only: under trio, use the blocking"):
            coroutine.send(None)  # what the loop of another library does
        assert not sink.closed
        assert sink.history("c").items
