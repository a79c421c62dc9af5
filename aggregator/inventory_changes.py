"""Realms while a range is folded: tokens move in and out, every move leaves a row, every day keeps its maxima."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Final

from aggregator.stock import Changes, Stock, realm_bytes
from aggregator.tally import Rules
from schemas.events import OtpTokenCount, OtpTokenState
from schemas.inventory import (
    HEADER_BYTES,
    KEPT,
    MAX_EVENT_NAMES,
    NO_REALM,
    ROW_BYTES,
    ROWS_PER_CHUNK,
    Figures,
    Token,
    canonical,
    micros,
    moment,
    pack_day,
    pack_given,
    pack_place,
    pack_row,
    statuses,
)

_QUARTER_US: Final = 900_000_000
_LATEST_US: Final = micros(datetime(9999, 12, 30, tzinfo=UTC))
"""The last day that every zone can name."""
_NONE: Final[tuple[int, ...]] = ()
_NEW: Final = Figures(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, (0,) * len(KEPT))


class _Realm:
    """A realm while a range is folded."""

    __slots__ = (
        "counts",
        "day",
        "day_changes",
        "day_first",
        "first_us",
        "last_us",
        "maxima",
        "number",
        "rows",
        "slot",
        "year",
    )

    def __init__(self, number: int, held: Figures, year: int) -> None:
        self.number = number
        self.counts = list(held[:5])
        self.rows, self.first_us, self.last_us, self.day, self.slot, self.day_first, self.maxima = held[5:]
        self.year = year
        self.day_changes = False
        """Whether its day is not stored as it is now."""

    @property
    def figures(self) -> Figures:
        total, active, assigned, both, users = self.counts
        day = self.day, self.slot, self.day_first
        return Figures(total, active, assigned, both, users, self.rows, self.first_us, self.last_us, *day, self.maxima)


class Changing:
    """Takes in events in log order, over a stock that stays as it is."""

    def __init__(self, stock: Stock, rules: Rules) -> None:
        self.work = 0
        """Events and rows taken in."""
        self._stock = stock
        self._zone = rules.zone
        self._registered = len(stock.realms)
        self._changes = Changes()
        self._open: dict[int, _Realm] = {}
        self._quarters: dict[int, tuple[int, int]] = {}
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
        if old is not None:
            for number in old.realms:
                self._count(number, old, -1)
        for number in new.realms:
            self._count(number, new, 1)
        concerned = new.realms
        if old is not None and old.realms != concerned:
            concerned = tuple(sorted({*old.realms, *concerned}))
        for number in concerned:
            self._row(self._realm(number), at, name)
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
            held = self._stock.figures.get(number, _NEW)
            year = self._years.get(held.day)
            if year is None:
                year = self._years[held.day] = date.fromordinal(held.day).year if held.day else 0
            realm = self._open[number] = _Realm(number, held, year)
        return realm

    def _count(self, number: int, token: Token, more: int) -> None:
        counts = self._realm(number).counts
        counts[0] += more
        if token.active:
            counts[1] += more
        if token.assigned:
            counts[2] += more
            if token.active:
                counts[3] += more
            if token.user:
                holder = realm_bytes(number) + token.user
                changed = self._changes.holders
                had = changed.get(holder)
                if had is None:
                    # Whoever is not known in a realm that was there before was forgotten to be asked for.
                    had = self._stock.holders[holder] if number < self._registered else 0
                changed[holder] = had + more
                if not had or not had + more:
                    counts[4] += more

    def _row(self, realm: _Realm, at: int, name: int) -> None:
        place = at if not realm.rows or at > realm.last_us else realm.last_us
        chunk, nth = divmod(realm.rows, ROWS_PER_CHUNK)
        key = realm.number, chunk
        written = self._changes.rows.get(key)
        if written is None:
            start = HEADER_BYTES + nth * ROW_BYTES if nth else 0
            written = self._changes.rows[key] = start, bytearray() if nth else bytearray(pack_place(place))
            if not nth:
                self._changes.places.setdefault(realm.number, {})[chunk] = place
        counts = realm.counts
        written[1].extend(pack_row(at, name, *counts))
        values = statuses(*counts)
        day, year = self._day(place)
        if day == realm.day:
            if values != realm.maxima:
                maxima = tuple(map(max, values, realm.maxima))
                realm.day_changes |= maxima != realm.maxima
                realm.maxima = maxima
        else:
            if realm.day_changes:
                self._keep_day(realm)
            realm.day_changes = True
            realm.slot = realm.slot + 1 if realm.year == year else 0
            realm.day, realm.year, realm.day_first, realm.maxima = day, year, realm.rows, values
        if not realm.rows:
            realm.first_us = place
        realm.last_us = place
        realm.rows += 1

    def _keep_day(self, realm: _Realm) -> None:
        packed = pack_day(realm.day, realm.day_first, *realm.maxima)
        self._changes.days.setdefault((realm.number, realm.year), {})[realm.slot] = packed

    def _day(self, at: int) -> tuple[int, int]:
        """Ordinal and year of the local day; zones change on quarter hours of UTC only."""
        quarter = at // _QUARTER_US
        found = self._quarters.get(quarter)
        if found is None:
            local = moment(min(at, _LATEST_US)).astimezone(self._zone)
            found = self._quarters[quarter] = local.toordinal(), local.year
        return found

    def done(self) -> Changes:
        changes = self._changes
        for number, realm in self._open.items():
            changes.figures[number] = realm.figures
            if realm.day_changes:
                self._keep_day(realm)
        return changes
