"""Every Redis key of the ledger, built here and nowhere else.

| key | Redis type | lives | holds |
|---|---|---|---|
| `shards` | set | for ever | tags of all shards, added before a shard's first batch |
| `imported` | hash | for ever | monthly figures counted elsewhere |
| `resent` | hash | for ever | up to where dead letters were sent again, by partition and reason |
| `restoring` | string | ten seconds | whose restore of a snapshot is under way |
| meta | hash | for ever | format, topic id, fingerprint of the hash key, settings that change what is counted |
| position | string | for ever | the next offset to apply |
| progress | hash | for ever | what became of every event consumed; lost offsets; first and last event time |
| observed | hash | for ever | log end and refused scripts, each with its time; written outside the script |
| labels | set | for ever | labels that have come up, as `dimension/name` |
| unexpected | set | for ever | offsets of records that a defect kept from being counted; every replay skips them |
| index | sorted set | for ever | periods held, scored by the Unix second at which they expire (`inf`: never) |
| ids | hash | for ever | hours of which event ids are held, and how many; before which hour some were given up |
| ids of an hour | string | dedupe window, by record timestamps | digests of event ids seen, eight bytes each |
| written | hash | RETAIN_DAYS | first and last record timestamp (ms) counted into a day |
| clients | HyperLogLog | as its period | active clients |
| users | HyperLogLog | as its period | active users: period, scope, part 0…k-1 |
| small | set (intset) | as its period | active users while few: period, scope, part 0…15 |
| counts | hash | as its period | logins, tokens, account events: period, scope |
| realms | hash | for ever | OTP inventory: numbers of realms by name, from 0, first come first |
| names | hash | for ever | OTP inventory: numbers of event names, from 1; 0 is any beyond the limit |
| figures | hash | for ever | OTP inventory: by a realm's number, its counts now and how far its rows go |
| tokens | hash | for ever | OTP inventory: the last state of each serial, deleted ones too |
| holders | hash | for ever | OTP inventory: how many tokens of a realm a user holds, by digest |
| rows | string | until every status is deleted | OTP inventory: a realm's rows, ROWS_PER_CHUNK to a key |
| places | string | for ever | OTP inventory: where each chunk of a realm's rows begins in time, eight bytes each |
| days | string | as the year's rows | OTP inventory: a realm's days of one year, with their maxima |
| floors | hash | for ever | OTP inventory: a realm's rows deleted per status; the only one that the api writes |
| reported | hash | for ever | OTP inventory: by a realm's number, a bit per status of which rows were given |
| given | sorted set | until deleted | OTP inventory: rows of a realm and status, counted elsewhere, by time |
| given days | hash | until deleted | OTP inventory: the maximum of each day's given rows, by ordinal |
| temporary | HyperLogLog | TEMPORARY_MS, deleted at once as a rule | one part of one question's union, by the api |
| answer | string | until its grace is over | a finished answer, in the database of CACHE_REDIS_URL |
| allowance | string | until its bucket is full | how far a caller has used up its requests, in that database too |
| session | string | until it ends | whose session it is, by the digest of its id, in that database too |
| `recordings` | list | for ever | which token counts the reporting policies recorded, from when on; by the api |

All keys of a shard carry the hash tag `{topic-partition}`: one Cluster slot, so one script can change them together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from schemas.ledger.scopes import Scope

SMALL_PARTS: Final = 16
"""Parts of a small set. Redis keeps a set of at most 512 integers as an intset, eight bytes each."""


class Shard(NamedTuple):
    """One source partition, the unit of counting."""

    topic: str
    partition: int

    @property
    def tag(self) -> str:
        return f"{self.topic}-{self.partition}"

    @classmethod
    def parse(cls, tag: str) -> Shard:
        topic, _, partition = tag.rpartition("-")
        return cls(topic, int(partition))


def shards(prefix: str) -> str:
    return f"{prefix}shards"


def imported(prefix: str) -> str:
    return f"{prefix}imported"


def resent(prefix: str) -> str:
    return f"{prefix}resent"


def restoring(prefix: str) -> str:
    return f"{prefix}restoring"


TEMPORARY_MS: Final = 5_000
"""Longer than any question may take, short enough that a killed api leaves nothing for an operator to find."""


def temporary(prefix: str, question: str, name: str) -> str:
    """All of one question's carry its hash tag: one Cluster slot, so that PFCOUNT can read them together."""
    return f"{prefix}temporary:{{{question}}}:{name}"


def answer(prefix: str, digest: str) -> str:
    return f"{prefix}answer:{digest}"


def allowance(prefix: str, caller: str) -> str:
    """`caller` is a digest."""
    return f"{prefix}allowance:{caller}"


def session(prefix: str, digest: str) -> str:
    return f"{prefix}session:{digest}"


def recordings(prefix: str) -> str:
    return f"{prefix}recordings"


class ShardKeys:
    """The keys of one shard."""

    def __init__(self, prefix: str, shard: Shard) -> None:
        self.shard = shard
        self.base = base = f"{prefix}{{{shard.tag}}}:"
        self.meta = base + "meta"
        self.position = base + "position"
        self.progress = base + "progress"
        self.observed = base + "observed"
        self.labels = base + "labels"
        self.index = base + "index"
        self.ids = base + "ids"
        self.unexpected = base + "unexpected"
        self.realms = base + "otp:realms"
        self.event_names = base + "otp:names"
        self.totals = base + "otp:figures"
        self.tokens = base + "otp:tokens"
        self.holders = base + "otp:holders"
        self.reported = base + "otp:reported"

    def ids_of(self, hour: int) -> str:
        """`hour` in hours since the Unix epoch, of the record's timestamp."""
        return f"{self.base}ids:{hour}"

    def record_times(self, day: str) -> str:
        return f"{self.base}written:{day}"

    def clients(self, period: str) -> str:
        return f"{self.base}clients:{period}"

    def users(self, period: str, scope: Scope, part: int) -> str:
        return f"{self.base}users:{period}:{scope.text}:{part}"

    def small_set(self, period: str, scope: Scope, part: int) -> str:
        return f"{self.base}small:{period}:{scope.text}:{part}"

    def sketches(self, period: str, scope: Scope, parts: Iterable[int]) -> list[str]:
        """`users` of several parts."""
        start = self.users(period, scope, 0)[:-1]
        return [f"{start}{part}" for part in parts]

    def small_sets(self, period: str, scope: Scope, parts: Iterable[int]) -> list[str]:
        """`small_set` of several parts."""
        start = self.small_set(period, scope, 0)[:-1]
        return [f"{start}{part}" for part in parts]

    def counts(self, period: str, scope: Scope) -> str:
        return f"{self.base}counts:{period}:{scope.text}"

    def period_of(self, key: str) -> str | None:
        """The period whose counts or users a key of this shard holds; None of any other key. The index names these."""
        if not key.startswith(self.base):
            return None
        kind, _, more = key[len(self.base) :].partition(":")
        period, colon, _ = more.partition(":")
        return period if colon and kind in ("users", "small", "counts") else None

    def day_written(self, key: str) -> str | None:
        """The day whose record timestamps a key of this shard holds; None of any other key."""
        start = self.record_times("")
        return key[len(start) :] if key.startswith(start) else None

    # Of the OTP inventory. `realm` is a number, `status` a place in schemas.ledger.inventory.COUNTED_STATUSES.

    def rows(self, realm: int, chunk: int) -> str:
        return f"{self.base}otp:rows:{realm}:{chunk}"

    def chunk_starts(self, realm: int) -> str:
        return f"{self.base}otp:places:{realm}"

    def days(self, realm: int, year: int) -> str:
        return f"{self.base}otp:days:{realm}:{year}"

    def delete_watermarks(self, realm: int) -> str:
        return f"{self.base}otp:floors:{realm}"

    def external_rows(self, realm: int, status: int) -> str:
        return f"{self.base}otp:given:{realm}:{status}"

    def external_days(self, realm: int, status: int) -> str:
        return f"{self.base}otp:given-days:{realm}:{status}"
