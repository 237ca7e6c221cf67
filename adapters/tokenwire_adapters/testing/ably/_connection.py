"""One transport of a client's connection.

Spec: RTN2 (query parameters), RTN15 and RTN16 (resume, recover), RTN19 (resending), RTN23
(heartbeats), RTC8 (AUTH), CD2 (connection details).
"""

from __future__ import annotations

import asyncio

from tokenwire_adapters.testing._json import as_object
from tokenwire_adapters.testing.ably._acks import Acks
from tokenwire_adapters.testing.ably._application import Application, channel_of, close_connection
from tokenwire_adapters.testing.ably._attachment import Attachment, Transport
from tokenwire_adapters.testing.ably._errors import AblyError, ErrorInfo
from tokenwire_adapters.testing.ably._faults import ActiveFaults
from tokenwire_adapters.testing.ably._protocol import Action, Flag, Wire, decode, encode
from tokenwire_adapters.testing.ably._publishing import Publishing
from tokenwire_adapters.testing.ably._state import ConnectionState
from tokenwire_adapters.testing.ably._websocket import WebSocket

__all__ = ["Session"]

_DEFAULT_MODES = (
    Flag.PRESENCE
    | Flag.PUBLISH
    | Flag.SUBSCRIBE
    | Flag.PRESENCE_SUBSCRIBE
    | Flag.ANNOTATION_PUBLISH
)  # docs: channels/options, "Channel modes"
_ALL_MODES = (
    _DEFAULT_MODES | Flag.ANNOTATION_SUBSCRIBE | Flag.OBJECT_SUBSCRIBE | Flag.OBJECT_PUBLISH
)
_MODE_CAPABILITY = {
    Flag.PRESENCE: "presence",
    Flag.PUBLISH: "publish",
    Flag.SUBSCRIBE: "subscribe",
    Flag.PRESENCE_SUBSCRIBE: "subscribe",
    Flag.ANNOTATION_PUBLISH: "annotation-publish",
    Flag.ANNOTATION_SUBSCRIBE: "annotation-subscribe",
    Flag.OBJECT_SUBSCRIBE: "object-subscribe",
    Flag.OBJECT_PUBLISH: "object-publish",
}


class Session:
    """One transport of a connection, from CONNECTED until the socket ends."""

    def __init__(
        self,
        application: Application,
        faults: ActiveFaults,
        socket: WebSocket,
        state: ConnectionState,
        params: dict[str, str],
    ) -> None:
        self.state = state
        self._application = application
        self._faults = faults
        self.params = params
        self.binary = params.get("format") == "msgpack"
        self.acks = Acks(self.send)
        self._socket = socket
        self._heartbeats = params.get("heartbeats") == "true"
        self._held: list[Wire] = []
        self._ended = False
        self._transport = Transport(
            application.settings,
            faults,
            self.send,
            connection_id=state.id,
            binary=self.binary,
            echo=params.get("echo") != "false",
        )
        self.attachments = self._transport.attachments
        self._publishing = Publishing(
            application, faults, state, self.acks, self.attachments, self.disconnect
        )
        self._handlers = {
            Action.HEARTBEAT: self._on_heartbeat,
            Action.ATTACH: self._on_attach,
            Action.DETACH: self._on_detach,
            Action.MESSAGE: self._publishing.on_message,
            Action.PRESENCE: self._publishing.on_presence,
            Action.ANNOTATION: self._publishing.on_unsupported,
            Action.OBJECT: self._publishing.on_unsupported,
            Action.SYNC: self._on_sync,
            Action.AUTH: self._on_auth,
            Action.CLOSE: self._on_close,
        }
        self.apply_faults()

    # -- out ----------------------------------------------------------------------------------

    def send(self, frame: Wire) -> None:
        """Send a frame, unless a fault drops or delays it."""
        faults = self._faults
        if self._ended:
            return
        if faults.stalled:
            self._held.append(frame)
        elif not faults.drops("out", frame["action"]):
            self._application.stats["frames_out"] += 1
            self._socket.send(encode(frame, self.binary))

    def connected(self, error: ErrorInfo | None = None) -> None:
        """Send CONNECTED (CD2; RTN15c6, RTN15c7 with an error, RTN24 when already connected)."""
        state, settings = self.state, self._application.settings
        details: Wire = {
            "connectionKey": state.key,
            "connectionStateTtl": int(settings.connection_state_ttl * 1000),
            "maxFrameSize": settings.max_frame_size,
            "maxIdleInterval": int(settings.max_idle_interval * 1000),
            "maxInboundRate": int(settings.inbound_rate or 10_000),
            "maxMessageSize": settings.max_message_size,
            "objectsGCGracePeriod": 86_400_000,
            "serverId": "local",
            "siteCode": "local",
        }
        if state.principal.client_id is not None:
            details["clientId"] = state.principal.client_id
        frame: Wire = {
            "action": int(Action.CONNECTED),
            "connectionId": state.id,
            "connectionKey": state.key,
            "connectionDetails": details,
        }
        if error is not None:
            frame["error"] = error.wire()
        self.send(frame)

    def disconnect(self, error: ErrorInfo) -> None:
        """Send DISCONNECTED and end the transport; the connection can be resumed (RTN15h)."""
        self._end({"action": int(Action.DISCONNECTED), "error": error.wire()})

    def _end(self, last: Wire) -> None:
        if not self._ended:
            self.send(last)
            self._ended = True
            self._socket.close()

    def abort(self) -> None:
        """End the transport without a DISCONNECTED (RTN15a)."""
        self._ended = True
        self._socket.abort()

    def apply_faults(self) -> None:
        """Apply the faults that are set, and send the frames that they no longer delay."""
        faults = self._faults
        self.acks.delay = max(faults.ack_delay, self._application.settings.ack_debounce)
        self.acks.held = faults.acks_held
        self.acks.poke()
        if not faults.stalled and self._held:
            held, self._held = self._held, []
            for frame in held:
                self.send(frame)

    # -- in -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Read frames until the transport ends."""
        heartbeat = asyncio.create_task(self._beat())
        try:
            while (raw := await self._socket.receive()) is not None:
                await self._faults.not_stalled()
                self._application.stats["frames_in"] += 1
                if self._ended:
                    break  # frames that were under way when the server ended it get no answer
                self._handle(raw)
        finally:
            heartbeat.cancel()
            self.acks.closed = True
            for attachment in list(self.attachments.values()):
                attachment.end()

    def _handle(self, raw: str | bytes) -> None:
        try:
            if len(raw) > self._application.settings.max_frame_size:
                raise AblyError(40009, "frame too large")
            value = decode(raw, self.binary)
            if not isinstance(value, dict):
                raise AblyError(40000, "a frame must be an object")
            frame = as_object(value)
            handler = self._handlers.get(frame.get("action", -1))
        except AblyError as error:
            self.fail(error.info)
            return
        if handler is not None and not self._faults.drops("in", frame["action"]):
            handler(frame)

    def fail(self, error: ErrorInfo) -> None:
        """Send an ERROR for the connection and end it for good (RTN15j)."""
        self._end({"action": int(Action.ERROR), "error": error.wire()})

    async def _beat(self) -> None:
        # Well within the interval, so that a slow machine does not exceed it (RTN23).
        while True:
            await asyncio.sleep(self._application.settings.max_idle_interval * 0.7)
            if self._heartbeats:
                self.send({"action": int(Action.HEARTBEAT)})
            elif not self._faults.stalled:
                self._socket.ping()

    def _on_heartbeat(self, frame: Wire) -> None:
        answer: Wire = {"action": int(Action.HEARTBEAT)}
        if "id" in frame:
            answer["id"] = frame["id"]  # RTN13e
        self.send(answer)

    def _on_close(self, _frame: Wire) -> None:
        close_connection(self._application, self.state)
        self._end({"action": int(Action.CLOSED)})

    def _on_attach(self, frame: Wire) -> None:
        name = str(frame.get("channel") or "")
        try:
            if not name:
                raise AblyError(40010, "invalid channel name")
            requested = Flag(int(frame.get("flags") or 0)) & _ALL_MODES or _DEFAULT_MODES
            modes = Flag(0)
            for mode, operation in _MODE_CAPABILITY.items():
                if mode in requested and self.state.principal.allows(operation, name):
                    modes |= mode
            if not modes & ~(Flag.ANNOTATION_PUBLISH | Flag.ANNOTATION_SUBSCRIBE):
                raise AblyError(40160, f"Channel denied access based on given capability; {name}")
            params = as_object(frame.get("params"))
            attachment = Attachment(
                self._transport, channel_of(self._application, name), modes, params
            )
            previous = self.attachments.get(name)
            if previous is not None:
                previous.end()
            attachment.start(frame.get("channelSerial"))
        except AblyError as error:
            self._transport.fail_channel(name, error.info)
            return
        self.attachments[name] = attachment

    def _on_detach(self, frame: Wire) -> None:
        name = str(frame.get("channel") or "")
        attachment = self.attachments.get(name)
        if attachment is not None:
            attachment.end()
            attachment.channel.drop_members(self.state.id)
        self.send({"action": int(Action.DETACHED), "channel": name})

    def _on_sync(self, frame: Wire) -> None:
        attachment = self.attachments.get(str(frame.get("channel")))
        if attachment is not None:
            attachment.sync()

    def _on_auth(self, frame: Wire) -> None:
        """Replace the token of the open connection (RTC8a)."""
        try:
            token = as_object(frame.get("auth")).get("accessToken")
            principal = self._application.auth.from_params({"accessToken": str(token)})
            if principal.client_id != self.state.principal.client_id:
                raise AblyError(40102, "incompatible credentials: another clientId")
        except AblyError as error:
            self.fail(error.info)
            return
        self.state.principal = principal
        self.connected()
        for name, attachment in list(self.attachments.items()):
            revoked = [
                mode
                for mode, operation in _MODE_CAPABILITY.items()
                if mode in attachment.modes and not principal.allows(operation, name)
            ]
            if revoked:  # RTC8a1: a downgrade fails the channels it revokes
                attachment.fail(ErrorInfo(40160, "capability was taken away"))
