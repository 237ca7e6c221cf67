"""A smoke of the contract, for ways to reach a backend that passes it whole elsewhere."""

from __future__ import annotations

from typing import TypeVar

from tests.support.profile import EVERYTHING

__all__ = ["SMOKE", "smoke"]

SMOKE = frozenset(
    {
        # writing: text, ends, many threads, many channels in one batch
        "test_a_response_is_kept_as_it_was_written",
        "test_long_text_is_exact",
        "test_many_threads_write_many_responses",
        "test_a_batch_holds_many_channels",
        "test_an_entry_published_twice_counts_once",
        "test_granularity_token_keeps_every_token",
        # reading: live, joining, resuming, history
        "test_a_live_watcher_sees_everything",
        "test_joining_midway_at_every_token",
        "test_resuming_after_every_cursor",
        "test_resuming_in_the_middle_of_a_replay",
        "test_rewind_all_gives_everything",
        "test_rewind_by_count",
        "test_history_comes_in_pages",
        "test_token_granularity_rewinds_by_tokens",
        # talking: cancels, inputs, tool results, data events
        "test_a_cancel_may_come_before_the_start",
        "test_inputs_reach_an_agent_elsewhere",
        "test_tool_results_after_the_end",
        "test_data_events_travel_in_the_log",
        # leases, fences, faults
        "test_a_dead_producer_is_noticed_by_watchers",
        "test_another_fence_is_refused",
        "test_lost_deltas_are_healed_by_a_snapshot",
        "test_any_faults_leave_every_watcher_with_the_exact_text",
    }
)

C = TypeVar("C", bound=type)


def smoke(contract: C) -> C:
    """Leave of a contract's tests those of `SMOKE`; with ``everything``, all."""
    names = {name for name in dir(contract) if name.startswith("test_")}
    assert names >= SMOKE, SMOKE - names
    if not EVERYTHING:
        for name in names - SMOKE:
            setattr(contract, name, None)  # pytest collects no test there
    return contract
