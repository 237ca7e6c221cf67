"""Publishes a response in the format of ``@ably/ai-transport`` 0.8, for the AI SDK's messages.

It follows Ably's documentation (ai-transport, internals/wire-protocol) and the messages that
its own agent session publishes. AI Transport's headers are in ``extras.ai``, tokenwire's in
``extras.headers``, so that sinks read the same messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tokenwire import approvals
from tokenwire.backend import Entry
from tokenwire.errors import BackendUnavailable
from tokenwire.events import EndEvent, Part, StartEvent, ToolResultEvent
from tokenwire_adapters._ai_sdk_values import usage_of
from tokenwire_adapters._backends.ably.ai_transport_chunks import (
    METADATA,
    Chunk,
    approval_chunks,
    content_chunk,
    end_chunks,
    error_text,
    fields_of,
    json_headers,
    result_chunk,
    stream_codec,
    taken_in,
    waits_for_pages,
    with_fields,
)
from tokenwire_adapters._backends.ably.ai_transport_headers import RunHeaders
from tokenwire_adapters._backends.ably.message_per_response import PerResponseWriter, SentMessage
from tokenwire_adapters._backends.ably.response_writer import MessageSender
from tokenwire_adapters._backends.ably.transport_inputs import Conversation
from tokenwire_adapters._backends.ably.wire import byte_size, new_message

__all__ = ["AiTransportWriter"]

_WAITING = EndEvent(response_id="", state="complete", finish_reason="tool_calls")
_RUN_REASONS = {"complete": "complete", "cancelled": "cancelled"}


class AiTransportWriter(PerResponseWriter):
    """Publishes a response as a run, or as a part of one that waited.

    ``ai-run-start`` or ``ai-run-resume`` is the first message, and has no text. Each part is a
    stream of its own, which is closed when a later part begins: pages ignore a closed stream, so
    Ably must have acknowledged all of it before. The run has one step, and another after each time
    that it waited for people.

    :param conversation: what has been asked in the channel.
    """

    first_message_has_text = False

    def __init__(
        self,
        entry: Entry,
        sender: MessageSender,
        conversation: Callable[[], Awaitable[Conversation]],
    ) -> None:
        super().__init__(entry, sender)
        self._conversation = conversation
        self._ids = RunHeaders(self.id)
        self._suspended = False
        self._step: SentMessage | None = None
        self._step_begun = False
        self._heartbeat: SentMessage | None = None
        self._hidden: set[int] = set()  # parts whose data is for tokenwire's watchers alone
        self._chunks: dict[str, Chunk] = {}  # by message
        self._transport: dict[str, dict[str, str]] = {}  # by message: as it was first published
        self._closed: dict[int, str] = {}  # by number of a stream's message: its final status
        self._requests: dict[int, approvals.ApprovalRequest] = {}  # by part
        self._parts_read = 0
        self._asked_up_to = -1  # the last request that pages show
        self._fields: dict[str, Any] = {}  # metadata that the agent added

    # -- headers

    def _headers(self) -> dict[str, Any]:
        headers = super()._headers()
        if self._ids.given is not None:
            headers["input"] = self._ids.given.key
        return headers

    def _extras(self, sent: SentMessage, end: EndEvent | None) -> dict[str, Any]:
        chunk = self._chunks.get(sent.message_id)
        if sent.extras is None and chunk is not None:
            sent.extras = self._ids.chunk(chunk)
        if sent.extras is not None:
            return sent.extras
        extras = super()._extras(sent, end)
        if sent is self._head:
            transport = self._first_headers(sent, lambda: self._ids.run() | self._ids.place())
            extras["ai"] = {"transport": transport}
        elif sent.part is not None and (sent.payload is None or sent.part not in self._hidden):
            extras["ai"] = self._stream_extras(sent, self._part(sent.part))
        return extras

    def _first_headers(
        self, sent: SentMessage, headers: Callable[[], dict[str, str]]
    ) -> dict[str, str]:
        """The headers that a message was first published with: it stays in its step."""
        if sent.message_id not in self._transport:
            self._transport[sent.message_id] = headers()
        return self._transport[sent.message_id]

    def _stream_extras(self, sent: SentMessage, part: Part) -> dict[str, Any]:
        """``extras.ai`` of a message of a part."""
        transport = dict(self._first_headers(sent, self._ids.output))
        number = self._sent.index(sent)
        name = f"part-{sent.part}" + (f"-{number}" if sent.base else "")
        if sent.payload is not None:
            transport["stream"] = "false"
            kind = f"data-{part.name or part.kind}"
            return {"transport": transport, "codec": {"kind": kind, "id": f"{self.id}:{sent.part}"}}
        name, codec = stream_codec(part, name)
        status = self._closed.get(number, "streaming")
        transport |= {"stream": "true", "status": status, "stream-id": name}
        return {"transport": transport, "codec": codec}

    def _metadata(self, end: EndEvent | None = None) -> dict[str, Any]:
        """The metadata of the page's message, all of it: the client replaces what it has."""
        metadata = {**self._fields, "run": self.assembler.response.run or self.id}
        if end is not None:
            metadata["state"] = end.state
            usage = usage_of(end.usage)
            if usage:
                metadata["usage"] = usage
        return metadata

    # -- the messages of parts

    def _add_message(self, part: int, kind: str, base: int) -> SentMessage:
        sent = super()._add_message(part, kind, base)
        sent.name = "ai-output"
        return sent

    def _add_payload(self, index: int, part: Part) -> list[tuple[SentMessage, str]]:
        chunks = self._chunks_of(index, part)
        fitting = all(byte_size(chunk.data) <= self._sender.max_text for chunk in chunks)
        if chunks or byte_size(part.data) > self._sender.max_text:
            self._hidden.add(index)
            work = super()._add_payload(index, part)
            for sent, _ in work:
                sent.name = part.kind
            return work + [(self._add_chunk(chunk), "") for chunk in chunks if fitting]
        sent = self._add_message(index, part.kind, 0)
        sent.payload = (part.data, {"payload": "raw"})
        sent.closed = True
        return [(sent, "")]

    def _chunks_of(self, index: int, part: Part) -> list[Chunk]:
        """The chunks by which pages get a part; none where they get its text or data."""
        if part.kind == METADATA:
            added = fields_of(part.data)
            self._fields = with_fields(self._fields, added)
            metadata = json_headers(messageMetadata=self._metadata())
            return [Chunk("message-metadata", metadata, transport=taken_in(added))]
        request = self._requests.get(index)
        if request is not None:
            calls = {part.call_id for part in self.assembler.response.parts[:index]}
            return approval_chunks(request, shows_call=request.call_id in calls)
        chunk = content_chunk(f"{self.id}:{index}", part)
        return [] if chunk is None else [chunk]

    def _add_fixed(self, name: str, transport: dict[str, str]) -> SentMessage:
        """Add a message that never changes."""
        sent = self._new_message(name)
        sent.extras = {"ai": {"transport": transport}}
        return sent

    def _add_chunk(self, chunk: Chunk) -> SentMessage:
        sent = self._new_message("ai-output")
        sent.payload = (chunk.data, {})
        self._chunks[sent.message_id] = chunk
        return sent

    # -- sending

    async def _send_missing(
        self, channel: Any, entry: Entry, tasks: list[asyncio.Task[Any]]
    ) -> list[asyncio.Task[Any]]:
        tasks += await self._open_run(channel, entry)
        tasks += await self._send_decisions(channel)
        while (pause := self._next_pause()) is not None:
            await self._wait_for([*tasks, *await self._send_parts(channel)])
            await self._pause(channel, pause)
            tasks = await self._send_decisions(channel)
        tasks += await self._send_parts(channel)
        results = self._new_results()
        if results:
            calls = {result.call_id for result in results}
            # Ably holds appends: a page would get the end of the call after its result.
            await self._wait_for(await self._close_streams(channel, calls=calls))
            tasks += await self._send_results(channel, results)
        end = self._end_to_send(entry)
        if end is not None:
            status = "cancelled" if end.state in ("cancelled", "abandoned") else "complete"
            tasks += await self._close_streams(channel, status=status)
            await self._wait_for(tasks)
            return [await self._close_run(channel, end)]
        return tasks

    async def _send_parts(self, channel: Any) -> list[asyncio.Task[Any]]:
        tasks: list[asyncio.Task[Any]] = []
        for sent, text in self._plan():
            if self._suspended:
                tasks += await self._resume(channel)
            if sent.serial is None and sent.part is not None:
                closing = await self._close_streams(channel, up_to=sent.part)
                if sent.part in self._requests:
                    await self._wait_for(closing)  # Ably holds appends, and the request is none
                else:
                    tasks += closing
                if sent.payload is None and text:
                    # AI Transport reads the data of appends, not the data with which a stream is
                    # published.
                    tasks.append(await self._write(channel, sent, "", None))
            if sent.closed and sent.payload is None and text == "":
                continue
            tasks.append(await self._write(channel, sent, text, None))
        return tasks

    async def _open_run(self, channel: Any, entry: Entry) -> list[asyncio.Task[Any]]:
        """Begin the run and its step, and wait for the step's serial."""
        tasks: list[asyncio.Task[Any]] = []
        if self._head.serial is None:
            start = entry.events[0]
            input_id = start.metadata.get("input") if isinstance(start, StartEvent) else None
            conversation = await self._conversation()
            self._ids.given = conversation.answer(self.id, input_id, self.run)
            going_on = self._ids.given is not None and self._ids.given.run is not None
            self._head.name = "ai-run-resume" if going_on else "ai-run-start"
            tasks.append(await self._write(channel, self._head, "", None))
        return tasks if self._suspended else tasks + await self._open_step(channel)

    async def _open_step(self, channel: Any) -> list[asyncio.Task[Any]]:
        tasks: list[asyncio.Task[Any]] = []
        if self._step is None:
            self._step = self._add_fixed("ai-step-start", self._ids.step())
            tasks.append(await self._write(channel, self._step, "", None))
        self._ids.step_serial = await self._serial(self._step)
        if not self._step_begun:
            self._step_begun = True
            metadata = json_headers(messageMetadata=self._metadata())
            begin = Chunk("start", self._ids.message_name() | metadata)
            first = [self._add_chunk(chunk) for chunk in (begin, Chunk("start-step"))]
            tasks += [await self._write(channel, sent, "", None) for sent in first]
        return tasks

    async def _close_streams(
        self,
        channel: Any,
        *,
        up_to: int | None = None,
        calls: set[str] | None = None,
        status: str = "complete",
    ) -> list[asyncio.Task[Any]]:
        """Close the open streams.

        :param up_to: only those of the parts up to this one.
        :param calls: only those of the tool calls with these ids.
        """
        tasks: list[asyncio.Task[Any]] = []
        for number, sent in enumerate(self._sent):
            if sent.part is None or sent.payload is not None or sent.serial is None:
                continue
            if number in self._closed or (up_to is not None and sent.part > up_to):
                continue
            part = self._part(sent.part)
            if calls is not None and (part.kind != "tool_call" or part.call_id not in calls):
                continue
            if sent.last is not None:
                await asyncio.wait([sent.last])
            if sent.suspect:
                raise BackendUnavailable("a stream must be repaired before it is closed")
            self._closed[number] = status
            sent.closed = True
            tasks.append(await self._write(channel, sent, "", None))
        return tasks

    # -- waiting for people

    def _next_pause(self) -> int | None:
        """The next part that asks for approval and is the last one to ask for now."""
        for index in range(self._parts_read, self.assembler.parts):
            part = self._part(index)
            if part.kind == approvals.KIND:
                request = approvals.request_of(part.name, part.call_id, part.data)
                if request is not None:
                    self._requests[index] = request
        self._parts_read = self.assembler.parts
        return next(
            (
                index
                for index, request in self._requests.items()
                if index > self._asked_up_to and not request.more
            ),
            None,
        )

    def _parts_to_send(self) -> int:
        pause = self._next_pause()
        return self.assembler.parts if pause is None else pause + 1

    async def _pause(self, channel: Any, index: int) -> None:
        """Suspend the run, where nobody has answered yet what it asks up to a part."""
        decided = {result.call_id for result in self.assembler.response.tool_results}
        asked = {request.id for part, request in self._requests.items() if part <= index}
        if asked - decided and not self._suspended:
            await self._wait_for(await self._close_streams(channel))
            # With the end of its chunks, pages stop reading, and let people answer.
            chunks = end_chunks(_WAITING, self._metadata())
            fields = [("ai-output", self._ids.chunk(chunk), "") for chunk in chunks]
            fields.append(("ai-step-end", self._ids.step_end("complete"), ""))
            fields.append(("ai-run-suspend", {"ai": {"transport": self._ids.run()}}, ""))
            task = await self._publish_all(channel, f"suspend-{index}", fields, "suspending a run")
            await self._wait_for([task])
            self._suspended = True
        self._asked_up_to = index

    async def _send_decisions(self, channel: Any) -> list[asyncio.Task[Any]]:
        """Send the decisions on what pages were asked for; the run goes on with them."""
        asked = {
            request.id for part, request in self._requests.items() if part <= self._asked_up_to
        }
        decisions = [result for result in self._new_results() if result.call_id in asked]
        if not decisions:
            return []
        tasks = await self._resume(channel)
        return tasks + await self._send_results(channel, decisions)

    async def _resume(self, channel: Any) -> list[asyncio.Task[Any]]:
        """Go on with the run: in a new step, if it was suspended."""
        self._ids.resumed += 1
        resume = self._add_fixed("ai-run-resume", self._ids.run())
        tasks = [await self._write(channel, resume, "", None)]
        if self._suspended:
            self._suspended = self._step_begun = False
            self._step = self._ids.step_serial = None
            tasks += await self._open_step(channel)
        return tasks

    # -- ends and results

    async def _close_run(self, channel: Any, end: EndEvent) -> asyncio.Task[Any]:
        reason = _RUN_REASONS.get(end.state, "error")
        chunks = end_chunks(end, self._metadata(end))
        fields = [("ai-output", self._ids.chunk(chunk), chunk.data) for chunk in chunks]
        if not self._suspended:
            step = self._ids.step_end("failed" if reason == "error" else reason)
            fields.append(("ai-step-end", step, ""))
        run, name = self._ids.run(), "ai-run-end"
        answered = {result.call_id for result in self.assembler.response.tool_results}
        if waits_for_pages(end, self.assembler.response.parts, answered):
            name = "ai-run-suspend"
            (await self._conversation()).note_suspended(self._ids.run_id, self.run)
        else:
            run["run-reason"] = reason
        if reason == "error":
            run |= {"error-code": "50000", "error-message": error_text(end)}
        headers = self._headers() | self._end_headers(end)
        fields.append((name, {"headers": headers, "ai": {"transport": run}}, ""))
        return await self._publish_all(channel, "end", fields, "ending a run")

    async def _publish_all(
        self, channel: Any, key: str, fields: list[tuple[str, dict[str, Any], Any]], what: str
    ) -> asyncio.Task[Any]:
        """Publish messages, each from its name, extras and data, at once."""
        messages = [
            new_message(id=f"{self.fence}-{key}:{index}", name=name, data=data, extras=extras)
            for index, (name, extras, data) in enumerate(fields)
        ]
        await self._sender.limiter.wait(count=len(messages))
        return self._sender.create_all(channel, messages, what)

    def result_messages(self, result: ToolResultEvent, key: str) -> list[Any]:
        messages = super().result_messages(result, key)
        request = next((r for r in self._requests.values() if r.id == result.call_id), None)
        if request is not None:
            return [*messages, self._ids.decision(request, result, f"{messages[0].id}-shown")]
        if len(messages) > 1:
            return messages
        (message,) = messages
        chunk = result_chunk(result, dict(message.data))
        extras = message.extras | self._ids.chunk(chunk)
        return [new_message(id=message.id, name="ai-output", data=chunk.data, extras=extras)]

    async def _begin_heartbeat(self) -> asyncio.Task[Any] | None:
        if self._head.serial is None:
            return None
        if self._heartbeat is None or self._heartbeat.suspect:
            self._heartbeat = SentMessage(f"{self.fence}-pulse", "heartbeat", None, 0)
        channel = await self._sender.connection.channel(self.channel)
        return await self._write(channel, self._heartbeat, "", None)
