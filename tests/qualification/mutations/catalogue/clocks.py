"""Guards of the store's clock, by which periods expire and untimed records are judged."""

from __future__ import annotations

from typing import Final

from tests.qualification.mutations.mutation import Mutation

SCRIPT: Final = "aggregator/ledger/ledger.lua"
LEDGER: Final = "aggregator/ledger/ledger.py"
TESTS: Final = "tests/aggregator/ledger/test_ledger.py"
CLOCKS: Final = "tests/integration/test_clocks.py"
PERIODS: Final = "api/ledger/held_periods.py"
HELD: Final = "tests/api/ledger/test_held_periods.py"

MUTATIONS: Final = (
    Mutation(
        "store's clock",
        "periods leave the index by the store's clock, not by a record's timestamp",
        SCRIPT,
        "redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', clock / 1000)",
        "redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', (add.last_record or 0) / 1000)",
        f"{TESTS}::test_a_period_leaves_the_index_by_the_stores_clock",
    ),
    Mutation(
        "store's clock",
        "after a longer retention an old period is hidden too early rather than read in part",
        SCRIPT,
        "redis.call('ZADD', KEYS[3], 'LT', expires, period)",
        "redis.call('ZADD', KEYS[3], expires, period)",
        f"{TESTS}::test_after_a_longer_retention_a_period_is_hidden_when_its_first_keys_expire",
    ),
    Mutation(
        "store's clock",
        "readers hide a period when its keys expire by the clock of the store that answered",
        PERIODS,
        "if score is not None and float(score) > int(now):",
        "if score is not None:",
        "tests/api/ledger/test_statistics.py::test_a_month_is_answered_until_it_expires_by_the_clock_of_the_store",
    ),
    Mutation(
        "store's clock",
        "periods that format 1 pruned by a record in the future are found by their keys",
        PERIODS,
        "            elif score is None and pruned:\n",
        "            elif False:\n",
        f"{HELD}::test_periods_lost_from_the_index_are_found_by_their_keys",
    ),
    Mutation(
        "store's clock",
        "a period that was pruned in time stays hidden",
        PERIODS,
        "return at_ms is not None and at_ms > (now + MAX_AHEAD.total_seconds()) * 1000",
        "return at_ms is not None",
        f"{HELD}::test_a_pruned_period_of_a_sound_shard_stays_hidden",
    ),
    Mutation(
        "store's clock",
        "nothing is counted while the clocks of store and worker differ by more than ten minutes",
        "aggregator/clocks.py",
        "    if abs(store_ms - worker_ms) > CLOCKS_APART_MS:\n",
        "    if False:\n",
        f"{CLOCKS}::test_which_clocks_are_believed",
    ),
    Mutation(
        "store's clock",
        "nothing is counted by a clock before the release",
        "aggregator/clocks.py",
        "    if min(store_ms, worker_ms) < _RELEASED_MS:\n",
        "    if False:\n",
        f"{CLOCKS}::test_which_clocks_are_believed",
    ),
    Mutation(
        "store's clock",
        "a range waits until the clocks agree",
        "aggregator/counting.py",
        "        while not await self._clocks.agree(range_.shard):\n",
        "        while False:\n",
        f"{CLOCKS}::test_a_worker_whose_clock_is_off_counts_nothing[10800]",
    ),
    Mutation(
        "store's clock",
        "the store's clock is read again when it is older than a minute",
        LEDGER,
        "if clock is None or self._monotonic() - clock[1] > max_age_s:",
        "if clock is None:",
        f"{CLOCKS}::test_the_stores_clock_runs_on_and_is_asked_again_when_old",
    ),
    Mutation(
        "store's clock",
        "the store's clock runs on between two answers",
        LEDGER,
        "return clock[0] + int((self._monotonic() - clock[1]) * 1000)",
        "return clock[0]",
        f"{CLOCKS}::test_the_stores_clock_runs_on_and_is_asked_again_when_old",
    ),
)
