"""nchan, a module of nginx in C, as a peer of the gateway: where Debian's package has it.

Debian's `libnginx-mod-nchan`, or a module whose path is in ``$NCHAN_MODULE``.
"""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

__all__ = ["Nchan", "module"]

_CONFIG = """
{load}
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 20000; }}
http {{
  access_log off;
  nchan_shared_memory_size 128M;
  client_body_temp_path {folder}/body;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location /publish {{ nchan_publisher; nchan_channel_id c; keepalive_requests 1000000; }}
    location /channels/c/events {{ nchan_subscriber eventsource; nchan_channel_id c; }}
  }}
}}
"""
_DEBIAN = "/usr/lib/nginx/modules/ngx_nchan_module.so"


def module() -> str | None:
    """The module's path; None where it is not installed."""
    path = os.environ.get("NCHAN_MODULE", _DEBIAN)
    return path if Path(path).exists() else None


class Nchan:
    """nginx with nchan, and a publisher: what `gateway_load.Server` is for servers in Python."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._folder = tempfile.TemporaryDirectory()
        config = Path(self._folder.name, "nginx.conf")
        load = f"load_module {module()};"
        config.write_text(
            _CONFIG.format(load=load, folder=self._folder.name, port=self.port), encoding="ascii"
        )
        self._process = subprocess.Popen(
            ["nginx", "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                assert time.monotonic() < until, "nginx did not start"
                time.sleep(0.05)
        self._replies: list[dict[str, Any]] = []
        self._used = 0.0

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
        import gateway_load

        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        encode = gateway_load.encoded_events()

        def post(data: bytes) -> None:
            connection.request("POST", "/publish", data)
            connection.getresponse().read()

        produced = gateway_load.produce(
            lambda text: post(encode(text).data),
            lambda: post(b"{" + gateway_load.END + b"}"),
            rate,
            seconds,
        )
        self._replies.append({"produced": produced})

    @property
    def _workers(self) -> list[str]:
        number = self._process.pid
        return Path(f"/proc/{number}/task/{number}/children").read_text().split()

    def _cpu(self) -> float:
        """CPU seconds of the workers so far."""
        fields = [Path(f"/proc/{worker}/stat").read_text().split() for worker in self._workers]
        return sum(int(one[13]) + int(one[14]) for one in fields) / os.sysconf("SC_CLK_TCK")

    @property
    def memory(self) -> int:
        """Resident memory of the workers, in bytes."""
        pages = (Path(f"/proc/{worker}/statm").read_text().split()[1] for worker in self._workers)
        return sum(map(int, pages)) * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        """End nginx."""
        self._process.terminate()
        self._process.wait()
        self._folder.cleanup()
