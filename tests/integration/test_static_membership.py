"""A worker with a name of its own comes back to its partitions, and the others notice nothing."""

from __future__ import annotations

import urllib.request
import uuid

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.demo.servers.process import HOST
from tests.conftest import wait_until
from tests.integration.conftest import MakeSite
from tests.integration.sites import Broker
from tests.integration.workers import WorkerProcess

JOINS = "(Re-)joining group"
SESSION_S = "30"
"""Longer than the test takes to start a worker again, however busy the machine is."""


def partitions_of(worker: WorkerProcess) -> set[tuple[str, str]]:
    """Topics and partitions whose lag it watches, which are those that it has."""
    with urllib.request.urlopen(f"http://{HOST}:{worker.port}/metrics", timeout=5) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        lags = next(family.samples for family in families if family.name == "authtally_lag_events")
    return {(sample.labels["topic"], sample.labels["partition"]) for sample in lags}


@pytest.mark.apache_kafka
def test_a_static_member_that_returns_gets_its_partitions_back_without_a_rebalance(
    apache: Broker, make_site: MakeSite
) -> None:
    site = make_site(apache, partitions=4, kafka_session_timeout_s=SESSION_S, log_level="info")
    names = [f"worker-{number}.{uuid.uuid4().hex[:6]}" for number in range(2)]
    first, second = (site.workers.start(kafka_group_instance_id=name) for name in names)
    for worker in (first, second):
        worker.wait_until_ready()
    with site.publisher.flow():
        wait_until(lambda: partitions_of(first) and partitions_of(second), 60, "both have partitions")
        held, joined = partitions_of(first), len(second.lines(JOINS))
        assert joined
        first.kill()
        again = site.workers.start(kafka_group_instance_id=names[0]).wait_until_ready()
        site.wait_until_moved()
        wait_until(lambda: partitions_of(again) == held, 30, "the same partitions")
        assert len(second.lines(JOINS)) == joined
    assert site.differences() == []
