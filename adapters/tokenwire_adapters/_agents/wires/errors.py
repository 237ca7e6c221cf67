"""Why a reply fails: the provider says so, or it cannot be read."""

from __future__ import annotations

from typing import Any

from tokenwire_adapters._agents.values import dict_of, provider_message

__all__ = ["ProviderError", "UnreadableReply"]

_MAX_TEXT = 2000  # characters of a body that is no JSON


class ProviderError(Exception):
    """The provider sent an error in the place of a reply, or in the middle of one.

    :ivar body: what it sent: JSON, or text.
    :ivar usage: token counts that came with the error.
    """

    def __init__(self, body: Any, status: int | None = None) -> None:
        super().__init__(_text(body, status))
        self.body = body
        self.usage: dict[str, Any] | None = dict_of(dict_of(body).get("usage")) or None


class UnreadableReply(Exception):
    """A reply that cannot be read: damaged, too large, or encoded in an unknown way."""


def _text(body: Any, status: int | None) -> str:
    message = provider_message(body)
    if message is not None:
        return message[:_MAX_TEXT]
    return f"HTTP status {status}" if status is not None else "the provider reported an error"
