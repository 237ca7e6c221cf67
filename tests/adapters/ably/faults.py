"""What may go wrong between a producer, Ably and a watcher, as scenarios with counts.

Run by the tests, and as a program (``python -m tests.adapters.ably.faults``) for the table of
docs/ably.md.
"""

from __future__ import annotations

import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.adapters.ably.places import sink
from tokenwire import Sink
from tokenwire.testing import Spectator
from tokenwire.testing.producers import read_until
from tokenwire_adapters.testing.ably import ServerThread, Settings, make_certificate

__all__ = ["SCENARIOS", "Report", "Stage", "play", "words"]

PATIENCE = 120.0


@dataclass
class Report:
    """What came of a scenario."""

    responses: int = 0
    tokens: int = 0
    published: int = 0
    retries: int = 0
    recoveries: int = 0
    slowest_write: float = 0.0
    seconds: float = 0.0
    exact_live: bool = True
    exact_late: bool = True
    notes: dict[str, Any] = field(default_factory=dict)


class Stage:
    """A server, a producer and a watcher.

    :cvar usual: settings of both, where a scenario has none of its own.
    """

    usual: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        ssl_context: ssl.SSLContext | None = None,
        agents: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.thread = ServerThread(settings=settings or Settings(), ssl_context=ssl_context)
        self.thread.__enter__()
        options = {"retry": 0.05, "connect_timeout": 1.0, **self.usual, **options}
        self.agent = sink(self.thread, **{"timeout": 5.0, **options, **(agents or {})})
        self.viewer = sink(self.thread, "viewer", **options)
        self.report = Report()

    def close(self) -> None:
        self.agent.close()
        self.viewer.close()
        self.thread.__exit__(None, None, None)

    def fault(self, name: str, *args: Any, **kwargs: Any) -> None:
        self.thread.fault(name, *args, **kwargs)


def play(
    stage: Stage,
    texts: Sequence[Sequence[str]],
    *,
    pause: float = 0.005,
    midway: Callable[[], None] = lambda: None,
    healed: Callable[[], None] = lambda: None,
    channel: str = "ai:chat",
) -> Report:
    """Write responses side by side, watch them, and compare; `texts` are tokens of each.

    `midway` is called when half is written, `healed` when all is.
    """
    report, agent, viewer = stage.report, stage.agent, stage.viewer
    watch = viewer.watch(channel).open()
    begun = time.monotonic()
    names = [f"r{number}" for number in range(len(texts))]
    half = threading.Barrier(len(texts) + 1)

    def produce(name: str, tokens: Sequence[str]) -> None:
        response = agent.respond(channel, response_id=name)
        for number, token in enumerate(tokens):
            if number == len(tokens) // 2:
                half.wait(PATIENCE)
            before = time.monotonic()
            response.write(token)
            report.slowest_write = max(report.slowest_write, time.monotonic() - before)
            threading.Event().wait(pause)
        response.finish("stop")
        receipts[name] = response

    receipts: dict[str, Any] = {}
    threads = [
        threading.Thread(target=produce, args=pair) for pair in zip(names, texts, strict=True)
    ]
    for thread in threads:
        thread.start()
    half.wait(PATIENCE)
    midway()
    for thread in threads:
        thread.join()
    healed()
    for name in names:
        receipt = receipts[name].wait(PATIENCE)
        assert receipt.status in ("delivered", "recovered"), (name, receipt)
        report.retries += receipt.retries
        report.recoveries += receipt.recoveries
    spectator = Spectator()
    left = set(names)

    def over(event: Any) -> bool:
        if event.type == "end" or (event.type == "snapshot" and event.response.ended):
            left.discard(event.response_id)
        return not left

    for event in read_until(watch, over, timeout=PATIENCE):
        spectator.see(event)
    watch.close()
    report.seconds = time.monotonic() - begun
    late = {r.id: r for r in sink_of(stage).history(channel, limit=100).items}
    for name, tokens in zip(names, texts, strict=True):
        text = "".join(tokens)
        report.exact_live &= spectator[name].text == text and spectator[name].state == "complete"
        report.exact_late &= late[name].text == text and late[name].state == "complete"
    report.responses, report.tokens = len(texts), sum(map(len, texts))
    report.published = stage.thread.server.stats["published"]
    return report


def sink_of(stage: Stage) -> Sink:
    return stage.viewer


def words(count: int, seed: int = 0) -> list[str]:
    return [f" wörd{seed}-{number}" for number in range(count)]


def refused() -> Report:
    """One publish in ten is refused."""
    stage = Stage(Settings(inbound_rate=None), rate=0)
    try:
        stage.fault("nack_every", 10)
        return play(stage, [words(200, n) for n in range(3)])
    finally:
        stage.close()


def cut(seconds: float = 0.3) -> Report:
    """Every connection is cut when it has been open for so long."""
    stage = Stage(Settings(inbound_rate=None), rate=0)
    try:
        stage.fault("disconnect_every", seconds)
        return play(
            stage,
            [words(300, n) for n in range(2)],
            healed=lambda: stage.fault("disconnect_every", 0),
        )
    finally:
        stage.close()


def disconnected() -> Report:
    """The server says that the connection ends, and nothing that was under way is answered."""
    stage = Stage(Settings(inbound_rate=None), rate=0)
    try:
        stage.fault("delay_acks", 0.1)
        return play(
            stage,
            [words(300)],
            midway=lambda: stage.fault("disconnect", announced=True),
        )
    finally:
        stage.close()


def forgotten(continuity: bool = True) -> Report:
    """Connections come back under a new id; the channels' past may be gone as well."""
    stage = Stage(Settings(inbound_rate=None), rate=0)
    try:
        return play(
            stage,
            [words(300, n) for n in range(2)],
            midway=lambda: stage.fault("forget_connections", continuity=continuity),
        )
    finally:
        stage.close()


def limited() -> Report:
    """Five responses with 200 tokens a second each, where 50 messages a second are taken."""
    stage = Stage()
    try:
        return play(stage, [words(400, n) for n in range(5)])
    finally:
        stage.close()


def limited_unawares() -> Report:
    """The same, with a producer that does not know of the limit."""
    stage = Stage(rate=0)
    try:
        return play(stage, [words(400, n) for n in range(5)])
    finally:
        stage.close()


def long() -> Report:
    """A reply of 300 KiB, where a message has 64 KiB."""
    stage = Stage(Settings(inbound_rate=None), rate=0)
    try:
        return play(stage, [["x" * 1024] * 300], pause=0.002)
    finally:
        stage.close()


def gone(seconds: float = 30.0) -> Report:
    """The server is not there for a while."""
    stage = Stage(Settings(inbound_rate=None), rate=0)

    def away() -> None:
        stage.thread.vanish()
        threading.Event().wait(seconds)

    try:
        return play(stage, [words(200)], midway=away, healed=stage.thread.listen)
    finally:
        stage.close()


def lost_answers() -> Report:
    """Answers to publishes are lost, and the producer must assume nothing."""
    stage = Stage(Settings(inbound_rate=None), rate=0)
    try:
        return play(
            stage,
            [words(200)],
            midway=lambda: stage.fault("drop_frames", 3, "out", "ACK"),
        )
    finally:
        stage.close()


def wrong_key() -> Report:
    """The key is wrong until somebody mends it, when the reply has long been written."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        context, certificate = make_certificate(Path(folder))
        patch.setenv("SSL_CERT_FILE", str(certificate))
        stage = Stage(
            Settings(inbound_rate=None),
            ssl_context=context,
            agents={"token": None, "key": "app.key:another"},
            tls=True,
            rate=0,
        )
        keys = stage.thread.server.auth.keys

        def repaired() -> None:
            assert not stage.agent.flush(1.0)
            keys["app.key"].secret = "another"

        try:
            return play(stage, [words(200)], healed=repaired)
        finally:
            stage.close()


SCENARIOS: dict[str, Callable[[], Report]] = {
    "one publish in ten refused": refused,
    "every connection cut after 300 ms": cut,
    "disconnected by the server": disconnected,
    "a new connection id midway": forgotten,
    "a new connection id, and the past gone": lambda: forgotten(continuity=False),
    "limit of 50/s, five responses at 200 tokens/s": limited,
    "the same, the limit unknown to the producer": limited_unawares,
    "300 KiB in messages of 64 KiB": long,
    "the server gone for 30 s": gone,
    "answers lost": lost_answers,
    "a wrong key, corrected later": wrong_key,
}


def main() -> None:
    print("| what | responses | tokens | messages | retries | repairs | slowest write | exact |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, scenario in SCENARIOS.items():
        if sys.argv[1:] and not any(word in name for word in sys.argv[1:]):
            continue
        t = scenario()
        exact = "live and late" if t.exact_live and t.exact_late else "NO"
        print(
            f"| {name} | {t.responses} | {t.tokens} | {t.published} | {t.retries} "
            f"| {t.recoveries} | {t.slowest_write * 1000:.1f} ms | {exact} |  ({t.seconds:.1f} s)",
            flush=True,
        )


if __name__ == "__main__":
    main()
