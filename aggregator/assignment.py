"""The assignment: the start offset of each partition, from the ledger's position and Kafka's log bounds."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from aiokafka.errors import KafkaError
from confluent_kafka import KafkaError as KafkaErrorCode
from confluent_kafka import KafkaException, TopicCollection

from aggregator import metrics
from aggregator.kafka.admin import KafkaAdmin
from aggregator.kafka.ranges import LogBounds, Range
from aggregator.kafka.transport import Consumer
from aggregator.ledger.ledger import Ledger, LedgerDefectError, Refused, ShardState
from aggregator.settings import FORMAT, NEVER_ADOPTED, UNRECORDED, WorkerSettings
from schemas.ledger import fields
from schemas.ledger.inventory import INVENTORY_BINDINGS
from schemas.ledger.keys import Shard
from schemas.settings import PREFIX

log = structlog.get_logger(__name__)

ADMIN_TIMEOUT_S: Final = 10.0
RETRY_S: Final = 1.0
DEFECT_PAUSE_S: Final = 30.0
NO_ID: Final = ""


@dataclass(frozen=True, slots=True)
class StartAt:
    """Continue at the ledger's position."""

    offset: int


@dataclass(frozen=True, slots=True)
class StartNew:
    """The ledger has no data of this partition: register it and count from the earliest offset."""

    offset: int


@dataclass(frozen=True, slots=True)
class SkipLost:
    """Kafka deleted these offsets before they were read."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class StopReading:
    """Any further record could be counted wrongly; an operator must decide."""

    reason: str


class SettingsConflictError(Exception):
    """The ledger was counted with other settings: neither counting nor waiting is correct."""


def decide_start(
    shard: Shard, state: ShardState, topic_id: str, bounds: LogBounds
) -> StartAt | StartNew | SkipLost | StopReading:
    """The start of a shard, or the reason to stop it. Pure."""
    reset = f"authtally positions reset {shard.topic} {shard.partition} --to earliest"
    if state.position is None:
        return StartNew(bounds.start)
    if state.position == fields.RESTORING:
        return StopReading(
            f"{shard.tag} is being restored; if no restore is running, repeat: authtally snapshot restore --yes FILE"
        )
    known_id = state.meta.get("topic_id", NO_ID)
    if known_id and topic_id and known_id != topic_id:
        return StopReading(
            f"{shard.topic} was deleted and created again: its ledger has topic id {known_id}, Kafka has {topic_id}; "
            f"to add the new topic to the same figures: {reset}"
        )
    # Only a failed fetch proves that the log ends before the position: it may have grown since the bounds were read.
    if state.position > bounds.end and bounds.out_of_range:
        return StopReading(
            f"{shard.tag} is at {state.position}, beyond the log's end {bounds.end}; to count the log again: {reset}"
        )
    if state.position < bounds.start:
        return SkipLost(state.position, bounds.start)
    unreadable = bounds.unreadable
    if unreadable is not None and state.position == unreadable.offset:
        return StopReading(
            f"{shard.tag} cannot be read at offset {unreadable.offset} of {shard.topic} ({unreadable.error}); to skip "
            f"that batch: authtally positions reset {shard.topic} {shard.partition} --to {unreadable.beyond}"
        )
    return StartAt(state.position)


def order_violation(shard: Shard, binding: str) -> StopReading | None:
    """The stop of a partition other than 0 of a topic whose events need an order; None if it may be read."""
    if binding not in INVENTORY_BINDINGS or shard.partition == 0:
        return None
    return StopReading(
        f"{shard.tag} is not read: {shard.topic} is bound to {binding}, whose events are counted in their order, so it "
        f"must have one partition; partition 0 continues. Send all events to it, or create the topic again with one"
    )


def too_many_unexpected(shard: Shard, position: int, number: int, allowed: int) -> StopReading:
    """The stop before an unexpected record that exceeds the allowance."""
    return StopReading(
        f"{shard.tag} stopped at {position}: this version cannot count the record there, and {number} unexpected "
        f"records were skipped before ({allowed} are allowed). See the log for the defect, or allow more: "
        f"authtally positions allow-unexpected {shard.topic} {shard.partition} {allowed + 100}"
    )


def settings_conflict(meta: Mapping[str, str], settings: Mapping[str, str]) -> str | None:
    """The first setting that contradicts the ledger, with the remedies; None if all agree."""
    for name, value in settings.items():
        stored = meta.get(name, UNRECORDED.get(name) if meta else None)
        if stored is None or stored == value:
            continue
        if name == "format":
            if int(stored) <= FORMAT:
                continue
            return f"the ledger has format {stored}, this version reads formats up to {FORMAT}: run a newer version"
        setting = PREFIX + name.upper()
        remedies = f"restore the old value, or count from the start under another {PREFIX}KEY_PREFIX"
        if name not in NEVER_ADOPTED:
            remedies += ", or record the change with: authtally settings adopt"
        shown = "" if name == "user_hash_key" else f" is {value!r} but the ledger was counted with {stored!r}"
        return f"{setting}{shown or ' is not the key that the ledger was counted with'}: {remedies}"
    return None


@dataclass(slots=True)
class _TopicIdCheck:
    """The last check of a topic's id."""

    topic_id: str = NO_ID
    began_at: float = -math.inf
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Assignment:
    """Assigns partitions, checks that each is still of the same topic, and keeps which are stopped and why."""

    def __init__(self, ledger: Ledger, settings: WorkerSettings) -> None:
        self._ledger = ledger
        self._settings = settings
        self._admin = KafkaAdmin(settings)
        self._assigned_topic_ids: dict[Shard, str] = {}
        """The id of each shard's topic at its assignment."""
        self._id_checks: dict[str, _TopicIdCheck] = {}
        self.stopped: dict[Shard, str] = {}
        self._at_unexpected: dict[Shard, int] = {}
        """The positions of shards that stopped before an unexpected record."""
        self._defects: dict[Shard, tuple[StopReading, float]] = {}
        """Shards with wrong data in the store, and the time (monotonic) of their next attempt."""
        self.error: str | None = None

    async def assign(self, consumer: Consumer, shards: Iterable[Shard]) -> None:
        """Seek each partition to the ledger's position, or stop it. Retries until Kafka and Redis answer.

        Raises SettingsConflictError.
        """
        by_topic: dict[str, set[Shard]] = {}
        for shard in shards:
            by_topic.setdefault(shard.topic, set()).add(shard)
        # Topics run concurrently: one that is being deleted must not delay the others.
        await asyncio.gather(*(self._assign_topic(consumer, topic, found) for topic, found in by_topic.items()))

    async def _assign_topic(self, consumer: Consumer, topic: str, waiting: set[Shard]) -> None:
        while waiting := waiting & consumer.shards():
            try:
                topic_id = (await self.topic_ids({topic}))[topic]
                bounds = await consumer.bounds(waiting)
            except (KafkaError, KafkaException, OSError) as error:
                await self._report_kafka_error(topic, error)
                await asyncio.sleep(RETRY_S)
                continue
            self.error = None
            for shard in sorted(waiting):
                if await self._assign_shard(consumer, shard, topic_id, bounds[shard]):
                    waiting = waiting - {shard}

    async def _assign_shard(self, consumer: Consumer, shard: Shard, topic_id: str, bounds: LogBounds) -> bool:
        """True if done; False if another process moved the shard meanwhile."""
        defect = self._defects.get(shard)
        if defect is not None and time.monotonic() < defect[1]:
            await self._stop(consumer, shard, defect[0])
            return True
        try:
            state = await self._ledger.read_state(shard)
        except LedgerDefectError as error:
            await self.stop_at_defect(consumer, shard, error)
            return True
        conflict = settings_conflict(state.meta, self._settings.counted_with(shard.topic))
        if conflict:
            raise SettingsConflictError(f"{shard.tag}: {conflict}")
        decision = (
            order_violation(shard, self._settings.topics[shard.topic])
            or self._before_unexpected(shard, state)
            or decide_start(shard, state, topic_id, bounds)
        )
        if isinstance(decision, StopReading):
            await self._stop(consumer, shard, decision)
            return True
        if isinstance(decision, StartNew):
            if isinstance(await self._ledger.initialize(shard, decision.offset, topic_id), Refused):
                return False
            start = decision.offset
        elif isinstance(decision, SkipLost):
            if isinstance(await self._ledger.skip_lost(shard, decision.start, decision.end), Refused):
                return False
            metrics.LOST.labels(shard.topic).inc(decision.end - decision.start)
            log.error("offsets lost to retention", shard=shard.tag, start=decision.start, end=decision.end)
            start = decision.end
        else:
            start = decision.offset
        if self.stopped.pop(shard, None):
            log.info("partition continues", shard=shard.tag, position=start)
        metrics.STOPPED.labels(*shard).set(0)
        # The ledger's id first; if it has none, Kafka's present one holds until the next assignment.
        self._assigned_topic_ids[shard] = state.meta.get("topic_id") or topic_id
        await consumer.seek_partition(shard, start)
        return True

    async def _stop(self, consumer: Consumer, shard: Shard, stop: StopReading) -> None:
        if self.stopped.get(shard) != stop.reason:
            log.error("partition stopped", shard=shard.tag, reason=stop.reason)
        self.stopped[shard] = stop.reason
        metrics.STOPPED.labels(*shard).set(1)
        await consumer.stop_partition(shard)

    async def stop_at_unexpected(
        self, consumer: Consumer, shard: Shard, position: int, number: int, allowed: int
    ) -> None:
        """Stop a partition before an unexpected record that exceeds its shard's allowance."""
        self._at_unexpected[shard] = position
        await self._stop(consumer, shard, too_many_unexpected(shard, position, number, allowed))

    async def stop_at_defect(self, consumer: Consumer, shard: Shard, defect: LedgerDefectError) -> None:
        """Stop a partition whose shard has wrong data in the store. It is tried again after DEFECT_PAUSE_S."""
        stop = StopReading(f"{shard.tag}: its data in Redis is wrong ({defect}): restore a snapshot")
        self._defects[shard] = (stop, time.monotonic() + DEFECT_PAUSE_S)
        await self._stop(consumer, shard, stop)

    def _before_unexpected(self, shard: Shard, state: ShardState) -> StopReading | None:
        """The stop of `stop_at_unexpected` again, if neither position nor allowance has changed since.

        Other workers fold the record and stop there themselves.
        """
        at = self._at_unexpected.get(shard)
        if at is not None and at == state.position and len(state.unexpected) >= state.unexpected_allowed:
            return too_many_unexpected(shard, at, len(state.unexpected), state.unexpected_allowed)
        self._at_unexpected.pop(shard, None)
        return None

    def forget_unassigned(self, assigned: Iterable[Shard]) -> None:
        """Forget the stops of partitions that other workers have now; those check them again."""
        for shard in self.stopped.keys() - set(assigned):
            del self.stopped[shard]
            metrics.STOPPED.remove(*map(str, shard))

    async def needs_assignment(self, shards: Collection[Shard]) -> set[Shard]:
        """Partitions to assign again: their topic was created again, or they are stopped and the reason may be gone.

        A position outside the log is not checked: a fetch fails on it. Raises KafkaException.
        """
        ids = await self.topic_ids({shard.topic for shard in shards})
        return {shard for shard in shards if shard in self.stopped or not self._is_topic(shard, ids[shard.topic])}

    async def is_same_log(self, range_: Range) -> bool:
        """Whether the range is of the topic that its shard was assigned in, not of a later one with the same name.

        Only a check of the topic's id that began after the fetch is certain. One check serves all ranges fetched before
        it: it costs little while ranges queue, and a few milliseconds otherwise. Waits for Kafka.
        """
        topic = range_.shard.topic
        state = self._id_checks.setdefault(topic, _TopicIdCheck())
        async with state.lock:
            while state.began_at < range_.fetched_at:
                began_at = time.monotonic()
                try:
                    state.topic_id = (await self.topic_ids({topic}))[topic]
                except KafkaException as error:
                    if error.args[0].code() == KafkaErrorCode.UNKNOWN_TOPIC_OR_PART:
                        return False
                    await self._report_kafka_error(topic, error)
                    await asyncio.sleep(RETRY_S)
                    continue
                self.error = None
                state.began_at = began_at
        return self._is_topic(range_.shard, state.topic_id)

    def _is_topic(self, shard: Shard, topic_id: str) -> bool:
        """Whether the id is that of the shard's topic at its assignment; true if one of the two is unknown."""
        return NO_ID in (topic_id, assigned := self._assigned_topic_ids.get(shard, NO_ID)) or topic_id == assigned

    async def _report_kafka_error(self, topic: str, error: Exception) -> None:
        self.error = self.error or f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS: {error}"
        self.error = await self.diagnose(error)
        log.warning("kafka call failed", topic=topic, error=self.error, retry_in_s=RETRY_S)

    async def diagnose(self, error: Exception) -> str:
        """The cause of a Kafka error, with the setting to check. May take seconds."""
        return await asyncio.to_thread(self._admin.diagnose, error)

    async def topic_ids(self, topics: set[str]) -> dict[str, str]:
        """Kafka's ids of topics, which change when a topic is created again; "" if the broker has none.

        Uses librdkafka, because aiokafka does not return them. Raises KafkaException.
        """
        return await asyncio.to_thread(self._describe, topics) if topics else {}

    def _describe(self, topics: set[str]) -> dict[str, str]:
        asked: Any = self._admin.client.describe_topics(
            TopicCollection(sorted(topics)), request_timeout=ADMIN_TIMEOUT_S
        )
        return {topic: str(future.result().topic_id) for topic, future in asked.items()}
