"""Clocks that disagree: nothing is counted and nothing is a dead letter, until they agree again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aggregator.clocks import CLOCKS_APART_MS, StoreClocks, clock_error
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.store import connect
from aggregator.progress import INTERVAL_S
from schemas.ledger import fields
from schemas.ledger.keys import Shard, ShardKeys
from schemas.time.clock import Clock
from tests.aggregator import ledgers
from tests.conftest import wait_until
from tests.integration.conftest import MakeSite
from tests.integration.sites import PREFIX, Broker, Site
from tests.integration.workers import AGGREGATOR, WorkerProcess
from tests.qualification.chaos.clocks import FalseClock

NOW_MS = int(datetime(2026, 12, 24, tzinfo=UTC).timestamp() * 1000)
YEAR_MS = 365 * 86_400_000
SHARD = Shard("auth.logins", 0)


@pytest.mark.parametrize(
    ("store_ms", "worker_ms", "agree", "why"),
    [
        (NOW_MS, NOW_MS, True, "equal"),
        (NOW_MS, NOW_MS + CLOCKS_APART_MS, True, "ten minutes apart"),
        (NOW_MS + CLOCKS_APART_MS, NOW_MS, True, "ten minutes apart, the other way"),
        (NOW_MS, NOW_MS + CLOCKS_APART_MS + 1, False, "the worker more than ten minutes ahead"),
        (NOW_MS, NOW_MS - 3_600_000, False, "the worker an hour behind"),
        (NOW_MS + YEAR_MS, NOW_MS, False, "the store a year ahead"),
        (NOW_MS - YEAR_MS, NOW_MS - YEAR_MS, False, "both before the release, as after a flat battery"),
        (0, 0, False, "both at the epoch"),
    ],
)
def test_which_clocks_are_believed(store_ms: int, worker_ms: int, agree: bool, why: str) -> None:
    assert (clock_error(store_ms, worker_ms) is None) is agree, why


async def test_a_worker_names_both_clocks_until_they_agree(redis_url: str) -> None:
    settings = ledgers.settings(redis_url)
    client = connect(settings)
    ledger = Ledger(client, settings)
    seconds, microseconds = await client.time()
    store_s = seconds + microseconds / 1_000_000
    worker_s = store_s + 3600
    clocks = StoreClocks(ledger, Clock(now=lambda: worker_s))
    try:
        assert not await clocks.agree(SHARD)
        error = clocks.errors[SHARD]
        for clock_s in (store_s, worker_s):
            assert f"{datetime.fromtimestamp(clock_s, UTC):%Y-%m-%dT%H:%M}" in error
        worker_s = store_s
        assert await clocks.agree(SHARD)
        assert clocks.errors == {}
    finally:
        await client.aclose()


async def test_the_stores_clock_runs_on_and_is_asked_again_when_old(redis_url: str) -> None:
    settings, monotonic = ledgers.settings(redis_url), [100.0]
    client: Any = connect(settings)
    ledger = Ledger(client, settings, clock=Clock(monotonic=lambda: monotonic[0]))
    try:
        first = await ledger.now_ms(SHARD)
        monotonic[0] += 59
        assert await ledger.now_ms(SHARD) == first + 59_000
        await client.config_resetstat()
        monotonic[0] += 2
        asked = await ledger.now_ms(SHARD)
        assert (await client.info("commandstats"))["cmdstat_eval"]["calls"] == 1
        assert abs(asked - first) < 60_000, "the store's own time, not the pretended minute"
    finally:
        await client.aclose()


def start(site: Site, folder: Path) -> tuple[FalseClock, WorkerProcess]:
    """A worker with a clock of its own."""
    clock = FalseClock(folder, "worker")
    if not clock.can_be_set:
        pytest.skip("no libfaketime: tests/servers/install_test_servers.sh installs it")
    false = [f"{name}={value}" for name, value in clock.environment.items()]
    return clock, site.workers.start(("/usr/bin/env", *false, *AGGREGATOR)).wait_until_ready()


@pytest.mark.parametrize("shift_s", [10_800, -10_800, 63_072_000, -63_072_000])
def test_a_worker_whose_clock_is_off_counts_nothing(
    embedded: Broker, make_site: MakeSite, tmp_path: Path, shift_s: int
) -> None:
    site = make_site(embedded, partitions=1)
    clock, worker = start(site, tmp_path)
    clock.set(shift_s)
    error = worker.wait_until_troubled("the store's clock says", "this worker's")
    assert f"{datetime.now(UTC):%Y-%m-%dT%H}" in error
    site.publisher.publish(100)
    site.publisher.send_bad(Shard(site.logins, 0), b"nope", "not_json")
    site.publisher.flush()
    wait_until(
        lambda: worker.metric("authtally_log_end_offset") == sum(site.log_ends().values()),
        what="the worker has seen all records",
    )
    assert set(site.positions().values()) == {0}
    assert worker.metric("authtally_unready", component="clock") == 1
    assert worker.metric("authtally_dead_letters_total") == 0
    clock.set(0)
    assert site.differences() == []
    wait_until(lambda: worker.readiness()[0], what="ready again")


def test_a_worker_that_waits_for_the_clocks_is_not_stuck(embedded: Broker, make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(embedded, partitions=1, stuck_after_s="2")
    clock, worker = start(site, tmp_path)
    clock.set(10_800)
    worker.wait_until_troubled("the store's clock says")
    site.publisher.publish(10, site.logins)
    shard = Shard(site.logins, 0)

    def measured_ms() -> int:
        found = site.client.hget(ShardKeys(PREFIX, shard).observed, fields.END)
        return int(found.split()[1])

    # By the worker's clock, which runs on.
    until_ms = measured_ms() + 3 * INTERVAL_S * 1000
    wait_until(lambda: measured_ms() > until_ms or not worker.running, what="its progress is measured several times")
    assert worker.running
    clock.set(0)
    assert site.differences() == []
