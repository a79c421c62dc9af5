"""`/v1/pipeline`: the position, lag and totals of every partition, and whether the totals add up."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from api.dialects.own.rendering import Answer, as_of
from api.http.errors import ForbiddenError
from api.ledger.statistics import Statistics
from api.ledger.status import HOUR_MS, HeldIds, ShardStatus, shown
from api.metrics import ACCESS_REFUSALS
from schemas.ledger import fields

PATH: Final = "/v1/pipeline"
SUMMED: Final = (
    *("lag", "consumed", "counted", "duplicates", "ignored", "dead", "untimed", "unexpected", "lost", "refused"),
)


@dataclass(frozen=True)
class PipelineQuestion:
    key: str = "pipeline"

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> Answer:
        if realms is not None:
            ACCESS_REFUSALS.labels("realms").inc()
            raise ForbiddenError("Partitions contain events of all realms, and this bearer is limited to some.")
        status = await statistics.pipeline_status()
        windows = await statistics.held_ids()
        rows = [partition(shard) | dedupe_window(windows[shard.keys.shard.tag]) for shard in status.shards]
        total: dict[str, Any] = {name: sum(row[name] or 0 for row in rows) for name in SUMMED}
        total["adds_up"] = all(row["adds_up"] for row in rows)
        return Answer({"as_of": as_of(status), "total": total, "items": rows}, rows, partial=not rows)


def partition(shard: ShardStatus) -> dict[str, Any]:
    """The totals of one partition. `lost` counts offsets that the log deleted before they were read; not consumed.

    Ledger values that are not valid counts or times are null.
    """
    progress, dead = shard.progress, shard.dead
    consumed = shard.counter(fields.CONSUMED)
    became = {name: shard.counter(name) for name in (fields.COUNTED, fields.DUPLICATES, fields.IGNORED)}
    became["dead"] = _sum(dead.values())
    end, stable, refused = shard.end, shard.observation(fields.STABLE_END), shard.refused
    return {
        "topic": shard.keys.shard.topic,
        "partition": shard.keys.shard.partition,
        "position": shard.position,
        "end": None if end is None else end.value,
        "stable_end": None if stable is None else stable.value,
        "seen": None if end is None else shown(end.at_ms),
        "lag": shard.lag,
        "last_event": shown(progress.get(fields.LAST_EVENT)),
        "last_record": shown(progress.get(fields.LAST_RECORD)),
        "consumed": consumed,
        **became,
        "dead_by_reason": dead,
        "unknown_by_type": shard.unknown,
        "adds_up": consumed is not None and consumed == _sum(became.values()),
        "untimed": shard.counter(fields.UNTIMED),
        "unexpected": shard.unexpected,
        "unexpected_allowed": shard.unexpected_allowed,
        "lost": shard.counter(fields.LOST),
        "refused": 0 if refused is None else refused.value,
        "refused_last": None if refused is None else shown(refused.at_ms or None),
    }


def dedupe_window(held: HeldIds) -> dict[str, Any]:
    """The record times, in whole hours, of the event ids by which duplicates are recognised."""
    return {
        "ids_held": held.ids,
        "ids_from": _hour(held.first),
        "ids_until": _hour(None if held.last is None else held.last + 1),
        "ids_given_up_before": _hour(held.evicted_before),
    }


def _hour(hour: int | None) -> str | None:
    return None if hour is None else shown(hour * HOUR_MS)


def _sum(counts: Iterable[int | None]) -> int | None:
    found = list(counts)
    return None if None in found else sum(count for count in found if count is not None)
