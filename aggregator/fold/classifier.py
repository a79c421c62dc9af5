"""Event classes: every combination of day, labels and outcome is classified once, in log order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
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
_OF_REALMS: Final = frozenset({"realm", "client"})
"""Dimensions whose counters belong to one realm."""


@dataclass(slots=True)
class GroupTally:
    """The users of one UserGroup: those applied before, and those new in this range."""

    applied: set[str] | frozenset[str]
    keys_per_user: int
    new: set[str] = field(default_factory=set)


@dataclass(slots=True)
class ClassTally:
    """The events of one range that belong to one class."""

    event_class: EventClass
    users: GroupTally | None
    is_new: bool
    """Whether its class was determined in this range."""
    realm: str
    """The realm of its class."""
    events: int = 0
    first_ms: int = 2**63
    last_ms: int = -(2**63)
    """Bounds of the usable record timestamps; the first is after the last if there is none."""


class Classifier:
    """Classifies each combination of labels in log order, and adds all of them to the delta at the range's end."""

    def __init__(self, rules: CountingRules, cache: ShardCache) -> None:
        self.tallies: dict[tuple[object, ...], ClassTally] = {}
        self.event_classes: dict[tuple[object, ...], EventClass] = {}
        self._all_tallies: list[ClassTally] = []
        self._provisional: list[tuple[object, ...]] = []
        """Combinations with a name under OTHER, which a later event may make known."""
        self._rules = rules
        self._cache = cache
        self._labels = Labels(cache.labels, cache.table_sizes, cache.shares, rules.max_labels)
        self._groups: dict[UserGroup, GroupTally] = {}
        self._day_spans = LocalDays(rules.zone)

    def local_day(self, time: datetime) -> tuple[int, datetime, datetime]:
        """The ordinal of the local day, and an interval around `time` that lies in the same day."""
        return self._day_spans.day_at(time)

    def open_tally(self, key: tuple[object, ...], day: int, event: Counted) -> ClassTally:
        """The tally of a combination that occurs for the first time in this range."""
        event_class = self._cache.event_classes.get(key)
        is_new = event_class is None
        if event_class is None:
            event_class = self._classify(key, day, event)
        users = None
        if event_class.user_group is not None:
            users = self._groups.get(event_class.user_group)
            if users is None:
                applied = self._cache.applied_users.get(event_class.user_group, _NO_USERS)
                users = self._groups[event_class.user_group] = GroupTally(
                    applied, len(event_class.periods) * len(event_class.user_group.scopes)
                )
        tally = self.tallies[key] = ClassTally(event_class, users, is_new, event_class.realm)
        self._all_tallies.append(tally)
        return tally

    def _classify(self, key: tuple[object, ...], day: int, event: Counted) -> EventClass:
        # A failure contains text that an attacker typed. It still makes its realm known: otherwise a realm's failures
        # would depend on which partition had its first success. It makes no client known: there may be many more.
        success = event.success if isinstance(event, Login) else getattr(event, "kind", "") not in fields.FAILURE_KINDS
        introduces = success or self._rules.labels_on_failures
        kept = self._rules.users_by | self._rules.counts_by
        labels, before = self._labels, len(self._labels.new)
        overflowing: dict[str, None] = {}
        refused: dict[str, None] = {}
        certain = True

        def noted(dimension: str, name: str, found: str, of_realm: str | None = None) -> str:
            """`found`, the label of `name`. Notes if a limit refused it, and if it is not final (OTHER)."""
            nonlocal certain
            if labels.overflowed:
                overflowing[dimension] = None
                if of_realm is not None:
                    refused[fields.refused(dimension, of_realm)] = None
            certain = certain and found == name
            return found

        scopes = [EVERYTHING]
        realm = ""
        if event.realm and not kept.isdisjoint(("realm", "client")):
            realm = noted("realm", event.realm, labels.admit("realm", event.realm, may_add=introduces))
            scopes.append(Scope("realm", (realm,)))
        if event.client_id and "client" in kept:
            # A client of an unknown realm has no label either, because access to a client needs access to its realm.
            client_id = OTHER
            if realm != OTHER:
                client_id = labels.admit_client(realm, event.client_id, may_add=success)
                noted("client", event.client_id, client_id, realm)
            scopes.append(Scope("client", (realm, client_id)))
        node = None if isinstance(event, AccountEvent) else event.node
        if node and "node" in kept:
            scopes.append(Scope("node", (noted("node", node, labels.admit("node", node, may_add=introduces)),)))
        counted_scopes = tuple(scope for scope in scopes if self._is_kept(scope, self._rules.counts_by))

        def common(dimension: str, word: str) -> str:
            return noted(dimension, word, labels.admit_common_word(dimension, word))

        def own(dimension: str, word: str) -> str:
            return noted(dimension, word, labels.admit_word(dimension, realm, word), realm)

        names = realm_names = _fields(event, common)
        if any(scope.dimension in _OF_REALMS for scope in counted_scopes):
            realm_names = _fields(event, own)
            if realm_names == names:
                # The same object, as in nearly all classes: its counters need no choice.
                realm_names = names
        activates = False
        if isinstance(event, Login):
            activates = event.success and "login" in self._rules.active_on
        elif isinstance(event, TokenIssued):
            activates = event.grant_type == "refresh_token" and "refresh" in self._rules.active_on

        local = date.fromordinal(day)
        month = Month.of(local).key
        periods = (day_key(local), month) if self._rules.keep_days else (month,)
        group = None
        if activates:
            realm_of_user = (event.realm or "") if self._rules.users_per_realm else None
            group = UserGroup(
                periods[0], tuple(s for s in scopes if self._is_kept(s, self._rules.users_by)), realm_of_user
            )
        client = None
        if event.client_id and success and not isinstance(event, AccountEvent):
            # The client's own name, even if it has no label: the sketch has room for any number.
            client = self._rules.digest.client(event.realm or "", event.client_id)
        event_class = EventClass(
            periods, names, realm_names, counted_scopes, group, realm, tuple(overflowing), tuple(refused), client
        )
        if len(labels.new) > before:
            # A label just became known: earlier events of it counted under OTHER, later ones must not.
            for unsure in self._provisional:
                self.tallies.pop(unsure, None)
            self._provisional.clear()
        if not certain:
            self._provisional.append(key)
        else:
            self.event_classes[key] = event_class
        return event_class

    def events_by_realm(self) -> Counter[str]:
        """The events counted so far."""
        found: Counter[str] = Counter()
        for tally in self._all_tallies:
            if tally.events:
                found[tally.realm] += tally.events
        return found

    @staticmethod
    def _is_kept(scope: Scope, by: frozenset[str]) -> bool:
        return scope == EVERYTHING or scope.dimension in by

    def add_to(self, delta: RangeDelta) -> None:
        """Add every tally and user group to the delta."""
        counts: dict[tuple[str, Scope], dict[str, int]] = defaultdict(dict)
        shares = self._labels.new_shares.copy()
        for tally in self._all_tallies:
            event_class, events = tally.event_class, tally.events
            if not events:
                continue
            common, own = event_class.fields, event_class.realm_fields
            for scope in event_class.scopes:
                names = common if own is common or scope.dimension not in _OF_REALMS else own
                for period in event_class.periods:
                    increments = counts[period, scope]
                    for name in names:
                        increments[name] = increments.get(name, 0) + events
            if self._rules.keep_days and tally.first_ms <= tally.last_ms:
                first, last = delta.record_times.get(event_class.periods[0], (tally.first_ms, tally.last_ms))
                delta.record_times[event_class.periods[0]] = (min(first, tally.first_ms), max(last, tally.last_ms))
            for field_ in event_class.refused:
                shares[field_] += events
            for dimension in event_class.overflowed:
                name = fields.overflowed(dimension)
                delta.progress[name] = delta.progress.get(name, 0) + events
            if tally.is_new and event_class.client is not None:
                for period in event_class.periods:
                    delta.clients.setdefault(period, set()).add(event_class.client)
        delta.counts = dict(counts)
        delta.labels, delta.shares, delta.event_classes = self._labels.new, +shares, self.event_classes

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


def _fields(event: Counted, word: Callable[[str, str], str]) -> tuple[str, ...]:
    """The counters of an event. `word` returns the label of a word, by dimension."""
    if isinstance(event, Login):
        if not event.success:
            return (fields.failed(word("reason", event.reason or fields.UNSPECIFIED)),)
        return (fields.LOGIN,) if event.counted else ()
    if isinstance(event, TokenIssued):
        grant = word("grant", event.grant_type)
        return tuple(fields.token(grant, word("token", token)) for token in event.tokens)
    return (fields.account(word("kind", event.kind)),)
