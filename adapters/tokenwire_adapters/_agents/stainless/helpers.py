"""The helpers that SDKs put around their streams, and the managers that give them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any

__all__ = ["MappedAwaitable", "aread", "own_stream", "read"]

Failed = Callable[[Any, Exception], None]
"""Told of a helper, and of what it raised."""


def read(
    helper: Any, inner: Generator[Any, Any, Any], failed: Failed
) -> Generator[Any, None, None]:
    """Yield what a helper makes of its stream's chunks; tell of what it raises."""
    try:
        yield from inner
    except Exception as error:
        failed(helper, error)
        raise


async def aread(
    helper: Any, inner: AsyncGenerator[Any, Any], failed: Failed
) -> AsyncGenerator[Any, None]:
    """Do what `read` does, in a coroutine."""
    try:
        async for item in inner:
            yield item
    except Exception as error:
        failed(helper, error)
        raise
    finally:
        await inner.aclose()


def own_stream(stream: Any) -> Any:
    """The SDK's stream under the helper that ``.stream()`` gives; other things as they are."""
    return getattr(stream, "_raw_stream", stream)


class MappedAwaitable:
    """What an async manager awaits in the place of its own request."""

    def __init__(self, request: Awaitable[Any], heard: Callable[[Any], Any]) -> None:
        self._request = request
        self._heard = heard

    def __await__(self) -> Generator[Any, Any, Any]:
        stream = yield from self._request.__await__()
        return self._heard(stream)

    def close(self) -> None:
        """Do what is done to a coroutine that is not awaited after all."""
        close = getattr(self._request, "close", None)
        if close is not None:
            close()
