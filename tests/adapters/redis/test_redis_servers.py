"""Kinds of servers and what they refuse: ACL, TLS, sockets, Sentinel, Cluster, OOM, replicas."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
import threading
from pathlib import Path

import pytest
import redis.asyncio
import redis.asyncio.sentinel

from tests.adapters.redis.support import RecordingReceiver
from tests.redis_support import RedisServer, eventually
from tokenwire import background, open_sink
from tokenwire.backend import ReplayFrom
from tokenwire.errors import BackendMisconfigured, BackendUnavailable
from tokenwire.testing import Spectator
from tokenwire_adapters.redis import RedisBackend

pytestmark = [pytest.mark.slow, pytest.mark.redis]
PATIENCE = 60.0
DOCS = Path(__file__).parents[3] / "docs" / "redis.md"
# Long leases: what is out of reach for a while on a busy machine is not to be abandoned.
QUICK = {"timeout": 2.0, "health": 1.0, "lease": 120.0}


def _ended(event):
    return event.type == "end" or (event.type == "snapshot" and event.response.ended)


def _works(make):
    """Write, watch, cancel, reap and read history over a backend."""
    with open_sink(make()) as sink, open_sink(make()) as other:
        watch = other.watch("c").open()
        with sink.respond("c", response_id="r") as response:
            response.write("hello ")
            assert sink.flush(PATIENCE)
            response.write("world")
        assert response.wait(PATIENCE).status in ("delivered", "recovered")
        spectator = Spectator()
        spectator.watch(watch, _ended, timeout=PATIENCE)
        assert spectator["r"].text == "hello world"
        list(other.watch("c", rewind=2, response_id="r"))
        slow = sink.respond("c", response_id="slow")
        assert sink.flush(PATIENCE)
        assert other.cancel("c", "slow", timeout=PATIENCE).state == "cancelled"
        assert slow.cancelled
        other.input("c", "message", "hi")
        assert other.flush(PATIENCE)
        assert other.history("c").items[0].id == "slow"
        background.run(other, other.backend.reap("c"))
        assert _ended(list(other.watch("c", response_id="slow"))[-1])
        return background.run(other, other.backend.check())


def _refused(server):
    return {entry["object"] for entry in server.cli("ACL LOG")}


def _documented_rule():
    (rule,) = re.findall(r"^user tokenwire (.*)$", DOCS.read_text(), re.MULTILINE)
    return rule.replace("PASSWORD", "secret-word")


@pytest.mark.parametrize("granularity", ["response", "token"])
def test_the_documented_rights_are_enough(each_redis_binary, granularity):
    rule = f"tokenwire {_documented_rule()}"
    with RedisServer(binary=each_redis_binary, users=[rule]) as server:
        url = server.url_for("tokenwire", "secret-word")
        # Little is kept, so that every command is needed: trimming and forgetting, too.
        _works(lambda: RedisBackend(url, granularity=granularity, responses=1, events=2, age=3600))
        assert _refused(server) <= {"hello"}  # that one is welcome, not needed


def test_every_documented_right_is_needed(redis_binary):
    """Each command of the rule is one that the server has seen us use."""
    with RedisServer(binary=redis_binary) as server:
        for granularity in ("response", "token"):
            settings = {"granularity": granularity, "responses": 1, "events": 2, "age": 60.0}
            for number in range(2):
                make = functools.partial(
                    RedisBackend, server.url, prefix=f"{granularity}{number}", **settings
                )
                _works(make)
        stats = server.info("commandstats")
        used = {name.removeprefix("cmdstat_").partition("|")[0] for name in stats}
        allowed = set(re.findall(r" \+(\w+)", _documented_rule()))
        needed_rarely = {"rename", "setrange", "hexists", "hincrby", "zscore", "zrevrange"}
        assert allowed - used - needed_rarely == {"eval"} - used
        ours = used - {"hello", "client", "auth", "acl", "info", "config", "flushall", "script"}
        assert ours <= allowed


async def test_what_is_refused_is_reported(redis_binary, caplog):
    users = ["few on >secret-word ~* &* +ping", "none on >other-word"]
    with RedisServer(binary=redis_binary, users=users, password="open-word") as server:
        for url, hint in (
            (f"redis://:wrong-word@{server.host}:{server.port}", "password"),
            (f"redis://{server.host}:{server.port}", "password"),
            (server.url_for("few", "secret-word"), "permission"),
        ):
            backend = RedisBackend(url)
            with pytest.raises(BackendMisconfigured, match=hint) as caught:
                await backend.history("c", limit=1)
            for secret in ("wrong-word", "secret-word", "open-word"):
                assert secret not in str(caught.value)
            await backend.close()


def test_an_operator_may_mend_the_password_while_the_agent_runs(redis_binary, caplog):
    with RedisServer(binary=redis_binary, password="open-word") as server:
        url = f"redis://late:secret-word@{server.host}:{server.port}"
        with caplog.at_level(logging.WARNING, "tokenwire"), open_sink(url) as sink:
            with sink.respond("c", response_id="r") as response:
                response.write("hello")
                eventually(lambda: sink.stats().writing.retries > 1, "a few tries")
            server.cli("ACL", "SETUSER", "late", "on", ">secret-word", "~*", "&*", "+@all")
            assert response.wait(PATIENCE).status == "delivered"
            eventually(lambda: "again" in caplog.text, "the log to say so")
        messages = [record.message for record in caplog.records if "password" in record.message]
        assert 1 <= len(messages) <= 2  # writing, and hearing cancels
        assert "secret-word" not in caplog.text


@pytest.mark.parametrize("tls", ["server", "mutual"])
def test_tls(redis_binary, tls):
    with RedisServer(binary=redis_binary, tls=tls, password="secret-word") as server:
        arguments = server.tls_arguments()
        _works(lambda: RedisBackend(server.tls_url, **arguments))
        query = "&".join(f"{name}={value}" for name, value in arguments.items())
        _works(lambda: RedisBackend(f"{server.tls_url}?{query}", prefix="other"))


async def test_tls_that_fails_is_reported(redis_binary):
    with RedisServer(binary=redis_binary, tls="mutual") as server:
        files = server.certificates
        ours, stranger = str(files.ca), str(files.stranger_ca)
        for arguments in (
            {"ssl_ca_certs": stranger},
            {"ssl_ca_certs": ours},
            {
                "ssl_ca_certs": ours,
                "ssl_certfile": str(files.stranger_cert),
                "ssl_keyfile": str(files.stranger_key),
            },
        ):
            backend = RedisBackend(server.tls_url, **arguments)
            with pytest.raises(BackendUnavailable):
                await backend.history("c", limit=1)
            await backend.close()
        plain = RedisBackend(
            f"rediss://{server.host}:{server.port}", ssl_ca_certs=ours, timeout=0.3
        )
        with pytest.raises(BackendUnavailable):
            await plain.history("c", limit=1)
        await plain.close()


def test_a_unix_socket_and_a_database(redis_binary):
    with RedisServer(binary=redis_binary, unix_socket=True, password="secret-word") as server:
        report = _works(lambda: RedisBackend(server.unix_url))
        assert "secret-word" not in str(report)
        _works(lambda: RedisBackend(f"redis+{server.unix_url}?db=3"))
        client = redis.asyncio.Redis(
            unix_socket_path=server.socket_path, password="secret-word", db=2
        )
        _works(lambda: RedisBackend(client=client))
        keyspace = server.info("keyspace")
        assert set(keyspace) == {"db0", "db2", "db3"}


def test_out_of_memory_and_back(redis_server, caplog):
    with (
        caplog.at_level(logging.WARNING, "tokenwire"),
        open_sink(redis_server.url) as sink,
        open_sink(redis_server.url) as reader,
    ):
        watch = reader.watch("c").open()
        with sink.respond("c", response_id="r") as response:
            response.write("before ")
            assert sink.flush(PATIENCE)
            redis_server.cli("CONFIG", "SET", "maxmemory", 1)
            response.write("meanwhile ")
            eventually(lambda: sink.stats().writing.retries > 1, "a few tries")
            assert reader.history("c").items[0].text == "before "
            redis_server.cli("CONFIG", "SET", "maxmemory", 0)
            response.write("after")
        assert response.wait(PATIENCE).status in ("delivered", "recovered")
        spectator = Spectator()
        spectator.watch(watch, _ended, timeout=PATIENCE)
        assert spectator["r"].text == "before meanwhile after"
        assert sum("out of memory" in record.message for record in caplog.records) == 1


def test_a_read_only_replica_and_back(redis_server):
    with open_sink(redis_server.url) as sink:
        with sink.respond("c", response_id="r") as response:
            response.write("before ")
            assert sink.flush(PATIENCE)
            redis_server.cli("REPLICAOF", "127.0.0.1", "1")
            response.write("after")
            eventually(lambda: sink.stats().writing.retries > 1, "a few tries")
            redis_server.cli("REPLICAOF", "NO", "ONE")
        assert response.wait(PATIENCE).status in ("delivered", "recovered")
        assert sink.history("c").items[0].text == "before after"


def test_too_many_clients_and_back(redis_server):
    redis_server.cli("CONFIG", "SET", "maxclients", 1)
    with open_sink(redis_server.url) as sink:
        with sink.respond("c", response_id="r") as response:
            response.write("hello")
            eventually(lambda: sink.stats().writing.retries > 1, "a few tries")
            redis_server.cli("CONFIG", "SET", "maxclients", 1000)
        assert response.wait(PATIENCE).status == "delivered"


def test_a_frozen_server(redis_server):
    with (
        open_sink(redis_server.url, **QUICK) as sink,
        open_sink(redis_server.url, **QUICK) as reader,
    ):
        watch = reader.watch("c").open()
        with sink.respond("c", response_id="r") as response:
            response.write("before ")
            assert sink.flush(PATIENCE)
            with redis_server.paused():
                for number in range(100):
                    response.write(f"{number} ")
                eventually(lambda: sink.stats().writing.retries > 0, "a try that got no answer")
        assert response.wait(PATIENCE).status in ("delivered", "recovered")
        spectator = Spectator()
        spectator.watch(watch, _ended, timeout=PATIENCE)
        text = "before " + "".join(f"{number} " for number in range(100))
        assert spectator["r"].text == text


def test_killed_and_restarted(redis_server):
    with open_sink(redis_server.url, **QUICK) as sink, open_sink(redis_server.url) as reader:
        watch = reader.watch("c").open()
        with sink.respond("c", response_id="r") as response:
            for number in range(60):
                response.write(f"{number} ")
                assert sink.flush(PATIENCE) or number
                if number in (10, 30):
                    redis_server.restart(kill=True)
        assert response.wait(PATIENCE).status in ("delivered", "recovered")
        spectator = Spectator()
        spectator.watch(watch, _ended, timeout=PATIENCE)
        assert spectator["r"].text == "".join(f"{number} " for number in range(60))


def test_clients_killed_all_the_time(redis_server):
    stop = threading.Event()

    def kill():
        pause = 0.02
        while not stop.wait(pause):
            redis_server.kill_clients()
            pause *= 1.02  # on a slow machine, too, something gets through in the end

    killer = threading.Thread(target=kill)
    with open_sink(redis_server.url) as sink, open_sink(redis_server.url) as reader:
        watches = {n: reader.watch(f"c{n}", rewind="all").open() for n in range(10)}
        killer.start()
        try:
            writers = [sink.respond(f"c{n}", response_id="r") for n in range(10)]
            for number in range(40):
                for writer in writers:
                    writer.write(f"{number} ")
                sink.flush(0.02)
            for writer in writers:
                writer.finish()
                assert writer.wait(PATIENCE).status in ("delivered", "recovered")
        finally:
            stop.set()
            killer.join()
        for watch in watches.values():
            spectator = Spectator()
            spectator.watch(watch, _ended, timeout=PATIENCE)
            assert spectator["r"].text == "".join(f"{number} " for number in range(40))
            assert spectator.ends["r"] == 1


# -- Sentinel


@pytest.mark.parametrize("kill", [False, True])
def test_a_failover_midway(redis_sentinel, kill):
    # With `replicas`, what a dead master had confirmed is with the new one.
    url = redis_sentinel.url + "?replicas=1"
    with open_sink(url, **QUICK) as sink, open_sink(url, **QUICK) as reader:
        watch = reader.watch("c").open()
        with sink.respond("c", response_id="r") as response:
            for number in range(100):
                response.write(f"{number} ")
                if number < 50:
                    assert sink.flush(PATIENCE)
                if number == 20:
                    redis_sentinel.failover(kill=kill)
                    if kill:
                        redis_sentinel.revive()
                    else:
                        redis_sentinel.wait_demoted()
        assert response.wait(PATIENCE).status in ("delivered", "recovered")
        spectator = Spectator()
        spectator.watch(watch, _ended, timeout=PATIENCE)
        text = "".join(f"{number} " for number in range(100))
        assert spectator["r"].text == text
        assert reader.history("c").items[0].text == text


def test_ready_clients_of_sentinel(redis_sentinel):
    sentinels = redis.asyncio.sentinel.Sentinel(redis_sentinel.addresses)
    _works(lambda: RedisBackend(client=sentinels.master_for(redis_sentinel.name)))


async def test_a_sentinel_that_knows_no_such_master(redis_sentinel):
    host, port = redis_sentinel.addresses[0]
    backend = RedisBackend(f"redis+sentinel://{host}:{port}/nobody")
    with pytest.raises(
        BackendMisconfigured, match=f"{port} knows no master of the name in the URL"
    ):
        await backend.history("c", limit=1)
    mistaken = RedisBackend(f"redis://{host}:{port}")
    with pytest.raises(BackendMisconfigured, match="redis\\+sentinel"):
        await mistaken.history("c", limit=1)
    await backend.close()
    await mistaken.close()


# -- Cluster


def _cluster_url(cluster):
    hosts = ",".join(f"{host}:{port}" for host, port in cluster.startup_nodes)
    return f"redis+cluster://{hosts}"


def test_the_documented_rights_are_enough_on_a_cluster(shared_redis_cluster):
    extra = re.search(r"^- Cluster: `(.*?)`.*?`(.*?)`", DOCS.read_text(), re.MULTILINE)
    for node in shared_redis_cluster.nodes:
        rule = f"{_documented_rule()} {extra[1]} {extra[2]}".split()
        if not node.binary.at_least(redis=(7, 0)):
            rule = [word for word in rule if not word.startswith(("+ssub", "+spub", "+suns"))]
        node.cli("ACL", "SETUSER", "tokenwire", "reset", *rule)
    url = _cluster_url(shared_redis_cluster)
    url = url.replace("://", "://tokenwire:secret-word@")
    try:
        report = _works(lambda: RedisBackend(url, responses=1, events=2))
        for node in shared_redis_cluster.nodes:
            assert _refused(node) <= {"hello"}
    finally:
        for node in shared_redis_cluster.nodes:
            node.cli("ACL", "DELUSER", "tokenwire")
    assert report["sharded pub/sub"] == shared_redis_cluster.nodes[0].binary.at_least(redis=(7, 0))


async def test_a_cluster_behind_a_plain_url(shared_redis_cluster):
    backend = RedisBackend(shared_redis_cluster.url)
    with pytest.raises(BackendMisconfigured, match="redis\\+cluster"):
        await backend.replay("c", ReplayFrom())
    await backend.close()


def test_ready_clients_of_a_cluster(shared_redis_cluster):
    host, port = shared_redis_cluster.startup_nodes[0]
    client = redis.asyncio.RedisCluster(host=host, port=port)
    _works(lambda: RedisBackend(client=client))


def test_one_live_connection_to_each_node(shared_redis_cluster):
    with open_sink(_cluster_url(shared_redis_cluster)) as reader:
        watches = [reader.watch(f"c{number}").open() for number in range(60)]
        for node in shared_redis_cluster.nodes:
            clients = [c for c in node.cli("CLIENT LIST") if c["user"] == "default"]
            listening = [c for c in clients if "P" in c["flags"]]
            assert len(listening) == 1
            assert len(clients) <= 3
        for watch in watches:
            watch.close()


def test_a_slot_moves_midway(redis_cluster):
    url = _cluster_url(redis_cluster)
    with open_sink(url, **QUICK) as sink, open_sink(url, **QUICK) as reader:
        watches = {name: reader.watch(name).open() for name in ("moves", "stays")}
        slot = redis_cluster.slot_of("{moves}")
        writers = {name: sink.respond(name, response_id="r") for name in watches}
        migration = None
        for number in range(120):
            for writer in writers.values():
                writer.write(f"{number} ")
            if number == 20:
                assert sink.flush(PATIENCE)
                migration = redis_cluster.begin_migration(slot)
            if number == 40:
                migration.move_keys(1)
            sink.flush(0.05)
            if number == 60:
                migration.finish()
                assert sink.flush(PATIENCE)
            if number == 90:
                redis_cluster.migrate(slot)
        for name, writer in writers.items():
            writer.finish()
            assert writer.wait(PATIENCE).status in ("delivered", "recovered"), name
        text = "".join(f"{number} " for number in range(120))
        for watch in watches.values():
            spectator = Spectator()
            spectator.watch(watch, _ended, timeout=PATIENCE)
            assert spectator["r"].text == text
            assert spectator.ends["r"] == 1
        for name in watches:
            assert reader.history(name).items[0].text == text


async def test_a_subscription_whose_slot_has_moved_reads_what_it_may_have_missed(redis_cluster):
    backend = RedisBackend(_cluster_url(redis_cluster))
    receiver = RecordingReceiver()
    subscription = await backend.subscribe("moves", receiver)
    if backend._topology.sharded:  # else all nodes pass on what is published
        await asyncio.to_thread(redis_cluster.migrate, redis_cluster.slot_of("{moves}"))
        async with asyncio.timeout(PATIENCE):
            while not receiver.resyncs:
                await asyncio.sleep(0.001)
    await subscription.close()
    await backend.close()


def test_a_node_of_the_cluster_restarts(redis_cluster, caplog):
    caplog.set_level(logging.WARNING, "tokenwire")
    url = _cluster_url(redis_cluster)
    with open_sink(url, **QUICK) as sink, open_sink(url, **QUICK) as reader:
        names = [f"c{number}" for number in range(12)]
        watches = [reader.watch(name).open() for name in names]
        writers = [sink.respond(name, response_id="r") for name in names]
        for number in range(30):
            for writer in writers:
                writer.write(f"{number} ")
            sink.flush(0.05)
            if number == 10:
                redis_cluster.nodes[1].kill()
                for writer in writers:
                    writer.write("| ")
                eventually(lambda: "a node takes no tokens" in caplog.text, "the log to tell")
                redis_cluster.nodes[1].start()
                redis_cluster.wait_ok()
        for writer in writers:
            writer.finish()
            assert writer.wait(PATIENCE).status in ("delivered", "recovered")
        for watch in watches:
            spectator = Spectator()
            spectator.watch(watch, _ended, timeout=PATIENCE)
            text = "".join(f"{number} " + "| " * (number == 10) for number in range(30))
            assert spectator["r"].text == text
    messages = [record.message for record in caplog.records if "tokens" in record.message]
    assert sum("a node takes no tokens" in message for message in messages) == 1
    assert sum(message.startswith("tokenwire: node") for message in messages) == 1
