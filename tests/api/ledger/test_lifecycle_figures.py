"""Which figures are shown, bounded or exact, and that errors follow from sizes and overlaps alone."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.ledger.lifecycle_figures import NO_RATE, Cohort, Figure, Pair, Row
from api.ledger.union_errors import covariance, variance
from schemas.ledger.accuracy import REGISTERS, SKETCH_ERROR

sizes = st.integers(0, 3_000_000)


def row(parts: int, before: int, after: int, *, only_previous: bool = False) -> Row:
    """A row of a period of 50,000 users after one of 40,000, who are 60,000 together."""
    return Row(Pair(parts, 40_000, 50_000, 60_000), before, after, only_previous)


@pytest.mark.parametrize(
    ("new", "shown", "why"),
    [
        (275, True, "33 users per register of 2 million in 16 sketches are 252"),
        (240, False, "fewer have an error above 25 %"),
        (0, False, "nothing changed a register, which does not mean that no user was new"),
    ],
)
def test_new_is_shown_from_a_number_on_that_grows_with_all_users(new: int, shown: bool, why: str) -> None:
    figure = row(16, 2_000_000 - new, 2_000_000).new_figure()
    assert (figure.value == new) == shown, why
    if shown:
        assert figure.standard_error == pytest.approx(0.25, abs=0.01)
    else:
        assert figure.value is None
        assert figure.fewer_than is not None
        assert new < figure.fewer_than < 600


@pytest.mark.parametrize(
    ("figure", "expected", "why"),
    [
        (row(0, 70_000, 71_000).new_figure(), Figure(1000, 0.0), "exact sizes have no error"),
        (row(0, 70_000, 70_000).new_figure(), Figure(0, 0.0), "an exact zero is one"),
        (Pair(16, 40_000, 0, 40_000).returning_figure(), Figure(0, 0.0), "no user at all is certain"),
        (row(16, 40_000, 60_000, only_previous=True).reactivated_figure(), Figure(0, 0.0), "there was no time before"),
        (Cohort(0, 0, 10, 5, 15).retained_figure(), Figure(0, 0.0), "exact"),
        (Cohort(4, 0, 10_000, 0, 10_000, nobody_later=True).retained_figure(), Figure(0, 0.0), "an empty later period"),
        (Cohort(0, 0, 0, 5, 5).rate(), NO_RATE, "no user, no rate"),
    ],
)
def test_what_is_certain(figure: object, expected: object, why: str) -> None:
    assert figure == expected, why


def test_values_are_limited_after_the_identities() -> None:
    pair = Pair(4, 30_000, 20_000, 29_800)
    assert (pair.returning, pair.lapsed) == (20_200, 9_800)
    assert pair.returning_figure().value == 20_000
    odd = Row(pair, 100_000, 100_100, only_previous=False)
    assert odd.reactivated == 20_000 - 100 - 20_200
    assert odd.reactivated_figure().value is None


def test_a_full_rate_has_an_error() -> None:
    """A few users who left may have changed no register."""
    rate = Cohort(4, 200_000, 201_000, 201_000, 201_000).rate()
    assert rate.value == 1
    assert rate.standard_error
    assert 0.005 < rate.standard_error < 0.02


@pytest.mark.parametrize("parts", [4, 16])
def test_a_union_alone_has_the_known_error(parts: int) -> None:
    size = 1000.0 * REGISTERS * parts
    assert math.sqrt(covariance(parts, size, size, size)) / size == pytest.approx(
        SKETCH_ERROR / math.sqrt(parts), rel=0.01
    )


@given(sizes, sizes, sizes, st.sampled_from([4, 16]))
@example(1, 0, 0, 4)
@example(3_000_000, 3_000_000, 3_000_000, 16)
def test_variances_are_those_of_something(left: int, both: int, right: int, parts: int) -> None:
    """Symmetric, never negative, and no covariance above the geometric mean."""
    one, other = left + both, right + both
    shared = covariance(parts, one, other, both)
    assert shared == pytest.approx(covariance(parts, other, one, both), rel=1e-9, abs=1e-6)
    own, others = covariance(parts, one, one, one), covariance(parts, other, other, other)
    assert 0 <= shared <= math.sqrt(own * others) * 1.000001 + 1e-6
    union = one + right
    found = variance(parts, (1, 1, -1), (one, other, union), (both, one, other), (one, right, right))
    assert found >= 0
    assert variance(parts, (1, -1), (one, one), (one,), (0, 0)) <= 1e-6 * own + 1e-6


@given(sizes, sizes, sizes, st.integers(0, 100_000), st.sampled_from([0, 4, 16]))
def test_every_figure_is_shown_bounded_or_certain(left: int, both: int, right: int, more: int, parts: int) -> None:
    pair = Pair(parts, left + both, right + both, left + both + right)
    whole = Row(pair, pair.previous + more, pair.together + more, only_previous=False)
    figures = [pair.returning_figure(), pair.lapsed_figure(), whole.new_figure(), whole.reactivated_figure()]
    for figure in figures:
        assert (figure.value is None) != (figure.fewer_than is None)
        assert figure.exact or parts
        if figure.value is not None:
            assert figure.standard_error is not None
            assert 0 <= figure.standard_error <= 0.25
