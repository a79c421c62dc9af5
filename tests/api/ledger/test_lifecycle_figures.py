"""Which figures are shown, bounded or exact, and that errors follow from sizes and overlaps alone."""

from __future__ import annotations

import math
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.ledger.lifecycle_figures import NO_RATE, UNKNOWN, Figure, Rate, cohort_figures, figure, lifecycle_figures
from api.ledger.lifecycle_unions import Active, Cohort, CohortRow, Estimate, LifecycleRow, Pair, Row
from api.ledger.union_errors import covariance, variance
from schemas.ledger.accuracy import REGISTERS, SKETCH_ERROR

sizes = st.integers(0, 3_000_000)


def row(parts: int, before: int, after: int, *, only_previous: bool = False) -> Row:
    """A row of a period of 50,000 users after one of 40,000, who are 60,000 together."""
    return Row(Pair(parts, 40_000, 50_000, 60_000), before, after, only_previous)


def rate_of(cohort: Cohort) -> Rate:
    return cohort_figures([CohortRow(cohort, [cohort])]).ages[0][1]


@pytest.mark.parametrize(
    ("new", "shown", "why"),
    [
        (275, True, "33 users per register of 2 million in 16 sketches are 252"),
        (240, False, "fewer have an error above 25 %"),
        (0, False, "nothing changed a register, which does not mean that no user was new"),
    ],
)
def test_new_is_shown_from_a_number_on_that_grows_with_all_users(new: int, shown: bool, why: str) -> None:
    found = figure([row(16, 2_000_000 - new, 2_000_000).new_estimate()])
    assert (found.value == new) == shown, why
    if shown:
        assert found.standard_error == pytest.approx(0.25, abs=0.01)
    else:
        assert found.value is None
        assert found.fewer_than is not None
        assert new < found.fewer_than < 600


@pytest.mark.parametrize(
    ("estimate", "expected", "why"),
    [
        (row(0, 70_000, 71_000).new_estimate(), Figure(1000, 0.0), "exact sizes have no error"),
        (row(0, 70_000, 70_000).new_estimate(), Figure(0, 0.0), "an exact zero is one"),
        (Pair(16, 40_000, 0, 40_000).returning_estimate(), Figure(0, 0.0), "no user at all is certain"),
        (
            row(16, 40_000, 60_000, only_previous=True).reactivated_estimate(),
            Figure(0, 0.0),
            "there was no time before",
        ),
        (Cohort(0, 0, 10, 5, 15).retained_estimate(), Figure(0, 0.0), "exact"),
        (
            Cohort(4, 0, 10_000, 0, 10_000, nobody_later=True).retained_estimate(),
            Figure(0, 0.0),
            "an empty later period",
        ),
    ],
)
def test_what_is_certain(estimate: Estimate, expected: Figure, why: str) -> None:
    assert figure([estimate]) == expected, why


def test_without_users_there_is_no_rate() -> None:
    assert rate_of(Cohort(0, 0, 0, 5, 5)) == NO_RATE


def test_values_are_limited_after_the_identities() -> None:
    pair = Pair(4, 30_000, 20_000, 29_800)
    assert (pair.returning, pair.lapsed) == (20_200, 9_800)
    assert figure([pair.returning_estimate()]).value == 20_000
    odd = Row(pair, 100_000, 100_100, only_previous=False)
    assert odd.reactivated == 20_000 - 100 - 20_200
    assert figure([odd.reactivated_estimate()]).value is None


def test_a_full_rate_has_an_error() -> None:
    """A few users who left may have changed no register."""
    rate = rate_of(Cohort(4, 200_000, 201_000, 201_000, 201_000))
    assert rate.value == 1
    assert rate.standard_error
    assert 0.005 < rate.standard_error < 0.02


def lifecycle_row(parts: int, previous: int, current: int, together: int, before: int, after: int) -> LifecycleRow:
    pair = Pair(parts, previous, current, together)
    return LifecycleRow(Active(parts, current), pair, Row(pair, before, after, only_previous=False))


LARGE: Final = lifecycle_row(16, 400_000, 500_000, 600_000, 900_000, 1_000_000)
SMALL: Final = lifecycle_row(16, 40, 500_000, 500_030, 900_000, 900_010)
EXACT: Final = lifecycle_row(0, 40, 50, 60, 90, 100)


def test_figures_of_separate_ledgers_are_added_with_their_errors() -> None:
    one, two = lifecycle_figures([LARGE]), lifecycle_figures([LARGE, LARGE])
    for name, alone, both in zip(one._fields, one, two, strict=True):
        assert both.value == 2 * (alone.value or 0), name
        assert both.standard_error == pytest.approx((alone.standard_error or 0) / math.sqrt(2)), name
    exact = lifecycle_figures([EXACT, EXACT])
    assert exact.new == exact.lapsed == Figure(20, 0.0)
    assert exact.returning == Figure(60, 0.0)


def test_a_small_figure_joins_a_large_one_although_it_is_not_shown_alone() -> None:
    assert lifecycle_figures([SMALL]).new.value is None
    both, large = lifecycle_figures([LARGE, SMALL]).new, lifecycle_figures([LARGE]).new
    assert (both.value, large.value) == (100_010, 100_000)
    assert both.standard_error is not None
    assert large.standard_error is not None
    assert both.standard_error > large.standard_error * 0.99
    small = lifecycle_figures([SMALL, SMALL]).new
    assert small.value is None
    assert 20 < (small.fewer_than or 0) < 100


def test_of_users_who_may_count_twice_no_error_is_known() -> None:
    """New and lapsed users of two regions are at least once in the sum: its bound holds. Others may be in none."""
    found = lifecycle_figures([LARGE, EXACT], united=False)
    assert [each.standard_error for each in found] == [None] * 5
    assert found.new == Figure(100_010)
    small = lifecycle_figures([SMALL, SMALL], united=False)
    assert small.active == Figure(1_000_000)
    assert 20 < (small.new.fewer_than or 0) < 100
    assert 60 < (small.lapsed.fewer_than or 0) <= 81, "at most the users of the period before"
    assert small.returning == UNKNOWN
    cohort = CohortRow(Cohort(0, 0, 10, 0, 10), [Cohort(0, 0, 10, 8, 12)])
    users, (age,) = cohort_figures([cohort, cohort], united=False)
    assert (users, age) == (Figure(20), (Figure(12), Rate(0.6)))


def test_a_rate_of_separate_ledgers_is_that_of_their_sums() -> None:
    half, all_of_them = Cohort(0, 0, 100, 80, 130), Cohort(0, 0, 300, 300, 300)
    _, (age,) = cohort_figures([CohortRow(cohort, [cohort]) for cohort in (half, all_of_them)])
    assert age == (Figure(350, 0.0), Rate(350 / 400, 0.0))
    estimated = Cohort(16, 0, 500_000, 400_000, 700_000)
    _, ((_, one),) = cohort_figures([CohortRow(estimated, [estimated])])
    _, ((_, two),) = cohort_figures([CohortRow(estimated, [estimated])] * 2)
    assert one.value == two.value == 0.4
    assert two.standard_error == pytest.approx((one.standard_error or 0) / math.sqrt(2))


@pytest.mark.parametrize("parts", [4, 16])
def test_a_union_alone_has_the_known_error(parts: int) -> None:
    size = 1000.0 * REGISTERS * parts
    assert math.sqrt(covariance(parts, size, size, size)) / size == pytest.approx(
        SKETCH_ERROR / math.sqrt(parts), rel=0.01
    )


@given(sizes, sizes, sizes, st.sampled_from([4, 16]))
@example(1, 0, 0, 4)
@example(0, 3, 1, 4)
@example(3_000_000, 3_000_000, 3_000_000, 16)
def test_variances_are_those_of_something(left: int, both: int, right: int, parts: int) -> None:
    """Symmetric, never negative, and no covariance above the geometric mean.

    A covariance is a difference of numbers near `both`, each exact to one in 5,000.
    """
    one, other = left + both, right + both
    shared = covariance(parts, one, other, both)
    assert shared == pytest.approx(covariance(parts, other, one, both), rel=1e-9, abs=1e-6)
    own, others = covariance(parts, one, one, one), covariance(parts, other, other, other)
    assert 0 <= shared <= math.sqrt(own * others) * 1.000001 + both / 5_000
    union = one + right
    found = variance(parts, (1, 1, -1), (one, other, union), (both, one, other), (one, right, right))
    assert found >= 0
    assert variance(parts, (1, -1), (one, one), (one,), (0, 0)) <= 1e-6 * own + 1e-6


@given(sizes, sizes, sizes, st.integers(0, 100_000), st.sampled_from([0, 4, 16]))
def test_every_figure_is_shown_bounded_or_certain(left: int, both: int, right: int, more: int, parts: int) -> None:
    pair = Pair(parts, left + both, right + both, left + both + right)
    whole = Row(pair, pair.previous + more, pair.together + more, only_previous=False)
    estimates = [pair.returning_estimate(), pair.lapsed_estimate(), whole.new_estimate(), whole.reactivated_estimate()]
    for found in (figure([estimate]) for estimate in estimates):
        assert (found.value is None) != (found.fewer_than is None)
        assert found.exact or parts
        if found.value is not None:
            assert found.standard_error is not None
            assert 0 <= found.standard_error <= 0.25
