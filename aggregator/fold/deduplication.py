"""Deduplication: a shard keeps the ids of recent events, and counts each event once.

Ids are grouped by hour of their record's timestamp, or of the event's own time if the timestamp is not usable. The ids
held are a function of the log: an hour is dropped when an id of a much later hour arrives or when there are too many
ids, never by a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

HOUR_MS: Final = 3_600_000
HOUR_S: Final = 3_600
DIGEST_BYTES: Final = 8
AHEAD_HOURS: Final = 24
"""The time of an event or record may be so far ahead of the store's clock."""
NOTHING_EVICTED: Final = -(2**62)


@dataclass(slots=True)
class SeenIds:
    """The ids that a shard holds at its position, as digests."""

    hours: dict[int, list[bytes]] = field(default_factory=dict)
    """By hour since the Unix epoch."""
    evicted_before: int = NOTHING_EVICTED
    """The first hour whose ids are complete; ids of earlier hours were evicted because of DEDUPE_MAX_IDS."""
    digests: set[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.digests = {digest for held in self.hours.values() for digest in held}

    @classmethod
    def from_packed(cls, hours: Mapping[int, bytes], evicted_before: int = NOTHING_EVICTED) -> SeenIds:
        """From the ledger's format: per hour, the concatenated digests."""
        starts_by_hour = {hour: range(0, len(held), DIGEST_BYTES) for hour, held in hours.items()}
        return cls(
            {hour: [hours[hour][at : at + DIGEST_BYTES] for at in starts] for hour, starts in starts_by_hour.items()},
            evicted_before,
        )

    def update(self, result: DedupeResult) -> None:
        """Take over the changes of an applied range."""
        for hour in result.dropped:
            self.digests.difference_update(self.hours.pop(hour, ()))
        for hour, more in result.new.items():
            self.hours.setdefault(hour, []).extend(more)
            self.digests.update(more)
        self.evicted_before = result.evicted_before


@dataclass(slots=True)
class DedupeResult:
    """The changes of one range: first whole hours are dropped, then ids are added."""

    new: dict[int, list[bytes]] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    """Hours that were held before the range."""
    evicted_before: int = NOTHING_EVICTED


class Deduplicator:
    """Recognises repeated event ids in log order, for one range."""

    def __init__(self, seen: SeenIds, window_s: int, max_ids: int, now_ms: int) -> None:
        """`now_ms` is the store's clock: no usable time lies more than 24 h ahead of it."""
        self.result = DedupeResult(evicted_before=seen.evicted_before)
        self._seen = seen
        self._digests = seen.digests
        # Rounded up: an id from the very end of an hour must stay for a whole window after it. AHEAD_HOURS more: an
        # event with a time so far ahead must not make its neighbours' ids expire.
        self._window_hours = -(-window_s // HOUR_S) + AHEAD_HOURS
        self._max_ids = max_ids
        self._held = len(seen.digests)
        self._hours = set(seen.hours)
        self._newest = max(self._hours, default=NOTHING_EVICTED)
        self._new: set[bytes] = set()
        self._evicted: set[bytes] = set()
        """Digests of dropped hours."""
        # The hour of the last record, in ms, and the list of its new ids; None if the hour is too old to keep ids.
        self._hour_start_ms = self._hour_end_ms = 0
        self._bucket: list[bytes] | None = None
        latest = now_ms // HOUR_MS + AHEAD_HOURS
        if self._newest > latest:
            # Written by format 1, which trusted every record timestamp: such an hour would keep out all later ids.
            for beyond in [hour for hour in self._hours if hour > latest]:
                self._drop(beyond)
            self._newest = max(self._hours, default=NOTHING_EVICTED)
            self.result.evicted_before = min(self.result.evicted_before, latest)

    def is_duplicate(self, digest: bytes, record_ms: int) -> bool:
        """Whether an id is a repeat; if not, it is kept from now on."""
        if not self._hour_start_ms <= record_ms < self._hour_end_ms:
            self._enter_hour(record_ms // HOUR_MS)
        if digest in self._new or (digest in self._digests and digest not in self._evicted):
            return True
        if self._bucket is not None:
            self._new.add(digest)
            self._bucket.append(digest)
            self._held += 1
            if self._held > self._max_ids:
                self._evict()
        return False

    def _enter_hour(self, hour: int) -> None:
        self._hour_start_ms, self._hour_end_ms = hour * HOUR_MS, (hour + 1) * HOUR_MS
        self._bucket = None
        if hour > self._newest:
            self._newest = hour
            for old in [held for held in self._hours if held < hour - self._window_hours]:
                self._drop(old)
        # An older hour would be the next one to be dropped.
        if hour >= max(self._newest - self._window_hours, self.result.evicted_before):
            # Held even if all its ids are repeats: the next range must start from the same newest hour.
            self._hours.add(hour)
            self._bucket = self.result.new.setdefault(hour, [])

    def _evict(self) -> None:
        while self._held > self._max_ids:
            oldest = min(self._hours)
            self._drop(oldest)
            # An hour that alone exceeds the limit starts again with the later ids: the window is then under an hour.
            self.result.evicted_before = oldest if oldest == self._newest else oldest + 1
        self._enter_hour(self._newest)
        self._hour_start_ms = self._hour_end_ms = 0

    def _drop(self, hour: int) -> None:
        self._hours.discard(hour)
        new = self.result.new.pop(hour, [])
        self._new.difference_update(new)
        self._held -= len(new)
        held = self._seen.hours.get(hour)
        if held is not None and hour not in self.result.dropped:
            self.result.dropped.add(hour)
            self._evicted.update(held)
            self._held -= len(held)


def pack(digests: Iterable[bytes]) -> bytes:
    """The ledger's format: concatenated digests."""
    return b"".join(digests)


def effective_window_s(hours: Iterable[int], evicted_before: int, window_s: int) -> int:
    """Age up to which a repeat is certainly recognised: DEDUPE_WINDOW_S, or less if ids were evicted."""
    newest = max(hours, default=None)
    if newest is None or newest - evicted_before >= -(-window_s // HOUR_S):
        return window_s
    return max(newest - evicted_before, 0) * HOUR_S
