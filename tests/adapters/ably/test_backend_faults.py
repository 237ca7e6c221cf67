"""Failures of the Ably backend: every text exact, live and late, and the agent never waits."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.adapters.ably import faults
from tests.adapters.ably.places import backend, sink
from tests.support.forking import forked
from tokenwire import Sink, Transcript, background
from tokenwire.errors import BackendError, BackendMisconfigured, BackendUnavailable
from tokenwire.testing import FaultyBackend, Spectator
from tokenwire_adapters.ably import AblyBackend
from tokenwire_adapters.testing.ably import ServerThread, Settings

# Clients that are cut off leave tasks and sockets behind, which Python warns of when it finds them.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

QUICK = {name: run for name, run in faults.SCENARIOS.items() if "30 s" not in name}


TOKEN: dict[str, Any] = {"granularity": "token"}
DIALECT: dict[str, Any] = {"dialect": "ai-transport"}
CASES = [pytest.param(name, {}, id=f"{name}-response") for name in QUICK]
CASES += [pytest.param(name, TOKEN, id=f"{name}-token") for name in QUICK]
CASES += [
    pytest.param(name, DIALECT, id=f"{name}-ai-transport")
    for name in QUICK
    if "unknown" in name or "midway" in name or "answers" in name
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "settings"), CASES)
def test_text_is_exact(
    name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults.Stage, "usual", settings)
    report = QUICK[name]()
    assert report.exact_live
    assert report.exact_late
    assert report.slowest_write < 5.0  # it takes microseconds; the machine may be slow


@pytest.mark.parametrize("granularity", ["response", "token"])
@pytest.mark.parametrize(
    "choice",
    [
        {"ignore_repeated_serials": False},
        {"first_append": "if-unseen"},
        {"append_keeps_extras": True},
        {"ack_debounce": 0.05},
        {"default_rollup": 0.5},
    ],
    ids=lambda choice: next(iter(choice)),
)
def test_text_is_exact_where_the_documentation_is_open(
    choice: dict[str, Any], granularity: str
) -> None:
    """What Ably may or may not do makes no difference, with many things wrong at a time."""
    settings = Settings(inbound_rate=None, **choice)
    stage = faults.Stage(settings, rate=0, granularity=granularity)
    try:
        stage.fault("full_update_every", 3)
        stage.fault("disconnect_every", 0.3)
        report = faults.play(
            stage,
            [faults.words(100, number) for number in range(2)],
            midway=lambda: stage.fault("forget_connections", continuity=False),
            healed=lambda: stage.fault("disconnect_every", 0),
        )
    finally:
        stage.close()
    assert report.exact_live
    assert report.exact_late


@pytest.mark.parametrize("seconds", [4.0, pytest.param(30.0, marks=pytest.mark.slow)])
def test_a_server_that_is_gone(seconds: float) -> None:
    report = faults.gone(seconds)
    assert report.exact_live
    assert report.exact_late
    assert report.slowest_write < 5.0


def in_time(read: Callable[[], Any]) -> Any:
    """Read until that takes less time than a viewer has that is to notice failures soon."""
    while True:
        with contextlib.suppress(BackendUnavailable):
            return read()


def test_a_producer_may_come_back_later_than_watchers() -> None:
    with ServerThread() as thread, sink(thread, "viewer", timeout=0.25) as viewer:
        connection = FaultyBackend(backend(thread))
        with (
            Sink(connection, lease=1.0) as agent,
            in_time(lambda: viewer.watch("ai:chat").open()) as watch,
        ):
            response = agent.respond("ai:chat", response_id="r")
            response.write("before, ")
            assert agent.flush(30)
            leased_until = time.monotonic() + 1.0
            connection.kill()
            thread.fault("stall")
            while time.monotonic() < leased_until:
                with pytest.raises(BackendUnavailable):
                    viewer.history("ai:chat")
            thread.fault("stall", stalled=False)
            assert in_time(lambda: viewer.history("ai:chat")).items[0].state == "streaming"
            connection.revive()
            response.write("after")
            response.finish()
            assert response.wait(60).status in ("delivered", "recovered")
            spectator = Spectator()
            spectator.watch(watch, lambda event: event.type == "end", timeout=60)
            assert (spectator["r"].text, spectator["r"].state) == ("before, after", "complete")


def test_a_limit_is_kept_rather_than_run_into() -> None:
    report = faults.limited()
    assert report.published / report.seconds <= 60
    assert report.tokens == 2000


def test_a_wrong_token_is_reported_and_the_agent_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with ServerThread() as thread:
        wrong = sink(thread, token="app.nonsense", connect_timeout=5.0)
        begun = time.monotonic()
        with wrong.respond("ai:chat") as response:
            response.write("anybody there?")
        assert time.monotonic() - begun < 5
        with pytest.raises(BackendError):
            wrong.watch("ai:chat").open()
        with pytest.raises(BackendMisconfigured, match="not valid") as raised:
            background.run(wrong, wrong.backend.check())
        assert "nonsense" not in str(raised.value)
        wrong.close(0.1)


@pytest.mark.parametrize(
    ("capability", "what"),
    [
        ({"*": ["subscribe", "history"]}, "tick publish"),
        ({"*": ["publish", "subscribe", "history"]}, "message-update-own"),
        ({"*": ["publish", "message-update-own", "history"]}, "subscribe"),
        ({"*": ["publish", "message-update-own", "subscribe"]}, "history"),
    ],
)
def test_missing_rights_are_reported_with_what_to_tick(
    capability: dict[str, list[str]], what: str
) -> None:
    with ServerThread() as thread:
        token = thread.server.token("agent", **capability)
        with sink(thread, token=token) as limited:
            with pytest.raises(BackendMisconfigured, match=what):
                background.run(limited, limited.backend.check())


def test_a_client_without_an_id_is_reported() -> None:
    with ServerThread() as thread:
        rights = {"*": ["publish", "subscribe", "history", "message-update-own"]}
        token = thread.server.token(None, **rights)
        with sink(thread, token=token) as nameless:
            with pytest.raises(BackendMisconfigured, match="client_id="):
                background.run(nameless, nameless.backend.check())


def test_a_missing_channel_rule_is_reported_with_what_to_click() -> None:
    with ServerThread(settings=Settings(mutable=("ai",))) as thread:
        with sink(thread, check_channel="plain:x") as created:
            with pytest.raises(BackendMisconfigured, match="Rules"):
                background.run(created, created.backend.check())
        with sink(thread, check_channel="plain:x", granularity="token") as created:
            report = background.run(created, created.backend.check())
        assert report["channel"] == "plain:x"
        with sink(thread, check_channel="ai:x") as created:
            report = background.run(created, created.backend.check())
        assert {"connect_ms", "publish_ms", "append_ms", "round_trip_ms"} <= set(report)


def test_what_is_missing_may_be_corrected_while_the_agent_runs() -> None:
    settings = Settings(mutable=("ai",))
    with ServerThread(settings=settings) as thread:
        with sink(thread) as created:
            response = created.respond("plain:chat", response_id="r")
            response.write("one ")
            created.flush(2)
            response.write("two ")
            assert not created.flush(0.5)
            settings.mutable = ("*",)
            response.write("three")
            response.finish()
            assert response.wait(60).status in ("delivered", "recovered")
            assert created.history("plain:chat").items[0].text == "one two three"


def test_many_cuts_while_nobody_writes() -> None:
    with ServerThread() as thread, sink(thread) as agent, sink(thread, "viewer") as viewer:
        watch = viewer.watch("ai:chat").open()
        response = agent.respond("ai:chat", response_id="r")
        response.write("before, ")
        assert agent.flush(30)
        for _ in range(5):
            thread.fault("disconnect")
            threading.Event().wait(0.1)
        response.write("after")
        response.finish()
        assert response.wait(60).status in ("delivered", "recovered")
        text = "".join(event.text for event in watch_until_end(watch) if event.type == "delta")
        assert text == "before, after"


def watch_until_end(watch):
    for event in watch:
        yield event
        if event.type == "end":
            return


@pytest.mark.parametrize("status", [400, 503])
def test_a_disconnect_while_nobody_writes(status: int) -> None:
    """RTN15h3, RTN17f1: with or without a fallback host, the client connects again."""
    with ServerThread() as thread, sink(thread) as agent, sink(thread, "viewer") as viewer:
        watch = viewer.watch("ai:chat").open()
        response = agent.respond("ai:chat", response_id="r")
        response.write("before, ")
        assert agent.flush(30)
        thread.fault("disconnect", announced=True, status=status)
        response.write("after")
        response.finish()
        assert response.wait(60).status in ("delivered", "recovered")
        text = "".join(event.text for event in watch_until_end(watch) if event.type == "delta")
        assert text == "before, after"


def test_after_a_fork() -> None:
    """Parent and child both go on; neither's connections are touched by the other."""
    with ServerThread() as thread, sink(thread) as agent:
        watch = agent.watch("ai:chat").open()
        response = agent.respond("ai:chat", response_id="parent")
        response.write("before ")
        assert agent.flush(60)

        def child() -> int:
            with agent.respond("ai:chat", response_id="child") as mine:
                mine.write("from the child")
            if mine.wait(60).status != "delivered":
                return 2
            return 0 if agent.history("ai:chat").items[0].text == "from the child" else 3

        # The server runs in the parent: it goes on while the child is waited for.
        assert forked(child) == 0
        connects = thread.server.stats["connects"]
        response.write("and after")
        response.finish()
        assert response.wait(60).status == "delivered"
        kept = {kept.id: kept.text for kept in agent.history("ai:chat").items}
        assert kept == {"parent": "before and after", "child": "from the child"}
        seen = Transcript()
        for event in watch:
            seen.apply(event)
            if event.type == "end" and event.response_id == "parent":
                break
        assert seen["child"].text == "from the child"
        assert thread.server.stats["connects"] == connects  # the parent's stayed open


def test_closing_does_not_hang_when_ably_is_gone() -> None:
    with ServerThread() as thread:
        created: Sink = sink(thread)
        response = created.respond("ai:chat")
        response.write("x")
        assert created.flush(30)
        thread.vanish()
        begun = time.monotonic()
        created.close(1.0)
        assert time.monotonic() - begun < 30


def test_secrets_are_not_shown() -> None:
    created = AblyBackend("ably://app.key:s3cret?granularity=token")
    assert "s3cret" not in repr(created) + repr(created.settings)
    with ServerThread() as thread:
        assert "tok" not in repr(backend(thread, token="tok")).replace("token", "")
