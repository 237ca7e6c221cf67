"""One attachment: a channel as one connection sees it.

It turns entries of the log into MESSAGE and PRESENCE frames: echoes left out (RTL7f), appends as
increments or as full updates, rewind and resume first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass, field

from tokenwire_adapters.testing.ably._channel import Channel, Entry
from tokenwire_adapters.testing.ably._errors import AblyError, ErrorInfo
from tokenwire_adapters.testing.ably._faults import ActiveFaults
from tokenwire_adapters.testing.ably._message import StoredMessage, Version
from tokenwire_adapters.testing.ably._protocol import (
    Action,
    Flag,
    MessageAction,
    Wire,
    encode,
    member_to_wire,
)
from tokenwire_adapters.testing.ably._serials import now_ms
from tokenwire_adapters.testing.ably._settings import Settings

__all__ = ["Attachment", "Rewind", "Transport", "parse_rewind"]

_REWIND_LIMIT = 100
_TIME = re.compile(r"(\d+)([sm])")


@dataclass(frozen=True)
class Rewind:
    """The value of a ``rewind`` parameter: a count, or seconds with a count."""

    count: int
    seconds: int | None


def parse_rewind(params: dict[str, str]) -> Rewind | None:
    """Read ``rewind`` and ``rewindLimit`` (docs: channels/options/rewind).

    :raises AblyError: 40003 for a value that cannot be parsed.
    """
    value = params.get("rewind")
    if value is None:
        return None
    value = str(value)
    if value.isdigit():
        return Rewind(min(int(value), _REWIND_LIMIT), None)
    match = _TIME.fullmatch(value)
    if match is None:
        raise AblyError(40003, f"invalid rewind: {value!r}")
    limit = str(params.get("rewindLimit", _REWIND_LIMIT))
    if not limit.isdigit():
        raise AblyError(40003, f"invalid rewindLimit: {limit!r}")
    seconds = int(match[1]) * (60 if match[2] == "m" else 1)
    return Rewind(min(int(limit), _REWIND_LIMIT), seconds)


@dataclass(eq=False)
class Transport:
    """The open transport of a connection, as its attachments use it.

    :ivar send: sends a frame to the client.
    :ivar echo: whether the client gets what it published itself (RTN2b).
    :ivar attachments: the attachments by the channel's name.
    """

    settings: Settings
    faults: ActiveFaults
    send: Callable[[Wire], None]
    _: KW_ONLY
    connection_id: str
    binary: bool
    echo: bool
    attachments: dict[str, Attachment] = field(init=False, default_factory=dict[str, "Attachment"])

    def fail_channel(self, name: str, error: ErrorInfo) -> None:
        """Send an ERROR for one channel (RTL14)."""
        self.send({"action": int(Action.ERROR), "channel": name, "error": error.wire()})


class Attachment:
    """A channel attached by one session. It ends with the session: clients attach again (RTL3d)."""

    def __init__(
        self, transport: Transport, channel: Channel, modes: Flag, params: dict[str, str]
    ) -> None:
        self.channel = channel
        self.modes = modes
        self.params = params
        self._transport = transport
        self._full = params.get("appendMode") == "full"
        # Serials whose whole state was sent, so that the client can apply increments.
        self._sent_whole: set[str] = set()

    def start(self, resume_at: str | None) -> None:
        """Send ATTACHED, then the past that was requested, then join the live channel.

        :raises AblyError: 40003 for a rewind that cannot be parsed.
        """
        rewind = parse_rewind(self.params)
        flags, error = self.modes, None
        if self.channel.members:
            flags |= Flag.HAS_PRESENCE
        entries: list[Entry] = []
        old: list[StoredMessage] = []
        position = self.channel.serial
        if resume_at:
            # Continuity depends on the channel serial alone (RTL4c1; docs: errors, 80018).
            complete, entries = self.channel.after(resume_at)
            if complete:
                flags |= Flag.RESUMED
                position = resume_at
            else:
                error = ErrorInfo(90003, "Unable to recover channel (messages expired)")
                position = self.channel.oldest_resumable
        elif rewind is not None:
            old, cut = self._rewound(rewind)
            if cut:
                error = ErrorInfo(90004, "Unable to recover channel (message limit exceeded)")
            if old:
                flags |= Flag.HAS_BACKLOG
                position = self._before(old[0])
        self.send_attached(position, flags, error)
        if Flag.HAS_PRESENCE in flags:
            self.sync()
        self._send_old(old, position)
        for entry in entries:
            self.deliver(entry)
        self.channel.attachments.add(self)

    def send_attached(self, position: str, flags: Flag, error: ErrorInfo | None) -> None:
        """Send ATTACHED; with an error where continuity is lost (RTL12)."""
        frame: Wire = {
            "action": int(Action.ATTACHED),
            "channel": self.channel.name,
            "channelSerial": position,
            "flags": int(flags),
        }
        supported = {"rewind", "rewindLimit", "appendMode"}
        if params := {name: value for name, value in self.params.items() if name in supported}:
            frame["params"] = params  # RTL4k1
        if error is not None:
            frame["error"] = error.wire()
        self._transport.send(frame)

    def end(self) -> None:
        """Leave the channel without notifying the client."""
        self.channel.attachments.discard(self)
        self._transport.attachments.pop(self.channel.name, None)

    def detach(self, error: ErrorInfo) -> None:
        """Leave the channel and send DETACHED (RTL13)."""
        self.end()
        name = self.channel.name
        self._transport.send(
            {"action": int(Action.DETACHED), "channel": name, "error": error.wire()}
        )

    def fail(self, error: ErrorInfo) -> None:
        """Leave the channel and send an ERROR for it (RTL14)."""
        self.end()
        self._transport.fail_channel(self.channel.name, error)

    def lose_continuity(self, error: ErrorInfo) -> None:
        """Send another ATTACHED without the RESUMED flag (RTL12)."""
        self.send_attached(self.channel.serial, self.modes, error)

    # -- messages -----------------------------------------------------------------------------

    def deliver(self, entry: Entry) -> None:
        """Send one entry, unless modes (RTL4m, TB2d) or ``echo=false`` (RTN2b) exclude it."""
        transport = self._transport
        is_echo = entry.publisher.connection_id == transport.connection_id
        if entry.presence:
            if Flag.PRESENCE_SUBSCRIBE in self.modes:
                self._send_presence(Action.PRESENCE, entry.presence, entry.serial)
            return
        if Flag.SUBSCRIBE not in self.modes or (is_echo and not transport.echo):
            return
        messages = [self._as_sent(message, version) for message, version in entry.items]
        frame = self._frame(messages, entry.serial)
        frame["id"] = entry.frame_id or entry.serial
        frame["timestamp"] = entry.timestamp
        if entry.publisher.connection_id is not None:
            frame["connectionId"] = entry.publisher.connection_id
        transport.send(frame)

    def _as_sent(self, message: StoredMessage, version: Version) -> Wire:
        settings = self._transport.settings
        full = self._full or message.serial not in self._sent_whole
        if version.action is MessageAction.APPEND:
            full = full or self._transport.faults.wants_full_update()
            self._sent_whole.add(message.serial)
        elif settings.first_append == "if-unseen":
            self._sent_whole.add(message.serial)
        return message.wire(version, self._transport.binary, full=full)

    def _frame(self, messages: list[Wire], serial: str) -> Wire:
        return {
            "action": int(Action.MESSAGE),
            "channel": self.channel.name,
            "channelSerial": serial,
            "messages": messages,
        }

    # -- rewind -------------------------------------------------------------------------------

    def _rewound(self, rewind: Rewind) -> tuple[list[StoredMessage], bool]:
        start = None if rewind.seconds is None else now_ms() - rewind.seconds * 1000
        messages: list[StoredMessage] = []
        for message in self.channel.history(start=start):
            if len(messages) == rewind.count:
                # A cut is an error where the limit caused it, not where a count was requested.
                return messages[::-1], rewind.seconds is not None
            messages.append(message)
        return messages[::-1], False

    def _before(self, first: StoredMessage) -> str:
        """Return the position just before a message: where a rewound attachment starts."""
        position = ""
        for serial in reversed(self.channel.messages):
            if serial < first.serial:
                position = serial.partition(":")[0]
                break
        return position or f"{0:014d}-000@{first.serial.partition('@')[2].partition(':')[0]}"

    def _send_old(self, old: list[StoredMessage], start: str) -> None:
        """Send whole messages (``message.update`` for aggregated ones), in as few frames as fit.

        All frames but the last carry the starting position, so that a client cut off half-way
        comes back for all of it.
        """
        limit = self._transport.settings.max_frame_size
        batch: list[Wire] = []
        size = 0
        if Flag.SUBSCRIBE not in self.modes:
            return
        for message in old:
            wire = message.wire(message.latest, self._transport.binary)
            if self._transport.settings.first_append == "if-unseen":
                self._sent_whole.add(message.serial)
            cost = len(encode(wire, self._transport.binary))
            if batch and size + cost > limit:
                self._send_batch(batch, start)
                batch, size = [], 0
            batch.append(wire)
            size += cost
        if batch:
            self._send_batch(batch, self.channel.serial)

    def _send_batch(self, batch: list[Wire], serial: str) -> None:
        frame = self._frame(batch, serial)
        frame["id"] = f"rewind-{batch[0]['serial']}"
        frame["timestamp"] = now_ms()
        self._transport.send(frame)

    # -- presence -----------------------------------------------------------------------------

    def sync(self) -> None:
        """Send the whole presence set as one SYNC (RTP18; protocol.md, SYNC).

        The serial's cursor, what follows the colon, is empty: the sync is complete with it.
        """
        if Flag.PRESENCE_SUBSCRIBE in self.modes:
            members = tuple(self.channel.members.values())
            self._send_presence(Action.SYNC, members, f"{position_id(self.channel.serial)}:")

    def _send_presence(self, action: Action, members: Iterable[Wire], serial: str) -> None:
        wires = [member_to_wire(member, self._transport.binary) for member in members]
        self._transport.send(
            {
                "action": int(action),
                "channel": self.channel.name,
                "channelSerial": serial,
                "presence": wires,
                "timestamp": now_ms(),
            }
        )


def position_id(serial: str) -> str:
    """Return a serial as the id of a sync: letters and digits, no colon."""
    return re.sub(r"\W", "", serial)
