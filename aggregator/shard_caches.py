"""The worker's copies of shards' labels, ids and applied users."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from aggregator import metrics
from aggregator.fold.deduplication import SeenIds, effective_window_s
from aggregator.fold.range_delta import RangeDelta, ShardCache
from aggregator.fold_factory import FoldFactory
from aggregator.ledger.ledger import Applied, Ledger, Refused, ShardState
from aggregator.settings import FORMAT, WorkerSettings
from schemas.ledger import fields
from schemas.ledger.keys import Shard

log = structlog.get_logger(__name__)

MAX_CACHED_USERS: Final = 200_000
"""Users held per worker, about 130 bytes each. Cleared when full; frequent users re-enter quickly."""


@dataclass(slots=True)
class LoadedShard:
    """The state of a shard at `position`. Valid until the ledger refuses a range: another writer moved it."""

    position: int
    cache: ShardCache
    unexpected_allowed: int
    meta: dict[str, str]
    """Fields for the shard's meta hash, written with the next range: those that an older format lacks."""
    removals: str = ""
    """The shard's REMOVALS, the number of steps that removed keys of realms; a range is refused after another one."""
    in_sketches: set[tuple[str, Any]] = field(default_factory=set)
    """Pairs of period and scope whose users are known to be in sketches."""


class ShardCaches:
    """Loads, updates and drops the caches of all shards."""

    def __init__(
        self, settings: WorkerSettings, ledger: Ledger, folds: FoldFactory, worker_ms: Callable[[], int]
    ) -> None:
        """`worker_ms` returns the worker's clock, Unix ms."""
        self._settings = settings
        self._ledger = ledger
        self._folds = folds
        self._worker_ms = worker_ms
        self._shards: dict[Shard, LoadedShard] = {}
        self._cached_users = 0

    async def load(self, shard: Shard, start: int) -> LoadedShard | Refused:
        """The state of a shard that stands at `start`; Refused with its position if it stands elsewhere."""
        while True:
            loaded = self._shards.get(shard)
            if loaded is not None and loaded.position == start:
                return loaded
            state = await self._ledger.read_state(shard)
            if state.position != start:
                return Refused(state.position)
            seen_ids = await self._ledger.read_seen_ids(shard, state)
            if seen_ids is None:
                continue
            self.forget(shard)
            cache = self._folds.new_cache(shard, state, seen_ids)
            self._shards[shard] = LoadedShard(
                start, cache, state.unexpected_allowed, self._missing_meta(shard, start, state), state.removals
            )
            return self._shards[shard]

    def _missing_meta(self, shard: Shard, start: int, state: ShardState) -> dict[str, str]:
        """The meta fields that a shard of an older format lacks, with the first offset of this format."""
        if int(state.meta.get(fields.FORMAT, FORMAT)) >= FORMAT:
            return {}
        log.info("ledger upgraded", shard=shard.tag, from_format=state.meta[fields.FORMAT], to_format=FORMAT, at=start)
        settings = self._settings.counted_with(shard.topic)
        return {name: value for name, value in settings.items() if name not in state.meta} | {
            fields.FORMAT: str(FORMAT),
            fields.since(fields.FORMAT): fields.observation(start, self._worker_ms()),
        }

    def update(self, shard: Shard, loaded: LoadedShard, delta: RangeDelta, applied: Applied) -> None:
        """Take over a delta that the store has applied."""
        loaded.position = delta.end
        loaded.meta = {}
        loaded.in_sketches |= applied.in_sketches
        loaded.cache.update(delta)
        self._cached_users += sum(map(len, delta.new_users.values()))
        if self._cached_users > MAX_CACHED_USERS:
            for other in self._shards.values():
                other.cache.applied_users.clear()
            self._cached_users = 0
        metrics.CACHED_USERS.set(self._cached_users)
        if loaded.cache.seen_ids.hours:
            self._record_window(shard, loaded.cache.seen_ids)

    def forget(self, shard: Shard) -> None:
        """Drop the cache of a shard; safe if there is none."""
        dropped = self._shards.pop(shard, None)
        if dropped is not None:
            if dropped.cache.seen_ids.hours:
                metrics.DEDUPE_WINDOW.remove(*map(str, shard))
                metrics.DEDUPE_IDS.remove(*map(str, shard))
            self._cached_users -= sum(map(len, dropped.cache.applied_users.values()))
            metrics.CACHED_USERS.set(self._cached_users)

    def _record_window(self, shard: Shard, seen_ids: SeenIds) -> None:
        window_s = self._settings.dedupe_window_s
        metrics.DEDUPE_WINDOW.labels(*shard).set(effective_window_s(seen_ids, window_s))
        excess = 0 if seen_ids.excess is None else len(seen_ids.excess.digests)
        metrics.DEDUPE_IDS.labels(*shard).set(len(seen_ids.digests) + excess)
