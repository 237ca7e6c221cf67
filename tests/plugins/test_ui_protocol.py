"""A UI protocol from another package gets all that ours get: a whole run, live, and its end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.plugins.installing import HERE, install, run_python
from tests.support.needs import needs

needs("starlette", "uvicorn", "prometheus_client")

FILE = HERE / "ui_protocol" / "tokenwire_captions.py"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What clients of the protocol were sent."""
    environment = install("ui_protocol", tmp_path_factory.mktemp("installed"))
    done = run_python(HERE / "ui_protocol" / "program.py", environment=environment)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def joined(values: list[Any]) -> list[Any]:
    """Texts of one block that follow one another are joined; the run's id is left out."""
    result: list[Any] = []
    for value in values:
        if value[0] == "text" and result and result[-1][:2] == value[:2]:
            result[-1] = [*value[:2], result[-1][2] + value[2]]
        else:
            result.append(["begin"] if value[0] == "begin" else value)
    return result


WHOLE = [
    ["begin"],
    ["block", 0, "text", ""],
    ["text", 0, "well? "],
    ["block", 1, "tool_call", "look"],
    ["text", 1, '{"at": 1}'],
    ["done", 1],
    ["result", 1, {"found": True}],
    ["done", 0],
    ["block", 2, "text", ""],
    ["text", 2, "Yes."],
    ["done", 2],
    ["end", "complete", "stop"],
]


@pytest.mark.parametrize("client", ["asked", "joined", "gateway"])
def test_each_client_gets_the_whole_run_and_its_end(report: dict[str, Any], client: str) -> None:
    assert joined(report[client]) == WHOLE


def test_its_streams_count_as_connections(report: dict[str, Any]) -> None:
    assert report["connections"] == 1


def test_nothing_is_under_way_after_the_end(report: dict[str, Any]) -> None:
    assert report["nothing"] == 204


def test_stop_reaches_the_agent_and_the_client(report: dict[str, Any]) -> None:
    assert report["stop"] == "cancelled"
    assert report["stopped"][:2] == ["end", "cancelled"]


def test_its_routes_are_in_the_metrics(report: dict[str, Any]) -> None:
    routes = {line.split('route="')[1].split('"')[0] for line in report["metrics"]}
    assert routes == {"captions", "captions.stream", "captions.stop"}


def test_it_is_one_file_that_can_be_read_at_one_sitting() -> None:
    assert len(Path(FILE).read_text().splitlines()) <= 150
