"""Finds the keys of a shard that may differ after a replay because a clock took part in counting.

A record without a usable timestamp is judged by the store's clock of that time. A later replay can differ in two ways
only: an event that was more than 24 h ahead is not ahead any more, or the record's timestamp has become usable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from aggregator.settings import WorkerSettings
from deploy.cli.snapshot.redis_connections import RedisConnection
from deploy.cli.verify.plain_counting import events_of
from deploy.cli.verify.replay import KafkaRecord
from schemas.events import RecordTime
from schemas.ledger import fields
from schemas.ledger.inventory import INVENTORY_BINDINGS
from schemas.ledger.keys import ShardKeys


class Judged(NamedTuple):
    """Counts of one copy of a shard."""

    untimed: int
    impossible: int
    """Events with an impossible time, by record timestamp or clock."""


async def judged(line: RedisConnection, shard_keys: ShardKeys) -> Judged:
    found = await line.call("HMGET", shard_keys.progress, fields.UNTIMED, fields.dead("impossible_time"))
    return Judged(*(int(number or 0) for number in found))


@dataclass
class Untimed:
    """The untimed replayed records, judged by the present clock. `shard_keys` are those of either copy."""

    settings: WorkerSettings
    shard_keys: ShardKeys
    periods: set[str] = field(default_factory=set)
    """The periods of their events that would count now."""

    def read(self, records: Sequence[KafkaRecord], now_ms: int) -> None:
        for record in records:
            at = RecordTime.of(record.timestamp, now_ms)
            if at.usable:
                continue
            for event in events_of(self.shard_keys.shard.topic, self.settings, record, at):
                local = event.time.astimezone(self.settings.zone)
                self.periods |= {f"{local:%Y-%m-%d}", f"{local:%Y-%m}"}

    def explains(self, name: str, base: Judged, ledger: Judged, log: Judged) -> bool:
        """Whether the clock alone may explain a difference of the key `name`, which lacks the shard's prefix."""
        if ledger.untimed == base.untimed:
            return False
        if ledger.untimed > log.untimed:
            # Some timestamps have become usable, and it is unknown which.
            return True
        if ledger.impossible <= log.impossible:
            return False
        key, shard_keys = self.shard_keys.base + name, self.shard_keys
        if (
            self.settings.topics[shard_keys.shard.topic] in INVENTORY_BINDINGS
            or shard_keys.period_of(key) in self.periods
        ):
            return True
        kept_beside = {
            shard_keys.progress,
            shard_keys.labels,
            shard_keys.shares,
            shard_keys.index,
            shard_keys.ids,
            *map(shard_keys.clients, self.periods),
        }
        return key in kept_beside or key.startswith(shard_keys.ids_of(0)[:-1])
