"""Whatever the description of the API allows, and much that it does not, is answered as it says."""

from __future__ import annotations

import pytest

import tokenwire
from tests.adapters.gateway.support import serving
from tests.support.needs import needs
from tokenwire_adapters.asgi import Gateway, Limits

schemathesis = needs("schemathesis")
RUN = "from schemathesis.cli import schemathesis; schemathesis()"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_gateway_answers_as_its_description_says(tmp_path) -> None:
    """In a process of its own: schemathesis brings a test runner with it."""
    import subprocess
    import sys

    limits = Limits(request_rate=1e6, request_burst=10**6, input_rate=1e6, input_burst=10**6)
    with (
        tokenwire.open_sink(tokenwire.MemoryBackend()) as sink,
        serving(Gateway(sink, limits=limits)) as server,
    ):
        with sink.respond("c", response_id="r1") as response:
            response.write("text")
        command = [
            *(sys.executable, "-c", RUN, "run", f"{server.url}/openapi.json"),
            # An event stream does not end, which its tests wait for.
            *("--exclude-path", "/channels/{channel}/events"),
            # What is a cursor, or a printable character, cannot be said in a schema.
            *("--exclude-checks", "positive_data_acceptance"),
            *("--max-examples", "50", "--seed", "7", "--request-timeout", "30"),
            *("--suppress-health-check", "all"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=280)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
