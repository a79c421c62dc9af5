"""`/v1/pipeline`: the position, lag and totals of every partition, and whether the totals add up."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, UnsetType

from api.dialects.own.answers import AsOf, Count, Part, RegionName, Shares, Time
from api.dialects.own.operation import Operation
from api.dialects.own.rendering import Answer, as_of
from api.http.errors import ForbiddenError
from api.ledger.statistics import Statistics
from api.ledger.status import HOUR_MS, HeldIds, ShardStatus, shown
from api.metrics import ACCESS_REFUSALS
from schemas.ledger import fields

PATH: Final = "/v1/pipeline"
Readable = Annotated[Count | None, Meta(description="Null if the ledger's value is not a valid count.")]


class Partition(Part, frozen=True, kw_only=True):
    """One partition. consumed = counted + duplicates + ignored + dead.

    A time is null if there is none, or if the ledger's value is not a date between 1970 and 9999, for example
    microseconds instead of milliseconds.
    """

    region: RegionName | UnsetType = UNSET
    topic: str
    partition: Count
    position: Annotated[Count | None, Meta(description="The next offset to count.")]
    end: Annotated[Count | None, Meta(description="The end of the log at the time `seen`.")]
    stable_end: Annotated[Count | None, Meta(description="The offset below which all transactions have ended.")]
    seen: Annotated[Time | None, Meta(description="When a worker last read the log's end.")]
    lag: Annotated[Count | None, Meta(description="Offsets not yet read.")]
    stopped: Annotated[
        str | None,
        Meta(description="Why the worker does not read the partition, with the command to continue; null if it does."),
    ]
    last_event: Annotated[Time | None, Meta(description="The time of the newest event.")]
    last_record: Annotated[Time | None, Meta(description="The time at which the newest record was written to the log.")]
    consumed: Readable
    counted: Readable
    duplicates: Readable
    ignored: Readable
    dead: Readable
    dead_by_reason: dict[str, Readable]
    unknown_by_type: Annotated[
        dict[str, Readable], Meta(description="Ignored elements by event type, if the type is unknown.")
    ]
    adds_up: bool
    untimed: Annotated[Count | None, Meta(description="Records without a usable timestamp; included in consumed.")]
    unexpected: Annotated[Count, Meta(description="Records not counted because of a defect; all are dead letters.")]
    unexpected_allowed: Annotated[
        Count | None, Meta(description="The number of `unexpected` beyond which the partition stops.")
    ]
    lost: Annotated[Count | None, Meta(description="Offsets that the log deleted before they were read; not consumed.")]
    refused: Annotated[
        Count | None,
        Meta(description="Scripts that wrote nothing: the stored position was not the start of the range."),
    ]
    refused_last: Annotated[Time | None, Meta(description="The time of the last refusal.")]
    ids_held: Annotated[Count, Meta(description="Event ids by which duplicates are recognised.")]
    ids_from: Annotated[Time | None, Meta(description="The start of the window of these ids, by record time.")]
    ids_until: Annotated[Time | None, Meta(description="The end of that window.")]
    ids_given_up_before: Annotated[
        Time | None, Meta(description="Ids before this time were evicted because the window was full.")
    ]


class PipelineTotal(Part, frozen=True, kw_only=True):
    """Sums over all partitions."""

    lag: Count
    consumed: Count
    counted: Count
    duplicates: Count
    ignored: Count
    dead: Count
    untimed: Count
    unexpected: Count
    lost: Count
    refused: Count
    adds_up: bool


class Pipeline(Part, frozen=True, kw_only=True):
    """All partitions."""

    as_of: AsOf
    regions: Shares | UnsetType = UNSET
    total: PipelineTotal
    items: list[Partition]


OPERATION: Final = Operation(
    PATH,
    "pipeline",
    "Position, lag and totals of every partition",
    "consumed = counted + duplicates + ignored + dead. Invalid times and numbers of the ledger are null; the rest of "
    "the answer stays. Not for bearers limited to realms.",
    Pipeline,
    regional=True,
)


@dataclass(frozen=True)
class PipelineQuestion:
    key: str = "pipeline"
    is_wide: bool = False

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> Answer[Pipeline]:
        if realms is not None:
            ACCESS_REFUSALS.labels("realms").inc()
            raise ForbiddenError("Partitions contain events of all realms, and this bearer is limited to some.")
        status = await statistics.pipeline_status()
        windows = await statistics.held_ids()
        rows = [
            Partition(region=shard.region or UNSET, **partition(shard), **dedupe_window(windows[shard.keys.shard.tag]))
            for shard in status.shards
        ]
        # Every sum has the name of a partition's member; an invalid number counts as 0.
        summed = [name for name in PipelineTotal.__struct_fields__ if name != "adds_up"]
        sums = {name: sum(getattr(row, name) or 0 for row in rows) for name in summed}
        total = PipelineTotal(**sums, adds_up=all(row.adds_up for row in rows))
        return Answer(Pipeline(as_of=as_of(status), total=total, items=rows), partial=not rows)


def partition(shard: ShardStatus) -> dict[str, Any]:
    """The totals of one partition. Ledger values that are not valid counts or times are null."""
    progress, dead = shard.progress, shard.dead
    consumed = shard.counter(fields.CONSUMED)
    became = {name: shard.counter(name) for name in (fields.COUNTED, fields.DUPLICATES, fields.IGNORED)}
    became["dead"] = _sum(dead.values())
    end, stable, refused = shard.end, shard.observation(fields.STABLE_END), shard.refused
    return {
        "topic": shard.topic,
        "partition": shard.keys.shard.partition,
        "position": shard.position,
        "end": None if end is None else end.value,
        "stable_end": None if stable is None else stable.value,
        "seen": None if end is None else shown(end.at_ms),
        "lag": shard.lag,
        "stopped": shard.stopped,
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
