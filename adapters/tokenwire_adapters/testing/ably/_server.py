"""The server: one port for realtime and REST, one application, all its channels."""

from __future__ import annotations

import asyncio
import ssl
from typing import Self

from tokenwire_adapters.testing.ably._application import (
    Application,
    close_connection,
    open_connection,
)
from tokenwire_adapters.testing.ably._auth import Key
from tokenwire_adapters.testing.ably._connection import Session
from tokenwire_adapters.testing.ably._control import Control
from tokenwire_adapters.testing.ably._errors import AblyError, ErrorInfo
from tokenwire_adapters.testing.ably._faults import ActiveFaults, Faults
from tokenwire_adapters.testing.ably._http import Request, read_request
from tokenwire_adapters.testing.ably._protocol import Action, encode
from tokenwire_adapters.testing.ably._rest import Rest
from tokenwire_adapters.testing.ably._rollup import read_window
from tokenwire_adapters.testing.ably._serials import now_ms
from tokenwire_adapters.testing.ably._settings import Settings
from tokenwire_adapters.testing.ably._state import ConnectionState
from tokenwire_adapters.testing.ably._websocket import WebSocket

__all__ = ["AblyServer"]


class AblyServer(Application):
    """A local Ably on 127.0.0.1, as an asynchronous context manager.

    :param keys: API keys; by default one with every capability.
    :param settings: limits and choices.
    :param ssl_context: serve TLS, which clients demand where they send a key (RSA1); see
        `make_certificate`.
    :param port: the port to listen on; 0 takes a free one.
    :raises OSError: on entry, when the port cannot be listened on.

    :ivar port: the port of realtime and REST.
    :ivar control_port: the port of the control interface, for other processes.
    :ivar faults: faults on command.
    :ivar stats: counters, such as ``published``, ``resumes`` and ``frames_in``.
    :ivar channels: the channels by name, with what they hold.
    """

    def __init__(
        self,
        *keys: Key,
        settings: Settings | None = None,
        ssl_context: ssl.SSLContext | None = None,
        port: int = 0,
    ) -> None:
        self.keys = list(keys) or [Key()]
        super().__init__(self.keys, settings or Settings())
        self.port = port
        self.control_port = 0
        self._faults = ActiveFaults(self)
        self.faults: Faults = self._faults
        self._ssl = ssl_context
        self._rest = Rest(self, self._faults)
        self._control = Control(self, self.faults, vanish=self.vanish, listen=self.listen)
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        await self.listen()
        self.control_port = await self._control.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.faults.clear()
        await self._control.stop()
        for state in self.connections.values():
            state.stop_timers()
            state.rollup.flush_all()
        await self.vanish()

    async def listen(self) -> None:
        """Listen; after `vanish` on the same port, with all state kept."""
        self._listener = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, ssl=self._ssl, limit=2**20
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def vanish(self) -> None:
        """Stop listening and end every open connection."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for writer in list(self._writers):
            writer.transport.abort()
        while self._tasks:
            for task in list(self._tasks):
                task.cancel()
            # With a timeout: a cancel that comes as `wait_for` ends is lost (Python 3.11).
            await asyncio.wait(self._tasks, timeout=1.0)

    @property
    def endpoint(self) -> str:
        """Host and port, for realtime clients that ignore the option ``port``."""
        return f"127.0.0.1:{self.port}"

    @property
    def key(self) -> Key:
        """The first key."""
        return self.keys[0]

    def token(self, client_id: str | None = None, **capability: list[str]) -> str:
        """Issue a token: ``server.token("bob", **{"ai:*": ["subscribe"]})``.

        :param client_id: None for an anonymous client.
        :param capability: operations by channel; by default those of the first key.
        """
        return str(self.auth.issue(client_id=client_id, capability=capability or None)["token"])

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not self.faults.refusing and (request := await read_request(reader)):
            if self.faults.refusing:
                break
            await self._faults.not_stalled()
            if request.is_websocket:
                socket = WebSocket(reader, writer)
                if socket.accept(request.head):
                    await self._realtime(socket, request)
                return
            answer = self._rest.answer(request)
            if self.faults.rest_delay:  # the request has taken effect by then
                await asyncio.sleep(self.faults.rest_delay)
            writer.write(answer.dump(request))
            await writer.drain()
            if not request.keep_alive:
                return
        writer.transport.abort()

    async def _realtime(self, socket: WebSocket, request: Request) -> None:
        params = request.query
        try:
            session, error = self._open(socket, params)
        except AblyError as refused:
            # RTN14: a connection that is refused is answered with an ERROR.
            frame = {"action": int(Action.ERROR), "error": refused.info.wire()}
            socket.send(encode(frame, params.get("format") == "msgpack"))
            socket.close()
            return
        self.sessions.add(session)
        session.connected(error)
        self._faults.opened(session)
        expiry = self._watch_expiry(session)
        try:
            await session.run()
        finally:
            if expiry is not None:
                expiry.cancel()
            self.sessions.discard(session)
            self._lost(session)

    def _open(self, socket: WebSocket, params: dict[str, str]) -> tuple[Session, ErrorInfo | None]:
        principal = self.auth.from_params(params)
        settings = self.settings
        window = read_window(
            params.get("appendRollupWindow"), settings.default_rollup, settings.max_rollup
        )
        resume_key = params.get("resume") or params.get("recover")
        self.stats["connects"] += 1
        error: ErrorInfo | None = None
        if resume_key:
            state = self.connections.get(resume_key.partition("!")[0])
            same = state is not None and state.principal.client_id == principal.client_id
            if state is not None and state.key == resume_key and same:
                self.stats["resumes"] += 1
                return self._resume(socket, params, state, window), None
            self.stats["resumes_refused"] += 1
            if "!" in resume_key:
                error = ErrorInfo(80008, "Unable to recover connection (connection expired)")
            else:
                error = ErrorInfo(80018, "invalid connection key")
        state = open_connection(self, principal, window)
        return Session(self, self._faults, socket, state, params), error

    def _resume(
        self, socket: WebSocket, params: dict[str, str], state: ConnectionState, window: float
    ) -> Session:
        for other in list(self.sessions):
            if other.state is state:  # docs: errors, 50006: superseded by a newer connection
                other.abort()
        state.stop_timers()
        state.renew_key()
        state.rollup.window = window
        state.principal = self.auth.from_params(params)
        return Session(self, self._faults, socket, state, params)

    def _lost(self, session: Session) -> None:
        """Keep the state of a connection that lost its transport, for a time (CD2f)."""
        state = session.state
        if state.id not in self.connections or any(s.state is state for s in self.sessions):
            return
        loop = asyncio.get_running_loop()
        settings = self.settings
        state.timers += [
            loop.call_later(settings.presence_grace, self._leave_all, state),
            loop.call_later(settings.connection_state_ttl, close_connection, self, state),
        ]

    def _leave_all(self, state: ConnectionState) -> None:
        for channel in self.channels.values():
            channel.drop_members(state.id)

    def _watch_expiry(self, session: Session) -> asyncio.TimerHandle | None:
        """End a session when its token expires (RTN15h: DISCONNECTED with 40142)."""
        expires = session.state.principal.expires
        if expires is None:
            return None

        def check() -> None:
            # A re-authentication may have brought a later time meanwhile.
            latest = session.state.principal.expires
            if latest is not None and latest <= expires:
                session.disconnect(ErrorInfo(40142, "token expired"))

        delay = max(0.0, (expires - now_ms()) / 1000)
        return asyncio.get_running_loop().call_later(delay, check)
