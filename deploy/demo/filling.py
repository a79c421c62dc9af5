"""Fills a demo's ledger: publishes the sample and waits until the worker has counted it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from typing import Any, Final

from confluent_kafka import KafkaError, Message

from deploy.demo.answers import STORE_TIMEOUT_S, consumed
from deploy.demo.otp_sample import otp_tokens
from deploy.demo.processes import Children, DemoError
from deploy.demo.sample_events import Sample, SampleEvents
from deploy.demo.site import DEAD_LETTERS, TOPICS
from deploy.progress import progress
from schemas.connections.redis_clients import open_blocking
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.periods import Month

KEY_PREFIX: Final = "authtally:"
CATCH_UP_TIMEOUT_S: Final = 60
"""Longest time without progress of the worker."""
POLL_S: Final = 0.05

Ends = dict[Shard, int]


def fill(children: Children, sample: SampleEvents) -> None:
    """Publish the sample and wait until the worker has counted it."""
    tokens = list(otp_tokens(sample.until))
    with progress("publishing", "events", sample.count + len(tokens)) as job:
        ends = _publish(children, chain(sample, tokens), job.at)
        job.begin("counting")
        _wait_until_counted(children, ends, job.at)


def set_quotas(children: Children, sample: SampleEvents) -> None:
    last_whole = Month.of(sample.until).plus(-1).compact
    issued = sample.expected.service_tokens.items()
    children.set_quotas({(realm, client): number for (month, realm, client), number in issued if month == last_whole})


def _publish(children: Children, records: Iterable[Sample], show: Any) -> Ends:
    """Publish everything; the acknowledged log end of each partition. Raises DemoError."""
    producer = children.producer()
    ends = {Shard(topic, part): 0 for topic, parts in TOPICS.items() if topic != DEAD_LETTERS for part in range(parts)}
    failures: Counter[str] = Counter()

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failures[str(error)] += 1
            return
        shard = Shard(str(message.topic()), int(message.partition() or 0))
        ends[shard] = max(ends[shard], int(message.offset() or 0) + 1)

    number = 0
    for number, record in enumerate(records, start=1):
        while True:
            try:
                producer.produce(
                    record.topic, record.value, record.key, timestamp=record.time_ms, on_delivery=delivered
                )
            except BufferError:
                producer.poll(0.1)
            else:
                break
        if number % 1000 == 0:
            producer.poll(0)
            children.check()
            show(number)
    deadline = time.monotonic() + CATCH_UP_TIMEOUT_S
    while producer.flush(0.5):
        children.check()
        if time.monotonic() > deadline:
            raise DemoError("The broker did not accept the sample events.")
    if failures:
        raise DemoError(f"The broker refused sample events: {dict(failures)}")
    show(number)
    return ends


def _wait_until_counted(children: Children, ends: Ends, show: Any) -> None:
    """Wait until the ledger's positions equal the log ends. Raises DemoError without progress."""
    position_keys = [ShardKeys(KEY_PREFIX, shard).position for shard in ends]
    seen, deadline = -1, time.monotonic() + CATCH_UP_TIMEOUT_S
    with open_blocking(children.store.url, STORE_TIMEOUT_S) as client:
        while True:
            children.check()
            found: Any = client.mget(position_keys)
            positions = [int(position or 0) for position in found]
            show(sum(positions))
            if positions == list(ends.values()):
                return
            if sum(positions) != seen:
                seen, deadline = sum(positions), time.monotonic() + CATCH_UP_TIMEOUT_S
            if time.monotonic() > deadline:
                raise DemoError(f"The worker makes no progress. Its last lines:\n{children.worker_log()}")
            time.sleep(POLL_S)


def wait_until_consumed(children: Children, records: int) -> None:
    """Wait until the ledger has consumed this number of records. Raises DemoError after a timeout."""
    deadline = time.monotonic() + CATCH_UP_TIMEOUT_S
    with open_blocking(children.store.url, STORE_TIMEOUT_S, decode_responses=True) as client:
        while consumed(client, KEY_PREFIX) < records:
            children.check()
            if time.monotonic() > deadline:
                raise DemoError(f"The worker makes no progress. Its last lines:\n{children.worker_log()}")
            time.sleep(POLL_S)
