"""An agent of Microsoft's Agent Framework, streamed."""

import asyncio
import json
import os

from agent_framework.openai import OpenAIChatClient

text, calls = "", []


def get_weather(city: str) -> str:
    """Get the weather."""
    calls.append(["get_weather", {"city": city}])
    return "rain"


async def main():
    global text
    client = OpenAIChatClient(model="m", api_key="x", base_url=os.environ["OPENAI_BASE_URL"])
    agent = client.as_agent(instructions="Help.", tools=[get_weather])
    async for update in agent.run("What is the weather in Oslo?", stream=True):
        # A message comes once more as a whole at its end, to replace its pieces.
        pieces = [c for c in update.contents if c.type == "text" and c.merge_mode != "replace"]
        text += "".join(piece.text for piece in pieces)
    print(json.dumps({"text": text, "calls": calls}))


asyncio.run(main())
