"""The contract under faults: dead producers, late writes, lost and repeated messages."""

from __future__ import annotations

import random
import threading

from tokenwire import background
from tokenwire.backend import Entry
from tokenwire.errors import Fenced, PublishRejected
from tokenwire.events import DataEvent, DeltaEvent, EndEvent, StartEvent
from tokenwire.sink import Sink
from tokenwire.testing._base import ContractBase, ended, in_threads
from tokenwire.testing.faulty import Deliver, FaultyBackend, Publish
from tokenwire.testing.producers import scripts
from tokenwire.watch import Watch

__all__ = ["FaultsContract"]


class FaultsContract(ContractBase):
    """Promises 1, 2 and 3 when producers die and the backend fails."""

    def _killable(self) -> tuple[Sink, FaultyBackend]:
        backend = FaultyBackend(self.connect())
        return self.sink(backend, lease=self.lease, close_timeout=0.1), backend

    def test_a_dead_producer_is_noticed_by_watchers(self) -> None:
        sink, backend = self._killable()
        watch = self.sink(lease=self.lease).watch(self.channel).open()
        response = sink.respond(self.channel, response_id="r")
        response.write("last words")
        assert sink.flush(self.patience)
        backend.kill()
        spectator = self.spectate(watch, ended("r"))
        assert (spectator["r"].state, spectator["r"].text) == ("abandoned", "last words")

    def test_a_dead_producer_is_noticed_in_history(self) -> None:
        sink, backend = self._killable()
        sink.respond(self.channel, response_id="r").write("last words")
        assert sink.flush(self.patience)
        backend.kill()
        reader = self.sink()
        self.eventually(lambda: reader.history(self.channel).items[0].state == "abandoned")

    def test_a_response_is_abandoned_once_whoever_notices(self) -> None:
        sink, backend = self._killable()
        watch = self.sink(lease=60.0).watch(self.channel).open()
        sink.respond(self.channel, response_id="r").write("last words")
        assert sink.flush(self.patience)
        backend.kill()
        others = [self.sink() for _ in range(3)]
        self.eventually(lambda: others[0].history(self.channel).items[0].state == "abandoned")
        in_threads(lambda other: background.run(other, other.backend.reap(self.channel)), others)
        others[0].send_event(self.channel, "done")
        events = self.read(watch, lambda event: isinstance(event, DataEvent))
        assert sum(ended("r")(event) for event in events) == 1

    def test_late_writes_of_a_dead_producer_change_nothing(self) -> None:
        sink, backend = self._killable()
        reader = self.sink()
        watch = self.sink().watch(self.channel).open()
        response = sink.respond(self.channel, response_id="r")
        response.write("last words")
        assert sink.flush(self.patience)
        backend.kill()  # suspended, rather: it comes back
        self.eventually(lambda: reader.history(self.channel).items[0].state == "abandoned")
        backend.revive()
        response.write(", and more")
        response.finish("stop")
        assert response.wait(self.patience).status == "refused"
        reader.send_event(self.channel, "done")
        spectator = self.spectate(watch, lambda e: isinstance(e, DataEvent))
        assert (spectator["r"].state, spectator["r"].text) == ("abandoned", "last words")
        assert spectator.ends["r"] == 1
        kept = reader.history(self.channel).items[0]
        assert (kept.state, kept.text) == ("abandoned", "last words")

    def test_a_quiet_producer_keeps_its_response(self) -> None:
        sink = self.sink(lease=self.lease)
        reader = self.sink()
        with sink.respond(self.channel, response_id="r") as response:
            response.write("thinking")
            assert sink.flush(self.patience)
            waited = threading.Event()
            waited.wait(self.lease * 2.5)  # what is tested here is time itself
            assert reader.history(self.channel).items[0].state == "streaming"
            response.write(", done")
        response.wait(self.patience)
        kept = reader.history(self.channel).items[0]
        assert (kept.state, kept.text) == ("complete", "thinking, done")

    def test_another_fence_is_refused(self) -> None:
        backend = self.connect()
        sink = self.sink(backend)

        def entry(fence: str, seq: int, *events: StartEvent | DeltaEvent | EndEvent) -> Entry:
            return Entry(channel=self.channel, events=events, response_id="r", fence=fence, seq=seq)

        def delta(offset: int, text: str) -> DeltaEvent:
            return DeltaEvent(response_id="r", part=0, kind="text", offset=offset, text=text)

        async def publish() -> None:
            for first in (
                entry("a", 0, StartEvent(response_id="r")),
                entry("a", 1, delta(0, "right")),
            ):
                (outcome,) = await self.publish(backend, first)
                assert outcome.error is None
            (outcome,) = await self.publish(backend, entry("b", 2, delta(5, "wrong")))
            if backend.capabilities.fencing == "backend":
                assert isinstance(outcome.error, Fenced)
            (outcome,) = await self.publish(
                backend, entry("a", 2, EndEvent(response_id="r", state="complete"))
            )
            assert outcome.error is None
            (outcome,) = await self.publish(backend, entry("a", 3, delta(5, "late")))
            if backend.capabilities.fencing == "backend":
                assert isinstance(outcome.error, PublishRejected)

        background.run(sink, publish())
        kept = self.sink().history(self.channel).items[0]
        assert (kept.state, kept.text) == ("complete", "right")

    def test_a_backend_that_is_down_for_a_while_loses_nothing(self) -> None:
        backend = FaultyBackend(self.connect(), publish=[Publish.FAIL] * 3)
        sink = self.sink(backend)
        script = next(scripts(21))
        with sink.respond(self.channel, response_id="r") as response:
            script.play(response)
        assert response.wait(self.patience).status in ("delivered", "recovered")
        assert self.sink().history(self.channel).items[0].text == script.text

    def test_lost_deltas_are_healed_by_a_snapshot(self) -> None:
        backend = FaultyBackend(self.connect())
        sink = self.sink(backend)
        watch = self.sink().watch(self.channel).open()
        with sink.respond(self.channel, response_id="r") as response:
            response.write("one ")
            assert sink.flush(self.patience)
            backend.publish_faults.append(Publish.REJECT)
            response.write("two ")
            assert sink.flush(self.patience)
            response.write("three")
        receipt = response.wait(self.patience)
        assert receipt.status == "recovered"
        assert 1 <= receipt.recoveries <= 1 + receipt.retries, receipt  # a retry sends another
        spectator = self.spectate(watch, ended("r"))
        assert spectator["r"].text == "one two three"
        assert self.sink().history(self.channel).items[0].text == "one two three"

    def test_text_that_is_refused_for_good_is_reported_as_lost(self) -> None:
        backend = FaultyBackend(self.connect(), publish=[Publish.OK])
        sink = self.sink(backend)
        with sink.respond(self.channel, response_id="r") as response:
            assert sink.flush(self.patience)
            backend.publish_faults.extend([Publish.REJECT] * 2)
            response.write("too much")
            assert sink.flush(self.patience)
        assert response.wait(self.patience).status == "lost"
        kept = self.sink().history(self.channel).items[0]
        assert (kept.state, kept.text) == ("complete", "")

    def test_any_faults_leave_every_watcher_with_the_exact_text(self) -> None:
        for seed in range(6):
            self._run_with_random_faults(seed)

    def _run_with_random_faults(self, seed: int) -> None:
        rng = random.Random(seed)
        channel = f"{self.channel}-{seed}"
        calm_publish = [Publish.OK, Publish.YIELD] * 4
        publish = rng.choices([*Publish, *calm_publish], k=60)
        deliver = rng.choices([*Deliver, *([Deliver.OK] * 5)], k=60)
        writing = FaultyBackend(self.connect(), publish=publish)
        reading = FaultyBackend(self.connect(), deliver=deliver)
        sink, reader = self.sink(writing), self.sink(reading)
        names = [f"r{number}" for number in range(3)]
        played = dict(zip(names, scripts(seed, tokens=25), strict=False))
        watches: list[Watch] = [reader.watch(channel).open()]
        writers = {name: sink.respond(channel, response_id=name) for name in names}
        left = {name: list(script.tokens) for name, script in played.items()}
        while any(left.values()):
            name = rng.choice([name for name in names if left[name]])
            kind, text = left[name].pop(0)
            writers[name].write(text, kind=kind)
            if rng.random() < 0.3:
                sink.flush(self.patience)
            if rng.random() < 0.1:
                watches.append(reader.watch(channel, rewind="all").open())
        for writer in writers.values():
            writer.finish("stop")
            receipt = writer.wait(self.patience)
            if receipt.status == "lost":  # two refusals in a row lose the text
                played.pop(writer.id)
        background.run(sink, writing.heal())
        background.run(reader, reading.heal())
        self.sink().send_event(channel, "done")
        for watch in watches:
            spectator = self.spectate(watch, lambda e: isinstance(e, DataEvent))
            for name, script in played.items():
                assert spectator[name].text == script.text, (seed, name)
                assert spectator[name].state == "complete"
                assert spectator.ends[name] == 1
