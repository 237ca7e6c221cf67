"""For tests: assertions about what was streamed, the suite that every backend passes, and faults.

To test a backend of your own::

    from tokenwire.testing import BackendContract

    class TestMyBackend(BackendContract):
        def place(self, granularity):
            server = my_server()
            self.at_end(server.stop)
            return lambda: MyBackend(server.url, granularity=granularity)
"""

from tokenwire.testing.assertions import assert_nothing_streamed, assert_streamed, transcript
from tokenwire.testing.contract import BackendContract
from tokenwire.testing.faulty import Deliver, FaultyBackend, Publish
from tokenwire.testing.producers import Script, Spectator, read_until, scripts

__all__ = [
    "BackendContract",
    "Deliver",
    "FaultyBackend",
    "Publish",
    "Script",
    "Spectator",
    "assert_nothing_streamed",
    "assert_streamed",
    "read_until",
    "scripts",
    "transcript",
]
