"""Deduplication: a shard keeps the ids of recent events, and counts each event once.

Ids are grouped by hour of their record's timestamp, or of the event's own time if the timestamp is not usable. The ids
held are a function of the log: an hour is dropped when an id of a much later hour arrives or when there are too many
ids, never by a clock.

A realm that holds more than half of the ids puts further ones into a second, smaller window, the excess. It drops its
oldest hours by itself, so that no realm can displace the ids of another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

HOUR_MS: Final = 3_600_000
HOUR_S: Final = 3_600
DIGEST_BYTES: Final = 8
AHEAD_HOURS: Final = 24
"""Hours by which the time of an event or record may be ahead of the store's clock."""
NOTHING_EVICTED: Final = -(2**62)


@dataclass(slots=True)
class SeenIds:
    """The ids that a shard holds at its position, as digests."""

    hours: dict[int, list[bytes]] = field(default_factory=dict)
    """By hour since the Unix epoch."""
    evicted_before: int = NOTHING_EVICTED
    """The first hour whose ids are complete; ids of earlier hours were evicted because of DEDUPE_MAX_IDS."""
    realms: dict[int, dict[str, int]] = field(default_factory=dict)
    """By hour: the number of ids by realm. Ids of format 1 belong to no realm."""
    excess: SeenIds | None = None
    """Ids beyond their realm's share, without `realms`."""
    digests: set[bytes] = field(init=False)
    by_realm: dict[str, int] = field(init=False)
    """The number of ids by realm."""

    def __post_init__(self) -> None:
        self.digests = {digest for held in self.hours.values() for digest in held}
        self.by_realm = {}
        for numbers in self.realms.values():
            _add(self.by_realm, numbers)

    @classmethod
    def from_packed(
        cls,
        hours: Mapping[int, bytes],
        evicted_before: int = NOTHING_EVICTED,
        realms: Mapping[int, dict[str, int]] | None = None,
    ) -> SeenIds:
        """From the ledger's format: per hour, the concatenated digests."""
        starts_by_hour = {hour: range(0, len(held), DIGEST_BYTES) for hour, held in hours.items()}
        return cls(
            {hour: [hours[hour][at : at + DIGEST_BYTES] for at in starts] for hour, starts in starts_by_hour.items()},
            evicted_before,
            dict(realms or {}),
        )

    def update(self, result: DedupeResult) -> None:
        """Take over the changes of an applied range."""
        for hour in result.dropped:
            self.digests.difference_update(self.hours.pop(hour, ()))
            _add(self.by_realm, self.realms.pop(hour, {}), sign=-1)
        for hour, more in result.new.items():
            self.hours.setdefault(hour, []).extend(more)
            self.digests.update(more)
        for hour, numbers in result.realms.items():
            _add(self.realms.setdefault(hour, {}), numbers)
            _add(self.by_realm, numbers)
        self.evicted_before = result.evicted_before
        if result.excess is not None:
            self.excess = self.excess or SeenIds()
            self.excess.update(result.excess)
            if not self.excess.hours and self.excess.evicted_before == NOTHING_EVICTED:
                self.excess = None


def _add(numbers: dict[str, int], more: Mapping[str, int], sign: int = 1) -> None:
    for realm, number in more.items():
        total = numbers.get(realm, 0) + sign * number
        if total:
            numbers[realm] = total
        else:
            numbers.pop(realm, None)


@dataclass(slots=True)
class DedupeResult:
    """The changes of one range: first whole hours are dropped, then ids are added."""

    new: dict[int, list[bytes]] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    """Hours that were held before the range."""
    evicted_before: int = NOTHING_EVICTED
    realms: dict[int, Mapping[str, int]] = field(default_factory=dict)
    """By hour: the number of new ids by realm."""
    excess: DedupeResult | None = None
    """The changes of the excess; None if there are none."""
    over_share: int = 0
    """Number of ids beyond their realm's share."""


class _Window:
    """Ids by hour, for one range: at most `max_ids`, the oldest hours are evicted first."""

    def __init__(self, seen: SeenIds, window_hours: int, max_ids: int, latest: int) -> None:
        """Hours after `latest` are dropped."""
        self.result = DedupeResult(evicted_before=seen.evicted_before)
        self._seen = seen
        self._digests = seen.digests
        self._window_hours = window_hours
        self._max_ids = max_ids
        self._held = len(seen.digests)
        self._hours = set(seen.hours)
        self._newest = max(self._hours, default=NOTHING_EVICTED)
        self._new: dict[bytes, str] = {}
        """The realm of each new id. A dict, because setting an item is faster than a set's `add`."""
        self._evicted: set[bytes] = set()
        """Digests of dropped hours."""
        self._hour_ids: list[bytes] | None = None
        """The new ids of the last record's hour; None if the hour is too old to keep ids."""
        if self._newest > latest:
            # Written by format 1, which trusted every record timestamp: beside it no present id would be kept.
            for beyond in [hour for hour in self._hours if hour > latest]:
                self._drop(beyond)
            self._newest = max(self._hours, default=NOTHING_EVICTED)
            self.result.evicted_before = min(self.result.evicted_before, latest)

    def holds(self, digest: bytes) -> bool:
        return digest in self._new or (digest in self._digests and digest not in self._evicted)

    def advance_to(self, hour: int) -> None:
        """If `hour` is newer than all others, drop the hours that are before the window that ends with it."""
        if hour > self._newest:
            self._newest = hour
            for old in [held for held in self._hours if held < hour - self._window_hours]:
                self._drop(old)

    def _enter(self, hour: int) -> None:
        self._hour_ids = None
        self.advance_to(hour)
        # An older hour would be the next one to be dropped.
        if hour >= max(self._newest - self._window_hours, self.result.evicted_before):
            # Held even if all its ids are repeats: the next range must start from the same newest hour.
            self._hours.add(hour)
            self._hour_ids = self.result.new.setdefault(hour, [])

    def add(self, digest: bytes, hour: int, realm: str) -> None:
        """Keep an id, unless its hour is too old."""
        self._enter(hour)
        if self._hour_ids is not None:
            self._new[digest] = realm
            self._hour_ids.append(digest)
            self._held += 1
            self._evict()

    def _evict(self) -> None:
        while self._held > self._max_ids:
            oldest = min(self._hours)
            self._drop(oldest)
            # An hour that alone exceeds the limit starts again with the later ids: the window is then under an hour.
            self.result.evicted_before = oldest if oldest == self._newest else oldest + 1

    def _drop(self, hour: int) -> None:
        self._hours.discard(hour)
        new = self.result.new.pop(hour, [])
        for digest in new:
            del self._new[digest]
        self._held -= len(new)
        held = self._seen.hours.get(hour)
        if held is not None and hour not in self.result.dropped:
            self.result.dropped.add(hour)
            self._evicted.update(held)
            self._held -= len(held)


class Deduplicator(_Window):
    """Recognises repeated event ids in log order, for one range."""

    def __init__(self, seen: SeenIds, window_s: int, max_ids: int, now_ms: int, max_new: int) -> None:
        """`now_ms` is the store's clock: no usable time lies more than 24 h ahead of it.

        `max_new` is the most ids that the range can have.
        """
        # Rounded up: an id from the very end of an hour must stay for a whole window after it. AHEAD_HOURS more: an
        # event whose time is ahead of the clock must not make the ids of the records around it expire.
        window_hours = -(-window_s // HOUR_S) + AHEAD_HOURS
        latest = now_ms // HOUR_MS + AHEAD_HOURS
        self._share = max_ids // 2
        # The ids of each realm are counted one by one only if a realm can exceed its share in this range; otherwise
        # `finish` counts them at the range's end.
        may_exceed = max(seen.by_realm.values(), default=0) + max_new > self._share
        self._by_realm: dict[str, int] | None = dict(seen.by_realm) if may_exceed else None
        super().__init__(seen, window_hours, max_ids, latest)
        self._excess: _Window | None = None
        if may_exceed or seen.excess is not None:
            self._excess = _Window(seen.excess or SeenIds(), window_hours, max(self._share, 1), latest)
            self._excess.advance_to(self._newest)
        # The hour of the last record, in ms.
        self._hour_start_ms = self._hour_end_ms = 0

    @property
    def is_duplicate(self) -> Callable[[bytes, int, str], bool]:
        """Whether an id is a repeat; if not, it is kept from now on, in the share of the realm.

        Takes the digest, the time of the record or of an untimed event in ms, and the realm.
        """
        return self._is_duplicate if self._excess is None else self._is_duplicate_by_share

    def is_repeat(self, digest: bytes, record_ms: int) -> bool:
        """Whether an id is a repeat; does not keep it."""
        if not self._hour_start_ms <= record_ms < self._hour_end_ms:
            self._enter(record_ms // HOUR_MS)
        return self.holds(digest) or (self._excess is not None and self._excess.holds(digest))

    def _is_duplicate(self, digest: bytes, record_ms: int, realm: str) -> bool:
        if not self._hour_start_ms <= record_ms < self._hour_end_ms:
            self._enter(record_ms // HOUR_MS)
        if digest in self._new or (digest in self._digests and digest not in self._evicted):
            return True
        if self._hour_ids is not None:
            self._new[digest] = realm
            self._hour_ids.append(digest)
            self._held += 1
            if self._held > self._max_ids:
                self._evict()
        return False

    def _is_duplicate_by_share(self, digest: bytes, record_ms: int, realm: str) -> bool:
        """The same, where a realm may exceed its share in this range or has done so before."""
        if self.is_repeat(digest, record_ms):
            return True
        if self._by_realm is not None and self._excess is not None and self._hour_ids is not None:
            number = self._by_realm.get(realm, 0)
            if number > self._share:
                self.result.over_share += 1
                self._excess.add(digest, record_ms // HOUR_MS, realm)
                return False
            self._by_realm[realm] = number + 1
        return self._is_duplicate(digest, record_ms, realm)

    def _enter(self, hour: int) -> None:
        self._hour_start_ms, self._hour_end_ms = hour * HOUR_MS, (hour + 1) * HOUR_MS
        super()._enter(hour)
        if self._excess is not None:
            self._excess.advance_to(self._newest)

    def _evict(self) -> None:
        super()._evict()
        self._enter(self._newest)
        self._hour_start_ms = self._hour_end_ms = 0

    def _drop(self, hour: int) -> None:
        if self._by_realm is not None:
            new = self.result.new.get(hour, ())
            _add(self._by_realm, Counter(map(self._new.__getitem__, new)), sign=-1)
            if hour not in self.result.dropped:
                _add(self._by_realm, self._seen.realms.get(hour, {}), sign=-1)
        super()._drop(hour)

    def finish(self, events_by_realm: Callable[[], Mapping[str, int]] | None = None) -> DedupeResult:
        """The changes of the range.

        `events_by_realm` returns the number of events by realm, without repeats. If each event added one id, and all
        ids are of one hour, these are also the numbers of ids by realm, which then need not be counted.
        """
        new = {hour: digests for hour, digests in self.result.new.items() if digests}
        events = events_by_realm() if len(new) == 1 and events_by_realm is not None else {}
        if events and len(self._new) == sum(events.values()):
            self.result.realms = dict.fromkeys(new, events)
        else:
            realm_of = self._new.__getitem__
            self.result.realms = {hour: Counter(map(realm_of, digests)) for hour, digests in new.items()}
        if self._excess is not None:
            excess = self._excess.result
            before = self._seen.excess or SeenIds()
            if excess.new or excess.dropped or excess.evicted_before != before.evicted_before:
                self.result.excess = excess
        return self.result


def pack(digests: Iterable[bytes]) -> bytes:
    """The ledger's format: concatenated digests."""
    return b"".join(digests)


def effective_window_s(seen: SeenIds, window_s: int) -> int:
    """Age up to which a repeat is certainly recognised: DEDUPE_WINDOW_S, or less if ids were evicted."""
    newest = max(seen.hours, default=None)
    if newest is None:
        return window_s
    evicted_before = max(each.evicted_before for each in (seen, seen.excess) if each is not None)
    if newest - evicted_before >= -(-window_s // HOUR_S):
        return window_s
    return max(newest - evicted_before, 0) * HOUR_S
