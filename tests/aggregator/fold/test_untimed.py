"""Records whose Kafka timestamp is not usable: events are judged by the store's clock, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.fold.deduplication import AHEAD_HOURS, HOUR_MS, Deduplicator, SeenIds
from aggregator.fold.fold import fold, fold_unexpected
from aggregator.fold.range_delta import CountingRules, RangeDelta, ShardCache
from schemas.ledger import fields
from schemas.ledger.scopes import EVERYTHING
from tests.aggregator import ledgers
from tests.aggregator.logs import LogRecord, record

CLOCK_MS = 1_795_168_800_000
"""2026-11-20T10:00:00Z."""
DAY_MS = 86_400_000
TIME = "2026-11-20T09:59:00Z"
LOGIN: dict[str, object] = {"time": TIME, "user_id": "alice"}
UNUSABLE = {
    -1: "no timestamp, as old clients write it",
    0: "the epoch",
    CLOCK_MS // 1000: "seconds",
    CLOCK_MS * 1000: "microseconds",
    CLOCK_MS * 1_000_000: "nanoseconds",
    946_684_799_999: "the last millisecond before 2000",
    CLOCK_MS + DAY_MS + 1: "more than a day ahead",
    4_102_444_800_000: "2100",
    253_402_300_799_999: "year 9999",
    2**62: "far beyond any date",
    2**63 - 1: "the largest",
    -(2**63): "the smallest",
}
USABLE = {946_684_800_000: "2000-01-01", CLOCK_MS: "now", CLOCK_MS + DAY_MS: "a day ahead"}


def folded(*records: LogRecord, now_ms: int = CLOCK_MS, known: ShardCache | None = None, **given: Any) -> RangeDelta:
    rules = CountingRules.of(ledgers.settings("redis://nowhere", **given))
    return fold("login", records, len(records), known or ShardCache(set()), rules, now_ms)


@pytest.mark.parametrize(("stamp", "why"), UNUSABLE.items())
def test_an_untimed_record_counts_by_its_events_own_time(stamp: int, why: str) -> None:
    delta = folded(record(0, LOGIN, stamp))
    assert delta.dead_letters == [], why
    assert delta.counts["2026-11-20", EVERYTHING] == {fields.LOGIN: 1}
    assert delta.progress == {fields.CONSUMED: 1, fields.COUNTED: 1, fields.UNTIMED: 1}
    assert (delta.record_times, delta.first_record_ms, delta.last_record_ms) == ({}, None, None)
    assert delta.first_event_ms == delta.last_event_ms == CLOCK_MS - 60_000


@pytest.mark.parametrize(("stamp", "why"), USABLE.items())
def test_a_usable_timestamp_is_kept(stamp: int, why: str) -> None:
    delta = folded(record(0, LOGIN | {"time": "2000-01-01T12:00:00Z"}, stamp))
    assert delta.record_times == {"2000-01-01": (stamp, stamp)}, why
    assert delta.last_record_ms == stamp
    assert fields.UNTIMED not in delta.progress


@pytest.mark.parametrize(("stamp", "why"), UNUSABLE.items())
def test_neighbours_of_an_untimed_record_count_as_if_it_were_not_there(stamp: int, why: str) -> None:
    neighbours = [record(offset, LOGIN, CLOCK_MS + offset) for offset in (0, 2)]
    delta = folded(neighbours[0], LogRecord(1, stamp, b"x"), neighbours[1])
    assert delta.record_times == {"2026-11-20": (CLOCK_MS, CLOCK_MS + 2)}, why
    assert (delta.first_record_ms, delta.last_record_ms) == (CLOCK_MS, CLOCK_MS + 2)
    assert [letter.reason for letter in delta.dead_letters] == ["not_json"]
    assert delta.progress[fields.UNTIMED] == 1


def test_an_untimed_event_far_ahead_of_the_clock_is_impossible() -> None:
    delta = folded(record(0, LOGIN | {"time": "2026-11-21T10:00:01Z"}, -1))
    assert [letter.reason for letter in delta.dead_letters] == ["impossible_time"]


def test_an_event_is_compared_with_its_own_record_whatever_else_is_in_the_range() -> None:
    delta = folded(record(0, LOGIN, CLOCK_MS), record(1, LOGIN, CLOCK_MS - 2 * DAY_MS))
    assert [(letter.record.offset, letter.reason) for letter in delta.dead_letters] == [(1, "impossible_time")]


def test_the_id_of_an_untimed_event_is_held_in_the_hour_of_its_own_time() -> None:
    delta = folded(record(0, LOGIN | {"id": "a"}, 2**62), record(1, LOGIN | {"id": "a"}, CLOCK_MS))
    assert list(delta.dedupe.new) == [(CLOCK_MS - 60_000) // HOUR_MS, CLOCK_MS // HOUR_MS]
    assert delta.progress[fields.DUPLICATES] == 1


def test_hours_far_ahead_that_format_1_left_are_dropped_and_ids_are_held_again() -> None:
    known = ShardCache(set(), seen_ids=SeenIds({4_102_444_800_000 // HOUR_MS: [b"12345678"]}))
    first = folded(record(0, LOGIN | {"id": "a"}, CLOCK_MS), known=known)
    assert first.dedupe.dropped == {4_102_444_800_000 // HOUR_MS}
    known.update(first)
    again = folded(record(1, LOGIN | {"id": "a"}, CLOCK_MS), known=known)
    assert again.progress[fields.DUPLICATES] == 1


@pytest.mark.parametrize("stamp", [CLOCK_MS, CLOCK_MS + 5, -1])
def test_a_replay_that_skips_an_unexpected_record_enters_it_as_its_first_fold_did(stamp: int) -> None:
    bad, good = LogRecord(0, stamp, b"x"), record(1, LOGIN, CLOCK_MS + 1)
    replayed = folded(bad, good, known=ShardCache(set(), unexpected={0}))
    first = [fold_unexpected(bad, 1, ValueError(), CLOCK_MS), folded(good)]
    for name in set(replayed.progress) | set(first[0].progress) | set(first[1].progress):
        assert replayed.progress.get(name, 0) == sum(delta.progress.get(name, 0) for delta in first), name
    stamps = [delta.last_record_ms for delta in first if delta.last_record_ms is not None]
    assert replayed.last_record_ms == max(stamps)
    assert replayed.dead_letters == [], "its dead letter was sent by the first fold"


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(-30, 30)), max_size=30),
    st.lists(st.integers(0, 30), max_size=5),
    st.integers(-40, 40),
)
def test_hours_beyond_the_clock_are_dropped_the_same_in_any_cutting(
    log: list[tuple[int, int]], cuts: list[int], beyond: int
) -> None:
    now_hour = CLOCK_MS // HOUR_MS
    found = []
    for where in ([], sorted(range_ for range_ in cuts if range_ < len(log))):
        seen = SeenIds({now_hour + AHEAD_HOURS + beyond: [b"12345678"]})
        repeats = []
        for start, end in zip([0, *where], [*where, len(log)], strict=True):
            sieve = Deduplicator(seen, 3600, 1000, CLOCK_MS, len(log))
            for number, hour in log[start:end]:
                ahead = min(hour, AHEAD_HOURS)
                repeats.append(sieve.is_duplicate(number.to_bytes(8, "big"), (now_hour + ahead) * HOUR_MS, ""))
            seen.update(sieve.finish())
        found.append((repeats, seen.hours))
    assert found[0] == found[1]
