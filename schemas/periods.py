"""Days, weeks and months, as the products write them (`202611`) and as keys hold them (`2026-11`, `2026-11-20`)."""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo


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
        if len(text) != 7 or text[4] != "-":
            raise ValueError(f"not a month in format YYYY-MM: {text[:20]!r}")
        return cls.parse(text[:4] + text[5:])

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
        """Every month from this one to `last`, both included; empty when `last` is earlier."""
        count = (last.year - self.year) * 12 + last.month - self.month + 1
        return [self.plus(i) for i in range(count)]


class Week(NamedTuple):
    """A week of ISO 8601: from Monday to Sunday, of the year that has its Thursday."""

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
    """Days in a row, both ends included; none when `last` is earlier."""

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
        """The same number of days, so many earlier."""
        return Span(self.first - timedelta(days=days), self.last - timedelta(days=days))

    def covering(self, today: date) -> list[str]:
        """Keys of the fewest periods that make up these days: whole months where they lie inside, else days.

        A month that is not over is whole up to `today`: nothing was counted into its days to come.
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
