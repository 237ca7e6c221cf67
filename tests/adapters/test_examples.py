"""The examples of the agents' adapters run as they are, offline, each in a process of its own.

Under tox they run with the wheel that it installed. `tests/core`, `tests/adapters/ui` and
`tests/e2e` run the others.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
ENDS = "That is all there is to it."


@pytest.mark.parametrize(
    ("example", "needs", "printed"),
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
        (
            "llama_index_workflow.py",
            ("llama_index.llms.openai",),
            [
                "[complete, run Writing.run-",
                "[screens saw what the workflow got: True]",
                "[runs: 1]",
            ],
        ),
        (
            "langgraph_approval.py",
            ("langchain_openai", "langgraph", "redis"),
            [
                "[asked: Send this mail? {'to': 'Ann', 'text': 'I am late.'}]\n",
                "[decision: {'approved': True, 'sender': 'user-7'}]\n",
                "[send_mail: sent to Ann: I am late.]\nAnn knows that you are late.\n",
                "\n[complete, stop]\n",
            ],
        ),
        ("node_agent/run.py", ("uvicorn", "openai"), [ENDS, "[complete, stop, "]),
    ],
)
def test_an_example(
    example: str, needs: tuple[str, ...], printed: list[str], tmp_path: Path
) -> None:
    for module in needs:
        if not _installed(module):
            pytest.skip(f"{module} is not installed")
    # Tokens a second: a watcher must find the time to stop the one, nobody waits for the others.
    pace = "60" if "[stopped: cancelled]" in printed else "2000"
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / example)],
        cwd=tmp_path,
        env={**keyless(), "PACE": pace, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    for piece in printed:  # an agent and a screen print as they come
        assert piece in run.stdout, run.stdout


def keyless() -> dict[str, str]:
    """This environment, without keys and settings."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENAI_", "ANTHROPIC_", "TOKENWIRE_", "LANGSMITH_", "LANGCHAIN_"))
    }


def test_the_tests_of_an_agent(tmp_path: Path) -> None:
    if not _installed("openai"):
        pytest.skip("openai is not installed")
    folder = EXAMPLES / "testing_an_agent"
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "-p", "no:cacheprovider", folder]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env=keyless(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "3 passed" in run.stdout, run.stdout + run.stderr


def test_each_example_is_listed_with_its_command() -> None:
    listed = (EXAMPLES / "README.md").read_text("utf-8")
    linked = set(re.findall(r"\]\(([^)]+)\)", listed))
    for file in EXAMPLES.rglob("*.py"):
        name = file.relative_to(EXAMPLES).as_posix()
        if file.name in ("__init__.py", "agent.py", "run.py"):
            continue  # parts of an example
        assert name in linked, f"{name} is not in examples/README.md"
    for command in re.findall(r"`((?:python|pytest|docker|tokenwire) .*?)`", listed):
        (path,) = (word for word in command.split() if word.startswith("examples/"))
        assert (EXAMPLES.parent / path).exists(), command
        if command.startswith("python"):
            source = (EXAMPLES.parent / path).read_text("utf-8")
            assert f"\n    {command}\n" in source, f"{path} does not say {command}"


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of its parent
        return False
