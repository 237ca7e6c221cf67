"""URLs, arguments and ready clients."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ably import AblyRealtime, AblyRest

import tokenwire
from tests.adapters.ably.places import sink
from tokenwire import Sink
from tokenwire_adapters.ably import AblyBackend
from tokenwire_adapters.testing.ably import ServerThread


def test_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = AblyBackend("ably://app.key:secret?granularity=token&rollup_window=0.1").settings
    assert (settings.key, settings.granularity) == ("app.key:secret", "token")
    assert settings.rollup_window == 0.1
    monkeypatch.setenv("MY_KEY", "app.key:other")
    assert AblyBackend("ably://?key_env=MY_KEY").settings.key == "app.key:other"
    assert AblyBackend("ably://?auth_url=https://x.example/t").settings.auth_url
    sink = tokenwire.open_sink("ably://app.key:secret")
    assert isinstance(sink.backend, AblyBackend)
    sink.close()


@pytest.mark.parametrize(
    ("url", "options", "what"),
    [
        ("ably://", {}, "needs a key"),
        ("ably://app.key", {}, "APP.KEY:SECRET"),
        ("ably://app.key:secret/path", {}, "no path"),
        ("ably://app.key:secret?granularity=word", {}, "granularity"),
        (
            "ably://app.key:secret?nonsense=1",
            {},
            "parameter of the URL is no setting of the Ably",
        ),
        ("ably://app.key:secret?rollup_window=100", {}, "rollup_window is in seconds.*now 0.1"),
        ("ably://app.key:secret?rollup_window=x", {}, "rollup_window"),
        ("ably://app.key:secret?tls=perhaps", {}, "tls"),
        (
            "ably://?key_env=NOT_THERE_AT_ALL",
            {},
            "environment variable that key_env names is not",
        ),
        ("ably://app.key:secret", {"dialect": "klingon"}, "dialect"),
        ("ably://app.key:secret", {"window": 0}, "window"),
        ("ably://app.key:secret", {"wrong": 1}, "wrong"),
        ("redis://x", {}, "not an Ably URL"),
        (None, {"client": object()}, "AblyRealtime"),
    ],
)
def test_what_is_wrong_is_reported(url: str | None, options: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what) as raised:
        AblyBackend(url, **options)
    assert "secret" not in str(raised.value).lower().replace("app.key:secret", "")


@pytest.mark.parametrize(
    ("rollup", "settings", "asked"),
    [
        (0, {}, None),  # Ably's own
        (0.1, {}, "100"),
        (0.1, {"rollup_window": 0.02}, "20"),
        (0.1, {"rollup_window": 0}, "0"),
        (0, {"rollup_window": 0.5}, "500"),
    ],
)
def test_the_rollup_of_the_sink_is_asked_of_ably(
    rollup: float, settings: dict[str, Any], asked: str | None
) -> None:
    with ServerThread() as thread:
        created = tokenwire.open_sink(
            "ably://",
            rollup=rollup,
            endpoint="127.0.0.1",
            port=thread.server.port,
            tls=False,
            token=thread.server.token("agent"),
            **settings,
        )
        with created:
            with created.respond("ai:chat") as response:
                response.write("x")
            assert response.wait(60).status == "delivered"
            publishing, *others = [
                session.params
                for session in thread.server.sessions
                if session.params.get("echo") == "false"
            ]
            assert not others
            assert publishing.get("appendRollupWindow") == asked


def test_a_ready_client_may_belong_to_another_loop() -> None:
    with ServerThread() as thread:

        async def main() -> list[str]:
            created = AblyRealtime(
                endpoint=thread.server.endpoint,
                tls=False,
                token=thread.server.token("agent"),
                auto_connect=False,
            )
            async with Sink(AblyBackend(client=created)) as sink:
                async with sink.respond("ai:chat") as response:
                    response.write("through a client's options")
                await sink.aflush(30)
                page = await sink.ahistory("ai:chat")
            await AblyRest.close(created)
            return [response.text for response in page.items]

        assert asyncio.run(main()) == ["through a client's options"]


def test_tokens_come_from_a_callback_and_are_renewed() -> None:
    with ServerThread() as thread:
        asked: list[int] = []

        async def callback(token_params: Any) -> str:
            asked.append(1)
            return thread.server.token("agent")

        with sink(thread, auth_callback=callback, token=None) as created:
            with created.respond("ai:chat", response_id="r") as response:
                response.write("one ")
                assert created.flush(30)
                thread.fault("expire_tokens")
                response.write("two")
            assert response.wait(60).status in ("delivered", "recovered")
            assert created.history("ai:chat").items[0].text == "one two"
        assert len(asked) >= 2
