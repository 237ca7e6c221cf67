"""Each row of `docs/compatibility.md`: an unmodified script, run as its users run it."""

import pytest

from tests.ecosystem.results import put_result
from tests.ecosystem.rows import ROWS, Row
from tests.ecosystem.running import run_and_cancel, run_to_the_end

pytestmark = pytest.mark.timeout(900)


def _param(row: Row, reason: str | None):
    marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
    return pytest.param(row, id=row.slug, marks=marks)


@pytest.mark.parametrize("row", [_param(row, row.known) for row in ROWS])
def test_a_watcher_sees_what_the_script_receives(row, shared_redis):
    result = run_to_the_end(row, shared_redis.url)
    put_result(row, "seen", result.version, result.differences)
    assert not result.differences, "\n".join(result.differences)


@pytest.mark.parametrize(
    "row", [_param(row, row.known or row.known_of_cancel) for row in ROWS if not row.cancels]
)
def test_cancel_closes_the_providers_connection(row, shared_redis):
    result = run_and_cancel(row, shared_redis.url)
    put_result(row, "cancel", result.version, result.differences)
    assert not result.differences, "\n".join(result.differences)
