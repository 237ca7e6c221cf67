"""An agent of Pydantic AI, streamed; the model is the argument."""

import asyncio
import json
import sys

from pydantic_ai import Agent, AgentRunResultEvent, PartDeltaEvent, PartStartEvent

agent = Agent(sys.argv[1])
text, calls = "", []


@agent.tool_plain
def get_weather(city: str) -> str:
    """Get the weather."""
    calls.append(["get_weather", {"city": city}])
    return "rain"


async def main():
    global text
    async with agent.run_stream_events("What is the weather in Oslo?") as events:
        async for event in events:
            if isinstance(event, PartStartEvent) and event.part.part_kind == "text":
                text += event.part.content
            elif isinstance(event, PartDeltaEvent) and event.delta.part_delta_kind == "text":
                text += event.delta.content_delta
            elif isinstance(event, AgentRunResultEvent):
                usage = event.result.usage
    counts = [usage.input_tokens, usage.output_tokens]
    print(json.dumps({"text": text, "calls": calls, "usage": counts}))


asyncio.run(main())
