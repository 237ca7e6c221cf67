"""``tokenwire replay``: plays what a channel has once more, as if it happened now."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator, Sequence

import tokenwire
from tokenwire import Page, Response, ResponseWriter, Sink
from tokenwire.events import DeltaEvent, EndEvent, Event, PartEvent, StartEvent, ToolResultEvent
from tokenwire_adapters._tools.cli.errors import Failure
from tokenwire_adapters._tools.cli.parsing import command_parser
from tokenwire_adapters._tools.cli.stores import add_where, open_store, split_where
from tokenwire_adapters._tools.cli.views import View, open_view

__all__ = ["main"]

_LONGEST_PAUSE = 3.0  # seconds between two responses
_USUAL_RATE = 40.0  # pieces a second, where it is not known how long a response took
_PIECE = re.compile(r"\s*\S+|\s+")


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "replay",
        description="Play the responses of a channel again, each as long as it took, in the"
        " terminal or into another channel.",
        usage="tokenwire replay [URL] CHANNEL [--speed 2|max] [--to URL [--into CHANNEL]]"
        " [--plain]",
    )
    add_where(parser, "CHANNEL", to=False)  # here --to is where it is written
    parser.add_argument(
        "--speed", default="1", metavar="FACTOR", help="2 is twice as fast; max: without waiting"
    )
    parser.add_argument("--response", metavar="ID", help="only this response")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="(default: 100)")
    parser.add_argument("--to", metavar="URL", help="write it to this backend")
    parser.add_argument(
        "--into", metavar="CHANNEL", help="under this name (with --to; default: the same)"
    )
    parser.add_argument("--plain", action="store_true", help="no live view")
    return parser


def main(argv: Sequence[str]) -> int:
    """Play a channel; return 0, or 1 where there was nothing to play."""
    args = _parser().parse_intermixed_args(argv)
    url, (channel,) = split_where(args, ("channel",))
    if args.into and not args.to:
        raise Failure("--into goes with --to", status=2)
    speed = _speed(args.speed)
    with open_store(url, "replay") as sink:
        responses = _read(sink, channel or "", args)
    if not responses:
        raise Failure(f"channel {channel} has nothing to play")
    if args.to is None:
        _play(responses, speed, open_view(channel or "", plain=args.plain))
        return 0
    with tokenwire.open_sink(args.to, strict=True) as target:
        _play(responses, speed, _Writer(target, args.into or channel))
    return 0


def _speed(text: str) -> float | None:
    """The factor; None for without waiting."""
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0.001 <= speed <= 1e6:
        raise Failure(f"--speed takes a factor such as 2 or 0.5, or max; not {text!r}", status=2)
    return speed


def _read(sink: Sink, channel: str, args: argparse.Namespace) -> list[Response]:
    """The responses to play, oldest first."""
    responses: list[Response] = []
    page: Page | None = sink.history(channel, limit=100)
    while page is not None and len(responses) < args.limit:
        responses += [one for one in page.items if args.response in (None, one.id)]
        page = page.next()
    return responses[: args.limit][::-1]


def _play(responses: Sequence[Response], speed: float | None, player: View) -> None:
    try:
        ended_at: int | None = None
        for response in responses:
            if ended_at is not None and response.started_at is not None and speed is not None:
                pause = min(_LONGEST_PAUSE, max(0.0, (response.started_at - ended_at) / 1000))
                time.sleep(pause / speed)
            ended_at = response.ended_at
            events = list(_events(response))
            began, duration = time.monotonic(), _duration(response, len(events))
            for number, event in enumerate(events):
                if speed is not None:
                    due = began + duration / speed * number / len(events)
                    time.sleep(max(0.0, due - time.monotonic()))
                player.show(event)
    finally:
        player.close()


def _duration(response: Response, events: int) -> float:
    """How long a response took, in seconds."""
    if response.started_at is None or response.ended_at is None:
        return events / _USUAL_RATE
    return max(0.0, (response.ended_at - response.started_at) / 1000)


def _events(response: Response) -> Iterator[Event]:
    """A response as its producer may have written it: a word at a time."""
    yield StartEvent(response_id=response.id, run=response.run, metadata=response.metadata)
    for number, part in enumerate(response.parts):
        yield PartEvent(
            response_id=response.id,
            part=number,
            kind=part.kind,
            name=part.name,
            call_id=part.call_id,
            data=part.data,
        )
        for match in _PIECE.finditer(part.text):
            yield DeltaEvent(
                response_id=response.id,
                part=number,
                kind=part.kind,
                offset=match.start(),
                text=match[0],
            )
    for result in response.tool_results:
        yield ToolResultEvent(
            response_id=response.id,
            call_id=result.call_id,
            name=result.name,
            output=result.output,
            error=result.error,
        )
    if response.ended:
        yield EndEvent(
            response_id=response.id,
            state=response.state,
            finish_reason=response.finish_reason,
            usage=response.usage,
            error=response.error,
        )


class _Writer:
    """Writes the events of a replay into a channel, under ids of their own."""

    def __init__(self, sink: Sink, channel: str | None) -> None:
        self._sink = sink
        self._channel = channel
        self._response: ResponseWriter | None = None

    def show(self, event: Event) -> None:
        if isinstance(event, StartEvent):
            self.close()
            self._response = self._sink.respond(self._channel, metadata=event.metadata)
        elif self._response is not None:
            self._write(self._response, event)

    def _write(self, response: ResponseWriter, event: Event) -> None:
        if isinstance(event, PartEvent):
            self._part = response.part(
                event.kind, name=event.name, call_id=event.call_id, data=event.data
            )
        elif isinstance(event, DeltaEvent):
            self._part.write(event.text)
        elif isinstance(event, ToolResultEvent):
            response.tool_result(event.call_id, event.output, name=event.name, error=event.error)
        elif isinstance(event, EndEvent):
            if event.state == "complete":
                response.finish(event.finish_reason, event.usage)
            elif event.state == "cancelled":
                response.cancel(event.error)
            else:
                response.fail(event.error or event.state)

    def close(self) -> None:
        if self._response is not None and not self._response.ended:
            self._response.abandon("the replay broke off")
