"""The wires of the scripted provider, byte by byte: what SDKs of other providers read.

`tests/ecosystem` has the SDKs themselves read them.
"""

import base64
import json
import struct
import zlib

import httpx
import pytest

from tokenwire_adapters.testing.provider import ScriptedError, ScriptedReply, serve_in_thread

USER = [{"role": "user", "content": "hi"}]
CONTENTS = [{"role": "user", "parts": [{"text": "hi"}]}]
BLOCKS = [{"role": "user", "content": [{"text": "hi"}]}]
CITY = {"city": "S\u00e3o Paulo"}
REPLY = ScriptedReply(
    reasoning=["Hm", "."], text=["Let ", "me see."], tool_calls=[("get_weather", CITY)]
)
GEMINI = "/v1beta/models/gemini-3:streamGenerateContent"
CLAUDE = "/model/anthropic.claude-v1%3A0"
INVOKE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": USER}
# Each API: a path for a stream, a path for a whole reply, the body.
APIS = {
    "chat": ("/groq/openai/v1/chat/completions", None, {"model": "m", "messages": USER}),
    "mistral": ("/mistral/v1/chat/completions", None, {"model": "m", "messages": USER}),
    "cohere": ("/v2/chat", None, {"model": "m", "messages": USER}),
    "ollama": ("/api/chat", None, {"model": "m", "messages": USER}),
    "interactions": ("/v1beta/interactions", None, {"model": "m", "input": "hi"}),
    "gemini": (
        GEMINI + "?alt=sse",
        "/v1/models/gemini-3:generateContent",
        {"contents": CONTENTS},
    ),
    "converse": (CLAUDE + "/converse-stream", CLAUDE + "/converse", {"messages": BLOCKS}),
    "invoke": (CLAUDE + "/invoke-with-response-stream", CLAUDE + "/invoke", INVOKE),
}


@pytest.fixture(scope="module")
def provider():
    with serve_in_thread(pace=0) as provider:
        yield provider


@pytest.fixture(scope="module")
def client(provider):
    with httpx.Client(base_url=provider.root_url) as client:
        yield client


@pytest.fixture(autouse=True)
def _all_replies_are_used(provider):
    yield
    assert provider.scripted == 0


def ask(client, api, *, stream):
    streaming, whole, body = APIS[api]
    if whole is None:
        body = body | {"stream": stream}
    return client.post(streaming if stream or whole is None else whole, json=body)


def sse(reply):
    assert reply.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in reply.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line[6:]) for line in lines if line != "data: [DONE]"]


def frames(data):
    """Messages of AWS's event stream: the event's type and its payload. Checks both CRCs."""
    while data:
        total, headers_length, prelude = struct.unpack(">III", data[:12])
        message, data = data[:total], data[total:]
        assert zlib.crc32(message[:8]) == prelude
        assert struct.pack(">I", zlib.crc32(message[:-4])) == message[-4:]
        headers, rest = {}, message[12 : 12 + headers_length]
        while rest:
            name, rest = rest[1 : 1 + rest[0]], rest[1 + rest[0] :]
            kind, length = struct.unpack(">BH", rest[:3])
            assert kind == 7
            headers[name.decode()], rest = rest[3 : 3 + length].decode(), rest[3 + length :]
        assert headers[":message-type"] == "event"
        yield headers[":event-type"], json.loads(message[12 + headers_length : -4])


# ---------------------------------------------------------------- streams


def test_gemini(provider, client):
    provider.script(REPLY)
    chunks = sse(ask(client, "gemini", stream=True))
    parts = [chunk["candidates"][0]["content"]["parts"][0] for chunk in chunks]
    call = parts[4].pop("functionCall")
    assert parts == [
        {"text": "Hm", "thought": True},
        {"text": ".", "thought": True},
        {"text": "Let "},
        {"text": "me see."},
        {},
        {"text": ""},
    ]
    assert (call["name"], call["args"]) == ("get_weather", CITY)
    assert [chunk["candidates"][0].get("finishReason") for chunk in chunks] == [None] * 5 + ["STOP"]
    usage = chunks[-1]["usageMetadata"]
    planned = provider.records[-1].tokens_planned
    assert usage["thoughtsTokenCount"] + usage["candidatesTokenCount"] == planned
    assert provider.records[-1].tokens_sent == planned


def test_gemini_without_server_sent_events_is_an_array(provider, client):
    provider.script(REPLY)
    reply = client.post(GEMINI, json={"contents": CONTENTS})
    assert reply.headers["content-type"].startswith("application/json")
    assert [
        part["text"]
        for chunk in reply.json()
        for part in chunk["candidates"][0]["content"]["parts"]
        if "text" in part
    ] == ["Hm", ".", "Let ", "me see.", ""]


@pytest.mark.parametrize(
    "path",
    [
        "/models/gemini-3:streamGenerateContent",
        "/v1/models/gemini-3:streamGenerateContent",
        "/v1beta1/projects/p/locations/eu/publishers/google/models/gemini-3:streamGenerateContent",
    ],
)
def test_paths_of_gemini(provider, client, path):
    provider.script("Hello")
    sse(client.post(path + "?alt=sse", json={"contents": CONTENTS}))
    assert (provider.records[-1].api, provider.records[-1].model) == ("gemini", "gemini-3")


def test_interactions(provider, client):
    provider.script(REPLY)
    events = sse(ask(client, "interactions", stream=True))
    deltas = [event["delta"] for event in events if event["event_type"] == "step.delta"]
    assert [d["content"]["text"] for d in deltas if d["type"] == "thought_summary"] == ["Hm", "."]
    assert [d["text"] for d in deltas if d["type"] == "text"] == ["Let ", "me see."]
    pieces = [d["arguments"] for d in deltas if d["type"] == "arguments_delta"]
    assert json.loads("".join(pieces)) == CITY
    steps = [event["step"] for event in events if event["event_type"] == "step.start"]
    assert [step["type"] for step in steps] == ["thought", "model_output", "function_call"]
    assert events[-1]["event_type"] == "interaction.completed"
    assert events[-1]["interaction"]["status"] == "requires_action"


def test_mistral(provider, client):
    provider.script(REPLY)
    chunks = sse(ask(client, "mistral", stream=True))
    contents = [chunk["choices"][0]["delta"]["content"] for chunk in chunks]
    thoughts = [part["thinking"][0]["text"] for part in contents[1] + contents[2]]
    assert thoughts == ["Hm", "."]
    assert [content for content in contents if isinstance(content, str)] == [
        "", "Let ", "me see.", "", "",
    ]  # fmt: skip
    (call,) = [call for c in chunks for call in c["choices"][0]["delta"].get("tool_calls", [])]
    assert json.loads(call["function"]["arguments"]) == CITY
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[-1]["usage"]["completion_tokens"] == provider.records[-1].tokens_sent


def test_cohere(provider, client):
    provider.script(REPLY)
    events = sse(ask(client, "cohere", stream=True))
    assert [event["type"] for event in events if "delta" not in event["type"]] == [
        "message-start", "content-start", "content-end", "content-start", "content-end",
        "tool-call-start", "tool-call-end", "message-end",
    ]  # fmt: skip
    contents = [e["delta"]["message"]["content"] for e in events if e["type"] == "content-delta"]
    assert contents == [
        {"thinking": "Hm"},
        {"thinking": "."},
        {"text": "Let "},
        {"text": "me see."},
    ]
    assert events[-1]["delta"]["finish_reason"] == "TOOL_CALL"


def test_ollama(provider, client):
    provider.script(REPLY)
    # A request that does not say so streams.
    reply = client.post("/api/chat", json={"model": "m", "messages": USER})
    assert reply.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in reply.text.splitlines()]
    messages = [line["message"] for line in lines]
    assert [message.get("thinking") for message in messages[:3]] == ["Hm", ".", None]
    assert [message["content"] for message in messages[2:]] == ["Let ", "me see.", "", ""]
    assert messages[4]["tool_calls"][0]["function"]["arguments"] == CITY
    assert [line["done"] for line in lines] == [False] * 5 + [True]
    assert lines[-1]["done_reason"] == "stop"


def test_ollama_generate(provider, client):
    provider.script(ScriptedReply(reasoning=["Hm"], text=["Let ", "me see."]))
    reply = client.post("/api/generate", json={"model": "m", "prompt": "hi"})
    lines = [json.loads(line) for line in reply.text.splitlines()]
    assert [line["response"] for line in lines] == ["", "Let ", "me see.", ""]
    assert lines[0]["thinking"] == "Hm"


def test_what_clients_ask_of_ollama_beside_replies(client):
    assert client.get("/api/tags").json()["models"][0]["name"] == "local-writer"
    assert "tools" in client.post("/api/show", json={"model": "m"}).json()["capabilities"]
    assert client.get("/api/version").json()["version"]
    assert client.get("/api/nothing").status_code == 404


def test_converse(provider, client):
    provider.script(REPLY)
    reply = ask(client, "converse", stream=True)
    assert reply.headers["content-type"] == "application/vnd.amazon.eventstream"
    events = list(frames(reply.content))
    deltas = [payload["delta"] for name, payload in events if name == "contentBlockDelta"]
    assert deltas[:2] == [{"reasoningContent": {"text": text}} for text in ("Hm", ".")]
    assert [delta["text"] for delta in deltas if "text" in delta] == ["Let ", "me see."]
    pieces = [delta["toolUse"]["input"] for delta in deltas if "toolUse" in delta]
    assert json.loads("".join(pieces)) == CITY
    assert events[-2] == ("messageStop", {"stopReason": "tool_use"})
    assert events[-1][1]["usage"]["outputTokens"] == provider.records[-1].tokens_sent
    assert provider.records[-1].model == "anthropic.claude-v1:0"


def test_invoke(provider, client):
    provider.script(REPLY)
    events = [
        (name, json.loads(base64.b64decode(payload["bytes"])))
        for name, payload in frames(ask(client, "invoke", stream=True).content)
    ]
    assert {name for name, _ in events} == {"chunk"}
    payloads = [payload for _, payload in events]
    texts = [p["delta"]["text"] for p in payloads if p.get("delta", {}).get("type") == "text_delta"]
    assert texts == ["Let ", "me see."]
    assert payloads[-1]["amazon-bedrock-invocationMetrics"]["inputTokenCount"] >= 1


@pytest.mark.parametrize("server", ["groq/openai", "together", "huggingface"])
def test_servers_whose_reasoning_has_a_field_of_its_own(provider, client, server):
    provider.script(REPLY, REPLY)
    path = f"/{server}/v1/chat/completions"
    chunks = sse(client.post(path, json={"model": "m", "messages": USER, "stream": True}))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert [d["reasoning"] for d in deltas if "reasoning" in d] == ["Hm", "."]
    whole = client.post(path, json={"model": "m", "messages": USER}).json()
    assert whole["choices"][0]["message"]["reasoning"] == "Hm."


# ---------------------------------------------------------------- whole replies, errors


@pytest.mark.parametrize("api", sorted(APIS))
def test_a_whole_reply_has_what_the_script_says(provider, client, api):
    provider.script(REPLY)
    reply = ask(client, api, stream=False)
    assert reply.headers["content-type"] == "application/json"
    body = json.dumps(reply.json(), ensure_ascii=False)
    for expected in ("Hm.", "Let me see.", "get_weather", "S\u00e3o Paulo"):
        assert expected in body
    record = provider.records[-1]
    assert (record.api, record.stream, record.wait()) == (api, False, "complete")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", sorted(APIS))
def test_an_error_has_the_form_of_its_api(provider, client, api, stream):
    provider.script(ScriptedError(status=429, message="slowly"))
    reply = ask(client, api, stream=stream)
    assert reply.status_code == 429
    error = reply.json()
    match api:
        case "gemini":
            assert error["error"]["status"] == "RESOURCE_EXHAUSTED"
        case "ollama":
            assert error == {"error": "slowly"}
        case "cohere":
            assert error == {"message": "slowly"}
        case "converse" | "invoke":
            assert error == {"message": "slowly"}
            assert reply.headers["x-amzn-errortype"] == "ThrottlingException"
        case "mistral":
            assert (error["object"], error["type"]) == ("error", "rate_limit_error")
        case "interactions":
            assert error["error"]["code"] == "resource_exhausted"
        case _:
            assert error["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize("api", sorted(APIS))
def test_a_disconnect_comes_after_as_many_tokens(provider, client, api):
    provider.script(ScriptedReply(text=["one ", "two ", "three"], disconnect_after=2))
    with pytest.raises(httpx.RemoteProtocolError):
        ask(client, api, stream=True)
    assert provider.records[-1].wait() == "disconnected"
    assert provider.records[-1].sent_text == "one two "


# ---------------------------------------------------------------- tools


WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION = {"name": "get_weather", "parameters": WEATHER}
OPENAI_TOOLS = [{"type": "function", "function": FUNCTION}]
OFFERS = {
    "gemini": {
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "get_weather",
                        "parameters": {
                            "type": "OBJECT",
                            "properties": {"city": {"type": "STRING"}},
                        },
                    }
                ]
            }
        ]
    },
    "interactions": {"tools": [{"type": "function", **FUNCTION}]},
    "mistral": {"tools": OPENAI_TOOLS},
    "cohere": {"tools": OPENAI_TOOLS},
    "ollama": {"tools": OPENAI_TOOLS},
    "converse": {
        "toolConfig": {
            "tools": [{"toolSpec": {"name": "get_weather", "inputSchema": {"json": WEATHER}}}]
        }
    },
}
ANSWERED = {
    "gemini": {
        "contents": [
            *CONTENTS,
            {"role": "model", "parts": [{"functionCall": {"name": "get_weather", "args": {}}}]},
            {
                "role": "user",
                "parts": [{"functionResponse": {"name": "get_weather", "response": {"r": "wet"}}}],
            },
        ]
    },
    "converse": {
        "messages": [
            *BLOCKS,
            {"role": "assistant", "content": [{"toolUse": {"name": "get_weather", "input": {}}}]},
            {"role": "user", "content": [{"toolResult": {"content": [{"text": "wet"}]}}]},
        ]
    },
    "interactions": {
        "input": [
            {"type": "text", "text": "hi"},
            {"type": "function_call", "name": "get_weather", "arguments": {}},
            {"type": "function_result", "name": "get_weather", "result": "wet"},
        ]
    },
}


@pytest.mark.parametrize("api", sorted(OFFERS))
def test_an_offered_tool_is_called_once(provider, client, api):
    path, whole, body = APIS[api]
    stream = {} if whole else {"stream": False}
    client.post(whole or path, json=body | OFFERS[api] | stream).raise_for_status()
    (call,) = provider.records[-1].tool_calls
    assert call.name == "get_weather"
    assert isinstance(call.value["city"], str)
    if api in ANSWERED:
        again = body | OFFERS[api] | ANSWERED[api] | stream
        client.post(whole or path, json=again).raise_for_status()
        assert provider.records[-1].tool_calls == ()
        assert "wet" in provider.records[-1].text
