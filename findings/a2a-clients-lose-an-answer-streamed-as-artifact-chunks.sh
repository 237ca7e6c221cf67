#!/usr/bin/env bash
# An A2A agent streams its answer as the protocol has it: pieces of one artifact, each after the first with `append`,
# the last with `last_chunk`. Its task then holds all four pieces. But the final event of ADK's RemoteA2aAgent, and so
# its session, which the next turn is asked with, holds the last piece alone, and nothing if no piece is marked as the
# last one, which the protocol leaves open. agno's `send_message` returns no text, and its stream says `is_final` before
# the first piece. Strands' result, as text, has a line break behind each piece.
#
# google-adk 2.13.0 with a2a-sdk 1.3.0, agno 3.1.10, strands-agents 1.62.0 with a2a-sdk 0.3.26, 2026-11-29. Output seen:
#   adk: shown 'It rains in ' as partial, final 'Paris.', in the session 'Paris.'
#   adk, no last_chunk: shown 'It rains in Paris.' as partial, final '', in the session ''
#   agno: sent '', streamed 'It rains in Paris.', is_final before the text True
#   strands: 'It \nrains \nin \nParis.\n'
set -euo pipefail
folder="$(mktemp -d)"
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$folder"' EXIT
uv venv -q "$folder/venv"
uv pip install -q --python "$folder/venv/bin/python" google-adk==2.13.0 'a2a-sdk[http-server]==1.3.0' agno==3.1.10 \
  uvicorn==0.54.0
uv venv -q "$folder/strands"
uv pip install -q --python "$folder/strands/bin/python" 'strands-agents[a2a]==1.62.0' a2a-sdk==0.3.26
cat >"$folder/server.py" <<'PY'
import logging
import socket

import uvicorn
from a2a.helpers import get_message_text, new_task_from_user_message, new_text_part
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types.a2a_pb2 import AgentCapabilities, AgentCard, AgentInterface, AgentSkill
from starlette.applications import Starlette

PIECES = ["It ", "rains ", "in ", "Paris."]


class Executor(AgentExecutor):
    async def execute(self, context, event_queue):
        task = new_task_from_user_message(context.message)
        await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        await updater.start_work()
        marked = "no last_chunk" not in get_message_text(context.message)
        for index, piece in enumerate(PIECES):
            await updater.add_artifact(
                [new_text_part(piece)],
                artifact_id="answer",
                append=index > 0,
                last_chunk=marked and index == len(PIECES) - 1,
            )
        await updater.complete()

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


async def ask(url, question):
    agent = RemoteA2aAgent(name="weather", agent_card=f"{url}/.well-known/agent-card.json")
    runner = InMemoryRunner(agent=agent, app_name="app")
    session = await runner.session_service.create_session(app_name="app", user_id="user")
    content = Content(role="user", parts=[Part(text=question)])
    events = [e async for e in runner.run_async(user_id="user", session_id=session.id, new_message=content)]
    session = await runner.session_service.get_session(app_name="app", user_id="user", session_id=session.id)
    partial = text(event for event in events if event.partial)
    final = text(event for event in events if not event.partial)
    kept = text(event for event in session.events if event.author != "user")
    return partial, final, kept


async def main(url):
    seen = []
    for name, question in (("adk", "Does it rain?"), ("adk, no last_chunk", "Does it rain? (no last_chunk)")):
        partial, final, kept = await ask(url, question)
        seen.append((partial, final, kept))
        print(f"{name}: shown {partial!r} as partial, final {final!r}, in the session {kept!r}")
    sys.exit(seen != [("It rains in ", "Paris.", "Paris."), ("It rains in Paris.", "", "")])


logging.disable(logging.CRITICAL)
asyncio.run(asyncio.wait_for(main(sys.argv[1]), 30))
PY
cat >"$folder/agno_.py" <<'PY'
import asyncio
import sys

from agno.client.a2a import A2AClient


async def main(url):
    client = A2AClient(url, protocol="json-rpc")
    sent = (await client.send_message("Does it rain?")).content
    events = [event async for event in client.stream_message("Does it rain?")]
    streamed = "".join(event.content or "" for event in events if event.is_content)
    early = events[0].is_final
    print(f"agno: sent {sent!r}, streamed {streamed!r}, is_final before the text {early}")
    sys.exit((sent, streamed, early) != ("", "It rains in Paris.", True))


asyncio.run(asyncio.wait_for(main(sys.argv[1]), 30))
PY
cat >"$folder/strands_.py" <<'PY'
import asyncio
import logging
import sys

from strands.agent.a2a_agent import A2AAgent


async def main(url):
    result = str(await A2AAgent(endpoint=url).invoke_async("Does it rain?"))
    print(f"strands: {result!r}")
    sys.exit(result != "It \nrains \nin \nParis.\n")


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
"$folder/venv/bin/python" "$folder/agno_.py" "$url" 2>/dev/null
"$folder/strands/bin/python" "$folder/strands_.py" "$url" 2>/dev/null
