"""``python -m tokenwire_adapters.testing.provider``: run the provider until interrupted."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys

from tokenwire_adapters.testing.provider._server import MODELS, Provider


async def _run(pace: float, host: str, port: int) -> None:
    async with Provider(pace=pace, host=host, port=port) as provider:
        print(provider.base_url, flush=True)
        await asyncio.Event().wait()


def main() -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m tokenwire_adapters.testing.provider",
        description="An offline model provider: the APIs of OpenAI and Anthropic, canned texts.",
        epilog=f"Models: {', '.join(MODELS)}; any other name works, too.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port; 0 takes a free one")
    parser.add_argument(
        "--pace", type=float, default=40.0, help="tokens per second, 0 for no limit (%(default)s)"
    )
    args = parser.parse_args()
    try:
        asyncio.run(_run(args.pace, args.host, args.port))
    except (OSError, ValueError) as error:
        print(f"The provider cannot start: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
