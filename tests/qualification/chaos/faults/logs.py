"""Kafka's logs change: transactions, partitions, deletions, and a topic that is another one under its old name."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from typing import Any, Final

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import NewPartitions

from schemas.ledger.keys import Shard
from schemas.settings import PREFIX as SETTINGS
from tests.qualification.chaos.faults.kinds import fault
from tests.qualification.chaos.lanes import IN_TRANSACTION, TEMPLATE_BITS
from tests.qualification.chaos.site import FLEETING, LOGINS, TOKENS, Site
from tests.qualification.chaos.templates import BAD
from tests.qualification.chaos.waiting import wait_for

TRANSACTION_MS: Final = 5000
MOST_PARTITIONS: Final = 6
COUNTED_S: Final = 120


def _transaction(site: Site, chance: random.Random) -> tuple[Any, int, str]:
    """A transaction with events in several partitions, all of them written; its producer and number."""
    number = site.next_transaction()
    producer: Any = Producer(
        {
            "bootstrap.servers": site.kafka.bootstrap,
            "transactional.id": f"chaos-{number}",
            "transaction.timeout.ms": TRANSACTION_MS,
            "log_level": 0,
        }
    )
    producer.init_transactions(20)
    producer.begin_transaction()
    shards = chance.sample([shard for shard in site.ledger.lanes if shard not in site.ledger.apart], 3)
    events = chance.randrange(1, 200)
    for shard in shards:
        lane = site.ledger.lanes[shard]
        for _ in range(events):
            template = chance.randrange(BAD)
            key = IN_TRANSACTION | number << TEMPLATE_BITS | template
            stamp = lane.first_ms + chance.randrange(1000)
            value = lane.templates.values[template]
            producer.produce(shard.topic, value, key.to_bytes(8, "big"), shard.partition, timestamp=stamp)
    producer.flush(20)
    return producer, number, f"{events} events in each of {len(shards)} partitions"


@fault(weight=3)
def transaction_aborted(site: Site, chance: random.Random) -> str:
    producer, number, what = _transaction(site, chance)
    if chance.random() < 0.3:
        producer.commit_transaction(20)
        site.ledger.committed.add(number)
        return f"{what}, committed"
    producer.abort_transaction(20)
    site.ledger.aborted.add(number)
    return what


@fault(weight=1)
def transaction_left_hanging(site: Site, chance: random.Random) -> str:
    """Its producer goes away; nothing after it may be counted before Kafka aborts it."""
    producer, number, what = _transaction(site, chance)
    del producer
    site.ledger.aborted.add(number)
    time.sleep(TRANSACTION_MS / 1000)
    return f"{what}, {TRANSACTION_MS / 1000:g} s"


@fault(weight=1)
def partitions_added(site: Site, chance: random.Random) -> str:
    topic = chance.choice((LOGINS, TOKENS))
    there = sum(shard.topic == topic for shard in site.ledger.lanes)
    if there >= MOST_PARTITIONS:
        return f"not done: {topic} has {there}"
    admin = site.ledger.admin()
    admin.create_partitions([NewPartitions(topic, there + 1)])[topic].result(20)
    wait_for(lambda: site.kafka.led(topic) == there + 1, 30, "the new partition has a leader")
    lane = site.ledger.add_partition(topic)
    site.watch.add(lane.shard)
    return f"{topic} has {there + 1}"


@fault(weight=1)
def records_deleted(site: Site, chance: random.Random) -> str:
    """What is counted wherever the store may fall back to. It may not fall back further from then on."""
    safe = site.safe_positions()
    if safe is None:
        return "not done: a replica is behind"
    site.ledger.audit(safe)
    admin = site.ledger.admin()
    asked = [TopicPartition(*shard, offset) for shard, offset in safe.items() if offset > 0]
    for future in admin.delete_records(asked).values():
        future.result(20)
    return f"{sum(safe.values())} offsets so far"


@fault(weight=1)
def topic_made_anew(site: Site, chance: random.Random) -> str:
    """Its partition must stop; an operator has the new topic counted on top."""
    lane = site.fleeting
    end = site.ledger.ends([lane.shard])[lane.shard]
    wait_for(lambda: site.watch.positions[lane.shard] >= end, COUNTED_S, f"all of {FLEETING} is counted")
    if site.safe_positions() is None:
        return "not done: a replica is behind"
    site.ledger.audit({lane.shard: end})
    site.kafka.remove(FLEETING)
    site.kafka.create(FLEETING, 1)
    lane.begin_anew()
    _some_events(site, chance)
    wait_for(lambda: _is_stopped(site, lane.shard), COUNTED_S, f"{FLEETING} is stopped")
    stopped = site.watch.positions[lane.shard]
    if stopped != end:
        raise AssertionError(f"{FLEETING} went from {end} to {stopped} though it is another topic")
    done = subprocess.run(
        (sys.executable, "-m", "deploy.cli.main", "positions", "reset", FLEETING, "0", "--to", "earliest", "--yes"),
        env={f"{SETTINGS}{name.upper()}": value for name, value in site.settings.items()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"positions reset: {done.stdout}{done.stderr}")
    new_end = site.ledger.ends([lane.shard])[lane.shard]
    wait_for(lambda: site.watch.positions[lane.shard] == new_end, COUNTED_S, f"the new {FLEETING} is counted")
    if site.safe_positions() is None:
        # Nothing brings the old topic back: the store may not fall back past the reset.
        wait_for(lambda: site.safe_positions() is not None, COUNTED_S, "all copies know the new topic")
    return f"{end} offsets, then {new_end}"


def _some_events(site: Site, chance: random.Random) -> None:
    for _ in range(chance.randrange(1, 4)):
        site.ledger.send_chunk(site.fleeting)
    site.ledger.settle()


def _is_stopped(site: Site, shard: Shard) -> bool:
    return any(
        shard.topic in error and "positions reset" in error
        for worker in site.fleet.members
        for error in worker.readiness()[1]
    )
