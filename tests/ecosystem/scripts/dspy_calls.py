"""DSPy, streamed."""

import asyncio
import json
import sys

import dspy

text = ""


async def main():
    global text
    dspy.configure(lm=dspy.LM(sys.argv[1], cache=False, engine="litellm"))
    answer = dspy.Predict("question -> answer")
    program = dspy.streamify(
        answer, stream_listeners=[dspy.streaming.StreamListener(signature_field_name="answer")]
    )
    async for item in program(question="What is the weather in Oslo?"):
        if isinstance(item, dspy.Prediction):
            text = f"[[ ## answer ## ]]\n{item.answer}\n\n[[ ## completed ## ]]"
    print(json.dumps({"text": text}))


asyncio.run(main())
