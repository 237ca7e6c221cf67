#!/usr/bin/env bash
# An A2A agent streams half an answer, then its task fails: the state is FAILED, and its message says why. To these
# clients that is an answer. ADK's RemoteA2aAgent gives the reason as the agent's own words, in a final event without an
# error, and keeps it in the session in place of the answer. Agent Framework's `run` returns the half answer as if it were
# whole, and with `stream=True` the reason is glued to it. Strands returns the reason with the stop reason `end_turn`.
# None of them raises; only who looks into ADK's `custom_metadata` or Strands' `result.state` finds that the task failed.
#
# google-adk 2.13.0 and agent-framework-a2a 1.0.0b261022 (a beta; agent-framework-core 1.23.0) with a2a-sdk 1.3.0,
# strands-agents 1.62.0 with a2a-sdk 0.3.26, 2026-11-29. Output seen:
#   adk: final ['The model is overloaded.'], errors [], in the session 'The model is overloaded.'
#   agent_framework: 'It rains ', streamed 'It rains The model is overloaded.'
#   strands: end_turn, 'The model is overloaded.\n'
set -euo pipefail
folder="$(mktemp -d)"
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$folder"' EXIT
uv venv -q "$folder/venv"
uv pip install -q --python "$folder/venv/bin/python" google-adk==2.13.0 'a2a-sdk[http-server]==1.3.0' uvicorn==0.54.0 \
  agent-framework-a2a==1.0.0b261022 agent-framework-core==1.23.0
uv venv -q "$folder/strands"
uv pip install -q --python "$folder/strands/bin/python" 'strands-agents[a2a]==1.62.0' a2a-sdk==0.3.26
cat >"$folder/server.py" <<'PY'
import logging
import socket

import uvicorn
from a2a.helpers import new_task_from_user_message, new_text_part
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types.a2a_pb2 import AgentCapabilities, AgentCard, AgentInterface, AgentSkill
from starlette.applications import Starlette


class Executor(AgentExecutor):
    async def execute(self, context, event_queue):
        task = new_task_from_user_message(context.message)
        await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        await updater.start_work()
        await updater.add_artifact([new_text_part("It ")], artifact_id="answer")
        await updater.add_artifact([new_text_part("rains ")], artifact_id="answer", append=True)
        await updater.failed(updater.new_agent_message([new_text_part("The model is overloaded.")]))

    async def cancel(self, context, event_queue):
        raise NotImplementedError


logging.disable(logging.CRITICAL)
listener = socket.create_server(("127.0.0.1", 0))
url = f"http://127.0.0.1:{listener.getsockname()[1]}"
card = AgentCard(
    name="weather",
    description="Knows the weather.",
    version="1",
    skills=[AgentSkill(id="weather", name="weather", description="The weather.", tags=["weather"])],
    supported_interfaces=[
        AgentInterface(url=f"{url}/", protocol_binding="JSONRPC", protocol_version=version) for version in ("1.0", "0.3")
    ],
    capabilities=AgentCapabilities(streaming=True),
    default_input_modes=["text/plain"],
    default_output_modes=["text/plain"],
)
handler = DefaultRequestHandler(agent_executor=Executor(), task_store=InMemoryTaskStore(), agent_card=card)
routes = [*create_jsonrpc_routes(handler, "/", enable_v0_3_compat=True), *create_agent_card_routes(card)]
print(url, flush=True)
uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="critical")).run(sockets=[listener])
PY
cat >"$folder/adk.py" <<'PY'
import asyncio
import logging
import sys

from google.adk.agents.remote_a2a_agent import RemoteA2aAgent
from google.adk.runners import InMemoryRunner
from google.genai.types import Content, Part


def text(events):
    return "".join(part.text or "" for event in events if event.content for part in event.content.parts)


async def main(url):
    agent = RemoteA2aAgent(name="weather", agent_card=f"{url}/.well-known/agent-card.json")
    runner = InMemoryRunner(agent=agent, app_name="app")
    session = await runner.session_service.create_session(app_name="app", user_id="user")
    question = Content(role="user", parts=[Part(text="Does it rain?")])
    events = [e async for e in runner.run_async(user_id="user", session_id=session.id, new_message=question)]
    session = await runner.session_service.get_session(app_name="app", user_id="user", session_id=session.id)
    final = [text([event]) for event in events if event.is_final_response() and text([event])]
    errors = [event.error_message for event in events if event.error_code or event.error_message]
    kept = text(event for event in session.events if event.author != "user")
    print(f"adk: final {final}, errors {errors}, in the session {kept!r}")
    reason = "The model is overloaded."
    sys.exit((final, errors, kept) != ([reason], [], reason))


logging.disable(logging.CRITICAL)
asyncio.run(asyncio.wait_for(main(sys.argv[1]), 30))
PY
cat >"$folder/agent_framework_.py" <<'PY'
import asyncio
import sys

import httpx
from a2a.client import A2ACardResolver
from agent_framework_a2a import A2AAgent


async def main(url):
    async with httpx.AsyncClient() as client:
        card = await A2ACardResolver(client, url).get_agent_card()
    async with A2AAgent(agent_card=card) as agent:
        text = (await agent.run("Does it rain?")).text
        stream = agent.run("Does it rain?", stream=True)
        async for _ in stream:
            pass
        streamed = (await stream.get_final_response()).text
    print(f"agent_framework: {text!r}, streamed {streamed!r}")
    sys.exit((text, streamed) != ("It rains ", "It rains The model is overloaded."))


asyncio.run(asyncio.wait_for(main(sys.argv[1]), 30))
PY
cat >"$folder/strands_.py" <<'PY'
import asyncio
import logging
import sys

from strands.agent.a2a_agent import A2AAgent


async def main(url):
    result = await A2AAgent(endpoint=url).invoke_async("Does it rain?")
    print(f"strands: {result.stop_reason}, {str(result)!r}")
    sys.exit((result.stop_reason, str(result)) != ("end_turn", "The model is overloaded.\n"))


logging.disable(logging.CRITICAL)
asyncio.run(asyncio.wait_for(main(sys.argv[1]), 30))
PY
"$folder/venv/bin/python" "$folder/server.py" >"$folder/url" 2>"$folder/log" &
server=$!
for _ in $(seq 300); do
  [ -s "$folder/url" ] && break
  kill -0 "$server"
  sleep 0.1
done
url="$(cat "$folder/url")"
"$folder/venv/bin/python" "$folder/adk.py" "$url" 2>/dev/null
"$folder/venv/bin/python" "$folder/agent_framework_.py" "$url" 2>/dev/null
"$folder/strands/bin/python" "$folder/strands_.py" "$url" 2>/dev/null
