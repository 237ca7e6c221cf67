"""Messages and their versions: create, update, delete, append.

Docs: messages/updates-deletes ("Mixin semantics", "Append to a message", "Message version
structure") and ai-transport/token-streaming/message-per-response. Spec: TM2, TM5, TM6.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from tokenwire_adapters.testing._json import as_object
from tokenwire_adapters.testing.ably._errors import AblyError
from tokenwire_adapters.testing.ably._protocol import (
    Data,
    MessageAction,
    Wire,
    data_from_wire,
    data_to_wire,
)

__all__ = ["Body", "Operation", "StoredMessage", "Version"]


class Body:
    """Data to which appends add, so that a version is a count of chunks and not a copy."""

    __slots__ = ("chunks", "size")

    def __init__(self, first: Data) -> None:
        self.chunks: list[str | bytes] = [] if first is None else [first]
        self.size = _bytes_in(first)

    def add(self, chunk: Data) -> None:
        """Add the data of one append."""
        if chunk is not None:
            self.chunks.append(chunk)
            self.size += _bytes_in(chunk)

    def upto(self, count: int) -> Data:
        """Return the first ``count`` chunks, joined."""
        if count == 0:
            return None
        chunks = self.chunks[:count]
        if isinstance(chunks[0], bytes):
            return b"".join(c for c in chunks if isinstance(c, bytes))
        return "".join(c for c in chunks if isinstance(c, str))


@dataclass(slots=True)
class Operation:
    """One message as a client sent it, validated."""

    action: MessageAction
    data: Data
    encoding: str | None
    name: str | None = None
    client_id: str | None = None
    extras: Any = None
    serial: str | None = None
    id: str | None = None
    description: str | None = None
    metadata: Any = None
    version_client_id: str | None = None

    @classmethod
    def from_wire(cls, value: Any) -> Operation:
        """Read a message of a MESSAGE frame or of a REST body.

        :raises AblyError: 40000, 40003 or 40013 if it is not one.
        """
        if not isinstance(value, dict):
            raise AblyError(40000, "a message must be an object")
        wire = as_object(value)
        try:
            action = MessageAction(wire.get("action") or 0)
        except ValueError as error:
            raise AblyError(40000, "unknown message action") from error
        if action in {MessageAction.META, MessageAction.SUMMARY}:
            raise AblyError(40000, f"clients cannot publish {action.name}")
        serial = wire.get("serial")
        if action is not MessageAction.CREATE and not isinstance(serial, str):
            raise AblyError(40003, "an update, delete or append needs the message's serial")
        data, encoding = data_from_wire(wire)
        version = as_object(wire.get("version"))
        return cls(
            action=action,
            data=data,
            encoding=encoding,
            name=wire.get("name"),
            client_id=wire.get("clientId"),
            extras=wire.get("extras"),
            serial=serial,
            id=wire.get("id"),
            description=version.get("description"),
            metadata=version.get("metadata"),
            version_client_id=version.get("clientId"),
        )

    def size(self) -> int:
        """Return the size that counts against the limit (TM6), in bytes of UTF-8."""
        extras = 0 if self.extras is None else len(json.dumps(self.extras, ensure_ascii=False))
        return _bytes_in(self.name) + _bytes_in(self.data) + _bytes_in(self.client_id) + extras

    def merged_with(self, later: Operation) -> Operation:
        """Return one append for two (docs: updates-deletes, "Append conflation")."""
        data = _joined(self.data, later.data)
        return replace(later, data=data, name=later.name or self.name)

    def can_merge(self, later: Operation) -> bool:
        """Whether two appends carry the same type of data."""
        same = type(self.data) is type(later.data) or None in (self.data, later.data)
        return same and self.encoding == later.encoding


@dataclass(frozen=True, slots=True)
class Version:
    """A message at one of its versions. ``delta`` is the data of an append."""

    action: MessageAction
    serial: str
    timestamp: int
    name: str | None
    extras: Any
    encoding: str | None
    body: Body
    chunks: int
    delta: Data = None
    client_id: str | None = None
    description: str | None = None
    metadata: Any = None
    op_id: str | None = None

    @property
    def data(self) -> Data:
        """The whole data at this version."""
        return self.body.upto(self.chunks)


@dataclass(slots=True)
class StoredMessage:
    """A message with its versions. Appends replace ``latest`` but are not kept as versions."""

    serial: str
    timestamp: int
    client_id: str | None
    connection_id: str | None
    latest: Version
    versions: list[Version] = field(default_factory=list[Version])

    def size_with(self, operation: Operation) -> int:
        """Return the size that the whole message would have after an append."""
        latest = self.latest
        extras = operation.extras if operation.extras is not None else latest.extras
        whole = replace(operation, data=None, extras=extras, name=operation.name or latest.name)
        return whole.size() + latest.body.size + _bytes_in(operation.data)

    def next_version(
        self, operation: Operation, serial: str, timestamp: int, *, keep_extras: bool
    ) -> Version:
        """Apply an update, a delete or an append, and return the version that results.

        :raises AblyError: 40013 if an append brings data of another type than the message's
        """
        old = self.latest
        append = operation.action is MessageAction.APPEND
        if append:
            if old.body.chunks and operation.data is not None:
                same = type(old.body.chunks[0]) is type(operation.data)
                if not same or old.encoding != operation.encoding:
                    raise AblyError(40013, "an append must have the message's type of data")
            body, encoding = old.body, old.encoding if old.body.chunks else operation.encoding
            body.add(operation.data)
        elif operation.data is None:
            body, encoding = old.body, old.encoding
        else:
            body, encoding = Body(operation.data), operation.encoding
        extras = operation.extras
        if extras is None and (keep_extras or not append):
            extras = old.extras
        version = Version(
            action=operation.action,
            serial=serial,
            timestamp=timestamp,
            name=operation.name if operation.name is not None else old.name,
            extras=extras,
            encoding=encoding,
            body=body,
            # An update without data keeps the text of its time, without later appends.
            chunks=len(body.chunks) if append or body is not old.body else old.chunks,
            delta=operation.data if append else None,
            client_id=operation.version_client_id or operation.client_id,
            description=operation.description,
            metadata=operation.metadata,
            op_id=operation.id,
        )
        self.latest = version
        if not append:
            self.versions.append(version)
        return version

    def wire(self, version: Version, binary: bool, *, full: bool = True) -> Wire:
        """Return a version as clients get it.

        ``full``: an append becomes ``message.update`` with all the data so far, as in history,
        rewind, the first append of an attachment and ``appendMode=full``. Otherwise it is
        ``message.append`` with what it added.
        """
        incremental = version.action is MessageAction.APPEND and not full
        action = version.action
        if action is MessageAction.APPEND and full:
            action = MessageAction.UPDATE
        version_wire: Wire = {"serial": version.serial, "timestamp": version.timestamp}
        for key, value in (
            ("clientId", version.client_id),
            ("description", version.description),
            ("metadata", version.metadata),
        ):
            if value is not None:
                version_wire[key] = value
        wire: Wire = {
            "id": version.op_id,
            "name": version.name,
            "clientId": self.client_id,
            "connectionId": self.connection_id,
            "timestamp": self.timestamp,
            "extras": version.extras,
            "serial": self.serial,
            "action": int(action),
            "version": version_wire,
            **data_to_wire(
                version.delta if incremental else version.data, version.encoding, binary
            ),
        }
        return {key: value for key, value in wire.items() if value is not None}


def _joined(first: Data, second: Data) -> Data:
    if isinstance(first, str) and isinstance(second, str):
        return first + second
    if isinstance(first, bytes) and isinstance(second, bytes):
        return first + second
    return first if second is None else second


def _bytes_in(value: Data) -> int:
    if value is None:
        return 0
    return len(value) if isinstance(value, bytes) else len(value.encode())
