"""The fixtures of the pytest plugin in test runs of their own: how they work, what failures say."""

from __future__ import annotations

import pytest

from tests.support.needs import needs
from tests.support.plugins import LEAN

needs("openai")

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.slow  # each is a test run of its own

AGENT = """
    import tokenwire
    from openai import OpenAI
    from tokenwire_adapters.openai import wrap

    def run_my_agent(url="redis://production.example:6379", channel="chat-42"):
        sink = tokenwire.open_sink(url) if url else tokenwire.open_sink()
        with OpenAI() as client:
            wrapped = wrap(client, sink, channel=channel)
            stream = wrapped.chat.completions.create(
                model="any", stream=True, messages=[{"role": "user", "content": "Hi"}]
            )
            for _ in stream:
                pass
        sink.close()
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Run a file of tests in a process of its own."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makepyfile(agent=AGENT)

    def run_tests(source: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(test_it=source)
        return pytester.runpytest_subprocess(*LEAN, *options)

    return run_tests


def test_an_application_that_opens_any_sink_is_read(run):
    run(
        """
        import pytest
        import tokenwire
        from tokenwire.testing import assert_nothing_streamed, assert_streamed
        from agent import run_my_agent

        @pytest.mark.parametrize("url", ["redis://production.example:6379", "memory://", None])
        def test_streams(tokenwire_sink, tokenwire_provider, url):
            tokenwire_provider.script("Hello, world")
            assert_nothing_streamed("chat-42")  # a fresh store for each test
            run_my_agent(url)
            response = assert_streamed("chat-42", text="Hello, world")
            assert response.metadata["model"] == "any"
            assert tokenwire_sink.history("chat-42").items == (response,)

        def test_the_default_sink(tokenwire_sink):
            assert tokenwire.default_sink() is tokenwire_sink

        def test_stores_of_a_name_are_left_alone(tokenwire_sink):
            with tokenwire.open_sink("memory://mine") as sink:
                sink.respond("chat-42").finish()
            assert_nothing_streamed("chat-42")

        def test_problems_raise_in_the_application_too(tokenwire_sink):
            with tokenwire.open_sink() as sink, pytest.raises(tokenwire.InvalidName):
                sink.respond("")

        def test_a_granularity_is_taken_over(tokenwire_sink):
            with tokenwire.open_sink("redis://x", granularity="token") as sink:
                assert sink.backend.granularity == "token"
                sink.respond("chat-42").finish()
                with pytest.raises(ValueError, match="granularity 'token' already"):
                    tokenwire.open_sink("redis://x", granularity="response")
        """
    ).assert_outcomes(passed=7)


def test_all_kinds_of_asynchronous_tests(run):
    source = """
        import asyncio
        import pytest
        from tokenwire.testing import assert_streamed
        from agent import run_my_agent

        @pytest.mark.{mark}
        async def test_streams(tokenwire_sink, tokenwire_provider{arguments}):
            tokenwire_provider.script("Hello")
            await asyncio.to_thread(run_my_agent)
            await asyncio.to_thread(assert_streamed, "chat-42", text="Hello")
            async with tokenwire_sink.respond("chat-42") as response:
                response.write("there")
            page = await tokenwire_sink.ahistory("chat-42")
            assert [one.text for one in page.items] == ["there", "Hello"]
            assert_streamed("chat-42", text="there")
    """
    run(source.format(mark="asyncio", arguments="")).assert_outcomes(passed=1)
    done = run(
        source.format(mark="anyio", arguments=", anyio_backend")
        + """
        @pytest.fixture
        def anyio_backend():
            return "asyncio"
        """
    )
    done.assert_outcomes(passed=1)


def test_many_workers(run):
    run(
        """
        import pytest
        from tokenwire.testing import assert_streamed
        from agent import run_my_agent

        @pytest.mark.parametrize("n", range(8))
        def test_streams(tokenwire_sink, tokenwire_provider, n):
            tokenwire_provider.script(f"Hello {n}")
            run_my_agent()
            assert_streamed("chat-42", text=f"Hello {n}")
            assert len(tokenwire_sink.history("chat-42").items) == 1
        """,
        "-n",
        "2",
    ).assert_outcomes(passed=8)


def test_what_models_do(run):
    run(
        """
        import pytest
        from openai import OpenAI, APIError
        from tokenwire.testing import assert_streamed
        from tokenwire_adapters.openai import wrap
        from tokenwire_adapters.testing.provider import (
            ScriptedError, ScriptedRecording, ScriptedReply,
        )

        @pytest.fixture
        def ask(tokenwire_sink, tokenwire_provider):
            with OpenAI(max_retries=0) as client:
                wrapped = wrap(client, tokenwire_sink, channel="chat-42")

                def ask(reply, **options):
                    tokenwire_provider.script(reply)
                    stream = wrapped.chat.completions.create(
                        model="any", stream=True, messages=[{"role": "user", "content": "Hi"}],
                        **options,
                    )
                    for _ in stream:
                        pass

                yield ask

        def test_tools_and_reasoning(ask):
            ask(ScriptedReply(reasoning="Hm.", text="Let me see.", tool_calls=[("f", {"n": 1})]))
            assert_streamed("chat-42", text="Let me see.", reasoning="Hm.", tools={"f": {"n": 1}})
            assert_streamed("chat-42", tools=["f"])

        def test_an_error_midway(ask):
            error = ScriptedError(status=503, message="The model is overloaded.")
            with pytest.raises(APIError):
                ask(ScriptedReply(text=["It ", "rains"], error_after=1, error=error))
            assert_streamed("chat-42", text="It ", ended="failed", error="The model is overloaded.")

        def test_a_stall(ask, tokenwire_sink):
            for timeout in (0.5, 10, 60):  # longer, where the machine is so slow
                with pytest.raises(Exception):
                    ask(ScriptedReply(text=["It ", "rains"], stall_after=1), timeout=timeout)
                if tokenwire_sink.history("chat-42").items[0].text:
                    break
            assert_streamed("chat-42", text="It ", ended="failed")

        def test_a_hang_up(ask):
            with pytest.raises(Exception):
                ask(ScriptedReply(text=["It ", "rains"], disconnect_after=1))
            assert_streamed("chat-42", text="It ", ended="failed")

        def test_a_recording(ask, tmp_path):
            event = '{"choices":[{"index":0,"delta":{"content":"Hi"}}]}'
            end = '{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
            path = tmp_path / "reply.sse"
            path.write_text(f"data: {event}\\n\\ndata: {end}\\n\\ndata: [DONE]\\n\\n")
            ask(ScriptedRecording(path))
            assert_streamed("chat-42", text="Hi")

        def test_wrong_scripts(tokenwire_provider, tmp_path):
            with pytest.raises(TypeError, match="a script has strings, ScriptedReply"):
                tokenwire_provider.script({"text": "Hello"})
            with pytest.raises(ValueError, match="give one of disconnect_after, stall_after"):
                ScriptedReply(text="x", disconnect_after=1, stall_after=1)
            with pytest.raises(ValueError, match="there is no recording"):
                ScriptedRecording(tmp_path / "none.sse")
            with pytest.raises(ValueError, match="a file of a type among .sse"):
                ScriptedRecording(tmp_path / "reply.txt")
        """
    ).assert_outcomes(passed=6)


def test_faults(run):
    run(
        """
        import pytest
        import tokenwire
        from tokenwire.testing import Deliver, FaultyBackend, Publish, assert_streamed

        def test_faults_reach_the_application(tokenwire_sink, tokenwire_faults):
            with tokenwire.open_sink("redis://x") as sink:
                tokenwire_faults.publish(Publish.FAIL, Publish.LOSE_REPLY, Publish.TWICE)
                with sink.respond("chat-42") as response:
                    response.write("Hello")
                assert response.wait(30).status in ("delivered", "recovered")
                assert response.wait(0).retries > 0
            assert_streamed("chat-42", text="Hello")

        def test_a_stall_ends(tokenwire_sink, tokenwire_faults):
            tokenwire_faults.stall()
            with tokenwire_sink.respond("chat-42") as response:
                response.write("Hello")
            assert response.wait(0.05).status == "pending"
            tokenwire_faults.unstall()
            assert response.wait(30).status in ("delivered", "recovered")

        def test_watchers_lose_nothing(tokenwire_sink, tokenwire_faults):
            with tokenwire_sink.watch("chat-42") as watch:
                tokenwire_faults.deliver(Deliver.DROP, Deliver.TWICE)
                tokenwire_sink.respond("chat-42").finish()
                assert [next(watch).type for _ in range(2)] == ["start", "end"]

        @pytest.mark.parametrize("script", [["fail"], "FAIL", [Deliver.OK], Publish.FAIL, [None]])
        def test_a_wrong_script(tokenwire_faults, script):
            with pytest.raises(TypeError, match="testing.Publish .Publish.OK, Publish.FAIL"):
                FaultyBackend(tokenwire.MemoryBackend(), publish=script)
            with pytest.raises(TypeError, match="Publish.FAIL"):
                tokenwire_faults.publish(*(script if isinstance(script, list) else ["fail"]))
            with pytest.raises(TypeError, match="tokenwire.testing.Deliver"):
                tokenwire_faults.deliver("drop")
        """
    ).assert_outcomes(passed=8)


def test_a_failure_prints_the_transcript(run):
    done = run(
        """
        from tokenwire.testing import assert_nothing_streamed, assert_streamed

        def write(sink):
            with sink.respond("chat-42", response_id="r1") as response:
                response.write("Hm.", kind="reasoning")
                response.tool_call("search", "c1", '{"q": 1}')
                response.write("Hello")
                response.tool_result("c1", {"hits": 2})

        def test_text(tokenwire_sink):
            write(tokenwire_sink)
            assert_streamed("chat-42", text="Help")

        def test_tools(tokenwire_sink):
            write(tokenwire_sink)
            assert_streamed("chat-42", tools={"search": {"q": 2}})

        def test_state(tokenwire_sink):
            write(tokenwire_sink)
            assert_streamed("chat-42", ended="cancelled")

        def test_still_streaming(tokenwire_sink):
            tokenwire_sink.respond("chat-42", response_id="r1").write("so far")
            assert_streamed("chat-42", timeout=0.1)

        def test_something(tokenwire_sink):
            write(tokenwire_sink)
            assert_nothing_streamed("chat-42")
        """
    )
    done.assert_outcomes(failed=5)
    done.stdout.fnmatch_lines(
        [
            "*response 'r1' of channel 'chat-42': its text is 'Hello', not 'Help'; they*3 on",
            "*transcript of channel 'chat-42':",
            "*  r1 · complete",
            "*    reasoning: 'Hm.'",
            "*    tool_call search: '{\"q\": 1}'",
            "*    text: 'Hello'",
            "*    → c1: \"{'hits': 2}\"",
            "*it calls search with {'q': 1}, not {'q': 2}",
            "*its state is 'complete', not 'cancelled'",
            "*its state is 'streaming', not 'complete'",
            "*channel 'chat-42' has responses",
        ]
    )


def test_a_failure_says_why_there_may_be_nothing(run):
    done = run(
        """
        from tokenwire.testing import assert_streamed

        def test_not_wrapped(tokenwire_sink, tokenwire_provider):
            from openai import OpenAI
            OpenAI().chat.completions.create(
                model="any", messages=[{"role": "user", "content": "Hi"}]
            )
            assert_streamed("chat-42", text="Hello")

        def test_another_channel(tokenwire_sink, tokenwire_provider):
            from agent import run_my_agent
            run_my_agent(channel="chat-41")
            assert_streamed("chat-42", text="Hello")

        def test_another_id(tokenwire_sink):
            tokenwire_sink.respond("chat-42", response_id="r1").finish()
            assert_streamed("chat-42", response_id="r2")
        """
    )
    done.assert_outcomes(failed=3)
    done.stdout.fnmatch_lines(
        [
            "*nothing was published in channel 'chat-42'",
            "*what was recorded:",
            "*  openai: imported, and nothing reads it",
            "*wrap the client (tokenwire_adapters.openai.wrap, say), or call*",
            "*channels that have something (responses): 'chat-41' (1)",
            "*  openai: *",
            "*assert on the channel that the program publishes to, or have it name this one",
            "*channel 'chat-42' has no response 'r2'",
        ]
    )
