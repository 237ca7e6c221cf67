"""An agent of Agno, streamed; the argument names the model's class."""

import json
import sys
from importlib import import_module

from agno.agent import Agent

module, name, *model_id = sys.argv[1].split(":")
model = getattr(import_module(f"agno.models.{module}"), name)(id=model_id[0] if model_id else "m")
text, calls = "", []


def get_weather(city: str) -> str:
    """Get the weather."""
    calls.append(["get_weather", {"city": city}])
    return "rain"


agent = Agent(model=model, tools=[get_weather])
for event in agent.run("What is the weather in Oslo?", stream=True):
    text += event.content or ""
print(json.dumps({"text": text, "calls": calls}))
