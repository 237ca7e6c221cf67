"""Durable Streams' server in Node, as a peer of the gateway: where Node and npm are installed.

One stream of JSON, which watchers read from its tail by the protocol's event streams. It is
published to as its own client does: events that come during a request go into the next one.
The store is in memory, as that of the gateway is here; ``DurableFile`` has the one in files, which
syncs each request to the disk. The protocol asks servers to end an event stream after a minute;
this one does not, and the benchmark's client would fail on it rather than count a token twice.
"""

from __future__ import annotations

import shutil
import tempfile

import npm_packages
from posted_server import PostedServer, free_port

__all__ = ["DurableFile", "DurableLong", "DurableStreams"]

PACKAGE = "@durable-streams/server@0.3.7"
_SERVER = """
import { DurableStreamTestServer } from "@durable-streams/server";
const [port, dataDir] = process.argv.slice(2);
await new DurableStreamTestServer({ port: Number(port), dataDir }).start();
"""


class DurableStreams(PostedServer):
    """The server with its store in memory."""

    stream = "durable"
    publish_to = "/channels/c/events"
    at_once = 1000

    def __init__(self, *arguments: str) -> None:
        port = free_port()
        script = npm_packages.installed(PACKAGE) / "durable_streams.mjs"
        script.write_text(_SERVER, encoding="ascii")  # ES modules are found from where it is
        node = shutil.which("node")
        assert node is not None
        super().__init__([node, str(script), str(port), *arguments], port)
        self.publish("PUT")

    @staticmethod
    def missing() -> str | None:
        try:
            npm_packages.installed(PACKAGE)
        except ImportError as error:
            return str(error)
        return None

    def body(self, events: list[bytes]) -> bytes:
        return b"[" + b",".join(events) + b"]"


class DurableLong(DurableStreams):
    """The server with a stream that has been published to ten thousand times."""

    def __init__(self) -> None:
        super().__init__()
        for number in range(10_000):
            self.publish("POST", b"[%d]" % number)


class DurableFile(DurableStreams):
    """The server with its store in files."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        super().__init__(self._folder.name)

    def stop(self) -> None:
        super().stop()
        self._folder.cleanup()
