"""Ranges of a partition, and what the consumer's thread and the worker share about them.

A *range* `[start, end)` of one partition starts at the end of the previous one, or at the last seek's offset, and ends
at the consumer's position after the fetch: past control markers, aborted and compacted records. Offsets may be missing
inside a range, never between two ranges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from aggregator.kafka import batches
from schemas.ledger.keys import Shard


class Range(NamedTuple):
    """Records of one partition, and the offsets that they cover."""

    shard: Shard
    start: int
    end: int
    records: list[Any]
    seek_number: int
    """The number of the seek before it. A later seek of the partition makes the range void."""
    fetched_at: float
    """A time.monotonic after the arrival of its records."""


class LogBounds(NamedTuple):
    """The offsets of a partition that Kafka has: from `start` up to, not including, the last stable offset `end`."""

    start: int
    end: int
    out_of_range: bool = False
    """Whether Kafka refused a fetch at the consumer's position as out of range."""
    unreadable: batches.Unreadable | None = None
    """The unreadable batch at the consumer's position."""


@dataclass(slots=True, eq=False)
class Seek:
    """Ranges since one seek of a partition. Each count is written by one thread only, so neither needs a lock."""

    number: int
    handed_out: int = 0
    """Written by the consumer's thread."""
    finished: int = 0
    """Ranges applied or dropped; written by the worker's thread."""

    @property
    def in_hand(self) -> int:
        return self.handed_out - self.finished
