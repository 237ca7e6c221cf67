"""`LangGraphRoutes`: what LangChain's clients ask of LangGraph's server, for any agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from tokenwire._ids import check_name
from tokenwire._version import __version__
from tokenwire.approvals import Approval
from tokenwire.sink import Sink
from tokenwire.writer import ResponseWriter
from tokenwire_adapters._web.gateway.asgi import send_response
from tokenwire_adapters._web.gateway.auth import Authorize
from tokenwire_adapters._web.gateway.dispatch import admitted
from tokenwire_adapters._web.gateway.limits import Limits
from tokenwire_adapters._web.gateway.problems import Problem
from tokenwire_adapters._web.gateway.tokens import Tokens
from tokenwire_adapters._web.langgraph.encoder import LangGraphEncoder
from tokenwire_adapters._web.langgraph.events import ThreadEncoder
from tokenwire_adapters._web.langgraph.requests import answers_to
from tokenwire_adapters._web.langgraph.threads import ASKED, PARENT, Thread
from tokenwire_adapters._web.langgraph.turn import Beginning, LangGraphTurn
from tokenwire_adapters._web.ui.answers import Settled
from tokenwire_adapters._web.ui.errors import OnError
from tokenwire_adapters._web.ui.json import list_of, newest_of, object_of
from tokenwire_adapters._web.ui.routes import Exchange, ProtocolRoutes, Route
from tokenwire_adapters._web.ui.runs import Run

__all__ = ["LangGraphRoutes"]

_STATUS = {"streaming": "running", "complete": "success", "cancelled": "interrupted"}
_STOPPING = 0.25  # seconds that a stop may take to reach the run
_MAX_HISTORY = 100
_MAX_RUNS = 10
_CHANNELS = ("values", "checkpoints", "messages", "tools", "lifecycle", "input", "custom")


class LangGraphRoutes(ProtocolRoutes):
    """Routes of an agent for ``useStream`` of LangChain's clients, with `path` as their ``apiUrl``.

    They are those of LangGraph's server that these clients use: threads, states, history, runs,
    and the commands and events of the agent streaming protocol. The agent may be any.

    Parameters are those of `tokenwire_adapters.vercel.ChatRoutes`; `path` is by default
    ``/langgraph``.

    :raises ValueError: for arguments that are not valid.
    """

    def __init__(
        self,
        sink: Sink | None,
        agent: Callable[[LangGraphTurn], Awaitable[object] | object],
        *,
        path: str = "/langgraph",
        channel: Callable[[str], str] | None = None,
        authorize: Authorize | None = None,
        tokens: Tokens | None = None,
        allow_origins: Iterable[str] = (),
        limits: Limits | None = None,
        on_error: OnError | None = None,
    ) -> None:
        super().__init__(
            sink,
            agent,
            path=path,
            channel=channel,
            authorize=authorize,
            tokens=tokens,
            allow_origins=allow_origins,
            limits=limits,
            on_error=on_error,
        )

    def find(self, names: Sequence[str]) -> Route | None:
        match names:
            case ["info"]:
                return Route("langgraph.info", {"GET": self._info})
            case ["threads"]:
                return Route("langgraph.threads", {"POST": self._create})
            case ["threads", _, "runs", *rest]:
                return self._find_run(rest)
            case ["threads", _, *rest]:
                return self._find_thread(rest)
            case _:
                return None

    def _find_thread(self, names: Sequence[str]) -> Route | None:
        match names:
            case []:
                return Route("langgraph.thread", {"GET": self._thread_info})
            case ["state"]:
                return Route("langgraph.state", {"GET": self._state})
            case ["history"]:
                return Route("langgraph.history", {"GET": self._history, "POST": self._history})
            case ["commands"]:
                return Route("langgraph.commands", {"POST": self._command})
            case ["stream"] | ["stream", "events"]:
                return Route("langgraph.events", {"POST": self._events})
            case _:
                return None

    def _find_run(self, names: Sequence[str]) -> Route | None:
        match names:
            case []:
                return Route("langgraph.runs", {"GET": self._runs})
            case ["stream"]:
                return Route("langgraph.run", {"POST": self._run})
            case [_]:
                return Route("langgraph.status", {"GET": self._run_status})
            case [_, "stream"]:
                return Route("langgraph.stream", {"GET": self._join})
            case [_, "cancel"]:
                return Route("langgraph.cancel", {"POST": self._cancel})
            case _:
                return None

    # -- threads

    async def _info(self, exchange: Exchange) -> None:
        await self.send_json(exchange, {"version": __version__, "server": "tokenwire"})

    async def _create(self, exchange: Exchange) -> None:
        body = await self.read_body(exchange)
        given = body.get("thread_id")
        name = check_name(given, "thread_id") if isinstance(given, str) else str(uuid4())
        await self.authorize(exchange, name, "input")
        await self.send_json(exchange, self._described(name, None, body.get("metadata")))

    def _described(self, name: str, thread: Thread | None, metadata: Any = None) -> dict[str, Any]:
        state = None if thread is None else thread.state(thread.head)
        busy = state is not None and bool(state["next"])
        status = "interrupted" if state and state["interrupts"] else "busy" if busy else "idle"
        now = datetime.now(UTC).isoformat()
        return {
            "thread_id": name,
            "created_at": now,
            "updated_at": now,
            "metadata": metadata if isinstance(metadata, dict) else {},
            "status": status,
            "values": state["values"] if state else {},
            "interrupts": {},
        }

    async def _thread(self, exchange: Exchange, action: str) -> tuple[str, str, Thread]:
        """The thread that the path names: its channel, its id, and what it has."""
        name = self.names_of(exchange.request)[1]
        channel = await self.authorize(exchange, name, action)
        return channel, name, await self._read(channel, name)

    async def _read(self, channel: str, name: str) -> Thread:
        runs = await self.recent_runs(channel)
        return Thread(name, runs, self.on_error)

    async def _thread_info(self, exchange: Exchange) -> None:
        _, name, thread = await self._thread(exchange, "history")
        await self.send_json(exchange, self._described(name, thread))

    async def _state(self, exchange: Exchange) -> None:
        channel, name, thread = await self._thread(exchange, "history")
        last = thread.last
        if last is not None and last.streaming and not last.questions:
            # A page that stops a run reads this at the same time, and never again.
            await self._ended(channel, last.id)
            thread = await self._read(channel, name)
        await self.send_json(exchange, thread.state(thread.head))

    async def _ended(self, channel: str, run: str) -> None:
        """Wait a moment for the end of a run."""
        with suppress(TimeoutError):
            async with (
                asyncio.timeout(_STOPPING),
                self.sink.watch(channel, response_id=run) as watch,
            ):
                async for _ in watch:
                    pass

    async def _history(self, exchange: Exchange) -> None:
        limit = (await self.read_body(exchange)).get("limit")
        if not isinstance(limit, int) or isinstance(limit, bool):
            limit = 10
        _, _, thread = await self._thread(exchange, "history")
        states = thread.history(min(max(limit, 1), _MAX_HISTORY))
        await self.send_json(exchange, states)

    # -- runs, with their events

    async def _run(self, exchange: Exchange) -> None:
        body = await self.read_body(exchange)
        channel, name, thread = await self._thread(exchange, "input")
        self.service.require_input(exchange.caller.key, "runs")
        with admitted(self.service, exchange):
            command = body.get("command")
            settled = None
            if isinstance(command, dict) and "resume" in command:
                settled = await self._resume(exchange, channel, thread, command["resume"])
            if settled is not None and settled.begin is None:
                thread = await self._read(channel, name)
                await self._follow(exchange, channel, thread, settled.follow)
                return
            run = settled.begin if settled and settled.begin else self.tasks.new_run()
            with self.tasks.starting(channel, run):
                beginning = await self._beginning(channel, thread, body)
                before, values = beginning.messages, beginning.thread.values_before()
                encoder = LangGraphEncoder(run=run, enveloped=True, before=before, values=values)

                async def begin() -> None:
                    self._begin(exchange, channel, run, beginning, settled)

                reader = await self.watch_from(channel, begin)
            self._name_run(exchange, name, run)
            await self.stream(exchange, channel, encoder, reader)
            if not encoder.finished and body.get("on_disconnect") == "cancel":
                # The client asks for it: it cannot come back to this run.
                await self.tasks.cancel(channel, run=run, reason="its page has gone")

    async def _resume(
        self, exchange: Exchange, channel: str, thread: Thread, value: Any
    ) -> Settled | None:
        """Have a resume decided. :raises Problem: where the thread asks nothing."""
        answers = answers_to(thread.questions, value)
        settled = await self.settle(exchange, channel, answers, self.tasks.new_run())
        if settled is None:
            raise Problem("invalid", "the thread waits for no answer", status=409)
        return settled

    async def _beginning(self, channel: str, thread: Thread, body: dict[str, Any]) -> Beginning:
        """What a run begins with, once no other is under way.

        :raises Problem: where the request is not valid, or wants no other run stopped.
        """
        beginning = Beginning(thread, body)
        active = await self.service.within(self.tasks.active(channel))
        if active is None:
            return beginning
        if body.get("multitask_strategy") == "reject":
            raise Problem("invalid", "a run is under way in this thread", status=409)
        await self.tasks.cancel(channel, run=active.id, reason="another run came")
        return Beginning(await self._read(channel, thread.id), body)

    def _begin(
        self,
        exchange: Exchange,
        channel: str,
        run: str,
        beginning: Beginning,
        settled: Settled | None,
    ) -> None:
        answered: Sequence[Approval] = () if settled is None else settled.approvals

        def turn(response: ResponseWriter) -> LangGraphTurn:
            return LangGraphTurn(
                thread_id=beginning.thread.id,
                input=beginning.body.get("input"),
                config=object_of(beginning.body.get("config")),
                channel=channel,
                run=run,
                messages=beginning.messages,
                sink=self.sink,
                response=response,
                connection=exchange.caller.connection,
                principal=exchange.caller.principal,
                answered=answered,
            )

        metadata = {ASKED: newest_of(beginning.asked), PARENT: beginning.parent}
        self.tasks.begin(channel, run, metadata, turn)

    def _name_run(self, exchange: Exchange, name: str, run: str) -> None:
        """Tell the client which run it follows, and where it may follow it again."""
        path = f"/threads/{name}/runs/{run}"
        exchange.headers += [
            (b"content-location", path.encode()),
            (b"location", f"{path}/stream".encode()),
            (b"access-control-expose-headers", b"Content-Location, Location, Retry-After"),
        ]

    async def _join(self, exchange: Exchange) -> None:
        channel, _, thread = await self._thread(exchange, "subscribe")
        run = self.names_of(exchange.request)[3]
        with admitted(self.service, exchange):
            await self._follow(exchange, channel, thread, run)

    async def _follow(self, exchange: Exchange, channel: str, thread: Thread, run: str) -> None:
        if run not in thread.runs:
            raise Problem("not_found", "the thread has no such run")
        encoder = LangGraphEncoder(before=thread.before(run), values=thread.values_before(run))
        reader = await self.service.within(encoder.join(self.sink, channel, run=run))
        if reader is None:
            raise Problem("not_found", "the thread has no such run")
        self._name_run(exchange, thread.id, run)
        await self.stream(exchange, channel, encoder, reader)

    async def _run_status(self, exchange: Exchange) -> None:
        _, name, thread = await self._thread(exchange, "history")
        run = thread.runs.get(self.names_of(exchange.request)[3])
        if run is None:
            raise Problem("not_found", "the thread has no such run")
        await self.send_json(exchange, _described_run(run, name))

    async def _runs(self, exchange: Exchange) -> None:
        _, name, thread = await self._thread(exchange, "history")
        given = exchange.request.query.get("status")
        runs = [_described_run(run, name) for run in reversed(thread.runs.values())]
        runs = [run for run in runs if given is None or run["status"] == given]
        await self.send_json(exchange, runs[:_MAX_RUNS])

    async def _cancel(self, exchange: Exchange) -> None:
        names = self.names_of(exchange.request)
        channel = await self.authorize(exchange, names[1], "cancel")
        self.service.require_input(exchange.caller.key)
        if not await self.tasks.cancel(channel, run=names[3], reason="stopped by the user"):
            raise Problem("not_found", "this run is not under way")
        await send_response(exchange.send, 202, headers=exchange.headers)

    # -- the agent streaming protocol

    async def _command(self, exchange: Exchange) -> None:
        body = await self.read_body(exchange)
        given = object_of(body.get("params"))
        error = {"error": "no_such_interrupt", "message": "the thread waits for no such answer"}
        result: dict[str, Any] | None = None
        match body.get("method"):
            case "run.start":
                result = await self._start(exchange, given)
            case "input.respond":
                result = await self._respond(exchange, given)
            case other:
                error = {"error": "unknown_command", "message": f"no such command: {other!a}"[:200]}
        answer: dict[str, Any] = {"type": "error", "id": body.get("id"), **error}
        if result is not None:
            answer = {"type": "success", "id": body.get("id"), "result": result}
        await self.send_json(exchange, answer)

    async def _start(
        self, exchange: Exchange, params: dict[str, Any], settled: Settled | None = None
    ) -> dict[str, Any]:
        channel, _, thread = await self._thread(exchange, "input")
        self.service.require_input(exchange.caller.key, "runs")
        run = settled.begin if settled and settled.begin else self.tasks.new_run()
        with self.tasks.starting(channel, run):
            beginning = await self._beginning(channel, thread, params)
            self._begin(exchange, channel, run, beginning, settled)
        return {"run_id": run}

    async def _respond(self, exchange: Exchange, params: dict[str, Any]) -> dict[str, Any] | None:
        channel, _, thread = await self._thread(exchange, "input")
        questions = thread.questions
        responses = [object_of(one) for one in list_of(params.get("responses"))] or [params]
        ids = {question.id for question in questions}
        named = {str(one.get("interrupt_id")): one.get("response") for one in responses}
        known = {name: value for name, value in named.items() if name in ids}
        answers = answers_to(questions, known) if known else []
        settled = await self.settle(exchange, channel, answers, self.tasks.new_run())
        if settled is None:
            return None
        if settled.begin is None:
            return {"run_id": settled.follow}
        return await self._start(exchange, {}, settled)

    async def _events(self, exchange: Exchange) -> None:
        body = await self.read_body(exchange)
        channels = [str(one) for one in list_of(body.get("channels")) or _CHANNELS]
        channel, name, thread = await self._thread(exchange, "subscribe")
        with admitted(self.service, exchange):
            encoder = ThreadEncoder(thread, channels)
            while (reader := await self.service.within(encoder.join(self.sink, channel))) is None:
                encoder = ThreadEncoder(await self._read(channel, name), channels)
            await self.stream(exchange, channel, encoder, reader)


def _described_run(run: Run, thread_id: str) -> dict[str, Any]:
    status = "interrupted" if run.questions else _STATUS.get(run.state, "error")
    return {"run_id": run.id, "thread_id": thread_id, "assistant_id": "agent", "status": status}
