"""Who may do what: deny by default, then `authorize` and tokens."""

from __future__ import annotations

import asyncio
import base64
import contextvars
import hashlib
import hmac
import inspect
import ipaddress
import logging
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeAlias

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from tokenwire_adapters._web.gateway.asgi import Request
from tokenwire_adapters._web.gateway.cookies import Connection
from tokenwire_adapters._web.gateway.cors import authority_of, host_name
from tokenwire_adapters._web.gateway.problems import AccessDenied, Problem
from tokenwire_adapters._web.gateway.tokens import Grant, Tokens

__all__ = [
    "NO_CONNECTION",
    "RIGHTS_HEADER",
    "USER_HEADER",
    "Authorize",
    "Caller",
    "Guard",
    "is_local",
]

logger = logging.getLogger("tokenwire.gateway")

Authorize: TypeAlias = Callable[[HTTPConnection, str, str], Any]
"""``authorize(connection, channel, action)``, sync or async: a principal, True or False."""

# Not anyio's threads: they end with the task that started them, and where a server (daphne) leaves
# its loop without ending that, the process waits for them for ever.
_threads = ThreadPoolExecutor(40, thread_name_prefix="tokenwire-authorize")

_FORWARDED = (
    b"forwarded",
    b"via",
    b"x-forwarded",  # -for, -host, -proto, …
    b"x-real-ip",
    b"x-original-",
    b"x-client-ip",
    b"x-cluster-client-ip",
    b"true-client-ip",
    b"cf-connecting-ip",
    b"cf-ray",
)
USER_HEADER: Final = b"tokenwire-user"
RIGHTS_HEADER: Final = b"tokenwire-rights"
"""For how many seconds from now the caller has its rights."""
_BEARER = "tokenwire.bearer."
_LOCAL_ONLY = (
    "this gateway has no authorize= and no tokens=, so it answers only clients of its own machine"
    " that come directly, not through a proxy, and name it in Host (localhost, 127.0.0.1)"
)


def is_local(request: Request) -> bool:
    """Whether the client is on this machine, and nothing suggests that it speaks for another.

    A proxy on this machine connects from loopback, too: a header that proxies set gives it away,
    and so does HTTP/1.0, which nginx speaks by default. A page of some site
    that resolves to 127.0.0.1 (DNS rebinding) is given away by `Host`.
    """
    try:
        address = ipaddress.ip_address(request.client.partition("%")[0])
    except ValueError:
        return False  # a Unix socket, or not known: a proxy may be at its other end
    mapped = getattr(address, "ipv4_mapped", None)
    if not (mapped or address).is_loopback:
        return False
    if any(name.startswith(_FORWARDED) for name, _ in request.scope.get("headers", ())):
        return False
    if request.scope.get("http_version") == "1.0":
        return False
    host = host_name(request.header(b"host") or "")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


NO_CONNECTION: Final = Connection({"type": "http", "headers": []})
"""In place of the request of a caller whose stream is served."""


class Caller:
    """The client of one request or WebSocket.

    :ivar connection: the request, as Starlette has it: what `authorize` is given.
    :ivar grant: what its token says; None where it has none.
    :ivar principal: who it is, as its token or `authorize` says; None where neither does.
    :ivar client: its address; empty where the server does not know it.
    :ivar http_version: what it speaks, such as ``"1.1"``.
    :ivar local: whether it is on this machine, and speaks for no other.
    """

    __slots__ = ("client", "connection", "grant", "http_version", "local", "principal")

    def __init__(self, request: Request) -> None:
        self.connection = Connection(request.scope)
        self.client = request.client
        self.http_version = str(request.scope.get("http_version", "1.1"))
        self.grant: Grant | None = None
        self.principal: str | None = None
        self.local = is_local(request)

    @property
    def key(self) -> str:
        """What rates are counted by: the principal, else the address."""
        return f"p:{self.principal}" if self.principal is not None else f"c:{self.client}"

    @property
    def expires(self) -> float | None:
        """When its rights end, in seconds since 1970; None for no such time."""
        return None if self.grant is None else self.grant.expires


class Guard:
    """Decides who may do what.

    :param tab_key: the key of `user_digest`; by default derived from the secret of `tokens`, else
        random.
    """

    def __init__(
        self, authorize: Authorize | None, tokens: Tokens | None, tab_key: bytes | None = None
    ) -> None:
        self.authorize = authorize
        self.tokens = tokens
        derived = tokens.derived_key(b"tokenwire tabs") if tab_key is None and tokens else None
        self._tab_key = tab_key or derived or secrets.token_bytes(32)

    def user_digest(self, caller: Caller) -> str | None:
        """What two tabs compare to find out whether they are of one user, without a name in it.

        :return: None where it is not known who the caller is; one value for all where everybody
            may do everything.
        """
        if self.authorize is None and self.tokens is None:
            return "anyone"
        if caller.principal is None:
            return None
        digest = hmac.new(self._tab_key, caller.principal.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest[:18]).decode()

    def user_headers(self, caller: Caller) -> list[tuple[bytes, bytes]]:
        """Say, in headers, whose rights a request has shown, and for how long they last."""
        headers: list[tuple[bytes, bytes]] = []
        digest = self.user_digest(caller)
        if digest is not None:
            headers.append((USER_HEADER, digest.encode()))
        if caller.expires is not None and self.tokens is not None:
            left = max(0, caller.expires - self.tokens.clock())
            headers.append((RIGHTS_HEADER, f"{left:.0f}".encode()))
        return headers

    def identify(self, request: Request, *, websocket: bool, browser_only: bool) -> Caller:
        """Identify the client of a request.

        :param browser_only: browsers can send no header with such requests, so that a
            token may come in the query.
        :raises Problem: when the token is not valid, or the gateway is closed to this client. No
            missing token is refused by `require`.
        """
        caller = Caller(request)
        if self.tokens is None:
            if self.authorize is None and not caller.local:
                raise Problem("forbidden", _LOCAL_ONLY)
            return caller
        token, in_query = self._find(request, websocket)
        if token is not None:
            if in_query and not browser_only:
                raise Problem(
                    "unauthorized",
                    "a token in the query is taken only for event streams and sockets;"
                    " send it in an Authorization header",
                )
            self.admit(caller, token, in_query=in_query)
        return caller

    def admit(self, caller: Caller, token: str, *, in_query: bool = False) -> None:
        """Check a token and give the caller what it grants.

        :raises Problem: when it is not valid.
        """
        if self.tokens is None:
            raise Problem("bad_request", "this gateway takes no tokens")
        grant = self.tokens.check(token, in_query=in_query)
        caller.grant = grant
        caller.principal = grant.subject

    def _find(self, request: Request, websocket: bool) -> tuple[str | None, bool]:
        header = request.header(b"authorization")
        if header is not None:
            scheme, _, token = header.partition(" ")
            if scheme.lower() == "bearer":
                return token.strip(), False
        if websocket:
            for protocol in request.scope.get("subprotocols", ()):
                if str(protocol).startswith(_BEARER):
                    return str(protocol)[len(_BEARER) :], False
        named = request.query.get("token")
        return named, named is not None

    def wants_token(self, caller: Caller) -> bool:
        """Whether nothing can be done before a token comes."""
        return self.tokens is not None and caller.grant is None

    def expired(self, caller: Caller) -> bool:
        """Whether the rights of the caller have ended."""
        if caller.grant is None or self.tokens is None:
            return False
        return self.tokens.clock() >= caller.grant.expires

    async def require(self, caller: Caller, channel: str, action: str) -> None:
        """Let `caller` do `action` in `channel`, or not.

        :raises Problem: ``unauthorized``, ``token_expired`` or ``forbidden``.
        """
        if self.tokens is not None:
            if caller.grant is None:
                raise Problem("unauthorized", "a token is needed")
            if self.expired(caller):
                raise Problem("token_expired", "the token has expired")
            if not caller.grant.allows(channel, action):
                raise Problem(
                    "forbidden", f"this token does not allow {action!r} in channel {channel!a}"
                )
        if self.authorize is not None:
            await self._ask(self.authorize, caller, channel, action)
        elif self.tokens is None and not caller.local:
            raise Problem("forbidden", _LOCAL_ONLY)

    async def _ask(self, authorize: Authorize, caller: Caller, channel: str, action: str) -> None:
        try:
            answer = await _called(authorize, caller.connection, channel, action)
        except Problem:
            raise
        except AccessDenied as error:
            code = "unauthorized" if error.status == 401 else "forbidden"
            raise Problem(code, error.message) from error
        except PermissionError as error:
            raise Problem("forbidden", "not allowed") from error
        except HTTPException as error:
            code = {401: "unauthorized", 404: "not_found"}.get(error.status_code, "forbidden")
            raise Problem(code, str(error.detail)) from error
        except Exception as error:
            logger.exception("tokenwire gateway: authorize failed")
            raise Problem("internal", "authorization failed") from error
        if answer is None:
            logger.error(
                "tokenwire gateway: authorize returned None, which allows nothing; return True or"
                " a principal to allow"
            )
        if answer is None or answer is False:
            raise Problem("forbidden", f"{action!r} in channel {channel!a} is not allowed")
        if answer is not True:
            caller.principal = str(answer)[:256]


async def _called(authorize: Authorize, *arguments: Any) -> Any:
    """Call a function that may be async, or block."""
    if inspect.iscoroutinefunction(authorize) or inspect.iscoroutinefunction(
        getattr(authorize, "__call__", None)  # noqa: B004
    ):
        return await authorize(*arguments)
    context = contextvars.copy_context()
    answer: Any = await asyncio.get_running_loop().run_in_executor(
        _threads, lambda: context.run(_call, authorize, arguments)
    )
    return await answer if inspect.isawaitable(answer) else answer


def _call(authorize: Authorize, arguments: tuple[Any, ...]) -> Any:
    try:
        return authorize(*arguments)
    except StopIteration as error:  # which a future cannot hold
        raise RuntimeError("authorize raised StopIteration") from error


def same_origin(request: Request, origin: str) -> bool:
    """Whether a page of `origin` came from where this request went.

    The scheme is left out: behind a proxy that ends TLS it is not known here.
    """
    host = request.header(b"host")
    if host is None:
        return False
    own = authority_of(f"{origin.partition('://')[0]}://{host}")
    return own is not None and authority_of(origin) == own
