"""Days, weeks and months, as the products write them (`202611`) and as keys contain them (`2026-11`, `2026-11-20`)."""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from schemas.ledger.inventory import from_micros, micros


class Month(NamedTuple):
    """A calendar month in the deployment's time zone."""

    year: int
    month: int

    @classmethod
    def parse(cls, text: str) -> Month:
        """Read `YYYYMM` (Janssen, Gluu). Raises ValueError for anything else, `202113` included."""
        if len(text) != 6 or not text.isascii() or not text.isdigit():
            raise ValueError(f"not a month in format yyyyMM: {text[:20]!r}")
        year, month = int(text[:4]), int(text[4:])
        if not (1 <= month <= 12 and year >= 1):
            raise ValueError(f"no such month: {text}")
        return cls(year, month)

    @classmethod
    def of(cls, day: date) -> Month:
        return cls(day.year, day.month)

    @classmethod
    def of_key(cls, text: str) -> Month:
        """Read `2026-11`. Raises ValueError for anything else."""
        try:
            if len(text) == 7 and text[4] == "-":
                return cls.parse(text[:4] + text[5:])
        except ValueError:
            pass
        raise ValueError(f"not a month in format YYYY-MM: {text[:20]!r}")

    @property
    def compact(self) -> str:
        """`202611`, the form that the products use."""
        return f"{self.year:04}{self.month:02}"

    @property
    def key(self) -> str:
        """`2026-11`, the form that keys use."""
        return f"{self.year:04}-{self.month:02}"

    @property
    def span(self) -> Span:
        last = calendar.monthrange(self.year, self.month)[1]
        return Span(date(self.year, self.month, 1), date(self.year, self.month, last))

    def plus(self, months: int) -> Month:
        index = self.year * 12 + self.month - 1 + months
        return Month(index // 12, index % 12 + 1)

    def until(self, last: Month) -> list[Month]:
        """Every month from this one to `last`, both included; empty if `last` is earlier."""
        count = (last.year - self.year) * 12 + last.month - self.month + 1
        return [self.plus(i) for i in range(count)]


class Week(NamedTuple):
    """A week of ISO 8601: from Monday to Sunday, in the year of its Thursday."""

    year: int
    week: int

    @classmethod
    def of(cls, day: date) -> Week:
        year, week, _ = day.isocalendar()
        return cls(year, week)

    @property
    def text(self) -> str:
        """`2026-W47`."""
        return f"{self.year:04}-W{self.week:02}"

    @property
    def span(self) -> Span:
        return Span(date.fromisocalendar(self.year, self.week, 1), date.fromisocalendar(self.year, self.week, 7))


class Span(NamedTuple):
    """Consecutive days, both ends included; empty if `last` is earlier."""

    first: date
    last: date

    @classmethod
    def ending(cls, last: date, days: int) -> Span:
        """The `days` days up to `last`."""
        return cls(last - timedelta(days=days - 1), last)

    @property
    def length(self) -> int:
        return max(0, (self.last - self.first).days + 1)

    @property
    def days(self) -> Iterator[date]:
        return (self.first + timedelta(days=number) for number in range(self.length))

    def back(self, days: int) -> Span:
        """The span moved back by `days`."""
        return Span(self.first - timedelta(days=days), self.last - timedelta(days=days))

    def covering(self, today: date) -> list[str]:
        """Keys of the fewest periods that cover these days: whole months where possible, else days.

        A current month is whole up to `today`, because its future days have no counts.
        """
        keys = []
        day = self.first
        while day <= self.last:
            month = Month.of(day).span
            if day == month.first and min(month.last, max(today, day)) <= self.last:
                keys.append(Month.of(day).key)
                day = month.last + timedelta(days=1)
            else:
                keys.append(day_key(day))
                day += timedelta(days=1)
        return keys


class LocalDay(NamedTuple):
    """A local calendar date, and an interval in which every instant has it."""

    ordinal: int
    """`date.toordinal`"""
    since: datetime
    """In UTC, inclusive. The interval is a part of the day; a day can have several."""
    until: datetime
    """In UTC, exclusive."""


_SECOND_US: Final = 1_000_000
_MINUTE_US: Final = 60 * _SECOND_US
_QUARTER_US: Final = 15 * _MINUTE_US
_DAY_US: Final = 86_400 * _SECOND_US
_FIRST_US: Final = micros(datetime(1, 1, 3, tzinfo=UTC))
_LAST_US: Final = micros(datetime(9999, 12, 30, tzinfo=UTC)) - 1


class LocalDays:
    """The local date at an instant, as `astimezone` returns it, with a cache.

    Since 2000 zones have changed on whole minutes, mostly on quarter hours. If a zone is set back just after midnight,
    the date goes back too: such a quarter hour is cached per minute.
    """

    def __init__(self, zone: ZoneInfo, max_entries: int = 50_000) -> None:
        """The cache is cleared at `max_entries`, about 300 bytes each; days in use re-enter quickly."""
        self._zone = zone
        self._max_entries = max_entries
        self._step = _DAY_US if zone.key == "UTC" else _QUARTER_US
        self._steps: dict[int, LocalDay | None] = {}
        """By number of the step since 1970; None for a step with several dates."""
        self._minutes: dict[int, LocalDay] = {}

    def day_at(self, time: datetime) -> LocalDay:
        """The day of a time of any offset. Never raises: the first and last days of the calendar count as one."""
        return self.day_at_us(micros(time))

    def day_at_us(self, at_us: int) -> LocalDay:
        """The day of an instant in microseconds since 1970."""
        at_us = min(max(at_us, _FIRST_US), _LAST_US)
        step = at_us // self._step
        if step not in self._steps:
            self._steps[step] = self._of_step(step)
        found = self._steps[step]
        return self._of_minute(at_us // _MINUTE_US) if found is None else found

    def _of_step(self, step: int) -> LocalDay | None:
        if len(self._steps) + len(self._minutes) >= self._max_entries:
            self._steps.clear()
            self._minutes.clear()
        since, until = step * self._step, (step + 1) * self._step
        first, last = self._local(since), self._local(until - 1)
        ordinal = first.toordinal()
        # No zone has changed twice within a quarter of an hour.
        if last.toordinal() == ordinal and (
            first.utcoffset() == last.utcoffset()
            or all(self._local(at).toordinal() == ordinal for at in range(since, until, _MINUTE_US))
        ):
            return self._day(ordinal, since, until)
        return None

    def _of_minute(self, minute: int) -> LocalDay:
        found = self._minutes.get(minute)
        if found is None:
            since = minute * _MINUTE_US
            found = self._minutes[minute] = self._day(self._local(since).toordinal(), since, since + _MINUTE_US)
        return found

    def _local(self, at_us: int) -> datetime:
        return from_micros(at_us).astimezone(self._zone)

    @staticmethod
    def _day(ordinal: int, since: int, until: int) -> LocalDay:
        return LocalDay(ordinal, from_micros(since), from_micros(until))


def day_key(day: date) -> str:
    """`2026-11-20`."""
    return day.isoformat()


def period_end(period: str, zone: ZoneInfo) -> int:
    """The first Unix second after a period (`2026-11` or `2026-11-20`) in `zone`, where its retention starts."""
    if len(period) == 7:
        year, month = int(period[:4]), int(period[5:])
        last = date(year, month, calendar.monthrange(year, month)[1])
    else:
        last = date.fromisoformat(period)
    # Midnight of the next day by the wall clock: correct on days of 23 and 25 hours too.
    after = date.fromordinal(last.toordinal() + 1)
    return int(datetime(after.year, after.month, after.day, tzinfo=zone).timestamp())
