"""`ChatRoutes`: the routes that a page with ``useChat`` uses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Literal, TypeAlias

from tokenwire._ids import check_name
from tokenwire.approvals import Approval
from tokenwire.sink import Sink
from tokenwire.writer import ResponseWriter
from tokenwire_adapters._web.gateway.asgi import send_response, unstored
from tokenwire_adapters._web.gateway.auth import Authorize
from tokenwire_adapters._web.gateway.dispatch import admitted
from tokenwire_adapters._web.gateway.limits import Limits
from tokenwire_adapters._web.gateway.problems import Problem
from tokenwire_adapters._web.gateway.tokens import Tokens
from tokenwire_adapters._web.ui.errors import OnError
from tokenwire_adapters._web.ui.json import object_of
from tokenwire_adapters._web.ui.routes import Exchange, ProtocolRoutes, Route
from tokenwire_adapters._web.ui.runs import Run
from tokenwire_adapters._web.ui.turn import Turn
from tokenwire_adapters._web.vercel.encoder import VercelEncoder
from tokenwire_adapters._web.vercel.messages import conversation
from tokenwire_adapters._web.vercel.requests import (
    answers_in,
    asked_in,
    is_answered,
    messages_of,
    metadata_of,
    steps_of,
    text_of,
    with_history,
)

__all__ = ["Busy", "ChatRoutes", "ChatTurn"]

_BUSY = "An answer is still being written in this chat. Stop it, or wait for its end."

Busy: TypeAlias = Literal["replace", "refuse"]


class ChatTurn(Turn, frozen=True, kw_only=True):
    """A message of a page to an agent; see `Turn` for the rest of its fields.

    :ivar chat_id: the id of the chat in the page; `channel` is where it is published.
    :ivar run: also the id of the message that the responses become.
    :ivar messages: the conversation as UI messages, as the page sent it; where it sent only its
        last `message`, after those that the channel has. The last one is to be answered.
    :ivar trigger: ``submit-message`` or ``regenerate-message``.
    :ivar message_id: the message that was edited, or is to be replaced by a new answer.
    :ivar body: all that the page sent.
    """

    chat_id: str
    trigger: str
    message_id: str | None
    body: dict[str, Any]

    @staticmethod
    def text_of(message: dict[str, Any]) -> str:
        """The text of a UI message."""
        return text_of(message)

    def chat_messages(self) -> list[dict[str, Any]]:
        """The conversation for OpenAI's Chat Completions (and for what takes its messages).

        It has the text, and tool calls that were answered, but for tools that a provider has run.
        Files and reasoning are left out.
        """
        messages: list[dict[str, Any]] = []
        for message in self.messages:
            if message["role"] == "assistant":
                messages += steps_of(message)
            else:
                messages.append({"role": message["role"], "content": text_of(message)})
        return messages


class ChatRoutes(ProtocolRoutes):
    """Routes of an agent for pages with the AI SDK's ``useChat`` and `DefaultChatTransport`.

    | route | what |
    | --- | --- |
    | ``POST {path}`` | a message to the agent; answers with the stream of its answer |
    | ``GET {path}/{id}/stream`` | the answer under way, from its beginning, or one that has just
        ended; else 204. ``?run=ID``: that answer |
    | ``POST {path}/{id}/tools/{call}/claim`` | whether this page runs a tool, and no other one |
    | ``POST {path}/{id}/stop`` | stop the answer under way, whichever tab or server began it |
    | ``GET {path}/{id}/messages`` | the conversation, to begin a page with |

    The agent runs on whether or not anybody watches. Add `routes` to an app of Starlette or
    FastAPI (``app.router.routes.extend(chat.routes)``), or use this as an ASGI app.

    :param sink: where answers are kept; by default the process's own.
    :param agent: ``agent(turn)``, a coroutine function or a function that is run in a thread.
    :param path: as `api` of the page's transport.
    :param channel: from a chat's id, which pages choose, to its channel; by default the id itself.
    :param authorize: as the gateway's; actions are ``input``, ``subscribe``, ``cancel`` and
        ``history``. Without it and `tokens` only pages of the same machine are served.
    :param tokens: checks signed tokens, as the gateway's.
    :param allow_origins: exact origins whose pages may talk to the agent, beside its own.
    :param limits: as the gateway's.
    :param busy: what a message does while an answer is under way: ``replace`` stops it;
        ``refuse`` answers 409, with a text for the page.
    :param dynamic_tools: send tool calls as ``dynamic-tool`` parts rather than ``tool-NAME``.
    :param resume_ended: seconds after its end for which an answer can be resumed: a page that lost
        its connection and comes back after the end is sent all of it. 0: never.
    :param on_error: from the text of an error to what pages are shown of it; see `ProtocolRoutes`.
    :raises ValueError: for arguments that are not valid.
    """

    def __init__(
        self,
        sink: Sink | None,
        agent: Callable[[ChatTurn], Awaitable[object] | object],
        *,
        path: str = "/api/chat",
        channel: Callable[[str], str] | None = None,
        authorize: Authorize | None = None,
        tokens: Tokens | None = None,
        allow_origins: Iterable[str] = (),
        limits: Limits | None = None,
        busy: Busy = "replace",
        dynamic_tools: bool = False,
        resume_ended: float = 60.0,
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
        if busy not in ("replace", "refuse"):
            raise ValueError(f"busy must be 'replace' or 'refuse', not {busy!r}")
        self._busy = busy
        if not (isinstance(resume_ended, int | float) and resume_ended >= 0):
            raise ValueError(f"resume_ended must be seconds, 0 or more, not {resume_ended!r}")
        self._resume_ended = float(resume_ended)
        self._dynamic_tools = dynamic_tools

    def find(self, names: Sequence[str]) -> Route | None:
        match names:
            case []:
                return Route("chat", {"POST": self._send})
            case [_, "stream"]:
                return Route("chat.stream", {"GET": self._resume})
            case [_, "tools", _, "claim"]:
                return Route("chat.claim", {"POST": self.claim})
            case [_, "stop"]:
                return Route("chat.stop", {"POST": self._stop_chat})
            case [_, "messages"]:
                return Route("chat.messages", {"GET": self._messages})
            case _:
                return None

    def _encoder(self, run: str | None, *, enveloped: bool = False) -> VercelEncoder:
        return VercelEncoder(run=run, enveloped=enveloped, dynamic_tools=self._dynamic_tools)

    async def _send(self, exchange: Exchange) -> None:
        body = await self.read_body(exchange)
        chat_id = body.get("id")
        if not isinstance(chat_id, str):
            raise Problem("invalid", 'the body must have the chat\'s "id"')
        run = self.tasks.new_run()
        # From here on a stop finds the run, however long it takes to begin.
        with self.tasks.starting(self.channel_of(chat_id), run):
            channel = await self.authorize(exchange, chat_id, "input")
            self.service.require_input(exchange.caller.key, "messages")
            await self._answer(exchange, chat_id, channel, run, body)

    async def _answer(
        self, exchange: Exchange, chat_id: str, channel: str, run: str, body: dict[str, Any]
    ) -> None:
        service = self.service
        messages = await self._all_messages(channel, body)
        answered: Sequence[Approval] = ()
        encoder = self._encoder(run, enveloped=True)

        async def begin() -> None:
            await service.within(self._page_tools(channel, messages[-1]))
            self._begin(exchange, chat_id, channel, run, messages, body, answered)

        with admitted(service, exchange):
            answers = answers_in(messages[-1])
            settled = await self.settle(exchange, channel, answers, run)
            if settled is not None and settled.begin is None:
                await self.follow(exchange, channel, self._encoder(None), settled)
                return
            if settled is not None:
                answered = settled.approvals
                encoder.go_on_from(settled.run, answered)
            elif await self._continued(exchange, channel, messages[-1], run):
                return
            if await self._same_again(exchange, channel, messages, body):
                return
            reader = await self.watch_from(channel, begin)
            await self.stream(exchange, channel, encoder, reader)

    async def _all_messages(self, channel: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        """The conversation: as the page sent it, or with what the channel has before its message.

        :raises Problem: where the body has no messages that are valid.
        """
        messages = messages_of(body)
        if "messages" in body:
            return messages
        runs = await self.recent_runs(channel)
        history = self._conversation(runs, streaming=True)
        return with_history(history, messages[-1])

    def _begin(
        self,
        exchange: Exchange,
        chat_id: str,
        channel: str,
        run: str,
        messages: list[dict[str, Any]],
        body: dict[str, Any],
        answered: Sequence[Approval],
    ) -> None:
        trigger = body.get("trigger")
        message_id = body.get("messageId")

        def turn(response: ResponseWriter) -> ChatTurn:
            return ChatTurn(
                chat_id=chat_id,
                channel=channel,
                run=run,
                messages=messages,
                trigger=trigger if isinstance(trigger, str) else "submit-message",
                message_id=message_id if isinstance(message_id, str) else None,
                body=body,
                sink=self.sink,
                response=response,
                connection=exchange.caller.connection,
                principal=exchange.caller.principal,
                answered=answered,
            )

        self.tasks.begin(channel, run, metadata_of(messages, body), turn)

    async def _continued(
        self, exchange: Exchange, channel: str, message: dict[str, Any], new_run: str
    ) -> bool:
        """Answer with the run by which another tab goes on with this message, if there is one."""
        if message["role"] != "assistant":
            return False
        runs = await self.recent_runs(channel)
        seen = object_of(message.get("metadata")).get("run")
        outputs = {part["toolCallId"] for part in message["parts"] if is_answered(part)}
        for run in reversed(runs):
            if run.message_id != message.get("id"):
                continue
            calls = outputs & {call.call_id for r in run.responses for call in r.tool_calls}
            if calls or run.id == seen:
                encoder = self._encoder(None)
                return await self.continues_elsewhere(
                    exchange, channel, encoder, run, calls, new_run, retry=seen is None
                )
        return False

    async def _page_tools(self, channel: str, message: dict[str, Any]) -> None:
        """Publish the results of tools that run in the page."""
        answered = [part for part in message["parts"] if is_answered(part)]
        if message["role"] != "assistant" or not answered:
            return
        name = message.get("id")
        for run in await self.recent_runs(channel):
            if run.message_id != name:
                continue
            for response in run.responses:
                known = {result.call_id for result in response.tool_results}
                calls = {call.call_id for call in response.tool_calls} - known
                for part in answered:
                    if part["toolCallId"] in calls:
                        self.sink.tool_result(
                            channel,
                            part["toolCallId"],
                            part.get("output"),
                            response_id=response.id,
                            run=run.id,
                            error=part.get("errorText"),
                        )

    async def _same_again(
        self, exchange: Exchange, channel: str, messages: list[dict[str, Any]], body: dict[str, Any]
    ) -> bool:
        """Handle an answer that is under way; return whether the request was answered by it.

        A page that sends the same message again (a retry) gets the answer under way.
        """
        active = await self.service.within(self.tasks.active(channel))
        if active is None:
            return False
        asked = asked_in(messages, body)
        if asked is not None and active.metadata.get("asked") == asked:
            encoder = self._encoder(None)
            reader = await self.service.within(
                encoder.join(self.sink, channel, run=active.id, wait=False)
            )
            if reader is not None:
                await self.stream(exchange, channel, encoder, reader)
                return True
        if self._busy == "refuse":
            await self._refuse(exchange)
            return True
        await self.tasks.cancel(channel, run=active.id, reason="another message came")
        return False

    async def _refuse(self, exchange: Exchange) -> None:
        """Answer that the chat is busy: with text, which the SDK shows as it is.

        :raises Problem: for clients that read such.
        """
        if "application/problem+json" in (exchange.request.header(b"accept") or ""):
            raise Problem("busy", _BUSY)
        headers = [*unstored(b"text/plain; charset=utf-8"), *exchange.headers]
        await send_response(exchange.send, 409, _BUSY.encode(), headers=headers)

    async def _resume(self, exchange: Exchange) -> None:
        names = self.names_of(exchange.request)
        channel = await self.authorize(exchange, names[0], "subscribe")
        parameter = exchange.request.parameter
        run = parameter("run")
        if run is not None:
            check_name(run, "run")
        await self.resume(
            exchange,
            channel,
            self._encoder(None),
            run=run,
            wait=parameter("wait") == "1",
            earlier=parameter("earlier") != "0",
            ended_within=self._resume_ended,
        )

    async def _stop_chat(self, exchange: Exchange) -> None:
        channel = await self.authorize(exchange, self.names_of(exchange.request)[0], "cancel")
        body = await self.read_body(exchange)
        run = body.get("activeStreamId") or body.get("run")
        await self.stop(exchange, channel, run if isinstance(run, str) else None)

    async def _messages(self, exchange: Exchange) -> None:
        channel = await self.authorize(exchange, self.names_of(exchange.request)[0], "history")
        runs = await self.recent_runs(channel)
        await self.send_json(exchange, self._conversation(runs))

    def _conversation(
        self, runs: Sequence[Run], *, streaming: bool = False
    ) -> list[dict[str, Any]]:
        return conversation(
            runs, streaming=streaming, dynamic_tools=self._dynamic_tools, on_error=self.on_error
        )
