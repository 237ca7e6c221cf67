"""An agent in Node, beside the proxy, on a channel in a SQLite file; then what a screen has of it.

    pip install "tokenwire[cli,proxy]"
    python examples/node_agent/run.py

The command that it runs, and prints, is all that an agent in another language needs: `tokenwire
run`. With $OPENAI_API_KEY set the agent talks to OpenAI; without, to a provider of this machine.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import tokenwire
from tokenwire_adapters.testing.provider import serve_in_thread

CHANNEL = "chat-42"
AGENT = Path(__file__).with_name("agent.mjs")


@contextlib.contextmanager
def provider() -> Generator[dict[str, str], None, None]:
    """What the agent's environment needs: nothing where there is a key."""
    if os.environ.get("OPENAI_API_KEY"):
        yield {}
        return
    with serve_in_thread(pace=float(os.environ.get("PACE", "60"))) as local:
        yield {"OPENAI_BASE_URL": local.base_url, "OPENAI_API_KEY": "unused"}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, provider() as variables:
        url = f"sqlite:///{folder}/node.db"
        command = ["run", "--to", url, "--channel", CHANNEL, "--", "node", str(AGENT)]
        print("$ tokenwire", *command, flush=True)
        subprocess.run(
            [sys.executable, "-m", "tokenwire_adapters.cli", *command],
            env={**os.environ, **variables},
            check=True,
        )
        with tokenwire.open_sink(url) as sink:
            (response,) = sink.history(CHANNEL).items
        print(f"[{response.state}, {response.finish_reason}, {len(response.text)} characters]")


if __name__ == "__main__":
    main()
