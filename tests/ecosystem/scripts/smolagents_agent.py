"""A ToolCallingAgent of smolagents, streamed; the argument is the kind of model."""

import json
import os
import sys

from smolagents import ChatMessageStreamDelta, tool
from smolagents.models import LiteLLMModel, OpenAIModel

text, calls = "", []


def make_model(kind):
    if kind == "openai":
        return OpenAIModel("m", api_base=os.environ["OPENAI_BASE_URL"], api_key="x")
    return LiteLLMModel(kind)


@tool
def get_weather(city: str) -> str:
    """Get the weather.

    Args:
        city: the city
    """
    calls.append(["get_weather", {"city": city}])
    return "rain"


model = make_model(sys.argv[1])
for _ in range(2):
    for delta in model.generate_stream(
        [{"role": "user", "content": [{"type": "text", "text": "What is the weather in Oslo?"}]}],
        tools_to_call_from=[get_weather],
    ):
        assert isinstance(delta, ChatMessageStreamDelta)
        text += delta.content or ""
print(json.dumps({"text": text}))
