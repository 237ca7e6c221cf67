"""From URLs, arguments and ready clients to what connections are made of."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import msgspec
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tokenwire.backend import Granularity
from tokenwire.memory import Retention

__all__ = ["Settings", "Target", "from_client", "from_url", "settings_of"]

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
_PORTS = {"single": 6379, "sentinel": 26379, "cluster": 6379}


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where to connect, and how.

    :ivar kind: ``"single"``, ``"sentinel"`` or ``"cluster"``.
    :ivar addresses: host and port; of the Sentinels, or of some nodes of a Cluster.
    :ivar arguments: for the connection class, without host and port.
    :ivar service: the name of a Sentinel's master.
    :ivar sentinel_arguments: for the connections to the Sentinels.
    """

    kind: str
    addresses: tuple[tuple[str, int], ...]
    connection_class: type[Any]
    arguments: dict[str, Any]
    service: str = ""
    sentinel_arguments: dict[str, Any] = {}

    @property
    def shown(self) -> str:
        """Where, without secrets."""
        if "path" in self.arguments:
            return str(self.arguments["path"])
        hosts = ",".join(f"{host}:{port}" for host, port in self.addresses)
        return f"{self.service} at {hosts}" if self.service else hosts


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be chosen; each is a keyword argument, and a query parameter of the URL.

    :ivar prefix: what all keys begin with.
    :ivar timeout: seconds that Redis has for an answer, or to take a connection.
    :ivar health: seconds of silence after which the subscriber asks whether anybody is there.
    :ivar page_bytes: how much text one page of history, or of a replay, may have, in bytes.
    :ivar replicas: how many replicas must have a publish before it counts (``WAIT``); 0 for none.
    """

    prefix: str = "tokenwire"
    granularity: Granularity = "response"
    retention: Retention = Retention()
    timeout: float = 5.0
    health: float = 15.0
    page_bytes: int = 2 * 2**20
    replicas: int = 0


_OURS: dict[str, Callable[[str], Any]] = {
    "prefix": str,
    "granularity": str,
    "timeout": float,
    "health": float,
    "page_bytes": int,
    "replicas": int,
}
_RETENTION: dict[str, Callable[[str], Any]] = {
    "responses": int,
    "age": lambda text: None if text == "none" else float(text),
    "bytes": int,
    "events": int,
    "event_bytes": int,
}


def settings_of(given: Mapping[str, Any]) -> Settings:
    """Check settings.

    :raises ValueError: naming the one that is wrong.
    """
    values = dict(given)
    kept = {name: values.pop(name) for name in list(values) if name in _RETENTION}
    unknown = sorted(set(values) - set(Settings.__struct_fields__))
    if unknown:
        raise ValueError(f"no such setting of the Redis backend: {', '.join(unknown)}")
    if kept:
        values["retention"] = msgspec.structs.replace(values.get("retention", Retention()), **kept)
    settings = Settings(**values)
    if settings.granularity not in ("response", "token"):
        raise ValueError("granularity must be 'response' or 'token'")
    if not settings.prefix or set(settings.prefix) & set("{}") or not settings.prefix.isprintable():
        raise ValueError("prefix must be printable, not empty, and without braces")
    for name in ("timeout", "health", "page_bytes"):
        if not getattr(settings, name) > 0:
            raise ValueError(f"{name} must be more than 0")
    keep = settings.retention
    if settings.replicas < 0 or min(keep.responses, keep.bytes, keep.events, keep.event_bytes) < 0:
        raise ValueError("replicas and what retention keeps cannot be less than 0")
    if keep.age is not None and not keep.age > 0:
        raise ValueError("age must be more than 0 seconds, or None")
    return settings


def from_url(url: str, options: Mapping[str, Any]) -> tuple[Target, Settings]:
    """Read a URL. What the backend does not know is handed on to the connections (``ssl_…``).

    :raises ValueError: when it is wrong; its text never shows the password.
    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"not a Redis URL: {parts.scheme[:32]!a}://")
    scheme, kind = _SCHEMES[parts.scheme]
    ours: dict[str, Any] = {}
    theirs: list[tuple[str, str]] = []
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        convert = _OURS.get(name) or _RETENTION.get(name)
        if convert is None:
            theirs.append((name, text))
            continue
        try:
            ours[name] = convert(text)
        except ValueError:
            raise ValueError(f"{name} in the URL is not a number: {text[:32]!a}") from None
    arguments: dict[str, Any] = {}
    for name, value in options.items():
        known = name in _OURS or name in _RETENTION or name in Settings.__struct_fields__
        (ours if known else arguments)[name] = value
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
    host = "localhost" if scheme != "unix" else ""
    plain = f"{scheme}://{user}{at}{host}{quote(unquote(path))}?{urlencode(theirs)}"
    parsed = cast("dict[str, Any]", dict(parse_url(plain)))
    if scheme == "unix" and "path" not in parsed:
        raise ValueError("name the socket: unix:///path/to/redis.sock")
    parsed.update(arguments)
    target = _target(kind, addresses, parsed, service)
    return target, settings_of(ours)


def _addresses(hosts: str, default: int) -> tuple[tuple[str, int], ...]:
    found: list[tuple[str, int]] = []
    for text in hosts.split(",") if hosts else ["localhost"]:
        try:
            one = urlsplit(f"//{text}")
            found.append((one.hostname or "localhost", one.port or default))
        except ValueError:
            raise ValueError(f"not a host and port: {text[:64]!a}") from None
    return tuple(found)


_POOL_ONLY = (
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
    kind: str, addresses: tuple[tuple[str, int], ...], found: dict[str, Any], service: str = ""
) -> Target:
    connection_class = found.get("connection_class", Connection)
    arguments = {name: value for name, value in found.items() if name not in _POOL_ONLY}
    sentinel = {
        name.removeprefix("sentinel_"): arguments.pop(name)
        for name in ("sentinel_username", "sentinel_password")
        if name in arguments
    }
    if issubclass(connection_class, SSLConnection):
        sentinel |= {name: value for name, value in arguments.items() if name.startswith("ssl_")}
    # Replies are read as RESP2, by us. Nothing is tried again by redis-py. CLIENT SETINFO would
    # cost a round trip and a right.
    fixed: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "protocol": 2}
    if "driver_info" in _parameters(AbstractConnection):
        fixed["driver_info"] = None
    else:
        fixed |= {"lib_name": None, "lib_version": None}
    target = Target(
        kind=kind,
        addresses=addresses,
        connection_class=connection_class,
        arguments=arguments | fixed,
        service=service,
        sentinel_arguments=sentinel | fixed,
    )
    try:
        connection_class(**target.arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"wrong option for the connection to Redis: {error}") from None
    return target


def from_client(client: Any) -> Target:
    """Make connections as a client of ``redis.asyncio`` does: `Redis` or `RedisCluster`.

    Its own connections are left alone, so it may belong to any event loop.

    :raises ValueError: when it is something else.
    """
    if hasattr(client, "nodes_manager"):  # RedisCluster
        manager = client.nodes_manager
        nodes = list(manager.startup_nodes.values())
        connection_class = nodes[0].connection_class
        found = _clean(dict(manager.connection_kwargs), connection_class)
        found["connection_class"] = connection_class
        return _target("cluster", tuple((node.host, int(node.port)) for node in nodes), found)
    pool = getattr(client, "connection_pool", None)
    if pool is None or not hasattr(pool, "connection_kwargs"):
        raise ValueError("client must be a redis.asyncio.Redis or RedisCluster")
    address = (
        str(pool.connection_kwargs.get("host", "localhost")),
        int(pool.connection_kwargs.get("port", 6379)),
    )
    found = _clean(dict(pool.connection_kwargs), pool.connection_class)
    found["connection_class"] = pool.connection_class
    if hasattr(pool, "sentinel_manager"):
        sentinels = pool.sentinel_manager.sentinels
        inner = [sentinel.connection_pool.connection_kwargs for sentinel in sentinels]
        addresses = tuple((str(one["host"]), int(one["port"])) for one in inner)
        for name in ("username", "password"):
            if inner[0].get(name):
                found[f"sentinel_{name}"] = inner[0][name]
        tls = issubclass(pool.connection_class, SSLConnection)
        found["connection_class"] = SSLConnection if tls else Connection
        return _target("sentinel", addresses, found, pool.service_name)
    if issubclass(pool.connection_class, UnixDomainSocketConnection):
        return _target("single", (), found)
    return _target("single", (address,), found)


def _clean(found: dict[str, Any], connection_class: type[Any]) -> dict[str, Any]:
    """Only what a connection takes, without what belongs to the client's own pool."""
    taken = _parameters(connection_class)
    return {
        name: value
        for name, value in found.items()
        if (name in taken or name.startswith("sentinel_"))
        and "maint" not in name
        and name not in ("event_dispatcher", "himport_registry", "parser_class")
        and name not in ("driver_info", "lib_name", "lib_version")
        and not name.startswith("orig_")
    }


def _parameters(some_class: Any) -> set[str]:
    """What a class takes when it is made, in all its bases."""
    return {
        name
        for part in some_class.__mro__[:-1]
        for name in inspect.signature(part.__init__).parameters
    }
