"""The faulty proxy breaks connections in the ways it promises, and in no other."""

import asyncio
import contextlib
import socket
import ssl
import threading
import time

import pytest
import redis
import redis.asyncio
from hypothesis import given, settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.redis_support import (
    Cut,
    CutAfter,
    Delay,
    FaultyProxy,
    HalfOpen,
    LoseReply,
    Refuse,
    Stall,
    Step,
    Throttle,
    eventually,
    scripts,
)

pytestmark = pytest.mark.redis
NEVER = Retry(NoBackoff(), 0)
BROKEN = (redis.ConnectionError, redis.TimeoutError)


@pytest.fixture
def proxy(shared_redis):
    with FaultyProxy((shared_redis.host, shared_redis.port)) as started:
        yield started


@pytest.fixture
def client(proxy):
    """A connection through the proxy that never tries twice."""
    with redis.Redis.from_url(proxy.url, retry=NEVER, socket_timeout=30) as opened:
        opened.ping()
        yield opened


@pytest.fixture
def echo():
    """A server that sends back what it gets, for tests that count bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection):
            with connection, contextlib.suppress(OSError):
                while data := connection.recv(65_536):
                    connection.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with FaultyProxy(server.getsockname()) as started:
            yield started
        server.shutdown(socket.SHUT_RDWR)
        thread.join(30)


def _all_from(sock):
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := sock.recv(65_536):
            received += data
    return received


def _dial(proxy):
    return socket.create_connection((proxy.host, proxy.port), timeout=30)


def test_forwards_everything(client, proxy):
    value = bytes(range(256)) * 10_000
    client.set("big", value)
    assert client.get("big") == value
    assert proxy.received("up") > len(value)
    assert proxy.received("down") > len(value)
    assert (proxy.accepted, proxy.connections) == (1, 1)


@pytest.mark.parametrize("reset", [False, True])
def test_cut_closes_what_is_open(echo, reset):
    with _dial(echo) as sock:
        sock.sendall(b"hello")
        assert sock.recv(5) == b"hello"
        assert echo.cut(reset=reset) == 1
        if reset:
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        else:
            assert sock.recv(1) == b""
    eventually(lambda: not echo.connections, "the link to go")


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("count", [1, 7, 100_000])
def test_cut_after_that_many_bytes(echo, direction, count):
    echo.cut_after(count, direction)
    with _dial(echo) as sock:
        with contextlib.suppress(OSError):  # it may be cut before all is sent
            sock.sendall(b"x" * 200_000)
        received = _all_from(sock)
    if direction == "down":
        # Exactly, unless our unread bytes made the kernel answer with a reset.
        assert len(received) <= count
        assert count == 100_000 or len(received) == count
    else:
        assert len(received) <= count
    assert not echo.armed


def test_a_lost_reply_was_executed(client, proxy, shared_redis):
    proxy.lose_reply(matching=b"INCR")
    with pytest.raises(redis.ConnectionError):
        client.incr("n")
    assert shared_redis.cli("GET", "n") == "1"
    assert not proxy.armed
    assert client.incr("n") == 2


def test_a_lost_pipeline_was_executed_whole(proxy, shared_redis):
    proxy.lose_reply(skip=1)
    with _dial(proxy) as sock:
        sock.sendall(b"PING\r\n")
        assert sock.recv(7) == b"+PONG\r\n"
        # At once: redis-py writes six kilobytes at a time, and may be held up after the first.
        sock.sendall(b"INCR n\r\nSET filler %b\r\n" % (b"x" * 100) * 2000)
        assert _all_from(sock) == b""
    assert shared_redis.cli("GET", "n") == "2000"


def test_redis_py_repeats_a_lost_command_unless_disabled(proxy, shared_redis):
    # Made by `from_url`, it would not; only the constructor comes with ten retries.
    with redis.Redis(host=proxy.host, port=proxy.port) as trusting:
        trusting.ping()
        proxy.lose_reply(matching=b"INCR")
        assert trusting.incr("n") == 2
    assert shared_redis.cli("GET", "n") == "2"


def test_refuse_and_accept(client, proxy):
    proxy.refuse()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    with pytest.raises(ConnectionRefusedError):
        _dial(proxy)
    proxy.accept()
    assert client.ping()


def test_stall_loses_nothing(echo):
    with _dial(echo) as sock:
        echo.stall("down")
        sock.sendall(b"held")
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.recv(4)
        echo.unstall()
        sock.settimeout(30)
        assert sock.recv(4) == b"held"


@pytest.mark.parametrize("direction", ["up", "down"])
def test_half_open_tells_nobody_until_it_heals(echo, direction):
    with _dial(echo) as lossy, _dial(echo) as idle:
        eventually(lambda: echo.connections == 2, "both connections")
        echo.half_open(direction)
        lossy.sendall(b"lost")
        eventually(lambda: echo.received(direction) == 4, "the bytes to vanish")
        lossy.settimeout(0.05)
        with pytest.raises(TimeoutError):
            lossy.recv(1)
        assert echo.connections == 2
        echo.heal()
        lossy.settimeout(30)
        with pytest.raises(ConnectionResetError):
            lossy.recv(1)
        idle.sendall(b"fine")  # lost nothing, so it lives on
        assert idle.recv(4) == b"fine"


def test_half_open_hides_the_servers_death(redis_server, faulty_proxy):
    with _dial(faulty_proxy) as sock:
        sock.sendall(b"PING\r\n")
        assert sock.recv(7) == b"+PONG\r\n"
        faulty_proxy.half_open("down")
        redis_server.kill()
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(1)


def test_delay_and_throttle_slow_down(echo):
    with _dial(echo) as sock:

        def took(count):
            start = time.monotonic()
            sock.sendall(b"x" * count)
            while count:
                count -= len(sock.recv(count))
            return time.monotonic() - start

        # Lower bounds only: how fast it is without is the machine's business.
        echo.delay(0.05)
        assert took(1) >= 0.1
        echo.delay(0)
        echo.throttle(100_000)
        assert took(10_000) >= 0.07
        echo.throttle(None)
        assert took(10) >= 0


def test_a_dead_server_behind_the_proxy_cuts_the_client(redis_server, faulty_proxy):
    redis_server.kill()
    with redis.Redis.from_url(faulty_proxy.url, retry=NEVER) as client:
        with pytest.raises(redis.ConnectionError):
            client.ping()
        redis_server.start()
        assert client.ping()


def test_reaches_a_unix_socket(redis_binary):
    from tests.redis_support import RedisServer

    with (
        RedisServer(binary=redis_binary, unix_socket=True) as server,
        FaultyProxy(server.socket_path) as proxy,
        redis.Redis.from_url(proxy.url) as client,
    ):
        assert client.ping()


def test_close_is_final_and_idempotent(shared_redis):
    proxy = FaultyProxy((shared_redis.host, shared_redis.port)).start()
    with redis.Redis.from_url(proxy.url, retry=NEVER) as client:
        client.ping()
        proxy.close()
        proxy.close()
        with pytest.raises(redis.ConnectionError):
            client.ping()


@pytest.mark.parametrize("way", ["close", "refuse", "cut"])
def test_ends_what_is_still_being_connected(echo, way):
    """A client that was taken and never finished its handshake is let go of as well."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with FaultyProxy(echo.target, tls=context) as proxy, socket.socket() as client:
        client.connect((proxy.host, proxy.port))
        client.settimeout(30)
        eventually(lambda: proxy.accepted == 1, "the proxy takes the connection")
        getattr(proxy, way)()
        assert client.recv(1) == b""


def test_a_script_plays_in_order(client, proxy, shared_redis):
    played = proxy.play(
        (
            Step(LoseReply(matching=b"INCR")),
            Step(Cut(), after=2),
            Step(Delay(0.001, seconds=0.01)),
            Step(Throttle(1_000_000, seconds=0.01)),
            Step(Stall(None, seconds=0.01)),
            Step(HalfOpen("down", seconds=0.01)),
            Step(CutAfter(1, "up")),
            Step(Refuse(seconds=0.01)),
        )
    )
    with pytest.raises(redis.ConnectionError):
        client.incr("n")
    for _ in range(3):
        with contextlib.suppress(*BROKEN):
            client.ping()
    played.result(60)
    proxy.heal()
    assert client.ping()
    assert shared_redis.cli("GET", "n") == "1"


@pytest.mark.slow
@given(script=scripts(longest=0.05))
@settings(max_examples=25)
def test_whatever_was_played_the_proxy_heals(healing, script):
    server, proxy = healing
    server.cli("FLUSHALL")
    played = proxy.play(script)

    async def work():
        sent = 0
        async with redis.asyncio.Redis.from_url(
            proxy.url, retry=redis.asyncio.retry.Retry(NoBackoff(), 0), socket_timeout=0.1
        ) as client:
            for _ in range(20):
                with contextlib.suppress(*BROKEN):
                    sent += 1
                    await client.rpush("list", sent)
            await asyncio.wrap_future(played)
            proxy.heal()
            assert not proxy.armed
        async with redis.asyncio.Redis.from_url(proxy.url, socket_timeout=60) as client:
            sent += 1
            await client.rpush("list", sent)
            return [int(item) for item in await client.lrange("list", 0, -1)], sent

    items, sent = asyncio.run(work())
    # A fault may lose a command; without retries none is repeated and none overtakes another.
    assert items == sorted(set(items))
    assert items[-1] == sent


@pytest.fixture(scope="module")
def healing(redis_binary):
    """One server and one proxy for all examples."""
    from tests.redis_support import RedisServer

    with (
        RedisServer(binary=redis_binary) as server,
        FaultyProxy((server.host, server.port)) as proxy,
    ):
        yield server, proxy
