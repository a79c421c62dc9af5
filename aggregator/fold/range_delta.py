"""What a fold is given and what it gives back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from aggregator.fold.deduplication import DedupeResult, SeenIds
from aggregator.fold.digest import Digest
from aggregator.settings import WorkerSettings
from schemas.ledger import fields
from schemas.ledger.scopes import Scope

MAX_EVENT_CLASSES: Final = 4_000
"""Combinations remembered per shard; when full all are dropped, to be resolved anew."""


class Record(Protocol):
    """What fold needs of a Kafka record; aiokafka's ConsumerRecord has it."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


class DeadLetter(NamedTuple):
    """A record that cannot be counted, or a bad element of one: `value` is what is sent on."""

    record: Record
    reason: str
    detail: str
    value: bytes | None
    element_index: int = 0
    """Which element, from 0."""


@dataclass(frozen=True, slots=True)
class CountingRules:
    """The settings that decide what is counted."""

    zone: ZoneInfo
    users_by: frozenset[str]
    counts_by: frozenset[str]
    active_on: frozenset[str]
    max_labels: int
    labels_on_failures: bool
    """Whether failures make realms and nodes known too."""
    users_per_realm: bool
    keep_days: bool
    """Whether days are kept besides months."""
    dedupe_window_s: int
    dedupe_max_ids: int
    digest: Digest

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
            digest=Digest(settings.user_hash_key.get_secret_value()),
        )


class UserGroup(NamedTuple):
    """Users who became active in one period in the same scopes: what a worker remembers having applied."""

    period: str
    """The day, or the month where no days are kept."""
    scopes: tuple[Scope, ...]
    realm: str | None
    """Where equal ids of two realms are two users: the realm, as the events wrote it."""


AppliedUsers = dict[UserGroup, set[str]]
"""Users already applied to this shard. Anything missing only costs a repeated, harmless addition."""


class EventClass(NamedTuple):
    """Where events with one combination of day, labels and outcome go."""

    periods: tuple[str, ...]
    fields: tuple[str, ...]
    scopes: tuple[Scope, ...]
    user_group: UserGroup | None
    """Whom the event's user joins; None when it makes nobody active."""
    overflowed: tuple[str, ...] = ()
    """Dimensions whose label found no room."""
    client: str | None = None
    """What stands for the active client in its sketch."""


@dataclass(slots=True)
class RangeDelta:
    """What one range adds to its shard."""

    end: int
    """The offset after the last record looked at: before the range's own end when it had too many ids."""
    users: dict[tuple[str, Scope], list[list[str]]] = field(default_factory=dict)
    """(period, scope) to digests, per part 0…15."""
    counts: dict[tuple[str, Scope], dict[str, int]] = field(default_factory=dict)
    """(period, scope) to increments by field."""
    clients: dict[str, set[str]] = field(default_factory=dict)
    """Period to digests of active clients."""
    dedupe: DedupeResult = field(default_factory=DedupeResult)
    """What becomes of the ids held."""
    record_times: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Day to first and last record timestamp, ms, counted into it."""
    labels: set[str] = field(default_factory=set)
    """Members new to the labels set."""
    progress: dict[str, int] = field(default_factory=dict)
    """Increments of the progress hash."""
    first_event_ms: int | None = None
    last_event_ms: int | None = None
    first_record_ms: int | None = None
    last_record_ms: int | None = None
    dead_letters: list[DeadLetter] = field(default_factory=list)
    unexpected: set[int] = field(default_factory=set)
    """Offsets of records on which the fold raised."""
    new_users: AppliedUsers = field(default_factory=dict)
    """Users in this tally that were not known as applied."""
    event_classes: dict[tuple[object, ...], EventClass] = field(default_factory=dict)
    """Combinations whose way cannot change any more."""

    def note_record_times(
        self, times_ms: Sequence[int], untimed: AbstractSet[int], opens: Sequence[bool] | None = None
    ) -> None:
        """Add to first and last usable timestamp, and to the number of records without one.

        `untimed` are places in `times_ms`; `opens` says which places are the first of their record, by default all.
        """
        usable = [ms for place, ms in enumerate(times_ms) if place not in untimed] if untimed else times_ms
        if usable:
            first, last = min(usable), max(usable)
            self.first_record_ms = first if self.first_record_ms is None else min(first, self.first_record_ms)
            self.last_record_ms = last if self.last_record_ms is None else max(last, self.last_record_ms)
        records = sum(place < len(times_ms) and (opens is None or opens[place]) for place in untimed)
        if records:
            self.progress[fields.UNTIMED] = self.progress.get(fields.UNTIMED, 0) + records

    def record_progress(self, consumed: int, repeated: int, ignored: int, skipped: int = 0) -> None:
        """Enter what became of the range's elements: every one was counted, repeated, ignored, or is in `dead`.

        `skipped` records were found unexpected before; they are not sent again as dead letters.
        """
        dead = Counter(fields.dead(letter.reason) for letter in self.dead_letters)
        if skipped:
            dead[fields.dead("unexpected")] += skipped
        entries = {
            fields.CONSUMED: consumed + skipped,
            fields.COUNTED: consumed - len(self.dead_letters) - repeated - ignored,
            **{name: number for name, number in ((fields.DUPLICATES, repeated), (fields.IGNORED, ignored)) if number},
            **dead,
        }
        self.progress |= entries

    @property
    def periods(self) -> set[str]:
        return {period for period, _ in self.counts} | {period for period, _ in self.users}


@dataclass(slots=True)
class ShardCache:
    """What is known of a shard before a range. Fold only reads it."""

    labels: set[str]
    """Members of its labels set."""
    applied_users: AppliedUsers = field(default_factory=dict)
    """Users applied before."""
    event_classes: dict[tuple[object, ...], EventClass] = field(default_factory=dict)
    """Combinations resolved before: spares work, changes no result."""
    seen_ids: SeenIds = field(default_factory=SeenIds)
    """Ids of events."""
    unexpected: set[int] = field(default_factory=set)
    """Offsets of records that no fold could count: every replay skips them."""

    def without_unexpected(self, records: Sequence[Record]) -> tuple[Sequence[Record], Sequence[Record]]:
        """The records to fold, and the others."""
        if not self.unexpected:
            return records, ()
        skipped = [record for record in records if record.offset in self.unexpected]
        return [record for record in records if record.offset not in self.unexpected], skipped

    def update(self, delta: RangeDelta) -> None:
        """Take over what a tally says, once it is applied: not before, for its labels are not in the ledger yet."""
        self.labels |= delta.labels
        for cohort, users in delta.new_users.items():
            self.applied_users.setdefault(cohort, set()).update(users)
        if len(self.event_classes) > MAX_EVENT_CLASSES:
            self.event_classes.clear()
        self.event_classes.update(delta.event_classes)
        self.seen_ids.update(delta.dedupe)
        self.unexpected |= delta.unexpected
