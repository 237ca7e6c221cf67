"""An agent that asks before it acts, on a server that can be killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

import tokenwire
from tokenwire_adapters.ag_ui import AgentRoutes
from tokenwire_adapters.langgraph import LangGraphRoutes
from tokenwire_adapters.ui import Turn
from tokenwire_adapters.vercel import ChatRoutes

MAIL = {"to": "ann"}
PATIENCE = 60.0


class Approving:
    """Writes, asks whether it may send a mail, and sends it.

    :ivar sent: the mails sent, each with what was said to it.
    """

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.sent: list[str | None] = []

    async def __call__(self, turn: Turn) -> None:
        self.turns.append(turn)
        turn.response.write("I will write to Ann. ")
        approval = await turn.approve("send_mail", MAIL, message="Send it?")
        if approval.approved:
            self.sent.append(approval.reason)
            turn.tool_result(approval.request.call_id or "", {"sent": True})
            turn.response.write("Sent.")
        else:
            turn.response.write("Not sent.")


def app_of(sink: tokenwire.Sink, agent: Any, pages: Sequence[Route] = ()) -> Starlette:
    routes = [
        *pages,
        *ChatRoutes(sink, agent).routes,
        *AgentRoutes(sink, agent).routes,
        *LangGraphRoutes(sink, agent).routes,
    ]

    async def sent(request: Any) -> JSONResponse:
        return JSONResponse(agent.sent)

    return Starlette(routes=[*routes, Route("/sent", sent)])


class Process:
    """The server in a process of its own, which can be killed.

    :param page: the script of the page that ``/chats/ID`` is.
    """

    def __init__(self, url: str, port: int, page: Path | None = None) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._arguments = [sys.executable, str(Path(__file__)), url, str(port), str(page or "")]
        self.start()

    def start(self) -> None:
        root = str(Path(__file__).parents[3])
        self._process = subprocess.Popen(self._arguments, env={**os.environ, "PYTHONPATH": root})
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/sent", timeout=PATIENCE).close()
                return
            except OSError:
                assert time.monotonic() < deadline
                assert self._process.poll() is None
                time.sleep(0.02)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(PATIENCE)


def main(url: str, port: int, page: str) -> None:
    import uvicorn

    pages: list[Route] = []
    if page:
        from tests.e2e.bundles import page_routes

        pages = page_routes(Path(page).read_text(encoding="utf-8"), "/chats/{id}")
    # A short lease: a killed agent is known to be gone soon.
    app = app_of(tokenwire.open_sink(url, lease=1.0), Approving(), pages)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
