"""Events that were sent twice: a shard remembers the ids of events for a while, and counts each once.

Ids are kept in buckets of an hour by their record's timestamp. What is held, and so what is a repeat, is a function of
the log alone: a bucket goes when an id of a much later hour arrives or when there are too many, never by a clock.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

HOUR_MS: Final = 3_600_000
HOUR_S: Final = 3_600
LONG_AGO: Final = -(2**62)


@dataclass(slots=True)
class Seen:
    """The ids that a shard holds at its position, as digests."""

    hours: dict[int, array[int]] = field(default_factory=dict)
    """By hour since the Unix epoch."""
    given_up_before: int = LONG_AGO
    """The first hour of which none was given up for want of room."""
    digests: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self.digests = {digest for held in self.hours.values() for digest in held}

    @classmethod
    def unpacked(cls, hours: Mapping[int, bytes], given_up_before: int = LONG_AGO) -> Seen:
        """From buckets as the ledger keeps them."""
        return cls({hour: _unpacked(held) for hour, held in hours.items()}, given_up_before)

    def learn(self, sifted: Sifted) -> None:
        for hour in sifted.dropped:
            self.digests.difference_update(self.hours.pop(hour, ()))
        for hour, more in sifted.new.items():
            self.hours.setdefault(hour, array("q")).extend(more)
            self.digests.update(more)
        self.given_up_before = sifted.given_up_before


@dataclass(slots=True)
class Sifted:
    """What one range changes: first whole hours are dropped, then ids added."""

    new: dict[int, array[int]] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    """Hours held before the range."""
    given_up_before: int = LONG_AGO


class Sieve:
    """Tells repeats from events seen for the first time, in log order, for one range."""

    def __init__(self, seen: Seen, window_s: int, max_ids: int) -> None:
        self.sifted = Sifted(given_up_before=seen.given_up_before)
        self._seen = seen
        # An id seen at an hour's very end must be known for a whole window after it.
        self._window_hours = -(-window_s // HOUR_S)
        self._max_ids = max_ids
        self._hours = {hour: len(held) for hour, held in seen.hours.items()}
        self._held = sum(self._hours.values())
        self._newest = max(self._hours, default=LONG_AGO)
        self._new: set[int] = set()
        self._gone: set[int] = set()
        """Digests of the hours dropped."""

    def repeats(self, digest: int, record_ms: int) -> bool:
        """Whether an id is a repeat; if not, it is known from now on."""
        hour = record_ms // HOUR_MS
        if hour > self._newest:
            self._newest = hour
            self._hold(hour)
            for old in [held for held in self._hours if held < hour - self._window_hours]:
                self._drop(old)
        if digest in self._new or (digest in self._seen.digests and digest not in self._gone):
            return True
        if hour < max(self._newest - self._window_hours, self.sifted.given_up_before):
            # Too late to be remembered: its bucket would be the next to go.
            return False
        self._new.add(digest)
        self.sifted.new.setdefault(hour, array("q")).append(digest)
        self._hours[hour] = self._hours.get(hour, 0) + 1
        self._held += 1
        while self._held > self._max_ids:
            oldest = min(self._hours)
            self._drop(oldest)
            if oldest == self._newest:
                # Too large by itself: it goes on with the later ids.
                self._hold(oldest)
            self.sifted.given_up_before = oldest if oldest == self._newest else oldest + 1
        return False

    def _hold(self, hour: int) -> None:
        """Even if all its ids turn out to be repeats: the next range must find the same newest hour."""
        self._hours[hour] = 0
        self.sifted.new[hour] = array("q")

    def _drop(self, hour: int) -> None:
        self._held -= self._hours.pop(hour)
        self._new.difference_update(self.sifted.new.pop(hour, ()))
        held = self._seen.hours.get(hour)
        if held is not None and hour not in self.sifted.dropped:
            self.sifted.dropped.add(hour)
            self._gone.update(held)


def packed(digests: Iterable[int]) -> bytes:
    """Eight bytes each, little-endian, as the ledger keeps them."""
    held = array("q", digests)
    if sys.byteorder == "big":
        held.byteswap()
    return held.tobytes()


def _unpacked(held: bytes) -> array[int]:
    digests = array("q")
    digests.frombytes(held)
    if sys.byteorder == "big":
        digests.byteswap()
    return digests


def window_held_s(hours: Iterable[int], given_up_before: int, window_s: int) -> int:
    """For how long back a repeat is sure to be recognised: DEDUPE_WINDOW_S, less where ids had to be given up."""
    newest = max(hours, default=None)
    if newest is None or newest - given_up_before >= -(-window_s // HOUR_S):
        return window_s
    return max(newest - given_up_before, 0) * HOUR_S
