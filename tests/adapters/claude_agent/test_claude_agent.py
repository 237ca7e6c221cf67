"""Claude's agent SDK: a stand-in for its program speaks over stdio; each turn is a response."""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tokenwire
from tests.support.sdk import ended, fresh_sink, responses
from tokenwire import Sink
from tokenwire_adapters import auto
from tokenwire_adapters.claude_agent import unwrap, wrap

sdk: Any = pytest.importorskip("claude_agent_sdk")

PROGRAM = """#!{python}
import json, sys
def send(message):
    print(json.dumps(message), flush=True)
events = json.loads(open({path!r}).read())
for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "control_request":
        answer = {{"subtype": "success", "request_id": message["request_id"], "response": {{}}}}
        send({{"type": "control_response", "response": answer}})
        if message["request"]["subtype"] == "interrupt":
            send({{**{result!r}, "terminal_reason": "aborted_streaming"}})
    elif message["type"] == "user":
        for event in events:
            send(event)
"""

USAGE = {"input_tokens": 3, "output_tokens": 2}
RESULT: dict[str, Any] = {
    "type": "result",
    "subtype": "success",
    "duration_ms": 1,
    "duration_api_ms": 1,
    "is_error": False,
    "num_turns": 1,
    "session_id": "s",
    "usage": USAGE,
    "stop_reason": "end_turn",
}


def whole(message_id: str, *blocks: dict[str, Any]) -> dict[str, Any]:
    message = {"id": message_id, "model": "m", "role": "assistant", "content": list(blocks)}
    return {"type": "assistant", "message": message, "session_id": "s", "parent_tool_use_id": None}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def partial(**event: Any) -> dict[str, Any]:
    return {
        "type": "stream_event",
        "uuid": "u",
        "session_id": "s",
        "parent_tool_use_id": None,
        "event": event,
    }


CALL = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}
ANSWER = {
    "type": "user",
    "session_id": "s",
    "parent_tool_use_id": None,
    "message": {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "a b"}],
    },
}
WHOLE = [whole("m1", text("Hel")), whole("m1", CALL), ANSWER, whole("m2", text("lo")), RESULT]
PARTIAL = [
    partial(type="message_start", message={"id": "m1", "usage": {}}),
    partial(type="content_block_start", index=0, content_block=text("")),
    partial(type="content_block_delta", index=0, delta={"type": "text_delta", "text": "Hel"}),
    partial(type="content_block_stop", index=0),
    whole("m1", text("Hel")),
    partial(type="content_block_start", index=1, content_block={**CALL, "input": {}}),
    partial(
        type="content_block_delta",
        index=1,
        delta={"type": "input_json_delta", "partial_json": '{"command": "ls"}'},
    ),
    partial(type="content_block_stop", index=1),
    whole("m1", CALL),
    partial(type="message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 1}),
    partial(type="message_stop"),
    ANSWER,
    partial(type="message_start", message={"id": "m2", "usage": {}}),
    partial(type="content_block_start", index=0, content_block=text("")),
    partial(type="content_block_delta", index=0, delta={"type": "text_delta", "text": "lo"}),
    partial(type="content_block_stop", index=0),
    whole("m2", text("lo")),
    partial(type="message_stop"),
    RESULT,
]


@pytest.fixture
def sink() -> Iterator[Sink]:
    with fresh_sink() as sink:
        yield sink


def options(tmp_path: Path, events: list[dict[str, Any]]) -> Any:
    path, program = tmp_path / "events.json", tmp_path / "claude"
    path.write_text(json.dumps(events))
    program.write_text(PROGRAM.format(python=sys.executable, path=str(path), result=RESULT))
    program.chmod(0o755)
    return sdk.ClaudeAgentOptions(cli_path=program, include_partial_messages=True)


def check(response: tokenwire.Response) -> None:
    assert (response.text, response.state) == ("Hello", "complete")
    assert (response.finish_reason, response.usage) == ("end_turn", USAGE)
    [call] = response.tool_calls
    assert (call.name, call.call_id, json.loads(call.arguments)) == (
        "Bash",
        "t1",
        {"command": "ls"},
    )
    assert [(result.call_id, result.output) for result in response.tool_results] == [("t1", "a b")]


@pytest.mark.parametrize("events", [WHOLE, PARTIAL], ids=["whole", "partial"])
def test_query(sink: Sink, tmp_path: Path, events: list[dict[str, Any]]) -> None:
    async def main() -> int:
        return len([m async for m in sdk.query(prompt="hi", options=options(tmp_path, events))])

    undo = auto.install(sink, channel="c")
    try:
        assert asyncio.run(main()) == len(events)
    finally:
        undo()
    check(ended(sink, "c"))
    assert len(responses(sink, "c")) == 1


@pytest.mark.parametrize("events", [WHOLE, PARTIAL], ids=["whole", "partial"])
def test_a_client(sink: Sink, tmp_path: Path, events: list[dict[str, Any]]) -> None:
    async def main() -> None:
        async with wrap(
            sdk.ClaudeSDKClient(options(tmp_path, events)), sink, channel="c"
        ) as client:
            for _ in range(2):
                await client.query("hi")
                assert len([m async for m in client.receive_response()]) == len(events)
            unwrap(client)
            await client.query("hi")
            assert len([m async for m in client.receive_response()]) == len(events)

    asyncio.run(main())
    for response in responses(sink, "c"):
        check(response)
    assert len(responses(sink, "c")) == 2


def test_a_cancel_interrupts_the_turn(sink: Sink, tmp_path: Path) -> None:
    async def main() -> str:
        agent = options(tmp_path, [whole("m1", text("Hel"))])
        async with wrap(sdk.ClaudeSDKClient(agent), sink, channel="c") as client:
            await client.query("hi")
            last = None
            async for message in client.receive_response():
                if last is None:
                    response = responses(sink, "c")[0]
                    assert await asyncio.to_thread(sink.cancel, "c", response.id)
                last = message
            return type(last).__name__

    assert asyncio.run(main()) == "ResultMessage"
    assert (ended(sink, "c").state, ended(sink, "c").text) == ("cancelled", "Hel")


def test_an_error(sink: Sink, tmp_path: Path) -> None:
    error = {**RESULT, "is_error": True, "subtype": "error_during_execution", "errors": ["oh"]}

    async def main() -> None:
        agent = options(tmp_path, [whole("m1", text("Hel")), error])
        async with wrap(sdk.ClaudeSDKClient(agent), sink, channel="c") as client:
            await client.query("hi")
            async for _ in client.receive_response():
                pass

    asyncio.run(main())
    assert (ended(sink, "c").state, ended(sink, "c").error) == ("failed", "oh")
