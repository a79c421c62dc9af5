"""Events that were sent twice: a shard remembers the ids of events for a while, and counts each once.

Ids are kept in buckets of an hour by their record's timestamp, or by the event's own time where that is not usable. The
ids held are a function of the log: a bucket expires when an id of a much later hour arrives or when there are too many,
never by a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

HOUR_MS: Final = 3_600_000
HOUR_S: Final = 3_600
DIGEST_BYTES: Final = 8
AHEAD_HOURS: Final = 24
"""How far ahead of the store's clock an event or a record may be dated."""
LONG_AGO: Final = -(2**62)


@dataclass(slots=True)
class Seen:
    """The ids that a shard holds at its position, as digests."""

    hours: dict[int, list[bytes]] = field(default_factory=dict)
    """By hour since the Unix epoch."""
    given_up_before: int = LONG_AGO
    """The first hour of which none was given up for want of room."""
    digests: set[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.digests = {digest for held in self.hours.values() for digest in held}

    @classmethod
    def unpacked(cls, hours: Mapping[int, bytes], given_up_before: int = LONG_AGO) -> Seen:
        """From buckets as the ledger keeps them: digests end to end."""
        places = {hour: range(0, len(held), DIGEST_BYTES) for hour, held in hours.items()}
        return cls(
            {hour: [hours[hour][at : at + DIGEST_BYTES] for at in starts] for hour, starts in places.items()},
            given_up_before,
        )

    def learn(self, sifted: Sifted) -> None:
        for hour in sifted.dropped:
            self.digests.difference_update(self.hours.pop(hour, ()))
        for hour, more in sifted.new.items():
            self.hours.setdefault(hour, []).extend(more)
            self.digests.update(more)
        self.given_up_before = sifted.given_up_before


@dataclass(slots=True)
class Sifted:
    """What one range changes: first whole hours are dropped, then ids added."""

    new: dict[int, list[bytes]] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    """Hours held before the range."""
    given_up_before: int = LONG_AGO


class Sieve:
    """Tells repeats from events seen for the first time, in log order, for one range."""

    def __init__(self, seen: Seen, window_s: int, max_ids: int, now_ms: int) -> None:
        """`now_ms` is the store's clock: no usable time lies more than 24 h ahead of it."""
        self.sifted = Sifted(given_up_before=seen.given_up_before)
        self._seen = seen
        self._digests = seen.digests
        # An id seen at an hour's very end must be known for a whole window after it.
        # The 24 h more: one event may be dated so far ahead, and must not make its neighbours' ids expire.
        self._window_hours = -(-window_s // HOUR_S) + AHEAD_HOURS
        self._max_ids = max_ids
        self._held = len(seen.digests)
        self._hours = set(seen.hours)
        self._newest = max(self._hours, default=LONG_AGO)
        self._new: set[bytes] = set()
        self._gone: set[bytes] = set()
        """Digests of the hours dropped."""
        # The hour of the last record, in ms, and its bucket: None when it is too late for one.
        self._from = self._until = 0
        self._bucket: list[bytes] | None = None
        latest = now_ms // HOUR_MS + AHEAD_HOURS
        if self._newest > latest:
            # Left by format 1, which believed every record timestamp: such an hour kept all later ids out.
            for beyond in [hour for hour in self._hours if hour > latest]:
                self._drop(beyond)
            self._newest = max(self._hours, default=LONG_AGO)
            self.sifted.given_up_before = min(self.sifted.given_up_before, latest)

    def repeats(self, digest: bytes, record_ms: int) -> bool:
        """Whether an id is a repeat; if not, it is known from now on."""
        if not self._from <= record_ms < self._until:
            self._turn_to(record_ms // HOUR_MS)
        if digest in self._new or (digest in self._digests and digest not in self._gone):
            return True
        if self._bucket is not None:
            self._new.add(digest)
            self._bucket.append(digest)
            self._held += 1
            if self._held > self._max_ids:
                self._make_room()
        return False

    def _turn_to(self, hour: int) -> None:
        self._from, self._until = hour * HOUR_MS, (hour + 1) * HOUR_MS
        self._bucket = None
        if hour > self._newest:
            self._newest = hour
            for old in [held for held in self._hours if held < hour - self._window_hours]:
                self._drop(old)
        # What is later than that would be the next to go.
        if hour >= max(self._newest - self._window_hours, self.sifted.given_up_before):
            # Held even if all its ids turn out to be repeats: the next range must find the same newest hour.
            self._hours.add(hour)
            self._bucket = self.sifted.new.setdefault(hour, [])

    def _make_room(self) -> None:
        while self._held > self._max_ids:
            oldest = min(self._hours)
            self._drop(oldest)
            # An hour that is too large by itself begins anew with the later ids: the window is then less than an hour.
            self.sifted.given_up_before = oldest if oldest == self._newest else oldest + 1
        self._turn_to(self._newest)
        self._from = self._until = 0

    def _drop(self, hour: int) -> None:
        self._hours.discard(hour)
        new = self.sifted.new.pop(hour, [])
        self._new.difference_update(new)
        self._held -= len(new)
        held = self._seen.hours.get(hour)
        if held is not None and hour not in self.sifted.dropped:
            self.sifted.dropped.add(hour)
            self._gone.update(held)
            self._held -= len(held)


def packed(digests: Iterable[bytes]) -> bytes:
    """As the ledger keeps them."""
    return b"".join(digests)


def window_held_s(hours: Iterable[int], given_up_before: int, window_s: int) -> int:
    """For how long back a repeat is sure to be recognised: DEDUPE_WINDOW_S, less where ids had to be given up."""
    newest = max(hours, default=None)
    if newest is None or newest - given_up_before >= -(-window_s // HOUR_S):
        return window_s
    return max(newest - given_up_before, 0) * HOUR_S
