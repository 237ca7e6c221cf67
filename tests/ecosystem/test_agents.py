"""Agents of other frameworks, unmodified, through `tokenwire run`: each token once.

Needs ``requirements.txt`` of this folder; what is not installed is skipped.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.recordings import Recording, named
from tests.support.replay import Replay

CHAT = named("chat-text")
RESPONSES = named("responses-text")
MESSAGES = named("anthropic-text")

# A busy machine takes minutes to import some of these frameworks for the first time.
LIMIT = 500
pytestmark = pytest.mark.timeout(LIMIT + 100)

OPENAI_AGENTS = """
import asyncio
from agents import Agent, Runner, set_tracing_disabled
set_tracing_disabled(True)
async def main():
    result = Runner.run_streamed(Agent(name="a", model=MODEL), "Hi")
    async for event in result.stream_events():
        pass
    print(result.final_output)
asyncio.run(main())
"""

OPENAI_AGENTS_CHAT = (
    """
from agents import set_default_openai_api
set_default_openai_api("chat_completions")
"""
    + OPENAI_AGENTS
)

PYDANTIC_AI = """
import asyncio
from pydantic_ai import Agent
async def main():
    async with Agent(MODEL).run_stream("Hi") as result:
        async for text in result.stream_text(delta=True):
            pass
        print(await result.get_output())
asyncio.run(main())
"""


LITELLM = """
import litellm
text = ""
for chunk in litellm.completion(
    model=MODEL, messages=[{"role": "user", "content": "Hi"}], stream=True
):
    text += chunk.choices[0].delta.content or ""
print(text)
"""

LITELLM_ASYNC = """
import asyncio, litellm
async def main():
    text = ""
    stream = await litellm.acompletion(
        model=MODEL, messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    async for chunk in stream:
        text += chunk.choices[0].delta.content or ""
    print(text)
asyncio.run(main())
"""

WITNESS = """
import atexit, faulthandler, json, os, sys
faulthandler.dump_traceback_later(400)
def tell():
    found = []
    if "tokenwire" in sys.modules:
        import tokenwire
        with tokenwire.open_sink() as sink:
            found = sink.history("eco").items
    told = [[r.text, r.state, r.finish_reason] for r in found]
    with open(os.environ["WITNESS"], "w") as file:
        json.dump(told, file)
atexit.register(tell)
"""


@pytest.mark.parametrize(
    ("needs", "program", "model", "recording"),
    [
        ("agents", OPENAI_AGENTS, "gpt-4o", RESPONSES),
        ("agents", OPENAI_AGENTS_CHAT, "gpt-4o", CHAT),
        ("pydantic_ai", PYDANTIC_AI, "openai-chat:gpt-4o", CHAT),
        ("pydantic_ai", PYDANTIC_AI, "openai-responses:gpt-4o", RESPONSES),
        ("pydantic_ai", PYDANTIC_AI, "anthropic:claude-sonnet-4-6", MESSAGES),
        ("litellm", LITELLM, "openai/gpt-4o", CHAT),
        ("litellm", LITELLM_ASYNC, "openai/gpt-4o", CHAT),
    ],
    ids=[
        "openai-agents-responses",
        "openai-agents-chat",
        "pydantic-ai-chat",
        "pydantic-ai-responses",
        "pydantic-ai-anthropic",
        "litellm",
        "litellm-async",
    ],
)
def test_an_agent(
    needs: str, program: str, model: str, recording: Recording, tmp_path: Path
) -> None:
    if importlib.util.find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed")
    told, output = run(program.replace("MODEL", repr(model)), recording, tmp_path)
    assert recording.expected.text.strip() in output
    assert told == [[recording.expected.text, "complete", recording.expected.finish]]


def test_litellm_on_anthropic_is_not_caught(tmp_path: Path) -> None:
    """It has an HTTP client of its own. Should this fail, the table in the docs is out of date."""
    if importlib.util.find_spec("litellm") is None:
        pytest.skip("litellm is not installed")
    told, output = run(LITELLM.replace("MODEL", "'anthropic/claude-x'"), MESSAGES, tmp_path)
    assert MESSAGES.expected.text in output
    assert told == []


def run(program: str, recording: Recording, place: Path) -> tuple[Any, str]:
    """Run a program; return what it published, and what it printed."""
    (place / "program.py").write_text(program)
    (place / "sitecustomize.py").write_text(WITNESS)
    with Replay(recording.body) as replay:
        env = {
            **os.environ,
            "OPENAI_API_KEY": "x",
            "OPENAI_BASE_URL": replay.base_url,
            "OPENAI_API_BASE": replay.base_url,
            "ANTHROPIC_API_KEY": "x",
            "ANTHROPIC_BASE_URL": replay.root_url,
            "ANTHROPIC_API_BASE": replay.root_url,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "PYTHONIOENCODING": "utf-8",
            "WITNESS": str(place / "told.json"),
            "PYTHONPATH": os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")]),
        }
        start = [sys.executable, "-m", "tokenwire_adapters._tools.cli.run", "--to", "memory://eco"]
        start += ["--channel", "eco", "--"]
        try:
            done = subprocess.run(
                [*start, sys.executable, "program.py"],
                cwd=place,
                env=env,
                capture_output=True,
                encoding="utf-8",
                timeout=LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired as error:  # whose message does not tell where it stood
            told = b"".join(part or b"" for part in (error.stdout, error.stderr))
            pytest.fail(f"it hangs: {told.decode(errors='replace')}")
    assert done.returncode == 0, done.stderr
    return json.loads((place / "told.json").read_text()), done.stdout
