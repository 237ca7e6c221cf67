"""nchan, a module of nginx in C, as a peer of the gateway: where Debian's package has it.

Debian's `libnginx-mod-nchan`, or a module whose path is in ``$NCHAN_MODULE``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from posted_server import PostedServer, free_port

__all__ = ["Nchan"]

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
_MODULE = os.environ.get("NCHAN_MODULE", "/usr/lib/nginx/modules/ngx_nchan_module.so")


class Nchan(PostedServer):
    """nginx with nchan."""

    publish_to = "/publish"

    def __init__(self) -> None:
        port = free_port()
        self._folder = tempfile.TemporaryDirectory()
        config = Path(self._folder.name, "nginx.conf")
        load = f"load_module {_MODULE};"
        config.write_text(
            _CONFIG.format(load=load, folder=self._folder.name, port=port), encoding="ascii"
        )
        super().__init__(["nginx", "-c", str(config)], port)

    @staticmethod
    def missing() -> str | None:
        if shutil.which("nginx") is None:
            return "nginx is not on PATH"
        return None if Path(_MODULE).exists() else f"there is no {_MODULE}"

    def processes(self) -> list[int]:
        """The workers."""
        number = self._process.pid
        children = Path(f"/proc/{number}/task/{number}/children").read_text(encoding="ascii")
        return [int(child) for child in children.split()]

    def stop(self) -> None:
        super().stop()
        self._folder.cleanup()
