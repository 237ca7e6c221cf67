"""Faults on command, as a network or a busy service causes them.

Every method can be called in the process and, by name, over the control port.
Nothing here is Ably's behaviour; what a client *sees* of a fault follows the protocol.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

from tokenwire_adapters.testing.ably._application import (
    Application,
    Client,
    channel_of,
    close_connection,
)
from tokenwire_adapters.testing.ably._errors import AblyError, ErrorInfo
from tokenwire_adapters.testing.ably._protocol import Action

__all__ = ["COMMANDS", "ActiveFaults", "Faults"]

Direction = Literal["in", "out"]


@dataclass
class _Drop:
    direction: Direction
    action: Action | None
    left: int


class Faults:
    """The faults of one server. Not thread-safe: see `ServerThread.fault`."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._timers = WeakKeyDictionary[Client, asyncio.TimerHandle]()
        self._awake = asyncio.Event()
        self.clear()

    def clear(self) -> None:
        """Stop every fault, without undoing its effects."""
        self._drops: list[_Drop] = []
        self._nack_every = 0
        self._nack_count = 0
        self._nack_next = 0
        self._nack_error = ErrorInfo(50000, "internal error")
        self._rest_next = 0
        self._rest_error = ErrorInfo(50003, "timeout")
        self._full_every = 0
        self._full_count = 0
        self.rest_delay = 0.0
        self.ack_delay = 0.0
        self.acks_held = False
        self.refusing = False
        self._awake.set()
        self._cut_after: tuple[float, str | None] = (0.0, None)
        self._stop_timers()
        self._apply_to_sessions()

    def _apply_to_sessions(self) -> None:
        for session in list(self._application.sessions):
            session.apply_faults()

    def _cut_later(self, session: Client) -> None:
        seconds, client_id = self._cut_after
        if seconds and client_id in {None, session.state.principal.client_id}:
            loop = asyncio.get_running_loop()
            self._timers[session] = loop.call_later(seconds, session.abort)

    def _stop_timers(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    @property
    def refusals_left(self) -> int:
        """How many more publishes `nack_next` will refuse."""
        return self._nack_next

    def drop_frames(
        self, count: int = 1, direction: Direction = "out", action: str | None = None
    ) -> None:
        """Lose the next ``count`` frames; ``action`` (say ``"ACK"``) picks their kind."""
        self._drops.append(_Drop(direction, Action[action] if action else None, count))

    def nack_every(self, every: int, code: int = 50000, status: int = 500) -> None:
        """Refuse one in ``every`` publishes of each kind; 0 ends it."""
        self._nack_every, self._nack_count = every, 0
        self._nack_error = ErrorInfo(code, f"refused on command: one in {every}", status)

    def nack_next(self, count: int = 1, code: int = 50000, status: int = 500) -> None:
        """Refuse the next ``count`` publishes."""
        self._nack_next = count
        self._nack_error = ErrorInfo(code, "refused on command", status)

    def disconnect(
        self,
        client_id: str | None = None,
        connection_id: str | None = None,
        *,
        announced: bool = False,
        status: int = 400,
    ) -> int:
        """Cut transports now (RTN15a), or end them with a DISCONNECTED (RTN15h3, RTN17f1).

        :param client_id: only those of this client; likewise ``connection_id``.
        :param announced: send a DISCONNECTED, with this ``status``.
        :return: how many.
        """
        cut = 0
        for session in list(self._application.sessions):
            state = session.state
            if connection_id not in {None, state.id}:
                continue
            if client_id not in {None, state.principal.client_id}:
                continue
            cut += 1
            if announced:
                session.disconnect(ErrorInfo(80003, "disconnected on command", status))
            else:
                session.abort()
        return cut

    def disconnect_every(self, seconds: float, client_id: str | None = None) -> None:
        """Cut every transport so many seconds after it opened, also future ones; 0 ends it."""
        self._stop_timers()
        self._cut_after = (seconds, client_id)
        for session in list(self._application.sessions):
            self._cut_later(session)

    def stall(self, stalled: bool = True) -> None:
        """Neither read nor answer frames and requests; sockets stay open."""
        if stalled:
            self._awake.clear()
        else:
            self._awake.set()
            self._apply_to_sessions()

    def refuse(self, refusing: bool = True) -> None:
        """Cut every new connection and REST request without an answer, and no others."""
        self.refusing = refusing

    def forget_connections(self, *, continuity: bool = True) -> None:
        """Forget all connection state: clients come back with a new connection id (RTN15c7).

        ``continuity=False`` also loses the channels' past: they attach again without the
        RESUMED flag and with error 90003 (RTL12), and get nothing of what they missed.
        """
        for state in list(self._application.connections.values()):
            close_connection(self._application, state)
        for session in list(self._application.sessions):
            session.abort()
        if not continuity:
            for channel in self._application.channels.values():
                channel.forget_log()

    def delay_acks(self, seconds: float) -> None:
        """Send every ACK and NACK so many seconds late."""
        self.ack_delay = seconds
        self._apply_to_sessions()

    def hold_acks(self, held: bool = True) -> None:
        """Send no ACK or NACK until ``hold_acks(False)``."""
        self.acks_held = held
        self._apply_to_sessions()

    def rest_fail_next(self, count: int = 1, code: int = 50003, status: int = 500) -> None:
        """Answer the next REST requests with an error."""
        self._rest_next, self._rest_error = count, ErrorInfo(code, "failed on command", status)

    def delay_rest(self, seconds: float) -> None:
        """Answer every REST request so many seconds late."""
        self.rest_delay = seconds

    def full_update_every(self, every: int) -> None:
        """Deliver every Nth append as a full ``message.update`` (docs: updates-deletes)."""
        self._full_every, self._full_count = every, 0

    def detach(self, channel: str, code: int = 90000, status: int = 500) -> None:
        """Detach a channel (RTL13)."""
        error = ErrorInfo(code, "detached on command", status)
        for attachment in list(channel_of(self._application, channel).attachments):
            attachment.detach(error)

    def fail_channel(self, channel: str, code: int = 90000, status: int = 400) -> None:
        """Send an ERROR for a channel: it fails (RTL14)."""
        error = ErrorInfo(code, "failed on command", status)
        for attachment in list(channel_of(self._application, channel).attachments):
            attachment.fail(error)

    def reattach(self, channel: str) -> None:
        """Send another ATTACHED without the RESUMED flag: continuity is lost (RTL12)."""
        error = ErrorInfo(90003, "continuity lost on command")
        for attachment in list(channel_of(self._application, channel).attachments):
            attachment.lose_continuity(error)

    def expire_tokens(self) -> None:
        """Expire every token that was issued (RTN15h: DISCONNECTED with 40142)."""
        self._application.auth.expire_tokens()
        for session in list(self._application.sessions):
            if session.state.principal.token is not None:
                session.disconnect(ErrorInfo(40142, "token expired"))

    def ask_reauth(self) -> None:
        """Ask every client for a new token (RTN22)."""
        for session in list(self._application.sessions):
            session.send({"action": int(Action.AUTH)})


class ActiveFaults(Faults):
    """The same, as the server consults them."""

    @property
    def stalled(self) -> bool:
        """Whether the server is silent."""
        return not self._awake.is_set()

    async def not_stalled(self) -> None:
        """Wait while the server is silent."""
        await self._awake.wait()

    def drops(self, direction: Direction, action: int) -> bool:
        """Whether to drop a frame."""
        for rule in self._drops:
            if rule.direction == direction and rule.action in {None, action}:
                rule.left -= 1
                if rule.left <= 0:
                    self._drops.remove(rule)
                self._application.stats["frames_dropped"] += 1
                return True
        return False

    def before_publish(self) -> None:
        """Raise for a publish that is to be refused.

        :raises AblyError: with the code that was set.
        """
        self._nack_count += 1
        due = self._nack_every and self._nack_count % self._nack_every == 0
        if self._nack_next:
            self._nack_next -= 1
            due = True
        if due:
            error = self._nack_error
            raise AblyError(error.code, error.message, error.status)

    def before_rest(self) -> None:
        """Raise for a REST request that is to be refused.

        :raises AblyError: with the code that was set.
        """
        if self._rest_next:
            self._rest_next -= 1
            error = self._rest_error
            raise AblyError(error.code, error.message, error.status)

    def wants_full_update(self) -> bool:
        """Whether to deliver this append as a full update."""
        self._full_count += 1
        return bool(self._full_every) and self._full_count % self._full_every == 0

    def opened(self, session: Client) -> None:
        """Take note of a new transport."""
        self._cut_later(session)


COMMANDS = frozenset(
    name for name, member in vars(Faults).items() if callable(member) and not name.startswith("_")
)
"""Names of the methods of `Faults`, as the control port takes them."""
