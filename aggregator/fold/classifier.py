"""Which way events go: every combination of day, labels and outcome is resolved once, in log order."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final

from aggregator.fold.digest import PARTS
from aggregator.fold.labels import Labels
from aggregator.fold.range_delta import Cohort, Known, Resolved, Rules, Tally
from schemas.events import AccountEvent, Counted, Login, TokenIssued
from schemas.ledger import fields
from schemas.ledger.periods import LocalDays, Month, day_key
from schemas.ledger.scopes import EVERYTHING, OTHER, Scope

_NOBODY: Final[frozenset[str]] = frozenset()


@dataclass(slots=True)
class Active:
    """The users of one cohort: those applied before, and those new in this range."""

    known: set[str] | frozenset[str]
    width: int
    new: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Route:
    """The events of one range that go the same way."""

    to: Resolved
    active: Active | None
    is_new: bool
    """Whether it was resolved in this range."""
    events: int = 0
    first_ms: int = 2**63
    last_ms: int = -(2**63)
    """Usable record timestamps; the first is after the last while there was none."""


class Router:
    """Resolves each combination of labels in log order, and adds all of them up at the range's end."""

    def __init__(self, rules: Rules, known: Known) -> None:
        self.routes: dict[tuple[object, ...], Route] = {}
        self.resolved: dict[tuple[object, ...], Resolved] = {}
        self._opened: list[Route] = []
        self._unsure: list[tuple[object, ...]] = []
        self._rules = rules
        self._known = known
        self._labels = Labels(known.labels, rules.max_labels)
        self._cohorts: dict[Cohort, Active] = {}
        self._days = LocalDays(rules.zone)

    def day_of(self, time: datetime) -> tuple[int, datetime, datetime]:
        """The ordinal of the local day, and from when to when around `time` it is sure to be the same."""
        return self._days.day_at(time)

    def open(self, key: tuple[object, ...], day: int, event: Counted) -> Route:
        """The route of a combination that comes up for the first time in this range."""
        to = self._known.resolved.get(key)
        is_new = to is None
        if to is None:
            to = self._resolve(key, day, event)
        active = None
        if to.cohort is not None:
            active = self._cohorts.get(to.cohort)
            if active is None:
                applied = self._known.applied.get(to.cohort, _NOBODY)
                active = self._cohorts[to.cohort] = Active(applied, len(to.periods) * len(to.cohort.scopes))
        route = self.routes[key] = Route(to, active, is_new)
        self._opened.append(route)
        return route

    def _resolve(self, key: tuple[object, ...], day: int, event: Counted) -> Resolved:
        # A failure names whatever an attacker typed. Its realm becomes known all the same: otherwise a realm's failures
        # depend on which partition saw its first success. Its client does not, since clients are far more.
        success = event.success if isinstance(event, Login) else getattr(event, "kind", "") not in fields.FAILURE_KINDS
        introduces = success or self._rules.labels_on_failures
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
            client_id = OTHER if realm == OTHER else label("client", realm, event.client_id, may_introduce=success)
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
        client = None
        if event.client_id and success and not isinstance(event, AccountEvent):
            # Its own name, even where it has no counter: the sketch holds any number.
            client = self._rules.digest.client(event.realm or "", event.client_id)
        to = Resolved(periods, names, counted, cohort, tuple(overflowed), client)
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
            if self._rules.days and route.first_ms <= route.last_ms:
                first, last = tally.written.get(to.periods[0], (route.first_ms, route.last_ms))
                tally.written[to.periods[0]] = (min(first, route.first_ms), max(last, route.last_ms))
            for dimension in to.overflowed:
                name = fields.overflowed(dimension)
                tally.progress[name] = tally.progress.get(name, 0) + events
            if route.is_new and to.client is not None:
                for period in to.periods:
                    tally.clients.setdefault(period, set()).add(to.client)
        tally.counts = dict(counts)
        tally.labels, tally.resolved = self._labels.new, self.resolved

        for cohort, active in self._cohorts.items():
            if not active.new:
                continue
            tally.applied[cohort] = active.new
            parts = self._rules.digest.users(active.new, cohort.realm)
            for scope in cohort.scopes:
                for period in (cohort.period, cohort.period[:7]) if self._rules.days else (cohort.period,):
                    held = tally.users.setdefault((period, scope), [[] for _ in range(PARTS)])
                    for into, more in zip(held, parts, strict=True):
                        into += more
