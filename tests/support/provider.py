"""For tests of the local provider: clients of real SDKs, and requests."""

import contextlib

from tests.support.needs import needs

openai = needs("openai")
anthropic = needs("anthropic")

LONG = "tell me a long story"
# Long enough that no test sees the end of a LONG reply at this pace.
SLOW = 30.0
ODD = "naïve e\u0301 茶 👩🏽\u200d🍳 \u2028\u2029\x85 \u202eabc  <b>&amp; \\n \"'` \x00 \U0010fffd"

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
    "required": ["city", "days"],
}
TIME = {"type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}}
QUESTION = "What is the weather in São Paulo for 4 days?"
CHAT_TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "get_time", "parameters": TIME}},
]
RESPONSES_TOOLS = [
    {"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": False},
    {"type": "function", "name": "get_time", "parameters": TIME, "strict": False},
]
ANTHROPIC_TOOLS = [
    {"name": "get_weather", "input_schema": WEATHER},
    {"name": "get_time", "input_schema": TIME},
]

clients = contextlib.ExitStack()
"""Clients that a test opened; its module closes them at the end of each test."""


def user(text):
    return [{"role": "user", "content": text}]


def opened(client):
    """Close the client at the end of the test."""
    return clients.enter_context(client)


def chat_client(provider):
    return opened(openai.OpenAI(base_url=provider.base_url, api_key="unused", max_retries=0))


def async_chat_client(provider):
    return openai.AsyncOpenAI(base_url=provider.base_url, api_key="unused", max_retries=0)


def claude_client(provider):
    return opened(anthropic.Anthropic(base_url=provider.base_url, api_key="unused", max_retries=0))


def async_claude_client(provider):
    return anthropic.AsyncAnthropic(base_url=provider.base_url, api_key="unused", max_retries=0)
