"""What the requests of a WebSocket say; they come from outside."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import msgspec

from tokenwire._ids import check_name
from tokenwire_adapters._web.gateway.problems import Problem

__all__ = ["SocketRequest", "Start", "start_of"]


class SocketRequest(NamedTuple):
    """A request.

    :ivar id: repeated in the reply; None where it has none.
    """

    op: str
    id: str | int | None
    fields: dict[str, Any]

    @classmethod
    def parse(cls, text: str) -> SocketRequest | None:
        """Read a message; None where it is no request."""
        try:
            request: Any = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None
        fields = cast("dict[str, Any]", request) if isinstance(request, dict) else {}
        op, request_id = fields.get("op"), fields.get("id")
        if not isinstance(op, str) or not _is_id(request_id):
            return None
        return cls(op, request_id, fields)


class Start(NamedTuple):
    """Where a subscription begins, and of what. See docs/gateway.md."""

    name: str | None
    after: str | None
    rewind: str | int | None
    response: str | None
    gather: bool


def start_of(fields: dict[str, Any]) -> Start:
    """Read the fields of a ``subscribe``. :raises Problem, InvalidName: where they are wrong."""
    name = None if fields.get("sub") is None else check_name(fields["sub"], "sub")
    after, response = _text_of(fields, "after"), _text_of(fields, "response")
    rewind = fields.get("rewind")
    if rewind is not None and not isinstance(rewind, str | int):
        raise Problem("bad_request", "rewind must be a string or a count")
    gather = fields.get("gather", True)
    if not isinstance(gather, bool):
        raise Problem("bad_request", "gather must be true or false")
    return Start(name, after, None if after else rewind, response, gather)


def _is_id(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= 64
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _text_of(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise Problem("bad_request", f"{name} must be a string")
    return value
