"""The checks of `authtally doctor`, and the findings that they return."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from aggregator.clocks import CLOCKS_APART_MS

APART_S: Final = CLOCKS_APART_MS / 1000
"""Workers count nothing while clocks differ by more."""

Verdict = Literal["ok", "unknown", "warning", "problem"]

CHECKS: Final = {
    "settings.worker": "the worker's settings are complete and consistent",
    "settings.api": "the api's settings and the files that they name are complete and consistent",
    "kafka.connection": "the brokers answer and accept our credentials",
    "kafka.rights": "our principal has the necessary rights on topics and group",
    "kafka.topic": "each topic exists; an OTP topic has exactly one partition",
    "kafka.group": "workers run, and not more than there are partitions",
    "kafka.copies": "each partition has several replicas in sync, and more than one must acknowledge",
    "kafka.cleanup": "no topic is compacted, because compaction removes events before they expire",
    "kafka.compression": "the worker can read the codecs that producers or `compression.type` choose",
    "kafka.retention": "Kafka keeps events long enough for a worker that is down",
    "kafka.backup": "Kafka still has the events since the oldest backup of Redis; a restore needs them",
    "kafka.dead_letters": "the dead letter of the largest record fits into the dead-letter topic",
    "redis.connection": "the ledger's store answers and accepts our credentials",
    "redis.version": "the store is Redis 7 or Valkey 8, or later",
    "redis.layout": "the store is a single server, Cluster or Sentinel as in the settings, and all of it is available",
    "redis.eviction": "the store evicts no keys",
    "redis.memory": "memory is left",
    "redis.persistence": "the ledger survives a restart",
    "redis.replication": "the server is a primary, and its replicas follow",
    "redis.rights": "our user has the necessary rights",
    "redis.cache": "the data that api processes share is separate from the ledger",
    "ledger.settings": "the shards were counted with these settings",
    "ledger.topics": "the shards belong to the topics that Kafka has now",
    "ledger.positions": "the positions are inside Kafka's log",
    "ledger.stopped": "workers read every partition",
    "ledger.lag": "the records that wait are recent",
    "ledger.format": "the shards have the format of this version",
    "ledger.untimed": "records have usable timestamps",
    "ledger.unexpected": "no record failed because of a defect of this program",
    "ledger.unknown_types": "the adapters know every event type",
    "ledger.index": "the newest days that have counts are in the index; answers leave out others",
    "access.ways": "the api requires authentication",
    "access.issuer": "the issuer's name is AUTH_ISSUER",
    "access.keys": "the issuer's keys can be fetched and can verify signatures",
    "access.introspection": "the introspection endpoint accepts our client",
    "access.clock": "this machine's clock agrees with the issuer's",
    "regions.peer": "the other regions of PEERS_FILE answer and accept our token",
    "regions.token": "our tokens open the exports to the other regions, and cross the network encrypted",
    "regions.ledger": "each region has a ledger of its own; a shared one or a copy counts twice",
    "regions.settings": "the settings of the counts agree between the regions",
    "regions.topics": "no topic is counted in two regions",
    "clock.redis": "this machine's clock agrees with that of Redis, by which periods expire",
    "clock.records": "no record's timestamp, set by a producer or a broker, is in the future",
}
"""The checks by name. Names are stable, because scripts use them."""


class Finding(NamedTuple):
    """One result of a check. `subject` is a topic, server or shard; empty if there is only one."""

    check: str
    subject: str
    verdict: Verdict
    found: str
    advice: str = ""
    """The action to take; empty for ok."""


def count(findings: Iterable[Finding]) -> dict[Verdict, int]:
    found = Counter(finding.verdict for finding in findings)
    return {verdict: found[verdict] for verdict in ("ok", "unknown", "warning", "problem")}


def span(seconds: float) -> str:
    """A duration in words, with at most two units."""
    left = round(abs(seconds))
    parts: list[str] = []
    for unit, size in (("day", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number or (unit == "s" and not parts):
            parts.append(f"{number} {unit}{'s' if unit == 'day' and number != 1 else ''}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts)
