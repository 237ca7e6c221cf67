"""``python -m tokenwire_adapters.testing.ably``: run the local Ably until interrupted."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys

from tokenwire_adapters.testing.ably import AblyServer, Key, Settings


def main() -> int:
    """Start a server, print where it is as one line of JSON, and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m tokenwire_adapters.testing.ably",
        description="A local Ably for tests. Prints its port, its control port and its key.",
    )
    parser.add_argument("--port", type=int, default=0, help="port; 0 takes a free one")
    parser.add_argument(
        "--key", default=Key().full, metavar="APP.ID:SECRET", help="the API key (%(default)s)"
    )
    parser.add_argument(
        "--rate",
        type=float,
        default=Settings.inbound_rate,
        help="messages per second of one connection, 0 for no limit (%(default)s)",
    )
    args = parser.parse_args()
    try:
        asyncio.run(_serve(args.port, args.key, args.rate))
    except OSError as error:
        print(f"The local Ably cannot start: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


async def _serve(port: int, key: str, rate: float) -> None:
    name, _, secret = key.partition(":")
    settings = Settings(inbound_rate=rate or None)
    async with AblyServer(Key(name, secret), settings=settings, port=port) as server:
        address = {"port": server.port, "control": server.control_port, "key": server.key.full}
        print(json.dumps(address), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
