"""Realms while a range is folded: tokens move in and out, every move leaves a row, every day keeps its maxima."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Final

from aggregator.fold.range_delta import Rules
from aggregator.inventory.state import Changes, Stock, realm_bytes
from schemas.events import OtpTokenCount, OtpTokenState
from schemas.ledger.inventory import (
    HEADER_BYTES,
    KEPT,
    MAX_EVENT_NAMES,
    NO_REALM,
    ROW_BYTES,
    ROWS_PER_CHUNK,
    Token,
    canonical,
    micros,
    pack_day,
    pack_figures,
    pack_given,
    pack_place,
    pack_row,
    statuses,
    unpack_figures,
)
from schemas.ledger.periods import LocalDays

_NONE: Final[tuple[int, ...]] = ()
_BEFORE_MAXIMA: Final = 11
_NEW: Final = (0,) * (_BEFORE_MAXIMA + len(KEPT))


@dataclass(slots=True)
class _Realm:
    """A realm while a range is folded."""

    number: int
    maxima: tuple[int, ...]
    total: int
    active: int
    assigned: int
    both: int
    users: int
    rows: int
    first_us: int
    last_us: int
    day: int
    slot: int
    day_first: int
    written: bytearray | None = field(default=None, init=False)
    """What is to be written to the last chunk."""

    @classmethod
    def held(cls, number: int, figures: bytes | None) -> _Realm:
        """As the store holds it, or new."""
        values = _NEW if figures is None else unpack_figures(figures)
        return cls(number, values[_BEFORE_MAXIMA:], *values[:_BEFORE_MAXIMA])

    @property
    def figures(self) -> bytes:
        return pack_figures(
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


class Changing:
    """Takes in events in log order, over a stock that stays as it is."""

    def __init__(self, stock: Stock, rules: Rules) -> None:
        self.work = 0
        """Events and rows taken in."""
        self._stock = stock
        self._local = LocalDays(rules.zone)
        self._registered = len(stock.realms)
        self._changes = Changes()
        self._open: dict[int, _Realm] = {}
        self._years: dict[int, int] = {}

    def state(self, event: OtpTokenState, user: bytes) -> int:
        """Take over a state. 0 when it is the serial's last one over again, -1 when that is later; else 1."""
        at = micros(event.time)
        if event.deleted:
            new = Token(at, False, False, True, b"", _NONE)
        else:
            realms = event.realms or (NO_REALM,)
            numbers = (self._number(realms[0]),) if len(realms) == 1 else tuple(sorted(set(map(self._number, realms))))
            new = Token(at, event.active, event.assigned, False, user, numbers)
        changes = self._changes
        old = changes.tokens.get(event.serial) or self._stock.tokens[event.serial]
        if old is not None and at <= old.time_us:
            if at < old.time_us:
                return -1
            if new == old:
                return 0
        changes.tokens[event.serial] = new
        name = self._name(event.event)
        concerned = new.realms
        if old is not None and old.realms != concerned:
            concerned = tuple(sorted({*old.realms, *concerned}))
        for number in concerned:
            realm = self._realm(number)
            if old is not None and number in old.realms:
                self._count(realm, old, -1)
            if number in new.realms:
                self._count(realm, new, 1)
            self._row(realm, at, name)
        self.work += 1 + len(concerned)
        return 1

    def give(self, event: OtpTokenCount, sequence: int) -> None:
        """Take in a row that was counted elsewhere."""
        changes, at, name = self._changes, micros(event.time), self._name(event.event)
        number, status = self._number(event.realm), KEPT.index(canonical(event.status) or "")
        bits = changes.reported.get(number, self._stock.reported.get(number, 0))
        if not bits >> status & 1:
            changes.reported[number] = bits | 1 << status
        changes.given.setdefault((number, status), {})[pack_given(sequence, name, event.count)] = at
        day, _ = self._day(at)
        maxima = changes.given_days.setdefault((number, status), {})
        maxima[day] = max(event.count, maxima.get(day, 0))
        self.work += 1

    def _number(self, realm: str) -> int:
        number = self._stock.realms.get(realm)
        if number is None:
            number = self._changes.realms.setdefault(realm, self._registered + len(self._changes.realms))
        return number

    def _name(self, event: str) -> int:
        number = self._stock.names.get(event)
        if number is None:
            new = self._changes.names
            number = new.get(event)
            if number is None:
                number = 1 + len(self._stock.names) + len(new)
                if number > MAX_EVENT_NAMES:
                    return 0
                new[event] = number
        return number

    def _realm(self, number: int) -> _Realm:
        realm = self._open.get(number)
        if realm is None:
            realm = self._open[number] = _Realm.held(number, self._stock.figures.get(number))
        return realm

    def _count(self, realm: _Realm, token: Token, more: int) -> None:
        realm.total += more
        if token.active:
            realm.active += more
        if token.assigned:
            realm.assigned += more
            if token.active:
                realm.both += more
            if token.user:
                holder = realm_bytes(realm.number) + token.user
                changed = self._changes.holders
                had = changed.get(holder)
                if had is None:
                    # Whoever is not known in a realm that was there before was forgotten to be asked for.
                    had = self._stock.holders[holder] if realm.number < self._registered else 0
                changed[holder] = had + more
                if not had or not had + more:
                    realm.users += more

    def _row(self, realm: _Realm, at: int, name: int) -> None:
        total, active, assigned, both, users = realm.total, realm.active, realm.assigned, realm.both, realm.users
        row = realm.rows
        place = at if not row or at > realm.last_us else realm.last_us
        written = realm.written
        if written is None or not row % ROWS_PER_CHUNK:
            written = realm.written = self._chunk(realm, place)
        written += pack_row(at, name, total, active, assigned, both, users)
        values = statuses(total, active, assigned, both, users)
        day, year = self._day(place)
        # Days of rows ascend, as readers search them: a local date that goes back stays on the later day.
        if day <= realm.day:
            if values != realm.maxima:
                realm.maxima = tuple(map(max, values, realm.maxima))
        else:
            self._begin_day(realm, day, year)
            realm.maxima = values
        if not row:
            realm.first_us = place
        realm.last_us = place
        realm.rows = row + 1

    def _chunk(self, realm: _Realm, place: int) -> bytearray:
        """What is to be written to the chunk of the next row."""
        chunk, nth = divmod(realm.rows, ROWS_PER_CHUNK)
        if nth:
            start, written = HEADER_BYTES + nth * ROW_BYTES, bytearray()
        else:
            start, written = 0, bytearray(pack_place(place))
            self._changes.places.setdefault(realm.number, {})[chunk] = place
        self._changes.rows[realm.number, chunk] = start, written
        return written

    def _begin_day(self, realm: _Realm, day: int, year: int) -> None:
        if realm.rows:
            last = self._year(realm.day)
            # Only now that it is over: until then the realm's figures hold it, which every range stores anyway.
            packed = pack_day(realm.day, realm.day_first, *realm.maxima)
            self._changes.days.setdefault((realm.number, last), {})[realm.slot] = packed
            realm.slot = realm.slot + 1 if last == year else 0
        realm.day, realm.day_first = day, realm.rows

    def _year(self, day: int) -> int:
        found = self._years.get(day)
        if found is None:
            found = self._years[day] = date.fromordinal(day).year
        return found

    def _day(self, at: int) -> tuple[int, int]:
        """Ordinal and year of the local day."""
        day = self._local.day_at_us(at).ordinal
        return day, self._year(day)

    def done(self) -> Changes:
        changes = self._changes
        for number, realm in self._open.items():
            changes.figures[number] = realm.figures
        return changes
