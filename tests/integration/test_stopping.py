"""A rolling stop: each worker is stopped while the group gives it the share of the one before."""

from __future__ import annotations

import pytest

from tests.conftest import wait_until
from tests.integration.conftest import MakeSite
from tests.integration.sites import Broker
from tests.integration.test_static_membership import JOINS, partitions_of

ENDS_S = 15
"""Less than the time after which the watchdog ends a worker that does not stop."""


@pytest.mark.apache_kafka
def test_a_worker_that_is_stopped_in_a_rebalance_ends_in_order(apache: Broker, make_site: MakeSite) -> None:
    site = make_site(apache, partitions=4, log_level="info")
    first, second = (site.workers.start() for _ in range(2))
    for worker in (first, second):
        worker.wait_until_ready()
    with site.publisher.flow():
        wait_until(lambda: partitions_of(first) and partitions_of(second), 60, "both have partitions")
        joined = len(second.lines(JOINS))
        first.terminate()
        wait_until(lambda: len(second.lines(JOINS)) > joined, 30, "the second joins again")
        second.terminate()
        assert [worker.wait(ENDS_S) for worker in (first, second)] == [0, 0]
    assert "Traceback" not in second.log
    site.workers.start().wait_until_ready()
    site.wait_until_moved()
    assert site.differences() == []
