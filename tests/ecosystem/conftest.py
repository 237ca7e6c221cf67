import os

from tests.redis_support.fixtures import *  # noqa: F403

# The rows install every framework there is, and take half an hour: `tox -e ecosystem` runs them.
_ROWS = ["test_rows.py", "test_sockets.py"]
collect_ignore = [] if os.environ.get("TOKENWIRE_TEST_ECOSYSTEM") else _ROWS
