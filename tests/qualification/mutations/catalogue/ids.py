"""Guards of deduplication: which ids a shard keeps, and for how long."""

from __future__ import annotations

from typing import Final

from tests.qualification.mutations.mutation import Mutation

DEDUPE: Final = "aggregator/fold/deduplication.py"
TESTS: Final = "tests/aggregator/fold/test_deduplication.py"

MUTATIONS: Final = (
    Mutation(
        "event ids",
        "hours of ids beyond the clock and 24 h, which format 1 left, are dropped",
        DEDUPE,
        "        if self._newest > latest:\n",
        "        if False:\n",
        "tests/aggregator/fold/test_untimed.py"
        "::test_hours_far_ahead_that_format_1_left_are_dropped_and_ids_are_held_again",
    ),
    Mutation(
        "event ids",
        "an event 24 h ahead makes no id of its neighbours expire",
        DEDUPE,
        "window_hours = -(-window_s // HOUR_S) + AHEAD_HOURS",
        "window_hours = -(-window_s // HOUR_S)",
        f"{TESTS}::test_an_event_of_the_next_day_makes_no_id_expire",
    ),
    Mutation(
        "event ids",
        "an id from the very end of an hour stays for a whole window",
        DEDUPE,
        "window_hours = -(-window_s // HOUR_S) + AHEAD_HOURS",
        "window_hours = window_s // HOUR_S + AHEAD_HOURS",
        f"{TESTS}::test_an_event_of_the_next_day_makes_no_id_expire",
    ),
    Mutation(
        "event ids",
        "ids older than the window are dropped",
        DEDUPE,
        "for old in [held for held in self._hours if held < hour - self._window_hours]:",
        "for old in []:",
        f"{TESTS}::test_an_id_counts_once_within_the_window",
    ),
    Mutation(
        "event ids",
        "a shard keeps at most DEDUPE_MAX_IDS ids",
        DEDUPE,
        "            if self._held > self._max_ids:\n",
        "            if False:\n",
        f"{TESTS}::test_the_oldest_hour_goes_first_when_ids_have_no_room",
    ),
    Mutation(
        "event ids",
        "an id that was dropped in this range is not known any more",
        DEDUPE,
        "        if digest in self._new or (digest in self._digests and digest not in self._evicted):\n",
        "        if digest in self._new or digest in self._digests:\n",
        f"{TESTS}::test_no_cutting_changes_what_is_a_repeat_or_what_is_held",
    ),
    Mutation(
        "event ids",
        "one realm's flood of ids displaces no id of another realm",
        DEDUPE,
        "            if number > self._share:\n",
        "            if False:\n",
        f"{TESTS}::test_a_realm_that_floods_ids_displaces_no_id_of_another_and_remembers_its_latest",
    ),
    Mutation(
        "event ids",
        "a repeat makes no user active and no label known",
        "aggregator/fold/fold.py",
        "if tally is None and not deduplicator.is_repeat(digest, at_ms):",
        "if tally is None:",
        f"{TESTS}::test_a_repeat_makes_no_user_active_and_no_label_known",
    ),
    Mutation(
        "event ids",
        "the events of one foreign record have ids of their own",
        "aggregator/fold/adapter_events.py",
        "                if position and event.id is not None:\n",
        "                if False:\n",
        "tests/aggregator/fold/test_adapter_events.py"
        "::test_an_element_with_a_login_and_tokens_is_one_event_however_often_it_is_sent",
    ),
    Mutation(
        "event ids",
        "ids that were read are void if the shard has moved on since",
        "aggregator/ledger/ledger.py",
        "        if _parse_position(position.decode()) != state.position:\n",
        "        if False:\n",
        f"{TESTS}::test_ids_that_were_read_are_void_when_the_shard_has_moved_on",
    ),
)
