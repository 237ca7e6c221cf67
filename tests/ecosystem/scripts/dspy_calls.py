"""DSPy, streamed."""

import asyncio
import json
import sys

import dspy

text = ""


async def main():
    global text
    dspy.configure(lm=dspy.LM(sys.argv[1], cache=False))
    answer = dspy.Predict("question -> answer")
    program = dspy.streamify(
        answer, stream_listeners=[dspy.streaming.StreamListener(signature_field_name="answer")]
    )
    async for _ in program(question="What is the weather in Oslo?"):
        pass
    print(json.dumps({}))


asyncio.run(main())
