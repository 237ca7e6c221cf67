"""What a program with types makes of tokenwire: checked by mypy, pyright and ty, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import tokenwire
from tokenwire import (
    CancelOutcome,
    ChannelInfo,
    Deleted,
    DeltaEvent,
    Event,
    Page,
    PartWriter,
    Receipt,
    Response,
    ResponseSummary,
    ResponseWriter,
    Retention,
    Sink,
    Watch,
)
from tokenwire.backend import Backend
from tokenwire.events import InputEvent
from tokenwire.testing import BackendContract, FaultyBackend, Publish, assert_streamed


def produce(sink: Sink) -> Receipt:
    with sink.respond("chat-42", metadata={"user": "u1"}) as response:
        writer: ResponseWriter = response
        written: bool = writer.write("Hello", kind="reasoning")
        call: PartWriter = writer.tool_call("search", "c1")
        call.write("{}")
        writer.finish("stop", usage={"output_tokens": 1})
    assert written
    return response.wait(10)


def consume(sink: Sink) -> Iterator[str]:
    watch: Watch = sink.watch("chat-42", rewind="2m")
    for event in watch:
        one: Event = event
        if isinstance(one, DeltaEvent):
            yield one.text
    page: Page | None = sink.history("chat-42")
    while page is not None:
        for item in page.items:
            kept: Response = item
            yield kept.text
        page = page.next()


async def serve(sink: Sink) -> AsyncIterator[InputEvent]:
    outcome: CancelOutcome = await sink.acancel("chat-42", "r1")
    assert outcome.acknowledged
    async with sink.respond() as response:
        response.write("Hello")
    async for question in sink.inputs("chat-42"):
        yield question


def administer(sink: Sink) -> None:
    deleted: Deleted = sink.delete_user("u1")
    channels: list[ChannelInfo] = list(sink.list_channels())
    lines: list[bytes] = list(sink.export_channels())
    sink.set_retention("chat-42", Retention(age=60.0))
    refused: dict[str, str] = sink.import_channels(lines).refused
    print(deleted.responses, channels, refused)

    def observe(summary: ResponseSummary) -> None:
        print(summary.tokens)

    sink.add_response_observer(observe)


def check(backend: Backend) -> Response:
    with tokenwire.Sink(FaultyBackend(backend, publish=[Publish.FAIL])) as sink:
        return assert_streamed("chat-42", text="Hello", tools=["search"], sink=sink)


class TestMine(BackendContract):
    patience = 10.0
