"""The sample is the same every time, and what is expected of it agrees with our own decoder."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest

from deploy.demo import site
from deploy.demo.otp_sample import OTP_EVENTS, otp_tokens
from deploy.demo.sample_events import SampleEvents
from schemas.events import BadRecordError, Login, OtpTokenState, RecordTime, TokenIssued, decode
from schemas.ledger.periods import Month

BOUND = {site.LOGINS: "login", site.TOKENS: "token", site.ACCOUNTS: "account"}
UNTIL = datetime(2026, 11, 26, 14, 30, tzinfo=UTC)
MONTHS = Month(2025, 9).until(Month(2026, 11))


def test_the_same_count_gives_the_same_events() -> None:
    assert list(SampleEvents(3000, UNTIL)) == list(SampleEvents(3000, UNTIL))


def test_the_count_is_exact() -> None:
    for count in (1000, 1234, 5000):
        sample = SampleEvents(count, UNTIL)
        assert len(list(sample)) == sample.expected.records == count


def test_expected_is_what_the_decoder_finds() -> None:
    sample = SampleEvents(5000, UNTIL)
    users: dict[str, set[str]] = {}
    tokens: Counter[tuple[str, str, str]] = Counter()
    dead: Counter[str] = Counter()
    for record in sample:
        try:
            event = decode(BOUND[record.topic], record.value, RecordTime(record.time_ms))
        except BadRecordError as bad:
            dead[bad.reason] += 1
            continue
        month = Month.of(event.time).compact
        if isinstance(event, TokenIssued):
            tokens.update((month, event.grant_type, token) for token in event.tokens)
        refreshed = isinstance(event, TokenIssued) and event.grant_type == "refresh_token"
        signed_in = isinstance(event, Login) and event.success
        if isinstance(event, (Login, TokenIssued)) and event.user_id and (refreshed or signed_in):
            users.setdefault(month, set()).add(event.user_id)
    assert users == sample.expected.users
    assert tokens == sample.expected.tokens
    assert dead == sample.expected.dead
    assert sample.expected.months == [month.compact for month in MONTHS]


def test_states_of_tokens_are_the_same_every_time_and_show_every_event() -> None:
    found = list(otp_tokens(UNTIL, 1000))
    assert found == list(otp_tokens(UNTIL, 1000))
    states = [decode("otp", record.value, RecordTime(record.time_ms)) for record in found]
    assert [state.time for state in states] == sorted(state.time for state in states)
    assert {Month.of(state.time) for state in states} == set(MONTHS)
    assert {state.event for state in states if isinstance(state, OtpTokenState)} == set(OTP_EVENTS)


def test_users_join_return_pause_and_leave() -> None:
    """Each whole month after the third has users of every kind, and fewer of a month's users are left after a year."""
    sample = SampleEvents(60_000, UNTIL)
    assert sum(1 for _ in sample) == 60_000
    months = [sample.expected.users[month] for month in sample.expected.months[:-1]]
    for number, users in enumerate(months[3:], start=3):
        before, earlier = months[number - 1], set[str]().union(*months[: number - 1])
        kinds = {
            "new": users - before - earlier,
            "returning": users & before,
            "reactivated": (users & earlier) - before,
            "lapsed": before - users,
        }
        shares = {name: len(found) / len(users) for name, found in kinds.items()}
        assert all(share > 0.04 for share in shares.values()), (number, shares)
        assert 0.5 < shares["returning"] < 0.9, (number, shares)
    after_a_month, after_a_year = (len(months[0] & months[later]) / len(months[0]) for later in (1, 12))
    assert after_a_year < after_a_month - 0.15


INSTANTS = [
    pytest.param(datetime(2027, 1, 1, 0, 0, 1, tzinfo=UTC), id="a new year has just begun"),
    pytest.param(datetime(2028, 2, 29, 12, tzinfo=UTC), id="leap day"),
    pytest.param(datetime(2026, 12, 1, tzinfo=UTC), id="first instant of a Tuesday and a month"),
    pytest.param(datetime(2026, 11, 25, 0, 10, tzinfo=UTC), id="the day after a Tuesday"),
]


@pytest.mark.parametrize("until", INSTANTS)
def test_the_sample_ends_at_any_instant(until: datetime) -> None:
    sample = SampleEvents(4000, until)
    times = [record.time_ms for record in sample]
    assert times == sorted(times)
    assert len(times) == 4000
    assert times[-1] <= until.timestamp() * 1000 + 1
    assert max(times) > (until - timedelta(days=2)).timestamp() * 1000
    span = until.date() - date.fromisoformat(min(sample.expected.days))
    assert span > timedelta(days=365 + 31), "the last month has a counterpart a year before"


@pytest.mark.parametrize("until", INSTANTS)
def test_the_attack_is_on_the_last_whole_tuesday(until: datetime) -> None:
    begin, end = site.attack_hours(until)
    assert begin.weekday() == 1
    assert begin.date() < until.date() <= begin.date() + timedelta(days=7)
    failed = Counter[date]()
    for record in SampleEvents(20_000, until):
        if record.value and b'"success":false' in record.value:
            failed[datetime.fromtimestamp(record.time_ms / 1000, UTC).date()] += 1
    (worst, number), (_, second) = failed.most_common(2)
    assert worst == begin.date() == end.date()
    assert number > 4 * second


def test_a_live_event_is_an_ordinary_one() -> None:
    sample = SampleEvents(1000, UNTIL)
    list(sample)
    live = sample.live(UNTIL + timedelta(seconds=2))
    assert decode(BOUND[live.topic], live.value, RecordTime(live.time_ms)).time == UNTIL + timedelta(seconds=2)
    assert sample.expected.records == 1001
