"""The second opinion on the local Ably: the official JavaScript SDK, and AI Transport."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.nodejs import node_with
from tokenwire_adapters.testing.ably import ServerThread, Settings

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent / "js"
SCENARIOS = (
    "stream",
    "rewind",
    "history",
    "resume",
    "recover",
    "presence",
    "auth",
    "faults",
    "rest",
)


@pytest.fixture
def server() -> Iterator[ServerThread]:
    with ServerThread(settings=Settings(mutable=("ai",), inbound_rate=None)) as thread:
        yield thread


def run(server: ServerThread, script: str, scenario: str, encoding: str, major: int) -> None:
    tools = node_with(FOLDER / "package.json", major=major)
    result = subprocess.run(
        [tools.executable, str(FOLDER / script), scenario],
        env=tools.environment(
            ABLY_PORT=server.server.port,
            ABLY_CONTROL=server.server.control_port,
            ABLY_KEY=server.server.key.full,
            ABLY_ENCODING=encoding,
        ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.stdout == f"done {scenario}\n", result.stdout + result.stderr
    assert result.returncode == 0


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_official_sdk_sees_what_is_documented(
    server: ServerThread, scenario: str, encoding: str
) -> None:
    run(server, "ably.cjs", scenario, encoding, 20)


@pytest.mark.parametrize(
    "scenario", ["streaming", "reloading", "cancelling", "dropping", "refusing"]
)
def test_ai_transports_own_pair_works_on_it(server: ServerThread, scenario: str) -> None:
    run(server, "ai-transport.cjs", scenario, "msgpack", 22)


def test_ai_transports_own_pair_stays_within_the_rate_limit() -> None:
    """With Ably's default limit of 50 messages a second, and its rollup."""
    with ServerThread(settings=Settings(mutable=("ai",))) as server:
        run(server, "ai-transport.cjs", "streaming", "msgpack", 22)
        stats = server.server.stats
        assert stats["published"] < stats["messages_in"]  # appends were rolled up
