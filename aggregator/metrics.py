"""What the worker tells Prometheus. Labels are topics, partitions and fixed words: nothing from outside."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

EVENTS: Final = Counter(
    "authtally_events",
    "Events consumed, by topic and what became of them: counted, duplicates, ignored or dead.",
    ["topic", "result"],
)
DEAD_LETTERS: Final = Counter(
    "authtally_dead_letters", "Records sent to the dead-letter topic, by topic and reason.", ["topic", "reason"]
)
RANGE_RECORDS: Final = Histogram(
    "authtally_range_records", "Records per applied range.", ["topic"], buckets=(0, 1, 10, 100, 1_000, 5_000, 20_000)
)
RANGE_SECONDS: Final = Histogram(
    "authtally_range_seconds",
    "Seconds from taking a range to having it applied.",
    ["topic"],
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
)
REFUSED: Final = Counter(
    "authtally_refused_scripts", "Ranges that the ledger refused because it stood elsewhere.", ["topic"]
)
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
    "Age of the newest applied record while committed records wait; 0 when none does.",
    ["topic", "partition"],
)
LOST: Final = Counter("authtally_lost_offsets", "Offsets that retention deleted before they were counted.", ["topic"])
OVERFLOWED: Final = Counter(
    "authtally_overflowed_events", "Events counted under __other__ because a label limit was reached.", ["dimension"]
)
STOPPED: Final = Gauge(
    "authtally_partition_stopped", "1 while a partition waits for an operator's decision.", ["topic", "partition"]
)
REMEMBERED: Final = Gauge("authtally_remembered_users", "Users held in memory to spare repeated additions.")
DEDUPE_WINDOW: Final = Gauge(
    "authtally_dedupe_window_seconds",
    "For how long back a repeated event id is sure to be recognised; less than DEDUPE_WINDOW_S when ids had no room.",
    ["topic", "partition"],
)
DEDUPE_IDS: Final = Gauge("authtally_dedupe_ids", "Event ids held against repeats.", ["topic", "partition"])
