"""The base of a UI protocol's routes: they start an agent, join it and stop it. Raw ASGI."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any

from starlette.routing import BaseRoute
from starlette.routing import Route as StarletteRoute

from tokenwire import default_sink
from tokenwire._ids import check_name
from tokenwire.approvals import Answer
from tokenwire.encoding import Encoder, StreamPlan
from tokenwire.sink import Sink
from tokenwire.watch import ChannelReader
from tokenwire_adapters._web.gateway.asgi import (
    Receive,
    Request,
    Scope,
    Send,
    read_object,
    send_response,
    serve_lifespan,
)
from tokenwire_adapters._web.gateway.auth import Authorize, Guard
from tokenwire_adapters._web.gateway.cors import Origins
from tokenwire_adapters._web.gateway.dispatch import (
    Exchange,
    Route,
    admitted,
    answer_json,
    serve_http,
    take_of_exchange,
)
from tokenwire_adapters._web.gateway.limits import Limits
from tokenwire_adapters._web.gateway.problems import Problem
from tokenwire_adapters._web.gateway.service import Service
from tokenwire_adapters._web.gateway.sse import serve_reader
from tokenwire_adapters._web.gateway.tokens import Tokens
from tokenwire_adapters._web.ui.answers import Settled, begun, claim, continued_by, settle
from tokenwire_adapters._web.ui.encoder import RunEncoder
from tokenwire_adapters._web.ui.errors import OnError, safe_error
from tokenwire_adapters._web.ui.runs import Run, find_run, recent_runs, run_ended_within
from tokenwire_adapters._web.ui.tasks import AgentTasks

__all__ = ["LIMITS", "Exchange", "ProtocolRoutes", "Route"]

_MAX_TAB = 128
_ANSWER_TIMEOUT = 70.0  # seconds, a little more than `settle` waits for an agent
_STOP_PATIENCE = 1.0  # seconds that a stop waits for the run which it is meant for

LIMITS = Limits(input_bytes=4 * 2**20)
"""The gateway's limits, but for bodies: pages send the whole conversation."""


class ProtocolRoutes(ABC):
    """An ASGI 3 app with the routes of a UI protocol under one path.

    Its requests pass the same limits, checks and metrics as those of a gateway, and its streams
    count among the connections of the sink.

    :param sink: where answers are kept; by default the process's own.
    :param agent: called with a turn; a coroutine function, or a function that is run in a thread.
    :param path: of the first route; all others are below it.
    :param channel: from a conversation's id, which pages choose, to its channel; by default the
        id itself.
    :param authorize: as the gateway's; actions are ``input``, ``subscribe``, ``cancel`` and
        ``history``. Without it and `tokens` only pages of the same machine are served.
    :param tokens: checks signed tokens, as the gateway's.
    :param allow_origins: exact origins whose pages may send requests, beside its own.
    :param limits: as the gateway's.
    :param on_error: from the text of an error (of the agent, a model or a tool) to what pages are
        shown of it. By default one that names a path, a host or an address becomes "An error
        occurred."; the log has all of it. ``str`` shows everything.
    :ivar tasks: runs the agent.
    :ivar routes: the same as Starlette's routes, to add to an app of Starlette or FastAPI.
    :raises ValueError: for arguments that are not valid.
    """

    def __init__(
        self,
        sink: Sink | None,
        agent: Callable[[Any], Any],
        *,
        path: str,
        channel: Callable[[str], str] | None = None,
        authorize: Authorize | None = None,
        tokens: Tokens | None = None,
        allow_origins: Iterable[str] = (),
        limits: Limits | None = None,
        on_error: OnError | None = None,
    ) -> None:
        if sink is not None and not isinstance(sink, Sink):
            raise ValueError("sink must be a tokenwire.Sink, as tokenwire.open_sink gives it")
        if not path.startswith("/") or path.endswith("/"):
            raise ValueError(f"path must begin with a slash and not end with one, not {path!r}")
        self.sink: Sink = default_sink() if sink is None else sink
        self.tasks = AgentTasks(self.sink, agent)
        self.service = Service(
            self.sink,
            guard=Guard(authorize, tokens),
            limits=limits or LIMITS,
            origins=Origins(allow_origins),
        )
        if on_error is not None and not callable(on_error):
            raise ValueError("on_error must be a function of a text")
        self.on_error: OnError = on_error or safe_error
        self._path = path
        self._channel: Callable[[str], str] = channel or str
        self._depth = path.count("/")
        app = _App(self)
        self.routes: list[BaseRoute] = [
            StarletteRoute(path, app, name=f"tokenwire{path}"),
            StarletteRoute(f"{path}/{{rest:path}}", app, name=f"tokenwire{path}/"),
        ]

    # -- what a protocol provides

    @abstractmethod
    def find(self, names: Sequence[str]) -> Route | None:
        """The route of a path below `path`, by its segments; None where there is none."""

    # -- the app

    async def astart(self) -> None:
        """Take requests, also after `aclose`. Idempotent."""
        self.service.reopen()

    async def aclose(self) -> None:
        """Stop the agents that run here, and end their streams. Takes 5 seconds at most."""
        self.service.close()
        await self.tasks.aclose()
        await self.service.closed(5.0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI 3), whose path is the full one or the one below a mount."""
        if scope["type"] == "lifespan":
            await serve_lifespan(receive, send, self.astart, self.aclose)
        elif scope["type"] == "http":
            await serve_http(self.service, self._find, scope, receive, send)
        else:
            raise ValueError(f"these routes do not serve {scope['type']!r}")

    def _find(self, request: Request) -> Route | None:
        return self.find(self.names_of(request))

    def names_of(self, request: Request) -> list[str]:
        """The segments below `path`: the app may be mounted there, or receive the full path."""
        segments = list(request.segments)
        if segments[: self._depth] == self._path.split("/")[1:]:
            segments = segments[self._depth :]
        return [] if segments == [""] else segments

    # -- for handlers

    async def authorize(self, exchange: Exchange, name: str, action: str) -> str:
        """The channel of a conversation, where the caller may do `action` there.

        :raises Problem, InvalidName: when the caller may not, or the id cannot be one.
        """
        channel = self.channel_of(name)
        await self.service.guard.require(exchange.caller, channel, action)
        return channel

    def channel_of(self, name: str) -> str:
        """The channel of a conversation.

        :raises InvalidName: when the id cannot be one.
        """
        return check_name(self._channel(check_name(name, "chat id")), "channel")

    async def read_body(self, exchange: Exchange) -> dict[str, Any]:
        """The JSON object of the body; empty where there is none.

        :raises Problem: when it is no object, is too large or does not arrive in time.
        """
        return await read_object(exchange.request, exchange.receive, self.service.limits)

    async def recent_runs(self, channel: str) -> list[Run]:
        """The runs of the newest responses of a channel, oldest first.

        :raises Problem: ``unavailable`` when the backend does not answer in time.
        """
        return await self.service.within(recent_runs(self.sink, channel))

    async def watch_from(self, channel: str, begin: Callable[[], Awaitable[None]]) -> ChannelReader:
        """Open a channel, and only then begin what is to be seen there."""
        reader = self.sink.reader(channel)
        try:
            await self.service.within(reader.aopen())
            await begin()
        except BaseException:
            reader.close()
            raise
        return reader

    async def stream(
        self, exchange: Exchange, channel: str, encoder: Encoder, reader: ChannelReader
    ) -> None:
        """Answer with an event stream, until the encoder has finished. Closes `reader`."""
        if isinstance(encoder, RunEncoder):
            encoder.on_error = self.on_error
        exchange.member = await serve_reader(
            self.service,
            exchange.caller,
            StreamPlan(channel=channel, format=encoder.name),
            encoder,
            reader,
            exchange.receive,
            exchange.send,
            exchange.headers,
            take_of_exchange(exchange),
            exchange.admission,
        )

    async def resume(
        self,
        exchange: Exchange,
        channel: str,
        encoder: RunEncoder,
        *,
        run: str | None = None,
        wait: bool = False,
        earlier: bool = True,
        ended_within: float = 0.0,
    ) -> None:
        """Answer with the run under way, from its beginning; with 204 where there is none.

        :param run: only this one, also when it has ended.
        :param wait: wait for the next run where none is under way.
        :param earlier: whether to send the runs, too, whose message this one continues.
        :param ended_within: take the last run where it ended no longer ago than so many seconds.
        """
        with admitted(self.service, exchange):
            join = partial(encoder.join, self.sink, channel, earlier=earlier)
            reader = await self.service.within(join(run=run, wait=wait and run is None))
            if reader is None and run is None and ended_within > 0:
                ended = await self.service.within(
                    run_ended_within(self.sink, channel, ended_within)
                )
                if ended is not None:
                    reader = await self.service.within(join(run=ended.id, wait=False))
            if reader is None:
                await self.send_nothing(exchange)
            else:
                await self.stream(exchange, channel, encoder, reader)

    async def settle(
        self, exchange: Exchange, channel: str, answers: Sequence[Answer], new_run: str
    ) -> Settled | None:
        """Have answers of a page decided; None where there are none, or nobody asked for them.

        :param new_run: the id of a run to begin where the one that asked is gone.
        :raises Problem: ``unavailable`` when the agent or the backend does not answer in time.
        """
        if not answers:
            return None
        sender = exchange.caller.principal
        settling = settle(self.sink, channel, answers, sender=sender, new_run=new_run)
        return await self.service.within(settling, timeout=_ANSWER_TIMEOUT)

    async def claim(self, exchange: Exchange) -> None:
        """Answer whether this page runs a tool: ``POST {path}/{conversation}/tools/{call}/claim``.

        :raises Problem: ``invalid`` without a ``tab`` in the body.
        """
        name, _, call_id, _ = self.names_of(exchange.request)
        channel = await self.authorize(exchange, name, "input")
        self.service.require_input(exchange.caller.key)
        tab = (await self.read_body(exchange)).get("tab")
        if not isinstance(tab, str) or not 0 < len(tab) <= _MAX_TAB:
            raise Problem("invalid", f'"tab" must be a string of 1 to {_MAX_TAB} characters')
        claimed = await self.service.within(claim(self.sink, channel, call_id, tab))
        await self.send_json(exchange, {"claimed": claimed})

    async def follow(
        self, exchange: Exchange, channel: str, encoder: RunEncoder, settled: Settled
    ) -> None:
        """Answer with what the run that acts on answers of the page says after them."""
        run, decisions = settled.follow, settled.approvals
        if run == settled.run.id:
            joining = encoder.join(self.sink, channel, run=run, acting_on=decisions)
            reader = await self.service.within(joining)
        else:
            await begun(self.sink, channel, run)
            reader = await self.service.within(encoder.join(self.sink, channel, run=run))
            # The run may have answered a call of the one that asked, which is no event of its own.
            asking = await self.service.within(find_run(self.sink, channel, settled.run.id))
            encoder.go_on_from(asking or settled.run, decisions)
        if reader is None:
            raise Problem("unavailable", "the agent has not begun to act on this answer")
        await self.stream(exchange, channel, encoder, reader)

    async def continues_elsewhere(
        self,
        exchange: Exchange,
        channel: str,
        encoder: RunEncoder,
        run: Run,
        calls: Collection[str],
        new_run: str,
        *,
        retry: bool,
    ) -> bool:
        """Answer a page with the run that another tab has begun for the same outputs of tools.

        :param run, calls, new_run, retry: see `continued_by`.
        :return: whether there is one; else `new_run` is to be begun here.
        """
        deciding = continued_by(self.sink, channel, run, calls, new_run, retry=retry)
        next_run = await self.service.within(deciding, timeout=_ANSWER_TIMEOUT)
        if next_run == new_run:
            return False
        joining = encoder.join(self.sink, channel, run=next_run, earlier=False)
        reader = await self.service.within(joining)
        if reader is None:
            raise Problem("unavailable", "the run that another tab has begun is gone")
        await self.stream(exchange, channel, encoder, reader)
        return True

    async def send_json(self, exchange: Exchange, value: Any, status: int = 200) -> None:
        """Answer with JSON."""
        await answer_json(exchange, value, status)

    async def send_nothing(self, exchange: Exchange) -> None:
        """Answer with 204: there is nothing to show."""
        headers = [(b"cache-control", b"no-store"), *exchange.headers]
        await send_response(exchange.send, 204, headers=headers)

    async def stop(self, exchange: Exchange, channel: str, run: str | None = None) -> None:
        """Stop the run under way (or only the one named), and answer with the outcome.

        One that is only just being started, here or by another server, is stopped as it begins.
        """
        self.service.require_input(exchange.caller.key)
        outcomes = await self.tasks.cancel(
            channel, run=run, reason="stopped by the user", patience=_STOP_PATIENCE
        )
        first = outcomes[0] if outcomes else None
        stopped = first is None or first.acknowledged or first.state == "pending"
        await self.send_json(
            exchange,
            {
                "success": stopped,
                "run": None if first is None else first.response_id,
                "state": None if first is None else first.state,
            },
            200 if stopped else 202,
        )


class _App:
    """An ASGI app of its own for Starlette's `Route`, which then passes on every method."""

    def __init__(self, routes: ProtocolRoutes) -> None:
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._routes(scope, receive, send)
