#!/usr/bin/env bash
# When a model of OpenAI refuses, its words come apart from the answer: as `refusal` in the deltas of Chat
# Completions, as `response.refusal.delta` of Responses. These frameworks read neither in a stream: the
# user gets an empty answer that ends as any other does, without an exception and without the refusal in the
# result. (Of LangChain's two ways, Responses keeps it as a content block, but its `text` is empty.)
#
# langchain-openai 1.7.4 (with core 1.8.3), llama-index-llms-openai 0.8.3 (with core 0.14.25), agno 3.1.10,
# haystack-ai 3.4.1, semantic-kernel 1.45.0, strands-agents 1.62.0, autogen-ext 0.7.5, smolagents 1.26.0 and
# litellm 1.110.2, openai 2.54.0, 2026-11-29. Output seen:
#   the SDK: chat 'I cannot help.', responses 'I cannot help.'
#   langchain chat: '', finish reason stop, the refusal is nowhere
#   langchain responses: '', finish reason None, the refusal is in the result
#   llama_index chat: '', finish reason None, the refusal is nowhere
#   llama_index responses: '', finish reason None, the refusal is nowhere
#   agno chat: '', last event RunCompleted, the refusal is nowhere
#   agno responses: '', last event RunCompleted, the refusal is nowhere
#   haystack chat: '', finish reason stop, the refusal is nowhere
#   haystack responses: '', finish reason stop, the refusal is nowhere
#   semantic_kernel chat: '', finish reason None, the refusal is nowhere
#   semantic_kernel responses: '', finish reason None, the refusal is nowhere
#   strands chat: '', finish reason end_turn, the refusal is nowhere
#   autogen chat: '', finish reason None, the refusal is nowhere
#   smolagents chat: '', finish reason None, the refusal is nowhere
#   litellm chat: '', finish reason stop, the refusal is nowhere
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
uv venv -q "$folder/venv"
uv pip install -q --python "$folder/venv/bin/python" openai==2.54.0 langchain-openai==1.7.4 \
  langchain-core==1.8.3 llama-index-llms-openai==0.8.3 llama-index-core==0.14.25 agno==3.1.10 \
  haystack-ai==3.4.1 semantic-kernel==1.45.0 strands-agents==1.62.0 "autogen-ext[openai]==0.7.5" \
  autogen-agentchat==0.7.5 "smolagents[openai]==1.26.0" litellm==1.110.2
cat >"$folder/probe.py" <<'PY'
import asyncio
import http.server
import json
import os
import sys
import threading

MODEL = "gpt-4o"
PIECES = ["I", " cannot", " help."]
WORDS = "".join(PIECES)

PLACE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
ITEM = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
PART = {"type": "refusal", "refusal": WORDS}
WHOLE_ITEM = {**ITEM, "status": "completed", "content": [PART]}
USAGE = {
    "input_tokens": 1, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 3,
    "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 4,
}
REPLY = {
    "id": "resp_1", "object": "response", "created_at": 1, "status": "in_progress", "model": MODEL,
    "output": [], "error": None, "incomplete_details": None, "instructions": None, "metadata": {},
    "parallel_tool_calls": True, "temperature": 1.0, "top_p": 1.0, "tool_choice": "auto",
    "tools": [], "usage": None,
}
DONE = {**REPLY, "status": "completed", "output": [WHOLE_ITEM], "usage": USAGE}
EVENTS = [
    ("response.created", {"response": REPLY}),
    ("response.in_progress", {"response": REPLY}),
    ("response.output_item.added", {"output_index": 0, "item": ITEM}),
    ("response.content_part.added", {**PLACE, "part": {**PART, "refusal": ""}}),
    *[("response.refusal.delta", {**PLACE, "delta": piece}) for piece in PIECES],
    ("response.refusal.done", {**PLACE, "refusal": WORDS}),
    ("response.content_part.done", {**PLACE, "part": PART}),
    ("response.output_item.done", {"output_index": 0, "item": WHOLE_ITEM}),
    ("response.completed", {"response": DONE}),
]


def chunk(delta, finish_reason=None):
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return {**head, "choices": [choice]}


CHUNKS = [
    chunk({"role": "assistant", "content": None, "refusal": ""}),
    *[chunk({"refusal": piece}) for piece in PIECES],
    chunk({}, "stop"),
]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        if self.path.endswith("/responses"):
            lines = [
                f"event: {kind}\ndata: {json.dumps({'type': kind, 'sequence_number': n, **event})}"
                for n, (kind, event) in enumerate(EVENTS)
            ]
        else:
            lines = [f"data: {json.dumps(one)}" for one in CHUNKS] + ["data: [DONE]"]
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.write("".join(f"{line}\n\n" for line in lines).encode())

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
URL = f"http://127.0.0.1:{server.server_port}/v1"
os.environ |= {
    "OPENAI_BASE_URL": URL, "OPENAI_API_BASE": URL, "OPENAI_API_KEY": "none", "AGNO_TELEMETRY": "false",
    "HAYSTACK_TELEMETRY_ENABLED": "false", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
}


def show(name, text, end, *results):
    """Print what a user sees, and whether the refusal is anywhere in the results."""
    known = any("cannot" in repr(result) for result in results)
    print(f"{name}: {text!r}, {end}, the refusal is {'in the result' if known else 'nowhere'}")


def openai_sdk():
    import openai

    client = openai.OpenAI()
    message = [{"role": "user", "content": "Hello"}]
    chunks = client.chat.completions.create(model=MODEL, messages=message, stream=True)
    chat = "".join(one.choices[0].delta.refusal or "" for one in chunks)
    events = client.responses.create(model=MODEL, input="Hello", stream=True)
    response = "".join(e.delta for e in events if e.type == "response.refusal.delta")
    print(f"the SDK: chat {chat!r}, responses {response!r}")


def langchain():
    from langchain_openai import ChatOpenAI

    for responses in (False, True):
        whole = None
        for one in ChatOpenAI(model=MODEL, use_responses_api=responses).stream("Hello"):
            whole = one if whole is None else whole + one
        end = f"finish reason {whole.response_metadata.get('finish_reason')}"
        show(f"langchain {'responses' if responses else 'chat'}", str(whole.text), end, whole)


def llama_index():
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.openai import OpenAI, OpenAIResponses

    for name, model in (("chat", OpenAI), ("responses", OpenAIResponses)):
        seen = list(model(model=MODEL).stream_chat([ChatMessage(role="user", content="Hello")]))
        text = "".join(one.delta or "" for one in seen)
        end = f"finish reason {seen[-1].additional_kwargs.get('finish_reason')}"
        show(f"llama_index {name}", text, end, seen[-1].message)


def agno():
    from agno.agent import Agent
    from agno.models.openai import OpenAIChat, OpenAIResponses

    for name, model in (("chat", OpenAIChat), ("responses", OpenAIResponses)):
        events = list(Agent(model=model(id=MODEL)).run("Hello", stream=True, stream_events=True))
        text = "".join(e.content or "" for e in events if e.event == "RunContent")
        show(f"agno {name}", text, f"last event {events[-1].event}", *events)


def haystack():
    from haystack.components.generators.chat import (
        OpenAIChatGenerator,
        OpenAIResponsesChatGenerator,
    )
    from haystack.dataclasses import ChatMessage

    for name, kind in (("chat", OpenAIChatGenerator), ("responses", OpenAIResponsesChatGenerator)):
        pieces = []
        generator = kind(model=MODEL, streaming_callback=lambda one: pieces.append(one.content))
        (reply,) = generator.run([ChatMessage.from_user("Hello")])["replies"]
        end = f"finish reason {reply.meta.get('finish_reason')}"
        show(f"haystack {name}", "".join(pieces) + (reply.text or ""), end, reply)


async def semantic_kernel():
    import openai
    from semantic_kernel.agents import ChatCompletionAgent, OpenAIResponsesAgent
    from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion

    client = openai.AsyncOpenAI()
    service = OpenAIChatCompletion(ai_model_id=MODEL, async_client=client)
    agents = {
        "chat": ChatCompletionAgent(service=service, name="helper"),
        "responses": OpenAIResponsesAgent(ai_model_id=MODEL, client=client, name="helper"),
    }
    for name, agent in agents.items():
        replies = [reply.content async for reply in agent.invoke_stream(messages="Hello")]
        end = f"finish reason {replies[-1].finish_reason if replies else None}"
        show(f"semantic_kernel {name}", "".join(map(str, replies)), end, *[r.items for r in replies])
    await client.close()


async def strands():
    from strands import Agent
    from strands.models.openai import OpenAIModel

    text = ""
    async for event in Agent(OpenAIModel(model_id=MODEL), callback_handler=None).stream_async("Hello"):
        text += event.get("data", "")
        result = event.get("result")
    show("strands chat", text, f"finish reason {result.stop_reason}", result.message)


async def autogen():
    from autogen_agentchat.agents import AssistantAgent
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    client = OpenAIChatCompletionClient(model=MODEL)
    agent = AssistantAgent("helper", model_client=client, model_client_stream=True)
    events = [event async for event in agent.run_stream(task="Hello")]
    *_, answer, result = events
    show("autogen chat", answer.content, f"finish reason {result.stop_reason}", *events)
    await client.close()


def smolagents():
    from smolagents.models import OpenAIModel

    message = {"role": "user", "content": [{"type": "text", "text": "Hello"}]}
    deltas = list(OpenAIModel(MODEL).generate_stream([message]))
    show("smolagents chat", "".join(d.content or "" for d in deltas), "finish reason None", *deltas)


def litellm():
    import litellm

    message = [{"role": "user", "content": "Hello"}]
    chunks = list(litellm.completion(model=f"openai/{MODEL}", messages=message, stream=True))
    text = "".join(one.choices[0].delta.content or "" for one in chunks)
    end = f"finish reason {chunks[-1].choices[0].finish_reason}"
    show("litellm chat", text, end, *chunks, litellm.stream_chunk_builder(chunks))


for probe in (openai_sdk, langchain, llama_index, agno, haystack, smolagents, litellm):
    probe()
for probe in (semantic_kernel, strands, autogen):
    asyncio.run(probe())
sys.stdout.flush()
os._exit(0)  # without waiting for the threads of what was imported
PY
"$folder/venv/bin/python" "$folder/probe.py" 2>"$folder/errors" | sort >"$folder/seen" || {
  tail -n 20 "$folder/errors"
  exit 1
}
cat "$folder/seen"
sed -n 's/^#   //p' "$0" | sort | diff - "$folder/seen"
