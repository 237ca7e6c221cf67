"""Servers of others, which are published to over HTTP, as peers of the gateway."""

from __future__ import annotations

import http.client
import os
import queue
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

__all__ = ["PostedServer", "free_port"]

_HEADERS = {"Content-Type": "application/json"}


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


class PostedServer:
    """What `gateway_load.Server` is for servers in Python, with a publisher in this process."""

    stream = "sse"  # which of `gateway_load.STREAMS` watchers read
    publish_to = ""
    at_once = 1  # events in a request, at most: those that came during the one before

    def __init__(self, command: list[str], port: int) -> None:
        self.port = port
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < until, f"{command[0]} did not start"
                assert self._process.poll() is None, f"{command[0]} has ended"
                time.sleep(0.05)
        self._publisher = http.client.HTTPConnection("127.0.0.1", port)
        self._replies: list[dict[str, Any]] = []
        self._used = 0.0

    @staticmethod
    def missing() -> str | None:
        """What is not installed; None where the server can be started."""
        raise NotImplementedError

    def body(self, events: list[bytes]) -> bytes:
        """What publishes these events."""
        return b"".join(events)

    def processes(self) -> list[int]:
        """Whose CPU time and memory are counted."""
        return [self._process.pid]

    def send_command(self, *, do: str, rate: float = 0.0, seconds: float = 0.0) -> None:
        """Publish, or measure what that has cost."""
        if do == "measure":
            self._replies.append({"cpu": self._cpu() - self._used})
            return
        self._used = self._cpu()
        self._publishing = threading.Thread(target=self._publish, args=(rate, seconds))
        self._publishing.start()

    def read_reply(self) -> dict[str, Any]:
        """What came of it."""
        self._publishing.join()
        return self._replies.pop(0)

    def _publish(self, rate: float, seconds: float) -> None:
        """Tokens come at their rate, however long a request takes: what waits for one is late."""
        import gateway_load

        waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        end = b"{" + gateway_load.END + b"}"
        posting = threading.Thread(target=self._post, args=(waiting, end))
        posting.start()
        encode = gateway_load.encoded_events()
        produced = gateway_load.produce(
            lambda text: waiting.put(encode(text).data), lambda: waiting.put(end), rate, seconds
        )
        posting.join()
        self._replies.append({"produced": produced})

    def _post(self, waiting: queue.SimpleQueue[bytes], end: bytes) -> None:
        self._publisher.close()  # the server may have, too; a request opens it again
        events: list[bytes] = []
        while end not in events:
            events = [waiting.get()]
            while len(events) < self.at_once and not waiting.empty():
                events.append(waiting.get())
            self.publish("POST", self.body(events))

    def publish(self, method: str, body: bytes | None = None) -> None:
        """One request to where this server is published to."""
        self._publisher.request(method, self.publish_to, body, _HEADERS)
        answer = self._publisher.getresponse()
        answer.read()
        assert answer.status < 300, answer.status

    def _cpu(self) -> float:
        """CPU seconds so far."""
        fields = [Path(f"/proc/{one}/stat").read_text().split() for one in self.processes()]
        return sum(int(one[13]) + int(one[14]) for one in fields) / os.sysconf("SC_CLK_TCK")

    @property
    def memory(self) -> int:
        """Resident memory, in bytes."""
        pages = (Path(f"/proc/{one}/statm").read_text().split()[1] for one in self.processes())
        return sum(map(int, pages)) * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()
