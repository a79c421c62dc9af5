"""Which keys of a shard a replay may leave otherwise because a clock took part in counting.

A record without a usable timestamp is judged by the store's clock at that time. A later replay can differ in two ways
only: an event that was more than 24 h ahead then is not any more, or the record's own timestamp is usable by now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from aggregator.settings import WorkerSettings
from deploy.cli.snapshot.redis_connections import RedisConnection
from deploy.cli.verify.recount import events_of
from deploy.cli.verify.replay import KafkaRecord
from schemas.events import RecordTime
from schemas.ledger import fields
from schemas.ledger.inventory import BINDINGS
from schemas.ledger.keys import ShardKeys


class Judged(NamedTuple):
    """Numbers in one copy of a shard."""

    untimed: int
    impossible: int
    """Events whose time was impossible, by whatever clock."""


async def judged(line: RedisConnection, of: ShardKeys) -> Judged:
    found = await line.call("HMGET", of.progress, fields.UNTIMED, fields.dead("impossible_time"))
    return Judged(*(int(number or 0) for number in found))


@dataclass
class Untimed:
    """Untimed records of the part that is replayed, as they read now. `of` names the keys of either copy."""

    settings: WorkerSettings
    of: ShardKeys
    periods: set[str] = field(default_factory=set)
    """Those of their events that would count now."""

    def read(self, records: Sequence[KafkaRecord], now_ms: int) -> None:
        for record in records:
            at = RecordTime.of(record.timestamp, now_ms)
            if at.usable:
                continue
            for event in events_of(self.settings.topics[self.of.shard.topic], record, at):
                local = event.time.astimezone(self.settings.zone)
                self.periods |= {f"{local:%Y-%m-%d}", f"{local:%Y-%m}"}

    def explains(self, name: str, base: Judged, ledger: Judged, log: Judged) -> bool:
        """Whether the clock alone may be why the key `name`, without its shard's beginning, differs."""
        if ledger.untimed == base.untimed:
            return False
        if ledger.untimed > log.untimed:
            # Some of the timestamps are usable by now, and nothing says which.
            return True
        if ledger.impossible <= log.impossible:
            return False
        key, of = self.of.base + name, self.of
        if self.settings.topics[of.shard.topic] in BINDINGS or of.period_of(key) in self.periods:
            return True
        kept_beside = {of.progress, of.labels, of.index, of.ids, *map(of.clients, self.periods)}
        return key in kept_beside or key.startswith(of.ids_of(0)[:-1])
