"""Every Redis key of the ledger, built here and nowhere else.

| key | Redis type | lives | holds |
|---|---|---|---|
| `shards` | set | forever | tags of all shards, added before a shard's first range |
| `ledger` | string | forever | random id of the ledger, written once; not in snapshots |
| `imported` | hash | forever | monthly figures from another system |
| `resent` | hash | forever | the offset up to which dead letters were sent again, by partition and reason |
| `audit` | stream | MAX_ENTRIES entries | changes that people ordered: by whom, which, how many; not in snapshots |
| `restoring` | string | ten seconds | the owner of a running restore |
| meta | hash | forever | format, topic id, fingerprint of the hash key, settings that change what is counted |
| position | string | forever | the next offset to apply |
| progress | hash | forever | counts of consumed events by result; lost offsets; first and last event time |
| observed | hash | forever | log end, refused scripts, why a partition is stopped; written outside the script |
| labels | set | forever | known labels: `realm/name`, `client/realm/name`, `reason/realm/word`, `all/reason/word` |
| shares | hash | forever | clients and words of a realm (`client/realm`), events refused (`refused/client/realm`) |
| changes | hash | as the index | random tokens: of a period's last change, of all periods (`epoch`); not restored |
| unexpected | set | forever | offsets of unexpected records; every replay skips them |
| index | sorted set | forever | periods held, scored by the Unix second at which they expire (`inf`: never) |
| ids | hash | forever | number of event ids by hour; the hour before which ids were evicted |
| ids of an hour | string | dedupe window, by record timestamps | digests of event ids seen, eight bytes each |
| realms of an hour | hash | as the hour's ids | number of those ids by realm |
| excess ids of an hour | string | as ids, or shorter | digests of ids beyond their realm's share |
| written | hash | RETAIN_DAYS | first and last record timestamp (ms) counted into a day |
| clients | HyperLogLog | as its period | active clients |
| users | HyperLogLog | as its period | active users: period, scope, part 0…k-1 |
| small | set (intset) | as its period | active users of small buckets: period, scope, part 0…15 |
| counts | hash | as its period | logins, tokens, account events: period, scope |
| realms | hash | forever | OTP inventory: numbers of realms by name, from 0 in order of arrival |
| names | hash | forever | OTP inventory: numbers of event names, from 1; 0 is any name beyond the limit |
| figures | hash | forever | OTP inventory: by a realm's number, its present counts and its number of rows |
| tokens | hash | forever | OTP inventory: the last state of each serial, including deleted ones |
| holders | hash | forever | OTP inventory: number of tokens that a user has in a realm, by digest |
| rows | string | until every status is deleted | OTP inventory: a realm's rows, ROWS_PER_CHUNK to a key |
| places | string | forever | OTP inventory: the time at which each chunk of a realm's rows begins, eight bytes each |
| days | string | as the year's rows | OTP inventory: a realm's days of one year, with their maxima |
| floors | hash | forever | OTP inventory: a realm's delete watermarks by status; written by the api |
| reported | hash | forever | OTP inventory: by a realm's number, a bit for each status with external rows |
| given | sorted set | until deleted | OTP inventory: external rows of a realm and status, by time |
| given days | hash | until deleted | OTP inventory: the maximum of each day's external rows, by ordinal |
| temporary | HyperLogLog | TEMPORARY_MS, normally deleted at once | one part of one query's union, by the api |
| answer | string | until its grace is over | a cache entry, in the database of CACHE_REDIS_URL |
| allowance | string | until its bucket is full | used requests of a caller, in that database too |
| session | string | until it ends | the principal of a session, by the digest of its id, in that database too |
| sessions of | sorted set | until the last session ends | keys of a subject's sessions, by end; in that database too |
| `recordings` | list | forever | the token counts that reporting policies recorded, each with its start; by the api |

All keys of a shard carry the hash tag `{topic-partition}`: one Cluster slot, so one script can change them together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from schemas.ledger.scopes import Scope

SMALL_PARTS: Final = 16
"""Parts of a small set. Redis stores a set of at most 512 integers as an intset, eight bytes each."""


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


def ledger_id(prefix: str) -> str:
    return f"{prefix}ledger"


def imported(prefix: str) -> str:
    return f"{prefix}imported"


def resent(prefix: str) -> str:
    return f"{prefix}resent"


def audit(prefix: str) -> str:
    return f"{prefix}audit"


def restoring(prefix: str) -> str:
    return f"{prefix}restoring"


TEMPORARY_MS: Final = 5_000
"""Longer than any query may take; short, because a killed api leaves its temporary keys behind."""


def temporary(prefix: str, question: str, name: str) -> str:
    """All temporary keys of a query share its hash tag: one Cluster slot, so PFCOUNT can read them together."""
    return f"{prefix}temporary:{{{question}}}:{name}"


def answer(prefix: str, digest: str) -> str:
    return f"{prefix}answer:{digest}"


def allowance(prefix: str, caller: str) -> str:
    """`caller` is a digest."""
    return f"{prefix}allowance:{caller}"


def session(prefix: str, digest: str) -> str:
    return f"{prefix}session:{digest}"


def sessions_of(prefix: str, owner: str) -> str:
    """`owner` is a digest."""
    return f"{prefix}sessions-of:{owner}"


def recordings(prefix: str) -> str:
    return f"{prefix}recordings"


class ShardKeys:
    """The keys of one shard. Some attributes are named better than their keys, which only a new format may rename."""

    def __init__(self, prefix: str, shard: Shard) -> None:
        self.shard = shard
        self.base = base = f"{prefix}{{{shard.tag}}}:"
        self.meta = base + "meta"
        self.position = base + "position"
        self.progress = base + "progress"
        self.observed = base + "observed"
        self.labels = base + "labels"
        self.shares = base + "shares"
        self.changes = base + "changes"
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

    def id_realms_of(self, hour: int) -> str:
        return f"{self.base}ids:{hour}:realms"

    def has_id_realms(self, key: str) -> bool:
        """Whether a key holds the realms of an hour's ids."""
        return key.startswith(self.base + "ids:") and key.endswith(":realms")

    def excess_ids_of(self, hour: int) -> str:
        return f"{self.base}ids:{hour}:excess"

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
        """The period of a key with counts or users of this shard, as the index lists it; None for other keys."""
        if not key.startswith(self.base):
            return None
        kind, _, more = key[len(self.base) :].partition(":")
        period, colon, _ = more.partition(":")
        return period if colon and kind in ("users", "small", "counts") else None

    def scope_of(self, key: str) -> tuple[str, Scope] | None:
        """Period and scope of a key with counts or users of this shard; None for other keys."""
        period = self.period_of(key)
        return None if period is None else (period, Scope.parse(key[len(self.base) :].split(":")[2]))

    def otp_realm_of(self, key: str) -> int | None:
        """The number of the realm to which a key of the OTP inventory belongs; None for other keys."""
        kind, _, more = key.removeprefix(self.base + "otp:").partition(":")
        number = more.partition(":")[0]
        kinds = ("rows", "places", "days", "floors", "given", "given-days")
        return int(number) if key.startswith(self.base + "otp:") and kind in kinds else None

    def day_written(self, key: str) -> str | None:
        """The day of a key with record timestamps of this shard; None for other keys."""
        start = self.record_times("")
        return key[len(start) :] if key.startswith(start) else None

    # OTP inventory: `realm` is a number, `status` an index of schemas.ledger.inventory.COUNTED_STATUSES.

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
