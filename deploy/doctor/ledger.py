"""Judges what the ledger holds against the settings and against Kafka: as a worker would, before it starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from aggregator.placement import differing
from aggregator.settings import WorkerSettings
from deploy.doctor.findings import Finding, span
from deploy.doctor.kafka import Kafka
from deploy.doctor.store import Store
from schemas import fields
from schemas.keys import Shard
from schemas.settings import PREFIX

LATE: Final = "late"
LATE_S: Final = 300
MOST: Final = 5
"""Shards that are named one by one."""


def settings(store: Store, now: WorkerSettings) -> Iterator[Finding]:
    """What a worker would refuse for. Each difference once, whatever number of shards it is about."""
    differ: dict[str, list[str]] = {}
    for shard, (_, meta) in (store.shards or {}).items():
        if shard.topic not in now.topics:
            continue
        values = now.counted_with(shard.topic)
        for name in values:
            if found := differing(meta, {name: values[name]}):
                differ.setdefault(found, []).append(shard.tag)
    for found, tags in differ.items():
        what, _, ways = found.partition(": ")
        yield Finding("ledger.settings", _listed(tags), "problem", what, ways)
    ours = sum(shard.topic in now.topics for shard in store.shards or {})
    if ours and not differ:
        yield Finding("ledger.settings", "", "ok", f"{ours} shards were counted with these settings")
    if store.shards == {}:
        yield Finding("ledger.settings", "", "ok", f"nothing is counted yet under {PREFIX}KEY_PREFIX={now.key_prefix}")
    elsewhere = sorted({shard.topic for shard in store.shards or {}} - set(now.topics))
    if elsewhere:
        found = f"counted before, but not among {PREFIX}TOPICS now: their figures stay, and do not grow"
        yield Finding(
            "ledger.topics", ", ".join(elsewhere), "warning", found, f"put them back into {PREFIX}TOPICS, or not"
        )


def against_kafka(store: Store, kafka: Kafka, now: WorkerSettings) -> Iterator[Finding]:
    """Topic ids, positions and lag of the shards whose topics Kafka told of."""
    shards = {
        shard: told for shard, told in (store.shards or {}).items() if shard.topic in now.topics and shard in kafka.ends
    }
    anew = {shard.topic for shard, (_, meta) in shards.items() if _is_another(kafka, shard, meta.get("topic_id", ""))}
    for topic in sorted(anew):
        found = "the topic was deleted and made anew: its partitions are stopped"
        advice = f"to count it on top of the old figures: authtally positions reset {topic} PARTITION --to earliest"
        yield Finding("ledger.topics", topic, "problem", found, advice)
    if shards and not anew:
        yield Finding("ledger.topics", "", "ok", "every shard is of the topic that Kafka has")
    positions = {shard: at for shard, (at, _) in shards.items() if at is not None and shard.topic not in anew}
    outside = 0
    for shard, at in positions.items():
        finding = _outside(shard, at, kafka)
        outside += finding is not None
        if finding is not None and outside <= MOST:
            yield finding
    if outside > MOST:
        yield Finding(
            "ledger.positions", "", "problem", f"{outside - MOST} more lie outside", "authtally positions show"
        )
    if positions and not outside:
        yield Finding("ledger.positions", "", "ok", f"{len(positions)} positions lie inside the logs")
    yield from _lag(kafka, positions, now)


def _is_another(kafka: Kafka, shard: Shard, known: str) -> bool:
    told = kafka.topics[shard.topic].id
    return bool(known and told and known != told)


def _outside(shard: Shard, at: int, kafka: Kafka) -> Finding | None:
    start, end = kafka.starts.get(shard, 0), kafka.ends[shard]
    if at == fields.RESTORING:
        advice = "if nobody is at it any more, repeat: authtally snapshot restore FILE"
        return Finding("ledger.positions", shard.tag, "problem", "is being restored", advice)
    if at > end:
        advice = f"to count the log again: authtally positions reset {shard.topic} {shard.partition} --to earliest"
        found = f"stands at {at}, beyond the log's end {end}: the partition is stopped"
        return Finding("ledger.positions", shard.tag, "problem", found, advice)
    if at < start:
        found = f"stands at {at}, the log begins at {start}: retention deleted {start - at:,} offsets uncounted"
        advice = "raise retention, and run workers that keep up; what is lost is counted as lost"
        return Finding("ledger.positions", shard.tag, "problem", found, advice)
    return None


def _lag(kafka: Kafka, positions: dict[Shard, int], now: WorkerSettings) -> Iterator[Finding]:
    bound = [shard for shard in kafka.ends if shard.topic in now.topics]
    if not bound:
        return
    stands = {shard: positions.get(shard, kafka.starts.get(shard, 0)) for shard in bound}
    waiting = {shard: kafka.ends[shard] - at for shard, at in stands.items() if at < kafka.ends[shard]}
    total = sum(waiting.values())
    if not total:
        yield Finding("ledger.lag", "", "ok", "nothing waits")
        return
    found = f"{total:,} records wait"
    late = kafka.moments.get(LATE)
    # A record older than LATE_S waits where the first younger one lies beyond the position; where there is no younger
    # one, all that wait are older.
    behind = [
        shard.tag
        for shard in waiting
        if late and late.known and late.offsets.get(shard, kafka.ends[shard]) > stands[shard]
    ]
    if behind:
        advice = "look whether workers run (/health/ready names what holds them up); start more, up to one a partition"
        yield Finding("ledger.lag", _listed(behind), "warning", f"{found}, for more than {span(LATE_S)}", advice)
    else:
        yield Finding("ledger.lag", "", "ok", found)


def _listed(tags: list[str]) -> str:
    return ", ".join(tags[:MOST]) + (f" and {len(tags) - MOST} more" if len(tags) > MOST else "")
