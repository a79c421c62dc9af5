"""Records in, additions out: the pure middle of the worker.

What `fold` returns depends on its arguments alone, and folding a log in any cuts adds up to the same ledger. Whatever
looks like a "now" is a record's timestamp.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Final, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from aggregator.digest import PARTS, UserDigest
from aggregator.labels import Labels
from aggregator.settings import WorkerSettings
from schemas import fields
from schemas.events import (
    DECODERS,
    EARLIEST,
    MAX_AHEAD,
    SAFE_ID_CHARS,
    UNDECODABLE,
    AccountEvent,
    BadRecordError,
    Event,
    Login,
    TokenIssued,
    check,
    check_time,
    undecodable,
)
from schemas.periods import Month, day_key
from schemas.scopes import EVERYTHING, OTHER, Scope

MAX_IDS: Final = 20_000
"""Users sent in one script, counted once per period and scope: keeps it under 5 ms of the store's time."""


MAX_RESOLVED: Final = 50_000
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
    """A record that cannot be counted."""

    record: Record
    reason: str
    detail: str


class Cohort(NamedTuple):
    """Users who became active in one period in the same scopes: what a worker remembers having applied."""

    period: str
    """The day, or the month where no days are kept."""
    scopes: tuple[Scope, ...]
    realm: str | None
    """Where equal ids of two realms are two users: the realm, as the events wrote it."""


Memory = dict[Cohort, set[str]]
"""Users already applied to this shard. Anything missing only costs a repeated, harmless addition."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that decide what is counted."""

    zone: ZoneInfo
    users_by: frozenset[str]
    counts_by: frozenset[str]
    active_on: frozenset[str]
    max_labels: int
    per_realm: bool
    days: bool
    """Whether days are kept besides months."""
    digest: UserDigest

    @classmethod
    def of(cls, settings: WorkerSettings) -> Rules:
        return cls(
            zone=settings.zone,
            users_by=frozenset(settings.users_by),
            counts_by=frozenset(settings.counts_by),
            active_on=frozenset(settings.active_on),
            max_labels=settings.max_labels,
            per_realm=settings.user_scope == "realm",
            days=settings.retain_days != 0,
            digest=UserDigest(settings.user_hash_key.get_secret_value()),
        )


@dataclass(slots=True)
class Tally:
    """What one range adds to its shard."""

    end: int
    """The offset after the last record looked at: before the range's own end when it had too many ids."""
    users: dict[tuple[str, Scope], list[list[str]]] = field(default_factory=dict)
    """(period, scope) to digests, per part 0…15."""
    counts: dict[tuple[str, Scope], dict[str, int]] = field(default_factory=dict)
    """(period, scope) to increments by field."""
    written: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Day to first and last record timestamp, ms, counted into it."""
    labels: set[str] = field(default_factory=set)
    """Members new to the labels set."""
    progress: dict[str, int] = field(default_factory=dict)
    """Increments of the progress hash."""
    first_event_ms: int | None = None
    last_event_ms: int | None = None
    first_record_ms: int | None = None
    last_record_ms: int | None = None
    dead: list[DeadLetter] = field(default_factory=list)
    applied: Memory = field(default_factory=dict)
    """Users in this tally that were not known as applied."""
    resolved: dict[tuple[object, ...], Resolved] = field(default_factory=dict)
    """Combinations whose way cannot change any more."""

    @property
    def periods(self) -> set[str]:
        return {period for period, _ in self.counts} | {period for period, _ in self.users}


@dataclass(slots=True)
class Known:
    """What is known of a shard before a range. Fold only reads it."""

    labels: set[str]
    """Members of its labels set."""
    applied: Memory = field(default_factory=dict)
    """Users applied before."""
    resolved: dict[tuple[object, ...], Resolved] = field(default_factory=dict)
    """Combinations resolved before: spares work, changes no result."""

    def learn(self, tally: Tally) -> None:
        """Take over what a tally says, once it is applied: not before, for its labels are not in the ledger yet."""
        self.labels |= tally.labels
        for cohort, users in tally.applied.items():
            self.applied.setdefault(cohort, set()).update(users)
        if len(self.resolved) > MAX_RESOLVED:
            self.resolved.clear()
        self.resolved.update(tally.resolved)


class Resolved(NamedTuple):
    """Where events with one combination of day, labels and outcome go."""

    periods: tuple[str, ...]
    fields: tuple[str, ...]
    scopes: tuple[Scope, ...]
    cohort: Cohort | None
    """Whom the event's user joins; None when it makes nobody active."""
    overflowed: tuple[str, ...] = ()
    """Dimensions whose label found no room."""


@dataclass(slots=True)
class _Active:
    """The users of one cohort: those applied before, and those new in this range."""

    known: set[str] | frozenset[str]
    width: int
    new: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Route:
    """The events of one range that go the same way."""

    to: Resolved
    active: _Active | None
    first_ms: int
    last_ms: int
    events: int = 0


_NOBODY: Final[frozenset[str]] = frozenset()


def fold(name: str, records: Sequence[Record], end: int, known: Known, rules: Rules) -> Tally:
    """Fold the records of a range that ends before offset `end`, on a topic bound to the event `name`.

    Never raises for what records hold: bad ones come back in `dead`.
    """
    tally = Tally(end)
    if not records:
        return tally
    decode = DECODERS[name].decode
    router = _Router(rules, known)
    routes, day_of = router.routes, router.day_of
    is_login, is_token = name == "login", name == "token"
    utc = rules.zone.key == "UTC"
    stamps = [record.timestamp for record in records]
    # One comparison per event settles nearly all; only what lies beyond is compared with its own record's timestamp.
    plausible = datetime.fromtimestamp(min(stamps) / 1000, UTC) + MAX_AHEAD
    first = last = None
    ids = 0

    for record, stamp in zip(records, stamps, strict=True):
        if ids >= MAX_IDS:
            tally.end = record.offset
            break
        try:
            event: Event = decode(record.value)  # type: ignore[arg-type]
            time = event.time
            if time > plausible or time < EARLIEST:
                check_time(time, stamp)
            day = time.toordinal() if utc and time.tzinfo is UTC else day_of(time)
            if is_login:
                key: tuple[object, ...] = (
                    day,
                    event.realm,
                    event.client_id,
                    event.node,  # type: ignore[union-attr]
                    event.success,  # type: ignore[union-attr]
                    event.counted,  # type: ignore[union-attr]
                    event.reason,  # type: ignore[union-attr]
                )
            elif is_token:
                key = (day, event.realm, event.client_id, event.node, event.grant_type, event.tokens)  # type: ignore[union-attr]
            else:
                key = (day, event.realm, event.client_id, event.kind)  # type: ignore[union-attr]
            user_id, event_id = event.user_id, event.id
            route = routes.get(key)
            if (
                route is None
                or (len(user_id) > SAFE_ID_CHARS if user_id else is_login)
                or (event_id is not None and len(event_id) > SAFE_ID_CHARS)
            ):
                check(event)
                if route is None:
                    route = router.open(key, day, event, stamp)
        except BadRecordError as bad:
            tally.dead.append(DeadLetter(record, bad.reason, bad.detail))
            continue
        except (*UNDECODABLE, TypeError) as error:
            why = undecodable(record.value, error)
            tally.dead.append(DeadLetter(record, why.reason, why.detail))
            continue

        route.events += 1
        if stamp > route.last_ms:
            route.last_ms = stamp
        elif stamp < route.first_ms:
            route.first_ms = stamp
        if first is None or last is None:
            first = last = time
        elif time > last:
            last = time
        elif time < first:
            first = time
        active = route.active
        if active is not None and user_id and user_id not in active.known and user_id not in active.new:
            active.new.add(user_id)
            ids += active.width
    else:
        record = None

    if first is not None and last is not None:
        tally.first_event_ms, tally.last_event_ms = _ms(first), _ms(last)
    looked_at = len(records) if record is None else records.index(record)
    del stamps[looked_at:]
    tally.first_record_ms, tally.last_record_ms = min(stamps), max(stamps)
    router.total(tally)
    tally.progress[fields.CONSUMED] = looked_at
    tally.progress[fields.COUNTED] = looked_at - len(tally.dead)
    for letter in tally.dead:
        reason = fields.dead(letter.reason)
        tally.progress[reason] = tally.progress.get(reason, 0) + 1
    return tally


def _ms(time: datetime) -> int:
    return int(time.timestamp() * 1000)


class _Router:
    """Resolves each combination of labels in log order, and adds all of them up at the range's end."""

    def __init__(self, rules: Rules, known: Known) -> None:
        self.routes: dict[tuple[object, ...], _Route] = {}
        self.resolved: dict[tuple[object, ...], Resolved] = {}
        self._opened: list[_Route] = []
        self._unsure: list[tuple[object, ...]] = []
        self._rules = rules
        self._known = known
        self._labels = Labels(known.labels, rules.max_labels)
        self._cohorts: dict[Cohort, _Active] = {}
        self._days: dict[tuple[int, int, int], int] = {}

    def day_of(self, time: datetime) -> int:
        """The ordinal of the local day. Zones have only changed on quarter hours of UTC since EARLIEST."""
        time = time.astimezone(UTC)
        quarter = (time.toordinal(), time.hour, time.minute // 15)
        day = self._days.get(quarter)
        if day is None:
            day = self._days[quarter] = time.astimezone(self._rules.zone).toordinal()
        return day

    def open(self, key: tuple[object, ...], day: int, event: Event, record_ms: int) -> _Route:
        """The route of a combination that comes up for the first time in this range."""
        to = self._known.resolved.get(key)
        if to is None:
            to = self._resolve(key, day, event)
        active = None
        if to.cohort is not None:
            active = self._cohorts.get(to.cohort)
            if active is None:
                applied = self._known.applied.get(to.cohort, _NOBODY)
                active = self._cohorts[to.cohort] = _Active(applied, len(to.periods) * len(to.cohort.scopes))
        route = self.routes[key] = _Route(to, active, record_ms, record_ms)
        self._opened.append(route)
        return route

    def _resolve(self, key: tuple[object, ...], day: int, event: Event) -> Resolved:
        # A failed login, and a report of a leak, name whatever an attacker typed.
        introduces = event.success if isinstance(event, Login) else getattr(event, "kind", "") != "leaked_password"
        kept = self._rules.users_by | self._rules.counts_by
        labels, before = self._labels, len(self._labels.new)
        overflowed: list[str] = []
        sure = True

        def label(dimension: str, *names: str, may_introduce: bool = introduces) -> str:
            nonlocal sure
            found = labels.admit(dimension, names, introduces=may_introduce)
            if labels.overflowed:
                overflowed.append(dimension)
            sure = sure and found == names[-1]
            return found

        scopes = [EVERYTHING]
        realm = event.realm or ""
        if realm and not kept.isdisjoint(("realm", "client")):
            realm = label("realm", realm)
            scopes.append(Scope("realm", (realm,)))
        if event.client_id and "client" in kept:
            # A client of an unknown realm has no name either: who sees a client must be able to see its realm.
            client_id = OTHER if realm == OTHER else label("client", realm, event.client_id)
            scopes.append(Scope("client", (realm, client_id)))
        node = None if isinstance(event, AccountEvent) else event.node
        if node and "node" in kept:
            scopes.append(Scope("node", (label("node", node),)))

        activates = False
        names: tuple[str, ...] = ()
        if isinstance(event, Login):
            if not event.success:
                names = (fields.failed(label("reason", event.reason or fields.UNSPECIFIED, may_introduce=True)),)
            elif event.counted:
                names = (fields.LOGIN,)
            activates = event.success and "login" in self._rules.active_on
        elif isinstance(event, TokenIssued):
            grant = label("grant", event.grant_type, may_introduce=True)
            names = tuple(fields.token(grant, label("token", token, may_introduce=True)) for token in event.tokens)
            activates = event.grant_type == "refresh_token" and "refresh" in self._rules.active_on
        else:
            names = (fields.account(label("kind", event.kind, may_introduce=True)),)

        local = date.fromordinal(day)
        month = Month.of(local).key
        periods = (day_key(local), month) if self._rules.days else (month,)
        cohort = None
        if activates:
            realm_of_user = (event.realm or "") if self._rules.per_realm else None
            cohort = Cohort(periods[0], tuple(s for s in scopes if self._keeps(s, self._rules.users_by)), realm_of_user)
        counted = tuple(scope for scope in scopes if self._keeps(scope, self._rules.counts_by))
        to = Resolved(periods, names, counted, cohort, tuple(overflowed))
        if len(labels.new) > before:
            # A label just became known: events that only named it so far counted under OTHER, the next ones do not.
            for unsure in self._unsure:
                self.routes.pop(unsure, None)
            self._unsure.clear()
        if not sure:
            self._unsure.append(key)
        else:
            self.resolved[key] = to
        return to

    @staticmethod
    def _keeps(scope: Scope, by: frozenset[str]) -> bool:
        return scope == EVERYTHING or scope.dimension in by

    def total(self, tally: Tally) -> None:
        """Add every route and cohort up into the tally."""
        counts: dict[tuple[str, Scope], dict[str, int]] = defaultdict(dict)
        for route in self._opened:
            to, events = route.to, route.events
            if not events:
                continue
            for scope in to.scopes:
                for period in to.periods:
                    bucket = counts[period, scope]
                    for name in to.fields:
                        bucket[name] = bucket.get(name, 0) + events
            if self._rules.days:
                first, last = tally.written.get(to.periods[0], (route.first_ms, route.last_ms))
                tally.written[to.periods[0]] = (min(first, route.first_ms), max(last, route.last_ms))
            for dimension in to.overflowed:
                name = fields.overflowed(dimension)
                tally.progress[name] = tally.progress.get(name, 0) + events
        tally.counts = dict(counts)
        tally.labels, tally.resolved = self._labels.new, self.resolved

        for cohort, active in self._cohorts.items():
            if not active.new:
                continue
            tally.applied[cohort] = active.new
            parts = self._rules.digest.elements(active.new, cohort.realm)
            for scope in cohort.scopes:
                for period in (cohort.period, cohort.period[:7]) if self._rules.days else (cohort.period,):
                    held = tally.users.setdefault((period, scope), [[] for _ in range(PARTS)])
                    for into, more in zip(held, parts, strict=True):
                        into += more
