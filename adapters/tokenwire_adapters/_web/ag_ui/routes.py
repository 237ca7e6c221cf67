"""`AgentRoutes`: what an `HttpAgent` of AG-UI talks to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, cast

import msgspec
from ag_ui.core import RunAgentInput
from pydantic import ValidationError
from starlette.requests import HTTPConnection

from tokenwire.events import Event
from tokenwire.sink import Sink
from tokenwire.writer import ResponseWriter
from tokenwire_adapters._web.ag_ui.encoder import AgUiEncoder
from tokenwire_adapters._web.ag_ui.messages import ASKED, asked_by, conversation, merged
from tokenwire_adapters._web.gateway.asgi import checked_name
from tokenwire_adapters._web.gateway.auth import Authorize
from tokenwire_adapters._web.gateway.gateway import Gateway
from tokenwire_adapters._web.gateway.limits import Limits
from tokenwire_adapters._web.gateway.problems import Problem
from tokenwire_adapters._web.gateway.tokens import Tokens
from tokenwire_adapters._web.ui.routes import Exchange, ProtocolRoutes, Route
from tokenwire_adapters._web.ui.runs import recent_runs

__all__ = ["AgentRoutes", "AgentTurn"]


class AgentTurn(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent is to do.

    Code of the agent that names no channel writes into the thread's: wrapped clients of OpenAI or
    Anthropic, LangChain and LlamaIndex with their handlers, ``sink.respond()``. An agent without
    any of these writes into `response`.

    :ivar input: the request, as ``ag_ui.core.RunAgentInput``: messages, tools, state, context.
    :ivar thread_id: as the client calls it; `channel`: where it is kept; `run`: the run's id.
    :ivar messages: those of the input, as plain JSON.
    :ivar response: stands for the run; it ends when the agent does.
    :ivar connection: the request, as Starlette has it.
    :ivar principal: who `authorize` or the token says is asking.
    """

    input: RunAgentInput
    thread_id: str
    channel: str
    run: str
    messages: list[dict[str, Any]]
    sink: Sink
    response: ResponseWriter
    connection: HTTPConnection
    principal: str | None = None

    @property
    def text(self) -> str:
        """The text of the last message of the user."""
        for message in reversed(self.messages):
            if message["role"] == "user":
                return _text_of(message)
        return ""

    @property
    def cancelled(self) -> bool:
        """Whether the user has stopped the run; for agents that run in a thread."""
        return self.response.cancelled

    def state(self, snapshot: Any) -> None:
        """Give clients a new state."""
        self.response.data_part("state", snapshot)

    def tool_result(self, call_id: str, output: Any = None, *, error: str | None = None) -> None:
        """Tell what a tool of the agent answered.

        :param output: anything JSON can hold.
        :param error: what went wrong, in place of an output.
        """
        self.response.tool_result(call_id, output, error=error)

    def chat_messages(self) -> list[dict[str, Any]]:
        """The conversation for OpenAI's Chat Completions (and for what takes its messages)."""
        told: list[dict[str, Any]] = []
        for message in self.messages:
            role = message["role"]
            if role in ("developer", "system", "user"):
                told.append({"role": role, "content": _text_of(message)})
            elif role == "tool":
                content = _text_of(message)
                told.append(
                    {"role": role, "tool_call_id": message["toolCallId"], "content": content}
                )
            elif role == "assistant":
                calls = message.get("toolCalls")
                entry = {"role": role, "content": _text_of(message) or None}
                told.append({**entry, "tool_calls": calls} if calls else entry)
        return told


class AgentRoutes(ProtocolRoutes):
    """An agent for clients of AG-UI 1.0 such as ``HttpAgent`` of ``@ag-ui/client``.

    | route | what |
    | --- | --- |
    | ``POST {path}`` | run the agent (``RunAgentInput``); answers with the run's events |
    | ``POST {path}/connect`` | the thread so far, and the run under way, if any, to its end |
    | ``GET {path}/{thread}/stream`` | the run under way, likewise; 204 when there is none |
    | ``POST {path}/{thread}/stop`` | stop the run under way, whoever began it, wherever it runs |

    ``connect`` takes the same input, so a second `HttpAgent` with its URL is how a page that was
    reloaded, or another tab, joins. The agent runs on whether or not anybody watches.

    Parameters are those of `tokenwire_adapters.vercel.ChatRoutes`; `path` is by default ``/agent``.

    :raises ValueError: for arguments that cannot be.
    """

    def __init__(
        self,
        sink: Sink | None,
        agent: Callable[[AgentTurn], Awaitable[object] | object],
        *,
        path: str = "/agent",
        channel: Callable[[str], str] | None = None,
        authorize: Authorize | None = None,
        tokens: Tokens | None = None,
        allow_origins: Iterable[str] = (),
        limits: Limits | None = None,
        gateway: Gateway | None = None,
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
            gateway=gateway,
        )

    def find(self, names: Sequence[str]) -> Route | None:
        match names:
            case []:
                return Route("agent", {"POST": self._run})
            case ["connect"]:
                return Route("agent.connect", {"POST": self._connect})
            case [_, "stream"]:
                return Route("agent.stream", {"GET": self._resume})
            case [_, "stop"]:
                return Route("agent.stop", {"POST": self._stop_thread})
            case _:
                return None

    async def _run(self, exchange: Exchange) -> None:
        told = await self._input(exchange)
        run = checked_name(told.run_id, "runId")
        channel = await self.channel_of(exchange, told.thread_id, "input")
        self.limit_inputs(exchange, "runs")
        with self.admitted(exchange):
            encoder = AgUiEncoder(thread_id=told.thread_id)
            # A client that asks again, since its connection broke, is told of the same run.
            watch = await self.within(encoder.join(self.sink, channel, run=run))
            if watch is None:
                active = await self.within(self.tasks.active(channel))
                if active is not None:
                    await self.tasks.cancel(channel, run=active.id, reason="another run came")
                encoder = AgUiEncoder(run=run, enveloped=True, thread_id=told.thread_id)

                async def begin() -> None:
                    self._begin(exchange, told, channel, run)

                watch = await self.reader_before(channel, begin)
            await self.stream(exchange, channel, encoder, watch)

    def _begin(self, exchange: Exchange, told: RunAgentInput, channel: str, run: str) -> None:
        messages = _plain(told)

        def turn(response: ResponseWriter) -> AgentTurn:
            return AgentTurn(
                input=told,
                thread_id=told.thread_id,
                channel=channel,
                run=run,
                messages=messages,
                sink=self.sink,
                response=response,
                connection=exchange.caller.connection,
                principal=exchange.caller.principal,
            )

        self.tasks.begin(channel, run, {ASKED: asked_by(messages)}, turn)

    async def _connect(self, exchange: Exchange) -> None:
        told = await self._input(exchange)
        channel = await self.channel_of(exchange, told.thread_id, "subscribe")
        await self._join(exchange, channel, told.thread_id, told)

    async def _resume(self, exchange: Exchange) -> None:
        name = exchange.names[0]
        channel = await self.channel_of(exchange, name, "subscribe")
        await self._join(exchange, channel, name, None)

    async def _join(
        self, exchange: Exchange, channel: str, thread_id: str, told: RunAgentInput | None
    ) -> None:
        with self.admitted(exchange):
            runs = await self.within(recent_runs(self.sink, channel))
            history = merged(conversation(runs), [] if told is None else _plain(told))
            encoder = AgUiEncoder(thread_id=thread_id, history=history)
            watch = await self.within(encoder.join(self.sink, channel, wait=False))
            if watch is not None:
                await self.stream(exchange, channel, encoder, watch)
            elif told is None:
                await self.send_nothing(exchange)
            else:
                nothing = _Nothing(told, history)
                watch = await self.within(self.sink.reader(channel).aopen())
                await self.stream(exchange, channel, nothing, watch)

    async def _stop_thread(self, exchange: Exchange) -> None:
        channel = await self.channel_of(exchange, exchange.names[0], "cancel")
        run = (await self.read_body(exchange)).get("runId")
        await self.stop(exchange, channel, run if isinstance(run, str) else None)

    async def _input(self, exchange: Exchange) -> RunAgentInput:
        body = await self.read_body(exchange)
        try:
            return RunAgentInput.model_validate(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(each) for each in first["loc"])
            raise Problem(
                "invalid", f"not a RunAgentInput: {place}: {first['msg']}"[:300]
            ) from error


class _Nothing(AgUiEncoder):
    """A run of nothing but the thread's messages: nothing is under way."""

    def __init__(self, told: RunAgentInput, history: list[dict[str, Any]]) -> None:
        super().__init__(thread_id=told.thread_id, history=history)
        self.run = told.run_id

    def end_past(self) -> None:
        self.start_message()
        super().end_past()

    def _check_over(self, event: Event | None = None) -> None:
        _ = event
        if not self.finished:
            self.finished = True
            self._event(
                "RUN_FINISHED",
                threadId=self._thread_id,
                runId=self.run,
                outcome={"type": "success"},
            )


def _plain(told: RunAgentInput) -> list[dict[str, Any]]:
    return [each.model_dump(by_alias=True, mode="json") for each in told.messages]


def _text_of(message: dict[str, Any]) -> str:
    content: Any = message.get("content")
    if isinstance(content, str):
        return content
    parts = cast("list[dict[str, Any]]", content) if isinstance(content, list) else []
    return "".join(part["text"] for part in parts if part.get("type") == "text")
