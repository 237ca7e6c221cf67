"""An LLM of CrewAI, called as its agents call it; the argument is the model."""

import json
import sys

from crewai import LLM, Agent, Crew, Task
from crewai.events import BaseEventListener, LLMStreamChunkEvent
from crewai.tools import tool

text, calls = "", []


@tool("get_weather")
def get_weather(city: str) -> str:
    """Get the weather."""
    calls.append(["get_weather", {"city": city}])
    return "rain"


class Listener(BaseEventListener):
    def setup_listeners(self, bus):
        @bus.on(LLMStreamChunkEvent)
        def take(source, event):
            global text
            if event.tool_call is None:
                text += event.chunk or ""


listener = Listener()
agent = Agent(
    role="Helper",
    goal="Help",
    backstory="Helps",
    tools=[get_weather],
    llm=LLM(model=sys.argv[1], stream=True),
)
task = Task(description="What is the weather in Oslo?", expected_output="A sentence", agent=agent)
Crew(agents=[agent], tasks=[task], verbose=False).kickoff()
print(json.dumps({"text": text, "calls": calls}))
