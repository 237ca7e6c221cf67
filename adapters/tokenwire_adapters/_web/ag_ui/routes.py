"""`AgentRoutes`: the routes that an `HttpAgent` of AG-UI uses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from ag_ui.core import ResumeEntry, RunAgentInput
from pydantic import ValidationError

from tokenwire._ids import check_name
from tokenwire._version import __version__
from tokenwire.approvals import Answer
from tokenwire.events import Event
from tokenwire.sink import Sink
from tokenwire.watch import ChannelReader
from tokenwire.writer import ResponseWriter
from tokenwire_adapters._web.ag_ui.encoder import PROTOCOL_VERSION, AgUiEncoder
from tokenwire_adapters._web.ag_ui.messages import asked_by, conversation, merged, place_of
from tokenwire_adapters._web.ag_ui.shared_state import bounded_state, state_of
from tokenwire_adapters._web.ag_ui.versions import upgraded
from tokenwire_adapters._web.gateway.auth import Authorize
from tokenwire_adapters._web.gateway.dispatch import admitted
from tokenwire_adapters._web.gateway.limits import Limits
from tokenwire_adapters._web.gateway.problems import Problem
from tokenwire_adapters._web.gateway.tokens import Tokens
from tokenwire_adapters._web.ui.answers import Settled
from tokenwire_adapters._web.ui.calls import answered_calls
from tokenwire_adapters._web.ui.errors import OnError
from tokenwire_adapters._web.ui.json import content_text, object_of
from tokenwire_adapters._web.ui.routes import Exchange, ProtocolRoutes, Route
from tokenwire_adapters._web.ui.runs import Run, find_run
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
        return content_text(message.get("content"))

    def state(self, snapshot: Any) -> None:
        """Give clients a new state. It is kept for those that join later, also after the run."""
        self.response.data_part("state", snapshot)

    def state_delta(self, patch: list[dict[str, Any]]) -> None:
        """Change the state of clients by a JSON Patch (RFC 6902)."""
        self.response.data_part("state_delta", patch)

    def chat_messages(self) -> list[dict[str, Any]]:
        """The conversation for OpenAI's Chat Completions (and for what takes its messages).

        Tool calls without an answer, which providers refuse, are left out; but for those that were
        approved or denied before this turn (`answered`), which the agent is about to answer.
        """
        messages: list[dict[str, Any]] = []
        for message in self.messages:
            role, text = message["role"], self.text_of(message)
            if role in ("developer", "system", "user"):
                messages.append({"role": role, "content": text})
            elif role == "tool":
                call_id = message["toolCallId"]
                messages.append({"role": role, "tool_call_id": call_id, "content": text})
            elif role == "assistant":
                calls = message.get("toolCalls")
                entry = {"role": role, "content": text or None}
                messages.append({**entry, "tool_calls": calls} if calls else entry)
        return answered_calls(messages, [one.request.call_id for one in self.answered])


class AgentRoutes(ProtocolRoutes):
    """Routes of an agent for clients of AG-UI 1.0 such as ``HttpAgent`` of ``@ag-ui/client``.

    | route | what |
    | --- | --- |
    | ``POST {path}`` | run the agent (``RunAgentInput``); answers with the run's events |
    | ``POST {path}/connect`` | the thread so far, and the run under way, if any, to its end |
    | ``GET {path}/{thread}/stream`` | the run under way, likewise; 204 when there is none |
    | ``POST {path}/{thread}/tools/{call}/claim`` | whether this page runs a tool, and no other |
    | ``POST {path}/{thread}/stop`` | stop the run under way, whoever began it, wherever it runs |

    The path is also a runtime of CopilotKit (``runtimeUrl``) with one agent, ``default``:
    ``GET {path}/info``, and ``POST {path}/agent/{name}/run``, ``…/connect`` and
    ``…/stop/{thread}``.

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
            case ["info"]:
                return Route("agent.info", {"GET": self._info})
            case ["agent", _, "run"]:
                return Route("agent", {"POST": self._run})
            case ["agent", _, "connect"]:
                return Route("agent.connect", {"POST": self._connect})
            case ["agent", _, "stop", _]:
                return Route("agent.stop", {"POST": self._stop_thread})
            case [_, "stream"]:
                return Route("agent.stream", {"GET": self._resume})
            case [_, "tools", _, "claim"]:
                return Route("agent.claim", {"POST": self.claim})
            case [_, "stop"]:
                return Route("agent.stop", {"POST": self._stop_thread})
            case _:
                return None

    async def _info(self, exchange: Exchange) -> None:
        """Answer what CopilotKit's client asks a runtime first: its agents, and how to run one."""
        agent = {"name": "default", "description": "", "className": "HttpAgent"}
        info = {"version": __version__, "mode": "sse", "agents": {"default": agent}}
        await self.send_json(exchange, info)

    async def _run(self, exchange: Exchange) -> None:
        request = await self._input(exchange)
        run = check_name(request.run_id, "runId")
        channel = await self.authorize(exchange, request.thread_id, "input")
        self.service.require_input(exchange.caller.key, "runs")
        service = self.service
        with admitted(service, exchange):
            answers = [_answer(entry) for entry in request.resume or ()]
            settled = await self.settle(exchange, channel, answers, self.tasks.new_run())
            if settled is not None and settled.begin is None:
                encoder = _encoder(request, client_run=run)
                await self.follow(exchange, channel, encoder, settled)
                return
            if settled is not None:
                run = settled.begin or run
            # A client that asks again, since its connection broke, is sent the same run.
            encoder, reader = await self._run_again(request, channel, run)
            if reader is None:
                if settled is None and await self._continued(exchange, request, channel):
                    return
                encoder = _encoder(request, run=run, enveloped=True, client_run=request.run_id)

                if settled is not None:
                    encoder.go_on_from(settled.run, settled.approvals)

                async def begin() -> None:
                    self._begin(exchange, request, channel, run, settled)

                with self.tasks.starting(channel, run):
                    active = await service.within(self.tasks.active(channel))
                    if active is not None:
                        await self.tasks.cancel(channel, run=active.id, reason="another run came")
                    reader = await self.watch_from(channel, begin)
            await self.stream(exchange, channel, encoder, reader)

    async def _continued(self, exchange: Exchange, request: RunAgentInput, channel: str) -> bool:
        """Answer with the run by which another tab goes on from the same outputs of tools."""
        asked = asked_by(_plain(request))
        outputs = {str(message.get("toolCallId")) for message in asked}
        if not asked or any(message["role"] != "tool" for message in asked):
            return False
        for run in reversed(await self.recent_runs(channel)):
            calls = outputs & {call.call_id for r in run.responses for call in r.tool_calls}
            if calls:
                encoder = _encoder(request, client_run=request.run_id)
                return await self.continues_elsewhere(
                    exchange, channel, encoder, run, calls, request.run_id, retry=True
                )
        return False

    async def _run_again(
        self, request: RunAgentInput, channel: str, run: str
    ) -> tuple[AgUiEncoder, ChannelReader | None]:
        """Join a run that was begun before; the client may have a part of it, which is replaced."""
        service = self.service
        if await service.within(find_run(self.sink, channel, run)) is None:
            return _encoder(request), None
        runs = await self.recent_runs(channel)
        encoder = self._joining(request.thread_id, request, runs, run)
        return encoder, await service.within(encoder.join(self.sink, channel, run=run))

    def _joining(
        self, thread_id: str, request: RunAgentInput | None, runs: Sequence[Run], run: str | None
    ) -> AgUiEncoder:
        """An encoder for a client that joins a run, with what came before it."""
        before = list(runs)
        if run is not None:
            before = before[: next((i for i, one in enumerate(runs) if one.id == run), len(runs))]
        return AgUiEncoder(
            thread_id=thread_id,
            history=merged(
                conversation(runs, self.on_error), [] if request is None else _plain(request)
            ),
            state=state_of(before),
            protocol_version=PROTOCOL_VERSION if request is None else request.protocol_version,
        )

    def _begin(
        self,
        exchange: Exchange,
        request: RunAgentInput,
        channel: str,
        run: str,
        settled: Settled | None,
    ) -> None:
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
                answered=() if settled is None else settled.approvals,
            )

        self.tasks.begin(channel, run, {**place_of(messages), **bounded_state(request.state)}, turn)

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
        with admitted(service, exchange):
            runs = await self.recent_runs(channel)
            active = next((run.id for run in reversed(runs) if run.streaming), None)
            encoder = self._joining(thread_id, request, runs, active)
            reader = await service.within(encoder.join(self.sink, channel, wait=False))
            if reader is not None:
                await self.stream(exchange, channel, encoder, reader)
            elif request is None:
                await self.send_nothing(exchange)
            else:
                empty = _EmptyRun(request, runs, self.on_error)
                reader = await service.within(self.sink.reader(channel).aopen())
                await self.stream(exchange, channel, empty, reader)

    async def _stop_thread(self, exchange: Exchange) -> None:
        channel = await self.authorize(exchange, self._thread_of(exchange), "cancel")
        run = (await self.read_body(exchange)).get("runId")
        await self.stop(exchange, channel, run if isinstance(run, str) else None)

    def _thread_of(self, exchange: Exchange) -> str:
        """The thread that the path names: ``{thread}/stop`` or ``agent/{name}/stop/{thread}``."""
        names = self.names_of(exchange.request)
        return names[3] if len(names) == 4 else names[0]

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

    def __init__(self, request: RunAgentInput, runs: Sequence[Run], on_error: OnError) -> None:
        super().__init__(
            thread_id=request.thread_id,
            history=merged(conversation(runs, on_error), _plain(request)),
            state=state_of(runs),
            protocol_version=request.protocol_version,
        )
        self.run = request.run_id
        self.interrupted = runs[-1].questions if runs else []

    def end_past(self) -> None:
        self.start_message()
        super().end_past()

    def _check_over(self, event: Event | None = None) -> None:
        _ = event
        if not self.finished:
            self.finished = True
            self._run_finished(self._interrupt_outcome() or {"type": "success"}, {})


def _encoder(
    request: RunAgentInput,
    *,
    run: str | None = None,
    enveloped: bool = False,
    client_run: str | None = None,
) -> AgUiEncoder:
    return AgUiEncoder(
        client_run=client_run,
        run=run,
        enveloped=enveloped,
        thread_id=request.thread_id,
        protocol_version=request.protocol_version,
    )


def _answer(entry: ResumeEntry) -> Answer:
    """The answer to an interrupt; one that was left without an answer is not approved."""
    payload: Any = entry.payload
    fields = object_of(payload)
    reason = fields.get("reason")
    approved = fields.get("approved", payload) is True and entry.status == "resolved"
    return Answer(
        id=entry.interrupt_id,
        approved=approved,
        reason=reason if isinstance(reason, str) else None,
        data=payload,
    )


def _plain(request: RunAgentInput) -> list[dict[str, Any]]:
    return [message.model_dump(by_alias=True, mode="json") for message in request.messages]
