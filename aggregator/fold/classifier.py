"""Event classes: every combination of day, labels and outcome is classified once, in log order."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final

from aggregator.fold.digest import PARTS
from aggregator.fold.labels import Labels
from aggregator.fold.range_delta import CountingRules, EventClass, RangeDelta, ShardCache, UserGroup
from schemas.events import AccountEvent, Counted, Login, TokenIssued
from schemas.ledger import fields
from schemas.ledger.periods import LocalDays, Month, day_key
from schemas.ledger.scopes import EVERYTHING, OTHER, Scope

_NO_USERS: Final[frozenset[str]] = frozenset()


@dataclass(slots=True)
class GroupUsers:
    """The users of one group: those applied before, and those new in this range."""

    applied: set[str] | frozenset[str]
    keys_per_user: int
    new: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Bucket:
    """The events of one range that belong to one class."""

    event_class: EventClass
    users: GroupUsers | None
    is_new: bool
    """Whether its class was determined in this range."""
    events: int = 0
    first_ms: int = 2**63
    last_ms: int = -(2**63)
    """Bounds of the usable record timestamps; the first is after the last if there is none."""


class Classifier:
    """Classifies each combination of labels in log order, and adds all of them to the delta at the range's end."""

    def __init__(self, rules: CountingRules, cache: ShardCache) -> None:
        self.buckets: dict[tuple[object, ...], Bucket] = {}
        self.event_classes: dict[tuple[object, ...], EventClass] = {}
        self._all_buckets: list[Bucket] = []
        self._provisional: list[tuple[object, ...]] = []
        self._rules = rules
        self._cache = cache
        self._labels = Labels(cache.labels, rules.max_labels)
        self._groups: dict[UserGroup, GroupUsers] = {}
        self._day_spans = LocalDays(rules.zone)

    def local_day(self, time: datetime) -> tuple[int, datetime, datetime]:
        """The ordinal of the local day, and an interval around `time` that lies in the same day."""
        return self._day_spans.day_at(time)

    def open_bucket(self, key: tuple[object, ...], day: int, event: Counted) -> Bucket:
        """The bucket of a combination that occurs for the first time in this range."""
        event_class = self._cache.event_classes.get(key)
        is_new = event_class is None
        if event_class is None:
            event_class = self._classify(key, day, event)
        users = None
        if event_class.user_group is not None:
            users = self._groups.get(event_class.user_group)
            if users is None:
                applied = self._cache.applied_users.get(event_class.user_group, _NO_USERS)
                users = self._groups[event_class.user_group] = GroupUsers(
                    applied, len(event_class.periods) * len(event_class.user_group.scopes)
                )
        bucket = self.buckets[key] = Bucket(event_class, users, is_new)
        self._all_buckets.append(bucket)
        return bucket

    def _classify(self, key: tuple[object, ...], day: int, event: Counted) -> EventClass:
        # A failure contains text that an attacker typed. It still makes its realm known: otherwise a realm's failures
        # would depend on which partition had its first success. It makes no client known: there may be many more.
        success = event.success if isinstance(event, Login) else getattr(event, "kind", "") not in fields.FAILURE_KINDS
        introduces = success or self._rules.labels_on_failures
        kept = self._rules.users_by | self._rules.counts_by
        labels, before = self._labels, len(self._labels.new)
        overflowing: list[str] = []
        certain = True

        def label(dimension: str, *names: str, may_introduce: bool = introduces) -> str:
            nonlocal certain
            found = labels.admit(dimension, names, may_add=may_introduce)
            if labels.overflowed:
                overflowing.append(dimension)
            certain = certain and found == names[-1]
            return found

        scopes = [EVERYTHING]
        realm = event.realm or ""
        if realm and not kept.isdisjoint(("realm", "client")):
            realm = label("realm", realm)
            scopes.append(Scope("realm", (realm,)))
        if event.client_id and "client" in kept:
            # A client of an unknown realm has no label either, because access to a client needs access to its realm.
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
        periods = (day_key(local), month) if self._rules.keep_days else (month,)
        group = None
        if activates:
            realm_of_user = (event.realm or "") if self._rules.users_per_realm else None
            group = UserGroup(
                periods[0], tuple(s for s in scopes if self._is_kept(s, self._rules.users_by)), realm_of_user
            )
        counted_scopes = tuple(scope for scope in scopes if self._is_kept(scope, self._rules.counts_by))
        client = None
        if event.client_id and success and not isinstance(event, AccountEvent):
            # The client's own name, even if it has no label: the sketch has room for any number.
            client = self._rules.digest.client(event.realm or "", event.client_id)
        event_class = EventClass(periods, names, counted_scopes, group, tuple(overflowing), client)
        if len(labels.new) > before:
            # A label just became known: earlier events of it counted under OTHER, later ones must not.
            for unsure in self._provisional:
                self.buckets.pop(unsure, None)
            self._provisional.clear()
        if not certain:
            self._provisional.append(key)
        else:
            self.event_classes[key] = event_class
        return event_class

    @staticmethod
    def _is_kept(scope: Scope, by: frozenset[str]) -> bool:
        return scope == EVERYTHING or scope.dimension in by

    def add_to(self, delta: RangeDelta) -> None:
        """Add every bucket and user group to the delta."""
        counts: dict[tuple[str, Scope], dict[str, int]] = defaultdict(dict)
        for bucket in self._all_buckets:
            event_class, events = bucket.event_class, bucket.events
            if not events:
                continue
            for scope in event_class.scopes:
                for period in event_class.periods:
                    increments = counts[period, scope]
                    for name in event_class.fields:
                        increments[name] = increments.get(name, 0) + events
            if self._rules.keep_days and bucket.first_ms <= bucket.last_ms:
                first, last = delta.record_times.get(event_class.periods[0], (bucket.first_ms, bucket.last_ms))
                delta.record_times[event_class.periods[0]] = (min(first, bucket.first_ms), max(last, bucket.last_ms))
            for dimension in event_class.overflowed:
                name = fields.overflowed(dimension)
                delta.progress[name] = delta.progress.get(name, 0) + events
            if bucket.is_new and event_class.client is not None:
                for period in event_class.periods:
                    delta.clients.setdefault(period, set()).add(event_class.client)
        delta.counts = dict(counts)
        delta.labels, delta.event_classes = self._labels.new, self.event_classes

        for group, users in self._groups.items():
            if not users.new:
                continue
            delta.new_users[group] = users.new
            parts = self._rules.digest.users(users.new, group.realm)
            for scope in group.scopes:
                for period in (group.period, group.period[:7]) if self._rules.keep_days else (group.period,):
                    parts_held = delta.users.setdefault((period, scope), [[] for _ in range(PARTS)])
                    for into, more in zip(parts_held, parts, strict=True):
                        into += more
