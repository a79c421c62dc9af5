"""What `authtally doctor` looks at, and how it says what it found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from aggregator.clocks import CLOCKS_APART_MS

APART_S: Final = CLOCKS_APART_MS / 1000
"""Clocks that differ by more keep workers from counting."""

Verdict = Literal["ok", "unknown", "warning", "problem"]

CHECKS: Final = {
    "settings.worker": "every setting of the worker",
    "settings.api": "every setting of the api, with the files that they name",
    "kafka.connection": "brokers answer, and take us",
    "kafka.rights": "what our principal may do with topics and group",
    "kafka.topic": "each topic exists; an OTP topic has exactly one partition",
    "kafka.group": "workers at work, and no more than partitions",
    "kafka.copies": "copies of each partition, in sync, and how many must acknowledge",
    "kafka.cleanup": "no topic is compacted, which takes events away before they expire",
    "kafka.compression": "the worker can read the codecs that producers or `compression.type` choose",
    "kafka.retention": "how long events wait for a worker that is down",
    "kafka.backup": "Kafka reaches back to the oldest backup of Redis, or what was counted since is lost with it",
    "kafka.dead_letters": "a dead letter of the largest record fits",
    "redis.connection": "the ledger's store answers, and takes us",
    "redis.version": "Redis 7 or Valkey 8 at least",
    "redis.layout": "alone, Cluster or Sentinel: as the settings say, and whole",
    "redis.eviction": "nothing is evicted",
    "redis.memory": "room is left",
    "redis.persistence": "the ledger outlives a restart",
    "redis.replication": "it is a primary, and its replicas follow",
    "redis.rights": "what our user may do",
    "redis.cache": "what api processes share lies apart from the ledger",
    "ledger.settings": "shards were counted with these settings",
    "ledger.topics": "shards are of the topics that Kafka has now",
    "ledger.positions": "positions lie inside Kafka's log",
    "ledger.lag": "what waits to be counted",
    "ledger.format": "shards have the format of this version",
    "ledger.untimed": "records have timestamps that can be used",
    "ledger.unexpected": "no record met a defect of this program",
    "ledger.index": "the newest days that have counts are in the index, or answers leave them out",
    "access.ways": "who is let in",
    "access.issuer": "the issuer is who AUTH_ISSUER says",
    "access.keys": "the issuer's keys can be had, and verify signatures",
    "access.introspection": "the introspection endpoint takes our client",
    "access.clock": "this machine's clock against the issuer's",
    "clock.redis": "this machine's clock against that of Redis, by which periods expire",
    "clock.records": "records do not come from the future; nor do brokers, where they give records their time",
}
"""Every check by its name, which scripts may go by."""


class Finding(NamedTuple):
    """`subject` is whom it is about: a topic, a server, a shard; empty where there is only one."""

    check: str
    subject: str
    verdict: Verdict
    found: str
    advice: str = ""
    """What to do about it; empty for ok."""


def count(findings: Iterable[Finding]) -> dict[Verdict, int]:
    found = Counter(finding.verdict for finding in findings)
    return {verdict: found[verdict] for verdict in ("ok", "unknown", "warning", "problem")}


def span(seconds: float) -> str:
    """A length of time in words: two of its units at most."""
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
