"""Deletes what a backend stores, and stops before that what is streaming."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from tokenwire._ids import check_name
from tokenwire._runtime import Runtime
from tokenwire._writing.delivery import DELETING
from tokenwire.backend import Deleted, Deletion
from tokenwire.errors import StillStreaming

__all__ = ["delete", "delete_user"]

_PAGE = 100  # responses


async def delete(runtime: Runtime, channel: str, deletion: Deletion, timeout: float) -> Deleted:
    """Delete from a channel; cancel what is streaming, and delete it once it has ended.

    :param timeout: seconds that the producers of what is streaming have to stop.
    :raises InvalidName: when the channel's name cannot be.
    :raises StillStreaming: when one of them did not; what had ended is deleted then, unless the
        whole channel was to be.
    """
    check_name(channel, "channel")
    runtime.producer.check_open()
    await runtime.producer.own_writes(channel)
    deadline = time.monotonic() + timeout
    total = Deleted()
    while True:
        deleted = await runtime.backend.delete(channel, deletion)
        total += Deleted(responses=deleted.responses, events=deleted.events)
        if not deleted.streaming:
            return total
        left = deadline - time.monotonic()
        if left <= 0:
            names = ", ".join(repr(name) for name in deleted.streaming[:3])
            raise StillStreaming(
                f"{len(deleted.streaming)} of channel {channel!r} did not stop within"
                f" {timeout:g} s of being cancelled: {names}"
            )
        await asyncio.gather(
            *(
                runtime.requests.cancel(channel, response_id, DELETING, left)
                for response_id in deleted.streaming
            )
        )


async def delete_user(
    runtime: Runtime, user: str, channels: Iterable[str], key: str, timeout: float
) -> Deleted:
    """Delete a user's responses and inputs from `channels` (see `Sink.delete_user`)."""
    total = Deleted()
    for channel in channels:
        check_name(channel, "channel")
        response_ids = await _responses_of(runtime, channel, user, key)
        deletion = Deletion(response_ids=response_ids, senders=frozenset((user,)))
        total += await delete(runtime, channel, deletion, timeout)
    return total


async def _responses_of(runtime: Runtime, channel: str, user: str, key: str) -> frozenset[str]:
    response_ids: set[str] = set()
    before: str | None = None
    while True:
        page = await runtime.backend.history(channel, limit=_PAGE, before=before)
        response_ids.update(one.id for one in page.items if one.metadata.get(key) == user)
        if page.next is None:
            return frozenset(response_ids)
        before = page.next
