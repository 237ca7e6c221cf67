"""Each failure is logged once; what becomes of producers that die or sleep."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys

import pytest

from tests.redis_support import RedisServer, eventually
from tokenwire import open_sink
from tokenwire.response import Transcript
from tokenwire.testing import Spectator

pytestmark = pytest.mark.redis
PATIENCE = 60.0
QUICK = {"timeout": 2.0, "health": 2.0, "lease": 120.0}


def _config(name, bad, good):
    def begin(server):
        server.cli("CONFIG", "SET", name, bad)
        server.kill_clients()

    return begin, lambda server: server.cli("CONFIG", "SET", name, good)


def _replica(server):
    server.cli("REPLICAOF", "127.0.0.1", "1")


def _locked(server):
    server.cli("ACL", "SETUSER", "default", "resetpass", ">other-word")
    server.kill_clients()


def _without(right):
    def begin(server):
        server.cli("ACL", "SETUSER", "default", right)

    return begin


# How it begins, how it ends, and what the log says.
FAILURES = {
    "down": (RedisServer.stop, RedisServer.start, "no connection"),
    "frozen": (RedisServer.pause, RedisServer.resume, "in time"),
    "out of memory": (*_config("maxmemory", 1, 0), "out of memory"),
    "too many clients": (*_config("maxclients", 1, 1000), "maxclients"),
    "too few replicas": (*_config("min-replicas-to-write", 1, 0), "too few replicas"),
    "read-only": (_replica, lambda server: server.cli("REPLICAOF", "NO", "ONE"), "read-only"),
    "wrong password": (
        _locked,
        lambda server: server.cli("ACL", "SETUSER", "default", "nopass"),
        "password",
    ),
    "a missing permission": (_without("-evalsha"), _without("+evalsha"), "lacks a permission"),
}


def _ended(event):
    return event.type == "end" or (event.type == "snapshot" and event.response.ended)


def _logged(caplog, text):
    return [record.getMessage() for record in caplog.records if text in record.getMessage()]


@pytest.mark.slow
@pytest.mark.parametrize("failure", FAILURES)
def test_each_failure_is_logged_once_and_counted(redis_server, caplog, failure):
    begin, end, hint = FAILURES[failure]
    url = redis_server.url.replace("redis://", "redis://default:any-word@")
    caplog.set_level(logging.INFO, "tokenwire")
    with open_sink(url, **QUICK) as sink, open_sink(url, **QUICK) as reader:
        watch = reader.watch("c").open()
        with sink.respond("c", response_id="r") as response:
            response.write("before ")
            assert sink.flush(PATIENCE)
            assert not caplog.records
            begin(redis_server)
            assert response.write("meanwhile ")
            eventually(lambda: sink.stats().writing.retries >= 3, "three tries")
            assert response.write("still ")
            end(redis_server)
            assert response.write("after")
        assert response.wait(PATIENCE).status in ("delivered", "recovered")
        spectator = Spectator()
        spectator.watch(watch, _ended, timeout=PATIENCE)
        assert spectator["r"].text == "before meanwhile still after"
        eventually(
            lambda: (
                len(_logged(caplog, "lost the live")) == len(_logged(caplog, "connection is back"))
            ),
            "the pub/sub connections to be back",
        )
        writing = sink.stats().writing
        assert writing.retries >= 3
        assert writing.lost == writing.fenced == 0
    (problem,) = _logged(caplog, "does not take tokens")
    assert hint in problem
    assert str(redis_server.port) in problem
    assert len(_logged(caplog, "takes tokens again")) == 1
    # Two sinks have a live connection each, and each says so once.
    assert len(_logged(caplog, "lost the live")) <= 2
    assert "-word" not in caplog.text


def test_a_flushed_database_is_counted(redis_server):
    with open_sink(redis_server.url) as sink:
        with sink.respond("c", response_id="r") as response:
            response.write("before ")
            assert sink.flush(PATIENCE)
            redis_server.cli("FLUSHALL")
            response.write("after")
        assert response.wait(PATIENCE).status == "recovered"
        assert sink.stats().writing.recoveries == 1
        assert sink.history("c").items[0].text == "before after"


def test_tls_that_fails_is_reported_once(redis_binary, caplog):
    caplog.set_level(logging.INFO, "tokenwire")
    with RedisServer(binary=redis_binary, tls="server") as server:
        strangers = str(server.certificates.stranger_ca)
        sink = open_sink(server.tls_url, ssl_ca_certs=strangers, close_timeout=0.1)
        response = sink.respond("c", response_id="r")
        assert response.write("the agent does not notice")
        eventually(lambda: sink.stats().writing.retries >= 2, "two tries")
        assert response.write(", still")
        sink.close()
    (problem,) = _logged(caplog, "does not take tokens")
    assert "TLS" in problem
    assert "certificate" in problem


def test_a_slow_server_is_no_trouble(faulty_proxy, caplog):
    caplog.set_level(logging.INFO, "tokenwire")
    with open_sink(faulty_proxy.url) as sink, open_sink(faulty_proxy.url) as reader:
        watch = reader.watch("c").open()
        with sink.respond("c", response_id="r") as response:
            response.write("before ")
            assert sink.flush(PATIENCE)
            faulty_proxy.delay(0.2)
            for number in range(1000):
                assert response.write(f"{number} ")
        assert response.wait(PATIENCE).status == "delivered"
        spectator = Spectator()
        spectator.watch(watch, _ended, timeout=PATIENCE)
        assert spectator["r"].text == "before " + "".join(f"{number} " for number in range(1000))
        assert sink.stats().writing.publishes < 100  # what gathered went out together
        faulty_proxy.heal()
    assert not caplog.records


PRODUCER = """
import sys, threading, tokenwire
sink = tokenwire.open_sink(sys.argv[1], lease=1.0, timeout=30.0)
responses = [sink.respond("c", response_id=f"r{n}") for n in range(5)]
for response in responses:
    response.write("last words")
assert sink.flush(60)
print("up", flush=True)
sys.stdin.readline()
for response in responses:
    response.write(", and more")
    response.finish()
print(*(response.wait(60).status for response in responses), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_producer_that_is_killed_or_sleeps_past_its_lease(redis_server, how):
    command = [sys.executable, "-c", PRODUCER, redis_server.url]
    pipe = subprocess.PIPE
    with (
        open_sink(redis_server.url, lease=1.0) as reader,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as producer,
    ):
        watch = reader.watch("c").open()
        assert producer.stdout is not None
        assert producer.stdin is not None
        try:
            assert producer.stdout.readline() == "up\n"
            os.kill(producer.pid, how)
            transcript, ends = Transcript(), []
            for event in watch:
                transcript.apply(event)
                ends += [event.response_id] * (event.type == "end")
                if len(ends) == 5:
                    break
            assert sorted(ends) == [f"r{n}" for n in range(5)]
            assert {(one.state, one.text) for one in transcript} == {("abandoned", "last words")}
            if how == signal.SIGSTOP:
                os.kill(producer.pid, signal.SIGCONT)
                producer.stdin.write("\n")
                producer.stdin.flush()
                assert producer.stdout.readline().split() == ["refused"] * 5
        finally:
            producer.kill()
        reader.send_event("c", "done")
        assert next(event.type for event in watch) == "data"  # nothing came after the ends
        kept = reader.history("c").items
        assert {(one.state, one.text) for one in kept} == {("abandoned", "last words")}
