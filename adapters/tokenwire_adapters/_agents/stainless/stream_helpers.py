"""Reads the helpers that SDKs put around their streams, and reports what they raise."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

__all__ = ["helper_items"]

Failed = Callable[[Any, Exception], None]
"""Called with a helper, and what it raised."""


def helper_items(helper: Any, items: Any, failed: Failed) -> Any:
    """Yield what a helper makes of its stream's chunks; report what it raises to `failed`.

    :param items: the helper's own generator, sync or async.
    """
    return (_items if hasattr(items, "send") else _aitems)(helper, items, failed)


def _items(
    helper: Any, items: Generator[Any, Any, Any], failed: Failed
) -> Generator[Any, None, None]:
    try:
        yield from items
    except Exception as error:
        failed(helper, error)
        raise


async def _aitems(
    helper: Any, items: AsyncGenerator[Any, Any], failed: Failed
) -> AsyncGenerator[Any, None]:
    try:
        async for item in items:
            yield item
    except Exception as error:
        failed(helper, error)
        raise
    finally:
        await items.aclose()
