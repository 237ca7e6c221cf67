#!/usr/bin/env bash
# Microsoft Agent Framework's A2AAgent takes the address of an A2A agent, `A2AAgent(url=…)`, as its README shows. Then
# `run(…, stream=True)` does not stream: it makes up a card that says nothing of streaming instead of asking for the
# agent's own, so it calls `SendMessage` and gives the whole answer as one update when the task is over. With the same
# agent's card, `A2AAgent(agent_card=…)`, it calls `SendStreamingMessage` and each piece arrives as it is written.
#
# agent-framework-a2a 1.0.0b261022 (a beta) with agent-framework-core 1.23.0, a2a-sdk 1.3.0, 2026-11-29. Output seen:
#   url: SendMessage, updates ['It rains in Paris.']
#   agent_card: SendStreamingMessage, updates ['It ', 'rains ', 'in ', 'Paris.']
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
uv venv -q "$folder/venv"
uv pip install -q --python "$folder/venv/bin/python" agent-framework-a2a==1.0.0b261022 agent-framework-core==1.23.0 \
  'a2a-sdk[http-server]==1.3.0' uvicorn==0.54.0
cat >"$folder/probe.py" <<'PY'
import asyncio
import json
import logging
import socket
import sys

import httpx
import uvicorn
from a2a.client import A2ACardResolver
from a2a.helpers import new_task_from_user_message, new_text_part
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types.a2a_pb2 import AgentCapabilities, AgentCard, AgentInterface, AgentSkill
from agent_framework_a2a import A2AAgent
from starlette.applications import Starlette

PIECES = ["It ", "rains ", "in ", "Paris."]
methods = []


class Executor(AgentExecutor):
    async def execute(self, context, event_queue):
        task = new_task_from_user_message(context.message)
        await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        await updater.start_work()
        for index, piece in enumerate(PIECES):
            last = index == len(PIECES) - 1
            await updater.add_artifact([new_text_part(piece)], artifact_id="answer", append=index > 0, last_chunk=last)
        await updater.complete()

    async def cancel(self, context, event_queue):
        raise NotImplementedError


def application(url):
    card = AgentCard(
        name="weather",
        description="Knows the weather.",
        version="1",
        skills=[AgentSkill(id="weather", name="weather", description="The weather.", tags=["weather"])],
        supported_interfaces=[AgentInterface(url=f"{url}/", protocol_binding="JSONRPC", protocol_version="1.0")],
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
    )
    handler = DefaultRequestHandler(agent_executor=Executor(), task_store=InMemoryTaskStore(), agent_card=card)
    routes = [*create_jsonrpc_routes(handler, "/"), *create_agent_card_routes(card)]
    starlette = Starlette(routes=routes)

    async def recorded(scope, receive, send):
        async def receive_recorded():
            message = await receive()
            if message.get("body"):
                methods.append(json.loads(message["body"])["method"])
            return message

        await starlette(scope, receive_recorded, send)

    return recorded


async def main():
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(application(url), log_level="critical", lifespan="off"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    async with httpx.AsyncClient() as client:
        card = await A2ACardResolver(client, url).get_agent_card()
    seen = {}
    for name, value in (("url", f"{url}/"), ("agent_card", card)):
        methods.clear()
        async with A2AAgent(**{name: value}) as agent:
            updates = [update.text async for update in agent.run("Does it rain?", stream=True)]
        seen[name] = list(methods), updates
        print(f"{name}: {', '.join(methods)}, updates {updates}")
    server.should_exit = True
    await serving
    return seen


logging.disable(logging.CRITICAL)
seen = asyncio.run(asyncio.wait_for(main(), 60))
sys.exit(seen != {"url": (["SendMessage"], ["".join(PIECES)]), "agent_card": (["SendStreamingMessage"], PIECES)})
PY
"$folder/venv/bin/python" "$folder/probe.py" 2>"$folder/log" || { status=$?; tail -5 "$folder/log" >&2; exit "$status"; }
