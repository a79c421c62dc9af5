"""The sample that every arm reads: what an auth server of a million users publishes, prefilled into Apache Kafka.

Half logins and half token answers, users by Zipf's law, each user in one of 20 realms of ten clients, 160-byte values
without ids, 4 + 4 partitions, in order of time over five days.
"""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from confluent_kafka import Producer

from deploy.demo.servers import create_topics

PARTITIONS: Final = 4
REALMS: Final = 20
CLIENTS: Final = 10
VALUE_BYTES: Final = 160
START: Final = datetime(2026, 11, 10, tzinfo=UTC)
SPAN: Final = timedelta(days=5)
USERS: Final = 1_000_000
LOGINS: Final = "bench.logins"
TOKENS: Final = "bench.tokens"
DEAD: Final = "bench.dead-letter"


class Produced(NamedTuple):
    """One record to produce."""

    topic: str
    value: bytes
    partition: int
    timestamp_ms: int


def user_numbers(events: int, zipf: float, seed: int = 1) -> list[int]:
    """`events` user numbers below USERS; `zipf` 0 makes every user equally likely."""
    chance = random.Random(seed)
    if not zipf:
        return [chance.randrange(USERS) for _ in range(events)]
    bounds = list(itertools.accumulate((rank + 1) ** -zipf for rank in range(USERS)))
    whole = bounds[-1]
    return [bisect.bisect(bounds, chance.random() * whole) for _ in range(events)]


def prefill(bootstrap: str, events: int, zipf: float = 1.1) -> None:
    """Make the topics and produce the sample; returns when Kafka has all of it."""
    # Retention compares record timestamps with the present, and would delete the sample, whose days are past.
    create_topics(bootstrap, {LOGINS: PARTITIONS, TOKENS: PARTITIONS, DEAD: 1}, {"retention.ms": "-1"})
    produce(bootstrap, _records(events, zipf))


def _records(events: int, zipf: float) -> Iterator[Produced]:
    step = SPAN / events
    for number, user in enumerate(user_numbers(events, zipf)):
        time = START + step * number
        topic, event = (TOKENS, "token") if number % 2 else (LOGINS, "login")
        written = value(event, number // 2, user, f"{time:%Y-%m-%dT%H:%M:%S}Z")
        yield Produced(topic, written, user % PARTITIONS, int(time.timestamp() * 1000))


def produce(bootstrap: str, records: Iterable[Produced]) -> None:
    """Returns when Kafka has all of them. Raises RuntimeError when it does not take some."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 50,
            "batch.size": 500_000,
            "queue.buffering.max.messages": 400_000,
        }
    )
    for number, record in enumerate(records):
        while True:
            try:
                producer.produce(record.topic, record.value, partition=record.partition, timestamp=record.timestamp_ms)
                break
            except BufferError:
                producer.poll(0.05)
        if not number % 20_000:
            producer.poll(0)
    left = producer.flush(120)
    if left:
        raise RuntimeError(f"{left} records were not produced")


def value(event: str, number: int, user: int, time: str, realms: int = REALMS, clients: int = CLIENTS) -> bytes:
    """One value of 160 bytes. `number` counts those of its topic; `clients` are those of each realm."""
    realm = user % realms
    # Where each realm has one client it is that realm's own, so that there are as many clients as realms.
    client = number % clients if clients > 1 else realm
    head = f'{{"time":"{time}","user_id":"user-{user:08}","realm":"realm-{realm:02}","client_id":"client-{client}"'
    if event == "token":
        grant = ("authorization_code", "refresh_token", "client_credentials")[number % 3]
        head += f',"grant_type":"{grant}","tokens":["access_token"]'
    else:
        head += ',"success":true' if number % 10 else ',"success":false,"reason":"locked"'
    return f'{head},"x":"'.encode().ljust(VALUE_BYTES - 2, b"-") + b'"}'
