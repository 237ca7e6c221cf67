"""OpenAI's Agents SDK over a WebSocket that it opens itself, without the SDK below."""

import os
import subprocess
from pathlib import Path

from tests.adapters.websockets.server import SocketServer
from tests.ecosystem.environments import environment_for
from tokenwire import open_sink

SCRIPT = Path(__file__).with_name("scripts") / "openai_agents_socket.py"
ITEM = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress"}
PLACE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
REPLY = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "in_progress",
    "model": "m",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
}
PART = {"type": "output_text", "text": "It rains.", "annotations": []}
DONE = {**ITEM, "status": "completed", "content": [PART]}
USAGE = {
    "input_tokens": 1,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 2,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 3,
}
EVENTS = [
    {"type": "response.created", "response": REPLY},
    {"type": "response.output_item.added", "output_index": 0, "item": {**ITEM, "content": []}},
    {"type": "response.content_part.added", "part": {**PART, "text": ""}, **PLACE},
    {"type": "response.output_text.delta", "delta": "It ", "logprobs": [], **PLACE},
    {"type": "response.output_text.delta", "delta": "rains.", "logprobs": [], **PLACE},
    {"type": "response.output_item.done", "output_index": 0, "item": DONE},
    {
        "type": "response.completed",
        "response": {**REPLY, "status": "completed", "output": [DONE], "usage": USAGE},
    },
]


def test_openai_agents_in_websocket_mode(shared_redis):
    programs = environment_for(("openai-agents",))
    command = [programs / "tokenwire", "run", "--to", shared_redis.url, "--channel", "sockets"]
    with SocketServer() as server:
        process = subprocess.Popen(
            [*command, "--", programs / "python", SCRIPT],
            env={**os.environ, "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "unused"},
            stdout=subprocess.PIPE,
            text=True,
        )
        request = server.next_event()
        assert request is not None
        assert request["type"] == "response.create"
        server.send(*[{**event, "sequence_number": n} for n, event in enumerate(EVENTS)])
        output, _ = process.communicate(timeout=120)
    assert output.strip() == "It rains."
    with open_sink(shared_redis.url) as sink:
        (response,) = sink.history("sockets").items
    assert (response.state, response.text) == ("complete", "It rains.")
    assert response.usage is not None
    assert response.usage["total_tokens"] == 3
