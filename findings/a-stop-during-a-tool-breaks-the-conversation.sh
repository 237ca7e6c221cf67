#!/usr/bin/env bash
# A user stops an agent while a tool runs, and then asks something else in the same conversation. LangChain's
# `create_agent` with a checkpointer (the task that reads `astream` is cancelled) and LlamaIndex's FunctionAgent with
# a Context (`cancel_run()`) send the call without a result, which OpenAI refuses with status 400. They keep it, so
# every later turn fails, too; LlamaIndex puts it behind the new question and has forgotten the first one. Strands adds
# a result for it and goes on. The server below applies OpenAI's rule: tool messages that answer each call follow it.
#
# langchain 1.5.2 with langgraph 1.2.24 and langchain-openai 1.7.4, llama-index-core 0.14.25 with
# llama-index-llms-openai-like 0.8.1, strands-agents 1.62.0, openai 2.54.0, 2026-11-29. Output seen:
#   langchain: turns after the stop ['BadRequestError 400', 'BadRequestError 400'], last request
#     user 'Does it rain?' / assistant calls weather / user 'Hello?' / user 'Hello?'
#   llama_index: turns after the stop ['BadRequestError 400', 'BadRequestError 400'], last request
#     user 'Hello?' / assistant calls weather
#   strands: turns after the stop ['Hello!', 'Hello!'], last request
#     user 'Does it rain?' / assistant calls weather / tool 'Tool was interrupted.' / user 'Hello?' / assistant 'Hello!' / user 'Hello?'
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
uv venv -q "$folder/venv"
uv pip install -q --python "$folder/venv/bin/python" langchain==1.5.2 langgraph==1.2.24 langchain-openai==1.7.4 \
  llama-index-core==0.14.25 llama-index-llms-openai-like==0.8.1 strands-agents==1.62.0 openai==2.54.0
cat >"$folder/probe.py" <<'PY'
import asyncio
import http.server
import json
import logging
import sys
import threading

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.workflow import Context
from llama_index.llms.openai_like import OpenAILike
from openai import BadRequestError
from strands import Agent as StrandsAgent
from strands import tool
from strands.models.openai import OpenAIModel

CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}


def unanswered(messages):
    """The calls of an assistant that no tool message right behind it answers."""
    for index, message in enumerate(messages):
        missing = {call["id"] for call in message.get("tool_calls") or ()}
        for answer in messages[index + 1 :]:
            if answer["role"] != "tool":
                break
            missing.discard(answer["tool_call_id"])
        if missing:
            return missing
    return set()


class Handler(http.server.BaseHTTPRequestHandler):
    requests = []

    def do_POST(self):
        messages = json.loads(self.rfile.read(int(self.headers["content-length"])))["messages"]
        Handler.requests.append(messages)
        missing = unanswered(messages)
        self.send_response(400 if missing else 200)
        self.send_header("content-type", "application/json" if missing else "text/event-stream")
        self.end_headers()
        if missing:
            text = f"tool_call_ids without a tool message behind them: {', '.join(missing)}"
            self.wfile.write(json.dumps({"error": {"message": text, "type": "invalid_request_error"}}).encode())
            return
        asks = len(Handler.requests) == 1
        delta = {"role": "assistant", **({"content": None, "tool_calls": [CALL]} if asks else {"content": "Hello!"})}
        for piece, reason in ((delta, None), ({}, "tool_calls" if asks else "stop")):
            choice = {"index": 0, "delta": piece, "finish_reason": reason}
            data = {"id": "r", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
            self.wfile.write(f"data: {json.dumps(data)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *args):
        pass


running = asyncio.Event()


async def weather(city: str) -> str:
    """The weather of a city."""
    running.set()
    await asyncio.Event().wait()


async def stopped_in_the_tool(events):
    async def read():
        async for _ in events:
            pass

    task = asyncio.create_task(read())
    await running.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def langchain(url):
    model = ChatOpenAI(model="m", api_key="x", base_url=url, max_retries=0, streaming=True)
    agent = create_agent(model, [weather], checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "t"}}
    await stopped_in_the_tool(agent.astream({"messages": [("user", "Does it rain?")]}, thread, stream_mode="messages"))

    async def turn():
        return (await agent.ainvoke({"messages": [("user", "Hello?")]}, thread))["messages"][-1].content

    return turn


async def llama_index(url):
    llm = OpenAILike(
        model="m", api_key="x", api_base=url, max_retries=0, is_chat_model=True, is_function_calling_model=True
    )
    agent = FunctionAgent(llm=llm, tools=[weather])
    context = Context(agent)
    run = agent.run("Does it rain?", ctx=context)
    await running.wait()
    await run.cancel_run()
    await asyncio.gather(run, return_exceptions=True)

    async def turn():
        return str(await agent.run("Hello?", ctx=context))

    return turn


async def strands(url):
    model = OpenAIModel(client_args={"api_key": "x", "base_url": url, "max_retries": 0}, model_id="m")
    agent = StrandsAgent(model=model, tools=[tool(weather)], callback_handler=None)
    await stopped_in_the_tool(agent.stream_async("Does it rain?"))

    async def turn():
        return (await agent.invoke_async("Hello?")).message["content"][0]["text"]

    return turn


def words(message):
    calls = [call["function"]["name"] for call in message.get("tool_calls") or ()]
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(part["text"] for part in content)
    return f"{message['role']} " + (f"calls {', '.join(calls)}" if calls else repr(content))


async def results(url):
    seen = {}
    for framework in (langchain, llama_index, strands):
        Handler.requests.clear()
        running.clear()
        turn = await framework(url)
        after = []
        for _ in range(2):
            try:
                after.append(await turn())
            except BadRequestError as error:
                after.append(f"BadRequestError {error.status_code}")
        last = " / ".join(words(message) for message in Handler.requests[-1])
        seen[framework.__name__] = after, last
        print(f"{framework.__name__}: turns after the stop {after}, last request\n  {last}")
    return seen


logging.disable(logging.CRITICAL)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
seen = asyncio.run(asyncio.wait_for(results(f"http://127.0.0.1:{server.server_port}/v1"), 60))
refused, answered = ["BadRequestError 400"] * 2, ["Hello!"] * 2
asked, call, hello = "user 'Does it rain?'", "assistant calls weather", "user 'Hello?'"
result = "tool 'Tool was interrupted.'"
expected = {
    "langchain": (refused, f"{asked} / {call} / {hello} / {hello}"),
    "llama_index": (refused, f"{hello} / {call}"),
    "strands": (answered, f"{asked} / {call} / {result} / {hello} / assistant 'Hello!' / {hello}"),
}
sys.exit(seen != expected)
PY
"$folder/venv/bin/python" "$folder/probe.py" 2>"$folder/log" || { status=$?; tail -5 "$folder/log" >&2; exit "$status"; }
