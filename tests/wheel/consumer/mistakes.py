"""Each comment lets one mistake pass. A checker that does not see the mistake, as it sees none in
what has no types, complains of the comment."""

from __future__ import annotations

from openai import OpenAI

import tokenwire
from tokenwire.testing import assert_streamed
from tokenwire_adapters import openai
from tokenwire_adapters.asgi import Gateway, Tokens
from tokenwire_adapters.testing.provider import Provider
from tokenwire_adapters.ui import Exchange


def of_the_core(sink: tokenwire.Sink) -> str:
    with sink.respond("chat-42") as response:
        response.write(b"Hello")  # type: ignore
    with tokenwire.channel("chat-42") as name:
        number: int = name  # type: ignore
    for event in sink.watch(42):  # type: ignore
        event.txt  # type: ignore
    assert_streamed("chat-42", text=number)  # type: ignore
    return sink.history("chat-42").items  # type: ignore


def of_the_adapters(sink: tokenwire.Sink, provider: Provider, exchange: Exchange) -> int:
    openai.wrap(OpenAI(), "chat-42")  # type: ignore
    Gateway(sink, authorise=None)  # type: ignore
    Tokens("secret").check(b"token")  # type: ignore
    provider.script(42)  # type: ignore
    exchange.caller.principle  # type: ignore
    number: int = provider.base_url  # type: ignore
    return number
