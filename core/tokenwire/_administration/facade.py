"""The methods of a sink for whoever runs it."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable

from tokenwire._administration.deletion import delete, delete_user
from tokenwire._administration.exporting import Export
from tokenwire._administration.importing import Import, ImportReport
from tokenwire._administration.listing import Channels, all_channels
from tokenwire._ids import check_name
from tokenwire._runtime import Runtime
from tokenwire.backend import Backend, Deleted, Deletion, Retention

__all__ = ["SinkAdministration"]


class SinkAdministration:
    """The part of `Sink` that deletes, lists, keeps, exports and imports."""

    backend: Backend
    _runtime: Runtime

    # -- administration

    def delete_response(self, channel: str, response_id: str, *, timeout: float = 10.0) -> bool:
        """Delete a response, with all events that name it, for good. Blocks.

        One that is streaming is cancelled first. Watchers that have it on their screens keep it
        until they read again; no replay and no history has it from here on.

        :param timeout: how long to wait for its producer to stop, in seconds.
        :return: whether there was one.
        :raises StillStreaming: when its producer did not stop in time.
        :raises NotSupported: when the backend cannot delete.
        :raises InvalidName, BackendUnavailable: for names that cannot be; when it is not done.
        """
        return self._runtime.io.run(self._delete_response(channel, response_id, timeout))

    async def adelete_response(
        self, channel: str, response_id: str, *, timeout: float = 10.0
    ) -> bool:
        """Do what `delete_response` does, without blocking the loop."""
        return await self._runtime.io.arun(self._delete_response(channel, response_id, timeout))

    async def _delete_response(self, channel: str, response_id: str, timeout: float) -> bool:
        deletion = Deletion(response_ids=frozenset((check_name(response_id, "response id"),)))
        return (await delete(self._runtime, channel, deletion, timeout)).responses > 0

    def delete_channel(self, channel: str, *, timeout: float = 10.0) -> Deleted:
        """Delete a channel, with its retention, for good. Blocks.

        What is streaming is cancelled first. Whoever watches goes on, and sees what comes next.

        :param timeout: how long to wait for producers to stop, in seconds.
        :return: how many responses and events there were.
        :raises StillStreaming, NotSupported, InvalidName, BackendUnavailable: as
            `delete_response` does.
        """
        everything = Deletion(everything=True)
        return self._runtime.io.run(delete(self._runtime, channel, everything, timeout))

    async def adelete_channel(self, channel: str, *, timeout: float = 10.0) -> Deleted:
        """Do what `delete_channel` does, without blocking the loop."""
        everything = Deletion(everything=True)
        return await self._runtime.io.arun(delete(self._runtime, channel, everything, timeout))

    def delete_user(
        self,
        user: str,
        *,
        channels: Iterable[str] | None = None,
        key: str = "user",
        timeout: float = 10.0,
    ) -> Deleted:
        """Delete what belongs to a user, for good. Blocks, for as long as it reads the channels.

        That is: responses whose metadata has the user under `key`, with all events that name
        them, and the inputs whose `sender` the user is.

        :param channels: where to look; by default in all channels.
        :param timeout: how long to wait, in each channel, for producers to stop, in seconds.
        :return: how many responses and events there were.
        :raises NotSupported: when the backend cannot delete, or cannot list its channels and
            `channels` is not given.
        :raises StillStreaming, InvalidName, BackendUnavailable: as `delete_response` does.
        """
        return self._runtime.io.run(self._delete_user(user, channels, key, timeout))

    async def adelete_user(
        self,
        user: str,
        *,
        channels: Iterable[str] | None = None,
        key: str = "user",
        timeout: float = 10.0,
    ) -> Deleted:
        """Do what `delete_user` does, without blocking the loop."""
        return await self._runtime.io.arun(self._delete_user(user, channels, key, timeout))

    async def _delete_user(
        self, user: str, channels: Iterable[str] | None, key: str, timeout: float
    ) -> Deleted:
        if channels is None:
            channels = await all_channels(self._runtime)
        return await delete_user(self._runtime, user, channels, key, timeout)

    def list_channels(self, prefix: str = "") -> Channels:
        """Read which channels there are, with ``async for`` or ``for``, in no order.

        :param prefix: only channels whose names begin with it.
        :return: an iterator over `ChannelInfo`. Iterating raises `NotSupported` where the backend
            cannot list its channels, and `BackendUnavailable`.
        """
        self._runtime.producer.check_open()
        return Channels(self._runtime, prefix)

    def retention(self, channel: str) -> Retention:
        """Read how much is kept of a channel. Blocks.

        :raises NotSupported: when the backend has no retention for each channel.
        :raises InvalidName, BackendUnavailable: for names that cannot be; when it cannot be read.
        """
        check_name(channel, "channel")
        return self._runtime.io.run(self.backend.retention(channel))

    async def aretention(self, channel: str) -> Retention:
        """Do what `retention` does, without blocking the loop."""
        check_name(channel, "channel")
        return await self._runtime.io.arun(self.backend.retention(channel))

    def set_retention(self, channel: str, retention: Retention | None) -> None:
        """Say how much is kept of a channel, for all who use it. Blocks.

        It holds from the next publish on, and until the channel is deleted.

        :param retention: None: as the backend's settings say, again.
        :raises NotSupported, InvalidName, BackendUnavailable: as `retention` does.
        """
        check_name(channel, "channel")
        self._runtime.io.run(self.backend.set_retention(channel, retention))

    async def aset_retention(self, channel: str, retention: Retention | None) -> None:
        """Do what `set_retention` does, without blocking the loop."""
        check_name(channel, "channel")
        await self._runtime.io.arun(self.backend.set_retention(channel, retention))

    def export_channels(self, channels: Iterable[str] | None = None) -> Export:
        """Read channels as JSON lines, with ``async for`` or ``for``.

        Each line is bytes with its line feed. `import_channels` reads them, on any backend.

        :param channels: which; by default all (iterating raises `NotSupported` where the backend
            cannot list them).
        :raises InvalidName: for names that cannot be.
        """
        self._runtime.producer.check_open()
        if channels is None:
            return Export(self._runtime, None)
        return Export(self._runtime, [check_name(name, "channel") for name in channels])

    def import_channels(self, lines: Iterable[bytes | str]) -> ImportReport:
        """Add the responses and events of an export to their channels. Blocks.

        Responses that are there already are left alone, so that an import may be repeated. What
        was streaming when it was exported is abandoned. Ages count from the import.

        :param lines: those of `export_channels`; a file opened in binary mode, say.
        :return: what became of them.
        :raises DecodeError: when they are no export, or one of a later version's format. What came
            before the line in question is imported.
        :raises BackendUnavailable: when the backend stays away; likewise.
        """
        importing = Import(self._runtime)
        try:
            for line in lines:
                if importing.add(line):
                    self._runtime.io.run(importing.publish())
        finally:
            self._runtime.io.run(importing.publish())
        return importing.report

    async def aimport_channels(
        self, lines: Iterable[bytes | str] | AsyncIterable[bytes | str]
    ) -> ImportReport:
        """Do what `import_channels` does, without blocking the loop.

        :param lines: also an asynchronous iterable.
        """
        importing = Import(self._runtime)
        try:
            if isinstance(lines, AsyncIterable):
                async for line in lines:
                    if importing.add(line):
                        await self._runtime.io.arun(importing.publish())
            else:
                for line in lines:
                    if importing.add(line):
                        await self._runtime.io.arun(importing.publish())
        finally:
            await self._runtime.io.arun(importing.publish())
        return importing.report
