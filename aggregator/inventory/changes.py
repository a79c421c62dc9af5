"""Changes of realms in one range: each change of a token adds a row per realm, and each day has its maxima."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Final

from aggregator.fold.range_delta import CountingRules
from aggregator.inventory.state import InventoryChanges, InventoryState, realm_bytes
from schemas.events import OtpTokenCount, OtpTokenState
from schemas.ledger.inventory import (
    COUNTED_STATUSES,
    COUNTS_BYTES,
    HEADER_BYTES,
    MAX_EVENT_NAMES,
    NO_REALM,
    ROW_BYTES,
    ROWS_PER_CHUNK,
    WRITTEN_STATUSES,
    RowTexts,
    Token,
    micros,
    pack_chunk_start,
    pack_counts,
    pack_day,
    pack_external,
    pack_open_event,
    pack_row,
    pack_totals,
    status_counts,
    unpack_open_event,
    unpack_totals,
)
from schemas.ledger.periods import LocalDays

_NO_REALMS: Final[tuple[int, ...]] = ()
_FIELDS_BEFORE_MAXIMA: Final = 11
_NEW_REALM: Final = (0,) * (_FIELDS_BEFORE_MAXIMA + len(COUNTED_STATUSES))
_NO_MAXIMA: Final = (0,) * len(COUNTED_STATUSES)


@dataclass(slots=True)
class _RealmFold:
    """A realm's totals during a fold."""

    number: int
    maxima: tuple[int, ...]
    total: int
    active: int
    assigned: int
    both: int
    """Tokens that are active and assigned."""
    users: int
    rows: int
    first_us: int
    last_us: int
    day: int
    """Ordinal of the last row's local day."""
    slot: int
    """The place of that day among the days of its year."""
    day_first: int
    """The number of the first row of that day."""
    open_event: bytes = field(default=b"", init=False)
    """Digest of the id of the last row's event; empty if the event has no id."""
    maxima_before: tuple[int, ...] = field(default=(), init=False)
    """While an event is open: the maxima of the last row's day without that row."""
    chunk_bytes: bytearray | None = field(default=None, init=False)
    """New bytes of the last chunk; None before the first row."""

    @classmethod
    def load(cls, number: int, packed: bytes | None) -> _RealmFold:
        """From the store's packed totals; None for a new realm."""
        values = _NEW_REALM if packed is None else unpack_totals(packed)
        realm = cls(number, values[_FIELDS_BEFORE_MAXIMA:], *values[:_FIELDS_BEFORE_MAXIMA])
        if packed is not None:
            realm.open_event, realm.maxima_before = unpack_open_event(packed)
        return realm

    @property
    def packed_totals(self) -> bytes:
        packed = pack_totals(
            self.total,
            self.active,
            self.assigned,
            self.both,
            self.users,
            self.rows,
            self.first_us,
            self.last_us,
            self.day,
            self.slot,
            self.day_first,
            *self.maxima,
        )
        return packed + pack_open_event(self.open_event, self.maxima_before) if self.open_event else packed


class ChangesBuilder:
    """Collects the changes that events make, in log order, to a state that stays unchanged."""

    def __init__(self, state: InventoryState, rules: CountingRules) -> None:
        self.work_done = 0
        """Number of events and rows so far."""
        self._state = state
        self._local = LocalDays(rules.zone)
        # Not the number of realms: a realm that was removed leaves a gap.
        self._first_new_realm = 1 + max(state.realms.values(), default=-1)
        self._changes = InventoryChanges()
        self._touched: dict[int, _RealmFold] = {}
        self._years: dict[int, int] = {}

    def fold_state(self, event: OtpTokenState, user: bytes, event_key: bytes = b"") -> int:
        """Add a token's state. Returns 1; 0 if it equals the serial's last state; -1 if the last state is newer.

        States with the same `event_key`, the digest of their event's id, share one row in each realm.
        """
        at = micros(event.time)
        if event.deleted:
            new = Token(at, False, False, True, b"", _NO_REALMS)
        else:
            realms = event.realms or (NO_REALM,)
            numbers = (
                (self._realm_number(realms[0]),)
                if len(realms) == 1
                else tuple(sorted(set(map(self._realm_number, realms))))
            )
            # LinOTP's licence counts the users of tokens that can be used.
            new = Token(at, event.active, event.assigned, False, user, numbers, event.active and bool(user))
        changes = self._changes
        old = changes.tokens.get(event.serial) or self._state.tokens[event.serial]
        if old is not None and at <= old.time_us:
            if at < old.time_us:
                return -1
            if new.has_state_of(old):
                return 0
        changes.tokens[event.serial] = new
        name = self._event_number(event.event)
        affected = new.realms
        if old is not None and old.realms != affected:
            affected = tuple(sorted({*old.realms, *affected}))
        for number in affected:
            realm = self._realm(number)
            if old is not None and number in old.realms:
                self._count(realm, old, -1)
            if number in new.realms:
                self._count(realm, new, 1)
            if event_key and event_key == realm.open_event:
                self._update_row(realm)
            else:
                self._row(realm, at, name, event_key)
        self.work_done += 1 + len(affected)
        return 1

    def fold_count(self, event: OtpTokenCount, sequence: int) -> None:
        """Add an external row. `sequence` orders rows of the same time."""
        changes, at, name = self._changes, micros(event.time), self._event_number(event.event)
        number, status = self._realm_number(event.realm), WRITTEN_STATUSES.index(event.status)
        bits = changes.reported.get(number, self._state.reported.get(number, 0))
        if not bits >> status & 1:
            changes.reported[number] = bits | 1 << status
        texts = RowTexts(event.value, event.detail, event.session, event.description)
        changes.external_rows.setdefault((number, status), {})[pack_external(sequence, name, event.count, texts)] = at
        day, _ = self._day(at)
        maxima = changes.external_days.setdefault((number, status), {})
        maxima[day] = max(event.count, maxima.get(day, 0))
        self.work_done += 1

    def _realm_number(self, realm: str) -> int:
        number = self._state.realms.get(realm)
        if number is None:
            number = self._changes.realms.setdefault(realm, self._first_new_realm + len(self._changes.realms))
        return number

    def _event_number(self, event: str) -> int:
        number = self._state.event_names.get(event)
        if number is None:
            new = self._changes.event_names
            number = new.get(event)
            if number is None:
                number = 1 + len(self._state.event_names) + len(new)
                if number > MAX_EVENT_NAMES:
                    return 0
                new[event] = number
        return number

    def _realm(self, number: int) -> _RealmFold:
        realm = self._touched.get(number)
        if realm is None:
            realm = self._touched[number] = _RealmFold.load(number, self._state.totals.get(number))
        return realm

    def _count(self, realm: _RealmFold, token: Token, more: int) -> None:
        realm.total += more
        if token.active:
            realm.active += more
        if token.assigned:
            realm.assigned += more
            if token.active:
                realm.both += more
            if token.counts_user:
                holder = realm_bytes(realm.number) + token.user
                changed = self._changes.holders
                had = changed.get(holder)
                if had is None:
                    # A KeyError for a realm that the store has is a defect: the holder was not loaded.
                    had = self._state.holders[holder] if realm.number < self._first_new_realm else 0
                changed[holder] = had + more
                if not had or not had + more:
                    realm.users += more

    def _row(self, realm: _RealmFold, at: int, name: int, event_key: bytes) -> None:
        total, active, assigned, both, users = realm.total, realm.active, realm.assigned, realm.both, realm.users
        row = realm.rows
        position = at if not row or at > realm.last_us else realm.last_us
        chunk_bytes = realm.chunk_bytes
        if chunk_bytes is None or not row % ROWS_PER_CHUNK:
            chunk_bytes = realm.chunk_bytes = self._chunk(realm, position)
        chunk_bytes += pack_row(at, name, total, active, assigned, both, users)
        values = status_counts(total, active, assigned, both, users)
        day, year = self._day(position)
        # Days of rows must ascend, because readers search them: a local date that goes back stays on the later day.
        if day <= realm.day:
            before = realm.maxima
            if values != before:
                realm.maxima = tuple(map(max, values, before))
        else:
            self._begin_day(realm, day, year)
            before, realm.maxima = _NO_MAXIMA, values
        realm.open_event, realm.maxima_before = (event_key, before) if event_key else (b"", ())
        if not row:
            realm.first_us = position
        realm.last_us = position
        realm.rows = row + 1

    def _update_row(self, realm: _RealmFold) -> None:
        """Set the counts of the last row, whose event continues. The row keeps its time and its place."""
        total, active, assigned, both, users = realm.total, realm.active, realm.assigned, realm.both, realm.users
        counts = pack_counts(total, active, assigned, both, users)
        if realm.chunk_bytes:
            realm.chunk_bytes[-COUNTS_BYTES:] = counts
        else:
            chunk, nth = divmod(realm.rows - 1, ROWS_PER_CHUNK)
            realm.chunk_bytes = bytearray(counts)
            start = HEADER_BYTES + (nth + 1) * ROW_BYTES - COUNTS_BYTES
            self._changes.rows[realm.number, chunk] = start, realm.chunk_bytes
        values = status_counts(total, active, assigned, both, users)
        realm.maxima = tuple(map(max, values, realm.maxima_before))

    def _chunk(self, realm: _RealmFold, position: int) -> bytearray:
        """The buffer for new bytes of the next row's chunk."""
        chunk, nth = divmod(realm.rows, ROWS_PER_CHUNK)
        if nth:
            start, chunk_bytes = HEADER_BYTES + nth * ROW_BYTES, bytearray()
        else:
            start, chunk_bytes = 0, bytearray(pack_chunk_start(position))
            self._changes.chunk_starts.setdefault(realm.number, {})[chunk] = position
        self._changes.rows[realm.number, chunk] = start, chunk_bytes
        return chunk_bytes

    def _begin_day(self, realm: _RealmFold, day: int, year: int) -> None:
        if realm.rows:
            last = self._year(realm.day)
            # Written only when the day is over: until then it is in the realm's totals, which each range stores.
            packed = pack_day(realm.day, realm.day_first, *realm.maxima)
            self._changes.days.setdefault((realm.number, last), {})[realm.slot] = packed
            realm.slot = realm.slot + 1 if last == year else 0
        realm.day, realm.day_first = day, realm.rows

    def _year(self, day: int) -> int:
        cached = self._years.get(day)
        if cached is None:
            cached = self._years[day] = date.fromordinal(day).year
        return cached

    def _day(self, at: int) -> tuple[int, int]:
        """Ordinal and year of the local day."""
        day = self._local.day_at_us(at).ordinal
        return day, self._year(day)

    def finish(self) -> InventoryChanges:
        """All changes, with the new totals of each changed realm."""
        changes = self._changes
        for number, realm in self._touched.items():
            changes.totals[number] = realm.packed_totals
        return changes
