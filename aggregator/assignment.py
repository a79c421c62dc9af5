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
from aggregator.ledger.ledger import Ledger, LedgerDefectError, Look, Refused
from aggregator.settings import FORMAT, NEVER_ADOPTED, WorkerSettings
from schemas.ledger import fields
from schemas.ledger.inventory import BINDINGS
from schemas.ledger.keys import Shard
from schemas.settings import PREFIX

log = structlog.get_logger(__name__)

ADMIN_TIMEOUT_S: Final = 10.0
PAUSE_S: Final = 1.0
DEFECT_PAUSE_S: Final = 30.0
NO_ID: Final = ""


@dataclass(frozen=True, slots=True)
class Start:
    """Read from here."""

    offset: int


@dataclass(frozen=True, slots=True)
class Open:
    """The ledger holds nothing of this partition: register it and count from the earliest offset."""

    offset: int


@dataclass(frozen=True, slots=True)
class Skip:
    """Kafka deleted offsets before they were read."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Reading on would count wrongly. Only an operator can say what is right."""

    reason: str


class SettingsDifferError(Exception):
    """The ledger was counted with other settings: neither going on nor waiting can be right."""


def decide(shard: Shard, look: Look, topic_id: str, bounds: LogBounds) -> Start | Open | Skip | Stop:
    """Where to read a shard from. Reads nothing itself."""
    reset = f"authtally positions reset {shard.topic} {shard.partition} --to earliest"
    if look.position is None:
        return Open(bounds.start)
    if look.position == fields.RESTORING:
        return Stop(
            f"{shard.tag} is being restored; if nobody is at it any more, repeat: authtally snapshot restore FILE"
        )
    known_id = look.meta.get("topic_id", NO_ID)
    if known_id and topic_id and known_id != topic_id:
        return Stop(
            f"{shard.topic} was deleted and made anew: its ledger is of topic id {known_id}, Kafka has {topic_id}; "
            f"to count the new topic on top: {reset}"
        )
    # Only a fetch that failed there tells: the bounds were asked for before, and the log may have grown since.
    if look.position > bounds.end and bounds.refused:
        return Stop(
            f"{shard.tag} stands at {look.position}, beyond the log's end {bounds.end}; to count the log again: {reset}"
        )
    if look.position < bounds.start:
        return Skip(look.position, bounds.start)
    unreadable = bounds.unreadable
    if unreadable is not None and look.position == unreadable.offset:
        return Stop(
            f"{shard.tag} cannot be read at offset {unreadable.offset} of {shard.topic} ({unreadable.error}); to go on "
            f"behind that batch: authtally positions reset {shard.topic} {shard.partition} --to {unreadable.beyond}"
        )
    return Start(look.position)


def out_of_order(shard: Shard, binding: str) -> Stop | None:
    """Whether a partition must not be read because the order of its topic's events counts, and it has none over two."""
    if binding not in BINDINGS or shard.partition == 0:
        return None
    return Stop(
        f"{shard.tag} is not read: {shard.topic} is bound to {binding}, whose events are counted in their order, so it "
        f"must have one partition; partition 0 goes on. Send all to that, or make the topic anew with one partition"
    )


def too_many_unexpected(shard: Shard, position: int, number: int, allowed: int) -> Stop:
    """The stop before an unexpected record for which there is no allowance."""
    return Stop(
        f"{shard.tag} stopped at {position}: this version cannot count the record there, and {number} unexpected "
        f"records were skipped before ({allowed} are allowed). See the log for the defect, or allow more: "
        f"authtally positions allow-unexpected {shard.topic} {shard.partition} {allowed + 100}"
    )


def differing(meta: Mapping[str, str], settings: Mapping[str, str]) -> str | None:
    """What a ledger was counted with that the settings contradict, in a sentence with the ways on; None if nothing."""
    for name, value in settings.items():
        held = meta.get(name)
        if held is None or held == value:
            continue
        if name == "format":
            if int(held) <= FORMAT:
                continue
            return f"the ledger has format {held}, this version knows {FORMAT}: run a newer version"
        setting = PREFIX + name.upper()
        ways = f"put it back, or count anew under another {PREFIX}KEY_PREFIX"
        if name not in NEVER_ADOPTED:
            ways += ", or record the change with: authtally settings adopt"
        shown = "" if name == "user_hash_key" else f" is {value!r} but the ledger was counted with {held!r}"
        return f"{setting}{shown or ' is not the key that the ledger was counted with'}: {ways}"
    return None


@dataclass(slots=True)
class _Look:
    """The last look at a topic's id."""

    topic_id: str = NO_ID
    began_at: float = -math.inf
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Placement:
    """Places partitions, watches that they stay in place, and remembers which are stopped and why."""

    def __init__(self, ledger: Ledger, settings: WorkerSettings) -> None:
        self._ledger = ledger
        self._settings = settings
        self._admin = KafkaAdmin(settings)
        self._placed: dict[Shard, str] = {}
        """The id of the topic that each shard was counted from when it was placed."""
        self._looks: dict[str, _Look] = {}
        self.stopped: dict[Shard, str] = {}
        self._at_unexpected: dict[Shard, int] = {}
        """Where each shard stands whose next record is unexpected and not allowed."""
        self._defects: dict[Shard, tuple[Stop, float]] = {}
        """Shards that the store holds wrongly, and until when (monotonic) they are not tried again."""
        self.trouble: str | None = None

    async def place(self, consumer: Consumer, shards: Iterable[Shard]) -> None:
        """Seek each partition to where the ledger says, or stop it. Tries until Kafka and Redis answer.

        Raises SettingsDifferError.
        """
        by_topic: dict[str, set[Shard]] = {}
        for shard in shards:
            by_topic.setdefault(shard.topic, set()).add(shard)
        # Apart: a topic that is being deleted must not hold up the others.
        await asyncio.gather(*(self._place_topic(consumer, topic, found) for topic, found in by_topic.items()))

    async def _place_topic(self, consumer: Consumer, topic: str, waiting: set[Shard]) -> None:
        while waiting := waiting & consumer.shards():
            try:
                topic_id = (await self.topic_ids({topic}))[topic]
                bounds = await consumer.bounds(waiting)
            except (KafkaError, KafkaException, OSError) as error:
                await self._kafka_fails(topic, error)
                await asyncio.sleep(PAUSE_S)
                continue
            self.trouble = None
            for shard in sorted(waiting):
                if await self._place_one(consumer, shard, topic_id, bounds[shard]):
                    waiting = waiting - {shard}

    async def _place_one(self, consumer: Consumer, shard: Shard, topic_id: str, bounds: LogBounds) -> bool:
        """True when settled; False when somebody else moved the shard meanwhile."""
        defect = self._defects.get(shard)
        if defect is not None and time.monotonic() < defect[1]:
            await self._stop(consumer, shard, defect[0])
            return True
        try:
            look = await self._ledger.look(shard)
        except LedgerDefectError as error:
            await self.stop_at_defect(consumer, shard, error)
            return True
        differs = differing(look.meta, self._settings.counted_with(shard.topic))
        if differs:
            raise SettingsDifferError(f"{shard.tag}: {differs}")
        decision = (
            out_of_order(shard, self._settings.topics[shard.topic])
            or self._before_unexpected(shard, look)
            or decide(shard, look, topic_id, bounds)
        )
        if isinstance(decision, Stop):
            await self._stop(consumer, shard, decision)
            return True
        if isinstance(decision, Open):
            if isinstance(await self._ledger.open(shard, decision.offset, topic_id), Refused):
                return False
            start = decision.offset
        elif isinstance(decision, Skip):
            if isinstance(await self._ledger.skip(shard, decision.start, decision.end), Refused):
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
        self._placed[shard] = look.meta.get("topic_id") or topic_id
        await consumer.seek_range(shard, start)
        return True

    async def _stop(self, consumer: Consumer, shard: Shard, stop: Stop) -> None:
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
        stop = Stop(f"{shard.tag}: its ledger is not stored as it must be ({defect}): restore a snapshot")
        self._defects[shard] = (stop, time.monotonic() + DEFECT_PAUSE_S)
        await self._stop(consumer, shard, stop)

    def _before_unexpected(self, shard: Shard, look: Look) -> Stop | None:
        """Whether the shard still stands where it was stopped, with no more allowed. Other workers find out anew."""
        at = self._at_unexpected.get(shard)
        if at is not None and at == look.position and len(look.unexpected) >= look.unexpected_allowed:
            return too_many_unexpected(shard, at, len(look.unexpected), look.unexpected_allowed)
        self._at_unexpected.pop(shard, None)
        return None

    def leave(self, assigned: Iterable[Shard]) -> None:
        """Forget why partitions are stopped that others have now: those stop them again, or do not."""
        for shard in self.stopped.keys() - set(assigned):
            del self.stopped[shard]
            metrics.STOPPED.remove(*map(str, shard))

    async def misplaced(self, shards: Collection[Shard]) -> set[Shard]:
        """Partitions to place again: the log is another one, or they are stopped and may be so no longer.

        A position outside the log is left to the fetch that fails on it. Raises KafkaException.
        """
        ids = await self.topic_ids({shard.topic for shard in shards})
        return {shard for shard in shards if shard in self.stopped or not self._is_of(shard, ids[shard.topic])}

    async def is_same_log(self, cut: Range) -> bool:
        """Whether the range is of the topic that its shard was placed in, not of one made anew under its name.

        Known for sure only by a look at the topic's id that began after the fetch. One look serves all ranges fetched
        before it, so it costs little where ranges queue, and a few milliseconds where they do not. Waits for Kafka.
        """
        topic = cut.shard.topic
        look = self._looks.setdefault(topic, _Look())
        async with look.turn:
            while look.began_at < cut.fetched_at:
                began_at = time.monotonic()
                try:
                    look.topic_id = (await self.topic_ids({topic}))[topic]
                except KafkaException as error:
                    if error.args[0].code() == KafkaErrorCode.UNKNOWN_TOPIC_OR_PART:
                        return False
                    await self._kafka_fails(topic, error)
                    await asyncio.sleep(PAUSE_S)
                    continue
                self.trouble = None
                look.began_at = began_at
        return self._is_of(cut.shard, look.topic_id)

    def _is_of(self, shard: Shard, topic_id: str) -> bool:
        return NO_ID in (topic_id, placed := self._placed.get(shard, NO_ID)) or topic_id == placed

    async def _kafka_fails(self, topic: str, error: Exception) -> None:
        self.trouble = self.trouble or f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS: {error}"
        self.trouble = await self.why(error)
        log.warning("kafka does not do its part", topic=topic, error=self.trouble, retry_in_s=PAUSE_S)

    async def why(self, error: Exception) -> str:
        """Why Kafka does not do its part, by the setting to look at. May take seconds, to find out."""
        return await asyncio.to_thread(self._admin.why, error)

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
