"""`ThreadEncoder`: a thread in the agent streaming protocol of ``langchain-protocol``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from tokenwire._ids import new_id
from tokenwire.approvals import Approval
from tokenwire.encoding import Encoder, Frame
from tokenwire.events import Event, SnapshotEvent, StartEvent
from tokenwire.sink import Sink
from tokenwire.watch import ChannelReader
from tokenwire_adapters._web.langgraph.encoder import RunReader
from tokenwire_adapters._web.langgraph.messages import interrupt_of, tool_call, usage_metadata
from tokenwire_adapters._web.langgraph.threads import ASKED, PARENT, Thread, input_of
from tokenwire_adapters._web.ui.json import json_bytes
from tokenwire_adapters._web.ui.runs import join_run
from tokenwire_adapters._web.ui.state import PartState, ResponseState, is_envelope, run_of

__all__ = ["ThreadEncoder"]

_MAX_REMEMBERED = 200
_NEWEST = 5  # responses among which is one that has just begun
_CHANNELS = {"input.requested": "input", "input.answered": "input"}


class ThreadEncoder(Encoder):
    """Encodes the newest run of a thread from its beginning, and every one that follows.

    :param thread: the thread so far.
    :param channels: which events the client asks for.
    """

    name = "langgraph-thread"

    def __init__(self, thread: Thread, channels: Iterable[str]) -> None:
        self.finished = False
        self._thread = thread
        self.on_error = thread.on_error
        self._channels = frozenset(channels)
        self._at: dict[str, list[dict[str, Any]]] = {}  # messages by checkpoint, the newest ones
        self._connection = new_id()
        self._seq = 0
        self._frames: list[Frame] = []
        self._run: _RunEvents | None = None
        self._messages: list[dict[str, Any]] = []

    async def join(self, sink: Sink, channel: str) -> ChannelReader | None:
        """Open the channel, for `begin` to encode what has happened of the newest run.

        :return: None where another run has begun since the thread was read, whose beginning would
            be missed: then it is to be read again.
        :raises InvalidName, BackendUnavailable: as `Sink.reader` and `ChannelReader.aopen` do.
        """
        last = self._thread.last
        joined = None if last is None else await join_run(sink, channel, run=last.id)
        if joined is None or last is None:
            reader = await sink.reader(channel).aopen()
        else:
            reader = joined.reader
            self._follow(last.id, joined.events)
        try:
            newest = await sink.ahistory(channel, limit=_NEWEST)
        except BaseException:
            reader.close()
            raise
        if any(run_of(response) not in self._thread.runs for response in newest.items):
            reader.close()
            return None
        return reader

    def _follow(self, run: str, events: Sequence[Event]) -> None:
        checkpoint = input_of(run)
        before, parent = self._thread.before(run), self._thread.parent_of(checkpoint)
        self._remember(checkpoint, before)
        self._run = _RunEvents(self, run, before, parent, self._thread.values_before(run))
        self._run.prime(events)

    def begin(self) -> Iterable[Frame]:
        if self._run is not None:
            list(self._run.begin())
        return self._flush()

    def encode(self, event: Event) -> Iterable[Frame]:
        if isinstance(event, StartEvent) and is_envelope(
            event.response_id, event.run, event.metadata
        ):
            self._switch_run(event.response_id, event.metadata)
        elif isinstance(event, SnapshotEvent):
            # What the reader has of a run that began where it had a gap, or before its log was one.
            response = event.response
            if is_envelope(response.id, response.run, response.metadata):
                self._switch_run(response.id, response.metadata)
        if self._run is not None:
            list(self._run.encode(event))
        return self._flush()

    def _switch_run(self, run: str, metadata: dict[str, Any]) -> None:
        """Turn to a run, unless it is one of those before."""
        if run in self._thread.runs or input_of(run) in self._at:
            return
        before: list[dict[str, Any]] = []
        values = self._thread.values_before()
        if self._run is not None and self._run.run is not None:
            before, values = self._run.messages, self._run.values
            self._remember(self._run.run, before)
        parent: Any = metadata.get(PARENT)
        if isinstance(parent, str) and parent in self._at:
            before = self._at[parent]
        elif isinstance(parent, str) and self._thread.has(parent):
            before = self._thread.messages(parent)
        asked: Any = metadata.get(ASKED)
        before = [*before, *(asked or ())]
        self._remember(input_of(run), before)
        self._run = _RunEvents(self, run, before, parent, values)
        list(self._run.begin())

    def _remember(self, checkpoint: str, messages: list[dict[str, Any]]) -> None:
        """Keep what a run may be begun at, which the thread as it was read may not have."""
        self._at[checkpoint] = messages
        if len(self._at) > _MAX_REMEMBERED:
            del self._at[next(iter(self._at))]

    def _flush(self) -> list[Frame]:
        frames, self._frames = self._frames, []
        return frames

    def send(self, method: str, data: dict[str, Any], *, event_id: str | None = None) -> None:
        """Send an event, where the client asked for its channel.

        :param event_id: the same on every connection, for clients that have several; by default
            one of this connection.
        """
        self._seq += 1
        channel = _CHANNELS.get(method, method)
        if channel not in self._channels and f"{method}:{data.get('name')}" not in self._channels:
            return
        event: dict[str, Any] = {
            "type": "event",
            "method": method,
            "event_id": event_id or f"{self._connection}.{self._seq}",
            "seq": self._seq,
            "params": {"namespace": [], "timestamp": int(time.time() * 1000), "data": data},
        }
        self._frames.append(Frame(json_bytes(event)))


class _RunEvents(RunReader):
    """One run of the thread."""

    def __init__(
        self,
        thread: ThreadEncoder,
        run: str,
        before: Sequence[dict[str, Any]],
        parent: str | None,
        values: dict[str, Any],
    ) -> None:
        super().__init__(run=run, enveloped=True, values=values)
        self._parent = parent
        self._thread = thread
        self.on_error = thread.on_error
        self._before = list(before)
        self._open: dict[str, PartState] = {}  # by response: the block that grows
        self._begun: set[str] = set()

    @property
    def messages(self) -> list[dict[str, Any]]:
        """All messages of the thread up to now."""
        said = self.said.all()
        ids = {message["id"] for message in said}
        return [*(message for message in self._before if message["id"] not in ids), *said]

    def _lifecycle(self, event: str, **more: Any) -> None:
        decided = sum(len(response.decisions) for response in self.responses.values())
        name = f"{self.run}.{event}.{decided}"
        self._thread.send("lifecycle", {"event": event, **more}, event_id=name)

    def values_changed(self) -> None:
        self._checkpoint(f"{self.run}", input_of(f"{self.run}"))
        self._thread.send("values", {**self.values, "messages": self.messages})

    def _checkpoint(self, checkpoint: str, parent: str | None) -> None:
        """Tell of which checkpoint the values are that follow: messages are edited from it."""
        self._thread.send("checkpoints", {"id": checkpoint, "parent_id": parent})

    def begin_message(self, run: str) -> None:
        self._lifecycle("running")
        self._checkpoint(input_of(run), self._parent)
        self._thread.send("values", {**self.values, "messages": self._before})

    def continue_message(self, run: str) -> None:
        _ = run
        self._lifecycle("running")

    def _message(self, response: ResponseState, event: str, **fields: Any) -> None:
        if response.id not in self._begun:
            self._begun.add(response.id)
            start = {"event": "message-start", "role": "ai", "id": response.id}
            self._thread.send("messages", start)
        self._thread.send("messages", {"event": event, **fields})

    def _block(self, response: ResponseState, part: PartState) -> dict[str, Any]:
        """The block of a part, which is open at the client from now on."""
        block = self.said.block(response, part)
        grows = self._open.get(response.id)
        if grows is not part:
            if grows is not None:
                self._finish_block(response, grows)
            self._open[response.id] = part
            content = {key: value for key, value in block.items() if key != "index"}
            content |= {key: "" for key in ("text", "reasoning", "args") if key in content}
            self._message(response, "content-block-start", index=block["index"], content=content)
        return block

    def _finish_block(self, response: ResponseState, part: PartState) -> None:
        self._open.pop(response.id, None)
        block = self.said.block(response, part)
        content = {key: value for key, value in block.items() if key != "index"}
        if part.kind == "tool_call":
            content = tool_call(block)
        self._message(response, "content-block-finish", index=block["index"], content=content)

    def call_begun(self, response: ResponseState, part: PartState) -> None:
        self._block(response, part)

    def text_added(self, response: ResponseState, part: PartState, text: str) -> None:
        kind, field = {
            "tool_call": ("tool-call-delta", "args"),
            "reasoning": ("reasoning-delta", "reasoning"),
        }.get(part.kind, ("text-delta", "text"))
        index = self._block(response, part)["index"]
        delta = {"type": kind, field: text}
        self._message(response, "content-block-delta", index=index, delta=delta)

    def part_ended(self, response: ResponseState, part: PartState) -> None:
        if self._open.get(response.id) is part:
            self._finish_block(response, part)
        if part.kind == "tool_call" and part.result is None:
            called = tool_call(self.said.block(response, part))
            started = {"tool_call_id": called["id"], "tool_name": called["name"]}
            self._thread.send(
                "tools", {"event": "tool-started", **started, "input": called["args"]}
            )

    def end_response(self, response: ResponseState) -> None:
        super().end_response(response)
        if response.id in self._begun:
            usage = usage_metadata(response)
            self._message(response, "message-finish", **({"usage": usage} if usage else {}))
            self.values_changed()

    def result_added(self, message: dict[str, Any]) -> None:
        named = {"tool_call_id": message["tool_call_id"]}
        if message["status"] == "success":
            output = message["content"]
            self._thread.send("tools", {"event": "tool-finished", **named, "output": output})
        else:
            failed = {**named, "message": message["content"]}
            self._thread.send("tools", {"event": "tool-error", **failed})
        self.values_changed()

    def custom(self, name: str, value: Any, *, event_id: str | None = None) -> None:
        self._thread.send("custom", {"name": name, "payload": value}, event_id=event_id)

    def add_decision(self, approval: Approval) -> None:
        super().add_decision(approval)
        answered = {"interrupt_ids": [approval.id]}
        self._thread.send("input.answered", answered, event_id=f"{approval.id}.answered")
        self._lifecycle("running")

    def _check_over(self, event: Event | None = None) -> None:
        """The stream of a thread goes on where its run waits."""
        waits = not self.finished and self._waits()
        if waits:
            self._pause()
        else:
            super()._check_over(event)

    def _pause(self) -> None:
        for request in self.pending:
            interrupt = interrupt_of(request)
            requested = {"interrupt_id": request.id, "payload": interrupt["value"]}
            self._thread.send("input.requested", requested, event_id=f"{request.id}.requested")
        self.values_changed()
        self._lifecycle("interrupted")

    def end_message(self, response: ResponseState | None) -> None:
        self.values_changed()
        if self.interrupted:
            self._pause()
            return
        error = self.failure_of(response)
        if error is not None:
            self._lifecycle("failed", error=error)
        elif response is not None and response.state == "cancelled":
            self._lifecycle("interrupted")
        else:
            self._lifecycle("completed")
