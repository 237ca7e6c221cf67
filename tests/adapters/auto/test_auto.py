"""`auto.install`: everything at once, each token once, and away again."""

import subprocess
import sys
from typing import Any

import pytest

import tokenwire
from tests.adapters.anthropic.clients import client as anthropic_client
from tests.adapters.openai.clients import client as openai_client
from tests.support.recordings import named
from tests.support.replay import Gate, Replay, Reply
from tests.support.sdk import check, responses
from tokenwire import Sink
from tokenwire_adapters import anthropic as anthropic_adapter
from tokenwire_adapters import auto
from tokenwire_adapters import openai as openai_adapter

CHAT = named("chat-text")
MESSAGE = named("anthropic-text")


def chat(replay: Replay) -> None:
    with openai_client(replay) as on:
        list(on.chat.completions.create(model="m", messages=[], stream=True))


def message(replay: Replay) -> None:
    with anthropic_client(replay) as on:
        list(on.messages.create(model="m", max_tokens=9, messages=[], stream=True))


def test_every_client_is_recorded(sink: Sink) -> None:
    undo = auto.install(sink, channel="c")
    with Replay(CHAT.body) as replay:
        chat(replay)
    with Replay(MESSAGE.body) as replay:
        message(replay)
    one, other = responses(sink, "c")
    check(one, CHAT.expected)
    check(other, MESSAGE.expected)
    undo()
    with Replay(CHAT.body) as replay:
        chat(replay)
    assert len(responses(sink, "c")) == 2


@pytest.mark.parametrize("on_cancel", [None, "end", "raise"])
def test_what_a_cancel_does(sink: Sink, on_cancel: Any) -> None:
    auto.install(sink, channel="c", on_cancel=on_cancel)
    gate = Gate(2)
    with Replay(Reply(CHAT.body, gate=gate)) as replay, openai_client(replay) as on:
        stream = on.chat.completions.create(model="m", messages=[], stream=True)
        next(stream)
        (response,) = [event.response_id for event in _started(sink)]
        assert sink.cancel("c", response or "").state == "cancelled"
        gate.open()
        if on_cancel == "raise":
            with pytest.raises(tokenwire.ResponseCancelled):
                list(stream)
        else:
            list(stream)


def _started(sink: Sink) -> list[tokenwire.Event]:
    with sink.watch("c", rewind="all") as watch:
        return [next(watch)]


def test_what_a_cancel_does_is_checked(sink: Sink) -> None:
    with pytest.raises(ValueError, match="on_cancel"):
        auto.install(sink, on_cancel="explode")  # type: ignore[arg-type]


def test_the_context_names_the_channel(sink: Sink) -> None:
    auto.install(sink)
    with Replay(CHAT.body) as replay, tokenwire.channel("here"):
        chat(replay)
    assert len(responses(sink, "here")) == 1


def test_installing_again_and_undoing(sink: Sink) -> None:
    first = auto.install(sink, channel="a")
    second = auto.install(sink, channel="b")
    first()  # is not the one installed any more
    with Replay(CHAT.body) as replay:
        chat(replay)
        second()
        second()
        chat(replay)
    auto.uninstall()
    assert responses(sink, "a") == []
    assert len(responses(sink, "b")) == 1


def test_with_a_wrapped_client_and_a_wrapped_stream(sink: Sink) -> None:
    """Each token once; what the wrap named counts."""
    auto.install(sink, channel="auto")
    with Replay(CHAT.body) as replay, openai_client(replay) as on:
        openai_adapter.wrap(on, sink, channel="mine")
        stream = on.chat.completions.create(model="m", messages=[], stream=True)
        list(openai_adapter.wrap(stream, sink, channel="other"))
    (response,) = responses(sink, "mine")
    check(response, CHAT.expected)
    assert responses(sink, "auto") == responses(sink, "other") == []


def test_with_a_wrapped_anthropic_helper(sink: Sink) -> None:
    auto.install(sink, channel="auto")
    with Replay(MESSAGE.body) as replay, anthropic_client(replay) as on:
        helper = on.messages.stream(model="m", max_tokens=9, messages=[])
        with anthropic_adapter.wrap(helper, sink, channel="other") as stream:
            assert stream.get_final_text() == MESSAGE.expected.text
    (response,) = responses(sink, "auto")
    check(response, MESSAGE.expected)
    assert responses(sink, "other") == []


def test_disabled(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENWIRE_DISABLED", "1")
    auto.install(sink, channel="c")()
    with Replay(CHAT.body) as replay:
        chat(replay)
    assert responses(sink, "c") == []


@pytest.mark.slow
def test_uninstalling_puts_the_sdks_back() -> None:
    _python(
        """
import anthropic, openai
from tokenwire_adapters import auto
streams = (openai.Stream, openai.AsyncStream, anthropic.Stream, anthropic.AsyncStream)
auto.install()
assert all(hasattr(place.__stream__, "__wrapped__") for place in streams)
auto.uninstall()
assert not any(hasattr(place.__stream__, "__wrapped__") for place in streams)
"""
    )


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["openai", "anthropic", "langchain_core", "llama_index.core"])
def test_frameworks_are_not_imported_but_instrumented_once_they_are(framework: str) -> None:
    adapter = {"langchain_core": "langchain", "llama_index.core": "llama_index"}.get(
        framework, framework
    )
    program = f"""
import sys
from tokenwire_adapters import auto
auto.install()
for name in ("openai", "anthropic", "langchain_core", "llama_index", "tokenwire", "msgspec"):
    assert name not in sys.modules, name
import {framework}
assert "tokenwire_adapters.{adapter}" in sys.modules
import importlib.util
assert importlib.util.find_spec("{framework}").loader is {framework}.__loader__
assert type({framework}.__loader__).__module__.startswith("importlib") or "frozen" in type(
    {framework}.__loader__
).__module__, type({framework}.__loader__)
from tokenwire_adapters._agents.imports import _ImportWatcher
(watcher,) = [finder for finder in sys.meta_path if isinstance(finder, _ImportWatcher)]
assert "{framework}" not in watcher._callbacks
auto.uninstall()
assert not [finder for finder in sys.meta_path if "tokenwire" in type(finder).__module__]
"""
    _python(program)


def test_entry_points_are_read_with_the_first_package() -> None:
    """Reading them takes longer than the start of a program that needs no package at all."""
    _python(
        """
import sys
from tokenwire_adapters import auto
auto.install()
import json, concurrent.futures
(watcher,) = [finder for finder in sys.meta_path if type(finder).__name__ == "_ImportWatcher"]
assert watcher._callbacks is None
import msgspec
assert {"openai", "anthropic", "langchain_core", "llama_index.core"} <= set(watcher._callbacks)
"""
    )


@pytest.mark.slow
def test_an_instrumentor_that_cannot_stop_keeps_no_other_from_it() -> None:
    program = """
import openai, anthropic
from tokenwire_adapters import auto
from tokenwire_adapters.openai import instrumentor
auto.install()
def stop():
    raise RuntimeError("broken")
instrumentor.stop = stop
auto.uninstall()
assert not hasattr(anthropic.Stream.__stream__, "__wrapped__")
"""
    assert "cannot stop openai" in _python(program)


@pytest.mark.slow
def test_missing_frameworks_are_fine() -> None:
    program = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("openai", "anthropic", "langchain_core", "llama_index"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Missing())
from tokenwire_adapters import auto
undo = auto.install()
try:
    import openai
except ModuleNotFoundError as error:
    assert error.name == "openai"
else:
    raise AssertionError
undo()
"""
    _python(program)


@pytest.mark.slow
def test_an_adapter_that_fails_leaves_the_import_alone() -> None:
    program = """
import sys
sys.modules["tokenwire_adapters.openai"] = None
from tokenwire_adapters import auto
auto.install()
import openai
assert openai.OpenAI
"""
    assert "cannot instrument openai" in _python(program)


def _python(program: str) -> str:
    done: Any = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=270, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr
