"""Where a partition is read from: what the ledger holds against what Kafka holds."""

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
from aggregator.kafka.transport import Consumer, LogBounds, Range
from aggregator.ledger.ledger import Ledger, LedgerDefectError, Refused, ShardState
from aggregator.settings import FORMAT, NEVER_ADOPTED, WorkerSettings
from schemas.ledger import fields
from schemas.ledger.inventory import BINDINGS
from schemas.ledger.keys import Shard
from schemas.settings import PREFIX

log = structlog.get_logger(__name__)

ADMIN_TIMEOUT_S: Final = 10.0
RETRY_S: Final = 1.0
DEFECT_PAUSE_S: Final = 30.0
NO_ID: Final = ""


@dataclass(frozen=True, slots=True)
class StartAt:
    """Read from here."""

    offset: int


@dataclass(frozen=True, slots=True)
class StartNew:
    """The ledger holds nothing of this partition: register it and count from the earliest offset."""

    offset: int


@dataclass(frozen=True, slots=True)
class SkipLost:
    """Kafka deleted offsets before they were read."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class StopReading:
    """Reading on would count wrongly. Only an operator can say what is right."""

    reason: str


class SettingsConflictError(Exception):
    """The ledger was counted with other settings: neither going on nor waiting can be right."""


def decide_start(
    shard: Shard, state: ShardState, topic_id: str, bounds: LogBounds
) -> StartAt | StartNew | SkipLost | StopReading:
    """Where to read a shard from. Reads nothing itself."""
    reset = f"authtally positions reset {shard.topic} {shard.partition} --to earliest"
    if state.position is None:
        return StartNew(bounds.start)
    if state.position == fields.RESTORING:
        return StopReading(
            f"{shard.tag} is being restored; if nobody is at it any more, repeat: authtally snapshot restore FILE"
        )
    known_id = state.meta.get("topic_id", NO_ID)
    if known_id and topic_id and known_id != topic_id:
        return StopReading(
            f"{shard.topic} was deleted and made anew: its ledger is of topic id {known_id}, Kafka has {topic_id}; "
            f"to count the new topic on top: {reset}"
        )
    # Only a fetch that failed there tells: the bounds were asked for before, and the log may have grown since.
    if state.position > bounds.end and bounds.out_of_range:
        return StopReading(
            f"{shard.tag} stands at {state.position}, beyond the log's end {bounds.end}; to count the log again: "
            f"{reset}"
        )
    if state.position < bounds.start:
        return SkipLost(state.position, bounds.start)
    unreadable = bounds.unreadable
    if unreadable is not None and state.position == unreadable.offset:
        return StopReading(
            f"{shard.tag} cannot be read at offset {unreadable.offset} of {shard.topic} ({unreadable.error}); to go on "
            f"behind that batch: authtally positions reset {shard.topic} {shard.partition} --to {unreadable.beyond}"
        )
    return StartAt(state.position)


def order_violation(shard: Shard, binding: str) -> StopReading | None:
    """Whether a partition must not be read because the order of its topic's events counts, and it has none over two."""
    if binding not in BINDINGS or shard.partition == 0:
        return None
    return StopReading(
        f"{shard.tag} is not read: {shard.topic} is bound to {binding}, whose events are counted in their order, so it "
        f"must have one partition; partition 0 goes on. Send all to that, or make the topic anew with one partition"
    )


def too_many_unexpected(shard: Shard, position: int, number: int, allowed: int) -> StopReading:
    """The stop before an unexpected record for which there is no allowance."""
    return StopReading(
        f"{shard.tag} stopped at {position}: this version cannot count the record there, and {number} unexpected "
        f"records were skipped before ({allowed} are allowed). See the log for the defect, or allow more: "
        f"authtally positions allow-unexpected {shard.topic} {shard.partition} {allowed + 100}"
    )


def settings_conflict(meta: Mapping[str, str], settings: Mapping[str, str]) -> str | None:
    """What a ledger was counted with that the settings contradict, in a sentence with the ways on; None if nothing."""
    for name, value in settings.items():
        stored = meta.get(name)
        if stored is None or stored == value:
            continue
        if name == "format":
            if int(stored) <= FORMAT:
                continue
            return f"the ledger has format {stored}, this version knows {FORMAT}: run a newer version"
        setting = PREFIX + name.upper()
        remedies = f"put it back, or count anew under another {PREFIX}KEY_PREFIX"
        if name not in NEVER_ADOPTED:
            remedies += ", or record the change with: authtally settings adopt"
        shown = "" if name == "user_hash_key" else f" is {value!r} but the ledger was counted with {stored!r}"
        return f"{setting}{shown or ' is not the key that the ledger was counted with'}: {remedies}"
    return None


@dataclass(slots=True)
class _TopicIdCheck:
    """The last look at a topic's id."""

    topic_id: str = NO_ID
    began_at: float = -math.inf
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Assignment:
    """Places partitions, watches that they stay in place, and remembers which are stopped and why."""

    def __init__(self, ledger: Ledger, settings: WorkerSettings) -> None:
        self._ledger = ledger
        self._settings = settings
        self._admin = KafkaAdmin(settings)
        self._assigned_topic_ids: dict[Shard, str] = {}
        """The id of the topic that each shard was counted from when it was placed."""
        self._id_checks: dict[str, _TopicIdCheck] = {}
        self.stopped: dict[Shard, str] = {}
        self._at_unexpected: dict[Shard, int] = {}
        """Where each shard stands whose next record is unexpected and not allowed."""
        self._defects: dict[Shard, tuple[StopReading, float]] = {}
        """Shards that the store holds wrongly, and until when (monotonic) they are not tried again."""
        self.error: str | None = None

    async def assign(self, consumer: Consumer, shards: Iterable[Shard]) -> None:
        """Seek each partition to where the ledger says, or stop it. Tries until Kafka and Redis answer.

        Raises SettingsConflictError.
        """
        by_topic: dict[str, set[Shard]] = {}
        for shard in shards:
            by_topic.setdefault(shard.topic, set()).add(shard)
        # Apart: a topic that is being deleted must not hold up the others.
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
        """True when settled; False when somebody else moved the shard meanwhile."""
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
            log.info("partition goes on", shard=shard.tag, position=start)
        metrics.STOPPED.labels(*shard).set(0)
        # Not what Kafka has now: a ledger that knew no id yet goes by this one until it is placed again.
        self._assigned_topic_ids[shard] = state.meta.get("topic_id") or topic_id
        await consumer.seek_range(shard, start)
        return True

    async def _stop(self, consumer: Consumer, shard: Shard, stop: StopReading) -> None:
        if self.stopped.get(shard) != stop.reason:
            log.error("partition stopped", shard=shard.tag, reason=stop.reason)
        self.stopped[shard] = stop.reason
        metrics.STOPPED.labels(*shard).set(1)
        await consumer.stop_range(shard)

    async def stop_at_unexpected(
        self, consumer: Consumer, shard: Shard, position: int, number: int, allowed: int
    ) -> None:
        """Stop a partition before an unexpected record that is one more than its shard allows."""
        self._at_unexpected[shard] = position
        await self._stop(consumer, shard, too_many_unexpected(shard, position, number, allowed))

    async def stop_at_defect(self, consumer: Consumer, shard: Shard, defect: LedgerDefectError) -> None:
        """Stop a partition whose shard is not stored as it must be. It is tried again after DEFECT_PAUSE_S."""
        stop = StopReading(f"{shard.tag}: its ledger is not stored as it must be ({defect}): restore a snapshot")
        self._defects[shard] = (stop, time.monotonic() + DEFECT_PAUSE_S)
        await self._stop(consumer, shard, stop)

    def _before_unexpected(self, shard: Shard, state: ShardState) -> StopReading | None:
        """Whether the shard still stands where it was stopped, with no more allowed. Other workers find out anew."""
        at = self._at_unexpected.get(shard)
        if at is not None and at == state.position and len(state.unexpected) >= state.unexpected_allowed:
            return too_many_unexpected(shard, at, len(state.unexpected), state.unexpected_allowed)
        self._at_unexpected.pop(shard, None)
        return None

    def forget_unassigned(self, assigned: Iterable[Shard]) -> None:
        """Forget why partitions are stopped that others have now: those stop them again, or do not."""
        for shard in self.stopped.keys() - set(assigned):
            del self.stopped[shard]
            metrics.STOPPED.remove(*map(str, shard))

    async def needs_assignment(self, shards: Collection[Shard]) -> set[Shard]:
        """Partitions to place again: the log is another one, or they are stopped and may be so no longer.

        A position outside the log is left to the fetch that fails on it. Raises KafkaException.
        """
        ids = await self.topic_ids({shard.topic for shard in shards})
        return {shard for shard in shards if shard in self.stopped or not self._is_topic(shard, ids[shard.topic])}

    async def is_same_log(self, range_: Range) -> bool:
        """Whether the range is of the topic that its shard was placed in, not of one made anew under its name.

        Known for sure only by a look at the topic's id that began after the fetch. One look serves all ranges fetched
        before it, so it costs little where ranges queue, and a few milliseconds where they do not. Waits for Kafka.
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
        return NO_ID in (topic_id, assigned := self._assigned_topic_ids.get(shard, NO_ID)) or topic_id == assigned

    async def _report_kafka_error(self, topic: str, error: Exception) -> None:
        self.error = self.error or f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS: {error}"
        self.error = await self.diagnose(error)
        log.warning("kafka does not do its part", topic=topic, error=self.error, retry_in_s=RETRY_S)

    async def diagnose(self, error: Exception) -> str:
        """Why Kafka does not do its part, by the setting to look at. May take seconds, to find out."""
        return await asyncio.to_thread(self._admin.diagnose, error)

    async def topic_ids(self, topics: set[str]) -> dict[str, str]:
        """Kafka's ids of topics, which a topic made anew under an old name does not share. "" where it has none.

        aiokafka does not tell them, hence another client. Raises KafkaException.
        """
        return await asyncio.to_thread(self._describe, topics) if topics else {}

    def _describe(self, topics: set[str]) -> dict[str, str]:
        asked: Any = self._admin.client.describe_topics(
            TopicCollection(sorted(topics)), request_timeout=ADMIN_TIMEOUT_S
        )
        return {topic: str(future.result().topic_id) for topic, future in asked.items()}
