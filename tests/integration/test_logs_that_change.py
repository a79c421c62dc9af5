"""Logs that hold more than records, or less than they did, or are other logs altogether."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition

from deploy.demo.servers.topics import admin
from schemas.ledger import fields
from schemas.ledger.keys import Shard, ShardKeys
from tests.conftest import wait_until
from tests.integration.conftest import MakeSite
from tests.integration.expected_counts import differences
from tests.integration.sites import PREFIX, Broker, Site


def test_aborted_transactions_count_nothing_and_committed_lag_reaches_0(apache: Broker, make_site: MakeSite) -> None:
    site = make_site(apache)
    worker = site.workers.start().wait_until_ready()
    transactional: Any = Producer(
        {"bootstrap.servers": apache.address, "transactional.id": site.logins, "linger.ms": 2, "log_level": 0}
    )
    site.publisher.producer = transactional
    transactional.init_transactions(20)
    # Twelve, the last one aborted: the logs end with control markers that hold no record.
    for number in range(12):
        transactional.begin_transaction()
        if number % 2 == 0:
            site.publisher.publish(300)
            transactional.commit_transaction(20)
        else:
            for _ in range(300):
                site.publisher.send_event(*site.publisher.event())
            site.publisher.flush()
            transactional.abort_transaction(20)
    assert site.differences() == []
    ends = site.log_ends()
    wait_until(lambda: site.committed() == ends, 20, "committed offsets reach the log ends")
    lags = ("authtally_lag_events", "authtally_stable_lag_events", "authtally_lag_seconds")
    wait_until(lambda: all(worker.metric(lag) == 0 for lag in lags), 20, "no lag")


def test_an_open_transaction_holds_the_position_and_shows_as_lag(apache: Broker, make_site: MakeSite) -> None:
    site = make_site(apache, partitions=1)
    worker = site.workers.start().wait_until_ready()
    site.publisher.publish(100)
    site.wait_until_counted()
    before = site.positions()
    transactional: Any = Producer(
        {"bootstrap.servers": apache.address, "transactional.id": site.logins, "log_level": 0}
    )
    site.publisher.producer = transactional
    transactional.init_transactions(20)
    transactional.begin_transaction()
    site.publisher.publish(100)
    wait_until(lambda: worker.metric("authtally_lag_events") == 100, 20, "lag in events")
    assert worker.metric("authtally_stable_lag_events") == 0
    assert site.positions() == before
    transactional.commit_transaction(20)
    assert site.differences() == []


def is_stopped(site: Site, worker: Any, shard: Shard) -> None:
    """Wait until the worker says that a shard waits for an operator, everywhere where it can say so."""
    command = f"authtally positions reset {shard.topic} {shard.partition}"
    error = worker.wait_until_troubled(command)
    assert shard.topic in error
    assert any("partition stopped" in line for line in worker.lines(command))
    wait_until(lambda: worker.metric("authtally_partition_stopped", topic=shard.topic) == 1, what="the metric")


@pytest.mark.parametrize(
    ("new_events", "running"),
    [
        pytest.param(20, True, id="shorter, under a worker"),
        pytest.param(20, False, id="shorter, between workers"),
        pytest.param(400, True, id="grown past the old position, under a worker"),
        pytest.param(400, False, id="grown past the old position, between workers"),
    ],
)
def test_a_topic_made_anew_stops_its_partition_and_the_others_go_on(
    apache: Broker, make_site: MakeSite, new_events: int, running: bool
) -> None:
    topic_made_anew(make_site(apache, partitions=1), new_events, running)


def test_a_topic_made_anew_on_the_embedded_broker_stops_its_partition(embedded: Broker, make_site: MakeSite) -> None:
    topic_made_anew(make_site(embedded, partitions=1), new_events=20, running=True)


OLD_EVENTS = 200


def topic_made_anew(site: Site, new_events: int, running: bool) -> None:
    worker = site.workers.start().wait_until_ready()
    site.publisher.publish(200, site.logins)
    site.publisher.publish(OLD_EVENTS, site.tokens)
    assert site.differences() == []
    old = Shard(site.tokens, 0)
    kept = site.raw_figures(old)
    if not running:
        worker.stop()
    site.remove_topic(site.tokens)
    site.create_topic(site.tokens, 1)
    for _ in range(new_events):
        site.publisher.send_event(*site.publisher.event(site.tokens))
    site.publisher.flush()
    if not running:
        worker = site.workers.start()
    is_stopped(site, worker, old)
    site.publisher.publish(200, site.logins)
    ends = site.wait_until_counted(without=[old])
    others = {shard: expected for shard, expected in site.publisher.expected.items() if shard != old}
    assert [line for line in differences(site.client, others, ends, PREFIX) if old.tag not in line] == []
    assert site.raw_figures(old) == kept


def test_a_stopped_partition_stays_stopped_through_a_rebalance_and_continues_once_reset(
    apache: Broker, make_site: MakeSite
) -> None:
    site = make_site(apache, partitions=1)
    worker = site.workers.start().wait_until_ready()
    site.publisher.publish(200)
    site.wait_until_counted()
    shard = Shard(site.tokens, 0)
    shard_keys = ShardKeys(PREFIX, shard)
    position = site.positions()[shard]
    # A ledger that is ahead of the log, as after an unclean election of a broker that lagged behind.
    site.client.set(shard_keys.position, position + 50)
    site.publisher.publish(20, site.tokens)
    is_stopped(site, worker, shard)
    second = site.workers.start().wait_until_joined()
    wait_until(lambda: any(shard.tag in line for line in [*worker.readiness()[1], *second.readiness()[1]]), 30)
    site.client.set(shard_keys.position, position)
    assert site.differences() == []
    worker.wait_until_ready()
    second.wait_until_ready()


def delete_before(site: Site, ends: Mapping[Shard, int]) -> None:
    asked = [TopicPartition(*shard, end) for shard, end in ends.items()]
    client = admin(site.broker.address)
    for future in client.delete_records(asked).values():
        future.result(20)


@pytest.mark.parametrize("running", [True, False], ids=["under a worker", "between workers"])
def test_records_deleted_under_the_position_are_counted_as_lost_exactly(
    apache: Broker, make_site: MakeSite, running: bool
) -> None:
    site = make_site(apache, partitions=2)
    worker = site.workers.start().wait_until_ready()
    site.publisher.publish(500)
    before = site.wait_until_counted()
    if running:
        worker.pause()
    else:
        worker.stop()
    doomed = 70
    for shard in site.shards:
        for _ in range(doomed):
            site.publisher.send(shard, b"doomed")
    site.publisher.flush()
    delete_before(site, {shard: end + doomed for shard, end in before.items()})
    site.publisher.publish(500)
    if running:
        worker.resume()
    else:
        worker = site.workers.start()
    site.wait_until_counted()
    lost = 0
    for shard in site.shards:
        # A fetch that was on its way when the worker stopped may have brought some of them.
        read = int(site.client.hget(ShardKeys(PREFIX, shard).progress, fields.dead("not_json")) or 0)
        progress = site.publisher.expected[shard].progress
        progress[fields.LOST] = doomed - read
        progress[fields.CONSUMED] += read
        progress[fields.dead("not_json")] = read
        lost += doomed - read
    assert lost > 0
    assert site.differences() == []
    worker.wait_until_ready()
    assert worker.metric("authtally_lost_offsets_total") == lost
