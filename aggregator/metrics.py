"""The worker's Prometheus metrics. Labels are topics, partitions and fixed words, never text from outside."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal, get_args

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from schemas.events import REASONS
from schemas.ledger import fields
from schemas.ledger.keys import Shard
from schemas.telemetry.build import version

# Otherwise each counter and histogram has a second series, which Prometheus does not use.
disable_created_metrics()  # type: ignore[no-untyped-call]

RefusalReason = Literal["ahead", "behind", "empty", "removal"]
FRACTION_BUCKETS: Final = (0.0005, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)
"""Bucket bounds for parts of a range's time."""

EVENTS: Final = Counter(
    "authtally_events",
    "Events consumed, by topic and outcome: counted, duplicates, ignored or dead.",
    ["topic", "result"],
)
DEAD_LETTERS: Final = Counter(
    "authtally_dead_letters", "Records sent to the dead-letter topic, by topic and reason.", ["topic", "reason"]
)
RANGE_RECORDS: Final = Histogram(
    "authtally_range_records",
    "Records per range, applied or not.",
    ["topic"],
    buckets=(0, 1, 10, 100, 1_000, 5_000, 20_000),
)
RANGE_SECONDS: Final = Histogram(
    "authtally_range_seconds",
    "Seconds from taking up a range to its end, applied or not.",
    ["topic"],
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
)
FOLD_SECONDS: Final = Histogram(
    "authtally_fold_seconds",
    "Seconds of folding a range's records, including the reads that an OTP inventory needs.",
    ["topic"],
    buckets=FRACTION_BUCKETS,
)
SCRIPT_SECONDS: Final = Histogram(
    "authtally_script_seconds",
    "Seconds until Redis has applied a range, including all retries.",
    ["topic"],
    buckets=FRACTION_BUCKETS,
)
REFUSED: Final = Counter(
    "authtally_refused_scripts",
    "Ranges that the ledger refused: its position is ahead of their start, behind it or empty, or a realm was removed.",
    ["topic", "reason"],
)
REDIS_ERRORS: Final = Counter("authtally_redis_errors", "Failed calls of the ledger's Redis; each is retried.")
UNREADY: Final = Gauge(
    "authtally_unready",
    (
        "1 while readiness names a problem, by component: crashed, startup, redis, clock, kafka, dead_letters, group, "
        "stopped."
    ),
    ["component"],
)
POSITION: Final = Gauge(
    "authtally_position_offset", "The next offset to count, from the ledger.", ["topic", "partition"]
)
LOG_END: Final = Gauge("authtally_log_end_offset", "The offset after the last record in Kafka.", ["topic", "partition"])
LAG: Final = Gauge(
    "authtally_lag_events", "Offsets between the ledger's position and the log's end.", ["topic", "partition"]
)
STABLE_LAG: Final = Gauge(
    "authtally_stable_lag_events",
    "Offsets between the ledger's position and the last stable offset, up to which transactions have ended.",
    ["topic", "partition"],
)
LAG_SECONDS: Final = Gauge(
    "authtally_lag_seconds",
    "Age of the newest applied record while committed records wait; 0 while none do.",
    ["topic", "partition"],
)
LAST_EVENT: Final = Gauge(
    "authtally_last_event_timestamp_seconds",
    "The event's own time of the newest event that this worker counted.",
    ["topic", "partition"],
)
LAST_RECORD: Final = Gauge(
    "authtally_last_record_timestamp_seconds",
    "The Kafka timestamp of the newest record that this worker counted.",
    ["topic", "partition"],
)
LOST: Final = Counter("authtally_lost_offsets", "Offsets that retention deleted before they were counted.", ["topic"])
UNTIMED: Final = Counter(
    "authtally_untimed_records",
    "Records whose Kafka timestamp is not usable: events are judged by the clock.",
    ["topic"],
)
OVERFLOWED: Final = Counter(
    "authtally_overflowed_events", "Events counted under __other__ because a label limit was reached.", ["dimension"]
)
STOPPED: Final = Gauge(
    "authtally_partition_stopped", "1 while a partition waits for an operator's decision.", ["topic", "partition"]
)
CACHED_USERS: Final = Gauge("authtally_remembered_users", "Users kept in memory to avoid repeated additions.")
DEDUPE_WINDOW: Final = Gauge(
    "authtally_dedupe_window_seconds",
    "Age up to which a repeated event id is certainly recognised; below DEDUPE_WINDOW_S if ids were evicted.",
    ["topic", "partition"],
)
EXCESS_IDS: Final = Counter(
    "authtally_dedupe_excess_ids",
    "Event ids of realms that held more than half of DEDUPE_MAX_IDS; they are kept for a shorter time.",
    ["topic"],
)
DEDUPE_IDS: Final = Gauge("authtally_dedupe_ids", "Event ids kept to recognise repeats.", ["topic", "partition"])
BUILD: Final = Gauge("authtally_build_info", "Always 1; the label is the version.", ["version"])


def init(topics: Collection[str]) -> None:
    """Start every counter at 0: `increase()` does not see the first event of a counter that appears at 1."""
    BUILD.labels(version()).set(1)
    for topic in topics:
        for result in (fields.COUNTED, fields.DUPLICATES, fields.IGNORED, "dead"):
            EVENTS.labels(topic, result)
        for reason in REASONS:
            DEAD_LETTERS.labels(topic, reason)
        for refusal in get_args(RefusalReason):
            REFUSED.labels(topic, refusal)
        LOST.labels(topic)
        UNTIMED.labels(topic)
        EXCESS_IDS.labels(topic)


def refusal_reason(start: int, position: int | None) -> RefusalReason:
    """The position of a ledger that refused a range, relative to the range's start; `removal` if it is the start."""
    if position is None:
        return "empty"
    if position == start:
        return "removal"
    return "ahead" if position > start else "behind"


def remove_shard(shard: Shard) -> None:
    """Remove the gauges of a shard that this worker no longer has."""
    for gauge in (POSITION, LOG_END, LAG, STABLE_LAG, LAG_SECONDS, LAST_EVENT, LAST_RECORD):
        gauge.remove(*map(str, shard))
