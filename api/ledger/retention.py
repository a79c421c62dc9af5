"""The oldest day and month that retention keeps. A figure of older periods would look like a low count."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from api.ledger.status import PipelineStatus
from schemas.events import EARLIEST
from schemas.ledger.periods import Month, day_key


def oldest_kept(status: PipelineStatus, today: date) -> tuple[date, Month]:
    """The oldest day and month that retention keeps."""
    earliest = EARLIEST.date()
    days, months = status.minimum_setting("retain_days"), status.minimum_setting("retain_months")
    longest = today.toordinal() - earliest.toordinal()
    # With 0 no day is kept, not even today.
    first_day = earliest if days is None else date.fromordinal(today.toordinal() - min(days, longest) + (days == 0))
    first_month = Month.of(earliest) if months is None else Month.of(today).plus(-min(months, longest // 31))
    return first_day, first_month


def is_kept(keys: Iterable[str], status: PipelineStatus, today: date) -> bool:
    """Whether retention still keeps all these periods."""
    first_day, first_month = oldest_kept(status, today)
    return all(key >= (first_month.key if len(key) == 7 else day_key(first_day)) for key in keys)
