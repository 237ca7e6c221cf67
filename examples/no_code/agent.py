"""An agent that knows nothing of tokenwire.

    pip install "tokenwire[cli,redis]"
    tokenwire run --to redis://localhost --channel chat-42 -- python examples/no_code/agent.py
    tokenwire watch redis://localhost chat-42 --rewind all

It talks to whatever the OpenAI SDK's own environment variables name. Offline, start the bundled
provider in another terminal, ``python -m tokenwire_adapters.testing.provider --port 8801``, and set
``OPENAI_BASE_URL=http://127.0.0.1:8801/v1 OPENAI_API_KEY=unused``.
"""

from __future__ import annotations

import os
import sys

from openai import OpenAI


def main() -> None:
    question = " ".join(sys.argv[1:]) or "Why do people stream tokens?"
    with OpenAI() as client:
        stream = client.chat.completions.create(
            model=os.environ.get("OPENAI_MODEL", "gpt-4o-mini"),
            messages=[{"role": "user", "content": question}],
            stream=True,
        )
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                print(chunk.choices[0].delta.content, end="", flush=True)
    print()


if __name__ == "__main__":
    main()
