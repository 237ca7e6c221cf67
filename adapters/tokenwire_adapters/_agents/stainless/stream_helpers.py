"""Reads the helpers that SDKs put around their streams, and reports what they raise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

__all__ = ["helper_items"]

Failed = Callable[[Any, Exception], None]
"""Called with a helper, and what it raised."""


def helper_items(helper: Any, items: Any, failed: Failed) -> Any:
    """Yield what a helper makes of its stream's chunks; report what it raises to `failed`.

    :param items: the helper's own generator, sync or async.
    """
    return (_items if hasattr(items, "send") else _AsyncItems)(helper, items, failed)


def _items(
    helper: Any, items: Generator[Any, Any, Any], failed: Failed
) -> Generator[Any, None, None]:
    try:
        yield from items
    except Exception as error:
        failed(helper, error)
        raise


class _AsyncItems(AsyncIterator[Any]):
    """The same, asynchronous. No generator: the helper's own is the one that the loop closes."""

    def __init__(self, helper: Any, items: AsyncIterator[Any], failed: Failed) -> None:
        self._helper = helper
        self._items = items
        self._failed = failed

    async def __anext__(self) -> Any:
        try:
            return await anext(self._items)
        except StopAsyncIteration:
            raise
        except Exception as error:
            self._failed(self._helper, error)
            raise
