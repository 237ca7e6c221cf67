"""What becomes of a program, and of a test, whose backend is away."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from tokenwire import BackendUnavailable, MemoryBackend, Sink, open_sink
from tokenwire.testing import FaultyBackend

_PROGRAM = """
import sys
from tokenwire import MemoryBackend, Sink
from tokenwire.testing import FaultyBackend
for _ in range(3):
    backend = FaultyBackend(MemoryBackend())
    backend.FAULT()
    sink = Sink(backend, close_timeout=float(sys.argv[1]))
    sink.respond("c").write("lost")
    keep = globals().setdefault("sinks", [])
    keep.append(sink)
print("done", flush=True)
"""


def _exit_takes(fault: str, close_timeout: float) -> float:
    """Seconds that the exit of a program takes that has three sinks on such backends."""
    command = [sys.executable, "-c", _PROGRAM.replace("FAULT", fault), str(close_timeout)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        begun = time.monotonic()
        assert process.wait(120) == 0
        return time.monotonic() - begun


@pytest.mark.parametrize("fault", ["kill", "stall"])
def test_the_exit_takes_the_time_for_it_once_for_all_sinks(fault: str) -> None:
    for close_timeout in (3.0, 12.0, 24.0):  # longer, where the machine is so slow
        took = _exit_takes(fault, close_timeout)
        if took < 1.8 * close_timeout:
            return
    pytest.fail(f"it took {took} s for one of {close_timeout} s")  # each after the other: 3 or 6


def _dead() -> Sink:
    backend = FaultyBackend(MemoryBackend())
    backend.kill()
    return Sink(backend, strict=True, close_timeout=600)


def test_strict_mode_raises_for_text_that_a_dead_backend_lost() -> None:
    with pytest.raises(BackendUnavailable, match="1 responses or entries are not delivered"):
        with _dead() as sink, sink.respond("c") as writer:
            writer.write("lost text")
    assert sink.closed


def test_strict_mode_raises_for_it_at_a_flush() -> None:
    sink = _dead()
    sink.send_event("c", "n", 1)
    with pytest.raises(BackendUnavailable, match="injected: killed"):
        sink.flush()
    with pytest.raises(BackendUnavailable):
        sink.close()


async def test_strict_mode_raises_for_it_on_a_loop() -> None:
    sink = _dead()
    sink.respond("c").finish()
    with pytest.raises(BackendUnavailable):
        await sink.aflush()
    with pytest.raises(BackendUnavailable):
        await sink.aclose()


@pytest.mark.parametrize("strict", [True, False])
def test_a_short_outage_loses_nothing(strict: bool) -> None:
    backend: Any = FaultyBackend(MemoryBackend())
    with Sink(backend, strict=strict) as sink:
        backend.kill()
        with sink.respond("c", response_id="r") as writer:
            writer.write("text")
        backend.revive()
        assert sink.flush(30)
        assert sink.history("c").items[0].text == "text"


def test_other_modes_say_so_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    sink = open_sink(FaultyBackend(MemoryBackend()), close_timeout=0.2)
    backend: Any = sink.backend
    backend.kill()
    sink.respond("c").finish()
    assert sink.close() is False
    assert any("closed with 1 responses" in record.message for record in caplog.records)
