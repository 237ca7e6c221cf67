"""What a wrapped client costs per token, as a percentage of what the SDK costs alone.

    python benchmarks/sdk_overhead.py [--pairs 60] [--events 300]     # as fast as the SDK can read
    python benchmarks/sdk_overhead.py --pace 100 [--seconds 3] [--pairs 10]   # as a model sends

Without a pace, each stream is served from memory by a transport of httpx's own kind, so that only
the SDK's work (and ours) is measured, not the network. With one, a server in another process sends
so many tokens a second over loopback: each token then wakes the program, as a model's do.
How the figures are made, and what they mean: overhead_common.py.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import importlib
import json
from typing import Any

import anthropic
import openai
from overhead_common import compare, provider

import tokenwire
from tokenwire_adapters.anthropic import wrap as wrap_anthropic
from tokenwire_adapters.openai import wrap as wrap_openai

CHAT: dict[str, Any] = {"model": "m", "messages": [], "stream": True}
RESPONSES: dict[str, Any] = {"model": "m", "input": "x", "stream": True}
MESSAGES: dict[str, Any] = {"model": "m", "max_tokens": 99_999, "messages": [], "stream": True}


def chat_body(events: int) -> bytes:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        data = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [choice],
        }
        return b"data: " + json.dumps(data).encode() + b"\n\n"

    middle = b"".join(chunk({"content": f" word{i}"}) for i in range(events))
    return chunk({"role": "assistant"}) + middle + chunk({}, "stop") + b"data: [DONE]\n\n"


def responses_body(events: int) -> bytes:
    def event(kind: str, **fields: Any) -> bytes:
        data = json.dumps({"type": kind, "sequence_number": 1, **fields})
        return f"event: {kind}\ndata: {data}\n\n".encode()

    response = {"id": "resp_1", "object": "response", "output": [], "status": "completed"}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
    middle = b"".join(
        event("response.output_text.delta", delta=f" word{i}", **place) for i in range(events)
    )
    return middle + event("response.completed", response={**response, "usage": None})


def messages_body(events: int) -> bytes:
    def event(kind: str, **fields: Any) -> bytes:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()

    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "m"}
    begin = event("message_start", message={**message, "usage": usage, "stop_reason": None})
    begin += event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    middle = b"".join(
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": f" word{i}"})
        for i in range(events)
    )
    end = event("content_block_stop", index=0)
    end += event("message_delta", delta={"stop_reason": "end_turn"}, usage=usage)
    return begin + middle + end + event("message_stop")


def http_of(sdk: Any) -> Any:
    """The HTTP library that this version of an SDK is built on."""
    name = sdk.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]
    return importlib.import_module(name)


def transport(sdk: Any, body: bytes) -> Any:
    http = http_of(sdk)
    pieces = [body[at : at + 65536] for at in range(0, len(body), 65536)]

    class Body(http.SyncByteStream, http.AsyncByteStream):  # type: ignore[misc, name-defined]
        def __iter__(self) -> Any:
            return iter(pieces)

        async def __aiter__(self) -> Any:
            for piece in pieces:
                yield piece

    def answer(_: Any) -> Any:
        headers = {"content-type": "text/event-stream"}
        return http.Response(200, headers=headers, stream=Body())

    return http.MockTransport(answer)


async def _adrain(create: Any, arguments: dict[str, Any]) -> None:
    async for _ in await create(**arguments):
        pass


def cases(events: int, sink: tokenwire.Sink) -> list[tuple[str, Any, Any]]:
    """Name, a bare run, a wrapped run."""
    found: list[tuple[str, Any, Any]] = []
    runner = asyncio.Runner()
    for sdk, wrap, label, body, arguments, create in (
        (openai, wrap_openai, "openai chat", chat_body, CHAT, "chat.completions"),
        (openai, wrap_openai, "openai responses", responses_body, RESPONSES, "responses"),
        (anthropic, wrap_anthropic, "anthropic messages", messages_body, MESSAGES, "messages"),
    ):
        served = transport(sdk, body(events))
        options = {"api_key": "x", "base_url": "http://x.test", "max_retries": 0}
        http = http_of(sdk)
        pair = []
        for wrapped in (False, True):
            client: Any = getattr(sdk, "OpenAI" if sdk is openai else "Anthropic")(
                http_client=http.Client(transport=served), **options
            )
            aclient: Any = getattr(sdk, "AsyncOpenAI" if sdk is openai else "AsyncAnthropic")(
                http_client=http.AsyncClient(transport=served), **options
            )
            if wrapped:
                wrap(client, sink, channel=label)
                wrap(aclient, sink, channel=label)
            for part in create.split("."):
                client, aclient = getattr(client, part), getattr(aclient, part)
            pair.append((client.create, aclient.create))

        def sync(create: Any, arguments: dict[str, Any] = arguments) -> Any:
            def run() -> None:
                for _ in create(**arguments):
                    pass

            return run

        def coroutine(create: Any, arguments: dict[str, Any] = arguments) -> Any:
            return lambda: runner.run(_adrain(create, arguments))

        (bare, abare), (tapped, atapped) = pair
        found.append((f"{label}, sync", sync(bare), sync(tapped)))
        found.append((f"{label}, async", coroutine(abare), coroutine(atapped)))
    return found


def paced(
    url: str, wrapped: bool, sink: tokenwire.Sink, closing: contextlib.ExitStack
) -> list[tuple[str, Any]]:
    """Names, and runs that read a reply of the server."""
    options: dict[str, Any] = {"api_key": "x", "max_retries": 0}
    chat: Any = closing.enter_context(openai.OpenAI(base_url=url, **options))
    messages: Any = closing.enter_context(
        anthropic.Anthropic(base_url=url.removesuffix("/v1"), **options)
    )
    if wrapped:
        wrap_openai(chat, sink, channel="chat")
        wrap_anthropic(messages, sink, channel="messages")
    asked: Any = [{"role": "user", "content": "hi"}]

    def read(create: Any, arguments: dict[str, Any]) -> None:
        for _ in create(**{**arguments, "messages": asked}):
            pass

    return [
        ("openai chat", functools.partial(read, chat.chat.completions.create, CHAT)),
        ("anthropic messages", functools.partial(read, messages.messages.create, MESSAGES)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--events", type=int, default=300, help="tokens of a run, without a pace")
    parser.add_argument("--pace", type=float, help="tokens a second")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a run, with a pace")
    told = parser.parse_args()
    print(f"openai {openai.__version__}, anthropic {anthropic.__version__}")
    with tokenwire.open_sink("memory://benchmark") as sink, contextlib.ExitStack() as closing:
        if told.pace is None:
            for name, bare, tapped in cases(told.events, sink):
                compare(name, bare, tapped, pairs=told.pairs or 60, tokens=told.events)
            return
        tokens = max(1, round(told.pace * told.seconds))
        url = closing.enter_context(provider(tokens, told.pace))
        both = (paced(url, wrapped, sink, closing) for wrapped in (False, True))
        for (name, bare), (_, tapped) in zip(*both, strict=True):
            compare(name, bare, tapped, pairs=told.pairs or 10, tokens=tokens)


if __name__ == "__main__":
    main()
