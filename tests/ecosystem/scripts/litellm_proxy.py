"""The LiteLLM proxy, asked over HTTP by a client that is no SDK; the argument is the model."""

import http.client
import json
import os
import sys
import tempfile
import threading
import time

import uvicorn

with tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False) as file:
    json.dump({"model_list": [{"model_name": "m", "litellm_params": {"model": sys.argv[1]}}]}, file)
os.environ["CONFIG_FILE_PATH"] = file.name
os.environ["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"

from litellm.proxy.proxy_server import app

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "description": "Get it.", "parameters": PARAMETERS}
QUESTION = {
    "model": "m",
    "messages": [{"role": "user", "content": "What is the weather in Oslo?"}],
    "tools": [{"type": "function", "function": FUNCTION}],
    "stream": True,
}
text, calls = "", []
server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
thread = threading.Thread(target=server.run)
thread.start()
while not server.started and thread.is_alive():
    time.sleep(0.1)
port = server.servers[0].sockets[0].getsockname()[1]
for _ in range(2):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"content-type": "application/json", "authorization": "Bearer sk-1"}
    connection.request("POST", "/v1/chat/completions", json.dumps(QUESTION), headers)
    reply = connection.getresponse()
    assert reply.status == 200, reply.read()
    for line in reply:
        if not line.startswith(b"data: {"):
            continue
        for choice in json.loads(line[6:])["choices"]:
            text += choice["delta"].get("content") or ""
            for call in choice["delta"].get("tool_calls") or []:
                if call["function"].get("name"):
                    calls.append([call["function"]["name"], ""])
                calls[-1][1] += call["function"].get("arguments") or ""
    connection.close()
server.should_exit = True
thread.join()
print(json.dumps({"text": text, "calls": [[n, json.loads(a)] for n, a in calls]}))
