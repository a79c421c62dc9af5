"""The ledger of what Kafka acknowledged: one producer, a lane per partition, and the log read back at the end."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from deploy.demo.servers.topics import admin
from schemas.ledger.keys import Shard
from tests.integration.publishing import Expected
from tests.qualification.chaos.lanes import OPENING, Lane, contributions
from tests.qualification.chaos.letters import Letter
from tests.qualification.chaos.poison import MARK
from tests.qualification.chaos.templates import CHUNK, Templates, first_ms
from tests.qualification.chaos.waiting import wait_for

SETTLED_S: Final = 120
READ_S: Final = 600
AT_ONCE: Final = 10_000


def _identity(message: Any) -> bytes:
    """The eight bytes by which a record is known."""
    key: bytes | None = message.key()
    return key if key is not None and len(key) == 8 else dict(message.headers())[MARK]


async def _send_at_zero(bootstrap: str, lane: Lane, value: Any, key: Any, named: Any) -> None:
    """Timestamp 0, for which librdkafka takes the present time. aiokafka needs a key or a value."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    key = b"" if key is None and value is None else key
    try:
        await producer.send_and_wait(lane.shard.topic, value, key, lane.shard.partition, timestamp_ms=0, headers=named)
    finally:
        await producer.stop()


class Ledger:
    """Sends seeded events to every lane for as long as it flows."""

    def __init__(self, bootstrap: str, topics: Mapping[str, str], partitions: int, seed: int, plain: bool) -> None:
        """`topics` maps names to `login`, `token` or `cloudevents`."""
        self.bootstrap, self.seed, self.plain = bootstrap, seed, plain
        self.templates = {topic: Templates(topic, event, seed, plain) for topic, event in topics.items()}
        self.first_ms = first_ms()
        self.lanes = {
            Shard(topic, number): self._lane(Shard(topic, number)) for topic in topics for number in range(partitions)
        }
        self.apart: set[Shard] = set()
        """Lanes that the flow leaves alone."""
        self.aborted: set[int] = set()
        """Transactions that were aborted for certain."""
        self.committed: set[int] = set()
        """Transactions whose commit was acknowledged."""
        self.events_per_s = 0
        self.most_behind = 2_000_000
        self.behind = 0
        """Events that are not counted yet, by the last measurement."""
        self._producer = self._make_producer()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.failure: BaseException | None = None

    def _lane(self, shard: Shard) -> Lane:
        return Lane(shard, self.templates[shard.topic], self.first_ms)

    def _make_producer(self, codec: str = "none") -> Any:
        return Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 20,
                "compression.type": codec,
                "message.timeout.ms": 30_000,
                "request.timeout.ms": 5_000,
                "queue.buffering.max.messages": 200_000,
                "log_level": 0,
            }
        )

    def add_topic(self, topic: str, event: str) -> Lane:
        """A topic of one partition beside the flow; its lane, not opened yet."""
        self.templates[topic] = Templates(topic, event, self.seed, self.plain)
        shard = Shard(topic, 0)
        self.lanes[shard] = lane = self._lane(shard)
        self.apart.add(shard)
        return lane

    @property
    def sent(self) -> int:
        return sum(lane.sent + lane.opened for lane in self.lanes.values())

    # Sending.

    def open(self, lanes: Iterable[Lane]) -> None:
        """Send what makes all names known, and nothing else before it. Raises LateError, RuntimeError."""
        for lane in lanes:
            self._producer.list_topics(lane.shard.topic, timeout=20)
            for number, value in enumerate(lane.templates.opening_values):
                lane.opened += 1
                self._send(lane, (OPENING + number).to_bytes(8, "big"), value, self.first_ms + number)
        self._producer.flush(60)
        for lane in self.lanes.values():
            if any(key >= OPENING for key in lane.unknown):
                raise RuntimeError(f"{lane.shard.tag} was not opened")

    def _send(self, lane: Lane, key: bytes, value: bytes, stamp: int) -> None:
        while True:
            try:
                self._producer.produce(
                    lane.shard.topic, value, key, lane.shard.partition, on_delivery=lane.delivered, timestamp=stamp
                )
            except BufferError:
                self._producer.poll(0.05)
            except KafkaException as error:
                # Only a new producer continues after a fatal error; what the old one had in hand is unknown.
                if not error.args[0].fatal():
                    raise
                self._producer.purge()
                self._producer.flush(20)
                self._producer = self._make_producer()
            else:
                return

    def send_chunk(self, lane: Lane) -> None:
        with self._lock:
            for key, value, stamp in zip(*lane.next_chunk(), strict=True):
                self._send(lane, key, value, stamp)
            self._producer.poll(0)

    def send_chunk_in(self, codec: str, lane: Lane) -> None:
        """A chunk of the flow in batches compressed with `gzip`, `snappy`, `lz4` or `zstd`. Raises LateError."""
        producer = self._make_producer(codec)
        with self._lock:
            for key, value, stamp in zip(*lane.next_chunk(), strict=True):
                producer.produce(
                    lane.shard.topic, value, key, lane.shard.partition, on_delivery=lane.delivered, timestamp=stamp
                )
            wait_for(lambda: not producer.flush(1), SETTLED_S, f"a chunk in {codec} is acknowledged or given up")

    def send_poison(self, lane: Lane, records: Iterable[tuple[int, int]], codec: str = "none") -> None:
        """Send specimens of the lane's corpus, or templates by their numbers after those, each with a timestamp in ms.

        They share batches as far as they fit. Raises LateError.
        """
        producer = self._make_producer(codec)
        for specimen, stamp_ms in records:
            mark, value, key, named = lane.poison(specimen)
            number = int.from_bytes(mark, "big")
            result = [(MARK, mark), *named]
            if stamp_ms == 0:
                asyncio.run(_send_at_zero(self.bootstrap, lane, value, key, result))
                lane.poison_delivered(number, None)
                continue
            producer.produce(
                lane.shard.topic,
                value,
                key,
                lane.shard.partition,
                on_delivery=lambda error, _, number=number: lane.poison_delivered(number, error),
                timestamp=stamp_ms,
                headers=result,
            )
        wait_for(lambda: not producer.flush(1), SETTLED_S, "every poisoned record is acknowledged or given up")

    def flow(self, events_per_s: int) -> None:
        """Send in the background at about this rate, slower while the workers are far behind."""
        self.events_per_s = events_per_s
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, name="flow", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        chance = random.Random(0)
        due = time.monotonic()
        try:
            while not self._ended.is_set():
                lanes = [lane for shard, lane in list(self.lanes.items()) if shard not in self.apart]
                chance.shuffle(lanes)
                for lane in lanes:
                    due += CHUNK / self.events_per_s
                    pause = due - time.monotonic()
                    # What could not be sent while Kafka was away is not made up for.
                    due = max(due, time.monotonic() - 1)
                    if pause > 0 and self._ended.wait(pause):
                        return
                    while self.behind > self.most_behind and not self._ended.wait(0.1):
                        self._producer.poll(0)
                    self.send_chunk(lane)
        except BaseException as failure:  # noqa: BLE001 (raised again by `stop`)
            self.failure = failure

    def stop(self) -> None:
        """End the flow; return when everything sent is acknowledged or given up. Raises what sending raised."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.settle()
        if self.failure is not None:
            raise self.failure

    def settle(self) -> None:
        with self._lock:
            wait_for(lambda: not self._producer.flush(1), SETTLED_S, "every event is acknowledged or given up")

    def add_partition(self, topic: str) -> Lane:
        """The lane of a partition that the topic has got. Opens it."""
        lane = self._lane(Shard(topic, sum(shard.topic == topic for shard in self.lanes)))
        with self._lock:
            self.open([lane])
        self.lanes[lane.shard] = lane
        return lane

    # Reading back.

    def ends(self, shards: Iterable[Shard] | None = None) -> dict[Shard, int]:
        """The offset after the last record or marker of each partition, open transactions included."""
        asked = list(self.lanes if shards is None else shards)
        reader = self._reader("read_uncommitted")
        try:
            return {shard: reader.get_watermark_offsets(TopicPartition(*shard), timeout=20)[1] for shard in asked}
        finally:
            reader.close()

    def wait_until_no_transaction_is_open(self, timeout_s: float = 60) -> None:
        reader = self._reader("read_committed")
        try:
            ends = self.ends()
            wait_for(
                lambda: all(
                    reader.get_watermark_offsets(TopicPartition(*shard), timeout=20)[1] >= end
                    for shard, end in ends.items()
                ),
                timeout_s,
                "no transaction is open",
            )
        finally:
            reader.close()

    def _reader(self, isolation: str) -> Any:
        return Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "auditor",
                "isolation.level": isolation,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "queued.max.messages.kbytes": 32_768,
                "log_level": 0,
            }
        )

    def audit(self, until: Mapping[Shard, int]) -> None:
        """Read every lane's log on to there: what is in it is what must be counted. Raises LateError."""
        reader = self._reader("read_committed")
        try:
            for shard, end in until.items():
                lane = self.lanes[shard]
                reader.assign([TopicPartition(shard.topic, shard.partition, lane.read_to)])
                self._audit_one(reader, lane, end)
        finally:
            reader.close()

    def _audit_one(self, reader: Any, lane: Lane, end: int) -> None:
        deadline = time.monotonic() + READ_S
        while lane.read_to < end:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{lane.shard.tag} could not be read back from {lane.read_to} to {end}")
            found = reader.consume(AT_ONCE, timeout=1)
            records = [one for one in found if one.error() is None]
            if records:
                lane.read(
                    b"".join([_identity(one) for one in records]),
                    [one.offset() for one in records],
                    [one.timestamp()[1] for one in records],
                )
            elif any(one.error().code() == -191 for one in found):  # at the end, past markers and aborted records
                lane.read_to = max(lane.read_to, end)

    def expected(self) -> dict[Shard, Expected]:
        """What the store must hold, of everything read back."""
        adds = {topic: contributions(templates) for topic, templates in self.templates.items()}
        clock_ms = int(time.time() * 1000)
        return {shard: lane.expected(adds[shard.topic], clock_ms) for shard, lane in self.lanes.items()}

    def letters(self) -> set[Letter]:
        """Every dead letter that the logs must lead to."""
        clock_ms = int(time.time() * 1000)
        return {
            Letter(shard.topic, shard.partition, offset, nth, reason)
            for shard, lane in self.lanes.items()
            for offset, nth, reason in lane.letters(clock_ms)
        }

    def broken(self) -> list[str]:
        """Everything in the logs that Kafka itself did wrong, or the producer: a run with any of it proves nothing."""
        found = []
        for shard, lane in self.lanes.items():
            if lane.twice:
                found.append(f"{shard.tag}: {len(lane.twice)} events are in the log twice")
            if missing := lane.missing():
                found.append(f"{shard.tag}: {len(missing)} acknowledged events are not in the log")
            if absent := lane.missing_poison():
                found.append(f"{shard.tag}: {len(absent)} acknowledged poisoned records are not in the log")
            if wrong := self.aborted & lane.committed_transactions:
                found.append(f"{shard.tag}: {len(wrong)} aborted transactions are in the log")
        there = set().union(*(lane.committed_transactions for lane in self.lanes.values()))
        if lost := self.committed - there:
            found.append(f"{len(lost)} committed transactions are not in the log")
        return found

    def unknown(self) -> Counter[str]:
        """How many outcomes the producer never learnt, and how many of those are in the log."""
        found: Counter[str] = Counter()
        for lane in self.lanes.values():
            found["unknown"] += len(lane.unknown)
        return found

    def admin(self) -> Any:
        return admin(self.bootstrap)
