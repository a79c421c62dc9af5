"""The check that a shard's store and this worker agree on the time, since events are judged by the store's clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import structlog

from aggregator.ledger.ledger import CLOCK_AGE_S, Ledger
from schemas.ledger.keys import Shard
from schemas.telemetry.build import RELEASED
from schemas.time.clock import SYSTEM, Clock

log = structlog.get_logger(__name__)

CLOCKS_APART_MS: Final = 600_000
"""If the two clocks differ by more, at least one is wrong, and events might be judged by the wrong one."""
_RELEASED_MS: Final = int(datetime.fromisoformat(RELEASED).replace(tzinfo=UTC).timestamp() * 1000)


class StoreClocks:
    """Compares the clocks of shards' stores with this worker's."""

    def __init__(self, ledger: Ledger, clock: Clock = SYSTEM) -> None:
        self._ledger = ledger
        self._clock = clock
        self.errors: dict[Shard, str] = {}
        """Shards that are not counted, because the clocks disagree, with the reason."""

    def worker_ms(self) -> int:
        """This worker's clock, Unix ms."""
        return int(self._clock.now() * 1000)

    async def agree(self, shard: Shard) -> bool:
        """Whether events of a shard can be judged. Updates `errors`. Waits for Redis."""
        disagreed = shard in self.errors
        store_ms = await self._ledger.now_ms(shard, 0.0 if disagreed else CLOCK_AGE_S)
        error = clock_error(store_ms, self.worker_ms())
        if error is None:
            if self.errors.pop(shard, None):
                log.info("clocks agree", shard=shard.tag)
            return True
        if not disagreed:
            log.error("clocks disagree", shard=shard.tag, why=error)
        self.errors[shard] = error
        return False

    def forget(self, shard: Shard) -> None:
        self.errors.pop(shard, None)


def clock_error(store_ms: int, worker_ms: int) -> str | None:
    """Why events cannot be judged by these two clocks, Unix ms; None if they can."""
    store, worker = (f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}" for ms in (store_ms, worker_ms))
    shown = f"the store's clock says {store}, this worker's {worker}"
    if min(store_ms, worker_ms) < _RELEASED_MS:
        return f"{shown}: one is before {RELEASED}, the release of this version. Correct that clock"
    if abs(store_ms - worker_ms) > CLOCKS_APART_MS:
        return f"{shown}: they differ by more than {CLOCKS_APART_MS // 60_000} minutes. Correct them"
    return None
