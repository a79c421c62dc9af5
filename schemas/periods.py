"""Months and days, as the products write them (`202611`) and as keys hold them (`2026-11`, `2026-11-20`)."""

from __future__ import annotations

import calendar
from datetime import date, datetime
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

    @property
    def compact(self) -> str:
        """`202611`, the form that the products use."""
        return f"{self.year:04}{self.month:02}"

    @property
    def key(self) -> str:
        """`2026-11`, the form that keys use."""
        return f"{self.year:04}-{self.month:02}"

    def plus(self, months: int) -> Month:
        index = self.year * 12 + self.month - 1 + months
        return Month(index // 12, index % 12 + 1)

    def until(self, last: Month) -> list[Month]:
        """Every month from this one to `last`, both included; empty when `last` is earlier."""
        count = (last.year - self.year) * 12 + last.month - self.month + 1
        return [self.plus(i) for i in range(count)]


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
