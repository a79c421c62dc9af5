"""The corpus covers what it says, and the fold makes of each row what it says. Through Kafka: tests/integration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any

import pytest

from aggregator.fold.range_delta import CountingRules
from schemas.adapters.registry import ADAPTERS
from schemas.events import REASONS
from schemas.ledger import fields
from schemas.ledger.scopes import EVERYTHING
from tests.aggregator import ledgers
from tests.aggregator.logs import LogRecord
from tests.aggregator.sums import Sums, summed
from tests.corpus import rows
from tests.corpus.around import CODECS, HEADERS, KEYS, TIMESTAMPS
from tests.corpus.bindings import BINDINGS
from tests.corpus.kinds import KINDS
from tests.corpus.rows import ROWS, Row, neighbour

CLOCK_MS = 1_795_168_800_123
"""2026-11-20T10:00:00.123Z."""
ELSEWHERE = {"unexpected", "wrong_topic"}
"""Reasons that no record alone is cause of: a defect, and another topic's binding."""


def test_there_are_enough_rows_each_with_its_why() -> None:
    assert len(ROWS) == len(set(ROWS)) >= 300
    assert [row for row in ROWS if len(row.why) < 20] == []


def test_every_binding_has_every_kind_that_is_of_it() -> None:
    assert set(BINDINGS) == set(ADAPTERS)
    found = {(row.binding, row.kind) for row in ROWS}
    assert found == {(binding, kind) for kind, each in KINDS.items() for binding in each.only}


def test_every_pair_of_what_is_around_a_record_is_there() -> None:
    around = (KEYS, HEADERS, TIMESTAMPS, CODECS)
    for (one, levels), (other, more) in combinations(enumerate(around, 2), 2):
        assert {(row[one], row[other]) for row in ROWS} == set(product(levels, more))


@pytest.mark.parametrize("levels", [KEYS, HEADERS, TIMESTAMPS, CODECS], ids=["key", "headers", "timestamp", "codec"])
def test_every_binding_and_every_kind_meets_each_level(levels: Any) -> None:
    place = 2 + [KEYS, HEADERS, TIMESTAMPS, CODECS].index(levels)
    assert {(row.binding, row[place]) for row in ROWS} == set(product(BINDINGS, levels))
    assert {(row.kind, row[place]) for row in ROWS} == set(product(KINDS, levels))


def test_every_reason_of_a_dead_letter_is_expected_somewhere() -> None:
    found = {outcome.fate for row in ROWS for outcome in row.outcomes(CLOCK_MS)}
    reasons = {fields.dead(reason) for reason in REASONS if reason not in ELSEWHERE}
    assert found == reasons | {rows.COUNTED, rows.REPEATED, rows.IGNORED}


@pytest.mark.parametrize("binding", BINDINGS)
def test_the_fold_makes_of_each_row_what_it_says_and_counts_its_neighbour(binding: str) -> None:
    rules = CountingRules.of(ledgers.settings("redis://nowhere"))
    for number, row in enumerate(ROWS):
        if row.binding == binding:
            good = neighbour(binding, number)
            sent = [row.record(CLOCK_MS, f"row-{number}"), good.record(CLOCK_MS, f"neighbour-{number}")]
            log = [
                LogRecord(offset, one.timestamp_ms, one.value, one.key, tuple(one.headers))
                for offset, one in enumerate(sent)
            ]
            outcomes = [*row.outcomes(CLOCK_MS), *good.outcomes(CLOCK_MS)]
            sums = summed(binding, log, (), rules, CLOCK_MS)
            assert became(sums) == (progress(row, outcomes), rows.counts(outcomes)), row


def progress(row: Row, outcomes: Sequence[rows.Outcome]) -> Counter[str]:
    return rows.progress(outcomes) + Counter({fields.UNTIMED: 1} if row.untimed else {})


def became(sums: Sums) -> tuple[Counter[str], dict[str, Counter[str]]]:
    by_scope: Mapping[Any, Counter[str]] = sums.counts
    counts = {period: Counter(found) for (period, scope), found in by_scope.items() if scope == EVERYTHING}
    return Counter({name: number for name, number in sums.progress.items() if number}), counts
