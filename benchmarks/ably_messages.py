"""Messages that Ably counts for 1,000 tokens, by rollup window and by the sink's own rollup.

python -m benchmarks.ably_messages
"""

from __future__ import annotations

import sys
import time

from tests.adapters.ably.places import sink
from tokenwire_adapters.testing.ably import ServerThread, Settings

RATE = 200  # tokens a second
TOKENS = 1000


def published(window: float, rollup: float, granularity: str) -> int:
    with ServerThread(settings=Settings(inbound_rate=None)) as thread:
        with sink(
            thread, rate=0, rollup_window=window, rollup=rollup, granularity=granularity
        ) as made:
            begun = time.monotonic()
            with made.respond("ai:chat") as response:
                for number in range(TOKENS):
                    pause = begun + number / RATE - time.monotonic()
                    if pause > 0:
                        time.sleep(pause)
                    response.write(" token")
            response.wait(60)
        return thread.server.stats["published"]


def main() -> None:
    print(f"{TOKENS} tokens at {RATE} a second")
    print("| rollup_window | sink's rollup | messages |")
    print("| --- | --- | --- |")
    for window, rollup in ((0, 0), (0.02, 0), (0.04, 0), (0.1, 0), (0.5, 0), (0, 0.1), (0.04, 0.1)):
        print(f"| {window} s | {rollup} s | {published(window, rollup, 'response')} |", flush=True)
    print(f"| granularity token | | {published(0.04, 0, 'token')} |")


if __name__ == "__main__":
    sys.exit(main())
