"""The contract of administration; where a backend cannot do a thing, it says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from tokenwire.backend import Deleted, Retention
from tokenwire.errors import NotSupported, StillStreaming
from tokenwire.events import DataEvent, Event, InputEvent, SnapshotEvent
from tokenwire.sink import Sink
from tokenwire.testing._base import ContractBase, ended, raises
from tokenwire.testing.faulty import FaultyBackend, Publish

__all__ = ["AdministrationContract"]


def _is_data(name: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, DataEvent) and event.name == name


def _refuses(call: Callable[[], Any]) -> None:
    assert raises(NotSupported, call), "a backend without the capability raises NotSupported"


def _counts(deleted: Deleted, responses: int, events: int) -> bool:
    """Whether so much was deleted, or less: after a lost reply it is deleted already."""
    return deleted.responses <= responses and deleted.events <= events and not deleted.streaming


class AdministrationContract(ContractBase):
    """Deletion, the list of channels, retention of a channel, export and import."""

    def _can(self, sink: Sink, capability: str, call: Callable[[], Any]) -> bool:
        """Whether the backend has a capability; where it has not, `call` has to raise."""
        if getattr(sink.backend.capabilities, capability):
            return True
        _refuses(call)
        return False

    def _write(self, sink: Sink, text: str, *, channel: str | None = None, **options: Any) -> str:
        """Write a whole response; return the cursor of its last event."""
        with sink.respond(channel or self.channel, response_id=text, **options) as response:
            response.write(text)
        return response.wait(self.patience).cursor or ""

    def _replayed(self, sink: Sink, channel: str | None = None) -> list[Event]:
        """Everything that a reader is given who reads from the beginning."""
        channel = channel or self.channel
        sink.send_event(channel, "end-of-replay")
        assert sink.flush(self.patience)
        return self.read(sink.watch(channel, rewind="all"), _is_data("end-of-replay"))

    def _ids(self, sink: Sink) -> list[str]:
        return [one.id for one in self.whole_history(sink, self.channel)]

    # -- deletion

    def test_a_deleted_response_is_in_no_history_and_no_replay(self) -> None:
        sink, other = self.sink(), self.sink()
        if not self._can(sink, "delete", lambda: sink.delete_response(self.channel, "secret")):
            return
        for text in ("before", "secret", "after"):
            self._write(sink, text)
        sink.tool_result(self.channel, "call", "secret result", response_id="secret")
        sink.send_event(self.channel, "note", "secret note", response_id="secret")
        assert sink.flush(self.patience)
        other.delete_response(self.channel, "secret")
        assert not other.delete_response(self.channel, "secret")
        assert self._ids(sink) == ["after", "before"]
        events = self._replayed(other)
        assert not [event for event in events if event.response_id == "secret"]
        assert {event.response_id for event in events} == {"before", "after", None}

    def test_after_a_deletion_an_older_cursor_is_given_what_is_left(self) -> None:
        for granularity in ("response", "token"):
            sink = self.sink(granularity=granularity)
            if not sink.backend.capabilities.delete:
                return
            channel = f"{self.channel}-{granularity}"
            cursor = self._write(sink, "before", channel=channel)
            self._write(sink, "secret", channel=channel)
            self._write(sink, "after", channel=channel)
            sink.delete_response(channel, "secret")
            sink.send_event(channel, "done")
            events = self.read(sink.watch(channel, after=cursor), _is_data("done"))
            assert [e.response_id for e in events if isinstance(e, SnapshotEvent)] == ["after"]
            assert "secret" not in {event.response_id for event in events}

    def test_whoever_watches_goes_on_after_a_deletion(self) -> None:
        sink, reader = self.sink(), self.sink()
        if not sink.backend.capabilities.delete:
            return
        watch = reader.watch(self.channel).open()
        self._write(sink, "first")
        sink.delete_response(self.channel, "first")
        self._write(sink, "second")
        sink.delete_channel(self.channel)
        self._write(sink, "third")
        spectator = self.spectate(watch, ended("third"))
        assert spectator["third"].text == "third"
        assert self._ids(reader) == ["third"]

    def test_what_is_streaming_is_cancelled_and_deleted(self) -> None:
        sink, other = self.sink(), self.sink()
        if not sink.backend.capabilities.delete:
            return
        deletions: tuple[Callable[[], object], ...] = (
            lambda: other.delete_response(self.channel, "r", timeout=self.patience),
            lambda: other.delete_channel(self.channel, timeout=self.patience),
        )
        for delete in deletions:
            response = sink.respond(self.channel, response_id="r")
            response.write("so far")
            assert sink.flush(self.patience)
            delete()
            assert response.cancelled
            assert self._ids(sink) == []

    def test_what_was_deleted_does_not_come_back(self) -> None:
        """The reply to its end was lost, so that its producer tries that again."""
        backend = FaultyBackend(self.connect())
        if not backend.capabilities.delete:
            return
        sink, other = self.sink(backend), self.sink()
        response = sink.respond(self.channel, response_id="r")
        response.write("so far")
        assert sink.flush(self.patience)
        backend.publish_faults.extend([Publish.LOSE_REPLY, *[Publish.FAIL] * 100])
        assert other.delete_response(self.channel, "r", timeout=self.patience)
        backend.publish_faults.clear()
        assert sink.flush(self.patience)
        assert response.cancelled
        assert self._ids(sink) == []

    def test_what_does_not_stop_is_not_deleted(self) -> None:
        sink, other = self.sink(), self.sink()
        if not sink.backend.capabilities.delete:
            return
        sink.respond(self.channel, response_id="r").write("so far")
        assert sink.flush(self.patience)
        for delete in (
            lambda: other.delete_response(self.channel, "r", timeout=0),
            lambda: other.delete_channel(self.channel, timeout=0),
        ):
            assert raises(StillStreaming, delete)
            assert self._ids(other) == ["r"]

    def test_a_deleted_channel_is_empty_and_can_be_used_again(self) -> None:
        sink = self.sink()
        if not self._can(sink, "delete", lambda: sink.delete_channel(self.channel)):
            return
        old = self._write(sink, "old")
        sink.input(self.channel, "question", "secret", id="i1")
        deleted = sink.delete_channel(self.channel)
        assert _counts(deleted, 1, 1)
        assert sink.delete_channel(self.channel).responses == 0
        assert self._ids(sink) == []
        self._write(sink, "old")  # the id is free again
        sink.input(self.channel, "question", "again", id="i1")  # and so is this one
        events = self.read(
            sink.watch(self.channel, after=old), lambda event: isinstance(event, InputEvent)
        )
        assert [e.data for e in events if isinstance(e, InputEvent)] == ["again"]
        assert [e.response_id for e in events if isinstance(e, SnapshotEvent)] == ["old"]

    def test_the_data_of_a_user_is_deleted(self) -> None:
        sink = self.sink()
        channels = [f"{self.channel}-{n}" for n in range(2)]
        if not self._can(sink, "delete", lambda: sink.delete_user("u1", channels=channels)):
            return
        for channel in channels:
            for user in ("u1", "u2"):
                self._write(sink, user, channel=channel, metadata={"user": user})
                sink.input(channel, "question", f"of {user}", sender=user, id=f"i-{user}")
        deleted = sink.delete_user("u1", channels=channels)
        assert _counts(deleted, 2, 2)
        for channel in channels:
            sink.input(channel, "question", "again", id="i-u1")  # the id is free again
            events = self._replayed(sink, channel)
            assert [e.data for e in events if isinstance(e, InputEvent)] == ["of u2", "again"]
            assert [one.id for one in self.whole_history(sink, channel)] == ["u2"]

    # -- the list of channels

    def test_channels_are_listed(self) -> None:
        sink = self.sink()
        if not self._can(sink, "list_channels", lambda: list(sink.list_channels())):
            return
        names = {f"{self.channel}-{n:03}" for n in range(230)}
        names |= {f"{self.channel}-ß {{*}} [a?] \\ %7B"}
        for name in names:
            sink.send_event(name, "n")
        self._write(sink, "r", channel=f"{self.channel}-000")
        assert sink.flush(self.patience)
        listed = {channel.name: channel for channel in sink.list_channels(self.channel)}
        assert listed.keys() == names
        first = listed[f"{self.channel}-000"]
        assert (first.responses, first.streaming) in ((1, 0), (None, None))
        assert not list(sink.list_channels(f"{self.channel}-x"))
        assert len(list(sink.list_channels(f"{self.channel}-ß {{*}} ["))) == 1
        if sink.backend.capabilities.delete:
            sink.delete_channel(f"{self.channel}-000")
            assert f"{self.channel}-000" not in {
                channel.name for channel in sink.list_channels(self.channel)
            }

    # -- retention

    def test_a_channel_has_a_retention_of_its_own(self) -> None:
        sink, other = self.sink(), self.sink()
        if not self._can(sink, "channel_retention", lambda: sink.retention(self.channel)):
            _refuses(lambda: sink.set_retention(self.channel, None))
            return
        usual = sink.retention(self.channel)
        short = Retention(responses=2, age=3600.0)
        sink.set_retention(self.channel, short)
        assert other.retention(self.channel) == short
        for writer in (sink, other):
            for n in range(3):
                self._write(writer, f"{n}-{id(writer)}")
                self._write(writer, f"{n}-{id(writer)}", channel=f"{self.channel}-other")
        assert self._ids(sink) == [f"{n}-{id(other)}" for n in (2, 1)]
        assert len(self.whole_history(sink, f"{self.channel}-other")) == 6
        other.set_retention(self.channel, None)
        assert sink.retention(self.channel) == usual
        self._write(sink, "more")
        assert len(self._ids(sink)) == 3

    # -- export and import

    def test_what_was_exported_can_be_imported(self) -> None:
        sink = self.sink()
        with sink.respond(self.channel, response_id="r1", metadata={"user": "u1"}) as response:
            response.write("thinking", kind="reasoning")
            call = response.tool_call("search", call_id="c1")
            call.write('{"q": 1}')
            response.write("the answer")
            response.finish("stop", usage={"output_tokens": 3})
        response.wait(self.patience)
        sink.tool_result(self.channel, "c1", {"hits": 1}, response_id="r1")
        sink.input(self.channel, "question", "and then?", id="i1", sender="u1")
        self._write(sink, "second")
        assert sink.flush(self.patience)
        lines = list(sink.export_channels([self.channel]))
        copy = f"{self.channel}-copy"
        lines = [line.replace(self.channel.encode(), copy.encode()) for line in lines]
        report = sink.import_channels(lines)
        assert (report.responses, report.events, report.refused) == (2, 1, {})
        before = [replace(one, channel=copy) for one in self.whole_history(sink, self.channel)]
        assert self.whole_history(sink, copy) == before
        assert before[1].tool_results[0].output == {"hits": 1}
        again = self.sink().import_channels(lines)
        assert (again.responses, again.present, again.refused) == (0, 2, {})
        inputs = [e for e in self._replayed(sink, copy) if isinstance(e, InputEvent)]
        assert [(one.id, one.sender, one.data) for one in inputs] == [("i1", "u1", "and then?")]

    def test_an_export_has_what_is_streaming(self) -> None:
        for granularity in ("response", "token"):
            sink = self.sink(granularity=granularity)
            channel, copy = f"{self.channel}-{granularity}", f"{self.channel}-{granularity}-copy"
            response = sink.respond(channel, response_id="r")
            response.write("so far")
            assert sink.flush(self.patience)
            lines = list(sink.export_channels([channel]))
            response.finish()
            copied = [line.replace(channel.encode(), copy.encode()) for line in lines]
            assert sink.import_channels(copied).responses == 1
            (kept,) = self.whole_history(sink, copy)
            assert (kept.state, kept.text) == ("abandoned", "so far")
