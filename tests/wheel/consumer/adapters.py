"""The same for the adapters: an agent, a gateway, a protocol of one's own and tests."""

from __future__ import annotations

from collections.abc import Sequence

from anthropic import Anthropic
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

import tokenwire
from tokenwire.context import ContextBlock
from tokenwire_adapters import anthropic, auto, openai
from tokenwire_adapters.asgi import Gateway, Grant, Problem, Tokens, TokenwireMiddleware, mint_token
from tokenwire_adapters.pytest_plugin import Faults
from tokenwire_adapters.testing.provider import Provider, RequestRecord, ScriptedReply, ToolCall
from tokenwire_adapters.ui import Caller, Exchange, ProtocolRoutes, Request, Route, Settled


def answer(sink: tokenwire.Sink, messages: list[ChatCompletionMessageParam]) -> str:
    client: OpenAI = openai.wrap(OpenAI(), sink, channel="chat-42")
    other: Anthropic = anthropic.wrap(Anthropic(), sink, channel=lambda: "chat-42")
    block: ContextBlock = tokenwire.channel("chat-42", metadata={"user": "u1"})
    with block as name:
        stream = client.chat.completions.create(model="m", messages=messages, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    with other.messages.stream(model="m", max_tokens=1, messages=[]) as reply:
        text += reply.get_final_text()
    auto.install(sink)
    return name + text


def gateway(sink: tokenwire.Sink) -> TokenwireMiddleware:
    tokens = Tokens("a secret of at least thirty-two bytes")
    grant: Grant = tokens.check(mint_token("a secret of at least thirty-two bytes"))
    if not grant.allows("chat-42", "subscribe"):
        raise Problem("forbidden", "not yours")
    return TokenwireMiddleware(Gateway(sink, tokens=tokens))


class Routes(ProtocolRoutes):
    def find(self, names: Sequence[str]) -> Route | None:
        return Route("answer", {"POST": self.answer}) if not names else None

    async def answer(self, exchange: Exchange) -> None:
        request: Request = exchange.request
        caller: Caller = exchange.caller
        channel = await self.authorize(exchange, request.parameter("chat") or "", "input")
        settled: Settled | None = await self.settle(exchange, channel, [], "run-1")
        await self.send_json(exchange, [caller.principal, settled and settled.follow])


def test_an_agent(tokenwire_provider: Provider, tokenwire_faults: Faults) -> None:
    tokenwire_provider.script(ScriptedReply(tool_calls=[("search", {"q": "x"})]))
    tokenwire_faults.kill()
    record: RequestRecord = tokenwire_provider.wait_for_replies(1)
    call: ToolCall = record.tool_calls[0]
    assert call.name == "search"
