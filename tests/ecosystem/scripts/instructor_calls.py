"""Instructor: a structured reply, streamed as partial objects; the argument is the provider."""

import json
import sys

import instructor
from pydantic import create_model

Weather = create_model("get_weather", city=(str, ...))
options = {"max_tokens": 1000} if sys.argv[1].startswith("anthropic") else {}
client = instructor.from_provider(sys.argv[1])
for partial in client.create(
    response_model=instructor.Partial[Weather],
    messages=[{"role": "user", "content": "What is the weather in Oslo?"}],
    stream=True,
    **options,
):
    last = partial
print(json.dumps({"calls": [["get_weather", {"city": last.city}]]}))
