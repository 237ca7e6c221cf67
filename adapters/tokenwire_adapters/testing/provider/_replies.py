"""Plans replies: a `ModelRequest` becomes one `Reply` for each choice.

Both are independent of the APIs, which `_wires` lists.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal, NamedTuple

from tokenwire_adapters.testing.provider._json import dumps
from tokenwire_adapters.testing.provider._script import (
    Finish,
    Interruption,
    ScriptedReply,
    interruption_of,
)
from tokenwire_adapters.testing.provider._text import answer, compose, preface, reason, tokenize
from tokenwire_adapters.testing.provider._tools import (
    Tool,
    arguments_for,
    choose_tools,
    example_for,
)

__all__ = ["Api", "Kind", "ModelRequest", "Reply", "Token", "ToolCall", "plan_replies"]

Api = Literal[
    "chat",
    "responses",
    "messages",
    "gemini",
    "interactions",
    "mistral",
    "cohere",
    "ollama",
    "ollama-generate",
    "converse",
    "invoke",
]
Kind = Literal["reasoning", "text", "tool"]


@dataclass(frozen=True)
class ModelRequest:
    """A request for a reply, from any of the APIs."""

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
    """Names of the tools called since the last message of the user."""
    results: tuple[str, ...] = ()
    """Results of those tools."""
    reasoning: bool = False
    preface: bool = False
    """Write a sentence before a tool call, as Claude does."""
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    output_schema: dict[str, Any] | None = None
    """The reply must be JSON of this schema."""
    include_usage: bool = False
    input_tokens: int = 1
    echo: dict[str, Any] = field(default_factory=dict[str, Any])
    """Fields of the request that the reply repeats (Responses API)."""
    dialect: str = ""
    """The variant of the API: the name of the field of reasoning (Chat Completions), or
    ``array`` for a JSON array in place of server-sent events (Gemini)."""


class Token(NamedTuple):
    """One token: its kind, its tool call (an index into `Reply.calls`), and its text."""

    kind: Kind
    call: int
    text: str


class ToolCall(NamedTuple):
    """A tool call of a reply. Its arguments are JSON; its id has no prefix of an API."""

    id: str
    name: str
    arguments: str

    @property
    def value(self) -> Any:
        """The arguments as a JSON value, ``{}`` where they are malformed or cut short."""
        try:
            return json.loads(self.arguments or "{}")
        except ValueError:
            return {}


@dataclass(frozen=True)
class Reply:
    """One choice: its tokens in the order they are sent."""

    tokens: tuple[Token, ...]
    calls: tuple[ToolCall, ...]
    finish: Finish
    stopped_by: str | None = None
    """The stop sequence that ended it."""
    interruption: Interruption | None = None
    """Where it breaks off, and how."""

    def joined(self, kind: Kind, *, call: int = 0, upto: int | None = None) -> str:
        """Join the text of one kind, of the first ``upto`` tokens or of all."""
        return "".join(
            token.text
            for token in self.tokens[:upto]
            if token.kind == kind and (kind != "tool" or token.call == call)
        )

    def groups(self) -> list[list[Token]]:
        """The tokens in groups: one of reasoning, one of text, one for each tool call."""
        return [list(group) for _, group in groupby(self.tokens, lambda token: token[:2])]

    @property
    def text(self) -> str:
        return self.joined("text")

    @property
    def reasoning(self) -> str:
        return self.joined("reasoning")

    @property
    def reasoning_tokens(self) -> int:
        return sum(token.kind == "reasoning" for token in self.tokens)


def plan_replies(
    request: ModelRequest, script: ScriptedReply | None = None, *, length: int | None = None
) -> tuple[Reply, ...]:
    """Decide on every reply to a request before the first token is sent.

    :param script: reply with this, whatever the request asks for.
    :param length: shorten or extend the text to exactly this many tokens.
    """
    if script is not None:
        return (_scripted(script),) * request.n
    return tuple(_reply(request, choice, length) for choice in range(request.n))


def _scripted(script: ScriptedReply) -> Reply:
    calls = tuple(
        ToolCall(secrets.token_hex(12), name, value if isinstance(value, str) else dumps(value))
        for name, value in script.tool_calls
    )
    tokens = [
        *_tokens("reasoning", script.reasoning),
        *_tokens("text", script.text),
        *(token for index, call in enumerate(calls) for token in _tokens("tool", call[2], index)),
    ]
    finish = script.finish or ("tool" if calls else "stop")
    interruption = interruption_of(script)
    if interruption is not None:
        interruption = interruption._replace(after=min(interruption.after, len(tokens)))
    return Reply(tuple(tokens), calls, finish, interruption=interruption)


def _tokens(kind: Kind, text: str | Sequence[str], call: int = 0) -> list[Token]:
    pieces = tokenize(text) if isinstance(text, str) else text
    return [Token(kind, call, piece) for piece in pieces]


def _reply(request: ModelRequest, choice: int, length: int | None) -> Reply:
    tokens: list[Token] = []
    if request.reasoning:
        tokens += _tokens("reasoning", reason(request.prompt, choice=choice))
    calls = tuple(
        ToolCall(secrets.token_hex(12), tool.name, arguments_for(tool, request.prompt))
        for tool in _tools_to_call(request)
    )
    finish: Finish = "tool" if calls else "stop"
    stopped_by: str | None = None
    if not calls:
        text, stopped_by = _stop_at(_text(request, choice, length), request.stop)
        finish = "sequence" if stopped_by is not None else "stop"
        tokens += _tokens("text", text)[:length]
    elif request.preface:
        tokens += _tokens("text", preface(request.prompt))
    for index, call in enumerate(calls):
        tokens += _tokens("tool", call.arguments, index)
    if request.max_tokens is not None and len(tokens) > request.max_tokens:
        del tokens[request.max_tokens :]
        finish, stopped_by = "length", None
        started = {token.call for token in tokens if token.kind == "tool"}
        calls = tuple(
            call._replace(arguments="".join(t.text for t in tokens if t[:2] == ("tool", index)))
            for index, call in enumerate(calls)
            if index in started
        )
    return Reply(tuple(tokens), calls, finish, stopped_by)


def _tools_to_call(request: ModelRequest) -> tuple[Tool, ...]:
    """Call tools once after a message of the user; required ones each in its turn."""
    uncalled = tuple(tool for tool in request.tools if tool.name not in request.called)
    if request.called or request.results:
        return uncalled[:1] if request.required else ()
    return choose_tools(uncalled, request.prompt, parallel=request.parallel)


def _text(request: ModelRequest, choice: int, length: int | None) -> str:
    if request.output_schema is not None:
        return dumps(example_for(request.output_schema, request.prompt))
    if request.results and length is None:
        return answer(request.prompt, request.results, choice=choice)
    return compose(request.prompt, choice=choice, length=length)


def _stop_at(text: str, sequences: tuple[str, ...]) -> tuple[str, str | None]:
    positions = [
        (text.find(sequence), sequence) for sequence in sequences if sequence and sequence in text
    ]
    if not positions:
        return text, None
    position, sequence = min(positions)
    return text[:position], sequence
