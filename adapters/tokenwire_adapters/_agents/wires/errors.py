"""Why a reply fails: the provider says so, or it cannot be read."""

from __future__ import annotations

from typing import Any

from tokenwire_adapters._agents.values import dict_of, provider_message

__all__ = ["ProviderError", "UnreadableReply"]

_MAX_TEXT = 2000  # characters of a body that is no JSON


class ProviderError(Exception):
    """The provider sent an error in the place of a reply, or in the middle of one.

    :param body: what it sent: JSON, or text; None for nothing.
    :param status: of HTTP.
    :ivar body: what watchers see is in this, as in the errors of SDKs.
    :ivar usage: token counts that came with the error.
    """

    def __init__(self, body: Any, status: int | None = None) -> None:
        text = f"HTTP status {status}" if status is not None else "the provider reported an error"
        if isinstance(body, str):
            body = body[:_MAX_TEXT]
        super().__init__(provider_message(body) or text)
        self.body: Any = body or text
        self.usage: dict[str, Any] | None = dict_of(dict_of(body).get("usage")) or None


class UnreadableReply(Exception):
    """A reply that cannot be read: damaged, too large, or encoded in an unknown way.

    :ivar body: what watchers see.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.body = text
