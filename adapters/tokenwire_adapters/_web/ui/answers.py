"""Answers of pages to what an agent asks: each is decided once, and acted on once.

An agent that waits takes the answer itself, wherever it runs. Where its process is gone, the
server that was given the answer decides, and begins a run in place of the one that asked. Of
several servers, or tabs, the decision that is first in the channel's log counts. So it is with
the outputs of tools that pages run: the run that goes on from them is begun once.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress

from msgspec.structs import replace

from tokenwire import approvals
from tokenwire.approvals import Answer, Approval, ApprovalRequest
from tokenwire.errors import GapError
from tokenwire.events import EndEvent, Event, Response, SnapshotEvent, ToolResultEvent
from tokenwire.response import Transcript
from tokenwire.sink import Sink
from tokenwire_adapters._web.ui.json import object_of
from tokenwire_adapters._web.ui.runs import Run, find_run, recent_runs

__all__ = ["Settled", "begun", "claim", "continued_by", "folded", "known_part", "settle"]

_PATIENCE = 60.0  # seconds that an agent may take to act on an answer: several leases
_BEGINS = 10.0  # seconds within which another server begins the run that it said it would


class Settled:
    """What became of the answers of a page.

    :ivar run: the run that asked.
    :ivar approvals: the decisions.
    :ivar begin: the id of a run that is to be begun here to act on them; None: it need not be.
    :ivar follow: the id of the run that acts on them, elsewhere or already.
    """

    def __init__(self, run: Run, decisions: Sequence[Approval], new_run: str) -> None:
        self.run = run
        self.approvals = decisions
        acting = {approval.run for approval in decisions} - {None}
        self.begin = new_run if new_run in acting else None
        self.follow = run.id if not acting else min(run_id for run_id in acting if run_id)


async def settle(
    sink: Sink, channel: str, answers: Sequence[Answer], *, sender: str | None, new_run: str
) -> Settled | None:
    """Have answers decided.

    :param new_run: the id of the run that acts on them where the one that asked is gone.
    :return: None where nobody has asked any of it.
    :raises TimeoutError: when the agent does not act on an answer.
    :raises BackendUnavailable: when the channel cannot be read or written now.
    """
    ids = {answer.id for answer in answers}
    found = await _newest(
        sink, channel, lambda one: any(asked.id in ids for asked in approvals.requests_in(one))
    )
    if found is None:
        return None
    run, response = found
    wanted = [request.id for request in approvals.requests_in(response)]
    given = sorted(
        (answer for answer in answers if answer.id in wanted),
        key=lambda answer: wanted.index(answer.id),
    )
    undecided = [answer for answer in given if answer.id not in approvals.decisions_in(response)]
    if undecided and not response.ended:
        for answer in undecided:
            await approvals.answer(sink, channel, answer, sender=sender)
        async with asyncio.timeout(_PATIENCE):
            response = await _decided(sink, channel, response, [one.id for one in undecided])
        undecided = [one for one in undecided if one.id not in approvals.decisions_in(response)]
    for answer in undecided:  # the agent is gone
        approvals.decide(
            sink,
            channel,
            answer,
            response_id=response.id,
            response_run=response.run,
            sender=sender,
            run=new_run,
        )
    if undecided:
        await sink.aflush()
    run = await find_run(sink, channel, run.id) or run
    response = next((one for one in run.responses if one.id == response.id), response)
    decisions = approvals.decisions_in(response)
    return Settled(run, [decisions[one.id] for one in given if one.id in decisions], new_run)


async def _newest(
    sink: Sink, channel: str, is_wanted: Callable[[Response], bool]
) -> tuple[Run, Response] | None:
    """The newest run that has a wanted response, and its first one."""
    for run in reversed(await recent_runs(sink, channel)):
        for response in run.responses:
            if is_wanted(response):
                return run, response
    return None


async def _decided(sink: Sink, channel: str, response: Response, ids: Sequence[str]) -> Response:
    """The response, once requests of it are decided, or once it has ended."""
    transcript = Transcript([SnapshotEvent(response=response)])
    left = set(ids)
    async with sink.watch(channel, response_id=response.id) as watch:
        async for event in watch:
            transcript.apply(event)
            if isinstance(event, ToolResultEvent | SnapshotEvent | EndEvent):
                current = transcript[response.id]
                if left <= approvals.decisions_in(current).keys():
                    return current
    return transcript[response.id]


async def claim(sink: Sink, channel: str, call_id: str, tab: str) -> bool:
    """Give a tool call that pages may run to one of them: the first that claims it.

    :param tab: names the page, also after a reload.
    :return: whether it is this page that runs it.
    :raises BackendUnavailable: when the channel cannot be read or written now.
    """
    calling = await _newest(
        sink, channel, lambda one: any(call.call_id == call_id for call in one.tool_calls)
    )
    if calling is None or any(one.call_id == call_id for one in calling[1].tool_results):
        return False
    run, response = calling
    return await _first(sink, channel, run, response, f"claim:{call_id}", {"tab": tab}) == tab


async def continued_by(
    sink: Sink, channel: str, run: Run, calls: Collection[str], new_run: str, *, retry: bool
) -> str:
    """Decide which run goes on from what a page answers to another one.

    Several tabs may send the outputs of the same tool calls, to several servers: whichever is
    first begins a run, and the others follow that.

    :param run: the run that a page goes on from.
    :param calls: those of its tool calls whose outputs the page sends.
    :param new_run: the id of a run that may be begun here.
    :param retry: go on anew where the run that was begun has failed: the page cannot know of it.
    :return: `new_run` where it is to be begun here; else the id of a run to follow.
    :raises BackendUnavailable: when the channel cannot be read or written now.
    """
    digest = hashlib.sha256("\0".join(sorted(calls)).encode()).hexdigest()[:16]
    response = run.envelope or run.responses[0]
    before = run.id
    while True:
        name = f"continue:{before}:{digest}"
        next_run = await _first(sink, channel, run, response, name, {"run": new_run})
        if not isinstance(next_run, str) or next_run == new_run:
            return new_run
        if await begun(sink, channel, next_run):
            found = await find_run(sink, channel, next_run) if retry else None
            if found is None or found.state not in ("failed", "abandoned"):
                return next_run
        before = next_run


async def _first(
    sink: Sink, channel: str, run: Run, response: Response, name: str, value: dict[str, str]
) -> object:
    """Propose a value, and return the one that was proposed first, wherever that was.

    :param name: of what is decided; the value is kept as a tool result of this id.
    :param value: one key and what it is to be.
    :return: what the first one has under that key; None where the response is gone.
    """
    (key,) = value
    sink.tool_result(channel, name, value, response_id=response.id, run=response.run)
    await sink.aflush()
    current = await find_run(sink, channel, run.id)
    for other in () if current is None else current.responses:
        for result in other.tool_results if other.id == response.id else ():
            if result.call_id == name:
                return object_of(result.output).get(key)
    return None


async def begun(sink: Sink, channel: str, run: str) -> bool:
    """Wait for a run that a server has said it begins; False when it does not."""
    if await find_run(sink, channel, run) is not None:
        return True
    types = {"start", "snapshot"}
    try:
        async with asyncio.timeout(_BEGINS):
            async with sink.watch(channel, rewind="30s", types=types) as watch:
                async for event in watch:
                    if event.response_id == run:
                        return True
    except TimeoutError:
        pass
    return False


# -- what the page that answers has already


def known_part(
    responses: Sequence[Response], decisions: Sequence[Approval]
) -> tuple[list[Event], list[Event]]:
    """What a run had said when it asked, and all of it up to now, for an encoder to go on from.

    A page that answers has the first, and is sent what the second adds.
    """
    asked = [approval.request for approval in decisions]
    known = [_as_asked(response, asked) for response in responses]
    return (
        [SnapshotEvent(response=response) for response in known if response is not None],
        [SnapshotEvent(response=response) for response in responses],
    )


def folded(events: Iterable[Event]) -> list[Response]:
    """The responses of a run that events come to."""
    transcript = Transcript()
    for event in events:
        with suppress(GapError):  # of a response that is not of this run from its beginning
            transcript.apply(event)
    return list(transcript)


def _as_asked(response: Response, asked: Sequence[ApprovalRequest]) -> Response | None:
    """A response as it was when these were asked; None where it had not begun."""
    ids = {request.id for request in asked}
    about = ids | {request.call_id for request in asked}
    places = [i for i, part in enumerate(response.parts) if part.call_id in ids]
    results = tuple(one for one in response.tool_results if one.call_id not in about)
    if places:
        parts = response.parts[: places[-1] + 1]
        return replace(response, parts=parts, tool_results=results, state="streaming")
    when = max((request.requested_at for request in asked), default=0)
    if response.started_at and response.started_at > when:
        return None
    return replace(response, tool_results=results)
