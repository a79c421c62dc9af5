"""Records in, additions out: the pure middle of the worker.

What `fold` returns depends on its arguments alone, and folding a log in any cuts adds up to the same ledger. Whatever
looks like a "now" is a record's timestamp.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Final, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from aggregator.digest import Element, UserDigest
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
    """Users who became active on one day in the same scopes: what a worker remembers having applied."""

    day: int
    scopes: tuple[Scope, ...]


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
    """Users in this tally that `memory` did not hold."""

    @property
    def periods(self) -> set[str]:
        return {period for period, _ in self.counts} | {period for period, _ in self.users}


@dataclass(slots=True)
class _Active:
    """The users of one cohort: those applied before, and those new in this range."""

    known: set[str] | frozenset[str]
    width: int
    realm: str | None
    new: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Route:
    """Where the events with one combination of day, labels and outcome go."""

    day: int
    fields: tuple[str, ...]
    scopes: tuple[Scope, ...]
    active: _Active | None
    overflowed: tuple[str, ...]
    first_ms: int
    last_ms: int
    events: int = 0


_NOBODY: Final[frozenset[str]] = frozenset()


def fold(
    name: str, records: Sequence[Record], end: int, known: frozenset[str] | set[str], memory: Memory, rules: Rules
) -> Tally:
    """Fold the records of a range that ends before offset `end`, on a topic bound to the event `name`.

    `known` are the members of the shard's labels set, `memory` the users applied before: both as of the range's start,
    both only read. Never raises for what records hold: bad ones come back in `dead`.
    """
    tally = Tally(end)
    if not records:
        return tally
    decode = DECODERS[name].decode
    router = _Router(rules, Labels(known, rules.max_labels), memory)
    routes, day_of = router.routes, router.day_of
    is_login, is_token = name == "login", name == "token"
    utc = rules.zone.key == "UTC"
    # One comparison per event settles nearly all; only what lies beyond is compared with its own record's timestamp.
    oldest = min(record.timestamp for record in records)
    plausible = datetime.fromtimestamp(oldest / 1000, UTC) + MAX_AHEAD
    first = last = None
    ids = 0
    looked_at = 0

    for record in records:
        if ids >= MAX_IDS:
            tally.end = record.offset
            break
        looked_at += 1
        try:
            event: Event = decode(record.value)  # type: ignore[arg-type]
            time = event.time
            if time > plausible or time < EARLIEST:
                check_time(time, record.timestamp)
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
                    route = router.open(key, day, event, record.timestamp)
        except BadRecordError as bad:
            tally.dead.append(DeadLetter(record, bad.reason, bad.detail))
            continue
        except (*UNDECODABLE, TypeError) as error:
            why = undecodable(record.value, error)
            tally.dead.append(DeadLetter(record, why.reason, why.detail))
            continue

        route.events += 1
        if record.timestamp > route.last_ms:
            route.last_ms = record.timestamp
        elif record.timestamp < route.first_ms:
            route.first_ms = record.timestamp
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

    if first is not None and last is not None:
        tally.first_event_ms, tally.last_event_ms = _ms(first), _ms(last)
    stamps = [record.timestamp for record in records[:looked_at]]
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
    """Resolves each combination of labels once per range, in log order, and adds the combinations up at its end."""

    def __init__(self, rules: Rules, labels: Labels, memory: Memory) -> None:
        self.routes: dict[tuple[object, ...], _Route] = {}
        self._opened: list[_Route] = []
        self._unsure: list[tuple[object, ...]] = []
        self._rules = rules
        self._labels = labels
        self._memory = memory
        self._cohorts: dict[Cohort, _Active] = {}
        self._kept = rules.users_by | rules.counts_by
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
        """The route of a combination that comes up for the first time."""
        failure = isinstance(event, Login) and not event.success
        # A leak report names whatever an attacker typed, as a failed login does.
        introduces = not failure and not (isinstance(event, AccountEvent) and event.kind == "leaked_password")
        labels, before, overflowed = self._labels, len(self._labels.new), []

        def named(dimension: str, name: str, *, may_introduce: bool) -> str:
            label = labels.name(dimension, name, introduces=may_introduce)
            if labels.overflowed:
                overflowed.append(labels.overflowed)
            return label

        scopes = {"all": EVERYTHING}
        realm = event.realm or ""
        if realm and ("realm" in self._kept or "client" in self._kept):
            realm = named("realm", realm, may_introduce=introduces)
            scopes["realm"] = Scope("realm", (realm,))
        if event.client_id and "client" in self._kept:
            # A client of an unknown realm has no name either: who sees a client must be able to see its realm.
            client_id = OTHER
            if realm != OTHER:
                client_id = labels.client(realm, event.client_id, introduces=introduces)
                if labels.overflowed:
                    overflowed.append(labels.overflowed)
            scopes["client"] = Scope("client", (realm, client_id))
        node = None if isinstance(event, AccountEvent) else event.node
        if node and "node" in self._kept:
            scopes["node"] = Scope("node", (named("node", node, may_introduce=introduces),))

        activates, names = self._outcome(event, named)
        route = _Route(
            day=day,
            fields=names,
            scopes=tuple(scope for kind, scope in scopes.items() if kind == "all" or kind in self._rules.counts_by),
            active=None,
            overflowed=tuple(overflowed),
            first_ms=record_ms,
            last_ms=record_ms,
        )
        if activates:
            kept = tuple(scope for kind, scope in scopes.items() if kind == "all" or kind in self._rules.users_by)
            route.active = self._cohort(Cohort(day, kept), event.realm or "")
        self.routes[key] = route
        self._opened.append(route)
        if not introduces:
            self._unsure.append(key)
        elif len(labels.new) > before:
            # A label just became known: failures that named it so far counted under OTHER, the next ones do not.
            for unsure in self._unsure:
                self.routes.pop(unsure, None)
            self._unsure.clear()
        return route

    def _outcome(self, event: Event, named: Callable[..., str]) -> tuple[bool, tuple[str, ...]]:
        """Whether the event makes its user active, and the counters that it raises."""
        if isinstance(event, Login):
            if not event.success:
                reason = event.reason or fields.UNSPECIFIED
                return False, (fields.failed(named("reason", reason, may_introduce=True)),)
            return "login" in self._rules.active_on, (fields.LOGIN,) if event.counted else ()
        if isinstance(event, TokenIssued):
            grant = named("grant", event.grant_type, may_introduce=True)
            names = tuple(fields.token(grant, named("token", token, may_introduce=True)) for token in event.tokens)
            return event.grant_type == "refresh_token" and "refresh" in self._rules.active_on, names
        return False, (fields.account(named("kind", event.kind, may_introduce=True)),)

    def _cohort(self, cohort: Cohort, realm: str) -> _Active:
        if self._rules.per_realm:
            # The digest depends on the raw realm, which OTHER would blur, so it tells cohorts apart.
            cohort = Cohort(cohort.day, (*cohort.scopes, Scope("of", (realm,))))
        active = self._cohorts.get(cohort)
        if active is None:
            width = 2 * sum(scope.dimension != "of" for scope in cohort.scopes)
            known = self._memory.get(cohort, _NOBODY)
            active = self._cohorts[cohort] = _Active(known, width, realm if self._rules.per_realm else None)
        return active

    def total(self, tally: Tally) -> None:
        """Add every route and cohort up into the tally."""
        counts: dict[tuple[str, Scope], dict[str, int]] = defaultdict(dict)
        for route in self._opened:
            if not route.events:
                continue
            day, month = _periods(route.day)
            for scope in route.scopes:
                for period in (day, month):
                    bucket = counts[period, scope]
                    for name in route.fields:
                        bucket[name] = bucket.get(name, 0) + route.events
            written = tally.written.get(day)
            tally.written[day] = (
                (route.first_ms, route.last_ms)
                if written is None
                else (min(written[0], route.first_ms), max(written[1], route.last_ms))
            )
            for dimension in route.overflowed:
                name = fields.overflowed(dimension)
                tally.progress[name] = tally.progress.get(name, 0) + route.events
        tally.counts = dict(counts)
        tally.labels = self._labels.new

        for cohort, active in self._cohorts.items():
            if not active.new:
                continue
            tally.applied[cohort] = active.new
            parts = _parts(self._rules.digest.element(user, active.realm) for user in active.new)
            for scope in cohort.scopes:
                if scope.dimension == "of":
                    continue
                for period in _periods(cohort.day):
                    held = tally.users.setdefault((period, scope), [[] for _ in range(16)])
                    for into, more in zip(held, parts, strict=True):
                        into += more


def _parts(elements: Iterable[Element]) -> list[list[str]]:
    parts: list[list[str]] = [[] for _ in range(16)]
    for text, part in elements:
        parts[part].append(text)
    return parts


def _periods(ordinal: int) -> tuple[str, str]:
    day = date.fromordinal(ordinal)
    return day_key(day), Month.of(day).key
