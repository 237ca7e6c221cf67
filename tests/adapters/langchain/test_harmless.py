"""Nothing of ours can break the agent, and nothing is kept of what never ends."""

from __future__ import annotations

import copy
import logging
import threading
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.outputs import LLMResult
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool

import tokenwire
from tokenwire.testing import FaultyBackend
from tokenwire_adapters import langchain as adapter
from tokenwire_adapters._agents import calls as _calls
from tokenwire_adapters._agents.langchain import runs, tools
from tokenwire_adapters.langchain import TokenwireCallbackHandler


class _Raising:
    """A sink that fails at every step."""

    strict = False

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name} today")


class _RaisingWriter:
    channel, id, run, cancelled, ended, cancel_reason = "c", "r", "r", False, False, None

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name} today")


class _RaisingLater:
    """A sink whose writers fail."""

    strict = False

    def respond(self, *args: Any, **kwargs: Any) -> Any:
        return _RaisingWriter()

    def tool_result(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no results today")


def _agent(model: Any) -> Any:
    @tool
    def shout(text: str) -> str:
        """Shout."""
        return text.upper()

    def use(message: Any) -> Any:
        call = {"name": "shout", "args": {"text": message.content}, "id": "c1", "type": "tool_call"}
        return shout.invoke(call).content

    return model | RunnableLambda(use)


@pytest.mark.parametrize("make", [_Raising, _RaisingLater])
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_sink_that_raises(
    make: Any, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    adapter._reporter._log._logged_at.clear()  # the same thing is logged once a minute
    agent = _agent(FakeListChatModel(responses=["hello"]))
    config: Any = {"callbacks": [TokenwireCallbackHandler(make(), channel="c")]}
    with caplog.at_level(logging.WARNING, "tokenwire"):
        if is_async:
            assert [each async for each in agent.astream("hi", config)] == ["HELLO"]
        else:
            assert list(agent.stream("hi", config)) == ["HELLO"]
    assert "the LangChain handler" in caplog.text
    assert not any("Error in" in record.message for record in caplog.records)


def test_a_sink_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENWIRE_URL", "nonsense://nowhere")
    monkeypatch.setattr("tokenwire.opening._default", None)
    agent = _agent(FakeListChatModel(responses=["hello"]))
    config: Any = {"callbacks": [TokenwireCallbackHandler()]}
    assert list(agent.stream("hi", config)) == ["HELLO"]
    assert not adapter._runs.calls


def test_a_sink_that_is_closed() -> None:
    sink = tokenwire.open_sink("memory://closed")
    sink.close()
    agent = _agent(FakeListChatModel(responses=["hello"]))
    assert list(agent.stream("hi", {"callbacks": [TokenwireCallbackHandler(sink)]})) == ["HELLO"]


def test_functions_that_raise() -> None:
    def fail(*args: Any) -> Any:
        raise RuntimeError("no")

    with tokenwire.open_sink("memory://fail") as sink:
        handler = TokenwireCallbackHandler(sink, channel=fail, metadata=fail)
        agent = _agent(FakeListChatModel(responses=["hello"]))
        assert list(agent.stream("hi", {"callbacks": [handler]})) == ["HELLO"]


def test_a_backend_that_hangs() -> None:
    backend = FaultyBackend(tokenwire.MemoryBackend())
    backend.stall()
    sink = tokenwire.open_sink(backend, close_timeout=0.1)
    try:
        agent = _agent(FakeListChatModel(responses=["hello"]))
        done = threading.Event()

        def run() -> None:
            config: Any = {"callbacks": [TokenwireCallbackHandler(sink, channel="c")]}
            assert list(agent.stream("hi", config)) == ["HELLO"]
            done.set()

        threading.Thread(target=run, daemon=True).start()
        assert done.wait(60)
    finally:
        sink.close()


def test_a_strict_sink_raises() -> None:
    class Strict(_Raising):
        strict = True

    model = FakeListChatModel(responses=["hello"])
    with pytest.raises(RuntimeError, match="today"):
        model.invoke("hi", {"callbacks": [TokenwireCallbackHandler(Strict())]})  # type: ignore[arg-type]


def test_copies_are_the_same_handler() -> None:
    handler = TokenwireCallbackHandler()
    assert copy.copy(handler) is copy.deepcopy(handler) is handler


def test_what_never_ends_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_calls, "MAX_CALLS", 10)
    monkeypatch.setattr(adapter, "_runs", runs.Runs(adapter._reporter))
    monkeypatch.setattr(adapter, "_tool_runs", tools.ToolRuns())
    monkeypatch.setattr(adapter, "_tool_calls", _calls.ToolCalls())
    held = []
    with tokenwire.open_sink("memory://bounded") as sink:
        handler = TokenwireCallbackHandler(sink, channel="c")
        for _ in range(30):
            root, model, tool_run = uuid4(), uuid4(), uuid4()
            held.append((root, model, tool_run))
            handler.on_chain_start({}, {}, run_id=root)
            handler.on_chat_model_start({}, [[]], run_id=model, parent_run_id=root)
            handler.on_llm_new_token("x", run_id=model)
            handler.on_tool_start({}, "", run_id=tool_run, tool_call_id="c")
        assert len(adapter._runs.calls) == len(adapter._tool_runs.running) == 10
        assert len(adapter._runs.nodes) == 10
        states = [each.state for each in sink.history("c", limit=100).items]
        assert states.count("streaming") == 10
        assert states.count("cancelled") == 20
        del root, model, tool_run
        held.clear()  # what nobody holds any more is over
        assert not adapter._runs.calls


def test_events_of_calls_that_are_not_known() -> None:
    handler = TokenwireCallbackHandler()
    handler.on_llm_new_token("x", run_id=uuid4())
    handler.on_stream_event({"event": "message-start"}, run_id=uuid4())
    handler.on_llm_end(LLMResult(generations=[]), run_id=uuid4())
    handler.on_llm_error(ValueError(), run_id=uuid4())
    handler.on_tool_end("x", run_id=uuid4())
    handler.on_tool_error(ValueError(), run_id=uuid4())
    handler.on_chain_error(ValueError(), run_id=uuid4())
