"""Arguments and results of folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from aggregator.fold.deduplication import DedupeResult, SeenIds
from aggregator.fold.digest import Digest
from aggregator.fold.labels import table_sizes
from aggregator.settings import WorkerSettings
from schemas.ledger import fields
from schemas.ledger.scopes import Scope

MAX_EVENT_CLASSES: Final = 4_000
"""Combinations cached per shard. Cleared when full; frequent ones re-enter quickly."""


class Record(Protocol):
    """The fields of a Kafka record that folds read; aiokafka's records have them. Adapters read `headers` too."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


class DeadLetter(NamedTuple):
    """A record that cannot be counted, or a bad element of one; `value` is sent to the dead-letter topic."""

    record: Record
    reason: str
    detail: str
    value: bytes | None
    element_index: int = 0
    """The index of the element, from 0."""


@dataclass(frozen=True, slots=True)
class CountingRules:
    """The settings that determine what is counted."""

    zone: ZoneInfo
    users_by: frozenset[str]
    counts_by: frozenset[str]
    active_on: frozenset[str]
    max_labels: int
    labels_on_failures: bool
    """Whether failures, too, make realms and nodes known."""
    users_per_realm: bool
    keep_days: bool
    """Whether days are kept besides months."""
    dedupe_window_s: int
    dedupe_max_ids: int
    digest: Digest
    realm_names: Mapping[str, str]
    """Names of realms that foreign records give by id."""

    @classmethod
    def of(cls, settings: WorkerSettings) -> CountingRules:
        return cls(
            zone=settings.zone,
            users_by=frozenset(settings.users_by),
            counts_by=frozenset(settings.counts_by),
            active_on=frozenset(settings.active_on),
            max_labels=settings.max_labels,
            labels_on_failures=settings.labels_on == "any",
            users_per_realm=settings.user_scope == "realm",
            keep_days=settings.retain_days != 0,
            dedupe_window_s=settings.dedupe_window_s,
            dedupe_max_ids=settings.dedupe_max_ids,
            digest=Digest(settings.user_hash_key.get_secret_value(), settings.user_id_normalize),
            realm_names=settings.realm_names,
        )


class UserGroup(NamedTuple):
    """Identifies users who became active in one period in the same scopes; the worker caches who of them is applied."""

    period: str
    """The day, or the month if no days are kept."""
    scopes: tuple[Scope, ...]
    realm: str | None
    """The realm as the events contain it, if USER_SCOPE makes equal ids of two realms two users; else None."""


AppliedUsers = dict[UserGroup, set[str]]
"""Users already applied to this shard. A missing one costs only a repeated, harmless addition."""


class EventClass(NamedTuple):
    """The buckets of events with one combination of day, labels and outcome."""

    periods: tuple[str, ...]
    fields: tuple[str, ...]
    """Counters that an event of the class increments in the buckets of everything and of nodes."""
    realm_fields: tuple[str, ...]
    """The same in the buckets of the realm and its clients, whose words have shares of their own."""
    scopes: tuple[Scope, ...]
    user_group: UserGroup | None
    """The group of the events' users; None if the events make no user active."""
    realm: str = ""
    """The label of the realm, whose share the events' ids use; empty without a realm, or if realms are not kept."""
    overflowed: tuple[str, ...] = ()
    """Dimensions whose label the limit refused."""
    refused: tuple[str, ...] = ()
    """Fields of the shares hash that count events whose client or word had no room in its realm's share."""
    client: str | None = None
    """The digest of the active client."""


@dataclass(slots=True)
class RangeDelta:
    """The additions of one range to its shard."""

    end: int
    """The offset after the last folded record; before the range's own end if the range is too much for one script."""
    users: dict[tuple[str, Scope], list[list[str]]] = field(default_factory=dict)
    """(period, scope) to digests by part 0…15."""
    counts: dict[tuple[str, Scope], dict[str, int]] = field(default_factory=dict)
    """(period, scope) to increments by field."""
    clients: dict[str, set[str]] = field(default_factory=dict)
    """Period to the digests of active clients."""
    dedupe: DedupeResult = field(default_factory=DedupeResult)
    """Changes of the ids held."""
    record_times: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Day to the first and last timestamp, ms, of records that counted into it."""
    labels: set[str] = field(default_factory=set)
    """New members of the labels set."""
    shares: Mapping[str, int] = field(default_factory=dict)
    """Increments of the shares hash."""
    progress: dict[str, int] = field(default_factory=dict)
    """Increments of the progress hash."""
    first_event_ms: int | None = None
    last_event_ms: int | None = None
    first_record_ms: int | None = None
    last_record_ms: int | None = None
    dead_letters: list[DeadLetter] = field(default_factory=list)
    unexpected: set[int] = field(default_factory=set)
    """Offsets of unexpected records."""
    unknown_types: dict[str, int] = field(default_factory=dict)
    """Ignored elements by unknown event type, in log order: the script keeps the first MAX_UNKNOWN_TYPES by name."""
    new_users: AppliedUsers = field(default_factory=dict)
    """Users of this delta that were not cached as applied."""
    event_classes: dict[tuple[object, ...], EventClass] = field(default_factory=dict)
    """Combinations whose class is final."""

    def note_timestamps(
        self, times_ms: Sequence[int], untimed: AbstractSet[int], starts_record: Sequence[bool] | None = None
    ) -> None:
        """Update the first and last usable timestamp, and the number of untimed records.

        `untimed` are indexes of `times_ms`; `starts_record` is true at the first index of each record; by default each
        index is a record.
        """
        usable = [ms for place, ms in enumerate(times_ms) if place not in untimed] if untimed else times_ms
        if usable:
            first, last = min(usable), max(usable)
            self.first_record_ms = first if self.first_record_ms is None else min(first, self.first_record_ms)
            self.last_record_ms = last if self.last_record_ms is None else max(last, self.last_record_ms)
        records = sum(place < len(times_ms) and (starts_record is None or starts_record[place]) for place in untimed)
        if records:
            self.progress[fields.UNTIMED] = self.progress.get(fields.UNTIMED, 0) + records

    def record_progress(self, consumed: int, duplicates: int, ignored: int, skipped: int = 0) -> None:
        """Set the outcomes of the range's elements: each is counted, a duplicate, ignored or a dead letter.

        `skipped` records were unexpected in an earlier fold; they are not sent again as dead letters.
        """
        dead = Counter(fields.dead(letter.reason) for letter in self.dead_letters)
        if skipped:
            dead[fields.dead("unexpected")] += skipped
        entries = {
            fields.CONSUMED: consumed + skipped,
            fields.COUNTED: consumed - len(self.dead_letters) - duplicates - ignored,
            **{name: number for name, number in ((fields.DUPLICATES, duplicates), (fields.IGNORED, ignored)) if number},
            **dead,
        }
        self.progress |= entries

    def note_unknown(self, name: str) -> bool:
        """Count an ignored element of an unknown type. Returns whether the type is new in this range."""
        before = self.unknown_types.get(name, 0)
        self.unknown_types[name] = before + 1
        return not before

    @property
    def periods(self) -> set[str]:
        return {period for period, _ in self.counts} | {period for period, _ in self.users}


@dataclass(slots=True)
class ShardCache:
    """The worker's copy of a shard's state before a range. A fold only reads it."""

    labels: set[str]
    """Members of the labels set."""
    applied_users: AppliedUsers = field(default_factory=dict)
    """Users applied before."""
    event_classes: dict[tuple[object, ...], EventClass] = field(default_factory=dict)
    """Combinations classified before: saves work, changes no result."""
    seen_ids: SeenIds = field(default_factory=SeenIds)
    """Event ids."""
    unexpected: set[int] = field(default_factory=set)
    """Offsets of unexpected records, which every replay skips."""
    shares: Counter[str] = field(default_factory=Counter)
    """The shares hash."""
    table_sizes: Counter[str] = field(init=False)
    """The number of realms, of nodes, and of common words by kind among `labels`; each has a limit."""

    def __post_init__(self) -> None:
        self.table_sizes = table_sizes(self.labels)

    def without_unexpected(self, records: Sequence[Record]) -> tuple[Sequence[Record], Sequence[Record]]:
        """The records to fold, and the unexpected ones."""
        if not self.unexpected:
            return records, ()
        skipped = [record for record in records if record.offset in self.unexpected]
        return [record for record in records if record.offset not in self.unexpected], skipped

    def update(self, delta: RangeDelta) -> None:
        """Take over a delta after it is applied; earlier its labels are not in the ledger."""
        self.table_sizes.update(table_sizes(delta.labels - self.labels))
        self.labels |= delta.labels
        self.shares.update(delta.shares)
        for group, users in delta.new_users.items():
            self.applied_users.setdefault(group, set()).update(users)
        if len(self.event_classes) > MAX_EVENT_CLASSES:
            self.event_classes.clear()
        self.event_classes.update(delta.event_classes)
        self.seen_ids.update(delta.dedupe)
        self.unexpected |= delta.unexpected
