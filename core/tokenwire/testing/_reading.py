"""The contract of reading: joins, rewinds, resumes and history, without a gap or a repeat."""

from __future__ import annotations

import asyncio

from tokenwire.errors import InvalidCursor
from tokenwire.events import DeltaEvent, Event, SnapshotEvent
from tokenwire.sink import Page, Sink
from tokenwire.testing._base import ContractBase, ended
from tokenwire.testing.producers import Script, Spectator, scripts
from tokenwire.watch import ChannelReader, Watch

__all__ = ["ReadingContract"]


class ReadingContract(ContractBase):
    """Promises 2 and 5: what watchers see is exact, and what is over can be read."""

    def _produce(self, sink: Sink, response_id: str, script: Script) -> None:
        with sink.respond(self.channel, response_id=response_id) as response:
            script.play(response)
        response.wait(self.patience)

    def test_a_live_watcher_sees_everything(self) -> None:
        script = next(scripts(1))
        watch = self.sink().watch(self.channel).open()
        self._produce(self.sink(), "r", script)
        watcher = self.spectate(watch, ended("r"))
        assert watcher["r"].text == script.text
        assert watcher["r"].reasoning == script.reasoning
        assert watcher.seen[0].type == "start"
        assert all(event.cursor for event in watcher.seen)

    def test_watchers_on_any_loop(self) -> None:
        script = next(scripts(2))
        sink = self.sink()

        async def watcher() -> str:
            spectator = Spectator()
            async with sink.watch(self.channel, rewind="all") as watch:
                async for event in watch:
                    spectator.see(event)
                    if ended("r")(event):
                        break
            return spectator["r"].text

        async def main() -> list[str]:
            watchers = [asyncio.create_task(watcher()) for _ in range(3)]
            async with sink.respond(self.channel, response_id="r") as response:
                for kind, text in script.tokens:
                    response.write(text, kind=kind)
                    await asyncio.sleep(0)
            async with asyncio.timeout(self.patience):
                return list(await asyncio.gather(*watchers))

        assert asyncio.run(main()) == [script.text] * 3

    def test_joining_midway_at_every_token(self) -> None:
        script = next(scripts(4, tokens=12))
        sink, other = self.sink(), self.sink()
        watches: list[Watch] = []
        with sink.respond(self.channel, response_id="r") as response:
            for kind, text in script.tokens:
                response.write(text, kind=kind)
                assert sink.flush(self.patience)
                watches.append(other.watch(self.channel).open())
        for watch in watches:
            spectator = self.spectate(watch, ended("r"))
            assert spectator["r"].text == script.text
            assert spectator["r"].reasoning == script.reasoning
            assert spectator["r"].state == "complete"
            assert isinstance(spectator.seen[0], SnapshotEvent)

    def test_resuming_after_every_cursor(self) -> None:
        sink, other = self.sink(), self.sink()
        played = list(zip(("r1", "r2"), scripts(5, tokens=10), strict=False))
        live = Spectator()
        watch = self.sink().watch(self.channel).open()
        for response_id, script in played:
            with sink.respond(self.channel, response_id=response_id) as response:
                for kind, text in script.tokens:
                    response.write(text, kind=kind)
                    sink.flush(self.patience)
        live.watch(watch, ended("r2"), timeout=self.patience)
        for cut in range(len(live.seen)):
            resumed = Spectator()
            for event in live.seen[: cut + 1]:
                resumed.see(event)
            assert resumed.cursor is not None
            if cut < len(live.seen) - 1:
                again = other.watch(self.channel, after=resumed.cursor)
                for event in self.read(again, ended("r2")):
                    resumed.see(event)
            for response_id, script in played:
                assert resumed[response_id].text == script.text, cut
                assert resumed[response_id].state == "complete"
                assert resumed.ends[response_id] == 1

    def test_resuming_between_snapshots(self) -> None:
        """A reader that has the first snapshot of several also gets the responses it lacks."""
        sink, other = self.sink(), self.sink()
        names = ("r1", "r2", "r3")
        responses = [sink.respond(self.channel, response_id=name) for name in names]
        for number in range(3):
            for response in responses:
                response.write(f"{number} ")
                assert sink.flush(self.patience)
        stopped: list[Spectator] = []
        for taken in (1, 2):
            with other.watch(self.channel) as watch:
                spectator = Spectator()
                for _ in range(taken):
                    spectator.see(next(watch))
                stopped.append(spectator)
        for response in responses:
            response.finish()
        assert sink.flush(self.patience)
        for spectator in stopped:
            assert spectator.cursor is not None
            again = other.watch(self.channel, after=spectator.cursor)
            left = set(names)
            for event in again:
                spectator.see(event)
                left -= {name for name in left if ended(name)(event)}
                if not left:
                    break
            again.close()
            for name in names:
                assert spectator[name].text == "0 1 2 "
                assert spectator[name].state == "complete"

    def test_resuming_in_the_middle_of_a_replay(self) -> None:
        sink = self.sink()
        played = dict(zip(("a", "b", "c"), scripts(18, tokens=8), strict=False))
        writers = {name: sink.respond(self.channel, response_id=name) for name in played}
        for step in range(8):  # interleaved; c ends, a and b go on
            for name, script in played.items():
                kind, text = script.tokens[step]
                if step < 5 or name == "c":
                    writers[name].write(text, kind=kind)
                    sink.flush(self.patience)
        writers["c"].finish()
        writers["c"].wait(self.patience)
        assert sink.flush(self.patience)
        hydrated: list[list[Event]] = []
        for rewind in (None, "all", 1, "1h"):
            events = asyncio.run(_hydrated(self.sink().reader(self.channel, rewind=rewind)))
            hydrated += [events[:cut] for cut in range(1, len(events) + 1)]
        for name in ("a", "b"):
            for kind, text in played[name].tokens[5:]:
                writers[name].write(text, kind=kind)
            writers[name].finish()
            writers[name].wait(self.patience)
        assert hydrated
        for events in hydrated:
            spectator = Spectator()
            for event in events:
                spectator.see(event)
            for event in self.read(
                self.sink().watch(self.channel, after=spectator.cursor), ended("b")
            ):
                spectator.see(event)
            for name in ("a", "b"):
                assert spectator[name].text == played[name].text
                assert spectator[name].state == "complete"

    def test_nothing_comes_again_after_the_last_cursor(self) -> None:
        sink = self.sink()
        self._produce(sink, "r1", next(scripts(6)))
        events = self.read(sink.watch(self.channel, rewind="all"), ended("r1"))
        watch = self.sink().watch(self.channel, after=events[-1].cursor).open()
        self._produce(sink, "r2", Script((("text", "next"),)))
        later = self.read(watch, ended("r2"))
        assert {event.response_id for event in later} == {"r2"}

    def test_rewind_all_gives_everything(self) -> None:
        sink = self.sink()
        played = list(zip(range(4), scripts(8), strict=False))
        for number, script in played:
            self._produce(sink, f"r{number}", script)
        watch = self.sink().watch(self.channel, rewind="all")
        spectator = self.spectate(watch, ended("r3"))
        for number, script in played:
            assert spectator[f"r{number}"].text == script.text

    def test_rewind_by_count(self) -> None:
        sink = self.sink()
        for number, script in zip(range(4), scripts(9), strict=False):
            self._produce(sink, f"r{number}", script)
        events = self.read(self.sink().watch(self.channel, rewind=2), ended("r3"))
        assert {event.response_id for event in events} == {"r2", "r3"}

    def test_rewind_by_time(self) -> None:
        sink = self.sink()
        self._produce(sink, "r", next(scripts(10)))
        events = self.read(self.sink().watch(self.channel, rewind="2m"), ended("r"))
        assert {event.response_id for event in events} == {"r"}

    def test_a_live_watcher_is_not_given_responses_that_have_ended(self) -> None:
        sink = self.sink()
        self._produce(sink, "old", next(scripts(11)))
        watch = self.sink().watch(self.channel).open()
        self._produce(sink, "new", next(scripts(12)))
        events = self.read(watch, ended("new"))
        assert {event.response_id for event in events} == {"new"}

    def test_a_watcher_may_come_before_the_channel(self) -> None:
        script = next(scripts(13))
        watch = self.sink().watch(self.channel, rewind="all").open()
        assert self.sink().history(self.channel).items == ()
        self._produce(self.sink(), "r", script)
        spectator = self.spectate(watch, ended("r"))
        assert spectator["r"].text == script.text

    def test_one_response_only(self) -> None:
        sink = self.sink()
        script = next(scripts(14))
        self._produce(sink, "other", script)
        with sink.respond(self.channel, response_id="r") as response:
            response.write("some ")
            sink.flush(self.patience)
            watch = self.sink().watch(self.channel, response_id="r").open()
            self._produce(sink, "third", script)
            response.write("more")
        events: list[Event] = list(watch)  # it ends of itself
        spectator = Spectator()
        for event in events:
            spectator.see(event)
        assert {event.response_id for event in events} == {"r"}
        assert spectator["r"].text == "some more"
        again = list(self.sink().watch(self.channel, response_id="r"))
        assert ended("r")(again[-1])

    def test_known_responses_are_passed_over(self) -> None:
        sink = self.sink()
        for response_id in ("r1", "r2", "r3"):
            self._produce(sink, response_id, next(scripts(15)))
        watch = self.sink().watch(self.channel, rewind="all", known={"r1", "r2"})
        events = self.read(watch, ended("r3"))
        assert {event.response_id for event in events} == {"r3"}

    def test_a_lagging_watcher_is_given_a_summary(self) -> None:
        reader = self.sink(ring_events=4)
        sink = self.sink()
        watch = reader.watch(self.channel).open()
        played = list(zip(range(6), scripts(16, tokens=20), strict=False))
        for number, script in played:
            self._produce(sink, f"r{number}", script)
        beside = reader.watch(self.channel, response_id="r5")  # when it ends, the ring has moved on
        list(beside)
        spectator = self.spectate(watch, ended("r5"))
        for number, script in played:
            assert spectator[f"r{number}"].text == script.text
            assert spectator.ends[f"r{number}"] == 1

    def test_history_comes_in_pages(self) -> None:
        sink = self.sink()
        names = [f"r{number}" for number in range(7)]
        for name in names:
            self._produce(sink, name, Script((("text", name),)))
        page: Page | None = self.sink().history(self.channel, limit=3)
        sizes: list[int] = []
        ids: list[str] = []
        while page is not None:
            sizes.append(len(page.items))
            ids += [response.id for response in page.items]
            page = page.next()
        assert ids == names[::-1]
        assert max(sizes) <= 3
        assert sizes[-1] > 0
        assert [r.text for r in sink.history(self.channel, limit=1).items] == ["r6"]

    def test_history_shows_what_streams(self) -> None:
        sink = self.sink()
        with sink.respond(self.channel, response_id="r") as response:
            response.write("so far")
            sink.flush(self.patience)
            (kept,) = self.sink().history(self.channel).items
            assert (kept.state, kept.text) == ("streaming", "so far")

    def test_cursors_that_cannot_be_are_refused(self) -> None:
        sink = self.sink()
        self._produce(sink, "r", next(scripts(17)))
        for cursor in ("-1", "", "garbage", "0" * 600, "1-2-3-4-5", "\x00", "9" * 30 + "-0"):
            try:
                watch = sink.watch(self.channel, after=cursor)
                # Where it is well-formed but unknown, everything there is may come again instead.
                events = self.read(watch, ended("r"))
            except InvalidCursor:
                continue
            assert any(isinstance(event, SnapshotEvent) for event in events), cursor
        for before in ("garbage", "-1", "\x00"):
            try:
                assert sink.history(self.channel, before=before).items == ()
            except InvalidCursor:
                continue

    def test_token_granularity_rewinds_by_tokens(self) -> None:
        sink = self.sink(granularity="token")
        with sink.respond(self.channel, response_id="r") as response:
            for token in "abcdefgh":
                response.write(token)
            sink.flush(self.patience)
            watch = self.sink(granularity="token").watch(self.channel, rewind=3).open()
        spectator = self.spectate(watch, ended("r"))
        assert spectator["r"].text == "abcdefgh"

    def test_replayed_tokens_are_merged(self) -> None:
        sink = self.sink()
        with sink.respond(self.channel, response_id="r") as response:
            for _ in range(50):
                response.write("word ")
                sink.flush(self.patience)
        events = self.read(self.sink().watch(self.channel, rewind="all"), ended("r"))
        assert sum(isinstance(event, DeltaEvent) for event in events) < 10


async def _hydrated(reader: ChannelReader) -> list[Event]:
    """All events that a reader is given before any other."""
    events: list[Event] = []
    while items := await reader.ahydrate():
        events += [item.event for item in items]
    reader.close()
    return events
