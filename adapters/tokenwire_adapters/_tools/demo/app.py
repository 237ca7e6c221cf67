"""The demo's web app: the page, the agent's own route, and the gateway beside it.

It is like an existing web agent: it takes a question, returns at once and works in the
background. The lines that concern tokenwire are marked.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, cast

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

import tokenwire
from tokenwire_adapters._tools.demo.agent import Answer, ChatAgent
from tokenwire_adapters._tools.demo.documents import documents
from tokenwire_adapters._tools.demo.pages import PAGES, page_response
from tokenwire_adapters._tools.demo.shown_code import shown_code
from tokenwire_adapters._tools.demo.wiring import answer_in
from tokenwire_adapters.asgi import Gateway

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from tokenwire_adapters.testing.provider import Provider

__all__ = ["Demo"]

logger = logging.getLogger("tokenwire.demo")

_MAX_AGENTS = 500
_MAX_RUNS = 500
_MAX_RUNNING = 64
_MAX_BODY = 32 * 1024
_MAX_QUESTION = 4000
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Demo:
    """The app and its state.

    :param sink: where the agent's tokens go.
    :param client: of OpenAI's SDK, wrapped already.
    :param models: to offer; the first is the default.
    :param provider: the local provider, where it is used: the page shows its records.
    """

    def __init__(
        self,
        sink: tokenwire.Sink,
        client: AsyncOpenAI,
        *,
        models: tuple[str, ...],
        provider: Provider | None = None,
    ) -> None:
        self.sink = sink
        self.gateway = Gateway(sink)
        self._client = client
        self._models = models
        self._provider = provider
        self._agents: OrderedDict[str, ChatAgent] = OrderedDict()
        self._runs: OrderedDict[str, Answer] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self.app = Starlette(
            routes=[
                Route("/", _index, methods=["GET"]),
                Route("/assets/{name}", _asset, methods=["GET"]),
                Route("/documents/{path:path}", _document, methods=["GET"]),
                Route("/config", self._config, methods=["GET"]),
                Route("/questions", self._ask, methods=["POST"]),
                Route("/runs/{run}", self._run, methods=["GET"]),
                Mount("/stream", self.gateway),  # tokenwire: the page watches here
            ]
        )

    async def aclose(self) -> None:
        """Stop what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.gateway.shutdown(2.0)

    # -- the agent's routes

    async def _config(self, request: Request) -> Response:
        _check_page(request)
        return JSONResponse(
            {
                "version": tokenwire.__version__,
                "models": self._models,
                "offline": self._provider is not None,
                "code": shown_code(),
                "documents": bool(documents()),
            },
            headers={"cache-control": "no-store"},
        )

    async def _ask(self, request: Request) -> Response:
        """Take a question, answer it in the background."""
        _check_page(request)
        body = await _json(request)
        channel, question = body.get("channel"), body.get("question")
        model, tools = body.get("model", self._models[0]), body.get("tools", False)
        if not isinstance(channel, str) or not _NAME.fullmatch(channel):
            raise HTTPException(422, "channel must be 1 to 64 letters, digits, - or _")
        if not isinstance(question, str) or not 0 < len(question.strip()) <= _MAX_QUESTION:
            raise HTTPException(422, f"question must have 1 to {_MAX_QUESTION} characters")
        if model not in self._models or not isinstance(tools, bool):
            raise HTTPException(422, f"model must be one of {', '.join(self._models)}")
        if len(self._tasks) >= _MAX_RUNNING:
            raise HTTPException(503, "too many questions at a time")
        run = f"q-{secrets.token_hex(6)}"
        data = {"text": question, "model": model}
        await self.sink.ainput(channel, "question", data, id=run)  # tokenwire: others see it, too
        task = asyncio.create_task(self._answer(channel, run, question, model, tools))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return JSONResponse({"run": run}, 202)

    async def _answer(self, channel: str, run: str, question: str, model: str, tools: bool) -> None:
        agent = self._agents.get(channel) or ChatAgent(self._client)
        self._agents[channel] = agent
        self._agents.move_to_end(channel)
        answer = self._runs[run] = Answer()
        for cache, limit in ((self._agents, _MAX_AGENTS), (self._runs, _MAX_RUNS)):
            while len(cache) > limit:
                cache.popitem(last=False)

        def on_tool(call_id: str, name: str, output: Any) -> None:
            self.sink.tool_result(channel, call_id, output, run=run, name=name)  # tokenwire

        try:
            answering = agent.answer(
                question, model=model, tools=tools, answer=answer, on_tool=on_tool
            )
            await answer_in(channel, run, answering)  # tokenwire: where its tokens go
        except Exception as error:
            logger.warning("the agent failed: %s", error)
            self.sink.send_event(channel, "failed", {"error": type(error).__name__}, run=run)

    async def _run(self, request: Request) -> Response:
        """The provider's records of one question: how many tokens, and whether it was stopped."""
        _check_page(request)
        answer = self._runs.get(request.path_params["run"])
        if answer is None or self._provider is None:
            raise HTTPException(404, "no such run, or not by the local provider")
        records: list[dict[str, Any]] = []
        for completion in answer.completions:
            try:
                record = self._provider.record(completion)
            except LookupError:
                continue
            records.append(
                {
                    "id": record.id,
                    "outcome": record.outcome,
                    "sent": record.tokens_sent,
                    "planned": record.tokens_planned,
                    "text": record.sent_text,
                }
            )
        return JSONResponse({"completions": records}, headers={"cache-control": "no-store"})


async def _json(request: Request) -> dict[str, Any]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # which pages of other sites cannot send without CORS
        raise HTTPException(415, "the body must be application/json")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            raise HTTPException(413, "the body is too large")
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise HTTPException(400, "the body is not JSON") from error
    if not isinstance(value, dict):
        raise HTTPException(422, "the body must be an object")
    return cast("dict[str, Any]", value)


def _check_page(request: Request) -> str:
    """Check that a request comes from this page: not other sites, nor names of loopback.

    :return: host and port, as the browser names them.
    """
    try:
        host, port = request.url.hostname, request.url.port or 80
    except ValueError:
        host, port = None, 0
    if host not in ("127.0.0.1", "localhost"):
        raise HTTPException(403, "the demo answers at 127.0.0.1 only")
    origin = request.headers.get("origin")
    page = f"http://{host}" if port == 80 else f"http://{host}:{port}"
    if origin is not None and origin != page:
        raise HTTPException(403, "the demo answers its own page only")
    return f"{host}:{port}"


async def _index(request: Request) -> Response:
    return page_response("index.html", _check_page(request))


async def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in PAGES or name.endswith(".html"):
        raise HTTPException(404)
    return page_response(name, _check_page(request))


async def _document(request: Request) -> Response:
    """A page of the documentation; with ``?source`` its Markdown, and which pages there are."""
    host = _check_page(request)
    page = documents().get(request.path_params["path"])
    if page is None:
        raise HTTPException(404)
    if "source" not in request.query_params:
        return page_response("doc.html", host)
    source = await asyncio.to_thread(page.read_text, "utf-8")
    return JSONResponse({"source": source, "installed": sorted(documents())})
