"""Checks of the ledger against the settings and Kafka, the same that a worker makes before it starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from aggregator.assignment import settings_conflict
from aggregator.settings import FORMAT, WorkerSettings
from deploy.cli.doctor.findings import Finding, span
from deploy.cli.doctor.kafka import Kafka
from deploy.cli.doctor.store import Counted, Store
from deploy.cli.doctor.topics import LOG_APPEND, TIMESTAMP_TYPE
from schemas.events import RecordTime
from schemas.ledger import fields
from schemas.ledger.keys import Shard
from schemas.settings import PREFIX

LATE: Final = "late"
LATE_S: Final = 300
Meta = Mapping[str, str]
MOST: Final = 5
"""Largest number of shards that a finding names."""


def settings(store: Store, now: WorkerSettings) -> Iterator[Finding]:
    """The differences because of which a worker would refuse to count, each once for all its shards."""
    differ: dict[str, list[str]] = {}
    for shard, (_, meta) in (store.shards or {}).items():
        if shard.topic not in now.topics:
            continue
        values = now.counted_with(shard.topic)
        for name in values:
            if found := settings_conflict(meta, {name: values[name]}):
                differ.setdefault(found, []).append(shard.tag)
    for found, tags in differ.items():
        what, _, remedies = found.partition(": ")
        yield Finding("ledger.settings", _listed(tags), "problem", what, remedies)
    ours = sum(shard.topic in now.topics for shard in store.shards or {})
    if ours and not differ:
        yield Finding("ledger.settings", "", "ok", f"{ours} shards were counted with these settings")
    if store.shards == {}:
        yield Finding("ledger.settings", "", "ok", f"nothing is counted yet under {PREFIX}KEY_PREFIX={now.key_prefix}")
    elsewhere = sorted({shard.topic for shard in store.shards or {}} - set(now.topics))
    if elsewhere:
        found = f"counted before, but not in {PREFIX}TOPICS now: their figures stay, and do not grow"
        advice = f"add them to {PREFIX}TOPICS again, unless they were removed on purpose"
        yield Finding("ledger.topics", ", ".join(elsewhere), "warning", found, advice)


def formats(store: Store) -> Iterator[Finding]:
    """Shards of an older format, which workers upgrade. `settings` reports a newer one, which workers refuse."""
    older: dict[int, list[str]] = {}
    for shard, (_, meta) in (store.shards or {}).items():
        if (held := int(meta.get(fields.FORMAT, FORMAT))) < FORMAT:
            older.setdefault(held, []).append(shard.tag)
    for held, tags in older.items():
        found = f"format {held}: the next range that a worker of this version counts upgrades it to {FORMAT}"
        advice = "save a snapshot for a way back (authtally snapshot save), then start new workers one by one: see "
        yield Finding("ledger.format", _listed(tags), "warning", found, f"{advice}docs/rolling-upgrades.md")
    if store.shards is not None and not older:
        yield Finding("ledger.format", "", "ok", f"format {FORMAT}")


def records(store: Store, kafka: Kafka | None, now_ms: int) -> Iterator[Finding]:
    """Untimed and unexpected records, stopped partitions, unknown types, and indexes that lack periods."""
    if store.shards is None:
        return
    if store.counted is None:
        advice = "run it with the user operator of deploy/redis/users.acl, or grant +hgetall +scard +exists +zmscore"
        yield Finding("ledger.index", "", "unknown", "the user of REDIS_URL may not read it", advice)
        return
    yield from _untimed(store.counted, kafka)
    yield from _unexpected(store.counted, store.shards)
    yield from _stopped(store.counted)
    yield from _unknown(store.counted)
    yield from _index(store.counted, now_ms)


def _untimed(counted: Mapping[Shard, Counted], kafka: Kafka | None) -> Iterator[Finding]:
    topics: dict[str, int] = {}
    for shard, held in counted.items():
        if held.untimed:
            topics[shard.topic] = topics.get(shard.topic, 0) + held.untimed
    for topic, number in topics.items():
        known = kafka.topics.get(topic) if kafka is not None else None
        config = known.config if known is not None and known.config is not None else {}
        found = f"{number:,} records had no usable timestamp: their events were judged by the clock of Redis"
        if config.get(TIMESTAMP_TYPE) == LOG_APPEND:
            advice = f"{TIMESTAMP_TYPE}={LOG_APPEND} is set: these are older records, or the brokers' clocks are wrong"
        else:
            advice = (
                f"kafka-configs.sh --alter --topic {topic} --add-config {TIMESTAMP_TYPE}={LOG_APPEND}; or correct the "
                "producer, and refuse its records by log.message.timestamp.before.max.ms and .after.max.ms"
            )
        yield Finding("ledger.untimed", topic, "warning", found, advice)
    if not topics:
        yield Finding("ledger.untimed", "", "ok", "every record had a usable timestamp")


def _unexpected(counted: Mapping[Shard, Counted], shards: Mapping[Shard, tuple[int | None, Meta]]) -> Iterator[Finding]:
    holding = {shard: held.unexpected for shard, held in counted.items() if held.unexpected}
    for shard, number in holding.items():
        allowed = int(shards[shard][1].get(fields.UNEXPECTED_ALLOWED, fields.ALLOWED_AT_FIRST))
        command = f"authtally positions allow-unexpected {shard.topic} {shard.partition} {number + 100}"
        found = f"{number} unexpected records ({allowed} are allowed) were not counted because of a defect"
        advice = "report the log lines `unexpected record`; then: authtally dead-letters resend --reason unexpected"
        if number < allowed:
            yield Finding("ledger.unexpected", shard.tag, "warning", found, advice)
        else:
            found += "; the partition stops at the next one"
            yield Finding("ledger.unexpected", shard.tag, "problem", found, f"{advice}; to allow more: {command}")
    if not holding:
        yield Finding("ledger.unexpected", "", "ok", "no unexpected record")


def _stopped(counted: Mapping[Shard, Counted]) -> Iterator[Finding]:
    stopped = {shard: held.stopped for shard, held in counted.items() if held.stopped}
    for shard, reason in stopped.items():
        found, _, advice = reason.partition("; ")
        yield Finding("ledger.stopped", shard.tag, "problem", found, advice or "see the log of the worker")
    if not stopped:
        yield Finding("ledger.stopped", "", "ok", "workers read every partition")


def _unknown(counted: Mapping[Shard, Counted]) -> Iterator[Finding]:
    topics: dict[str, Counter[str]] = {}
    for shard, held in counted.items():
        if held.unknown_types:
            topics.setdefault(shard.topic, Counter()).update(held.unknown_types)
    for topic, types in topics.items():
        named = ", ".join(f"{name} ({number:,})" for name, number in types.most_common(MOST))
        more = f" and {len(types) - MOST} more types" if len(types) > MOST else ""
        found = f"{types.total():,} elements were ignored because their event type is unknown: {named}{more}"
        advice = (
            f"if the types belong to another product, correct the topic's adapter in {PREFIX}TOPICS; "
            "if the product has added them, see docs/adapters.md and report them"
        )
        yield Finding("ledger.unknown_types", topic, "warning", found, advice)
    if not topics:
        yield Finding("ledger.unknown_types", "", "ok", "every event type is known")


def _index(counted: Mapping[Shard, Counted], now_ms: int) -> Iterator[Finding]:
    repair = "authtally positions rebuild-index --all"
    lacking = {shard: held.unindexed for shard, held in counted.items() if held.unindexed}
    if lacking:
        example = next(iter(lacking.values()))[0]
        found = f"periods that have counts, such as {example}, are not in the index: answers leave them out"
        yield Finding("ledger.index", _listed([shard.tag for shard in lacking]), "problem", found, repair)
    times = [
        shard.tag
        for shard, held in counted.items()
        if held.last_record_ms is not None and not RecordTime.of(held.last_record_ms, now_ms).usable
    ]
    if times:
        found = "the newest record timestamp is not usable, and answers show it as their time"
        yield Finding("ledger.index", _listed(times), "warning", found, repair)
    if not lacking and not times:
        yield Finding("ledger.index", "", "ok", "the newest periods that have counts are in the index")


def against_kafka(store: Store, kafka: Kafka, now: WorkerSettings) -> Iterator[Finding]:
    """Topic ids, positions and lag of the shards whose log ends are known."""
    shards = {
        shard: result
        for shard, result in (store.shards or {}).items()
        if shard.topic in now.topics and shard in kafka.ends
    }
    recreated = {
        shard.topic for shard, (_, meta) in shards.items() if _is_another(kafka, shard, meta.get("topic_id", ""))
    }
    for topic in sorted(recreated):
        found = "the topic was deleted and created again: its partitions are stopped"
        advice = f"to add its events to the old figures: authtally positions reset {topic} PARTITION --to earliest"
        yield Finding("ledger.topics", topic, "problem", found, advice)
    if shards and not recreated:
        yield Finding("ledger.topics", "", "ok", "every shard belongs to the topic that Kafka has")
    positions = {shard: at for shard, (at, _) in shards.items() if at is not None and shard.topic not in recreated}
    outside = 0
    for shard, at in positions.items():
        finding = _outside(shard, at, kafka)
        outside += finding is not None
        if finding is not None and outside <= MOST:
            yield finding
    if outside > MOST:
        yield Finding(
            "ledger.positions", "", "problem", f"{outside - MOST} more are outside", "authtally positions show"
        )
    if positions and not outside:
        yield Finding("ledger.positions", "", "ok", f"{len(positions)} positions are inside the logs")
    yield from _lag(kafka, positions, now)


def _is_another(kafka: Kafka, shard: Shard, known: str) -> bool:
    result = kafka.topics[shard.topic].id
    return bool(known and result and known != result)


def _outside(shard: Shard, at: int, kafka: Kafka) -> Finding | None:
    start, end = kafka.starts.get(shard, 0), kafka.ends[shard]
    if at == fields.RESTORING:
        advice = "if the restore does not run any more, repeat it: authtally snapshot restore FILE"
        return Finding("ledger.positions", shard.tag, "problem", "is being restored", advice)
    if at > end:
        advice = f"to count the log again: authtally positions reset {shard.topic} {shard.partition} --to earliest"
        found = f"position {at} is beyond the log's end {end}: the partition is stopped"
        return Finding("ledger.positions", shard.tag, "problem", found, advice)
    if at < start:
        found = f"position {at} is below the log's start {start}: {start - at:,} offsets were deleted uncounted"
        advice = "raise retention, and run enough workers; the worker counts these offsets as lost"
        return Finding("ledger.positions", shard.tag, "problem", found, advice)
    return None


def _lag(kafka: Kafka, positions: dict[Shard, int], now: WorkerSettings) -> Iterator[Finding]:
    bound = [shard for shard in kafka.ends if shard.topic in now.topics]
    if not bound:
        return
    applied = {shard: positions.get(shard, kafka.starts.get(shard, 0)) for shard in bound}
    waiting = {shard: kafka.ends[shard] - at for shard, at in applied.items() if at < kafka.ends[shard]}
    total = sum(waiting.values())
    if not total:
        yield Finding("ledger.lag", "", "ok", "no record waits")
        return
    found = f"{total:,} records wait"
    late = kafka.moments.get(LATE)
    # A record older than LATE_S waits if the first younger one is beyond the position. If there is no younger one, all
    # waiting records are older.
    behind = [
        shard.tag
        for shard in waiting
        if late and late.known and late.offsets.get(shard, kafka.ends[shard]) > applied[shard]
    ]
    if behind:
        advice = "check that workers run (/health/ready names what blocks them); start more, up to one per partition"
        yield Finding("ledger.lag", _listed(behind), "warning", f"{found}, for more than {span(LATE_S)}", advice)
    else:
        yield Finding("ledger.lag", "", "ok", found)


def _listed(tags: list[str]) -> str:
    return ", ".join(tags[:MOST]) + (f" and {len(tags) - MOST} more" if len(tags) > MOST else "")
