"""Any interleaving of writes, joins, losses, cancels and deaths keeps the promises."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule

from tokenwire import DataEvent, MemoryBackend, ResponseWriter, Sink, Watch, background
from tokenwire.memory import MemoryStore, Retention
from tokenwire.testing import Deliver, FaultyBackend, Publish, Spectator, read_until

_CHANNEL = "c"
_LEASE = 1000.0  # of the store's own clock, which only the rules move
_PATIENCE = 60.0


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Producer:
    """A process that writes."""

    def __init__(self, store: MemoryStore) -> None:
        self.backend = FaultyBackend(MemoryBackend(store))
        self.sink = Sink(self.backend, lease=_LEASE, close_timeout=0.05)
        self.writers: dict[str, ResponseWriter] = {}
        self.produced: dict[str, str] = {}


class Watcher:
    """A watcher, which may leave and come back."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.spectator = Spectator()


class Interleaving(RuleBasedStateMachine):
    producers = Bundle("producers")
    responses = Bundle("responses")
    watchers = Bundle("watchers")

    @initialize(events=st.sampled_from([3, 10, 4096]), ring=st.sampled_from([4, 2048]))
    def set_up(self, events: int, ring: int) -> None:
        self.clock = Clock()
        self.store = MemoryStore(clock=self.clock, retention=Retention(age=None, events=events))
        self.reading = FaultyBackend(MemoryBackend(self.store))
        self.reader = Sink(self.reading, lease=_LEASE, ring_events=ring)
        self.calm = Sink(MemoryBackend(self.store), lease=_LEASE)
        self.alive: list[Producer] = []
        self.all: list[Producer] = []
        self.joined: list[Watcher] = []
        self.count = 0
        self.marks = 0

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        try:
            self.settle()
        finally:
            for producer in self.all:
                producer.sink.close()
            self.reader.close()
            self.calm.close()

    # -- what may happen

    @rule(target=producers)
    def start_a_producer(self) -> Producer:
        producer = Producer(self.store)
        self.alive.append(producer)
        self.all.append(producer)
        return producer

    @rule(target=responses, producer=producers)
    def begin(self, producer: Producer) -> tuple[Producer, str]:
        self.count += 1
        name = f"r{self.count}"
        producer.writers[name] = producer.sink.respond(_CHANNEL, response_id=name)
        producer.produced[name] = ""
        return producer, name

    @rule(response=responses, text=st.sampled_from([" a", "b", "\n", "\u6771", "🙂", "xyz" * 9]))
    def write(self, response: tuple[Producer, str], text: str) -> None:
        producer, name = response
        if producer.writers[name].write(text):
            producer.produced[name] += text

    @rule(response=responses)
    def begin_a_tool_call(self, response: tuple[Producer, str]) -> None:
        producer, name = response
        producer.writers[name].tool_call("tool", f"call-{name}", "{}")

    @rule(response=consumes(responses), well=st.booleans())
    def end(self, response: tuple[Producer, str], well: bool) -> None:
        producer, name = response
        if well:
            producer.writers[name].finish("stop")
        else:
            producer.writers[name].fail("it broke")

    @rule(producer=producers, fault=st.sampled_from(list(Publish)))
    def break_a_publish(self, producer: Producer, fault: Publish) -> None:
        producer.backend.publish_faults.append(fault)

    @rule(faults=st.lists(st.sampled_from(list(Deliver)), min_size=1, max_size=4))
    def break_deliveries(self, faults: list[Deliver]) -> None:
        self.reading.deliver_faults.extend(faults)

    @rule(producer=producers)
    def flush(self, producer: Producer) -> None:
        if not producer.backend.killed:
            assert producer.sink.flush(_PATIENCE)

    @rule(response=responses)
    def cancel(self, response: tuple[Producer, str]) -> None:
        self.calm.cancel(_CHANNEL, response[1], timeout=_PATIENCE)

    @rule(producer=consumes(producers))
    def kill(self, producer: Producer) -> None:
        producer.backend.kill()
        for other in self.alive:
            if other is not producer:
                background.run(other.sink, _renew(other))
        self.clock.now += 0.6 * _LEASE
        for other in self.alive:
            if other is not producer and not other.backend.killed:
                background.run(other.sink, _renew(other))
        self.clock.now += 0.6 * _LEASE
        self.alive.remove(producer)
        self.calm.history(_CHANNEL, limit=1)

    @rule(target=watchers, rewind=st.sampled_from([None, "all", 1, "1h"]))
    def join(self, rewind: str | int | None) -> Watcher:
        watcher = Watcher(self.reader.watch(_CHANNEL, rewind=rewind).open())
        self.joined.append(watcher)
        return watcher

    @rule(watcher=watchers)
    def catch_up(self, watcher: Watcher) -> None:
        self.read(watcher)

    @rule(watcher=watchers)
    def leave_and_come_back(self, watcher: Watcher) -> None:
        watcher.watch.close()
        if watcher.spectator.cursor is None:
            watcher.watch = self.reader.watch(_CHANNEL).open()
        else:
            watcher.watch = self.reader.watch(_CHANNEL, after=watcher.spectator.cursor)

    # -- what must hold

    def read(self, watcher: Watcher) -> None:
        self.marks += 1
        mark = self.marks
        background.run(self.reader, self.reading.heal())
        self.calm.send_event(_CHANNEL, "mark", mark)
        events = read_until(
            watcher.watch,
            lambda event: isinstance(event, DataEvent) and event.data == mark,
            timeout=_PATIENCE,
        )
        for event in events:
            watcher.spectator.see(event)

    def settle(self) -> None:
        texts: dict[str, str] = {}
        for producer in self.all:
            dead = producer.backend.killed
            for name, writer in producer.writers.items():
                writer.finish("stop")
                texts[name] = producer.produced[name]
                if not dead:
                    receipt = writer.wait(_PATIENCE)
                    assert receipt.status != "pending", (name, receipt)
                    if receipt.status == "lost":
                        del texts[name]
        self.clock.now += 2 * _LEASE
        kept = {r.id: r for r in self.calm.history(_CHANNEL, limit=1000).items}
        for producer in self.all:
            for name, writer in producer.writers.items():
                if name not in texts or name not in kept:
                    assert producer.backend.killed or name not in texts, name
                    continue
                response = kept[name]
                assert response.ended, name
                assert texts[name].startswith(response.text), name
                if writer.receipt.status in ("delivered", "recovered"):
                    assert response.text == texts[name], name
                    assert response.state == writer.state, name
        for watcher in self.joined:
            self.read(watcher)
            for response in watcher.spectator.transcript:
                assert response == kept[response.id], response.id
            assert all(times == 1 for times in watcher.spectator.ends.values())


async def _renew(producer: Producer) -> None:
    await producer.sink._runtime.producer._leases._renew()  # pyright: ignore[reportPrivateUsage]


TestInterleaving = Interleaving.TestCase
TestInterleaving.settings = settings(stateful_step_count=30, deadline=None)
