"""`/v1/pipeline`: how far each partition is counted, and that nothing is missing in between."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from api.dialects.own.telling import Told, as_of
from api.faults import Forbidden
from api.metrics import ACCESS_REFUSALS
from api.standing import HOUR_MS, IdsHeld, ShardStanding, rfc3339
from api.statistics import Statistics
from schemas import fields

PATH: Final = "/v1/pipeline"
SUMMED: Final = ("lag", "consumed", "counted", "duplicates", "ignored", "dead", "lost", "refused")


@dataclass(frozen=True)
class PipelineQuestion:
    key: str = "pipeline"

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> Told:
        if realms is not None:
            ACCESS_REFUSALS.labels("realms").inc()
            raise Forbidden("Partitions carry events of all realms, and this bearer sees only some.")
        standing = await statistics.standing()
        windows = await statistics.ids_held()
        rows = [partition(shard) | deduplication(windows[shard.keys.shard.tag]) for shard in standing.shards]
        total: dict[str, Any] = {name: sum(row[name] or 0 for row in rows) for name in SUMMED}
        total["adds_up"] = all(row["adds_up"] for row in rows)
        return Told({"as_of": as_of(standing), "total": total, "items": rows}, rows)


def partition(shard: ShardStanding) -> dict[str, Any]:
    """One partition's books. `lost` are offsets that the log had dropped before they were read: never consumed."""
    progress, dead = shard.progress, shard.dead
    counted, duplicates, ignored, consumed = (
        progress.get(name, 0) for name in (fields.COUNTED, fields.DUPLICATES, fields.IGNORED, fields.CONSUMED)
    )
    end, stable, refused = shard.end, shard.seen(fields.STABLE_END), shard.refused
    return {
        "topic": shard.keys.shard.topic,
        "partition": shard.keys.shard.partition,
        "position": shard.position,
        "end": None if end is None else end.value,
        "stable_end": None if stable is None else stable.value,
        "seen": None if end is None else rfc3339(end.at_ms),
        "lag": shard.lag,
        "last_event": _time(progress.get(fields.LAST_EVENT)),
        "last_record": _time(progress.get(fields.LAST_RECORD)),
        "consumed": consumed,
        "counted": counted,
        "duplicates": duplicates,
        "ignored": ignored,
        "dead": sum(dead.values()),
        "dead_by_reason": dead,
        "adds_up": consumed == counted + duplicates + ignored + sum(dead.values()),
        "lost": progress.get(fields.LOST, 0),
        "refused": 0 if refused is None else refused.value,
        "refused_last": None if refused is None or not refused.at_ms else rfc3339(refused.at_ms),
    }


def deduplication(held: IdsHeld) -> dict[str, Any]:
    """From when on to when events with an id are known again, by record time, in whole hours."""
    return {
        "ids_held": held.ids,
        "ids_from": None if held.first is None else rfc3339(held.first * HOUR_MS),
        "ids_until": None if held.last is None else rfc3339((held.last + 1) * HOUR_MS),
        "ids_given_up_before": None if held.given_up_before is None else rfc3339(held.given_up_before * HOUR_MS),
    }


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)
