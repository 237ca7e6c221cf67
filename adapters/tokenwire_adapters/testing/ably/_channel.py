"""A channel: its log, its messages with their versions, its members and its attachments.

Spec: RTL4 (attach), RTL15 (channel serials), RTP1 and RTP18 (presence sync). Docs:
messages/updates-deletes, channels/options/rewind, storage-history/history.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from tokenwire_adapters.testing.ably._errors import AblyError, ErrorInfo
from tokenwire_adapters.testing.ably._message import Body, Operation, StoredMessage, Version
from tokenwire_adapters.testing.ably._protocol import MessageAction, PresenceAction, Wire
from tokenwire_adapters.testing.ably._serials import SerialClock, now_ms, position_of
from tokenwire_adapters.testing.ably._settings import Settings

__all__ = ["Channel", "Entry", "Publisher", "Receiver", "check_size"]

_LOG_LIMIT = 100_000  # entries kept for resuming; the documented limit is time alone
_IDS_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Publisher:
    """The connection and client that publish a message."""

    connection_id: str | None
    client_id: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing published on the channel: one channel serial (RTL15b), sent as one frame."""

    serial: str
    timestamp: int
    publisher: Publisher
    items: tuple[tuple[StoredMessage, Version], ...] = ()
    presence: tuple[Wire, ...] = ()
    frame_id: str | None = None


class Receiver(Protocol):
    """What a channel delivers its entries to: an attachment of one client."""

    def deliver(self, entry: Entry) -> None: ...

    def detach(self, error: ErrorInfo) -> None: ...

    def fail(self, error: ErrorInfo) -> None: ...

    def lose_continuity(self, error: ErrorInfo) -> None: ...


def check_size(size: int, settings: Settings) -> None:
    """Check the size of a publish, or of a whole concatenated message, in bytes.

    :raises AblyError: 40009.
    """
    limit = settings.max_message_size
    if size > limit:
        text = f"Maximum message length exceeded (size was {size} bytes, limit is {limit} bytes)"
        raise AblyError(40009, text)


class Channel:
    """One channel of the server."""

    def __init__(self, name: str, settings: Settings, clock: SerialClock) -> None:
        self.name = name
        self.serial = clock.start()  # of the last entry: where an attachment without past starts
        self.messages: dict[str, StoredMessage] = {}  # by serial, which is also their order
        self.members: OrderedDict[tuple[str, str], Wire] = OrderedDict()
        self.presence_history: list[Wire] = []
        self.attachments: set[Receiver] = set()
        self._settings = settings
        self._clock = clock
        self._log: deque[Entry] = deque()
        self.oldest_resumable = ""  # what came before this position is no longer in the log
        self._published_ids: OrderedDict[str, list[str | None]] = OrderedDict()

    # -- publishing ---------------------------------------------------------------------------

    def publish(
        self, operations: list[Operation], publisher: Publisher, frame_id: str | None = None
    ) -> list[str | None]:
        """Apply what one frame or one REST request publishes, and deliver it.

        :returns: per operation the message's serial (PBR2a), or its new version's (UDR2a)
        :raises AblyError: 40400 for an unknown serial, 93002 where updates are not enabled,
            40009 for an append that makes a message too large
        """
        repeated = self._repeat_of(operations)
        if repeated is not None:
            return repeated
        for operation in operations:
            self.check(operation)
        serial, timestamp = self._clock.next(), now_ms()
        items: list[tuple[StoredMessage, Version]] = []
        results: list[str | None] = []
        for index, operation in enumerate(operations):
            if operation.id is None and frame_id is not None:
                operation.id = f"{frame_id}:{index}"  # TM2a
            item_serial = f"{serial}:{index:03d}"
            if operation.action is MessageAction.CREATE:
                message = self._create(operation, item_serial, timestamp, publisher)
            else:
                message = self.messages[operation.serial or ""]
                # Docs, "Operation metadata": filled in for an identified client.
                operation.version_client_id = operation.version_client_id or publisher.client_id
                message.next_version(
                    operation,
                    item_serial,
                    timestamp,
                    keep_extras=self._settings.append_keeps_extras,
                )
            items.append((message, message.latest))
            results.append(item_serial)
        for operation in operations:
            if operation.id is not None and operation.action is MessageAction.CREATE:
                self._published_ids[operation.id] = list(results)
                while len(self._published_ids) > _IDS_LIMIT:
                    self._published_ids.popitem(last=False)
                break
        self._add(Entry(serial, timestamp, publisher, items=tuple(items), frame_id=frame_id))
        return results

    def check(self, operation: Operation, waiting: int = 0) -> None:
        """Check that an operation can be applied; ``waiting`` bytes are about to be appended.

        :raises AblyError: as :meth:`publish`
        """
        if operation.action is MessageAction.CREATE:
            return
        if not self._settings.is_mutable(self.name):
            raise AblyError(
                93002,
                "message updates are only supported on channels with 'message annotations, "
                "updates, deletes and appends' enabled in the channel's namespace settings",
            )
        message = self.messages.get(operation.serial or "")
        if message is None:
            raise AblyError(40400, f"no message has the serial {operation.serial}")
        if operation.action is MessageAction.APPEND:
            # The limit holds for the whole concatenated message (docs: message-per-response).
            check_size(message.size_with(operation) + waiting, self._settings)

    def _create(
        self, operation: Operation, serial: str, timestamp: int, publisher: Publisher
    ) -> StoredMessage:
        body = Body(operation.data)
        version = Version(
            action=MessageAction.CREATE,
            serial=serial,
            timestamp=timestamp,
            name=operation.name,
            extras=operation.extras,
            encoding=operation.encoding,
            body=body,
            chunks=len(body.chunks),
            client_id=operation.client_id or publisher.client_id,
            op_id=operation.id,
        )
        message = StoredMessage(
            serial=serial,
            timestamp=timestamp,
            client_id=operation.client_id or publisher.client_id,
            connection_id=publisher.connection_id,
            latest=version,
            versions=[version],
        )
        self.messages[serial] = message
        return message

    def _repeat_of(self, operations: list[Operation]) -> list[str | None] | None:
        # A client-specified id is an idempotency key (RSL1k, RSL1k5; docs: pub-sub/advanced).
        ids = [op.id for op in operations if op.action is MessageAction.CREATE]
        if len(operations) > 1 and any(ids):
            bases = {i.rpartition(":")[0] if i else "" for i in ids}
            if len(bases) != 1 or "" in bases:
                raise AblyError(
                    40031,
                    "Client-specified message ids do not match the required format for "
                    "multi-message ProtocolMessages",
                )
        for known in ids:
            if known is not None and known in self._published_ids:
                return list(self._published_ids[known])
        return None

    # -- the log ------------------------------------------------------------------------------

    def _add(self, entry: Entry) -> None:
        self.serial = entry.serial
        self._log.append(entry)
        oldest = entry.timestamp - self._settings.connection_state_ttl * 1000
        while self._log and (self._log[0].timestamp < oldest or len(self._log) > _LOG_LIMIT):
            self.oldest_resumable = self._log.popleft().serial
        for attachment in list(self.attachments):
            attachment.deliver(entry)

    def forget_log(self) -> None:
        """Make every position before now impossible to resume."""
        self._log.clear()
        self.serial = self.oldest_resumable = self._clock.next()

    def after(self, serial: str) -> tuple[bool, list[Entry]]:
        """Return the entries after a position, and whether they are complete.

        Where the position is no longer in the log, they begin at the earliest entry that is (docs:
        errors, 90003 "the earliest point still available").
        """
        complete = self.oldest_resumable <= serial <= self.serial
        return complete, [entry for entry in self._log if entry.serial > serial]

    def history(
        self, *, start: int | None = None, end: int | None = None, until: str | None = None
    ) -> Iterator[StoredMessage]:
        """Yield messages newest first, in the order of their creation.

        ``until`` is a channel serial: only messages created up to it (RTL10b, RTL15c). Their
        data is the latest all the same (docs: storage-history, updates-deletes).
        """
        oldest = 0
        if not self._settings.is_persisted(self.name):
            oldest = now_ms() - int(self._settings.connection_state_ttl * 1000)
        for message in reversed(self.messages.values()):
            if until is not None and position_of(message.serial) > until:
                continue
            if end is not None and message.timestamp > end:
                continue
            if message.timestamp < max(oldest, start or 0):
                return
            yield message

    # -- presence -----------------------------------------------------------------------------

    def change_presence(self, changes: Iterable[Wire], publisher: Publisher) -> None:
        """Enter, update and leave members (RTP8 to RTP10), and notify every attachment."""
        timestamp = now_ms()
        applied: list[Wire] = []
        for change in changes:
            member = (change["connectionId"], change["clientId"])
            wire = {**change, "timestamp": timestamp}
            if change["action"] == PresenceAction.LEAVE:
                if self.members.pop(member, None) is None:
                    continue
            else:
                self.members[member] = {**wire, "action": int(PresenceAction.PRESENT)}
            applied.append(wire)
        if applied:
            self.presence_history.extend(applied)
            self._add(Entry(self._clock.next(), timestamp, publisher, presence=tuple(applied)))

    def drop_members(self, connection_id: str) -> None:
        """Make every member of a connection leave.

        Such a leave is synthesized: its id does not begin with the connection's id, so clients
        order it by its time and not by a serial of the connection (RTP2b1).
        """
        members = [wire for (owner, _), wire in self.members.items() if owner == connection_id]
        leaves = [
            {**member, "action": int(PresenceAction.LEAVE), "id": f"server:{member['id']}"}
            for member in members
        ]
        self.change_presence(leaves, Publisher(None, None))
