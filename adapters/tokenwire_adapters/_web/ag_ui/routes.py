"""`AgentRoutes`: the routes that an `HttpAgent` of AG-UI uses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, cast

from ag_ui.core import RunAgentInput
from pydantic import ValidationError

from tokenwire.events import Event
from tokenwire.sink import Sink
from tokenwire.writer import ResponseWriter
from tokenwire_adapters._web.ag_ui.encoder import PROTOCOL_VERSION, AgUiEncoder
from tokenwire_adapters._web.ag_ui.messages import ASKED, asked_by, conversation, merged
from tokenwire_adapters._web.ag_ui.versions import upgraded
from tokenwire_adapters._web.gateway.asgi import checked_name
from tokenwire_adapters._web.gateway.auth import Authorize
from tokenwire_adapters._web.gateway.limits import Limits
from tokenwire_adapters._web.gateway.problems import Problem
from tokenwire_adapters._web.gateway.tokens import Tokens
from tokenwire_adapters._web.ui.errors import OnError
from tokenwire_adapters._web.ui.routes import Exchange, ProtocolRoutes, Route
from tokenwire_adapters._web.ui.runs import recent_runs
from tokenwire_adapters._web.ui.turn import Turn

__all__ = ["AgentRoutes", "AgentTurn"]


class AgentTurn(Turn, frozen=True, kw_only=True):
    """A run of an agent; see `Turn` for the rest of its fields.

    :ivar input: the request, as ``ag_ui.core.RunAgentInput``: messages, tools, state, context.
    :ivar thread_id: the id of the thread in the client; `channel` is where it is published.
    :ivar messages: those of the input, as plain JSON.
    """

    input: RunAgentInput
    thread_id: str

    @staticmethod
    def text_of(message: dict[str, Any]) -> str:
        """The text of an AG-UI message."""
        return _text_of(message)

    def state(self, snapshot: Any) -> None:
        """Give clients a new state."""
        self.response.data_part("state", snapshot)

    def chat_messages(self) -> list[dict[str, Any]]:
        """The conversation for OpenAI's Chat Completions (and for what takes its messages)."""
        messages: list[dict[str, Any]] = []
        for message in self.messages:
            role = message["role"]
            if role in ("developer", "system", "user"):
                messages.append({"role": role, "content": _text_of(message)})
            elif role == "tool":
                content = _text_of(message)
                messages.append(
                    {"role": role, "tool_call_id": message["toolCallId"], "content": content}
                )
            elif role == "assistant":
                calls = message.get("toolCalls")
                entry = {"role": role, "content": _text_of(message) or None}
                messages.append({**entry, "tool_calls": calls} if calls else entry)
        return messages


class AgentRoutes(ProtocolRoutes):
    """Routes of an agent for clients of AG-UI 1.0 such as ``HttpAgent`` of ``@ag-ui/client``.

    | route | what |
    | --- | --- |
    | ``POST {path}`` | run the agent (``RunAgentInput``); answers with the run's events |
    | ``POST {path}/connect`` | the thread so far, and the run under way, if any, to its end |
    | ``GET {path}/{thread}/stream`` | the run under way, likewise; 204 when there is none |
    | ``POST {path}/{thread}/stop`` | stop the run under way, whoever began it, wherever it runs |

    ``connect`` takes the same input, so a second `HttpAgent` with its URL is how a page that was
    reloaded, or another tab, joins. The agent runs on whether or not anybody watches.

    Parameters are those of `tokenwire_adapters.vercel.ChatRoutes`; `path` is by default ``/agent``.

    :raises ValueError: for arguments that are not valid.
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
        request = await self._input(exchange)
        run = checked_name(request.run_id, "runId")
        channel = await self.authorize(exchange, request.thread_id, "input")
        self.service.require_input(exchange.caller.key, "runs")
        service = self.service
        with service.admitted(exchange.caller):
            encoder = _encoder(request)
            # A client that asks again, since its connection broke, is sent the same run.
            reader = await service.within(encoder.join(self.sink, channel, run=run))
            if reader is None:
                encoder = _encoder(request, run=run, enveloped=True)

                async def begin() -> None:
                    self._begin(exchange, request, channel, run)

                with self.tasks.starting(channel, run):
                    active = await service.within(self.tasks.active(channel))
                    if active is not None:
                        await self.tasks.cancel(channel, run=active.id, reason="another run came")
                    reader = await self.watch_from(channel, begin)
            await self.stream(exchange, channel, encoder, reader)

    def _begin(self, exchange: Exchange, request: RunAgentInput, channel: str, run: str) -> None:
        messages = _plain(request)

        def turn(response: ResponseWriter) -> AgentTurn:
            return AgentTurn(
                input=request,
                thread_id=request.thread_id,
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
        request = await self._input(exchange)
        channel = await self.authorize(exchange, request.thread_id, "subscribe")
        await self._join(exchange, channel, request.thread_id, request)

    async def _resume(self, exchange: Exchange) -> None:
        name = self.names_of(exchange.request)[0]
        channel = await self.authorize(exchange, name, "subscribe")
        await self._join(exchange, channel, name, None)

    async def _join(
        self, exchange: Exchange, channel: str, thread_id: str, request: RunAgentInput | None
    ) -> None:
        service = self.service
        with service.admitted(exchange.caller):
            runs = await service.within(recent_runs(self.sink, channel))
            history = merged(
                conversation(runs, self.on_error), [] if request is None else _plain(request)
            )
            version = PROTOCOL_VERSION if request is None else request.protocol_version
            encoder = AgUiEncoder(thread_id=thread_id, history=history, protocol_version=version)
            reader = await service.within(encoder.join(self.sink, channel, wait=False))
            if reader is not None:
                await self.stream(exchange, channel, encoder, reader)
            elif request is None:
                await self.send_nothing(exchange)
            else:
                empty = _EmptyRun(request, history)
                reader = await service.within(self.sink.reader(channel).aopen())
                await self.stream(exchange, channel, empty, reader)

    async def _stop_thread(self, exchange: Exchange) -> None:
        channel = await self.authorize(exchange, self.names_of(exchange.request)[0], "cancel")
        run = (await self.read_body(exchange)).get("runId")
        await self.stop(exchange, channel, run if isinstance(run, str) else None)

    async def _input(self, exchange: Exchange) -> RunAgentInput:
        body = await self.read_body(exchange)
        try:
            return RunAgentInput.model_validate(upgraded(body))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            path = ".".join(str(step) for step in first["loc"])
            raise Problem(
                "invalid", f"not a RunAgentInput: {path}: {first['msg']}"[:300]
            ) from error


class _EmptyRun(AgUiEncoder):
    """A finished run without responses, for a thread in which no run is under way."""

    def __init__(self, request: RunAgentInput, history: list[dict[str, Any]]) -> None:
        version = request.protocol_version
        super().__init__(thread_id=request.thread_id, history=history, protocol_version=version)
        self.run = request.run_id

    def end_past(self) -> None:
        self.start_message()
        super().end_past()

    def _check_over(self, event: Event | None = None) -> None:
        _ = event
        if not self.finished:
            self.finished = True
            self._run_finished({"type": "success"}, {})


def _encoder(
    request: RunAgentInput, *, run: str | None = None, enveloped: bool = False
) -> AgUiEncoder:
    return AgUiEncoder(
        run=run,
        enveloped=enveloped,
        thread_id=request.thread_id,
        protocol_version=request.protocol_version,
    )


def _plain(request: RunAgentInput) -> list[dict[str, Any]]:
    return [message.model_dump(by_alias=True, mode="json") for message in request.messages]


def _text_of(message: dict[str, Any]) -> str:
    content: Any = message.get("content")
    if isinstance(content, str):
        return content
    parts = cast("list[dict[str, Any]]", content) if isinstance(content, list) else []
    return "".join(part["text"] for part in parts if part.get("type") == "text")
