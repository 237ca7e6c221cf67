"""Serve until interrupted, after one line of JSON that says where."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json

from tokenwire_adapters.testing.ably._auth import Key
from tokenwire_adapters.testing.ably._server import AblyServer
from tokenwire_adapters.testing.ably._settings import Settings


def main() -> None:
    """Start a server and print where it is."""
    parser = argparse.ArgumentParser(prog="python -m tokenwire_adapters.testing.ably")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--key", default=Key().full, help="APP.KEY:SECRET")
    parser.add_argument("--rate", type=float, default=50, help="messages a second; 0 for no limit")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(arguments))


async def _serve(arguments: argparse.Namespace) -> None:
    name, _, secret = arguments.key.partition(":")
    server = AblyServer(Key(name, secret), settings=Settings(inbound_rate=arguments.rate or None))
    server.port = arguments.port
    async with server:
        where = {"port": server.port, "control": server.control_port, "key": server.key.full}
        print(json.dumps(where), flush=True)
        await asyncio.Event().wait()


main()
