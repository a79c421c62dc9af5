"""Estimates memory and workers of a site: `python -m deploy.capacity` prints the tables of docs/capacity.md.

Constants are measured (docs/capacity.md gives the conditions). Everything else is estimated from them, and rounded up
if users may be in several shards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from schemas.ledger.accuracy import K_MONTHS, K_OTHERS
from schemas.ledger.keys import SMALL_PARTS

EXACT_UP_TO: Final = 4096
# Bytes in Valkey 9.1, including names of keys and the store's overhead per key.
SMALL_PART: Final = 105
SMALL_USER: Final = 8
SPARSE: Final = 500
SPARSE_USER: Final = 1.63
SPARSE_USERS: Final = 1_600
DENSE: Final = 12_400
COUNTERS: Final = 340
SHARD: Final = 2_000
# A hash of up to 512 fields, and a sorted set of up to 128 members, is one block of memory.
CHANGE: Final = 30.5
CHANGE_OF_MANY: Final = 60.0
CHANGES_OF_MANY: Final = 512
INDEX_ENTRY: Final = 18.5
INDEX_ENTRY_OF_MANY: Final = 84.0
INDEX_OF_MANY: Final = 129
SMALL_KEY: Final = 80

# CPU seconds per million events without ids.
WORKER_CPU_S: Final = 1.7
WORKER_CPU_S_UNIFORM: Final = 2.2
EVENTS_PER_CORE: Final = 1_000_000 / WORKER_CPU_S_UNIFORM
WORKER_BYTES: Final = 245_000_000

BUSY_TOPICS: Final = 2
"""Logins and tokens; account events and OTP tokens are few in comparison."""
LOAD: Final = 0.6
"""Planned load of a core; the rest is for peaks within a second and for catching up."""


@dataclass(frozen=True, slots=True)
class Site:
    """Users and retention of a site. A user is active on the share `daily` of days, with `events` events on each."""

    users: int
    realms: int
    clients: int
    partitions: int
    daily: float = 0.2
    events: int = 10
    peak: float = 5.0
    days: int = 400
    months: int = 60

    @property
    def events_per_day(self) -> float:
        return self.users * self.daily * self.events

    @property
    def events_per_s(self) -> float:
        return self.events_per_day / 86_400

    @property
    def shards(self) -> int:
        return BUSY_TOPICS * self.partitions

    @property
    def workers(self) -> int:
        """At least two, so that one may stop."""
        return max(2, math.ceil(self.events_per_s * self.peak / (EVENTS_PER_CORE * LOAD)))

    @property
    def bytes(self) -> float:
        """Size of the ledger after `months` months and `days` days."""
        daily = self.users * self.daily
        of_a_month = self._period(self.users, K_MONTHS)
        of_a_day = self._period(min(daily, self.events_per_day / self.shards), K_OTHERS)
        of_periods = index_bytes(self.months + self.days) + changes_bytes(self.months + self.days)
        return self.shards * (SHARD + of_periods + self.months * of_a_month + self.days * of_a_day)

    def _period(self, users: float, k: int) -> float:
        """One shard's keys of one period: all users, users of each realm, and counters of each realm and client."""
        counters = COUNTERS * (1 + self.realms + self.clients)
        return users_bytes(users, k) + self.realms * users_bytes(users / self.realms, K_OTHERS) + counters


def users_bytes(users: float, k: int) -> float:
    """Bytes of the users of one shard, period and scope, in sets of integers or in k sketches."""
    if users <= EXACT_UP_TO:
        parts = SMALL_PARTS * (1.0 - math.pow(1 - 1 / SMALL_PARTS, users))
        return SMALL_PART * parts + SMALL_USER * users
    each = users / k
    return k * (DENSE if each > SPARSE_USERS else SPARSE + SPARSE_USER * each)


def changes_bytes(periods: int) -> float:
    """Bytes of one shard's hash `changes`: an epoch, and a token for each day and month that is held."""
    each = CHANGE if periods < CHANGES_OF_MANY else CHANGE_OF_MANY
    return SMALL_KEY + each * (1 + periods)


def index_bytes(periods: int) -> float:
    """Bytes of one shard's index of the days and months that are held."""
    return SMALL_KEY + periods * (INDEX_ENTRY if periods < INDEX_OF_MANY else INDEX_ENTRY_OF_MANY)


def periods_table() -> str:
    rows = (
        f"| {name} | {periods} | {size(changes_bytes(periods))} | {size(index_bytes(periods))} |"
        for name, periods in (("60 months", 60), ("60 months, 31 days", 91), ("60 months, 400 days", 460))
    )
    return "\n".join(("| kept | periods | `changes` | index |", "|---|---|---|---|", *rows))


SITES: Final = (
    Site(10_000, realms=3, clients=30, partitions=1),
    Site(1_000_000, realms=50, clients=500, partitions=2),
    Site(100_000_000, realms=500, clients=5_000, partitions=4),
)
INTERNET: Final = Site(1_000_000_000, realms=1_000, clients=10_000, partitions=24, events=432, peak=5.0, days=31)
"""Five million events/s at peak: 200 million users a day, each with as many events as devices that refresh tokens."""


def size(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1_000:
            return f"{count:.3g} {unit}"
        count /= 1_000
    return f"{count:.3g} TB"


def number(count: float) -> str:
    return f"{count:,.0f}" if count >= 10 else f"{count:.2g}"


def memory_table() -> str:
    head = "| active users of the period, in one shard | a month of all users | a day, a realm's day or month |"
    rows = (
        f"| {users:,} | {size(users_bytes(users, K_MONTHS))} | {size(users_bytes(users, K_OTHERS))} |"
        for users in (10, 100, 1_000, 4_096, 10_000, 100_000, 10_000_000)
    )
    return "\n".join((head, "|---|---|---|", *rows))


def sites_table() -> str:
    rows = [
        "| users a month | realms, clients | events/s, at peak | partitions of each topic | workers "
        "| Redis, 400 days | Redis, 31 days | Redis, months only |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for site in SITES:
        held = [replace(site, days=days).bytes for days in (400, 31, 0)]
        rows.append(
            f"| {site.users:,} | {site.realms:,}, {site.clients:,} "
            f"| {number(site.events_per_s)}, {number(site.events_per_s * site.peak)} | {site.partitions} "
            f"| {site.workers} | {' | '.join(size(each) for each in held)} |"
        )
    return "\n".join(rows)


def main() -> None:
    print(memory_table(), periods_table(), sites_table(), sep="\n\n")
    site = INTERNET
    print(number(site.events_per_s * site.peak), site.shards, site.workers, size(site.bytes))
    print(size(replace(site, days=0).bytes), size(replace(site, realms=1, clients=0, days=0).bytes))


if __name__ == "__main__":
    main()
