"""An agent of Google's ADK, streamed."""

import asyncio
import json

from google.adk.agents import Agent
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.runners import InMemoryRunner
from google.genai import types

text, calls = "", []


def get_weather(city: str) -> str:
    """Get the weather."""
    calls.append(["get_weather", {"city": city}])
    return "rain"


async def main():
    global text
    agent = Agent(name="helper", model="gemini-3", instruction="Help.", tools=[get_weather])
    runner = InMemoryRunner(agent=agent, app_name="app")
    session = await runner.session_service.create_session(app_name="app", user_id="u")
    message = types.Content(role="user", parts=[types.Part(text="What is the weather in Oslo?")])
    async for event in runner.run_async(
        user_id="u",
        session_id=session.id,
        new_message=message,
        run_config=RunConfig(streaming_mode=StreamingMode.SSE),
    ):
        if event.partial and event.content:
            text += "".join(p.text or "" for p in event.content.parts if not p.thought)
    print(json.dumps({"text": text, "calls": calls}))


asyncio.run(main())
