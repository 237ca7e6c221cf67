"""Turns URLs, keyword arguments and existing clients into settings and connection arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import msgspec
import redis
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio import RedisCluster as AsyncRedisCluster
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tokenwire._urls import split_url
from tokenwire.backend import Granularity, Retention
from tokenwire_adapters._backends import settings as shared
from tokenwire_adapters._backends.redis.quirks import (
    accepted_arguments,
    connection_arguments,
    no_client_info,
)

__all__ = ["Settings", "Target", "age_ms", "from_client", "from_url", "make_settings"]

_SCHEMES = {
    "redis": ("redis", "single"),
    "rediss": ("rediss", "single"),
    "unix": ("unix", "single"),
    "redis+unix": ("unix", "single"),
    "redis+sentinel": ("redis", "sentinel"),
    "rediss+sentinel": ("rediss", "sentinel"),
    "redis+cluster": ("redis", "cluster"),
    "rediss+cluster": ("rediss", "cluster"),
}
_DATABASE = re.compile(r"/?[0-9]*/?", re.ASCII)
_PORTS = {"single": 6379, "sentinel": 26379, "cluster": 6379}


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where to connect, and with which arguments.

    :ivar kind: ``"single"``, ``"sentinel"`` or ``"cluster"``.
    :ivar addresses: hosts and ports: the server's, the Sentinels', or some Cluster nodes'.
    :ivar connection_class: the connection class of redis-py.
    :ivar arguments: keyword arguments of the connection class, without host and port.
    :ivar service: the name under which the Sentinels know the master.
    :ivar sentinel_arguments: keyword arguments for connections to the Sentinels.
    """

    kind: str
    addresses: tuple[tuple[str, int], ...]
    connection_class: type[Any]
    arguments: dict[str, Any]
    service: str = ""
    sentinel_arguments: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"Target({self.kind} {self.label})"

    @property
    def label(self) -> str:
        """The address for logs and errors: hosts and ports, and nothing else of a URL."""
        if "path" in self.arguments:
            return "its Unix socket"
        return ",".join(f"{host}:{port}" for host, port in self.addresses)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the backend; each is a keyword argument and a query parameter of the URL.

    :ivar prefix: the beginning of all keys.
    :ivar granularity: see `Backend.granularity`.
    :ivar retention: how much each channel keeps.
    :ivar timeout: seconds to wait for a reply, or for a connection.
    :ivar health: seconds of silence on the pub/sub connection before it is pinged.
    :ivar page_bytes: most text in one page of history, or of a replay, in bytes.
    :ivar replicas: how many replicas must confirm a publish (``WAIT``); 0 for none.
    """

    # The prefix may come from a URL, of which nothing is shown.
    prefix: str = "tokenwire"
    granularity: Granularity = "response"
    retention: Retention = Retention()
    timeout: float = 5.0
    health: float = 15.0
    page_bytes: int = 2 * 2**20
    replicas: int = 0

    def __repr__(self) -> str:
        shown = [f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__[1:]]
        return f"Settings({', '.join(shown)})"


def age_ms(retention: Retention) -> int:
    """The age of a retention in milliseconds; 0 for no limit."""
    return 0 if retention.age is None else max(1, int(retention.age * 1000))


_PARAMETERS: dict[str, Callable[[str], Any]] = {
    "prefix": str,
    "granularity": str,
    "timeout": float,
    "health": float,
    "page_bytes": int,
    "replicas": int,
}


def make_settings(options: Mapping[str, Any]) -> Settings:
    """Make settings from keyword arguments, checked.

    :raises ValueError: naming the setting that is wrong.
    """
    settings = shared.make_settings(Settings, "Redis", options)
    if not settings.prefix or set(settings.prefix) & set("{}") or not settings.prefix.isprintable():
        raise ValueError("prefix must be printable, not empty, and without braces")
    if not settings.health > 0:
        raise ValueError("health must be more than 0")
    if settings.replicas < 0:
        raise ValueError("replicas cannot be less than 0")
    return settings


def from_url(url: str, options: Mapping[str, Any]) -> tuple[Target, Settings]:
    """Parse a URL; parameters that are not settings go to redis-py's connections (``ssl_…``).

    :raises ValueError: when it is wrong; the message has nothing of it but its scheme.
    """
    parts = split_url(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"not a Redis URL: {parts.scheme[:32]!a}://")
    scheme, kind = _SCHEMES[parts.scheme]
    settings: dict[str, Any] = {}
    query: list[tuple[str, str]] = []  # for redis-py
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        convert = _PARAMETERS.get(name) or shared.RETENTION_PARAMETERS.get(name)
        if convert is None:
            query.append((name, text))
            continue
        settings[name] = shared.parse_parameter(name, text, convert)
    arguments: dict[str, Any] = {}
    for name, value in options.items():
        known = name in shared.RETENTION_PARAMETERS or name in Settings.__struct_fields__
        (settings if known else arguments)[name] = value
    user, at, hosts = parts.netloc.rpartition("@")
    addresses = _addresses(hosts, _PORTS[kind]) if scheme != "unix" else ()
    path, service = parts.path, ""
    if kind == "sentinel":
        service, _, database = unquote(path).lstrip("/").partition("/")
        path = f"/{database}" if database else ""
        if not service:
            raise ValueError("name the master: redis+sentinel://host:port/MASTER")
    elif kind == "cluster" and path.strip("/") not in ("", "0"):
        raise ValueError("a Redis Cluster has only database 0")
    if scheme != "unix" and not _DATABASE.fullmatch(path):
        raise ValueError("the path of a Redis URL is a database's number: redis://host:6379/0")
    host = "localhost" if scheme != "unix" else ""
    plain = f"{scheme}://{user}{at}{host}{quote(unquote(path))}?{urlencode(query)}"
    parsed = _parse(plain, query)
    if scheme == "unix" and "path" not in parsed:
        raise ValueError("name the socket: unix:///path/to/redis.sock")
    parsed.update(arguments)
    target = _target(kind, addresses, parsed, service)
    return target, make_settings(settings)


def _addresses(hosts: str, default: int) -> tuple[tuple[str, int], ...]:
    addresses: list[tuple[str, int]] = []
    for text in hosts.split(",") if hosts else ["localhost"]:
        address = _address(text, default)
        if address is None:
            raise ValueError(
                "what comes before the path of the URL is no host and port: write / as %2F,"
                " ? as %3F, # as %23 and @ as %40 in user names and passwords"
            )
        addresses.append(address)
    return tuple(addresses)


def _address(text: str, default: int) -> tuple[str, int] | None:
    try:
        parts = urlsplit(f"//{text}")
        return parts.hostname or "localhost", parts.port or default
    except ValueError:  # it quotes the text
        return None


def _parse(url: str, query: list[tuple[str, str]]) -> dict[str, Any]:
    """Have redis-py parse a URL without settings of ours.

    :raises ValueError: when it takes it no more than a connection would take the parameters.
    """
    problem = "a parameter of the URL is no setting, and no argument of redis-py's connections"
    try:
        parsed = cast("dict[str, Any]", dict(parse_url(url)))
        classes = {parsed.get("connection_class", Connection), Connection, SSLConnection}
        known = accepted_arguments(classes)
    except ValueError:  # it quotes the URL
        parsed, known = {}, set[str]()
    if (not parsed and query) or any(name not in known for name, _ in query):
        raise ValueError(problem)
    return parsed


_REPLACED = (  # arguments of a pool, and those that the backend sets itself
    "max_connections",
    "connection_class",
    "connection_pool",
    "timeout",
    "host",
    "port",
    "retry_on_timeout",
    "retry_on_error",
    "socket_timeout",
    "health_check_interval",
    "decode_responses",
    "retry",
    "protocol",
)


def _target(
    kind: str, addresses: tuple[tuple[str, int], ...], options: dict[str, Any], service: str = ""
) -> Target:
    connection_class = options.get("connection_class", Connection)
    arguments = {name: value for name, value in options.items() if name not in _REPLACED}
    sentinel = {
        name.removeprefix("sentinel_"): arguments.pop(name)
        for name in ("sentinel_username", "sentinel_password")
        if name in arguments
    }
    if issubclass(connection_class, SSLConnection):
        sentinel |= {name: value for name, value in arguments.items() if name.startswith("ssl_")}
    # We parse RESP2 replies, and retry ourselves.
    fixed: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "protocol": 2, **no_client_info()}
    try:
        connection_class(**arguments, **fixed)
        problem = ""
    except (TypeError, ValueError, RedisError) as error:
        problem = _without_values(str(error), arguments)
    if problem:
        raise ValueError(f"wrong option for the connection to Redis: {problem}")
    return Target(
        kind=kind,
        addresses=addresses,
        connection_class=connection_class,
        arguments=arguments | fixed,
        service=service,
        sentinel_arguments=sentinel | fixed,
    )


def _without_values(problem: str, arguments: Mapping[str, Any]) -> str:
    """The text of an error, unless it quotes the value of an argument, which may be a secret."""
    values = [str(value) for value in arguments.values() if value is not None]
    quoted = any(value and value in problem for value in values)
    return "see docs/redis.md for what there is" if quoted else problem


def from_client(client: Any) -> Target:
    """Connect as a client of ``redis.asyncio`` does: `Redis` or `RedisCluster`.

    The client's own connections are left alone, so it may belong to any event loop.

    :raises ValueError: when it is something else.
    """
    if isinstance(client, redis.Redis | redis.RedisCluster):
        name = type(client).__name__
        raise ValueError(f"client is a synchronous redis.{name}: give a redis.asyncio.{name}")
    if isinstance(client, AsyncRedisCluster):
        manager = client.nodes_manager
        nodes = list(manager.startup_nodes.values())
        connection_class = nodes[0].connection_class
        options = connection_arguments(manager.connection_kwargs, connection_class)
        options["connection_class"] = connection_class
        return _target("cluster", tuple((node.host, int(node.port)) for node in nodes), options)
    pool = getattr(client, "connection_pool", None)
    if pool is None or not hasattr(pool, "connection_kwargs"):
        raise ValueError("client must be a redis.asyncio.Redis or RedisCluster")
    address = (
        str(pool.connection_kwargs.get("host", "localhost")),
        int(pool.connection_kwargs.get("port", 6379)),
    )
    options = connection_arguments(pool.connection_kwargs, pool.connection_class)
    options["connection_class"] = pool.connection_class
    if hasattr(pool, "sentinel_manager"):
        sentinels = pool.sentinel_manager.sentinels
        arguments = [sentinel.connection_pool.connection_kwargs for sentinel in sentinels]
        addresses = tuple((str(kwargs["host"]), int(kwargs["port"])) for kwargs in arguments)
        for name in ("username", "password"):
            if arguments[0].get(name):
                options[f"sentinel_{name}"] = arguments[0][name]
        tls = issubclass(pool.connection_class, SSLConnection)
        options["connection_class"] = SSLConnection if tls else Connection
        return _target("sentinel", addresses, options, pool.service_name)
    if issubclass(pool.connection_class, UnixDomainSocketConnection):
        return _target("single", (), options)
    return _target("single", (address,), options)
