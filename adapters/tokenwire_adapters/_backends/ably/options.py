"""Turns URLs, keyword arguments and existing clients into settings, and into client arguments."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast
from urllib.parse import parse_qsl, unquote

import msgspec
from ably.transport.defaults import Defaults

from tokenwire._options import check_rollup
from tokenwire._urls import split_url
from tokenwire.backend import Granularity
from tokenwire_adapters._backends.ably.callbacks import as_coroutine_function
from tokenwire_adapters._backends.ably.quirks import without_port

__all__ = ["Settings", "make_settings"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the backend; each is a keyword argument, and most are URL parameters.

    :ivar key: ``APP.KEY:SECRET``.
    :ivar token: an Ably token or JWT; without `auth_url` or `auth_callback` it cannot be renewed.
    :ivar auth_url: a URL that returns tokens.
    :ivar auth_callback: a function that returns tokens. A coroutine function runs on the I/O
        thread, any other on a thread of its own.
    :ivar client_id: the publisher's client id; needed where the key has only
        ``message-update-own``.
    :ivar endpoint: a routing policy name or a host; with `port` and `tls`, another server than
        Ably's.
    :ivar fallback_hosts: hosts to try where that one does not answer; by default Ably's.
    :ivar granularity: ``"response"``: one growing message per part; ``"token"``: one per token.
    :ivar dialect: ``"native"``, or ``"ai-transport"`` for pages with Ably's client library.
    :ivar rollup_window: seconds in which Ably joins appends to a message (0 to 0.5).
    :ivar markers: with granularity ``"token"``, whether ``start`` and ``stop`` are published.
    :ivar binary: whether to use msgpack rather than JSON.
    :ivar timeout: seconds to wait for an acknowledgement or a reply.
    :ivar connect_timeout: seconds to wait for a connection.
    :ivar retry: seconds between attempts to connect.
    :ivar window: how many publishes may be unacknowledged at a time.
    :ivar rate: messages per second that Ably accepts from a connection; 0 for no limit.
    :ivar reach: how many messages of history are read at most.
    :ivar claim_depth: how many messages are read to find out whether a response's id is taken.
    :ivar check_channel: the channel that ``tokenwire doctor`` uses; its namespace's rules apply.
    :ivar max_message: bytes that a message may have (Ably's limit is 65536 for most accounts).
    """

    key: str | None = None
    token: str | None = None
    auth_url: str | None = None
    auth_callback: Any = None
    auth_method: str = "GET"
    auth_headers: dict[str, str] | None = None
    auth_params: dict[str, str] | None = None
    client_id: str | None = None
    endpoint: str | None = None
    port: int | None = None
    tls: bool = True
    fallback_hosts: list[str] | None = None
    granularity: Granularity = "response"
    dialect: Literal["native", "ai-transport"] = "native"
    rollup_window: float | None = None
    markers: bool = True
    binary: bool = True
    timeout: float = 10.0
    connect_timeout: float = 5.0
    retry: float = 0.5
    window: int = 16
    rate: float = 50.0
    reach: int = 2000
    claim_depth: int = 100
    max_message: int = 65536
    check_channel: str = "tokenwire:check"

    def __repr__(self) -> str:
        return f"Settings({self.label})"

    @property
    def label(self) -> str:
        """The app and the server for logs and errors, without secrets."""
        if self.key:
            app = self.key.partition(":")[0]
        else:
            app = (
                "auth_url" if self.auth_url else "auth_callback" if self.auth_callback else "token"
            )
        return f"{app} at {self._with_port(self.endpoint)}" if self.endpoint else app

    def realtime(self, params: Mapping[str, str], hosts: Sequence[str] = ()) -> dict[str, Any]:
        """Keyword arguments for `AblyRealtime`.

        It ignores the port option, and accepts a port in the host.

        :param hosts: in place of the endpoint and the fallback hosts, with ports.
        """
        kwargs = self._common()
        if hosts:
            kwargs["endpoint"], *kwargs["fallback_hosts"] = hosts
        else:
            if self.endpoint:
                kwargs["endpoint"] = self._with_port(self.endpoint)
            if self.fallback_hosts is not None:
                kwargs["fallback_hosts"] = [self._with_port(host) for host in self.fallback_hosts]
        return {
            **kwargs,
            # The client would send queued messages twice, or with stale serials: we retry.
            "queue_messages": False,
            "transport_params": dict(params),
            "realtime_request_timeout": int(self.connect_timeout * 1000),
            "disconnected_retry_timeout": int(self.retry * 1000),
            "suspended_retry_timeout": int(self.retry * 10_000),
            "channel_retry_timeout": int(self.retry * 1000),
        }

    def rest(self) -> dict[str, Any]:
        """Keyword arguments for `AblyRest`."""
        kwargs = self._common()
        if self.auth_url or self.auth_callback is not None:
            # The token says whose it is, and ably 3.1.4 refuses a plain one beside a `client_id`.
            kwargs.pop("client_id", None)
        if self.endpoint:
            kwargs["endpoint"] = self.endpoint
        if self.fallback_hosts is not None:
            kwargs["fallback_hosts"] = list(self.fallback_hosts)
        return {
            **kwargs,
            "http_request_timeout": self.timeout,
            "http_open_timeout": self.connect_timeout,
        }

    def _with_port(self, host: str) -> str:
        return f"{host}:{self.port}" if self.port else host

    def _common(self) -> dict[str, Any]:
        kwargs: dict[str, Any] = {"tls": self.tls, "use_binary_protocol": self.binary}
        for name in ("key", "auth_url", "client_id", "token"):
            if getattr(self, name) is not None:
                kwargs[name] = getattr(self, name)
        if self.port:
            kwargs["tls_port" if self.tls else "port"] = self.port
        if self.auth_callback is not None:
            kwargs["auth_callback"] = as_coroutine_function(self.auth_callback)
            if self.client_id is not None:  # for whom: ably 3.1.4 says it in REST clients alone
                kwargs["default_token_params"] = {"client_id": self.client_id}
        if self.auth_url:
            kwargs["auth_method"] = self.auth_method
            kwargs["auth_headers"] = self.auth_headers
            client = {} if self.client_id is None else {"clientId": self.client_id}  # RSA8c1a
            kwargs["auth_params"] = {**client, **(self.auth_params or {})} or None
        return kwargs


def _hosts(text: str) -> list[str]:
    return [host.strip() for host in text.split(",") if host.strip()]


def _boolean(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError


_FROM_TEXT: dict[str, Any] = {
    "token": str,
    "auth_url": str,
    "auth_method": str,
    "client_id": str,
    "endpoint": str,
    "port": int,
    "tls": _boolean,
    "fallback_hosts": _hosts,
    "granularity": str,
    "dialect": str,
    "rollup_window": float,
    "markers": _boolean,
    "binary": _boolean,
    "timeout": float,
    "connect_timeout": float,
    "retry": float,
    "window": int,
    "rate": float,
    "reach": int,
    "claim_depth": int,
    "max_message": int,
    "check_channel": str,
}


def make_settings(url: str | None, client: Any, options: Mapping[str, Any]) -> Settings:
    """Make settings from a URL or the options of an existing client; `options` take precedence.

    :raises ValueError: naming what is wrong; the message never contains a secret.
    """
    values: dict[str, Any] = {}
    if url is not None:
        values.update(_from_url(url))
    if client is not None:
        values.update(_from_client(client))
    values.update({name: value for name, value in options.items() if value is not None})
    unknown = sorted(set(values) - set(Settings.__struct_fields__))
    if unknown:
        raise ValueError(f"no such setting of the Ably backend: {', '.join(unknown)}")
    if values.get("granularity") == "token":
        values.setdefault("claim_depth", 1000)  # a response has many messages
    settings = Settings(**values)
    _check(settings)
    return settings


def _from_url(url: str) -> dict[str, Any]:
    parts = split_url(url)
    if parts.scheme != "ably":
        raise ValueError(f"not an Ably URL: {parts.scheme[:32]!a}://")
    if parts.path.strip("/"):
        raise ValueError("an Ably URL has no path: ably://APP.KEY:SECRET?granularity=response")
    values: dict[str, Any] = {}
    if parts.netloc:
        values["key"] = unquote(parts.netloc)
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name in ("key_env", "token_env"):
            secret = os.environ.get(text)
            if not secret:
                raise ValueError(f"the environment variable that {name} names is not set")
            values[name.removesuffix("_env")] = secret
            continue
        convert = _FROM_TEXT.get(name)
        if convert is None:
            raise ValueError("a parameter of the URL is no setting of the Ably backend")
        try:
            values[name] = convert(text)
        except ValueError:
            raise ValueError(f"{name} in the URL is wrong") from None
    return values


def _from_client(client: Any) -> dict[str, Any]:
    """The settings by which an existing client authenticates and connects."""
    options: Any = getattr(client, "options", None)
    if options is None or not hasattr(options, "auth_options"):
        raise ValueError("client must be an ably.AblyRealtime or ably.AblyRest")
    auth = cast("dict[str, Any]", options.auth_options)
    values: dict[str, Any] = {
        "client_id": options.client_id,
        "tls": options.tls,
        "binary": options.use_binary_protocol,
        "auth_url": auth.get("auth_url"),
        "auth_callback": auth.get("auth_callback"),
        "auth_headers": auth.get("auth_headers"),
        "auth_params": auth.get("auth_params"),
        "auth_method": auth.get("auth_method"),
    }
    if auth.get("key_name") and auth.get("key_secret"):
        values["key"] = f"{auth['key_name']}:{auth['key_secret']}"
    details = options.token_details or getattr(client.auth, "token_details", None)
    token = options.auth_token or getattr(details, "token", None)
    if token and "key" not in values:
        values["token"] = token
    window = options.transport_params.get("appendRollupWindow")
    if window is not None:
        values["rollup_window"] = int(window) / 1000
    if options.endpoint != "main":
        host, colon, port = str(options.endpoint).rpartition(":")
        if colon and port.isdigit():
            values["endpoint"], values["port"] = host, int(port)
        else:
            values["endpoint"] = options.endpoint
    explicit = options.tls_port if options.tls else options.port
    if explicit:
        values["port"] = explicit
    fallbacks = [without_port(str(host)) for host in options.fallback_hosts or ()]
    defaults = cast("Any", Defaults).get_fallback_hosts(options.endpoint)
    if fallbacks and sorted(fallbacks) != sorted(defaults):
        values["fallback_hosts"] = fallbacks
    return {name: value for name, value in values.items() if value is not None}


def _check(settings: Settings) -> None:
    if settings.granularity not in ("response", "token"):
        raise ValueError("granularity must be 'response' or 'token'")
    if settings.dialect not in ("native", "ai-transport"):
        raise ValueError("dialect must be 'native' or 'ai-transport'")
    if settings.dialect == "ai-transport" and settings.granularity != "response":
        raise ValueError("the dialect 'ai-transport' needs granularity 'response'")
    if not (settings.key or settings.token or settings.auth_url or settings.auth_callback):
        raise ValueError(
            "an Ably URL needs a key (ably://APP.KEY:SECRET or ably://?key_env=ABLY_API_KEY),"
            " a token, auth_url or auth_callback"
        )
    if settings.key is not None:
        name, colon, secret = settings.key.partition(":")
        if not (colon and "." in name and secret) or ":" in secret:
            raise ValueError("an Ably key looks like APP.KEY:SECRET")
        if not settings.tls:  # ably-python would send it over realtime all the same
            raise ValueError("a key goes over TLS only: leave out tls=false, or use a token")
    if settings.rollup_window is not None:
        check_rollup(settings.rollup_window, "rollup_window")
    if settings.port is not None and not settings.endpoint:
        raise ValueError("port needs endpoint")
    _check_numbers(settings)


def _check_numbers(settings: Settings) -> None:
    for name in ("timeout", "connect_timeout", "retry"):
        if not getattr(settings, name) > 0:
            raise ValueError(f"{name} must be more than 0 seconds")
    if not 1 <= settings.window <= 1000:
        raise ValueError("window must be from 1 to 1000")
    if not (settings.rate == 0 or settings.rate >= 1):
        raise ValueError("rate must be at least 1 message a second, or 0 for no limit")
    if settings.reach < 100:
        raise ValueError("reach must be at least 100 messages")
    if not 1 <= settings.claim_depth <= 1000:
        raise ValueError("claim_depth must be from 1 to 1000 messages")
    if settings.max_message < 8192:
        raise ValueError("max_message must be at least 8192 bytes")
