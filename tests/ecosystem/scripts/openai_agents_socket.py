"""OpenAI's Agents SDK in its WebSocket mode."""

import asyncio

import agents

agents.set_default_openai_responses_transport("websocket")
agents.set_tracing_disabled(True)


async def main():
    text = ""
    run = agents.Runner.run_streamed(agents.Agent("helper", model="m"), "Does it rain?")
    async for event in run.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            text += event.data.delta
    print(text)


asyncio.run(main())
