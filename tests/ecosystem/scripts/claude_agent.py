"""Claude's agent SDK, which runs Claude Code: partial messages of one query."""

import asyncio
import json

from claude_agent_sdk import ClaudeAgentOptions, StreamEvent, query

text, reasoning = "", ""


async def main():
    global text, reasoning
    options = ClaudeAgentOptions(include_partial_messages=True, allowed_tools=[], max_turns=1)
    async for message in query(prompt="What is the weather in Oslo?", options=options):
        if isinstance(message, StreamEvent) and message.event["type"] == "content_block_delta":
            text += message.event["delta"].get("text", "")
            reasoning += message.event["delta"].get("thinking", "")
    print(json.dumps({"text": text, "reasoning": reasoning}))


asyncio.run(main())
