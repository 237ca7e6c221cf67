"""From what was asked to what will be sent: an `Ask` becomes one `Reply` per choice.

Both are free of any API's shapes. `_ask` reads them out of requests; `_chat`, `_responses` and
`_messages` write them onto the wire.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from tokenwire_adapters.testing.provider import _text as _prose
from tokenwire_adapters.testing.provider._json import dumps
from tokenwire_adapters.testing.provider._tools import (
    Tool,
    arguments_for,
    choose_tools,
    example_for,
)

__all__ = ["Api", "Ask", "Call", "Finish", "Kind", "Piece", "Reply", "plan"]

Api = Literal["chat", "responses", "messages"]
Kind = Literal["reasoning", "text", "tool"]
Finish = Literal["stop", "length", "sequence", "tool"]


@dataclass(frozen=True)
class Ask:
    """What a request asks for."""

    api: Api
    model: str
    prompt: str = ""
    stream: bool = False
    n: int = 1
    tools: tuple[Tool, ...] = ()
    required: bool = False
    """The reply must be a tool call (``tool_choice``)."""
    parallel: bool = True
    called: tuple[str, ...] = ()
    """Names of the tools called since the user spoke."""
    results: tuple[str, ...] = ()
    """What those tools returned."""
    reasoning: bool = False
    preface: bool = False
    """Say a sentence before a tool call, as Claude does."""
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    output_schema: dict[str, Any] | None = None
    """The reply must be JSON of this schema."""
    include_usage: bool = False
    input_tokens: int = 1
    echo: dict[str, Any] = field(default_factory=dict[str, Any])
    """Fields of the request that the reply repeats (Responses API)."""


class Piece(NamedTuple):
    """One token: what it belongs to, and for a tool call which one."""

    kind: Kind
    call: int
    token: str


class Call(NamedTuple):
    """A tool call of a reply."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Reply:
    """One choice: its tokens in the order they are sent."""

    pieces: tuple[Piece, ...]
    calls: tuple[Call, ...]
    finish: Finish
    stopped_by: str | None = None

    def joined(self, kind: Kind, *, call: int = 0, upto: int | None = None) -> str:
        """Join the text of one kind, of the first ``upto`` tokens or of all."""
        return "".join(
            piece.token
            for piece in self.pieces[:upto]
            if piece.kind == kind and (kind != "tool" or piece.call == call)
        )

    @property
    def text(self) -> str:
        return self.joined("text")

    @property
    def reasoning(self) -> str:
        return self.joined("reasoning")

    @property
    def reasoning_tokens(self) -> int:
        return sum(piece.kind == "reasoning" for piece in self.pieces)


def plan(ask: Ask, *, length: int | None = None) -> tuple[Reply, ...]:
    """Decide on every reply to ``ask`` before the first token goes out.

    :param length: cut or stretch the prose to exactly this many tokens.
    """
    return tuple(_reply(ask, choice, length) for choice in range(ask.n))


def _reply(ask: Ask, choice: int, length: int | None) -> Reply:
    pieces: list[Piece] = []
    if ask.reasoning:
        thoughts = _prose.reason(ask.prompt, choice=choice)
        pieces += [Piece("reasoning", 0, token) for token in _prose.tokenize(thoughts)]
    tools = _tools_to_call(ask)
    calls = tuple(
        Call(secrets.token_hex(12), tool.name, arguments_for(tool, ask.prompt)) for tool in tools
    )
    finish: Finish = "tool" if calls else "stop"
    stopped_by: str | None = None
    if not calls:
        text, stopped_by = _stop_at(_text(ask, choice, length), ask.stop)
        finish = "sequence" if stopped_by is not None else "stop"
        pieces += [Piece("text", 0, token) for token in _prose.tokenize(text)[:length]]
    elif ask.preface:
        pieces += [Piece("text", 0, token) for token in _prose.tokenize(_prose.preface(ask.prompt))]
    for index, call in enumerate(calls):
        pieces += [Piece("tool", index, token) for token in _prose.tokenize(call.arguments)]
    if ask.max_tokens is not None and len(pieces) > ask.max_tokens:
        del pieces[ask.max_tokens :]
        finish, stopped_by = "length", None
        begun = {piece.call for piece in pieces if piece.kind == "tool"}
        calls = tuple(
            call._replace(arguments="".join(p.token for p in pieces if p[:2] == ("tool", index)))
            for index, call in enumerate(calls)
            if index in begun
        )
    return Reply(tuple(pieces), calls, finish, stopped_by)


def _tools_to_call(ask: Ask) -> tuple[Tool, ...]:
    """Call tools once after the user spoke; where a call is required, each tool in its turn."""
    left = tuple(tool for tool in ask.tools if tool.name not in ask.called)
    if ask.called or ask.results:
        return left[:1] if ask.required else ()
    return choose_tools(left, ask.prompt, parallel=ask.parallel)


def _text(ask: Ask, choice: int, length: int | None) -> str:
    if ask.output_schema is not None:
        return dumps(example_for(ask.output_schema, ask.prompt))
    if ask.results and length is None:
        return _prose.answer(ask.prompt, ask.results, choice=choice)
    return _prose.compose(ask.prompt, choice=choice, length=length)


def _stop_at(text: str, stops: tuple[str, ...]) -> tuple[str, str | None]:
    found = [(text.find(stop), stop) for stop in stops if stop and stop in text]
    if not found:
        return text, None
    position, stop = min(found)
    return text[:position], stop
