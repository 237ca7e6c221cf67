"""Translates errors of ably-python into tokenwire's, with advice on what to do."""

from __future__ import annotations

import asyncio
from typing import Any

from ably import AblyException

from tokenwire.errors import (
    BackendError,
    BackendMisconfigured,
    BackendUnavailable,
    PublishRejected,
    RateLimited,
)

__all__ = ["translate"]

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
    40170: "auth_url or auth_callback failed, or did not return a token",
    40171: "the token is not valid, or not any more, and there is no way to get another: give"
    " auth_url= or auth_callback=",
    40300: "Ably refuses this account or app: see the dashboard",
    40331: "the account's limit of connections or channels is reached",
    80019: "auth_url or auth_callback failed, or did not return a token",
    93002: _RULE,
}
_REJECTED = (40009, 40400)  # too large; no such message


def translate(error: BaseException, what: str) -> BackendError:
    """Translate an error of the client into tokenwire's.

    :param what: what was tried, for the message.
    """
    if isinstance(error, BackendError):
        return error
    if isinstance(error, AblyException):
        return _translate_ably(error, what)
    if isinstance(error, TimeoutError | asyncio.CancelledError):
        return BackendUnavailable(f"Ably did not answer in time ({what})")
    return BackendUnavailable(f"Ably cannot be reached ({what}): {type(error).__name__}")


def _translate_ably(error: Any, what: str) -> BackendError:
    code = error.code if isinstance(error.code, int) else 0
    status = error.status_code if isinstance(error.status_code, int) else 0
    if code < 1000 <= status:  # ably-python gives them in either order
        code, status = status, code
    message = f"{what}: Ably says {code} {str(error.message)[:200]}"
    if code // 100 == 429 or status == 429:
        return RateLimited(message)
    if code in _REJECTED:
        return PublishRejected(message)
    advice = _ADVICE.get(code)
    if advice is None and (40100 <= code < 40200 or 40300 <= code < 40400):
        advice = "see https://help.ably.io/error/" + str(code)
    if advice is not None:
        return BackendMisconfigured(f"{what}: {advice} (Ably's error {code})")
    return BackendUnavailable(message)
