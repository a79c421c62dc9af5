"""The sample is the same every time, and what is expected of it agrees with our own decoder."""

from __future__ import annotations

from collections import Counter

from deploy.demo.sample_events import ACCOUNTS, LOGINS, MONTHS, OTP_EVENTS, TOKENS, SampleEvents, otp_tokens
from schemas.events import BadRecordError, Login, OtpTokenState, RecordTime, TokenIssued, decode
from schemas.ledger.periods import Month

BOUND = {LOGINS: "login", TOKENS: "token", ACCOUNTS: "account"}


def test_the_same_count_gives_the_same_events() -> None:
    assert list(SampleEvents(3000)) == list(SampleEvents(3000))


def test_the_count_is_exact() -> None:
    for count in (1000, 1234, 5000):
        sample = SampleEvents(count)
        assert len(list(sample)) == sample.expected.records == count


def test_expected_is_what_the_decoder_finds() -> None:
    sample = SampleEvents(5000)
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
    found = list(otp_tokens(1000))
    assert found == list(otp_tokens(1000))
    states = [decode("otp", record.value, RecordTime(record.time_ms)) for record in found]
    assert [state.time for state in states] == sorted(state.time for state in states)
    assert {Month.of(state.time) for state in states} == set(MONTHS)
    assert {state.event for state in states if isinstance(state, OtpTokenState)} == set(OTP_EVENTS)
