"""The contract of writing: what is written is there, exactly, and ends once."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from tokenwire import background
from tokenwire.backend import Entry
from tokenwire.events import DeltaEvent, EndEvent, StartEvent
from tokenwire.testing._base import ContractBase, ended, in_threads
from tokenwire.testing.producers import scripts

__all__ = ["WritingContract"]


class WritingContract(ContractBase):
    """Promises 1, 3 and 5, from the producer's side."""

    def test_a_response_is_kept_as_it_was_written(self) -> None:
        sink = self.sink()
        with sink.respond(
            self.channel, response_id="r1", run="run-1", metadata={"user": "u1", "n": [1, 2]}
        ) as response:
            response.write("Let me think.", kind="reasoning")
            response.write("Hel")
            response.write("lo")
            call = response.tool_call("weather", "call-1", '{"city"')
            call.write(': "Oslo"}')
            response.tool_result("call-1", {"degrees": 7})
            response.write(" World")
            response.data_part("chart", {"points": [1, 2.5, None]})
            response.finish("stop", usage={"input_tokens": 3, "output_tokens": 9})
        assert response.wait(self.patience).status in ("delivered", "recovered")
        (kept,) = self.sink().history(self.channel).items
        assert (kept.id, kept.run, kept.state) == ("r1", "run-1", "complete")
        assert kept.channel == self.channel
        assert kept.metadata == {"user": "u1", "n": [1, 2]}
        assert (kept.text, kept.reasoning) == ("Hello World", "Let me think.")
        kinds = [part.kind for part in kept.parts]
        assert kinds == ["reasoning", "text", "tool_call", "text", "data"]
        (tool,) = kept.tool_calls
        assert (tool.name, tool.call_id) == ("weather", "call-1")
        assert tool.arguments == '{"city": "Oslo"}'
        assert kept.parts[-1].name == "chart"
        assert kept.parts[-1].data == {"points": [1, 2.5, None]}
        assert [(r.call_id, r.output) for r in kept.tool_results] == [("call-1", {"degrees": 7})]
        assert kept.finish_reason == "stop"
        assert kept.usage == {"input_tokens": 3, "output_tokens": 9}
        assert kept.error is None
        assert kept.started_at is not None
        assert kept.ended_at is not None

    def test_who_runs_a_tool_is_kept(self) -> None:
        watch = self.sink().watch(self.channel).open()
        with self.sink().respond(self.channel, response_id="r1") as response:
            response.tool_call("web_search", "call-1", "{}", provider_executed=True)
            response.tool_call("weather", "call-2", "{}")
        spectator = self.spectate(watch, ended("r1"))
        (kept,) = self.sink().history(self.channel).items
        for seen in (kept, spectator.transcript["r1"]):
            assert [call.provider_executed for call in seen.tool_calls] == [True, False]

    def test_text_of_any_kind_is_exact(self) -> None:
        sink = self.sink()
        for number, script in zip(range(5), scripts(7, tokens=60), strict=False):
            with sink.respond(self.channel, response_id=f"r{number}") as response:
                script.play(response)
            response.wait(self.patience)
            kept = sink.history(self.channel, limit=1).items[0]
            assert kept.text == script.text
            assert kept.reasoning == script.reasoning

    def test_long_text_is_exact(self) -> None:
        sink = self.sink()
        word = "nul\x00 café 東京 🙂 "
        with sink.respond(self.channel, response_id="long") as response:
            for _ in range(60):
                response.write(word * 300)
        assert response.wait(self.patience).status in ("delivered", "recovered")
        assert self.sink().history(self.channel).items[0].text == word * 300 * 60

    def test_lone_surrogates_are_replaced(self) -> None:
        sink = self.sink()
        with sink.respond(self.channel) as response:
            response.write("a\ud800b")
        response.wait(self.patience)
        assert sink.history(self.channel).items[0].text == "a\ufffdb"

    def test_many_threads_write_many_responses(self) -> None:
        sink = self.sink()
        played = list(zip(range(6), scripts(3, tokens=50), strict=False))

        def produce(number: int) -> None:
            with sink.respond(self.channel, response_id=f"r{number}") as response:
                played[number][1].play(response)

        in_threads(produce, range(len(played)))
        assert sink.flush(self.patience)
        kept = {response.id: response for response in self.whole_history(sink, self.channel)}
        for number, script in played:
            assert kept[f"r{number}"].text == script.text
            assert kept[f"r{number}"].reasoning == script.reasoning

    def test_many_threads_write_one_response(self) -> None:
        sink = self.sink()
        with sink.respond(self.channel, response_id="r") as response:
            parts = [response.part("text", name=str(number)) for number in range(4)]

            def produce(number: int) -> None:
                for step in range(50):
                    parts[number].write(f"{number}:{step} ")

            in_threads(produce, range(4))
        response.wait(self.patience)
        kept = sink.history(self.channel).items[0]
        texts = {part.name: part.text for part in kept.parts}
        for number in range(4):
            assert texts[str(number)] == "".join(f"{number}:{step} " for step in range(50))

    def test_an_exception_ends_it_as_failed(self) -> None:
        sink = self.sink()
        response = sink.respond(self.channel)
        with suppress(ValueError), response:
            response.write("so far")
            raise ValueError("boom, password=hunter2")
        response.wait(self.patience)
        kept = sink.history(self.channel).items[0]
        assert (kept.state, kept.text) == ("failed", "so far")
        assert kept.error is not None
        assert "boom" in kept.error
        assert "hunter2" not in kept.error

    def test_a_cancelled_task_ends_it_as_cancelled(self) -> None:
        sink = self.sink()

        async def agent(begun: asyncio.Event) -> None:
            async with sink.respond(self.channel) as response:
                response.write("so far")
                begun.set()
                await asyncio.Event().wait()

        async def main() -> None:
            begun = asyncio.Event()
            task = asyncio.create_task(agent(begun))
            await begun.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(main())
        assert sink.flush(self.patience)
        kept = sink.history(self.channel).items[0]
        assert (kept.state, kept.text) == ("cancelled", "so far")

    def test_only_the_first_end_counts(self) -> None:
        sink = self.sink()
        with sink.respond(self.channel, response_id="r") as response:
            response.write("all")
            assert response.finish("stop")
            assert not response.fail("too late")
            assert not response.write(" more")
        response.wait(self.patience)
        kept = sink.history(self.channel).items[0]
        assert (kept.state, kept.text, kept.finish_reason) == ("complete", "all", "stop")

    def test_an_id_that_is_taken_is_refused(self) -> None:
        first, second = self.sink(), self.sink()
        with first.respond(self.channel, response_id="r") as response:
            response.write("first")
            assert first.flush(self.patience)
            with second.respond(self.channel, response_id="r") as other:
                other.write("second")
            assert other.wait(self.patience).status == "refused"
            response.write(", still")
        response.wait(self.patience)
        (kept,) = second.history(self.channel).items
        assert (kept.state, kept.text) == ("complete", "first, still")

    def test_an_entry_published_twice_counts_once(self) -> None:
        backend = self.connect()
        sink = self.sink(backend)
        watch = self.sink().watch(self.channel).open()
        entries = [
            self._entry(0, StartEvent(response_id="r")),
            self._entry(1, _delta(0, "one ")),
            self._entry(2, _delta(4, "two")),
            self._entry(3, EndEvent(response_id="r", state="complete")),
        ]

        async def publish() -> None:
            for entry in entries:
                for _ in range(2):
                    (outcome,) = await self.publish(backend, entry)
                    assert outcome.error is None, outcome

        background.run(sink, publish())
        events = self.read(watch, ended("r"))
        start, *deltas, end = events
        assert (start.type, end.type) == ("start", "end")
        # A reader that lost its connection between the two gets both in one.
        texts = [event.text for event in deltas if isinstance(event, DeltaEvent)]
        assert texts in (["one ", "two"], ["one two"])
        assert len(texts) == len(deltas)
        assert sink.history(self.channel).items[0].text == "one two"

    def test_a_batch_holds_many_channels(self) -> None:
        backend = self.connect()
        sink = self.sink(backend)
        names = [f"{self.channel}-{number}" for number in range(5)]

        async def publish() -> None:
            outcomes = await self.publish(
                backend,
                *(
                    Entry(
                        channel=name,
                        events=(
                            StartEvent(response_id="r"),
                            _delta(0, name),
                            EndEvent(response_id="r", state="complete"),
                        ),
                        response_id="r",
                        fence="f",
                    )
                    for name in names
                ),
            )
            assert all(outcome.error is None for outcome in outcomes), outcomes

        background.run(sink, publish())
        for name in names:
            assert sink.history(name).items[0].text == name

    def test_closing_the_sink_ends_what_is_open(self) -> None:
        sink = self.sink()
        response = sink.respond(self.channel, response_id="r")
        response.write("so far")
        assert sink.close(self.patience)
        kept = self.sink().history(self.channel).items[0]
        assert (kept.state, kept.text) == ("abandoned", "so far")
        assert not response.write("late")

    def test_granularity_token_keeps_every_token(self) -> None:
        sink = self.sink(granularity="token")
        watch = self.sink(granularity="token").watch(self.channel).open()
        tokens = [" a", " b", "c", " d ", "e"]
        with sink.respond(self.channel, response_id="r") as response:
            for token in tokens:
                response.write(token)
        events = self.read(watch, ended("r"))
        assert [e.text for e in events if isinstance(e, DeltaEvent)] == tokens
        again = self.sink(granularity="token").watch(self.channel, rewind="all")
        events = self.read(again, ended("r"))
        assert [e.text for e in events if isinstance(e, DeltaEvent)] == tokens
        assert sink.history(self.channel).items[0].text == "".join(tokens)

    def _entry(self, seq: int, event: StartEvent | DeltaEvent | EndEvent) -> Entry:
        return Entry(
            channel=self.channel, events=(event,), response_id="r", fence="fence-1", seq=seq
        )


def _delta(offset: int, text: str) -> DeltaEvent:
    return DeltaEvent(response_id="r", part=0, kind="text", offset=offset, text=text)
