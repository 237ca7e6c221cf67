"""What counts as a difference between a script, a watcher and the provider."""

from dataclasses import replace

import pytest

from tests.ecosystem.comparing import differences_of, usage_of
from tests.ecosystem.rows import ROWS

ROW = replace(ROWS[0], reasoning=True, usage=True, own_requests=None)
SENT = {"text": "It rains.", "reasoning": "Hm.", "calls": [["get_weather", {"city": "Oslo"}]]}
SEEN = SENT | {"usage": [3, 5], "state": "complete", "finish": "stop", "error": None}
RECEIVED = SENT | {"usage": [3, 5]}


def test_what_agrees_is_no_difference():
    assert differences_of(ROW, RECEIVED, [SENT], [SEEN]) == []
    twice = {"text": "It rains.It rains.", "usage": [6, 10]}
    assert differences_of(ROW, twice, [SENT, SENT], [SEEN, SEEN]) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"text": "It rains"},
        {"text": "It rains.It rains."},
        {"reasoning": ""},
        {"calls": []},
        {"calls": [["get_weather", {"city": "Bergen"}]]},
        {"usage": None},
        {"usage": [3, 6]},
        {"state": "failed"},
        {"finish": None},
    ],
)
def test_what_the_watcher_has_otherwise_is_one(changed):
    assert differences_of(ROW, RECEIVED, [SENT], [SEEN | changed])


@pytest.mark.parametrize("seen", [[], [SEEN, SEEN]])
def test_a_missing_or_doubled_response_is_one(seen):
    assert differences_of(ROW, {}, [SENT], seen)


def test_only_what_the_script_prints_is_asked_of_it():
    assert differences_of(ROW, {"text": "It rains."}, [SENT], [SEEN]) == []
    assert differences_of(ROW, {"text": "It"}, [SENT], [SEEN])


def test_requests_that_are_not_the_programs_are_not_compared():
    row = replace(ROW, own_requests="it asks for itself")
    assert differences_of(row, RECEIVED, [SENT, SENT], [SEEN]) == []
    assert differences_of(row, RECEIVED, [SENT, SENT], [SEEN | {"text": ""}])


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 5}, [3, 5]),
        ({"input_tokens": 3, "output_tokens": 5}, [3, 5]),
        ({"promptTokenCount": 3, "candidatesTokenCount": 4, "thoughtsTokenCount": 1}, [3, 5]),
        ({"inputTokens": 3, "outputTokens": 5, "totalTokens": 8}, [3, 5]),
        ({"tokens": {"input_tokens": 3.0, "output_tokens": 5.0}, "billed_units": {}}, [3, 5]),
        ({"prompt_eval_count": 3, "eval_count": 5}, [3, 5]),
        (
            {"total_input_tokens": 3, "total_output_tokens": 4, "total_thought_tokens": 1},
            [3, 5],
        ),
        ({}, None),
        (None, None),
    ],
)
def test_usage_of_every_api(usage, expected):
    assert usage_of(usage) == expected
