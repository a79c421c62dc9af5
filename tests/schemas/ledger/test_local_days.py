"""A day is the local calendar date at the instant: exactly what `astimezone` gives, in every zone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ledger.periods import LocalDays

ODD = {
    "America/St_Johns": "changed at 00:01 until 2011, so that the date went back",
    "Australia/Lord_Howe": "half an hour of summer time",
    "Antarctica/Troll": "two hours of summer time",
    "Africa/Casablanca": "summer time is suspended in Ramadan",
    "Africa/El_Aaiun": "the same, with its own history",
    "Pacific/Apia": "skipped 2011-12-30",
    "Pacific/Fakaofo": "skipped a day too",
    "Asia/Pyongyang": "changed by half an hour at 23:30",
    "America/Caracas": "changed by half an hour",
    "Asia/Kathmandu": "an offset of 5:45",
    "Pacific/Chatham": "an offset of 12:45 with summer time",
    "America/Godthab": "changes in the evening",
    "America/Scoresbysund": "changes in the evening",
    "America/Havana": "changes at midnight",
    "America/Asuncion": "changes at midnight",
    "America/Santiago": "changes at midnight",
    "America/Sao_Paulo": "changed at midnight",
    "Asia/Amman": "changed at midnight",
    "Asia/Beirut": "changes at midnight",
    "Asia/Gaza": "changed at 00:01, and changes around Ramadan",
    "Asia/Hebron": "the same",
    "Asia/Tehran": "changed at midnight",
    "Asia/Dhaka": "changed at 23:00",
    "Antarctica/Casey": "changed at odd hours",
    "America/Goose_Bay": "changed at 00:01",
    "Europe/Berlin": "an ordinary one",
    "UTC": "days of UTC",
    "Etc/UTC": "another name of it",
}
BEGIN, END = datetime(2000, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def changes(zone: ZoneInfo, step: timedelta) -> Iterator[datetime]:
    """The seconds from which the offset is another, where no two lie within a `step`."""
    before, offset = BEGIN, BEGIN.astimezone(zone).utcoffset()
    while before < END:
        after = before + step
        if (found := after.astimezone(zone).utcoffset()) != offset:
            low, high = before, after
            while high - low > timedelta(seconds=1):
                middle = low + timedelta(seconds=(high - low).total_seconds() // 2)
                low, high = (middle, high) if middle.astimezone(zone).utcoffset() == offset else (low, middle)
            yield high
        before, offset = after, found


@pytest.mark.parametrize("name", ODD)
def test_around_every_change_each_instant_has_its_date(name: str) -> None:
    zone = ZoneInfo(name)
    days = LocalDays(zone)
    for change in changes(zone, 3 * HOUR):
        assert change.second == 0, "LocalDays takes changes for whole minutes"
        midnight = change.astimezone(zone).replace(hour=0, minute=0, second=0, fold=0).astimezone(UTC)
        for centre in (change, midnight, midnight + timedelta(days=1)):
            for minutes in range(-100, 100):
                for moved in (timedelta(0), timedelta(seconds=59, microseconds=999_999)):
                    time = centre + minutes * MINUTE + moved
                    day = days.day_at(time)
                    assert day.ordinal == time.astimezone(zone).toordinal(), time
                    assert day.since <= time < day.until


@pytest.mark.parametrize("name", ODD)
def test_dates_are_right_between_the_changes_too(name: str) -> None:
    zone = ZoneInfo(name)
    days = LocalDays(zone)
    time = BEGIN
    while time < END:
        day = days.day_at(time)
        assert day.ordinal == time.astimezone(zone).toordinal(), time
        assert (day.until - MINUTE).astimezone(zone).toordinal() == day.ordinal
        assert day.since.astimezone(zone).toordinal() == day.ordinal
        time += timedelta(hours=7, minutes=47)


def test_every_zone_changes_on_whole_minutes() -> None:
    for name in sorted(available_timezones()):
        for change in changes(ZoneInfo(name), timedelta(days=20)):
            assert change.second == 0, name


def test_a_date_that_goes_back_is_kept_by_the_minute() -> None:
    days = LocalDays(ZoneInfo("America/St_Johns"))
    on = {
        time: date.fromordinal(days.day_at(datetime.fromisoformat(f"2009-11-01T{time}+00:00")).ordinal).isoformat()
        for time in ("02:29:59", "02:30:00", "02:30:59.999999", "02:31:00", "03:29:59", "03:30:00")
    }
    assert on == {
        "02:29:59": "2009-10-31",
        "02:30:00": "2009-11-01",
        "02:30:59.999999": "2009-11-01",
        "02:31:00": "2009-10-31",
        "03:29:59": "2009-10-31",
        "03:30:00": "2009-11-01",
    }


OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
NAMED = st.sampled_from(sorted(ODD))


@given(time=st.datetimes(timezones=OFFSETS), name=NAMED)
def test_no_time_makes_it_raise(time: datetime, name: str) -> None:
    day = LocalDays(ZoneInfo(name)).day_at(time)
    assert 1 <= day.ordinal <= date.max.toordinal()


@given(times=st.lists(st.datetimes(BEGIN.replace(tzinfo=None), END.replace(tzinfo=None)), max_size=40), name=NAMED)
def test_a_cache_that_is_cleared_in_between_changes_nothing(times: list[datetime], name: str) -> None:
    days = LocalDays(ZoneInfo(name), max_entries=3)
    for time in times:
        at = time.replace(tzinfo=UTC)
        assert days.day_at(at).ordinal == at.astimezone(ZoneInfo(name)).toordinal()
