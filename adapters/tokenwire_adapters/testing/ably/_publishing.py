"""Publishing by a client: checks, limits, rollup, answers.

Spec: RTL6 (publish), RTL6g (client ids), RSL1i (size), RTN7 (ACK). Docs: auth/capabilities,
messages/updates-deletes ("Capabilities"), errors 40160, 40165, 40166.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tokenwire_adapters.testing._json import as_list
from tokenwire_adapters.testing.ably._acks import Acks, Outcome
from tokenwire_adapters.testing.ably._application import Application, channel_of
from tokenwire_adapters.testing.ably._attachment import Attachment
from tokenwire_adapters.testing.ably._auth import Principal
from tokenwire_adapters.testing.ably._channel import Channel, check_size
from tokenwire_adapters.testing.ably._errors import AblyError, ErrorInfo
from tokenwire_adapters.testing.ably._faults import ActiveFaults
from tokenwire_adapters.testing.ably._message import Operation
from tokenwire_adapters.testing.ably._protocol import (
    Flag,
    MessageAction,
    PresenceAction,
    Wire,
    data_from_wire,
)
from tokenwire_adapters.testing.ably._settings import Settings
from tokenwire_adapters.testing.ably._state import ConnectionState

__all__ = ["Publishing", "check_operations"]


def check_operations(
    operations: list[Operation], principal: Principal, channel: Channel, settings: Settings
) -> None:
    """Check the rights and the size of operations, from REST or realtime.

    :raises AblyError: 40009, 40012, 40160 or 40166
    """
    if not operations:
        raise AblyError(40030, "nothing to publish")
    for operation in operations:
        _check_client_id(operation, principal)
        _check_capability(operation, principal, channel)
    check_size(sum(operation.size() for operation in operations), settings)


def _check_client_id(operation: Operation, principal: Principal) -> None:
    for client_id in (operation.client_id, operation.version_client_id):
        if client_id is None:
            continue
        if client_id == "*" or not principal.may_be(client_id):
            raise AblyError(40012, f"invalid clientId: {client_id!r}")  # RSL1m4, RTL6g4


def _check_capability(operation: Operation, principal: Principal, channel: Channel) -> None:
    if operation.action is MessageAction.CREATE:
        principal.require("publish", channel.name)
        return
    verb = "delete" if operation.action is MessageAction.DELETE else "update"
    if principal.allows(f"message-{verb}-any", channel.name):
        return
    principal.require(f"message-{verb}-own", channel.name)
    if principal.client_id in {None, "*"}:
        raise AblyError(
            40166,
            f"Unable to {verb} message: anonymous clients require the 'message-{verb}-any' "
            f"capability (they cannot have own messages, so 'message-{verb}-own' does not apply)",
        )
    message = channel.messages.get(operation.serial or "")
    if message is not None and message.client_id != principal.client_id:
        raise AblyError(40160, f"message-{verb}-any is needed for a message of another client")


class Publishing:
    """The publishing side of one session."""

    def __init__(
        self,
        application: Application,
        faults: ActiveFaults,
        state: ConnectionState,
        acks: Acks,
        attachments: Mapping[str, Attachment],
        disconnect: Callable[[ErrorInfo], None],
    ) -> None:
        self._application = application
        self._faults = faults
        self._state = state
        self._acks = acks
        self._attachments = attachments
        self._disconnect = disconnect

    def on_message(self, frame: Wire) -> None:
        """Handle MESSAGE: publish, or roll up, and answer."""
        outcome = self._begin(frame)
        if outcome is None:
            return
        name = str(frame.get("channel") or "")
        try:
            self._faults.before_publish()
            operations = [Operation.from_wire(wire) for wire in as_list(frame.get("messages"))]
            self._application.stats["messages_in"] += len(operations)
            self._check_mode(name, Flag.PUBLISH, "publish a message")
            channel = channel_of(self._application, name)
            state = self._state
            check_operations(operations, state.principal, channel, self._application.settings)
            rollup = state.rollup
            for operation in operations:
                waiting = rollup.waiting(name, operation.serial or "")
                channel.check(operation, waiting)
            if len(operations) == 1 and operations[0].action is MessageAction.APPEND:
                rollup.append(name, operations[0], outcome)
                return
            for operation in operations:
                rollup.flush(name, operation.serial or "")
            state.rate.spend(len(operations))
            self._application.stats["published"] += len(operations)
            frame_id = f"{state.id}:{outcome.msg_serial}"
            outcome.succeed(channel.publish(operations, state.publisher, frame_id))
        except AblyError as error:
            outcome.fail(error.info)
        finally:
            if outcome.error is not None and outcome.error.code == 42921:
                self._disconnect(outcome.error)

    def on_presence(self, frame: Wire) -> None:
        """Handle PRESENCE: enter, update or leave (RTP8, RTP9, RTP10, RTP14)."""
        outcome = self._begin(frame)
        if outcome is None:
            return
        name = str(frame.get("channel") or "")
        state = self._state
        try:
            self._faults.before_publish()
            state.principal.require("presence", name)
            self._check_mode(name, Flag.PRESENCE, "enter, update or leave presence")
            if name not in self._attachments:
                raise AblyError(90001, f"Unable to perform operation on channel: {name}")
            changes = [
                self._member(wire, f"{state.id}:{outcome.msg_serial}:{index}")
                for index, wire in enumerate(as_list(frame.get("presence")))
            ]
            state.rate.spend(len(changes))
            channel_of(self._application, name).change_presence(changes, state.publisher)
            outcome.succeed([])
        except AblyError as error:
            outcome.fail(error.info)

    def on_unsupported(self, frame: Wire) -> None:
        """Refuse annotations and objects, which this server leaves out."""
        outcome = self._begin(frame)
        if outcome is not None:
            outcome.fail(ErrorInfo(40000, "this test server has no annotations and no objects"))

    def _begin(self, frame: Wire) -> Outcome | None:
        """Return the outcome to settle, or None for a repeated frame (RTN19a)."""
        outcomes, acks = self._state.outcomes, self._acks
        msg_serial = int(frame.get("msgSerial") or 0)
        known = outcomes.get(msg_serial)
        if known is not None and self._application.settings.ignore_repeated_serials:
            self._application.stats["repeats_ignored"] += 1
            acks.expect(known)
            return None
        outcome = outcomes.new(msg_serial)
        acks.expect(outcome)
        return outcome

    def _check_mode(self, name: str, mode: Flag, doing: str) -> None:
        attachment = self._attachments.get(name)
        state = self._state
        capability = "publish" if mode is Flag.PUBLISH else "presence"
        if attachment is None or mode in attachment.modes:
            return
        if state.principal.allows(capability, name):
            raise AblyError(
                40165,
                f"Unable to {doing} as client did not request the {mode.name} mode when attaching",
            )

    def _member(self, wire: Wire, own_id: str) -> Wire:
        state = self._state
        client_id = wire.get("clientId") or state.publisher.client_id
        if not client_id:
            raise AblyError(91000, "cannot enter presence without a clientId")
        if not state.principal.may_be(client_id):
            raise AblyError(40012, f"invalid clientId: {client_id!r}")
        action: Any = wire.get("action")
        if action not in {PresenceAction.ENTER, PresenceAction.UPDATE, PresenceAction.LEAVE}:
            raise AblyError(40000, "unknown presence action")
        data, encoding = data_from_wire(wire)
        return {
            "id": own_id,
            "action": int(action),
            "clientId": client_id,
            "connectionId": state.id,
            "data": data,
            "encoding": encoding,
        }
