"""Assertions about what an agent streamed, whose failures show the transcript."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

import msgspec

from tokenwire.errors import NotSupported
from tokenwire.events import Event, Response, State, ends_response
from tokenwire.opening import default_sink
from tokenwire.sink import Page, Sink
from tokenwire.testing.listening import listening_layers
from tokenwire.testing.producers import read_until

__all__ = ["assert_nothing_streamed", "assert_streamed", "transcript"]

_LONGEST = 2000  # characters of a text in a message


def assert_streamed(
    channel: str,
    *,
    text: str | re.Pattern[str] | None = None,
    reasoning: str | re.Pattern[str] | None = None,
    ended: State | Literal["streaming"] | None = "complete",
    tools: Sequence[str] | Mapping[str, Any] | None = None,
    error: str | re.Pattern[str] | None = None,
    response_id: str | None = None,
    sink: Sink | None = None,
    timeout: float = 5.0,
) -> Response:
    """Assert what the newest response of a channel is, and return it. Blocks.

    What the sink has not yet published is flushed, and a response that is to have ended is waited
    for.

    :param text: its text, or a pattern that is found in it; `reasoning` and `error` likewise.
    :param ended: the state it is in at the end; None for any, ``"streaming"`` for not ended.
    :param tools: the names of the tools it calls, in order; or names with their arguments, parsed.
    :param response_id: this response rather than the newest.
    :param sink: by default the process's, which the fixture ``tokenwire_sink`` replaces.
    :param timeout: how long to wait, in seconds.
    :raises AssertionError: with the transcript of the channel; when nothing was published, with
        the channels that have something and the layers that were listening.
    """
    __tracebackhide__ = True
    sink = sink or default_sink()
    response = _newest(sink, channel, response_id, timeout)
    if response is None:
        raise AssertionError(_nothing(sink, channel, response_id))
    if not response.ended and ended not in (None, "streaming"):
        response = _wait(sink, channel, response, timeout)
    problem = (
        _wrong("text", response.text, text)
        or _wrong("reasoning", response.reasoning, reasoning)
        or _wrong("error", response.error or "", error)
        or _wrong_tools(response, tools)
    )
    if problem is None and ended is not None and response.state != ended:
        problem = f"its state is {response.state!r}, not {ended!r}"
    if problem is not None:
        raise AssertionError(
            f"response {response.id!r} of channel {channel!r}: {problem}\n"
            f"{transcript(channel, sink=sink)}"
        )
    return response


def assert_nothing_streamed(channel: str, *, sink: Sink | None = None) -> None:
    """Assert that a channel has no response.

    :param sink: as in `assert_streamed`.
    :raises AssertionError: with the transcript.
    """
    __tracebackhide__ = True
    sink = sink or default_sink()
    if _newest(sink, channel, None, 5.0) is not None:
        raise AssertionError(f"channel {channel!r} has responses\n{transcript(channel, sink=sink)}")


def transcript(channel: str, *, sink: Sink | None = None) -> str:
    """The responses of a channel as text, oldest first: states, parts, tool results.

    :param sink: as in `assert_streamed`.
    """
    sink = sink or default_sink()
    lines = [f"transcript of channel {channel!r}:"]
    page: Page | None = sink.history(channel, limit=50)
    responses: list[Response] = []
    while page is not None and len(responses) < 50:
        responses += page.items
        page = page.next()
    for response in reversed(responses):
        lines += _described(response)
    return "\n".join(lines)


def _newest(sink: Sink, channel: str, response_id: str | None, timeout: float) -> Response | None:
    sink.flush(timeout)
    page: Page | None = sink.history(channel, limit=50)
    while page is not None:
        for response in page.items:
            if response_id in (None, response.id):
                return response
        page = page.next()
    return None


def _wait(sink: Sink, channel: str, response: Response, timeout: float) -> Response:
    """The response once it has ended, or as it is after the timeout."""

    def has_ended(event: Event) -> bool:
        return event.response_id == response.id and ends_response(event)

    watch = sink.watch(channel, response_id=response.id)
    try:
        with suppress(TimeoutError, AssertionError):
            read_until(watch, has_ended, timeout=timeout)
    finally:
        watch.close()
    return _newest(sink, channel, response.id, timeout) or response


def _wrong(what: str, value: str, expected: str | re.Pattern[str] | None) -> str | None:
    if expected is None:
        return None
    if isinstance(expected, re.Pattern):
        if expected.search(value):
            return None
        return f"its {what} is {_short(value)}, in which {expected.pattern!r} is not found"
    if value == expected:
        return None
    same = next(
        (n for n, (a, b) in enumerate(zip(value, expected, strict=False)) if a != b),
        min(len(value), len(expected)),
    )
    return (
        f"its {what} is {_short(value)}, not {_short(expected)};"
        f" they differ from character {same} on"
    )


def _wrong_tools(
    response: Response, expected: Sequence[str] | Mapping[str, Any] | None
) -> str | None:
    if expected is None:
        return None
    if isinstance(expected, str):
        raise TypeError("tools is a list of names, or a dict of names and arguments")
    names = [call.name for call in response.tool_calls]
    if names != list(expected):
        return f"it calls the tools {names}, not {list(expected)}"
    if isinstance(expected, Mapping):
        for call in response.tool_calls:
            wanted, arguments = expected[call.name or ""], _parsed(call.arguments)
            if arguments != wanted:
                return f"it calls {call.name} with {arguments!r}, not {wanted!r}"
    return None


def _parsed(arguments: str) -> Any:
    try:
        return msgspec.json.decode(arguments or "{}")
    except msgspec.DecodeError:
        return arguments


def _nothing(sink: Sink, channel: str, response_id: str | None) -> str:
    """Why there may be nothing: it went elsewhere, or nobody read what the model said."""
    if response_id is not None:
        return (
            f"channel {channel!r} has no response {response_id!r}\n{transcript(channel, sink=sink)}"
        )
    lines = [f"nothing was published in channel {channel!r}"]
    try:
        others = [f"{one.name!r} ({one.responses or 0})" for one in sink.list_channels()]
    except NotSupported:
        others = []
    if others:
        lines.append(f"channels that have something (responses): {', '.join(sorted(others))}")
    layers = listening_layers()
    if layers:
        lines += ["what was recorded:", *(f"  {layer}" for layer in layers)]
    else:
        lines.append("no SDK or framework that tokenwire reads was imported")
    lines.append(
        "assert on the channel that the program publishes to, or have it name this one"
        if others
        else "wrap the client (tokenwire_adapters.openai.wrap, say), or call"
        " tokenwire_adapters.auto.install() before it is made"
    )
    return "\n".join(lines)


def _described(response: Response) -> list[str]:
    head = f"  {response.id} · {response.state}"
    lines = [head + (f" · {response.error}" if response.error else "")]
    for part in response.parts:
        name = f" {part.name}" if part.name else ""
        data = "" if part.data is None else f" {part.data!r}"
        lines.append(f"    {part.kind}{name}:{data} {_short(part.text)}")
    lines += [
        f"    → {result.call_id}: {result.error or _short(str(result.output))}"
        for result in response.tool_results
    ]
    return lines


def _short(text: str) -> str:
    if len(text) <= _LONGEST:
        return repr(text)
    return f"{text[: _LONGEST // 2]!r} … {text[-_LONGEST // 2 :]!r} ({len(text)} characters)"
