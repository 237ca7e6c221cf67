"""No part of a backend URL but its scheme, host and port is ever shown."""

from __future__ import annotations

import logging
import traceback
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.profile import scaled
from tokenwire import BackendMisconfigured, UnknownScheme, open_sink
from tokenwire.errors import TokenwireError
from tokenwire_adapters.redis import RedisBackend

_MARK = "hunter2"
_odd = st.sampled_from([*"/#?@:%[]!$&'()*+,;= ", "\u2100", "\uff0f", "%2F", "%", "\n", ""])
_secret = st.tuples(_odd, _odd, _odd).map(lambda odd: f"{odd[0]}{_MARK}{odd[1]}{_MARK}{odd[2]}")
_plain = st.just("x")
_schemes = st.sampled_from(
    [
        "redis",
        "rediss",
        "unix",
        "redis+sentinel",
        "redis+cluster",
        "ably",
        "memory",
        "pigeon",
        "",
    ]
)
_urls = st.builds(
    lambda scheme, user, password, path, name, value, fragment: (
        f"{scheme}{'://' if scheme else ''}{user}:{password}@127.0.0.1:1"
        f"{path}{name}{value}{fragment}"
    ),
    _schemes,
    st.one_of(_secret, _plain),
    st.one_of(_secret, _plain),
    st.one_of(st.just(""), st.just("/0"), _secret.map(lambda text: "/" + text)),
    st.sampled_from(["?timeout=0.05&retry_delay=", "?", "?prefix=", "?ssl_cert_reqs=", "?db="]),
    st.one_of(_secret, st.just("1"), _secret.map(lambda text: f"{text}=1")),
    st.one_of(st.just(""), _secret.map(lambda text: "#" + text)),
)


def _chain(error: BaseException) -> str:
    """All that anybody may print of an error, also of those that led to it."""
    texts: list[str] = []
    found: list[BaseException | None] = [error]
    for one in found:
        if one is not None:
            texts += traceback.format_exception_only(one)
            found += [other for other in (one.__cause__, one.__context__) if other not in found]
    return "".join(texts)


@settings(
    max_examples=scaled(400),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(url=_urls)
def test_nothing_of_a_url_is_shown(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    shown: list[str] = []
    with caplog.at_level(logging.DEBUG, logger="tokenwire"):
        try:
            sink = open_sink(url)
        except (ValueError, TokenwireError) as error:
            shown.append(_chain(error))
        else:
            shown += [repr(sink), repr(sink.backend), str(vars(sink.backend))]
            sink.close(0.01)
    shown += [record.getMessage() + str(record.exc_info) for record in caplog.records]
    assert not [text for text in shown if _MARK in text]


@pytest.mark.parametrize(
    "url",
    [
        f"redis://{_MARK}:{_MARK}@127.0.0.1:1/7?timeout=0.1",
        f"rediss://:{_MARK}@127.0.0.1:1?timeout=0.1",
        f"redis+sentinel://{_MARK}:{_MARK}@127.0.0.1:1/{_MARK}?timeout=0.1",
        f"redis+cluster://:{_MARK}@127.0.0.1:1?timeout=0.1",
        f"unix://:{_MARK}@/tmp/{_MARK}.sock?timeout=0.1",
    ],
)
def test_nothing_of_a_url_is_shown_when_nobody_answers(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with open_sink(url, close_timeout=0.2) as sink:
        with sink.respond("c") as writer:
            writer.write("lost")
        with pytest.raises(TokenwireError) as info:
            sink.history("c")
        shown = [str(info.value), str(writer.receipt), repr(sink.backend)]
        if "sock" not in url:  # what redis-py says of a socket is in the error's cause
            shown.append(_chain(info.value))
    shown += [record.getMessage() for record in caplog.records]
    assert len(caplog.records) >= 1
    assert not [text for text in shown if _MARK in text]


def test_a_password_with_a_character_that_is_to_be_escaped_is_refused() -> None:
    for password in ("pa/ss", "pa#ss", "pa?ss", "12/34", "12#34", "12?34", "[pa", "pa]"):
        with pytest.raises(ValueError, match="%2F") as info:
            open_sink(f"redis://somebody:{password}@127.0.0.1:6379/0")
        for part in (password, "somebody", "12", "34"):
            assert part not in _chain(info.value)


def test_what_is_wrong_with_a_url_is_said() -> None:
    with pytest.raises(UnknownScheme, match="redis://localhost:6379, say"):
        open_sink("localhost:6379")
    with pytest.raises(ValueError, match="no parameter but granularity"):
        open_sink("memory://?retention=5")
    with pytest.raises(ValueError, match="a database's number"):
        open_sink("redis://localhost:6379/main")


@pytest.mark.parametrize("client", [redis.Redis, redis.RedisCluster])
def test_a_synchronous_client_is_refused_at_once(client: Any) -> None:
    with pytest.raises(ValueError, match=r"synchronous redis\.\w+: give a redis\.asyncio"):
        RedisBackend(client=client.__new__(client))


async def test_a_database_that_does_not_exist_is_named(shared_redis: Any) -> None:
    backend = RedisBackend(f"{shared_redis.url}/99?timeout=1")
    with pytest.raises(BackendMisconfigured, match="no database of the number"):
        await backend.history("c", limit=1)
    await backend.close()


def test_a_url_is_read_without_a_parser_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """In CPython 3.11 that fails where several threads parse at a time (python/cpython#106905)."""

    def parse(*_: Any, **__: Any) -> None:
        raise SystemError("AST constructor recursion depth mismatch")

    monkeypatch.setattr("ast.parse", parse)
    for url in (
        "redis://localhost?protocol=3&client_name=x",
        "rediss://localhost?ssl_cert_reqs=none",
        "unix:///run/redis.sock",
        "redis+sentinel://localhost:26379/mymaster?socket_timeout=3",
    ):
        RedisBackend(url)


def test_an_option_that_redis_py_refuses_is_reported_without_its_value() -> None:
    with pytest.raises(ValueError, match="wrong option for the connection to Redis") as refused:
        RedisBackend("rediss://localhost?ssl_cert_reqs=s3cret")
    assert "s3cret" not in str(refused.value)
