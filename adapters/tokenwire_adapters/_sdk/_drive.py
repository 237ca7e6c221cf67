"""The generators that stand where an SDK's own stood: same items, same errors, same close."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any

from tokenwire import ResponseCancelled
from tokenwire_adapters._sdk._seen import TABLE
from tokenwire_adapters._sdk._tap import Tap

__all__ = ["adrive", "drive"]

Find = Callable[[Any], Tap | None]
"""Finds the tap of a stream: before the first item with None, then by that item; None: leave it."""


def drive(inner: Iterator[Any], find: Find) -> Generator[Any, None, None]:
    """Yield what `inner` yields, and show it to the tap."""
    tap = find(None)
    try:
        for item in inner:
            if tap is None:
                tap = find(item)
                if tap is None:
                    yield item
                    yield from inner
                    return
            if tap.stopped:
                break
            try:
                tap.feed(item)
                if TABLE.wanted:
                    tap.note(item)
            except Exception as error:
                tap.broken(error)
                yield item
                yield from inner
                return
            yield item
            if tap.stopped:
                break
        if tap is None:
            return
        if not tap.stopped:
            tap.exhausted()
            return
    except GeneratorExit:
        if tap is not None:
            tap.dropped()
        raise
    except Exception as error:
        if tap is None or not tap.stopped:
            if tap is not None:
                tap.failed(error)
            raise
    except BaseException:
        if tap is not None:
            tap.closed()
        raise
    finally:
        close = getattr(inner, "close", None)
        if close is not None:
            close()
    _after_cancel(tap)


async def adrive(inner: AsyncIterator[Any], find: Find) -> AsyncGenerator[Any, None]:
    """Do what `drive` does, in a coroutine."""
    tap = find(None)
    try:
        async for item in inner:
            if tap is None:
                tap = find(item)
                if tap is None:
                    yield item
                    async for other in inner:
                        yield other
                    return
            if tap.stopped:
                break
            try:
                tap.feed(item)
                if TABLE.wanted:
                    tap.note(item)
            except Exception as error:
                tap.broken(error)
                yield item
                async for other in inner:
                    yield other
                return
            yield item
            if tap.stopped:
                break
        if tap is None:
            return
        if not tap.stopped:
            tap.exhausted()
            return
    except GeneratorExit:
        if tap is not None:
            tap.dropped()
        raise
    except Exception as error:
        if tap is None or not tap.stopped:
            if tap is not None:
                tap.failed(error)
            raise
    except BaseException:
        if tap is not None:
            tap.closed()
        raise
    finally:
        close = getattr(inner, "aclose", None)
        if close is not None:
            await close()
    _after_cancel(tap)


def _after_cancel(tap: Tap | None) -> None:
    """End the consumer's loop the way it was asked for."""
    if tap is not None and tap.raises:
        raise ResponseCancelled(*tap.cancelled_id)
