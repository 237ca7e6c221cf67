"""Administration of the in-memory store: deletion, the list of channels, retention of a channel."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from tokenwire._clock import now_ms
from tokenwire._memory.channel import Channel, LogEntry
from tokenwire._memory.log import MemoryLog
from tokenwire.backend import ChannelInfo, ChannelPage, Deleted, Deletion, Retention
from tokenwire.errors import InvalidCursor
from tokenwire.events import InputEvent

__all__ = ["MemoryAdministration"]

_NAME_MARK = "after:"


class MemoryAdministration(MemoryLog):
    """What an operator asks of a `MemoryStore`."""

    def delete(self, name: str, deletion: Deletion) -> Deleted:
        """See `Backend.delete`."""
        with self._lock:
            channel = self._channels.get(name)
            if channel is not None:
                self._reap(channel)
            if deletion.everything:
                return self._delete_channel(name, channel)
            return self._delete_some(channel, deletion) if channel else Deleted()

    def _delete_channel(self, name: str, channel: Channel | None) -> Deleted:
        if channel is not None and channel.streaming:
            return Deleted(streaming=tuple(channel.streaming))
        self._retentions.pop(name, None)
        if channel is None:
            return Deleted()
        deleted = Deleted(responses=len(channel.responses), events=len(channel.singles))
        self._last_number = max(self._last_number, channel.head)
        del self._channels[name]
        if channel.listeners or channel.controls:
            # Numbers go on from here, so that live subscriptions see no gap.
            successor = Channel(name, self.epoch, channel.head)
            successor.listeners, successor.controls = channel.listeners, channel.controls
            self._channels[name] = successor
        return deleted

    def _delete_some(self, channel: Channel, deletion: Deletion) -> Deleted:
        streaming = deletion.response_ids & channel.streaming.keys()
        response_ids = deletion.response_ids - streaming
        responses = response_ids & channel.responses.keys()
        for response_id in responses:
            del channel.responses[response_id]
            channel.ended_size -= channel.ended.pop(response_id)
        for response_id in response_ids:
            channel.cancels.pop(response_id, None)
        kept: deque[LogEntry] = deque()
        cursors: set[str | None] = set()
        for item in channel.singles:
            if _concerns(item, response_ids, deletion.senders):
                cursors.add(item.event.cursor)
            else:
                kept.append(item)
        channel.singles = kept
        # Their ids are forgotten, so that they can be sent, or imported, again.
        for key in [key for key, outcome in channel.keys.items() if outcome.cursor in cursors]:
            del channel.keys[key]
        events = len(cursors)
        if responses or events:
            channel.tail.clear()  # older cursors are answered with snapshots of what is left
            channel.tail_size = 0
        return Deleted(responses=len(responses), events=events, streaming=tuple(sorted(streaming)))

    def list_channels(self, prefix: str, limit: int, after: str | None) -> ChannelPage:
        """See `Backend.list_channels`."""
        if after is not None and not after.startswith(_NAME_MARK):
            raise InvalidCursor(f"not a page token: {after[:64]!a}")
        last = "" if after is None else after.removeprefix(_NAME_MARK)
        with self._lock:
            names = sorted(
                name
                for name, channel in self._channels.items()
                if name > last and name.startswith(prefix) and not _is_empty(channel)
            )
            page = names[:limit]
            more = _NAME_MARK + page[-1] if len(names) > limit else None
            return ChannelPage(items=tuple(self._info(name) for name in page), next=more)

    def _info(self, name: str) -> ChannelInfo:
        channel = self._channels[name]
        return ChannelInfo(
            name=name,
            responses=len(channel.responses),
            streaming=len(channel.streaming),
            active_at=now_ms() - int((self.clock() - channel.touched) * 1000),
        )

    def retention_of(self, name: str) -> Retention:
        """See `Backend.retention`."""
        return self._retentions.get(name, self.retention)

    def set_retention(self, name: str, retention: Retention | None) -> None:
        """See `Backend.set_retention`."""
        with self._lock:
            if retention is None:
                self._retentions.pop(name, None)
            else:
                self._retentions[name] = retention


def _is_empty(channel: Channel) -> bool:
    return not (channel.responses or channel.singles or channel.tail)


def _concerns(item: LogEntry, response_ids: Collection[str], senders: Collection[str]) -> bool:
    event = item.event
    if isinstance(event, InputEvent):
        return event.sender in senders
    return event.response_id in response_ids
