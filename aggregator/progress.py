"""What the worker looks at every few seconds, whether or not anything arrives: commits, lag, misplaced partitions."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog
from aiokafka.errors import KafkaError
from confluent_kafka import KafkaException
from redis.exceptions import RedisClusterException, RedisError

from aggregator import metrics
from aggregator.assignment import Placement
from aggregator.counting import Counting
from aggregator.kafka.transport import Consumer, LogBounds
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.store import trouble_in_words
from schemas.ledger import fields
from schemas.ledger.keys import Shard

log = structlog.get_logger(__name__)

INTERVAL_S: Final = 3.0


class StuckError(Exception):
    """Kafka has committed records, Redis answers, and yet the position has not moved for too long."""


class Progress:
    """Measures each assigned shard, and raises the alarm when one stands still for no reason outside."""

    def __init__(
        self,
        ledger: Ledger,
        counting: Counting,
        placement: Placement,
        held_up: Callable[[], bool],
        stuck_after_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`held_up` tells whether something outside keeps ranges waiting, which is no reason for alarm."""
        self._ledger = ledger
        self._counting = counting
        self._placement = placement
        self._held_up = held_up
        self._stuck_after_s = stuck_after_s
        self._clock = clock
        self._stands: dict[Shard, tuple[int, float]] = {}
        self.troubles: dict[str, str] = {}
        """What the last look found in its way, by where: redis or kafka."""

    async def look(self, consumer: Consumer) -> dict[Shard, int]:
        """Positions of the assignment, to be committed; on the way lag, observations and misplaced partitions.

        Empty while Kafka or Redis does not answer. Raises StuckError.
        """
        gc.collect()  # see Worker.start
        assigned = consumer.shards()
        for shard in set(self._stands) - assigned:
            self._leave(shard)
        self._placement.leave(assigned)
        try:
            positions = await self._ledger.positions(assigned)
            await self._ledger.register(positions)
            bounds = await consumer.bounds(positions)
            again = await self._placement.misplaced(positions) | self._fallen_back(positions)
            for shard in positions:
                await self._counting.clocks_agree(shard)
            for shard, position in positions.items():
                await self._measure(consumer, shard, position, bounds[shard])
        except (RedisError, RedisClusterException) as error:
            self.troubles = {"redis": trouble_in_words(error)}
            metrics.REDIS_ERRORS.inc()
            return {}
        except (KafkaError, KafkaException, OSError) as error:
            self.troubles = {"kafka": await self._placement.why(error)}
            return {}
        self.troubles = {}
        if again:
            consumer.place_soon(again)
        return {shard: at for shard, at in positions.items() if shard not in again}

    def _fallen_back(self, positions: Mapping[Shard, int]) -> set[Shard]:
        """Shards that the store took back: where nothing new comes, no refused script would ever tell."""
        return {shard for shard, (stood_at, _) in self._stands.items() if positions.get(shard, -1) < stood_at}

    async def _measure(self, consumer: Consumer, shard: Shard, position: int, bounds: LogBounds) -> None:
        end = max(consumer.end(shard) or 0, bounds.end)
        stable_lag = max(bounds.end - position, 0)
        metrics.POSITION.labels(*shard).set(position)
        metrics.LOG_END.labels(*shard).set(end)
        metrics.LAG.labels(*shard).set(max(end - position, 0))
        metrics.STABLE_LAG.labels(*shard).set(stable_lag)
        newest = self._counting.last_record_ms.get(shard)
        behind = max(time.time() - newest / 1000, 0) if stable_lag and newest is not None else 0
        metrics.LAG_SECONDS.labels(*shard).set(behind)
        now_ms = int(time.time() * 1000)
        await self._ledger.observe(
            shard,
            {
                fields.END: fields.observation(end, now_ms),
                fields.STABLE_END: fields.observation(bounds.end, now_ms),
            },
        )
        self._alarm(shard, position, stable_lag)

    def _alarm(self, shard: Shard, position: int, waiting: int) -> None:
        stood_at, since = self._stands.get(shard, (None, 0.0))
        now = self._clock()
        if position != stood_at or not waiting or shard in self._placement.stopped or self._held_up():
            self._stands[shard] = (position, now)
        elif now - since > self._stuck_after_s:
            raise StuckError(f"{shard.tag} stands at {position} for {now - since:.0f} s with {waiting} records to read")

    def _leave(self, shard: Shard) -> None:
        del self._stands[shard]
        self._counting.leave(shard)
        metrics.leave(shard)
