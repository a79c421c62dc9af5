"""The faults of these suites must break designs that are known to be wrong, or passing them means nothing."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from schemas.ledger import fields
from schemas.ledger.keys import ShardKeys
from tests.conftest import wait_until
from tests.integration import floor, plain_faust
from tests.integration.conftest import MakeSite
from tests.integration.faults import roll_back
from tests.integration.sites import PREFIX, Broker, Site


def program(module: Any) -> tuple[str, str]:
    return sys.executable, str(Path(module.__file__))


def plainly_counted(site: Site) -> Counter[str]:
    return Counter({name: int(value) for name, value in site.client.hgetall(plain_faust.COUNTS).items()})


def wait_until_it_counts_on(site: Site, timeout_s: float = 40) -> None:
    before = plainly_counted(site).total()
    wait_until(lambda: plainly_counted(site).total() > before, timeout_s, "plain Faust counts on")


def wait_until_it_believes_to_be_done(site: Site) -> None:
    ends = site.log_ends()
    wait_until(lambda: site.committed() == ends, 40, "plain Faust has committed everything")


def test_plain_faust_counts_right_while_nothing_goes_wrong(embedded: Broker, make_site: MakeSite) -> None:
    site = make_site(embedded)
    site.publisher.named = 0  # it knows no repeats
    site.workers.start(program(plain_faust))
    with site.publisher.flow():
        wait_until_it_counts_on(site)
    wait_until_it_believes_to_be_done(site)
    assert plainly_counted(site) == site.publisher.totals()


def test_plain_faust_loses_what_the_store_lost(embedded: Broker, make_site: MakeSite) -> None:
    site = make_site(embedded)
    site.publisher.named = 0  # it knows no repeats
    site.workers.start(program(plain_faust))
    with site.publisher.flow():
        wait_until_it_counts_on(site)
        older = site.raw.dump(plain_faust.COUNTS)
        wait_until_it_counts_on(site)
        site.behind_queued_ranges("RESTORE", plain_faust.COUNTS, 0, older, "REPLACE")
        wait_until_it_counts_on(site)
    wait_until_it_believes_to_be_done(site)
    assert plainly_counted(site).total() < site.publisher.totals().total()


def test_a_worker_that_only_refuses_ranges_below_the_position_loses_events_in_the_same_rollbacks(
    embedded: Broker, make_site: MakeSite
) -> None:
    site = make_site(embedded)
    site.workers.start(program(floor)).wait_until_ready()
    with site.publisher.flow():
        site.wait_until_moved()
        for shard in site.shards:
            roll_back(site, shard)
    site.wait_until_counted()
    consumed = sum(int(site.client.hget(ShardKeys(PREFIX, shard).progress, fields.CONSUMED)) for shard in site.shards)
    assert consumed < site.publisher.published


@pytest.mark.parametrize("script", ["", "if have ~= ARGV[1] then if have ~= ARGV[1] then"])
def test_the_loosened_arm_fails_loudly_when_the_script_compares_otherwise(script: str) -> None:
    with pytest.raises(ValueError, match=r"ledger\.lua"):
        floor.loosened(script)
