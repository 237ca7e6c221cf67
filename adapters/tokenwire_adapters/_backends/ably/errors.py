"""What Ably's client raises, in our words, with what to do about it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from ably import AblyException

from tokenwire.errors import (
    BackendError,
    BackendMisconfigured,
    BackendUnavailable,
    PublishRejected,
    RateLimited,
)

__all__ = ["may_listen", "translate"]

_RULE = (
    "this channel's namespace has no rule for message updates. In the Ably dashboard open your"
    " app, Settings, Rules, and add (or edit) a rule for the namespace with 'Message annotations,"
    " updates, deletes and appends' switched on; or use granularity='token', which needs no rule"
)
_ADVICE: dict[int, str] = {
    40003: "Ably did not understand a parameter",
    40012: "the client id does not fit the key or token: give client_id= what the token was made"
    " for, or leave it out",
    40101: "the key or token is not valid: copy the whole key, APP.KEY:SECRET, from the Ably"
    " dashboard, API Keys",
    40102: "the client id does not fit the token: give client_id= what the token was made for",
    40103: "Ably takes a key over TLS only: leave out tls=false, or use a token",
    40140: "the token is not valid any more, and there is no way to get another: give"
    " auth_url= or auth_callback=",
    40142: "the token has expired, and there is no way to get another: give auth_url= or"
    " auth_callback=",
    40160: "the key or token lacks a capability for this channel: in the Ably dashboard, API Keys,"
    " tick publish, subscribe, history and message-update-own (message-update-any without a"
    " client id), for this channel or for *",
    40165: "the channel was attached without the mode that this needs",
    40166: "a client without an id cannot have messages of its own: give client_id=, or tick"
    " message-update-any in the Ably dashboard, API Keys",
    40170: "auth_url or auth_callback failed, or what it gave is no token",
    40171: "the token is not valid, or not any more, and there is no way to get another: give"
    " auth_url= or auth_callback=",
    40300: "Ably refuses this account or app: see the dashboard",
    40331: "the account's limit of connections or channels is reached",
    80019: "auth_url or auth_callback failed, or what it gave is no token",
    93002: _RULE,
}
_NO_SUBSCRIBE = (
    "the key or token lacks the capability subscribe for this channel: in the Ably"
    " dashboard, API Keys, tick subscribe"
)
_TOO_LARGE = (40009,)
_NOT_THERE = (40400,)


def may_listen(channel: Any) -> None:
    """Check that an attached channel gives us its messages.

    :raises BackendMisconfigured: when the right is missing: Ably attaches all the same.
    """
    given: Any = channel.modes or []
    modes = [str(getattr(mode, "name", mode)) for mode in cast("list[Any]", given)]
    if modes and "SUBSCRIBE" not in modes:
        raise BackendMisconfigured(f"listening to {channel.name!r}: {_NO_SUBSCRIBE}")


def translate(error: BaseException, what: str) -> BackendError:
    """Turn what the client raised into one of our errors.

    :param what: what was tried, for the message.
    """
    if isinstance(error, BackendError):
        return error
    if isinstance(error, AblyException):
        return _of_ably(error, what)
    if isinstance(error, TimeoutError | asyncio.CancelledError):
        return BackendUnavailable(f"Ably did not answer in time ({what})")
    return BackendUnavailable(f"Ably cannot be reached ({what}): {type(error).__name__}")


def _of_ably(error: Any, what: str) -> BackendError:
    code = error.code if isinstance(error.code, int) else 0
    status = error.status_code if isinstance(error.status_code, int) else 0
    if code < 1000 <= status:  # ably-python gives them in either order
        code, status = status, code
    told = f"{what}: Ably says {code} {_short(error.message)}"
    if code // 100 == 429 or status == 429:
        return RateLimited(told)
    if code in _TOO_LARGE or code in _NOT_THERE:
        return PublishRejected(told)
    advice = _ADVICE.get(code)
    if advice is None and (40100 <= code < 40200 or 40300 <= code < 40400):
        advice = "see https://help.ably.io/error/" + str(code)
    if advice is not None:
        return BackendMisconfigured(f"{what}: {advice} (Ably's error {code})")
    return BackendUnavailable(told)


def _short(message: object) -> str:
    return str(message)[:200]
