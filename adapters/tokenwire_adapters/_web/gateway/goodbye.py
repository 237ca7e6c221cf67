"""What event streams and sockets send last, and while nothing happens."""

from __future__ import annotations

from typing import Final

from tokenwire_adapters._web.gateway.connections import Reason, retry_hint
from tokenwire_adapters._web.gateway.framing import StreamFramer, named
from tokenwire_adapters._web.gateway.problems import Problem, problem_of

__all__ = ["CLOSE_CODES", "CLOSE_TIMEOUT", "KEEP_ALIVE", "failed", "last_of_dropped"]

# Comments and `retry` are lines of the message that follows, no blocks of their own: for a block
# without data, httpx-sse and fetch-event-source give out an empty message.
KEEP_ALIVE: Final = b": keep-alive\n"
CLOSE_TIMEOUT: Final = 2.0
"""Seconds that the last frames of a dropped connection may take."""

CLOSE_CODES: Final[dict[Reason, tuple[int, str]]] = {
    "expired": (4401, "the token has expired"),
    "unauthorized": (4401, "a valid token is needed"),
    "idle": (4408, "idle"),
    "slow": (4409, "too slow"),
    "flood": (4429, "too many messages"),
    "bye": (1012, "going away"),
}
"""The close code of a socket and its reason, by why it was dropped."""


def failed(framer: StreamFramer, error: Exception) -> bytes:
    """The last bytes of a stream that cannot go on."""
    problem = problem_of(error)
    return named("error", problem.document()) if framer.native else framer.end()


def last_of_dropped(framer: StreamFramer, reason: Reason) -> bytes:
    """The last bytes of a stream that was dropped."""
    if reason == "expired":
        return failed(framer, Problem("token_expired", "the token has expired"))
    if reason == "bye":
        retry = retry_hint()
        hint = f"retry: {retry}\n".encode()
        if framer.native:
            return hint + named("bye", {"type": "bye", "retry": retry})
        end = framer.end()
        return hint + end if end else b""
    return b""
