"""Limits and choices of one server, with Ably's documented defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Settings"]


@dataclass
class Settings:
    """Limits and choices of a server. Times are in seconds."""

    inbound_rate: float | None = 50.0
    """Messages a second that one connection may publish (docs: limits, "Connection limits")."""
    max_message_size: int = 65_536
    """Bytes in one publish: name, data, client id and extras together (TO3l8, TM6)."""
    max_frame_size: int = 524_288
    """Bytes in one WebSocket frame (CD2d)."""
    connection_state_ttl: float = 120.0
    """How long a dropped connection can be resumed, and how far back a channel can (CD2f)."""
    max_idle_interval: float = 15.0
    """The longest silence towards a client (CD2h, RTN23)."""
    presence_grace: float = 15.0
    """How long after a drop a member leaves (docs: presence, "Handle unstable connections")."""
    default_rollup: float = 0.040
    """``appendRollupWindow`` of a connection that requests none (docs: token rate limits)."""
    max_rollup: float = 0.500
    """The longest ``appendRollupWindow``."""
    mutable: tuple[str, ...] = ("*",)
    """Namespaces with the rule "message annotations, updates, deletes and appends"."""
    persisted: tuple[str, ...] = ("*",)
    """Namespaces that keep history for good; others keep it for ``connection_state_ttl``."""
    first_append: Literal["full", "if-unseen"] = "full"
    """``full``: the first append of a message on an attachment arrives as an update with the
    whole text, always (docs: updates-deletes, "Append to a message"). ``if-unseen``: only where
    the attachment does not have the message's state yet, which the docs also allow."""
    append_keeps_extras: bool = False
    """The docs disagree. message-per-response: extras left out of an append are removed, which
    is this server's default. updates-deletes: they stay."""
    ack_debounce: float = 0.0
    """Gather ACKs for this long (docs: message-per-response, "Ably rolls up acknowledgments")."""
    ignore_repeated_serials: bool = True
    """Answer a repeated ``msgSerial`` without publishing again (RTN19a). The spec makes a client
    number afresh after a new connection id (RTN19a2); one that does not loses messages here."""
    token_ttl: float = 3600.0
    """Life of a token whose request names none (TK2a)."""

    def is_mutable(self, channel: str) -> bool:
        """Whether appends, updates and deletes are enabled on a channel."""
        return _covers(self.mutable, channel)

    def is_persisted(self, channel: str) -> bool:
        """Whether a channel's history outlives the connection state."""
        return _covers(self.persisted, channel) or self.is_mutable(channel)


def _covers(namespaces: tuple[str, ...], channel: str) -> bool:
    # A rule covers a namespace: the part of a channel's name before the first colon.
    return "*" in namespaces or channel.split(":", 1)[0] in namespaces
