"""Checks every few seconds, even without records: commits, lag, partitions to assign again.

Faust's commit timer runs them (`App._positions`).
"""

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
from aggregator.assignment import Assignment
from aggregator.clocks import StoreClocks
from aggregator.counting import RangeCounter
from aggregator.kafka.ranges import LogBounds
from aggregator.kafka.transport import Consumer
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.store import describe_error
from schemas.ledger import fields
from schemas.ledger.keys import Shard

log = structlog.get_logger(__name__)

INTERVAL_S: Final = 3.0


class StuckError(Exception):
    """The position has not moved for too long although records wait and Kafka and Redis answer."""


class Progress:
    """Measures each assigned shard, and raises if one does not move without an external reason."""

    def __init__(
        self,
        ledger: Ledger,
        counting: RangeCounter,
        assignment: Assignment,
        clocks: StoreClocks,
        is_blocked: Callable[[], bool],
        stuck_after_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`is_blocked` returns whether an external problem delays ranges; a stuck shard does not raise then."""
        self._ledger = ledger
        self._counting = counting
        self._assignment = assignment
        self._clocks = clocks
        self._is_blocked = is_blocked
        self._stuck_after_s = stuck_after_s
        self._clock = clock
        self._last_moves: dict[Shard, tuple[int, float]] = {}
        self.problems: dict[str, str] = {}
        """Errors of the last tick by component: redis or kafka."""

    async def tick(self, consumer: Consumer) -> dict[Shard, int]:
        """Record lag and observations, start assignments that are due, and return the positions to commit.

        Returns nothing while Kafka or Redis does not answer. Raises StuckError.
        """
        gc.collect()  # see Worker.start
        assigned = consumer.shards()
        for shard in set(self._last_moves) - assigned:
            self._forget(shard)
        self._assignment.forget_unassigned(assigned)
        try:
            positions = await self._ledger.positions(assigned)
            await self._ledger.register(positions)
            bounds = await consumer.bounds(positions)
            to_assign = await self._assignment.needs_assignment(positions) | self._rolled_back(positions)
            for shard in positions:
                await self._clocks.agree(shard)
            for shard, position in positions.items():
                await self._measure(consumer, shard, position, bounds[shard])
        except (RedisError, RedisClusterException) as error:
            self.problems = {"redis": describe_error(error)}
            metrics.REDIS_ERRORS.inc()
            return {}
        except (KafkaError, KafkaException, OSError) as error:
            self.problems = {"kafka": await self._assignment.diagnose(error)}
            return {}
        self.problems = {}
        if to_assign:
            consumer.assign_soon(to_assign)
        return {shard: at for shard, at in positions.items() if shard not in to_assign}

    def _rolled_back(self, positions: Mapping[Shard, int]) -> set[Shard]:
        """Shards whose position went back in the store: without new records no refused script would show it."""
        return {
            shard for shard, (last_position, _) in self._last_moves.items() if positions.get(shard, -1) < last_position
        }

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
        await self._ledger.record_observations(
            shard,
            {
                fields.END: fields.observation(end, now_ms),
                fields.STABLE_END: fields.observation(bounds.end, now_ms),
            },
        )
        self._check_stuck(shard, position, stable_lag)

    def _check_stuck(self, shard: Shard, position: int, backlog: int) -> None:
        last_position, since = self._last_moves.get(shard, (None, 0.0))
        now = self._clock()
        if position != last_position or not backlog or shard in self._assignment.stopped or self._is_blocked():
            self._last_moves[shard] = (position, now)
        elif now - since > self._stuck_after_s:
            raise StuckError(
                f"{shard.tag} has been at {position} for {now - since:.0f} s with {backlog} records to read"
            )

    def _forget(self, shard: Shard) -> None:
        del self._last_moves[shard]
        self._counting.leave(shard)
        metrics.remove_shard(shard)
