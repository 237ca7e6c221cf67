"""A LlamaIndex workflow of two steps, whose models answer side by side; a screen watches it.

    pip install "tokenwire[llama-index]" llama-index-llms-openai
    python examples/llama_index_workflow.py

With $OPENAI_API_KEY set it talks to OpenAI; without, to a provider that it starts itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Generator
from typing import Any

from llama_index.core.instrumentation import (  # type: ignore[attr-defined]
    get_dispatcher,  # pyright: ignore[reportPrivateImportUsage]
)
from llama_index.core.workflow import (
    Context,
    Event,
    StartEvent,
    StopEvent,
    Workflow,
    step,  # pyright: ignore[reportUnknownVariableType]
)
from llama_index.llms.openai import OpenAI

import tokenwire
from tokenwire_adapters.llama_index import TokenwireEventHandler
from tokenwire_adapters.testing.provider import serve_in_thread

CHANNEL = "chat-42"
TOPICS = ("tea", "rivers")


@contextlib.contextmanager
def provider() -> Generator[dict[str, Any], None, None]:
    """Arguments of the model: none where there is a key, else the bundled provider's."""
    if os.environ.get("OPENAI_API_KEY"):
        yield {}
        return
    with serve_in_thread(pace=float(os.environ.get("PACE", "60"))) as local:
        yield {"api_base": local.base_url, "api_key": "unused"}


class Topic(Event):
    """One topic to write about."""

    topic: str


class Paragraph(Event):
    """What was written about one."""

    text: str


class Writing(Workflow):
    """An ordinary workflow. It knows nothing of tokenwire."""

    def __init__(self, llm: OpenAI, **options: Any) -> None:
        super().__init__(**options)
        self.llm = llm

    @step
    async def plan(self, context: Context, event: StartEvent) -> Topic | None:
        """Hand out the topics, which are worked on at the same time."""
        for topic in event.topics:
            context.send_event(Topic(topic=topic))
        return None

    @step(num_workers=2)  # pyright: ignore[reportUntypedFunctionDecorator]
    async def write(self, event: Topic) -> Paragraph:
        """Write about one topic."""
        text = ""
        async for piece in await self.llm.astream_complete(f"Write briefly about {event.topic}."):
            text = piece.text
        return Paragraph(text=text)

    @step
    async def collect(self, context: Context, event: Paragraph) -> StopEvent | None:
        """Wait for all of them."""
        paragraphs: Any = context.collect_events(event, [Paragraph] * len(TOPICS))
        return paragraphs and StopEvent(result=[paragraph.text for paragraph in paragraphs])


async def main() -> None:
    with provider() as options:
        async with tokenwire.open_sink("memory://") as sink:
            get_dispatcher().add_event_handler(TokenwireEventHandler(sink, channel=CHANNEL))
            llm = OpenAI(model=os.environ.get("OPENAI_MODEL", "gpt-4o-mini"), **options)
            workflow: Any = Writing(llm, timeout=120)
            paragraphs = await workflow.run(topics=TOPICS)
            responses = (await sink.ahistory(CHANNEL)).items
            for response in responses:
                print(f"[{response.state}, run {response.run}]\n{response.text}\n")
            same = sorted(paragraphs) == sorted(response.text for response in responses)
            print(f"[screens saw what the workflow got: {same}]")
            print(f"[runs: {len({response.run for response in responses})}]")


if __name__ == "__main__":
    asyncio.run(main())
