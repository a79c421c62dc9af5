"""Figures about new, returning and lapsed users that may be shown, from the sizes of unions. Pure.

Shown values are limited to what is possible, and a value that is not far above its error is replaced by an upper bound.
Ledgers whose users cannot be united have rows of their own: their sums are shown by the same rule, with the errors of
independent estimates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from api.ledger.lifecycle_unions import Active, Cohort, CohortRow, Estimate, LifecycleRow
from schemas.ledger import accuracy

SHOWN_AT: Final = 4.0
"""A figure is shown if it is at least so many standard errors: at 25 % or less."""
SLACK: Final = 4.0
"""Users per register that are added to an upper bound: so many may have changed no register."""
BOUND_AT: Final = 2.0
"""Standard errors that are added to an upper bound."""


class Figure(NamedTuple):
    """A number of users. Without `value` it is below `fewer_than`, or unknown."""

    value: int | None = None
    standard_error: float | None = None
    """Relative; 0 for an exact value. None with a value if users of several ledgers may be in it more than once."""
    fewer_than: int | None = None

    @property
    def exact(self) -> bool:
        return self.standard_error == 0


class Rate(NamedTuple):
    """A share of users, 0 to 1. Without `value` it is below `less_than`, or unknown."""

    value: float | None = None
    standard_error: float | None = None
    """Relative; 0 for an exact value."""
    less_than: float | None = None

    @property
    def exact(self) -> bool:
        return self.standard_error == 0


UNKNOWN: Final = Figure()
NO_RATE: Final = Rate()


class LifecycleFigures(NamedTuple):
    active: Figure
    new: Figure
    returning: Figure
    reactivated: Figure
    lapsed: Figure


class CohortFigures(NamedTuple):
    users: Figure
    ages: Sequence[tuple[Figure, Rate]]
    """Retained users and their rate, from age 1."""


def lifecycle_figures(rows: Sequence[LifecycleRow], *, united: bool = True) -> LifecycleFigures:
    """The figures of one period, summed over the rows of separate ledgers.

    Without `united` a user of two ledgers may be in two rows: then errors are unknown. Bounds of `new` and `lapsed`
    hold all the same, because such a user is in the sum at least once; others are left out.
    """
    found = LifecycleFigures(
        active=active_figure([ledger_row.active for ledger_row in rows]),
        new=figure([ledger_row.row.new_estimate() for ledger_row in rows]),
        returning=figure([ledger_row.pair.returning_estimate() for ledger_row in rows]),
        reactivated=figure([ledger_row.row.reactivated_estimate() for ledger_row in rows]),
        lapsed=figure([ledger_row.pair.lapsed_estimate() for ledger_row in rows]),
    )
    if united:
        return found
    return LifecycleFigures(
        active=_without_error(found.active),
        new=_without_error(found.new),
        returning=_without_bound(found.returning),
        reactivated=_without_bound(found.reactivated),
        lapsed=_without_error(found.lapsed),
    )


def cohort_figures(rows: Sequence[CohortRow], *, united: bool = True) -> CohortFigures:
    """The figures of one cohort, summed like those of `lifecycle_figures`."""
    alone = [row.users for row in rows]
    if any(cohort.base for cohort in alone):
        users = figure([cohort.users_estimate() for cohort in alone])
    else:
        users = active_figure([Active(cohort.parts, cohort.first) for cohort in alone])
    ages = [
        (figure([cell.retained_estimate() for cell in cells]), rate(cells, users))
        for cells in zip(*(row.ages for row in rows), strict=True)
    ]
    if united:
        return CohortFigures(users, ages)
    return CohortFigures(
        _without_error(users),
        [
            (_without_bound(retained), Rate(share.value) if share.value is not None else NO_RATE)
            for retained, share in ages
        ],
    )


def rate(cohorts: Sequence[Cohort], users: Figure) -> Rate:
    """The share of `users`, the cohorts together, who are retained in them."""
    estimates = [cohort.retained_estimate() for cohort in cohorts]
    retained = figure(estimates)
    if not users.value:
        return NO_RATE
    if retained.value is None:
        return Rate(less_than=None if retained.fewer_than is None else min(1.0, retained.fewer_than / users.value))
    value = min(1.0, retained.value / users.value)
    if retained.exact and users.exact:
        return Rate(value, 0.0)
    squares = sum(cohort.rate_error(value, each.value) ** 2 for cohort, each in zip(cohorts, estimates, strict=True))
    error = max(math.sqrt(squares), sum(cohort.unseen for cohort in cohorts)) / users.value
    return Rate(value, error / value if value else 0.0)


def figure(estimates: Sequence[Estimate]) -> Figure:
    """The sum of separate estimates, if it may be shown, or else its upper bound."""
    value = sum(estimate.value for estimate in estimates)
    if not any(estimate.per_register for estimate in estimates):
        return Figure(value, 0.0)
    error = math.sqrt(sum(estimate.error**2 for estimate in estimates))
    if value >= max(SHOWN_AT * error, sum(estimate.shown_at * estimate.per_register for estimate in estimates), 1):
        return Figure(value, error / value)
    bound = math.ceil(value + BOUND_AT * error + SLACK * sum(estimate.per_register for estimate in estimates))
    return Figure(fewer_than=min(bound, sum(estimate.most for estimate in estimates)) + 1)


def active_figure(found: Sequence[Active]) -> Figure:
    """The sum of the users of separate unions."""
    value = sum(union.users for union in found)
    squares = sum((union.users * accuracy.SKETCH_ERROR) ** 2 / union.parts for union in found if union.parts)
    return Figure(value, math.sqrt(squares) / value if value else 0.0)


def _without_error(found: Figure) -> Figure:
    return found._replace(standard_error=None)


def _without_bound(found: Figure) -> Figure:
    return UNKNOWN if found.value is None else _without_error(found)
