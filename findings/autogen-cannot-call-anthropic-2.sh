#!/usr/bin/env bash
# The newest autogen-ext allows any anthropic from 0.48 on, so that an installer takes anthropic 2.
# That release has no `temperature`, `top_p` and `top_k` in `messages.create()` any more, and
# AnthropicChatCompletionClient sends a temperature that nobody asked for: every call raises a
# TypeError before a request is sent.
#
# autogen-ext 0.7.5 with anthropic 2.14.0 and tiktoken 0.14.0 (which the extra forgets), 2026-11-28. Output seen:
#   2.14.0: TypeError: AsyncMessages.create() got an unexpected keyword argument 'temperature'
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
  "autogen-ext[anthropic]==0.7.5" autogen-core==0.7.5 anthropic==2.14.0 tiktoken==0.14.0
cat >"$folder/probe.py" <<'PY'
import asyncio
import sys

import anthropic
from autogen_core.models import UserMessage
from autogen_ext.models.anthropic import AnthropicChatCompletionClient

INFO = {
    "vision": False, "function_calling": True, "json_output": False, "family": "unknown",
    "structured_output": False,
}


async def ask():
    client = AnthropicChatCompletionClient(
        model="claude-sonnet-4-5", api_key="x", base_url="http://127.0.0.1:9", model_info=INFO
    )
    async for _ in client.create_stream([UserMessage(content="Does it rain?", source="user")]):
        pass


try:
    asyncio.run(asyncio.wait_for(ask(), 60))
    said = "no error"
except Exception as error:
    said = f"{type(error).__name__}: {error}"
print(f"{anthropic.__version__}: {said}")
sys.exit("unexpected keyword argument 'temperature'" not in said)
PY
"$folder/venv/bin/python" "$folder/probe.py" 2>/dev/null
