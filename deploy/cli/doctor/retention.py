"""Checks how far back Kafka's logs reach: for a worker that is down, and for a restore of a backup of Redis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from deploy.cli.doctor.findings import Finding, span
from deploy.cli.doctor.kafka import Kafka

SHORT_S: Final = 86_400
"""Shorter retention loses events when a worker is down for a night."""
FOREVER: Final = -1
BACKUP: Final = "backup"
"""The name of the moment at which the oldest backup was made."""


class Backup(NamedTuple):
    """The oldest state of Redis that may be restored. `certain`: named by the operator, not guessed."""

    age_s: float
    what: str
    certain: bool


def retention(kafka: Kafka, name: str) -> Finding | None:
    """Check how long events wait for a worker; None if the retention is unknown."""
    config = kafka.topics[name].config
    if config is None or "retention.ms" not in config:
        return None
    kept_ms, size = int(config["retention.ms"]), int(config.get("retention.bytes", FOREVER))
    result = "forever" if kept_ms == FOREVER else span(kept_ms / 1000)
    if size != FOREVER:
        result += f", at most {size:,} bytes per partition"
    if kept_ms != FOREVER and kept_ms < SHORT_S * 1000:
        return Finding(
            "kafka.retention",
            name,
            "warning",
            f"events are kept {result}: a worker that is down for longer loses some",
            f"kafka-configs.sh --alter --topic {name} --add-config retention.ms=604800000",
        )
    return Finding("kafka.retention", name, "ok", f"events are kept {result}")


def backup(kafka: Kafka, bound: Mapping[str, str], oldest: Backup | None) -> Iterator[Finding]:
    """Check that Kafka reaches back to the oldest backup, by the topics' retention and by the logs' starts."""
    if oldest is None:
        advice = "name its age: --backup-age 24h, or --backups FOLDER"
        yield Finding("kafka.backup", "", "unknown", "no backup of Redis is known", advice)
        return
    age = span(oldest.age_s)
    advice = "raise retention.ms (and retention.bytes), or delete backups of that age"
    short: set[str] = set()
    for name in sorted(kafka.topics.keys() & bound.keys()):
        kept_ms = int((kafka.topics[name].config or {}).get("retention.ms", FOREVER))
        if kept_ms != FOREVER and kept_ms < oldest.age_s * 1000:
            short.add(name)
            found = (
                f"keeps events {span(kept_ms / 1000)}, {oldest.what} is {age} old: "
                "a restore would lose the events in between"
            )
            yield Finding("kafka.backup", name, "problem", found, advice)
    then = kafka.moments.get(BACKUP)
    for shard in sorted(then.offsets if then else ()):
        # A log that begins at 0 has lost no record.
        if then and 0 < then.offsets[shard] <= kafka.starts.get(shard, 0) and shard.topic in bound.keys() - short:
            short.add(shard.topic)
            found = f"partition {shard.partition} has no record from before {oldest.what}, {age} old"
            yield Finding("kafka.backup", shard.topic, "problem", found, advice)
    if short:
        return
    if then is None or not then.known:
        found = f"brokers do not report how far back their logs reach; {oldest.what} is {age} old"
        yield Finding("kafka.backup", "", "unknown", found, "compare it with the topics' retention yourself")
    else:
        yield Finding("kafka.backup", "", "ok", f"logs reach back beyond {oldest.what}, {age} old")
