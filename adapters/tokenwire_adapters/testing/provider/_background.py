"""Responses with ``background: true``: polled, streamed again from an event on, and cancelled.

OpenAI API reference, "Get a model response" and "Cancel a response".
"""

from __future__ import annotations

import functools
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs

from tokenwire_adapters.testing.provider import _responses
from tokenwire_adapters.testing.provider._http import Request
from tokenwire_adapters.testing.provider._json import BadRequest
from tokenwire_adapters.testing.provider._record import RequestRecord
from tokenwire_adapters.testing.provider._replies import ModelRequest, Reply

__all__ = ["BackgroundReplies", "ResumedStream"]

_PATH = re.compile(r"(?:/v1)*(?:/openai(?:/v1)?)?/responses/(?P<id>[^/]+)(?P<cancel>/cancel)?")
_POLLS = 3
"""How many polls a response takes: each brings as many tokens more."""


@dataclass
class _Generation:
    request: ModelRequest
    reply: Reply
    response_id: str
    polls: int = 0
    status: Literal["queued", "in_progress", "cancelled"] = "queued"

    def body(self) -> dict[str, Any]:
        """What is there of the response by now."""
        if self.status != "cancelled" and self.polls >= _POLLS:
            return _responses.body(self.request, (self.reply,), self.response_id)
        tokens = len(self.reply.tokens) * self.polls // _POLLS
        return _responses.unfinished_body(
            self.request, self.reply, self.response_id, self.status, tokens
        )


class ResumedStream(NamedTuple):
    """A stream of a response that was begun before.

    :ivar skip: how many of its events are not to be sent again.
    """

    request: ModelRequest
    replies: tuple[Reply, ...]
    record: RequestRecord
    skip: int


class BackgroundReplies:
    """The background responses that were asked for.

    :param keep: how many are kept; older ones are dropped.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._generations: OrderedDict[str, _Generation] = OrderedDict()

    def begin(self, request: ModelRequest, reply: Reply, response_id: str) -> dict[str, Any]:
        """Keep the reply to a request; return what is there of it, which is nothing."""
        generation = _Generation(request, replace(reply, interruption=None), response_id)
        self._generations[response_id] = generation
        while len(self._generations) > self._keep:
            self._generations.popitem(last=False)
        return generation.body()

    def find(self, request: Request) -> Callable[[], dict[str, Any] | ResumedStream] | None:
        """Find what answers a request about a response; None when the path is none of such.

        The answer raises `BadRequest` where there is no such response, or not this way.
        """
        match = _PATH.fullmatch(request.path)
        if match is None:
            return None
        return functools.partial(self._answer, request, match["id"], bool(match["cancel"]))

    def _answer(
        self, request: Request, response_id: str, cancels: bool
    ) -> dict[str, Any] | ResumedStream:
        generation = self._generations.get(response_id)
        if generation is None:
            raise BadRequest(f"Response with id '{response_id}' not found.", status=404)
        if request.method != ("POST" if cancels else "GET"):
            raise BadRequest(f"Method {request.method} is not allowed here.", status=405)
        if cancels:
            generation.status = "cancelled"
            return generation.body()
        query = parse_qs(request.query)
        if query.get("stream") == ["true"]:
            after = int(query.get("starting_after", ["-1"])[0])
            replies = (generation.reply,)
            record = RequestRecord(response_id, generation.request, replies)
            return ResumedStream(generation.request, replies, record, after + 1)
        if generation.status != "cancelled":
            generation.status = "in_progress"
            generation.polls += 1
        return generation.body()
