"""Backoff: pauses grow up to the longest, are spread by the jitter given, and begin again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tokenwire._clock import Backoff, jitter

_SECONDS = st.floats(0.001, 60)
_SHARES = st.floats(0, 1)


@given(_SECONDS, _SHARES)
def test_jitter_keeps_its_bounds(seconds: float, share: float) -> None:
    assert seconds * (1 - share) <= jitter(seconds, share) <= seconds * (1 + share)


def test_pauses_double_up_to_the_longest_and_begin_again() -> None:
    backoff = Backoff(0.5, 3.0, jitter=0.0)
    assert [backoff.next() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    backoff.reset()
    assert backoff.next() == 0.5
    assert Backoff(1.0, 100.0, factor=3.0, jitter=0.0).after(3) == 9.0


@given(_SECONDS, _SECONDS, st.floats(1, 10), _SHARES, st.integers(1, 10**9))
def test_no_pause_is_longer_than_the_longest_and_its_jitter(
    first: float, longest: float, factor: float, share: float, failures: int
) -> None:
    pause = Backoff(first, longest, factor=factor, jitter=share).after(failures)
    assert 0 <= pause <= longest * (1 + share)
