"""An agent of OpenAI's Agents SDK, streamed, on Responses or on Chat Completions."""

import asyncio
import json
import sys

from agents import Agent, Runner, function_tool, set_default_openai_api

set_default_openai_api(sys.argv[1])
text, calls = "", []


@function_tool
def get_weather(city: str) -> str:
    """Get the weather."""
    calls.append(["get_weather", {"city": city}])
    return "rain"


async def main():
    global text
    agent = Agent(name="helper", model="gpt-5", tools=[get_weather])
    result = Runner.run_streamed(agent, "What is the weather in Oslo?")
    async for event in result.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            text += event.data.delta
    print(json.dumps({"text": text, "calls": calls}))


asyncio.run(main())
