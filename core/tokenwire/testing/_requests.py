"""The contract of cancels, inputs, tool results and data events."""

from __future__ import annotations

import asyncio
import threading

from tokenwire.errors import ResponseCancelled
from tokenwire.events import CancelEvent, DataEvent, InputEvent, ToolResultEvent
from tokenwire.testing._base import ContractBase, ended

__all__ = ["RequestsContract"]


class RequestsContract(ContractBase):
    """Promise 4: a cancel stops the producer; and what else travels beside the text."""

    def test_a_cancel_stops_the_producer(self) -> None:
        sink, viewer = self.sink(), self.sink()
        stopped = threading.Event()
        response = sink.respond(self.channel, response_id="r")
        response.add_cancel_callback(stopped.set)
        response.write("so far")
        assert sink.flush(self.patience)
        outcome = viewer.cancel(self.channel, "r", reason="enough", timeout=self.patience)
        assert (outcome.state, outcome.acknowledged) == ("cancelled", True)
        assert stopped.wait(self.patience)
        assert response.cancelled
        assert response.cancel_reason == "enough"
        assert not response.write(" and on")
        kept = viewer.history(self.channel).items[0]
        assert (kept.state, kept.text, kept.error) == ("cancelled", "so far", "enough")

    def test_a_cancel_may_raise_into_the_agent(self) -> None:
        sink, viewer = self.sink(), self.sink()
        with sink.respond(self.channel, response_id="r", on_cancel="raise") as response:
            response.write("so far")
            sink.flush(self.patience)
            viewer.cancel(self.channel, "r", timeout=self.patience)
            self.eventually(lambda: response.cancelled)
            raised = False
            try:
                response.write(" and on")
            except ResponseCancelled as error:
                raised = True
                raise error from None  # the block swallows its own cancel
        assert raised
        assert response.state == "cancelled"

    def test_a_cancel_after_the_end_returns_the_final_state(self) -> None:
        sink = self.sink()
        with sink.respond(self.channel, response_id="r") as response:
            response.write("all")
        response.wait(self.patience)
        assert self.sink().cancel(self.channel, "r").state == "complete"
        assert sink.history(self.channel).items[0].state == "complete"

    def test_a_cancel_may_come_before_the_start(self) -> None:
        sink, viewer = self.sink(), self.sink()
        outcome = viewer.cancel(self.channel, "r", reason="never mind")
        assert (outcome.state, outcome.acknowledged) == ("pending", False)
        response = sink.respond(self.channel, response_id="r")
        self.eventually(lambda: response.cancelled)
        assert response.wait(self.patience).status in ("delivered", "recovered")
        assert viewer.history(self.channel).items[0].state == "cancelled"

    def test_cancels_from_many_are_one(self) -> None:
        sink, viewer = self.sink(), self.sink()
        watch = self.sink().watch(self.channel).open()
        response = sink.respond(self.channel, response_id="r")
        response.write("x")
        sink.flush(self.patience)

        async def all_of_them() -> list[str]:
            cancels = (viewer.acancel(self.channel, "r", timeout=self.patience) for _ in range(5))
            return [outcome.state for outcome in await asyncio.gather(*cancels)]

        assert asyncio.run(all_of_them()) == ["cancelled"] * 5
        viewer.send_event(self.channel, "done")
        events = self.read(watch, lambda event: isinstance(event, DataEvent))
        assert sum(ended("r")(event) for event in events) == 1
        assert any(isinstance(event, CancelEvent) for event in events)

    def test_a_watcher_that_leaves_stops_nothing(self) -> None:
        sink, viewer = self.sink(), self.sink()
        with sink.respond(self.channel, response_id="r") as response:
            watch = viewer.watch(self.channel).open()
            response.write("one ")
            watch.close()
            viewer.close()
            assert response.write("two")
        response.wait(self.patience)
        kept = sink.history(self.channel).items[0]
        assert (kept.state, kept.text) == ("complete", "one two")

    def test_inputs_reach_an_agent_elsewhere(self) -> None:
        agent, viewer = self.sink(), self.sink()

        async def main() -> list[InputEvent]:
            watch = await agent.watch(self.channel, types={"input"}).aopen()
            await viewer.ainput(self.channel, "message", {"text": "Hi"}, sender="u1")
            await viewer.ainput(self.channel, "message", {"text": "there"}, id="i2")
            await viewer.ainput(self.channel, "message", {"text": "there"}, id="i2")
            await viewer.ainput(self.channel, "done")
            inputs: list[InputEvent] = []
            async with asyncio.timeout(self.patience):
                async for event in watch:
                    assert isinstance(event, InputEvent)
                    inputs.append(event)
                    if event.name == "done":
                        return inputs
            raise AssertionError("the watch ended")

        inputs = asyncio.run(main())
        assert [event.name for event in inputs] == ["message", "message", "done"]
        assert inputs[0].data == {"text": "Hi"}
        assert (inputs[0].sender, inputs[1].id) == ("u1", "i2")

    def test_inputs_reach_an_agent_that_starts_later(self) -> None:
        self.sink().input(self.channel, "message", "early")

        async def main() -> InputEvent:
            async for event in self.sink().inputs(self.channel, rewind="all"):
                return event
            raise AssertionError("no input")

        event = asyncio.run(asyncio.wait_for(main(), self.patience))
        assert (event.name, event.data) == ("message", "early")

    def test_tool_results_after_the_end(self) -> None:
        sink = self.sink()
        watch = self.sink().watch(self.channel).open()
        with sink.respond(self.channel, response_id="r", run="run-1") as response:
            response.tool_call("weather", "call-1", "{}")
        sink.tool_result(
            self.channel, "call-1", {"degrees": 7}, response_id="r", run="run-1", name="weather"
        )
        assert sink.flush(self.patience)
        sink.tool_result(self.channel, "call-1", "again", response_id="r")
        sink.tool_result(self.channel, "call-2", error="no such tool", response_id="r")
        assert sink.flush(self.patience)
        events = self.read(
            watch, lambda e: isinstance(e, ToolResultEvent) and e.call_id == "call-2"
        )
        results = [event for event in events if isinstance(event, ToolResultEvent)]
        assert results[0].output == {"degrees": 7}
        assert (results[0].run, results[0].name) == ("run-1", "weather")
        kept = self.sink().history(self.channel).items[0]
        answers = [(result.call_id, result.output, result.error) for result in kept.tool_results]
        assert answers == [("call-1", {"degrees": 7}, None), ("call-2", None, "no such tool")]

    def test_tool_results_of_a_response_that_streams(self) -> None:
        """They may be written to the sink, too, not only to the response."""
        sink = self.sink()
        with sink.respond(self.channel, response_id="r", run="run-1") as response:
            response.tool_call("weather", "call-1", "{}")
            sink.tool_result(self.channel, "call-1", 7, response_id="r", name="weather")
            response.write("It is 7 degrees.")
        assert sink.flush(self.patience)
        kept = self.sink().history(self.channel).items[0]
        assert [(r.call_id, r.output) for r in kept.tool_results] == [("call-1", 7)]
        assert kept.text == "It is 7 degrees."

    def test_data_events_travel_in_the_log(self) -> None:
        sink = self.sink()
        watch = self.sink().watch(self.channel).open()
        sink.send_event(self.channel, "progress", {"percent": 40})
        assert sink.flush(self.patience)  # else one that is refused may come after the response
        with sink.respond(self.channel, response_id="r"):
            pass
        assert sink.flush(self.patience)
        sink.send_event(self.channel, "done")
        events = self.read(watch, lambda e: isinstance(e, DataEvent) and e.name == "done")
        assert [event.type for event in events] == ["data", "start", "end", "data"]
        assert isinstance(events[0], DataEvent)
        assert events[0].data == {"percent": 40}

    def test_responses_share_a_run(self) -> None:
        sink = self.sink()
        for name in ("r1", "r2"):
            with sink.respond(self.channel, response_id=name, run="run-7"):
                pass
        assert sink.flush(self.patience)
        assert {r.run for r in sink.history(self.channel).items} == {"run-7"}
