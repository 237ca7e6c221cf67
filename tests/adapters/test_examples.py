"""The examples of the agents' adapters run as they are, offline, each in a process of its own.

Under tox they run with the wheel that it installed. `tests/core`, `tests/adapters/ui` and
`tests/e2e` run the others.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
ENDS = "That is all there is to it."


@pytest.mark.parametrize(
    ("example", "needs", "told"),
    [
        ("openai_chat.py", ("openai",), [ENDS, "[complete, stop, {'completion_tokens':"]),
        ("openai_responses.py", ("openai",), ["[stopped: cancelled]", "[the agent goes on]"]),
        (
            "anthropic_messages.py",
            ("anthropic",),
            [ENDS, "[complete, end_turn, {'input_tokens':", " characters of text, 0 of reasoning]"],
        ),
        ("langchain_chat.py", ("langchain_openai",), [ENDS, "[complete, stop, {"]),
        (
            "langgraph_agent.py",
            ("langchain_openai", "langgraph"),
            [
                '[tool_call get_weather] {"city":"Paris"}\n[complete, tool_calls]\n',
                "[get_weather answered: sunny in Paris]\n",
                "> sunny in Paris\n",
                "\n[complete, stop]\n",
            ],
        ),
        (
            "llama_index_chat.py",
            ("llama_index.llms.openai",),
            [ENDS, "[complete, stop, run "],
        ),
        (
            "llama_index_agent.py",
            ("llama_index.llms.openai",),
            [
                '[tool_call get_weather] {"city":"Paris"}\n[complete, tool_calls]\n',
                "[get_weather answered: sunny in Paris]\n",
                "> sunny in Paris\n",
                "\n[complete, stop]\n",
            ],
        ),
    ],
)
def test_an_example(example: str, needs: tuple[str, ...], told: list[str], tmp_path: Path) -> None:
    for module in needs:
        if not _installed(module):
            pytest.skip(f"{module} is not installed")
    keyless = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENAI_", "ANTHROPIC_", "TOKENWIRE_", "LANGSMITH_", "LANGCHAIN_"))
    }
    # Tokens a second: a watcher must find the time to stop the one, nobody waits for the others.
    pace = "60" if "[stopped: cancelled]" in told else "2000"
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / example)],
        cwd=tmp_path,
        env={**keyless, "PACE": pace, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    for piece in told:  # an agent and a screen print as they come
        assert piece in run.stdout, run.stdout


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of its parent
        return False
